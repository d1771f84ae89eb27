//! Keeping a `value` for one writer: who puts again and again with nobody else needs no lock.
//!
//! The writers' lock takes two locked instructions, several times what a short message costs
//! otherwise. So a writer that has put some messages in a row *keeps* the value: it takes a keeper's
//! seat, and KEEP names that. From then on it goes in by storing INSIDE in its seat and looking at
//! KEEP, and out by storing INSIDE and looking at KEEP.
//!
//! # Protocol
//! KEEP is stored by the holder of the lock only, and each of its words is one of its kind (see
//! `queue_hold`). A writer that is no keeper takes the lock, and then *settles*: if KEEP names a seat, it
//! stores KEEP without the right to go in, forces a fence on the keeper (see `barrier`), and waits until
//! INSIDE says that it is out, or it is dead. Then it stores that nobody keeps. A keeper that was inside
//! meanwhile notices on its way out, and rings the lock's bell. So whoever has settled is alone, as
//! long as it holds the lock; and it may make itself the keeper before it gives the lock back.
//!
//! - `[VALUE_KEEP]` Keeper and settler each store and then load the other's word: the keeper INSIDE and
//!   then KEEP, the settler KEEP and then INSIDE, with a full fence between, which on the keeper's side is
//!   `barrier::light`. So at least one sees the other: if the settler does not see the keeper inside,
//!   a keeper that goes in later sees that it keeps nothing, and turns back; and if one on its way out does
//!   not see KEEP changed, the settler sees that it is out. Weaker, two put at once, or the settler
//!   sleeps.
//! - `[VALUE_OUT]` Who has settled sees what the keeper has put: released by its store of 0 to INSIDE,
//!   or to WHO when it leaves, acquired by the settler's loads. Weaker, a number is given twice.
//!
//! A keeper's seat is its own until it leaves or dies: only its owner stores INSIDE, so one that keeps
//! no more and goes in for a moment disturbs nobody but who waits for it.
//!
//! # Crash
//! | the keeper died | what stands there | the next writer |
//! | --- | --- | --- |
//! | outside | KEEP names it, INSIDE is 0 | settles at once |
//! | inside | KEEP names it, INSIDE is 1 | finds it dead; its message was announced, or is written anew, as after any dead writer |
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
//! Who settles pays one system call, so a keeper that is disturbed soon keeps after twice as many puts the
//! next time. A writer to which `membarrier` is refused waits for 50 ms instead, in which every processor
//! has finished its stores. No more than [`KEEPERS`] writers at a time have seats; others take the lock
//! for each put.

use crate::queue_hold::Hold;
use crate::value_slots::{KEEPERS, keeper, layout};
use shmem::header::has_ended_in;
use shmem::lock;
use shmem::sync::Ordering;
use shmem::wait::layout as bell;
use shmem::wait::{Bell, Moment, Patience};
use shmem::{Region, Window, barrier};
use std::time::Duration;

/// After how many puts in a row a writer keeps the value: at first, and at most.
const FIRST: u32 = if cfg!(loom) { 1 } else { 16 };
const MOST: u32 = 1 << 16;
/// Who kept it for so many puts was not disturbed soon.
const LONG: u64 = 512;
/// How soon a settler notices that the keeper died, and how long it waits instead of a fence.
const SLICE: Duration = Duration::from_millis(50);

/// One writer's way of keeping.
#[derive(Debug)]
pub struct Keeping {
    /// From the segment's beginning.
    words: Window<{ layout::LAYOUT.size }>,
    seat: Option<Seat>,
    /// What KEEP must be as long as this writer keeps; nobody's before.
    hold: Hold,
    /// Number of the last message that it put with the lock held, and how many those were in a row.
    last: u64,
    streak: u32,
    /// How many it must be.
    need: u32,
}

#[derive(Debug)]
struct Seat {
    number: usize,
    words: Window<{ keeper::LAYOUT.size }>,
}

impl Keeping {
    /// Of a writer that does not keep yet.
    pub fn new(region: &Region) -> Self {
        Self {
            words: Window::new(region, 0),
            seat: None,
            hold: Hold::default(),
            last: 0,
            streak: 0,
            need: FIRST,
        }
    }

    /// Whether the channel was given up: see `header::has_ended`.
    #[inline(always)]
    pub fn has_ended(&self) -> bool {
        has_ended_in(&self.words)
    }

