//! A glance: some looks in a row at what comes next, before everything else is looked at.
//!
//! An answer from another processor comes after a tenth of a microsecond or two. Who goes to wait as
//! one waits for anything has by then looked at the peers, the end of the channel and the clock, or
//! is in the middle of a pause of the processor's, and notices it late.

use shmem::sync::spin_loop;

/// How many looks there are, a microsecond or two, and how many of them without a pause.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 256 };
const EAGER: u32 = 192;

/// Whether `look` says so at one of its looks.
#[inline(always)]
pub(crate) fn glance(mut look: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|at| {
        if at >= EAGER {
            spin_loop();
        }
        look()
    })
}
