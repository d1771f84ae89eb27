//! The names of the calls, with glibc's binary interface.
//!
//! `semctl` has its fourth argument fixed: on x86-64 a variadic caller passes it in the same
//! register, and where the command takes none it is not looked at.
//!
//! # Safety
//! Of all: what [`sysv::Calls`] asks of the caller, which is what C's manual pages ask.

use crate::cancel;
use crate::errno::{self, fail, or_minus_one};
use crate::home::serve;
use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use sysv::abi::*;
use sysv::{Key, syscall};

/// Exports calls that answer an `int` or a length, and 0 where `Calls` answers nothing.
macro_rules! export {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty, by $convert:expr;)*) => {
        $(
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $type),*) -> $answer {
                or_minus_one(|| serve(|calls| {
                    // SAFETY: the caller's promise.
                    let answer = unsafe { calls.$name($($argument),*) };
                    answer.map($convert)
                }))
            }
        )*
    };
}

fn itself(answer: i32) -> c_int {
    answer
}

fn zero((): ()) -> c_int {
    0
}

export! {
    fn shmdt(address: *const c_void) -> c_int, by zero;
    fn shmctl(id: c_int, command: c_int, buf: *mut shmid_ds) -> c_int, by itself;
    fn msgctl(id: c_int, command: c_int, buf: *mut msqid_ds) -> c_int, by itself;
    fn semop(id: c_int, operations: *const sembuf, count: usize) -> c_int, by zero;
    fn semtimedop(
        id: c_int, operations: *const sembuf, count: usize, timeout: *const timespec
    ) -> c_int, by zero;
    fn semctl(id: c_int, number: c_int, command: c_int, argument: usize) -> c_int, by itself;
}

/// Makes a call that is a cancellation point, as often as it is told to look again: answers what it
/// answered.
#[inline(always)]
fn cancellable<T: From<i8> + PartialEq>(call: impl Fn() -> T) -> T {
    let before = errno::get();
    loop {
        userspace::cancel::heed();
        cancel::here();
        let answer = call();
        if answer != T::from(-1) {
            errno::set(before);
            return answer;
        }
        match errno::get() {
            libc::ERESTART => {}
            // By the signal with which libc cancels, maybe.
            libc::EINTR => {
                cancel::here();
                errno::set(libc::EINTR);
                return answer;
            }
            _ => return answer,
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn msgsnd(
    id: c_int,
    message: *const c_void,
    size: usize,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    cancellable(|| unsafe { send(id, message, size, flags) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn msgrcv(
    id: c_int,
    message: *mut c_void,
    size: usize,
    message_type: i64,
    flags: c_int,
) -> isize {
    // SAFETY: the caller's promise.
    cancellable(|| unsafe { receive(id, message, size, message_type, flags) })
}

/// `msgsnd` by number: no cancellation point.
///
/// # Safety
/// As for all.
pub unsafe fn msgsnd_by_number(
    id: c_int,
    message: *const c_void,
    size: usize,
    flags: c_int,
) -> c_int {
    userspace::cancel::ignore();
    // SAFETY: the caller's promise.
    unsafe { send(id, message, size, flags) }
}

/// `msgrcv` by number: no cancellation point.
///
/// # Safety
/// As for all.
pub unsafe fn msgrcv_by_number(
    id: c_int,
    message: *mut c_void,
    size: usize,
    message_type: i64,
    flags: c_int,
) -> isize {
    userspace::cancel::ignore();
    // SAFETY: the caller's promise.
    unsafe { receive(id, message, size, message_type, flags) }
}

/// # Safety
/// As for all.
unsafe fn send(id: c_int, message: *const c_void, size: usize, flags: c_int) -> c_int {
    or_minus_one(|| {
        serve(|calls| {
            // SAFETY: the caller's promise.
            unsafe { calls.msgsnd(id, message, size, flags) }.map(zero)
        })
    })
}

/// # Safety
/// As for all.
unsafe fn receive(
    id: c_int,
    message: *mut c_void,
    size: usize,
    message_type: i64,
    flags: c_int,
) -> isize {
    or_minus_one(|| {
        serve(|calls| {
            // SAFETY: the caller's promise.
            let length = unsafe { calls.msgrcv(id, message, size, message_type, flags) };
            length.map(usize::cast_signed)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn shmget(key: key_t, size: usize, flags: c_int) -> c_int {
    or_minus_one(|| serve(|calls| calls.shmget(key, size, flags)))
}

#[unsafe(no_mangle)]
pub extern "C" fn msgget(key: key_t, flags: c_int) -> c_int {
    or_minus_one(|| serve(|calls| calls.msgget(key, flags)))
}

#[unsafe(no_mangle)]
pub extern "C" fn semget(key: key_t, count: c_int, flags: c_int) -> c_int {
    or_minus_one(|| serve(|calls| calls.semget(key, count, flags)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmat(id: c_int, address: *const c_void, flags: c_int) -> *mut c_void {
    let answer: isize = or_minus_one(|| {
        serve(|calls| {
            // SAFETY: the caller's promise.
            let base = unsafe { calls.shmat(id, address, flags) }?;
            Ok(base.expose_provenance().cast_signed())
        })
    });
    std::ptr::with_exposed_provenance_mut(answer.cast_unsigned())
}

/// Not served for its own sake: libc's is as good, but another preload's `stat` must not come
/// between, and a bad address is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftok(path: *const c_char, project: c_int) -> key_t {
    const NEWFSTATAT: usize = 262;
    let mut status = MaybeUninit::<libc::stat>::uninit();
    let (path, to) = (path as usize, status.as_mut_ptr() as usize);
    let folder = libc::AT_FDCWD as usize;
    // SAFETY: `status` is valid for writing; the kernel checks the path.
    if let Err(error) = unsafe { syscall(NEWFSTATAT, [folder, path, to, 0, 0, 0]) } {
        return fail(error);
    }
    // SAFETY: filled by the call.
    let status = unsafe { status.assume_init() };
    Key::of_file(status.st_ino, status.st_dev, project as u8).raw()
}
