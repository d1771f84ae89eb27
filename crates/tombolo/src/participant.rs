//! A participant: a place in a channel's tables that a process takes when it comes.
//!
//! ```text
//! 0     8       12       16
//! ┌─────┬───────┬────────┐
//! │ WHO │ PULSE │ ASLEEP │
//! └─────┴───────┴────────┘
//! ```
//!
//! # Protocol
//! A place is taken by a compare-exchange of WHO from 0, or from a dead process's identity, and
//! given back by a store of 0. What taking and leaving order beyond that is the channel's to say.
//! PULSE is stored behind WHO; who reads it before takes another's pulse for it, which `shmem`
//! recognises, and then looks a few times more often until it reads again.
//!
//! # Crash
//! A dead process's identity stays in WHO for the next who takes the place.
//!
//! # Hostile bytes
//! WHO that is no identity counts as dead. PULSE only says where to listen; presence decides.

use shmem::sync::Ordering;
use shmem::{Region, View, pulse};

/// What stands where in a participant's place.
pub mod layout {
    shmem::layout! {
        "participant", 16;
        WHO: 8 @ 0, "the participant, by compare-exchange from 0 or from a dead one; 0 by itself when it leaves", "identity of its process; 0 if the place is free; a dead one's if it died instead of leaving";
        PULSE: 4 @ 8, "the participant", "where the pulse of its process is, 0 if it has none";
        ASLEEP: 4 @ 12, "the participant", "1 while it sleeps, for who looks from outside; means nothing if it is dead";
    }
}

/// Bytes of a place in a layout.
pub const PARTICIPANT_SIZE: usize = layout::LAYOUT.size;

/// A place at an offset of a region.
#[derive(Clone, Copy, Debug)]
pub struct Place(pub usize);

impl Place {
    /// Tries to take the place for the process with the identity `me`. `wanted` says whether what
    /// stands in it now makes it one to take.
    pub fn take(self, region: &Region, me: u64, wanted: impl FnOnce(u64) -> bool) -> bool {
        let who = region.u64(self.0 + layout::WHO);
        // Relaxed: only the compare-exchange decides.
        let from = who.load(Ordering::Relaxed);
        // SeqCst: what the place's last owner stored, and whatever order the channel wants.
        // Relaxed on failure: nothing is read then.
        let taken = wanted(from)
            && who
                .compare_exchange(from, me, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok();
        if taken {
            let pulse = pulse::mine();
            // Relaxed, both: hints.
            region
                .u32(self.0 + layout::PULSE)
                .store(pulse, Ordering::Relaxed);
            self.set_asleep(region, false);
        }
        taken
    }

    /// Gives the place back.
    pub fn leave(self, region: &Region) {
        // SeqCst: as in `take`.
        region.u64(self.0 + layout::WHO).store(0, Ordering::SeqCst);
    }

    /// Whose place it is; 0 if nobody's.
    #[inline]
    pub fn who(self, view: &View) -> u64 {
        // SeqCst: as in `take`; an ordinary load on x86.
        view.load_u64(self.0 + layout::WHO, Ordering::SeqCst)
    }

    /// Where the pulse of whose place it is can be felt.
    pub fn pulse(self, view: &View) -> u32 {
        // Relaxed: a hint.
        view.load_u32(self.0 + layout::PULSE, Ordering::Relaxed)
    }

    /// Says whether the owner sleeps.
    pub fn set_asleep(self, region: &Region, asleep: bool) {
        // Relaxed: for who looks from outside.
        region
            .u32(self.0 + layout::ASLEEP)
            .store(asleep.into(), Ordering::Relaxed);
    }

    /// Whether the owner said last that it sleeps.
    pub fn is_asleep(self, view: &View) -> bool {
        // Relaxed: as in `set_asleep`.
        view.load_u32(self.0 + layout::ASLEEP, Ordering::Relaxed) != 0
    }
}
