//! `dlsym`: who asks libc itself for one of the calls gets ours.
//!
//! `ctypes.CDLL("libc.so.6").shmget` in Python, and others that open libc by its name, look a name up
//! in that library alone, past every preload. Only an answer that is libc's own function of one of
//! these names is replaced; all else is as it was. `RTLD_NEXT` is passed on by a jump, because it
//! refers to who calls.

use crate::{calls, next};
use std::arch::naked_asm;
use std::ffi::{CStr, c_char, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The `dlsym` behind ours. It can't be found by its own name.
static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The real `dlsym`.
extern "C" fn real() -> *mut c_void {
    // Relaxed: an address of code, which has been there since before it was found.
    let found = REAL.load(Ordering::Relaxed);
    if found.is_null() { find() } else { found }
}

#[cold]
fn find() -> *mut c_void {
    // Every glibc for x86-64 has it in this version, some also in a later one.
    let (name, version) = (c"dlsym", c"GLIBC_2.2.5");
    // SAFETY: two strings; the caller's address is in this library.
    let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, name.as_ptr(), version.as_ptr()) };
    REAL.store(found, Ordering::Relaxed);
    found
}

/// What is behind a name of ours; null if there is nothing.
pub fn behind(name: &CStr) -> *mut c_void {
    let real = real();
    if real.is_null() {
        return real;
    }
    // SAFETY: it was found under that name.
    let real = unsafe { transmute::<*mut c_void, Dlsym>(real) };
    // SAFETY: a string; the caller's address is in this library, which is what "next" refers to.
    unsafe { real(libc::RTLD_NEXT, name.as_ptr()) }
}

/// As libc's.
///
/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    naked_asm!(
        "push rdi",
        "push rsi",
        // For the alignment of the stack.
        "push rax",
        "call {ours}",
        "pop rcx",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "jnz 2f",
        "push rdi",
        "push rsi",
        "push rax",
        "call {real}",
        "pop rcx",
        "pop rsi",
        "pop rdi",
        "jmp rax",
        "2:",
        "ret",
        ours = sym ours,
        real = sym real,
    )
}

/// What takes the place of the answer, if something does.
///
/// # Safety
/// As for `dlsym`.
unsafe extern "C" fn ours(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    if handle == libc::RTLD_NEXT || name.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the caller's promise: libc would read it.
    let name = unsafe { CStr::from_ptr(name) };
    let Some((ours, next)) = served(name.to_bytes()) else {
        return ptr::null_mut();
    };
    // SAFETY: `real` is dlsym.
    let real = unsafe { transmute::<*mut c_void, Dlsym>(real()) };
    // SAFETY: the caller's promise.
    let found = unsafe { real(handle, name.as_ptr()) };
    if !found.is_null() && found == next.address() {
        ours
    } else {
        found
    }
}

/// A name of ours: our function, and what is behind it.
fn served(name: &[u8]) -> Option<(*mut c_void, &'static next::Next)> {
    Some(match name {
        b"ftok" => (calls::ftok as *mut c_void, &next::ftok),
        b"shmget" => (calls::shmget as *mut c_void, &next::shmget),
        b"shmat" => (calls::shmat as *mut c_void, &next::shmat),
        b"shmdt" => (calls::shmdt as *mut c_void, &next::shmdt),
        b"shmctl" => (calls::shmctl as *mut c_void, &next::shmctl),
        b"msgget" => (calls::msgget as *mut c_void, &next::msgget),
        b"msgsnd" => (calls::msgsnd as *mut c_void, &next::msgsnd),
        b"msgrcv" => (calls::msgrcv as *mut c_void, &next::msgrcv),
        b"msgctl" => (calls::msgctl as *mut c_void, &next::msgctl),
        b"semget" => (calls::semget as *mut c_void, &next::semget),
        b"semop" => (calls::semop as *mut c_void, &next::semop),
        b"semtimedop" => (calls::semtimedop as *mut c_void, &next::semtimedop),
        b"semctl" => (calls::semctl as *mut c_void, &next::semctl),
        _ => return None,
    })
}