    /// Goes in to put, past a `light` fence; false if this writer does not keep the value.
    #[inline(always)]
    pub fn go_in(&mut self, light: impl FnOnce()) -> bool {
        let Some(seat) = &self.seat else {
            return false;
        };
        if !self.hold.is_kept() {
            return false;
        }
        // Relaxed: ordered by the fence.
        seat.words.u32(keeper::INSIDE).store(1, Ordering::Relaxed);
        // [VALUE_KEEP]
        light();
        if !self.is_kept() {
            self.turn_back();
            return false;
        }
        true
    }

    /// Out again. Whether nothing else is to be done: it still keeps the value, and no reader sleeps.
    #[inline(always)]
    pub fn go_out(&self, light: impl FnOnce()) -> bool {
        if let Some(seat) = &self.seat {
            // [VALUE_OUT] release.
            seat.words.u32(keeper::INSIDE).store(0, Ordering::Release);
        }
        // [VALUE_KEEP], and [BELL_PARK] for readers: the message was published before.
        light();
        let parked = self.words.u32(layout::BELL + bell::PARKED);
        // Relaxed: ordered by the fence.
        self.is_kept() && parked.load(Ordering::Relaxed) == 0
    }

    /// What may be to be done after a put: rings for a settler.
    #[cold]
    pub fn look_around(&mut self) {
        if !self.is_kept() {
            self.turn_back();
        }
    }

    #[inline(always)]
    fn is_kept(&self) -> bool {
        // Relaxed: ordered by a fence before.
        self.words.u64(layout::KEEP).load(Ordering::Relaxed) == self.hold.word()
    }

    /// Another has taken the right to go in.
    #[cold]
    fn turn_back(&mut self) {
        if let Some(seat) = &self.seat {
            // [VALUE_OUT] release.
            seat.words.u32(keeper::INSIDE).store(0, Ordering::Release);
        }
        self.hold = Hold::default();
        // Relaxed: a statistic.
        let now = self.words.u64(layout::LATEST).load(Ordering::Relaxed);
        self.need = if now.wrapping_sub(self.last) >= LONG {
            FIRST
        } else {
            (self.need * 2).min(MOST)
        };
        self.streak = 0;
        // The settler may sleep.
        Bell::new(self.words.region(), layout::LOCK + lock::layout::BELL).ring();
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
        let is_mine = std::mem::take(&mut self.hold).word() == hold.word();
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
            let bell = Bell::new(region, layout::LOCK + lock::layout::BELL);
            let is_out = bell.wait_in_slices(SLICE, patience, |moment| {
                // [VALUE_OUT] acquire.
                let inside = region.load_u32(at + keeper::INSIDE, Ordering::Acquire);
                let is_out = inside == 0 || who == 0 || moment == Moment::Parking && is_dead(who);
                is_out.then_some(())
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
        if self.seat.is_none() {
            self.seat = self.take_seat(me, is_dead);
        }
        let Some(seat) = &self.seat else {
            self.need = MOST;
            self.streak = 0;
            return;
        };
        let keep = self.words.u64(layout::KEEP);
        // Relaxed, both: only who holds the lock stores it, and it goes on with the lock.
        let hold = Hold::from_word(keep.load(Ordering::Relaxed));
        self.hold = hold.taken(seat.number, true);
        keep.store(self.hold.word(), Ordering::Relaxed);
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
        words.u32(keeper::INSIDE).store(0, Ordering::Relaxed);
        who(number).store(me, Ordering::Relaxed);
        Some(Seat { number, words })
    }

    /// Gives the seat back. Not to be called by a child that has this by a fork.
    pub fn leave(&mut self) {
        self.hold = Hold::default();
        if let Some(seat) = self.seat.take() {
            // [VALUE_OUT] release.
            seat.words.u64(keeper::WHO).store(0, Ordering::Release);
        }
    }
}

fn seat_at(seat: usize) -> usize {
    layout::KEEPERS + seat * keeper::LAYOUT.size
}

/// Who keeps the value and is in the middle of a put, as far as one can tell from outside.
pub fn inside(view: &shmem::View) -> Option<u64> {
    // Relaxed, all: a hint.
    let hold = Hold::from_word(view.load_u64(layout::KEEP, Ordering::Relaxed));
    let at = seat_at(hold.seat().filter(|seat| *seat < KEEPERS)?);
    let inside = view.load_u32(at + keeper::INSIDE, Ordering::Relaxed) != 0;
    inside.then(|| view.load_u64(at + keeper::WHO, Ordering::Relaxed))
}

#[cfg(test)]
#[path = "value_keep_tests.rs"]
mod value_keep_tests;
