//! Taking messages from the lanes of a `queue`: each by one consumer, whoever dies.
//!
//! # Protocol
//! A consumer *holds* a lane while it takes messages from it: TAKER (see `queue_hold`) names its
//! seat, and BUSY in its seat names the lane while it has a message in hand. PROGRESS tells where
//! the next message is; HAND is stored behind it, and the message handed out. When the consumer is
//! done with it, it stores PROGRESS, and gives room back to the producer from time to time
//! (RELEASED). Before it takes a lane it looks whether there is anything, so lanes without
//! messages cost two loads.
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
//! Who takes over gives all room back that is free, which the dead one may have failed to do. One
//! that dies after it unkept a lane leaves it to the next who looks, and to the keeper.
//!
//! # Hostile bytes
//! Positions are masked to lines and into the ring; a lie about them yields wrong messages of that
//! lane, or damage. A TAKER that names no seat, or one whose consumer is none, counts as dead.

use crate::lane::{Damaged, LINE, Record, Ring};
use crate::queue_hold::Hold;
use crate::queue_layout::{Shape, lane, layout};
use shmem::sync::{AtomicU32, AtomicU64, Ordering};
use shmem::{Region, barrier};

/// How many receipts a consumer stays on a lane that always has messages.
const QUOTA: u32 = if cfg!(loom) { 1 } else { 64 };
/// After how many receipts a consumer looks again whether it is alone.
const LOOK_AROUND: u32 = 4096;

/// The message in hand: the lane is held until it is [finished](Taking::finish).
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Which lane.
    pub lane: usize,
    /// Where the message is.
    pub record: Record,
    /// What lies before this position was handed out to a consumer that died.
    pub again: u64,
    /// How many messages are finished with this one.
    count: u64,
    /// What TAKER was made.
    hold: Hold,
}

/// A lane that this consumer may keep.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// What TAKER must be for it.
    hold: Hold,
    ring: Ring,
    /// The message at PROGRESS, if it was seen there already.
    next: Option<Record>,
    /// What nobody else changes meanwhile.
    progress: u64,
    released: u64,
    /// As in [`Held`].
    again: u64,
}

impl Kept {
    /// The message at PROGRESS.
    #[inline]
    fn next(&self, region: &Region) -> Option<Record> {
        match self.next {
            None => self.ring.record(region, self.progress).ok().flatten(),
            seen => seen,
        }
    }
}

/// One consumer's way of going round the lanes.
///
/// What changes with each message is changed in place, word by word: moved as a whole it would be
/// loaded in pieces larger than those in which it was just stored, which the processor has to wait
/// for (measured: 40 of 50 ns).
#[derive(Clone, Debug)]
pub struct Taking {
    shape: Shape,
    seat: usize,
    lane: usize,
    left: u32,
    /// By lane.
    kept: Vec<Kept>,
    held: Held,
    alone: bool,
    look_around_in: u32,
}

/// Whether a message is in hand now; `None` if there was none.
pub type Found = Option<Result<(), Damaged>>;

