//! Memory of this process between pages that nobody may touch.
//!
//! ```text
//! ┌────────────┬──────────┬───────────────────┬────────────┐
//! │ forbidden  │ unused   │ the bytes         │ forbidden  │
//! └────────────┴──────────┴───────────────────┴────────────┘
//!                         ▲ base              ▲ one byte too many is a fault
//! ```
//!
//! What runs on it and does not fault has touched nothing behind its memory, and nothing before it
//! but the rest of a page. It is for fuzzing, where that is the question.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::ffi::c_void;
use std::ptr;

/// Such memory.
///
/// # Invariants
/// `start` is the beginning of a private anonymous mapping of `whole` bytes that this owns.
pub(crate) struct Guarded {
    start: *mut c_void,
    whole: usize,
}

impl Guarded {
    /// Zeroed memory of `length` bytes, and where it is: aligned to eight bytes, and up to seven
    /// bytes before the forbidden page.
    ///
    /// # Panics
    /// If the kernel has none.
    pub(crate) fn new(length: usize) -> (Self, *mut u8) {
        let page = rustix::param::page_size();
        let inner = length.next_multiple_of(page);
        let whole = inner + 2 * page;
        // SAFETY: a new mapping wherever the kernel likes; it replaces none.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                whole,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        };
        let start = start.expect("memory for a test");
        // INVARIANT: just mapped.
        let this = Self { start, whole };
        // SAFETY: inside the mapping, behind its first page.
        let open = unsafe { start.byte_add(page) };
        // SAFETY: the pages between the first and the last of this mapping, which nobody uses yet.
        let opened = unsafe { mprotect(open, inner, MprotectFlags::READ | MprotectFlags::WRITE) };
        opened.expect("memory for a test");
        // SAFETY: inside the mapping: `inner` is no less than `length` rounded up to eight.
        let base = unsafe { open.byte_add(inner - length.next_multiple_of(8)) };
        (this, base.cast())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: a mapping of its own by the type's invariant; who uses its bytes keeps it.
        let gone = unsafe { munmap(self.start, self.whole) };
        debug_assert!(gone.is_ok(), "{gone:?}");
    }
}
