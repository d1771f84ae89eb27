//! A glance: some looks at what comes next, before everything else is looked at.
//!
//! An answer from another processor comes after a tenth of a microsecond or two. Who goes to wait as
//! one waits for anything has by then looked at the peers, the end of the channel and the clock, or
//! is in the middle of a long pause, and notices it late.
//!
//! The first look is for what is there already; before each other one is a pause. More looks keep the answer back:
//! two hyper-threads of one core share what it computes with, and between cores far apart the line with the answer
//! comes later. Measured in turns with 64 looks in a row after the first pause, a queue there and back, a message: far
//! apart (a line that goes to and fro takes 190 ns each way) 157 to 169 ns at 64 B instead of 185 to 196. On two
//! hyper-threads a pause takes 24 ns, and what comes just after a look is noticed at the next: medians of runs lie
//! at 46, 52 and 59 ns by that, in both ways of looking (8 B 52 instead of 55 over all runs, 64 B 57 instead of 56,
//! a service 70 instead of 76 or of 66). With 256 looks in a row it is 68 in each run.

#[cfg(not(loom))]
use shmem::sync::short_pause;
use shmem::sync::spin_loop;
#[cfg(loom)]
use shmem::sync::spin_loop as short_pause;

/// How many looks there are, about two microseconds.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 80 };

/// Whether `look` says so at one of its looks.
#[inline(always)]
pub(crate) fn glance(mut look: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|at| {
        if at > 0 {
            spin_loop();
        }
        look()
    })
}

/// When something came that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// At once, or as fast as an answer comes from a processor that is near.
    Soon,
    /// Later.
    Late,
    /// Not yet.
    Never,
}

/// How many looks there are with short pauses. So many are compiled as so many branches: with 48, which were a
/// loop, 64 B one way took 56 ns as with pauses only, with 32 it takes 49 to 54.
const QUICK: u32 = if cfg!(loom) { 1 } else { 32 };

/// How many pauses an answer takes from a processor that is near, or fewer.
const FEW: u32 = 6;

/// [`glance`] for what is expected `soon`, because what came before came soon: at first with pauses so short that
/// it is noticed when it comes. Between processors far apart builds that always looked so took 230 to 250 ns one
/// way instead of 190.
#[inline(always)]
pub(crate) fn glance_for(soon: bool, mut look: impl FnMut() -> bool) -> Came {
    if look() {
        return Came::Soon;
    }
    if soon {
        for _ in 0..QUICK {
            short_pause();
            if look() {
                return Came::Soon;
            }
        }
    }
    for pauses in 0..LOOKS {
        spin_loop();
        if look() {
            let is_soon = !soon && pauses < FEW;
            return if is_soon { Came::Soon } else { Came::Late };
        }
    }
    Came::Never
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// When something comes that is there at a look, counted from 0.
    fn came(soon: bool, at: u32) -> Came {
        let mut looks = 0;
        glance_for(soon, || {
            looks += 1;
            looks > at
        })
    }

    #[test]
    fn what_comes_is_soon_or_late_or_never() {
        assert_eq!(came(false, 0), Came::Soon);
        assert_eq!(came(false, FEW), Came::Soon);
        assert_eq!(came(false, FEW + 1), Came::Late);
        assert_eq!(came(false, LOOKS), Came::Late);
        assert_eq!(came(false, LOOKS + 1), Came::Never);
        assert_eq!(came(true, QUICK), Came::Soon);
        // Not expected soon the next time.
        assert_eq!(came(true, QUICK + 1), Came::Late);
        assert_eq!(came(true, QUICK + LOOKS), Came::Late);
        assert_eq!(came(true, QUICK + LOOKS + 1), Came::Never);
    }
}
