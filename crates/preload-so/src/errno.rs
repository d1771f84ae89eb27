//! Answers in C's manner: −1 and `errno`; on success `errno` is as it was.

use std::ffi::c_int;
use sysv::{Errno, Result};

/// `errno` as it is now.
pub fn get() -> c_int {
    // SAFETY: takes nothing.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: this thread's own `errno`.
    unsafe { *at }
}

/// Changes `errno`.
pub fn set(value: c_int) {
    // SAFETY: takes nothing.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: this thread's own `errno`.
    unsafe { *at = value }
}

/// What `call` answers, or −1 with `errno` set.
pub fn or_minus_one<T: From<i8>>(call: impl FnOnce() -> Result<T>) -> T {
    // What allocates memory on the way may change it without failing.
    let before = get();
    match call() {
        Ok(answer) => {
            set(before);
            answer
        }
        Err(error) => fail(error),
    }
}

/// −1, with `errno` set.
pub fn fail<T: From<i8>>(error: Errno) -> T {
    set(error.raw_os_error());
    T::from(-1)
}
