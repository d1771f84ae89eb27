//! `pthread_cancel`: a thread that sleeps in `msgsnd` or `msgrcv` is told of it.
//!
//! libc's own calls sleep in the kernel, out of which a signal of libc's takes them. Ours look every
//! slice (100 ms) whether there was a request.

use crate::next;
use std::ffi::{c_int, c_void};
use std::mem::transmute;

unsafe extern "C-unwind" {
    /// Unwinds this thread's stack if it is cancelled, and lets it be.
    fn pthread_testcancel();
}

/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn pthread_cancel(thread: libc::pthread_t) -> c_int {
    type Next = unsafe extern "C-unwind" fn(libc::pthread_t) -> c_int;
    let next = next::pthread_cancel.address();
    if next.is_null() {
        return libc::ENOSYS;
    }
    // SAFETY: the function of that name has that type.
    let next = unsafe { transmute::<*mut c_void, Next>(next) };
    // SAFETY: the caller's promise.
    let answer = unsafe { next(thread) };
    // After it: who looks then finds it.
    userspace::cancel::requested();
    answer
}

/// Ends this thread if it is cancelled. Nothing that would have to be dropped may be alive here.
#[inline(always)]
pub fn here() {
    // SAFETY: frames without destructors may be unwound.
    unsafe { pthread_testcancel() };
}
