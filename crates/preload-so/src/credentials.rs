//! The calls by which a process's user and group change: they are remembered rather than asked of the
//! kernel at each System V call, and have to be asked again then. Groups and capabilities are not
//! remembered.
//!
//! Also those that another preload only pretends to serve (`libfakeroot`): then the kernel, when it
//! is asked, says what it said before. Who changes them by number is heard in [`crate::by_number`].
//! What is not heard: a system call in assembly.

use crate::{errno, next};
use preload::credentials::changed;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use sysv::Errno;

macro_rules! export {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            /// # Safety
            /// As for libc's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
                let next = next::$name.address();
                if next.is_null() {
                    return errno::fail(Errno::NOSYS);
                }
                type Next = unsafe extern "C" fn($($type),*) -> c_int;
                // SAFETY: the function of that name has that type.
                let next = unsafe { transmute::<*mut c_void, Next>(next) };
                // SAFETY: the caller's promise.
                let answer = unsafe { next($($argument),*) };
                changed();
                answer
            }
        )*
    };
}

export! {
    setuid(uid: libc::uid_t);
    seteuid(uid: libc::uid_t);
    setreuid(real: libc::uid_t, effective: libc::uid_t);
    setresuid(real: libc::uid_t, effective: libc::uid_t, saved: libc::uid_t);
    setgid(gid: libc::gid_t);
    setegid(gid: libc::gid_t);
    setregid(real: libc::gid_t, effective: libc::gid_t);
    setresgid(real: libc::gid_t, effective: libc::gid_t, saved: libc::gid_t);
    // Both can lead into another user name space, where this user has another number.
    unshare(flags: c_int);
    setns(descriptor: c_int, kind: c_int);
}
