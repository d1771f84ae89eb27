//! `dlopen` without `RTLD_DEEPBIND`.
//!
//! A module opened with it is bound to libc's names before ours: PHP opens its extensions so, and
//! they would speak to the kernel while the program speaks to the name space. So the flag is
//! cleared. `dlmopen` is left alone: a name space of the loader's has a libc of its own, and
//! nothing of ours.

use crate::next;
use std::arch::naked_asm;
use std::ffi::{c_char, c_int, c_void};

/// As libc's. It goes on by a jump, and returns to our caller: `dlopen` looks at who has called it
/// for the folders in which to search (RUNPATH).
///
/// # Safety
/// As for libc's.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        "push rdi",
        "push rsi",
        // For the alignment of the stack.
        "push rax",
        "call {next}",
        "pop rcx",
        "pop rsi",
        "pop rdi",
        "and esi, {flags}",
        "jmp rax",
        next = sym next,
        flags = const !libc::RTLD_DEEPBIND,
    )
}

extern "C" fn next() -> *mut c_void {
    let next = next::dlopen.address();
    if next.is_null() {
        none as *mut c_void
    } else {
        next
    }
}

/// Where there is no `dlopen`, nothing can be opened.
extern "C" fn none(_: *const c_char, _: c_int) -> *mut c_void {
    std::ptr::null_mut()
}
