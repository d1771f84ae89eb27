//! A glance: some looks in a row at what comes next, before everything else is looked at.
//!
//! An answer from another processor comes after a tenth of a microsecond or two. Who goes to wait as
//! one waits for anything has by then looked at the peers, the end of the channel and the clock, or
//! is in the middle of a long pause, and notices it late.
//!
//! The first looks but one are made without a pause between them, for what is there almost: a pause takes as
//! long as a line takes to come. More of them would slow down the other side, which may just be writing the
//! answer (measured, 64 B there and back: 192 of them 60 ns a message, 64 of them 52). And before the first of
//! them there is a pause, because whoever has just looked in vain looks too soon (measured, as medians of a
//! dozen runs: a queue 52 ns instead of 56, a service 65 instead of 69, and both the same from run to run).

use shmem::sync::spin_loop;

/// How many looks there are, about two microseconds.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 128 };
/// Which of them have no pause before them.
const EAGER: std::ops::Range<u32> = 1..65;

/// Whether `look` says so at one of its looks.
#[inline(always)]
pub(crate) fn glance(mut look: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|at| {
        if !EAGER.contains(&at) {
            spin_loop();
        }
        look()
    })
}
