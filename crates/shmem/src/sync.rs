//! The façade that lets loom in: every atomic of this workspace comes from here.
//!
//! Built with `--cfg loom` the same algorithms run on loom's atomics, which try every
//! interleaving and every value that the memory model allows.

#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// A pause of a few nanoseconds, in which the other thread of a core has most of it: shorter than
/// [`spin_loop`], where the processor has a shorter one.
#[cfg(not(loom))]
#[inline(always)]
pub fn short_pause() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every such processor has SSE2, and a fence touches no memory.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    spin_loop();
}