impl Taking {
    /// For the consumer in a seat. Consumers that begin at different lanes get into each other's
    /// way less.
    pub fn new(shape: Shape, seat: usize) -> Self {
        let kept = |lane| Kept {
            hold: Hold::default(),
            ring: shape.ring(lane),
            next: None,
            progress: 0,
            released: 0,
            again: 0,
        };
        let held = Held {
            lane: 0,
            record: Record {
                offset: 0,
                length: 0,
                end: 0,
            },
            again: 0,
            count: 0,
            hold: Hold::default(),
        };
        Self {
            shape,
            seat,
            lane: seat % shape.lanes(),
            left: QUOTA,
            kept: (0..shape.lanes()).map(kept).collect(),
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
        if self.left > 0
            && let Some(kept) = self.kept.get(self.lane)
            && kept.hold.is_kept()
            && let Some(record) = kept.next(region)
            && self.go_in(region, self.lane, record)
        {
            self.left -= 1;
            return Some(Ok(()));
        }
        self.find_anywhere(region, is_dead)
    }

    #[inline(never)]
    fn find_anywhere(&mut self, region: &Region, mut is_dead: impl FnMut(u64) -> bool) -> Found {
        if self.look_around_in == 0 {
            self.look_around(region, &mut is_dead);
        }
        let used = self.shape.used(region);
        // A quota that ran out: first the others.
        let first = self.lane + usize::from(self.left == 0);
        let first = if first < used { first } else { 0 };
        for lane in (first..used).chain(0..first) {
            let found = if self.still_keeps(region, lane) {
                self.take_kept(region, lane)
            } else {
                self.take(region, lane, &mut is_dead)
            };
            if found.is_none() {
                continue;
            }
            if lane != self.lane || self.left == 0 {
                (self.lane, self.left) = (lane, QUOTA);
            }
            // A damaged lane does not keep a consumer from the others.
            self.left = if found == Some(Ok(())) {
                self.left - 1
            } else {
                0
            };
            return found;
        }
        None
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
        let hold = self.kept[lane].hold;
        if !hold.is_kept() {
            return false;
        }
        // Relaxed: who finds nothing and sleeps has passed the fence of its bell, and who goes in
        // looks again.
        let keeps = self.taker(region, lane).load(Ordering::Relaxed) == hold.word();
        if !keeps {
            self.give_up(region, lane);
        }
        keeps
    }

    fn take_kept(&mut self, region: &Region, lane: usize) -> Found {
        let kept = &self.kept[lane];
        match kept.ring.record(region, kept.progress) {
            Ok(Some(record)) => self.go_in(region, lane, record).then_some(Ok(())),
            Ok(None) => None,
            Err(damaged) => {
                // Or another has just taken the lane, and the producer has gone round.
                let damaged = self.still_keeps(region, lane).then_some(Err(damaged));
                self.give_up(region, lane);
                damaged
            }
        }
    }

    /// Into a lane that is kept; false if it is so no more.
    #[inline]
    fn go_in(&mut self, region: &Region, lane: usize, record: Record) -> bool {
        // Relaxed: ordered by the fence.
        self.busy(region).store(lane as u32 + 1, Ordering::Relaxed);
        // [QUEUE_KEEP]
        barrier::light();
        // Relaxed: ordered by the fence.
        let taker = self.taker(region, lane).load(Ordering::Relaxed);
        let Kept { hold, again, .. } = self.kept[lane];
        if taker != hold.word() {
            self.go_out(region, lane);
            return false;
        }
        // Relaxed: whatever the message leads to is seen by others through a system call or a
        // release, which is later.
        region
            .u64(self.shape.at(lane, lane::HAND))
            .store(record.end.max(again), Ordering::Relaxed);
        self.hold(lane, record, again, hold);
        true
    }

    #[inline]
    fn hold(&mut self, lane: usize, record: Record, again: u64, hold: Hold) {
        self.held.lane = lane;
        self.held.record.offset = record.offset;
        self.held.record.length = record.length;
        self.held.record.end = record.end;
        self.held.again = again;
        self.held.count = 1;
        self.held.hold = hold;
    }

    /// Out of a lane that is kept, or was when this consumer went in.
    #[inline]
    fn go_out(&mut self, region: &Region, lane: usize) {
        // [QUEUE_TAKE] release.
        self.busy(region).store(0, Ordering::Release);
        // [QUEUE_KEEP]
        barrier::light();
        // Relaxed: ordered by the fence.
        let taker = self.taker(region, lane).load(Ordering::Relaxed);
        if taker != self.kept[lane].hold.word() {
            self.give_up(region, lane);
        }
    }

    /// Frees a lane that is kept, or was, unless another has taken it.
    #[cold]
    fn give_up(&mut self, region: &Region, lane: usize) {
        self.kept[lane].hold = Hold::default();
        (self.alone, self.look_around_in) = (false, LOOK_AROUND);
        let taker = self.taker(region, lane);
        // Relaxed: only the compare-exchange decides.
        let hold = Hold::from_word(taker.load(Ordering::Relaxed));
        if hold.seat() == Some(self.seat) {
            // [QUEUE_TAKE] release. Relaxed on failure: another has it.
            let freed = hold.freed().word();
            let _ =
                taker.compare_exchange(hold.word(), freed, Ordering::Release, Ordering::Relaxed);
        }
        self.ring(region, lane);
    }

    /// Gives all lanes back that it keeps.
    pub fn leave(&mut self, region: &Region) {
        for lane in 0..self.kept.len() {
            if self.kept[lane].hold.is_kept() {
                self.give_up(region, lane);
            }
        }
    }

    fn take(
        &mut self,
        region: &Region,
        lane: usize,
        is_dead: &mut impl FnMut(u64) -> bool,
    ) -> Found {
        let taker = self.taker(region, lane);
        // Acquire: BUSY of who is named here is not older. Only the compare-exchange decides.
        let mut from = Hold::from_word(taker.load(Ordering::Acquire));
        // A lane that is mine by a lie, or by a taker that died after it unkept it, is free.
        let holder = from.seat().filter(|seat| *seat != self.seat);
        let dead = holder.is_some_and(|seat| self.is_gone(region, seat, is_dead));
        // Of the dead also an empty lane, for the room that it may have failed to give back.
        if !dead && is_empty(&self.shape, region, lane) {
            return None;
        }
        if let Some(seat) = holder.filter(|_| !dead) {
            from = self.take_from(region, lane, from, seat)?;
        }
        let hold = from.taken(self.seat, self.alone);
        // Relaxed: released with TAKER, so that who sees me there sees me busy.
        self.busy(region).store(lane as u32 + 1, Ordering::Relaxed);
        // [QUEUE_TAKE] acquire. Release: BUSY. Relaxed on failure: nothing is read then.
        let taken = taker.compare_exchange(
            from.word(),
            hold.word(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            // Relaxed: nobody has looked for me there.
            self.busy(region).store(0, Ordering::Relaxed);
            return None;
        }
        self.begin(region, lane, hold, from.seat().is_some())
    }

    /// Whether the consumer in a seat is gone, or never was.
    fn is_gone(&self, region: &Region, seat: usize, is_dead: &mut impl FnMut(u64) -> bool) -> bool {
        let who = (seat < self.shape.seats()).then(|| self.shape.seat(seat).who(region));
        who.is_none_or(|who| who == 0 || is_dead(who))
    }

    /// Makes sure that a living consumer is not inside a lane, and won't go in unseen. Answers what
    /// TAKER must still be when it is taken.
    #[cold]
    fn take_from(&self, region: &Region, lane: usize, from: Hold, seat: usize) -> Option<Hold> {
        let taker = self.taker(region, lane);
        let busy = region.u32(self.shape.busy(seat));
        // Acquire: as below. A hint: who is inside and not a keeper frees TAKER on its way out.
        let inside = |busy: u32| busy == lane as u32 + 1;
        if !from.is_kept() {
            // Relaxed, both: if TAKER is the same still, its holder was not inside, or went out
            // without freeing it.
            let is_inside = inside(busy.load(Ordering::Relaxed));
            if is_inside || taker.load(Ordering::Relaxed) != from.word() {
                return None;
            }
        }
        let unkept = if from.is_kept() {
            // Relaxed: ordered by the fence.
            let unkept = from.unkept();
            taker
                .compare_exchange(
                    from.word(),
                    unkept.word(),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .ok()?;
            unkept
        } else {
            from
        };
        // [QUEUE_KEEP]
        if !barrier::heavy() {
            return None;
        }
        // [QUEUE_TAKE] acquire.
        (!inside(busy.load(Ordering::Acquire))).then_some(unkept)
    }

    /// The first receipt after the lane was taken.
    fn begin(&mut self, region: &Region, lane: usize, hold: Hold, taken_over: bool) -> Found {
        let ring = self.shape.ring(lane);
        // Relaxed, all: only who holds the lane stores them.
        let load = |word| region.load_u64(self.shape.at(lane, word), Ordering::Relaxed);
        let progress = load(lane::PROGRESS) & !(LINE - 1);
        let before = load(lane::HAND);
        let in_hand = before.wrapping_sub(progress);
        let again = if in_hand <= self.shape.capacity() {
            before
        } else {
            progress
        };
        if taken_over {
            self.release(region, lane, progress);
        }
        let record = ring.record(region, progress);
        let Ok(Some(record)) = record else {
            self.free(region, lane, hold);
            self.ring(region, lane);
            return record.err().map(Err);
        };
        // Relaxed: as in `go_in`.
        region
            .u64(self.shape.at(lane, lane::HAND))
            .store(record.end.max(again), Ordering::Relaxed);
        if hold.is_kept() {
            let released = load(lane::RELEASED);
            self.kept[lane] = Kept {
                hold,
                ring,
                next: None,
                progress,
                released,
                again,
            };
        }
        self.hold(lane, record, again, hold);
        Some(Ok(()))
    }

    /// Takes the messages that follow the one in hand as well, up to `most` in all and about a
    /// quarter of the lane; answers how many it has. [`step`](Self::step) goes from one to the next.
    pub fn take_more(&self, region: &Region, most: usize) -> usize {
        let Held {
            lane,
            record,
            again,
            ..
        } = self.held;
        let ring = self.kept[lane].ring;
        let quarter = self.shape.capacity() / 4;
        let (mut count, mut end) = (1, record.end);
        while count < most && end.wrapping_sub(record.end) < quarter {
            // What is damaged is left for the next receipt.
            let Ok(Some(record)) = ring.record(region, end) else {
                break;
            };
            (count, end) = (count + 1, record.end);
        }
        let hand = region.u64(self.shape.at(lane, lane::HAND));
        // Relaxed: as in `go_in`.
        hand.store(end.max(again), Ordering::Relaxed);
        count
    }

    /// Goes from the message in hand to the one behind it; false if a peer has spoilt that.
    #[inline]
    pub fn step(&mut self, region: &Region) -> bool {
        let ring = self.kept[self.held.lane].ring;
        let Ok(Some(record)) = ring.record(region, self.held.record.end) else {
            return false;
        };
        self.held.record.offset = record.offset;
        self.held.record.length = record.length;
        self.held.record.end = record.end;
        self.held.count += 1;
        true
    }

    /// Finishes what is in hand, up to the end of the message where it is. The lane is free again,
    /// or still kept.
    #[inline]
    pub fn finish(&mut self, region: &Region) {
        let (lane, end, hold) = (self.held.lane, self.held.record.end, self.held.hold);
        self.look_around_in = self.look_around_in.saturating_sub(1);
        // Relaxed: released with BUSY, or with TAKER.
        region
            .u64(self.shape.at(lane, lane::PROGRESS))
            .store(end, Ordering::Relaxed);
        // Relaxed, both: for who looks from outside; only who holds the lane stores it.
        let received = region.u64(self.shape.at(lane, lane::RECEIVED));
        let count = received
            .load(Ordering::Relaxed)
            .wrapping_add(self.held.count);
        received.store(count, Ordering::Relaxed);
        if !hold.is_kept() {
            return self.finish_and_free(region, lane, end, hold);
        }
        let kept = &mut self.kept[lane];
        kept.progress = end;
        kept.next = kept.ring.record(region, end).ok().flatten();
        if is_time(self.shape.capacity(), kept.released, end, kept.next) {
            kept.released = end;
            self.release(region, lane, end);
        }
        self.go_out(region, lane);
    }

    fn finish_and_free(&mut self, region: &Region, lane: usize, end: u64, hold: Hold) {
        // Relaxed: only who holds the lane stores it.
        let released = region.load_u64(self.shape.at(lane, lane::RELEASED), Ordering::Relaxed);
        let next = self.kept[lane].ring.record(region, end).ok().flatten();
        if is_time(self.shape.capacity(), released, end, next) {
            self.release(region, lane, end);
        }
        self.free(region, lane, hold);
        self.ring(region, lane);
    }

    fn release(&self, region: &Region, lane: usize, end: u64) {
        // [LANE_RELEASE] release.
        region
            .u64(self.shape.at(lane, lane::RELEASED))
            .store(end, Ordering::Release);
        self.shape.space(region, lane).ring_light(|| true);
    }

    /// Frees a lane that is held and not kept, or not any more.
    fn free(&self, region: &Region, lane: usize, hold: Hold) {
        let taker = self.taker(region, lane);
        if hold.is_kept() {
            // [QUEUE_TAKE] release. It fails where it is unkept; then nobody is inside: free too.
            let freed = hold.freed().word();
            let order = (Ordering::Release, Ordering::Relaxed);
            if let Err(now) = taker.compare_exchange(hold.word(), freed, order.0, order.1) {
                let freed = Hold::from_word(now).freed().word();
                let _ = taker.compare_exchange(now, freed, order.0, order.1);
            }
        } else {
            // [QUEUE_TAKE] release. Nobody else changes it while I am busy.
            taker.store(hold.freed().word(), Ordering::Release);
        }
        // Release: who sees me out sees TAKER free.
        self.busy(region).store(0, Ordering::Release);
    }

    /// Another consumer may have gone to sleep over what this one held.
    #[inline]
    fn ring(&self, region: &Region, lane: usize) {
        self.shape.data(region).ring_light(|| {
            let attended = region.load_u64(layout::ATTENDED, Ordering::Relaxed);
            let owner = self.shape.owner(lane).who(region);
            attended > 1 && (owner == 0 || !is_empty(&self.shape, region, lane))
        });
    }

    #[inline]
    fn taker<'a>(&self, region: &'a Region, lane: usize) -> &'a AtomicU64 {
        region.u64(self.shape.at(lane, lane::TAKER))
    }

    #[inline]
    fn busy<'a>(&self, region: &'a Region) -> &'a AtomicU32 {
        region.u32(self.shape.busy(self.seat))
    }
}

/// Whether to give room back: seldom while there is more to come, so that a producer that waits for
/// room does not get it by the line; but nothing is kept back from a producer whose lane is empty.
#[inline]
fn is_time(capacity: u64, released: u64, end: u64, next: Option<Record>) -> bool {
    next.is_none() || end.wrapping_sub(released) >= capacity / 4
}

/// Frees what the last owner of a seat held when it died, for who has just taken the seat.
pub fn settle(shape: &Shape, region: &Region, seat: usize) {
    for lane in 0..shape.lanes() {
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
        shape.ring(lane).record(view, progress & !(LINE - 1)),
        Ok(None)
    )
}
