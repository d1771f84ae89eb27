//! Taking messages from the lanes of a `queue`: each by one consumer, whoever dies.
//!
//! # Protocol
//! A consumer *holds* a lane while it takes messages from it: TAKER (see `queue_hold`) names its
//! seat, and BUSY in its seat names the lane while it has a message in hand, or looks for a moment whether
//! the next one comes (see `queue_run`). PROGRESS tells where the next message is; HAND is stored behind it, and the message handed out. When the consumer is
//! done with it, it stores PROGRESS, and gives room back to the producer (RELEASED) in quarters of the
//! ring, or when the lane is empty. It does not look at what comes next before it is asked: that
//! line may still be with the producer, and what this process stores next, an answer perhaps, would
//! wait for it. Before it takes a lane it looks whether there is anything, so lanes without messages
//! cost two loads. Which lane comes next is told in `queue_turn`.
//!
//! While other consumers are there, a lane is held for one receipt: BUSY, a compare-exchange of
//! TAKER, the receipt, a store that frees TAKER, BUSY back.
//!
//! A consumer that is alone **keeps** the lanes that it takes, and then goes in by storing BUSY and
//! looking at TAKER, and out by storing BUSY and looking at TAKER: no compare-exchange. Another who
//! wants such a lane first *unkeeps* it, by a compare-exchange that anybody may make at any time,
//! forces a fence on the keeper (see `barrier`), and looks at BUSY: if the keeper is not inside, it
//! takes the lane over; otherwise the keeper finds on its way out that the lane is not kept any
//! more, frees it and rings.
//!
//! - `[QUEUE_TAKE]` Who holds a lane sees what the one before it stored: PROGRESS above all. It is
//!   released by the store that frees TAKER, or by the store of 0 to BUSY where a kept lane is taken
//!   over; acquired by the compare-exchange, or by the load of BUSY. Weaker, a message is received
//!   twice.
//! - `[QUEUE_KEEP]` Keeper and taker each store and then load the other's word: the keeper BUSY and
//!   then TAKER, the taker TAKER (unkept) and then BUSY, with a full fence between, which on the
//!   keeper's side is `barrier::light`. So at least one sees the other: if the taker does not see
//!   the keeper inside, then a keeper that goes in later sees that it keeps the lane no more, and
//!   turns back; and if a keeper on its way out does not see that the lane is unkept, then the taker
//!   sees that it is out. Weaker, two are inside, or both sleep while a message waits. A taker that
//!   may not force the fence takes over no kept lane.
//!
//! TAKER changes by compare-exchange from a word that never comes back, so nobody takes a lane from
//! another than the one it looked at. Who comes to a seat whose owner died frees what that one held
//! before it does anything else ([`settle`]).
//!
//! # Crash
//! A lane whose holder is dead is taken over; only one can win. By the holder's last store it died
//!
//! | after | PROGRESS, HAND | what happens |
//! | --- | --- | --- |
//! | BUSY or TAKER, before HAND | HAND ≤ PROGRESS | it saw nothing: delivered as if for the first time |
//! | HAND | PROGRESS < HAND | it may have seen what lies between: delivered again, marked |
//! | PROGRESS | HAND ≤ PROGRESS | it was done: not delivered again |
//!
//! A message that is copied, and not taken in hand, is finished before its receiver gets the copy: HAND
//! stays as it is then.
//!
//! Who takes over gives all room back that is free, which the dead one may have failed to do. One
//! that dies after it unkept a lane leaves it to the next who looks, and to the keeper.
//!
//! # Hostile bytes
//! Positions are masked to words and into the ring; a lie about them yields wrong messages of that
//! lane, or damage. A TAKER that names no seat, or one whose consumer is none, counts as dead.

use crate::coming::Announced;
use crate::glance::glance;
use crate::queue_hold::Hold;
use crate::queue_kept::Lane;
use crate::queue_layout::{Shape, lane, seat};
use crate::queue_row::Row;
use crate::queue_run::Run;
use crate::queue_turn::Turn;
use crate::ring::{Damaged, Record, WORD};
use shmem::sync::Ordering;
use shmem::{Region, Window, barrier};

