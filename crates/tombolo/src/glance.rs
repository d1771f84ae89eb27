//! A glance: some looks in a row at what comes next, before everything else is looked at.
//!
//! An answer from another processor comes after a tenth of a microsecond or two. Who goes to wait as
//! one waits for anything has by then looked at the peers, the end of the channel and the clock, or
//! is in the middle of a long pause, and notices it late.
//!
//! The first looks are made without a pause between them, for what is there already or almost. More of
//! them would slow down the other hyper-thread of the core, where the answer may just be written
//! (measured, 64 B there and back: 192 of them 60 ns a message, 64 of them 52).

use shmem::sync::spin_loop;

/// How many looks there are, about two microseconds, and how many of them without a pause.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 128 };
const EAGER: u32 = 64;

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

/// How many of the first looks have a pause before them where an answer is waited for that is certainly
/// not there yet.
const PATIENT: u32 = 3;

/// [`glance`] of who has just asked or answered: the other side works now, and is left the core for a
/// moment if it is the other hyper-thread (measured, a call of 64 B: 66 to 79 ns one way without these
/// pauses, 67 to 71 with them; far apart as before).
#[inline(always)]
pub(crate) fn glance_at_answer(mut look: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|at| {
        if !(PATIENT..PATIENT + EAGER).contains(&at) {
            spin_loop();
        }
        look()
    })
}
