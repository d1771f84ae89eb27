//! Keeping a `value` for one writer: who puts again and again with nobody else needs no lock.
//!
//! The writers' lock takes two locked instructions, several times what a short message costs
//! otherwise. So a writer that has put some messages in a row *keeps* the value: it takes a keeper's
//! seat, and KEEP names that. From then on it goes in by storing INSIDE in its seat and looking at
//! KEEP, and out by publishing its message.
//!
//! # Protocol
//! KEEP is stored by the holder of the lock only, and each of its words is one of its kind (see
//! `queue_hold`). A keeper goes in by storing the number of the message that it is going to put as INSIDE
//! in its seat, and looking at KEEP. It is out when that number is the latest: publishing it is all that it
//! does. If KEEP has changed it turns back instead, and stores 0.
//!
//! A writer that is no keeper takes the lock, and then *settles*: if KEEP names a seat, it
//! stores KEEP without the right to go in, forces a fence on the keeper (see `barrier`), and waits until
//! it is out, or dead. Then it stores that nobody keeps. So whoever has settled is alone, as
//! long as it holds the lock; and it may make itself the keeper before it gives the lock back.
//!
//! - `[VALUE_KEEP]` Keeper and settler each store and then load the other's word: the keeper INSIDE and
//!   then KEEP, the settler KEEP and then INSIDE, with a full fence between, which on the keeper's side is
//!   `barrier::light`. So at least one sees the other: if the settler does not see the keeper inside,
//!   a keeper that goes in later sees that it keeps nothing, and turns back. Weaker, two put at once.
//! - `[VALUE_OUT]` Who has settled sees what the keeper has put: released by its store of the latest number,
//!   or of 0 to INSIDE, or to WHO when it leaves, acquired by the settler's loads. Weaker, a number is given
//!   twice.
//!
//! The settler looks at INSIDE first and then at the latest number. Both only grow while nobody else puts,
//! so a number that is the latest already was put, whatever INSIDE has become meanwhile: a later one is
//! turned back.
//!
//! A keeper's seat is its own until it leaves or dies: only its owner stores INSIDE, so one that keeps
//! no more and goes in for a moment disturbs nobody but who waits for it. That is why INSIDE is not the
//! slot's mark, which says the same: a writer that was put off its processor just before it stored the mark
//! would spoil a slot that others have written meanwhile.
//!
//! # Crash
//! | the keeper died | what stands there | the next writer |
//! | --- | --- | --- |
//! | outside | KEEP names it, INSIDE is no more than the latest number | settles at once |
//! | inside | KEEP names it, INSIDE is one more | finds it dead; its message is written anew, as after any dead writer |
//!
//! A settler that dies leaves the seat in KEEP, so whoever inherits the lock settles again. Seats of the
//! dead are taken by the next keepers.
//!
//! # Hostile bytes
//! A KEEP that names no seat counts as none. A WHO that is no identity counts as dead; one that lives
//! and is said to be inside keeps others out, as the lock's holder may. One who makes a keeper of
//! somebody by a lie gets two writers at once, and messages that are mixed up.
//!
//! # Cost and limits
//! A keeper that is put off its processor inside is waited for in slices of up to 16 ms: it rings for
//! nobody. Who settles pays one system call, so a keeper that is disturbed soon keeps after twice as many puts the
//! next time. A writer to which `membarrier` is refused waits for 50 ms instead, in which every processor
//! has finished its stores. No more than [`KEEPERS`] writers at a time have seats; others take the lock
//! for each put.

use crate::queue_hold::Hold;
use crate::value_slots::{Control, KEEPERS, keeper, layout, next};
use shmem::lock;
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience, wait_unregistered};
use shmem::{Region, View, Window, barrier};
use std::time::Duration;

/// After how many puts in a row a writer keeps the value: at first, and at most.
const FIRST: u32 = if cfg!(loom) { 1 } else { 16 };
const MOST: u32 = 1 << 16;
/// Who kept it for so many puts was not disturbed soon.
const LONG: u64 = 512;
/// How long a settler waits instead of a fence that it can't force.
const SLICE: Duration = Duration::from_millis(50);