/// How many receipts a consumer stays on a lane that always has messages, or fewer for so many bytes
/// of them.
pub(crate) const QUOTA: u32 = if cfg!(loom) { 1 } else { 256 };
const QUOTA_BYTES: usize = 64 * 1024;
/// After how many receipts a consumer looks again whether it is alone.
pub(crate) const LOOK_AROUND: u32 = 4096;

/// The message in hand: the lane is held until it is [finished](Taking::finish).
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Which lane.
    pub lane: usize,
    /// Where the message is.
    pub record: Record,
    /// What lies before this position was handed out to a consumer that died.
    pub again: u64,
    /// Where the first message in hand ends, and how many there are.
    pub(crate) from: u64,
    pub(crate) count: u64,
    /// What TAKER was made.
    pub(crate) hold: Hold,
}

/// One consumer's way of going round the lanes.
///
/// What changes with each message is changed in place, word by word: moved as a whole it would be
/// loaded in pieces larger than those in which it was just stored, which the processor has to wait
/// for (measured: 51 ns for a receipt, and 20 to 29 in place).
#[derive(Debug)]
pub struct Taking {
    pub(crate) shape: Shape,
    pub(crate) seat: usize,
    pub(crate) lane: usize,
    pub(crate) left: u32,
    /// What `left` was when this lane's quota began, at most.
    pub(crate) quota: u32,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) run: Run,
    pub(crate) row: Row,
    pub(crate) seat_words: Window<{ seat::LAYOUT.size }>,
    pub(crate) held: Held,
    pub(crate) alone: bool,
    pub(crate) look_around_in: u32,
    pub(crate) turn: Turn,
}

/// Whether a message is in hand now; `None` if there was none.
pub type Found = Option<Result<(), Damaged>>;

impl Taking {
    /// For the consumer in a seat. Consumers that begin at different lanes get into each other's
    /// way less.
    pub fn new(shape: Shape, region: &Region, seat: usize) -> Self {
        let held = Held {
            lane: 0,
            record: Record {
                offset: 0,
                length: 0,
                end: 0,
            },
            again: 0,
            from: 0,
            count: 0,
            hold: Hold::default(),
        };
        let lane = seat % shape.lanes();
        let lanes: Vec<_> = (0..shape.lanes())
            .map(|lane| Lane::new(&shape, region, lane))
            .collect();
        Self {
            shape,
            seat,
            lane,
            left: QUOTA,
            quota: QUOTA,
            turn: Turn::default(),
            run: Run::none(&lanes[lane], lane),
            row: Row::NONE,
            lanes,
            seat_words: Window::new(region, shape.seat(seat).0),
            held,
            alone: false,
            look_around_in: 0,
        }
    }

    /// Whether this consumer takes itself to be alone.
    #[cfg(test)]
    pub fn set_alone(&mut self, alone: bool) {
        (self.alone, self.look_around_in) = (alone, u32::MAX);
    }

    /// The message in hand, or the last one that was.
    #[inline]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Takes the next message in hand, if there is one that nobody else is taking. The one before
    /// must be finished.
    ///
    /// `is_dead` says whether the consumer with that identity is dead; it is asked about lanes that
    /// somebody else holds.
    #[inline]
    pub fn find(&mut self, region: &Region, is_dead: impl FnMut(u64) -> bool) -> Found {
        self.end_run();
        let here = self.lanes.get(self.lane);
        if self.left > 0
            && let Some(lane) = here.filter(|lane| lane.door.hold.is_kept())
            && let Some(record) = lane.next()
        {
            let (at, again, hold) = (self.lane, lane.again, lane.door.hold);
            if self.go_in(region, at, record.end) {
                self.left -= 1;
                self.hold(at, record, again, hold);
                return Some(Ok(()));
            }
        }
        self.find_anywhere(region, is_dead)
    }

    /// Looks for a moment whether a message comes where this consumer is, if there are no other lanes to
    /// look at; or whether one is announced, since `then` if that is known.
    #[inline]
    pub fn glance(&self, region: &Region, then: Option<Announced>) -> bool {
        self.only_lane(region).is_some_and(|lane| {
            let header = lane.headers.word(lane.progress);
            // Relaxed: who takes the message looks again.
            let is_there = || header.load(Ordering::Relaxed) != 0;
            match then {
                None => glance(is_there),
                Some(then) => glance(|| is_there() || lane.coming(then).is_some()),
            }
        })
    }

