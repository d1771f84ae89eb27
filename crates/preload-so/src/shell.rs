//! `system` and `popen`: their shell gets the program's environment as it is, by a call inside libc.
//!
//! Where that environment has lost what is ours, the command is given it as its first words:
//!
//! ```text
//!   system("make check")  ──►  export TOMBOLO_SPACE='…' LD_PRELOAD='…';make check
//! ```
//!
//! Everything that the shell starts is then served; the shell itself makes no System V call. An
//! environment that has lost nothing, the usual case, and a program that was not started in a name
//! space pass through untouched.
//!
//! **Limits.** The shell is not looked at: if it is statically linked, what it starts is served all
//! the same.

use crate::environment::own;
use crate::errno;
use crate::home::kept;
use crate::next;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr;
use sysv::Errno;

type System = unsafe extern "C-unwind" fn(*const c_char) -> c_int;
type Popen = unsafe extern "C-unwind" fn(*const c_char, *const c_char) -> *mut libc::FILE;

/// The command that is run in place of one, to be given back to [`free`]; null if it stays as it is.
///
/// # Safety
/// Null, or a string.
unsafe fn completed(command: *const c_char) -> *mut c_char {
    if command.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the program's environment.
    let missing = kept().and_then(|kept| unsafe { kept.missing(own()) });
    let Some(missing) = missing else {
        return ptr::null_mut();
    };
    let mut text = b"export".to_vec();
    for entry in missing {
        let at = entry.iter().position(|byte| *byte == b'=');
        let (name, value) = entry.split_at(at.map_or(entry.len(), |at| at + 1));
        text.push(b' ');
        text.extend(name);
        text.push(b'\'');
        for byte in value {
            match byte {
                b'\'' => text.extend(br"'\''"),
                byte => text.push(*byte),
            }
        }
        text.push(b'\'');
    }
    text.push(b';');
    // SAFETY: the caller's promise.
    text.extend(unsafe { CStr::from_ptr(command) }.to_bytes());
    // No part has a NUL in it.
    CString::new(text).unwrap_or_default().into_raw()
}

/// Who is cancelled in the call unwinds our frame, in which nothing must be left to be dropped: so
/// the text is a bare pointer, and is lost then.
fn free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: from `completed`, and used no more.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// # Safety
/// Of this and the next: as for libc's.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn system(command: *const c_char) -> c_int {
    let next = next::system.address();
    if next.is_null() {
        return errno::fail(Errno::NOSYS);
    }
    // SAFETY: the function of that name has that type.
    let next = unsafe { transmute::<*mut c_void, System>(next) };
    // SAFETY: the caller's promise.
    let ours = unsafe { completed(command) };
    let command = if ours.is_null() { command } else { ours };
    // SAFETY: the caller's promise, or a string of ours that outlives the call.
    let answer = unsafe { next(command) };
    free(ours);
    answer
}

/// # Safety
/// See `system`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE {
    let next = next::popen.address();
    if next.is_null() {
        errno::set(libc::ENOSYS);
        return ptr::null_mut();
    }
    // SAFETY: the function of that name has that type.
    let next = unsafe { transmute::<*mut c_void, Popen>(next) };
    // SAFETY: the caller's promise.
    let ours = unsafe { completed(command) };
    let command = if ours.is_null() { command } else { ours };
    // SAFETY: the caller's promise, or a string of ours that outlives the call.
    let stream = unsafe { next(command, mode) };
    free(ours);
    stream
}