/// One writer's way of keeping.
#[derive(Debug)]
pub struct Keeping {
    /// From the segment's beginning.
    words: Window<{ layout::LAYOUT.size }>,
    /// As long as this writer keeps the value.
    kept: Option<Kept>,
    /// Its seat while it keeps nothing.
    resting: Option<Seat>,
    /// Number of the last message that it put with the lock held, and how many those were in a row.
    last: u64,
    streak: u32,
    /// How many it must be.
    need: u32,
}

#[derive(Debug)]
struct Kept {
    seat: Seat,
    /// What KEEP must be.
    word: u64,
}

#[derive(Debug)]
struct Seat {
    number: usize,
    words: Window<{ keeper::LAYOUT.size }>,
}

impl Seat {
    fn is_left(&self) {
        // [VALUE_OUT] release, though nothing was put.
        self.words.u64(keeper::INSIDE).store(0, Ordering::Release);
    }
}

impl Keeping {
    /// Of a writer that does not keep yet.
    pub fn new(region: &Region) -> Self {
        Self {
            words: Window::new(region, 0),
            kept: None,
            resting: None,
            last: 0,
            streak: 0,
            need: FIRST,
        }
    }

    /// Goes in to put, past a `light` fence, and answers the number of the message that comes next; `None`
    /// if this writer does not keep the value.
    #[inline(always)]
    pub fn go_in(&mut self, words: Control<'_>, light: impl FnOnce()) -> Option<u64> {
        let kept = self.kept.as_ref()?;
        let number = next(words);
        let inside = kept.seat.words.u64(keeper::INSIDE);
        // Relaxed: ordered by the fence.
        inside.store(number, Ordering::Relaxed);
        // [VALUE_KEEP]
        light();
        // Relaxed: ordered by the fence.
        if words.load_u64(layout::KEEP, Ordering::Relaxed) != kept.word {
            self.turn_back();
            return None;
        }
        Some(number)
    }

