//! The calls by which signal handlers are installed: as long as there is none, nothing has to be
//! done to keep one from running in the middle of a System V call, which saves two system calls in
//! each.
//!
//! libc's own handlers, for cancelling threads and for `setuid` in all of them, are not seen; they
//! make no such calls. Nor is who installs one by a system call in assembly.

use crate::{errno, next};
use preload::signals::handled;
use std::ffi::{c_int, c_void};
use std::mem::transmute;
use sysv::Errno;

/// Neither the default (0) nor ignored (1).
fn is_handler(handler: usize) -> bool {
    handler > 1
}

/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    type Next = unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
    let next = next::sigaction.address();
    if next.is_null() {
        return errno::fail(Errno::NOSYS);
    }
    // SAFETY: the caller's promise: libc reads it, too, and not the kernel.
    if let Some(new) = unsafe { new.as_ref() }
        && is_handler(new.sa_sigaction)
    {
        handled(signal);
    }
    // SAFETY: the function of that name has that type.
    let next = unsafe { transmute::<*mut c_void, Next>(next) };
    // SAFETY: the caller's promise.
    unsafe { next(signal, new, old) }
}

/// Exports the calls that take a handler's address and answer that of the one before.
macro_rules! export {
    ($($name:ident)*) => {
        $(
            /// # Safety
            /// As for libc's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name(signal: c_int, handler: usize) -> usize {
                type Next = unsafe extern "C" fn(c_int, usize) -> usize;
                let next = next::$name.address();
                if next.is_null() {
                    errno::set(libc::ENOSYS);
                    return libc::SIG_ERR;
                }
                if is_handler(handler) {
                    handled(signal);
                }
                // SAFETY: the function of that name has that type.
                let next = unsafe { transmute::<*mut c_void, Next>(next) };
                // SAFETY: the caller's promise.
                unsafe { next(signal, handler) }
            }
        )*
    };
}

export! { signal bsd_signal ssignal sysv_signal __sysv_signal sigset }