    /// The lane where this consumer is, if it keeps that and there are no others.
    #[inline]
    pub(crate) fn only_lane(&self, region: &Region) -> Option<&Lane> {
        let here = self.lanes.get(self.lane);
        here.filter(|lane| self.shape.used(region) == 1 && lane.door.hold.is_kept())
    }

    #[inline(never)]
    fn find_anywhere(&mut self, region: &Region, mut is_dead: impl FnMut(u64) -> bool) -> Found {
        if self.look_around_in == 0 {
            self.look_around(region, &mut is_dead);
        }
        let used = self.shape.used(region);
        if self.left == 0 {
            self.count_turn(region, used);
        }
        // A quota that ran out: first the others.
        let first = self.lane + usize::from(self.left == 0);
        let first = if first < used { first } else { 0 };
        let mut passed_over = false;
        for lane in (first..used).chain(0..first) {
            if self.is_not_its_turn(lane) {
                passed_over = true;
            } else if let found @ Some(_) = self.find_in(region, lane, &mut is_dead) {
                return found;
            }
        }
        if !passed_over {
            return None;
        }
        // Of all, for those that were passed over may wait no more.
        for lane in self.turn.others(used) {
            if let found @ Some(_) = self.find_in(region, lane, &mut is_dead) {
                self.turn.pass_to(lane);
                return found;
            }
        }
        None
    }

    /// Takes the next message of one lane in hand.
    fn find_in(
        &mut self,
        region: &Region,
        lane: usize,
        is_dead: &mut impl FnMut(u64) -> bool,
    ) -> Found {
        let found = if self.still_keeps(region, lane) {
            self.take_kept(region, lane)
        } else {
            self.take(region, lane, is_dead)
        }?;
        if lane != self.lane || self.left == 0 {
            let spent = self.quota - self.left;
            self.look_around_in = self.look_around_in.saturating_sub(spent);
            let length = found.map_or(0, |()| self.held.record.length);
            self.quota = QUOTA.min((QUOTA_BYTES / length.max(1)).max(1) as u32);
            (self.lane, self.left) = (lane, self.quota);
        }
        // A damaged lane does not keep a consumer from the others.
        self.left = if found.is_ok() { self.left - 1 } else { 0 };
        Some(found)
    }

    #[cold]
    fn look_around(&mut self, region: &Region, is_dead: &mut impl FnMut(u64) -> bool) {
        self.look_around_in = LOOK_AROUND;
        self.alone = barrier::is_available()
            && (0..self.shape.seats()).all(|seat| {
                let who = self.shape.seat(seat).who(region);
                seat == self.seat || who == 0 || is_dead(who)
            });
    }

    /// Whether a lane is kept. Once another has taken it, its old position says nothing any more.
    #[inline]
    fn still_keeps(&mut self, region: &Region, lane: usize) -> bool {
        let hold = self.lanes[lane].door.hold;
        if !hold.is_kept() {
            return false;
        }
        // Relaxed: who finds nothing and sleeps has passed the fence of its bell, and who goes in
        // looks again.
        let keeps = self.taker(lane).load(Ordering::Relaxed) == hold.word();
        if !keeps {
            self.give_up(region, lane);
        }
        keeps
    }

    fn take_kept(&mut self, region: &Region, lane: usize) -> Found {
        let Lane {
            ring,
            progress,
            door,
            again,
            ..
        } = &self.lanes[lane];
        match ring.record(region, *progress) {
            Ok(Some(record)) => {
                let (again, hold) = (*again, door.hold);
                let is_in = self.go_in(region, lane, record.end);
                is_in.then(|| {
                    self.hold(lane, record, again, hold);
                    Ok(())
                })
            }
            Ok(None) => None,
            Err(damaged) => {
                // Or another has just taken the lane, and the producer has gone round.
                let damaged = self.still_keeps(region, lane).then_some(Err(damaged));
                self.give_up(region, lane);
                damaged
            }
        }
    }

    #[inline]
    pub(crate) fn hold(&mut self, lane: usize, record: Record, again: u64, hold: Hold) {
        self.held.lane = lane;
        self.held.record.offset = record.offset;
        self.held.record.length = record.length;
        self.held.record.end = record.end;
        self.held.again = again;
        self.held.from = record.end;
        self.held.count = 1;
        self.held.hold = hold;
        self.row.end();
    }