    /// Another has taken the right to go in.
    #[cold]
    fn turn_back(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.seat.is_left();
            self.resting = Some(kept.seat);
        }
        // Relaxed: a statistic.
        let now = self.words.load_u64(layout::LATEST, Ordering::Relaxed);
        self.need = if now.wrapping_sub(self.last) >= LONG {
            FIRST
        } else {
            (self.need * 2).min(MOST)
        };
        self.streak = 0;
    }

    /// Makes sure that no keeper puts while the caller holds the lock, which it does.
    ///
    /// # Errors
    /// The keeper, if it is inside and patience ends.
    #[inline]
    pub fn settle(
        &mut self,
        patience: Patience,
        is_dead: impl FnMut(u64) -> bool,
    ) -> Result<(), u64> {
        // Relaxed: only who holds the lock stores it.
        let word = self.words.u64(layout::KEEP).load(Ordering::Relaxed);
        match Hold::from_word(word).seat() {
            None => Ok(()),
            Some(seat) => self.settle_with(seat, patience, is_dead),
        }
    }

    #[cold]
    fn settle_with(
        &mut self,
        seat: usize,
        patience: Patience,
        mut is_dead: impl FnMut(u64) -> bool,
    ) -> Result<(), u64> {
        let keep = self.words.u64(layout::KEEP);
        // Relaxed: as in `settle`.
        let mut hold = Hold::from_word(keep.load(Ordering::Relaxed));
        let mine = self.kept.take().map(|kept| {
            self.resting = Some(kept.seat);
            kept.word
        });
        let is_mine = mine == Some(hold.word());
        if seat < KEEPERS && !is_mine {
            let region = self.words.region();
            hold = hold.unkept();
            // Relaxed: ordered by the fence.
            keep.store(hold.word(), Ordering::Relaxed);
            // [VALUE_KEEP]
            if !barrier::heavy() {
                std::thread::sleep(SLICE);
            }
            let at = seat_at(seat);
            // [VALUE_OUT] acquire.
            let who = region.load_u64(at + keeper::WHO, Ordering::Acquire);
            let bell = layout::LOCK + lock::layout::BELL;
            let is_out = wait_unregistered(region, bell, patience, |moment| {
                let is_out = !is_inside(region, at) || who == 0;
                (is_out || moment == Moment::Parking && is_dead(who)).then_some(())
            });
            is_out.ok_or(who)?;
        }
        // Relaxed: goes on with the lock.
        keep.store(hold.freed().word(), Ordering::Relaxed);
        Ok(())
    }

    /// Counts a message that the caller has just put, holding the lock; whether it is time to
    /// [keep](Self::keep).
    #[inline]
    pub fn is_time(&mut self, number: u64) -> bool {
        let goes_on = number == self.last.wrapping_add(1);
        self.streak = if goes_on {
            self.streak.saturating_add(1)
        } else {
            1
        };
        self.last = number;
        self.streak >= self.need
    }

    /// Keeps the value for the writer with the identity `me`, which has settled and holds the lock, if
    /// there is a seat. `is_dead` is asked about those who have one.
    #[cold]
    pub fn keep(&mut self, me: u64, is_dead: impl FnMut(u64) -> bool) {
        let before = self.kept.take().map(|kept| kept.seat);
        let seat = before.or_else(|| self.resting.take());
        let Some(seat) = seat.or_else(|| self.take_seat(me, is_dead)) else {
            self.need = MOST;
            self.streak = 0;
            return;
        };
        let keep = self.words.u64(layout::KEEP);
        // Relaxed, both: only who holds the lock stores it, and it goes on with the lock.
        let hold = Hold::from_word(keep.load(Ordering::Relaxed)).taken(seat.number, true);
        keep.store(hold.word(), Ordering::Relaxed);
        self.kept = Some(Kept {
            seat,
            word: hold.word(),
        });
    }

    fn take_seat(&self, me: u64, mut is_dead: impl FnMut(u64) -> bool) -> Option<Seat> {
        let region = self.words.region();
        let who = |seat| region.u64(seat_at(seat) + keeper::WHO);
        let number = (0..KEEPERS).find(|seat| {
            // [VALUE_OUT] acquire: what its last owner stored there.
            let owner = who(*seat).load(Ordering::Acquire);
            owner == 0 || is_dead(owner)
        })?;
        let words: Window<{ keeper::LAYOUT.size }> = Window::new(region, seat_at(number));
        // Relaxed, both: only who holds the lock takes seats, and what it stores goes on with the lock.
        words.u64(keeper::INSIDE).store(0, Ordering::Relaxed);
        who(number).store(me, Ordering::Relaxed);
        Some(Seat { number, words })
    }

    /// Gives the seat back. Not to be called by a child that has this by a fork.
    pub fn leave(&mut self) {
        let kept = self.kept.take().map(|kept| kept.seat);
        if let Some(seat) = kept.or_else(|| self.resting.take()) {
            // [VALUE_OUT] release.
            seat.words.u64(keeper::WHO).store(0, Ordering::Release);
        }
    }
}

fn seat_at(seat: usize) -> usize {
    layout::KEEPERS + seat * keeper::LAYOUT.size
}

/// Whether the owner of the seat there is in the middle of a put, or looks whether it may.
fn is_inside(view: &View, seat: usize) -> bool {
    // [VALUE_OUT] acquire, both, in this order.
    let inside = view.load_u64(seat + keeper::INSIDE, Ordering::Acquire);
    inside > view.load_u64(layout::LATEST, Ordering::Acquire)
}

/// Who keeps the value and is in the middle of a put, as far as one can tell from outside.
pub fn inside(view: &View) -> Option<u64> {
    // Relaxed, both: a hint.
    let hold = Hold::from_word(view.load_u64(layout::KEEP, Ordering::Relaxed));
    let at = seat_at(hold.seat().filter(|seat| *seat < KEEPERS)?);
    is_inside(view, at).then(|| view.load_u64(at + keeper::WHO, Ordering::Relaxed))
}

#[cfg(test)]
#[path = "value_keep_tests.rs"]
mod value_keep_tests;
