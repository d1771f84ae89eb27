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
//! What KEEP must be is a keeper's [`Note`]: empty if it keeps nothing, and in a child that has it by a fork.
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
//! has finished its stores. No more than [`KEEPERS`] writers at a time have seats, and 256 of one
//! process, of whatever values, notes; others take the lock for each put.

use crate::queue_hold::Hold;
use crate::value_slots::{Control, KEEPERS, keeper, layout, next};
use shmem::barrier::Registered;
use shmem::lock;
use shmem::note::Note;
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience, wait_unregistered};
use shmem::{Region, View, Window, barrier};
use std::time::Duration;

/// After how many puts in a row a writer keeps the value: at first, and at most.
const FIRST: u32 = if cfg!(loom) { 1 } else { 16 };
const MOST: u32 = 1 << 16;
/// Who kept it for so many puts was not disturbed soon.
const LONG: u64 = 512;
/// Bytes of a seat.
const SEAT: usize = keeper::LAYOUT.size;
/// How long a settler waits instead of a fence that it can't force.
const SLICE: Duration = Duration::from_millis(50);

/// One writer's way of keeping.
#[derive(Debug)]
pub struct Keeping {
    /// From the segment's beginning.
    words: Window<{ layout::LAYOUT.size }>,
    /// What KEEP must be, as long as this writer keeps the value. A child that has this by a fork keeps nothing.
    kept: Note,
    /// Its seat, as KEEP names it, whether it keeps the value or not.
    seat: Option<usize>,
    /// Number of the last message that it put with the lock held, and how many those were in a row.
    last: u64,
    streak: u32,
    /// How many it must be.
    need: u32,
}

impl Keeping {
    /// Of a writer that does not keep yet.
    pub fn new(region: &Region) -> Self {
        Self {
            words: Window::new(region, 0),
            kept: Note::none(),
            seat: None,
            last: 0,
            streak: 0,
            need: FIRST,
        }
    }

    /// Goes in to put, past a `light` fence, and answers the number of the message that comes next; `None`
    /// if this writer does not keep the value.
    #[inline(always)]
    pub fn go_in(
        &mut self,
        words: Control<'_>,
        light: impl FnOnce(Registered),
    ) -> Option<(u64, Registered)> {
        let (word, registered) = self.kept.read()?;
        let number = next(words);
        let inside = words.u64(inside_at(seat_in(word)));
        // Relaxed: ordered by the fence.
        inside.store(number, Ordering::Relaxed);
        // [VALUE_KEEP]
        light(registered);
        // Relaxed: ordered by the fence.
        if words.load_u64(layout::KEEP, Ordering::Relaxed) != word {
            self.turn_back();
            return None;
        }
        Some((number, registered))
    }

    /// Another has taken the right to go in.
    #[cold]
    fn turn_back(&mut self) {
        self.kept.clear();
        if let Some(seat) = self.seat {
            // [VALUE_OUT] release, though nothing was put.
            let inside = self.words.u64(inside_at(seat));
            inside.store(0, Ordering::Release);
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
        let kept = self.kept.read().map(|(word, _)| word);
        self.kept.clear();
        if is_seat(seat) && kept != Some(hold.word()) {
            let region = self.words.region();
            hold = hold.unkept();
            // Relaxed: ordered by the fence.
            keep.store(hold.word(), Ordering::Relaxed);
            // [VALUE_KEEP]
            if !barrier::heavy() {
                std::thread::sleep(SLICE);
            }
            // [VALUE_OUT] acquire.
            let who = region.load_u64(who_at(seat), Ordering::Acquire);
            let bell = layout::LOCK + lock::layout::BELL;
            let is_out = wait_unregistered(region, bell, patience, |moment| {
                let is_out = !is_inside(region, seat) || who == 0;
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
    pub fn keep(&mut self, me: u64, registered: Registered, is_dead: impl FnMut(u64) -> bool) {
        if !self.kept.is_taken()
            && let Some(note) = Note::take()
        {
            self.kept = note;
        }
        if self.seat.is_none() && self.kept.is_taken() {
            self.seat = self.take_seat(me, is_dead);
        }
        let Some(seat) = self.seat else {
            self.need = MOST;
            self.streak = 0;
            return;
        };
        let keep = self.words.u64(layout::KEEP);
        // Relaxed, both: only who holds the lock stores it, and it goes on with the lock.
        let hold = Hold::from_word(keep.load(Ordering::Relaxed)).taken(seat, true);
        keep.store(hold.word(), Ordering::Relaxed);
        self.kept.write(hold.word(), registered);
    }

    fn take_seat(&self, me: u64, mut is_dead: impl FnMut(u64) -> bool) -> Option<usize> {
        let who = |seat| self.words.u64(who_at(seat));
        let mut seats = (0..KEEPERS).map(|number| number * SEAT);
        let seat = seats.find(|seat| {
            // [VALUE_OUT] acquire: what its last owner stored there.
            let owner = who(*seat).load(Ordering::Acquire);
            owner == 0 || is_dead(owner)
        })?;
        // Relaxed, both: only who holds the lock takes seats, and what it stores goes on with the lock.
        self.words.u64(inside_at(seat)).store(0, Ordering::Relaxed);
        who(seat).store(me, Ordering::Relaxed);
        Some(seat)
    }

    /// Gives the seat back. Not to be called by a child that has this by a fork.
    pub fn leave(&mut self) {
        self.kept.clear();
        if let Some(seat) = self.seat.take() {
            // [VALUE_OUT] release.
            let who = self.words.u64(who_at(seat));
            who.store(0, Ordering::Release);
        }
    }
}

/// Whether there is a seat that begins so far behind the first, as KEEP names them.
fn is_seat(seat: usize) -> bool {
    seat.is_multiple_of(SEAT) && seat / SEAT < KEEPERS
}

/// The seat that the KEEP of a keeper names; another word names some seat.
#[inline(always)]
fn seat_in(word: u64) -> usize {
    const { assert!(KEEPERS.is_power_of_two() && SEAT.is_power_of_two()) };
    // Without the 1 that a `Hold` adds.
    word as usize & ((KEEPERS - 1) * SEAT)
}

fn who_at(seat: usize) -> usize {
    layout::SEATS + seat + keeper::WHO
}

#[inline(always)]
fn inside_at(seat: usize) -> usize {
    layout::SEATS + seat + keeper::INSIDE
}

/// Whether the owner of a seat is in the middle of a put, or looks whether it may.
fn is_inside(view: &View, seat: usize) -> bool {
    // [VALUE_OUT] acquire, both, in this order.
    let inside = view.load_u64(inside_at(seat), Ordering::Acquire);
    inside > view.load_u64(layout::LATEST, Ordering::Acquire)
}

/// Who keeps the value and is in the middle of a put, as far as one can tell from outside.
pub fn inside(view: &View) -> Option<u64> {
    // Relaxed, both: a hint.
    let hold = Hold::from_word(view.load_u64(layout::KEEP, Ordering::Relaxed));
    let seat = hold.seat().filter(|seat| is_seat(*seat))?;
    is_inside(view, seat).then(|| view.load_u64(who_at(seat), Ordering::Relaxed))
}

#[cfg(test)]
#[path = "value_keep_tests.rs"]
mod value_keep_tests;