    /// Finishes what is in hand, up to the end of the message where it is. The lane is free again,
    /// or still kept.
    #[inline]
    pub fn finish(&mut self, region: &Region) {
        let (lane, end, hold) = (self.held.lane, self.held.record.end, self.held.hold);
        let count = self.held.count;
        if count > 1 && self.shape.used(region) > 1 {
            // All of a batch, not only its first, if others may want their quota too.
            let rest = u32::try_from(count - 1).unwrap_or(u32::MAX);
            self.left = self.left.saturating_sub(rest);
        }
        if hold.is_kept() {
            self.lanes[lane].finish(end, count);
            self.go_out(region, lane);
        } else {
            self.finish_and_free(region, lane, end, hold, count);
        }
    }

    /// Puts back what is in hand, all of it: it will be delivered again, marked.
    pub fn put_back(&mut self, region: &Region) {
        let Held { lane, hold, .. } = self.held;
        let mine = &mut self.lanes[lane];
        // Relaxed: only who holds the lane stores it.
        mine.again = mine.door.words.u64(lane::HAND).load(Ordering::Relaxed);
        if hold.is_kept() {
            self.go_out(region, lane);
        } else {
            self.free(lane, hold);
            self.ring(region, lane);
        }
    }

    fn finish_and_free(&mut self, region: &Region, lane: usize, end: u64, hold: Hold, count: u64) {
        let mine = &self.lanes[lane];
        // [LANE_RELEASE] release, as in `queue_kept`. It goes on to the next holder with TAKER.
        mine.door
            .words
            .u64(lane::PROGRESS)
            .store(end, Ordering::Release);
        // Relaxed, both: for who looks from outside; only who holds the lane stores it.
        let received = mine.door.words.u64(lane::RECEIVED);
        let count = received.load(Ordering::Relaxed).wrapping_add(count);
        received.store(count, Ordering::Relaxed);
        // Relaxed: only who holds the lane stores it.
        let released = mine.door.words.u64(lane::RELEASED).load(Ordering::Relaxed);
        if self.is_time(region, lane, released, end) {
            self.release(region, lane, end);
        }
        self.free(lane, hold);
        self.ring(region, lane);
    }

    /// Whether to give room back: seldom while there is more to come, so that a producer that waits
    /// for room does not get it by the line; but nothing is kept back from one that sleeps while its
    /// lane is empty. One of many is woken for half a lane, not for a quarter.
    pub(crate) fn is_time(&self, region: &Region, lane: usize, released: u64, end: u64) -> bool {
        let part = if self.is_parked(lane) && self.shape.used(region) > 1 {
            self.shape.capacity() / 2
        } else {
            self.shape.capacity() / 4
        };
        let is_last = || matches!(self.lanes[lane].ring.record(region, end), Ok(None) | Err(_));
        end.wrapping_sub(released) >= part || end != released && is_last()
    }
}

/// Frees what the last owner of a seat held when it died, for who has just taken the seat.
pub fn settle(shape: &Shape, region: &Region, seat: usize) {
    for lane in 0..shape.used(region) {
        let taker = region.u64(shape.at(lane, lane::TAKER));
        // Relaxed: only the compare-exchange decides.
        let hold = Hold::from_word(taker.load(Ordering::Relaxed));
        if hold.seat() == Some(seat) {
            // [QUEUE_TAKE] both: what the dead one stored goes on to who takes the lane next. It
            // fails if another has taken the lane over.
            let freed = hold.freed().word();
            let _ = taker.compare_exchange(hold.word(), freed, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
    // Release: as in `free`.
    region.u32(shape.busy(seat)).store(0, Ordering::Release);
}

/// Whether nothing in a lane waits for a consumer, as far as one can tell who does not hold it.
#[inline]
pub fn is_empty(shape: &Shape, view: &shmem::View, lane: usize) -> bool {
    // Relaxed: an old position only shows a message that is finished, or damage, and then the one
    // who takes the lane looks again; or nothing, where the ring was gone round since, and then a
    // bell was rung.
    let progress = view.load_u64(shape.at(lane, lane::PROGRESS), Ordering::Relaxed);
    matches!(
        shape.ring(lane).record(view, progress & !(WORD - 1)),
        Ok(None)
    )
}
