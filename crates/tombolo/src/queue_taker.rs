//! Taking messages from the lanes of a `queue`: each by one consumer, whoever dies.
//!
//! # Protocol
//! A consumer takes a lane for the time of one receipt: TAKER from 0 to its identity by
//! compare-exchange; then PROGRESS tells where the next message is; HAND is stored behind it, and
//! the message handed out. When the consumer is done with it, it stores PROGRESS, gives room back
//! to the producer from time to time (RELEASED), and stores TAKER as 0. Before it takes a lane it
//! looks whether there is anything, so lanes without messages cost two loads.
//!
//! - `[QUEUE_TAKE]` Who takes a lane sees what the one before it stored: PROGRESS above all. TAKER
//!   is released by the store of 0 and acquired by the compare-exchange. Weaker, a message is
//!   received twice.
//!
//! TAKER holds the identity of a process and not the number of a seat: a seat is given to another
//! consumer when its owner dies, so a compare-exchange *from* its number could take a lane away
//! from the living; an identity never comes back.
//!
//! # Crash
//! A lane whose taker is dead is taken over by compare-exchange from that very identity; only one
//! can win. By the taker's last store it died
//!
//! | after | PROGRESS, HAND | what happens |
//! | --- | --- | --- |
//! | TAKER, before HAND | HAND ≤ PROGRESS | it saw nothing: delivered as if for the first time |
//! | HAND | PROGRESS < HAND | it may have seen what lies between: delivered again, marked |
//! | PROGRESS | HAND ≤ PROGRESS | it was done: not delivered again |
//!
//! Who takes over gives all room back that is free, which the dead one may have failed to do.
//!
//! # Hostile bytes
//! Positions are masked to lines and into the ring; a lie about them yields wrong messages of that
//! lane, or damage. A TAKER that is no identity counts as dead.

use crate::lane::{Damaged, LINE, Record};
use crate::queue_layout::{Shape, lane, layout};
use shmem::Region;
use shmem::sync::Ordering;

/// How many receipts a consumer stays on a lane that always has messages.
const QUOTA: u32 = if cfg!(loom) { 1 } else { 64 };

/// Messages in hand: the lane is taken until they are [finished](Taking::finish).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which lane.
    pub lane: usize,
    /// Where the first message is.
    pub record: Record,
    /// What lies before this position was handed out to a consumer that died.
    pub again: u64,
    /// What is finished when this is.
    pub end: u64,
}

/// One consumer's way of going round the lanes.
#[derive(Clone, Copy, Debug)]
pub struct Taking {
    shape: Shape,
    me: u64,
    lane: usize,
    left: u32,
}

impl Taking {
    /// For the consumer with the identity `me`. Consumers that begin at different lanes get into
    /// each other's way less.
    pub fn new(shape: Shape, me: u64, lane: usize) -> Self {
        Self {
            shape,
            me,
            lane,
            left: QUOTA,
        }
    }

    /// The identity of the consumer.
    #[cfg(test)]
    pub fn me(&self) -> u64 {
        self.me
    }

    /// Takes the next message, `None` if there is none that nobody else is taking.
    ///
    /// `is_dead` says whether a taker with that word is dead; it is asked only about lanes that
    /// somebody holds.
    #[inline]
    pub fn find(
        &mut self,
        region: &Region,
        mut is_dead: impl FnMut(u64) -> bool,
    ) -> Option<Result<Held, Damaged>> {
        let used = self.shape.used(region);
        let first = if self.lane < used { self.lane } else { 0 };
        for lane in (first..used).chain(0..first) {
            let taken = self.take(region, lane, &mut is_dead);
            if taken.is_none() {
                continue;
            }
            if lane != self.lane {
                (self.lane, self.left) = (lane, QUOTA);
            }
            self.left -= 1;
            // A damaged lane does not keep a consumer from the others.
            if self.left == 0 || matches!(taken, Some(Err(_))) {
                (self.lane, self.left) = (lane + 1, QUOTA);
            }
            return taken;
        }
        None
    }

    #[inline]
    fn take(
        &self,
        region: &Region,
        lane: usize,
        is_dead: &mut impl FnMut(u64) -> bool,
    ) -> Option<Result<Held, Damaged>> {
        let taker = region.u64(self.shape.at(lane, lane::TAKER));
        // Relaxed: only the compare-exchange decides.
        let from = taker.load(Ordering::Relaxed);
        let free = from == 0;
        if free && is_empty(&self.shape, region, lane) || !free && !is_dead(from) {
            return None;
        }
        // [QUEUE_TAKE] acquire. Relaxed on failure: nothing is read then.
        taker
            .compare_exchange(from, self.me, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        // Relaxed, all three: only the taker stores them.
        let progress = region.load_u64(self.shape.at(lane, lane::PROGRESS), Ordering::Relaxed);
        let hand = region.u64(self.shape.at(lane, lane::HAND));
        let progress = progress & !(LINE - 1);
        let before = hand.load(Ordering::Relaxed);
        let in_hand = before.wrapping_sub(progress);
        let again = if in_hand <= self.shape.capacity() {
            before
        } else {
            progress
        };
        if !free {
            self.release(region, lane, progress);
        }
        match self.shape.ring(lane).record(region, progress) {
            Ok(Some(record)) => {
                let end = record.end;
                // Relaxed: whatever the message leads to is seen by others through a system call
                // or a release, which is later.
                hand.store(end.max(again), Ordering::Relaxed);
                Some(Ok(Held {
                    lane,
                    record,
                    again,
                    end,
                }))
            }
            Ok(None) => {
                self.give_back(region, lane);
                None
            }
            Err(damaged) => {
                self.give_back(region, lane);
                Some(Err(damaged))
            }
        }
    }

    /// Takes the messages that follow the one in hand as well, up to `most` in all and about a
    /// quarter of the lane; answers how many it has.
    pub fn take_more(&self, region: &Region, held: &Held, most: usize) -> usize {
        let ring = self.shape.ring(held.lane);
        let quarter = self.shape.capacity() / 4;
        let (mut count, mut end) = (1, held.end);
        while count < most && end.wrapping_sub(held.end) < quarter {
            // What is damaged is left for the next receipt.
            let Ok(Some(record)) = ring.record(region, end) else {
                break;
            };
            (count, end) = (count + 1, record.end);
        }
        let hand = region.u64(self.shape.at(held.lane, lane::HAND));
        // Relaxed: as in `take`.
        hand.store(end.max(held.again), Ordering::Relaxed);
        count
    }

    /// The message behind the one in hand, in a lane that this consumer holds.
    #[inline]
    pub fn next(&self, region: &Region, held: &Held) -> Option<Record> {
        self.shape
            .ring(held.lane)
            .record(region, held.end)
            .ok()
            .flatten()
    }

    /// Finishes what is in hand up to its end, and gives the lane back.
    #[inline]
    pub fn finish(&self, region: &Region, held: &Held) {
        let (lane, end) = (held.lane, held.end);
        // Relaxed: released with TAKER.
        region
            .u64(self.shape.at(lane, lane::PROGRESS))
            .store(end, Ordering::Relaxed);
        let released = region.load_u64(self.shape.at(lane, lane::RELEASED), Ordering::Relaxed);
        // Seldom while there is more to come, so that a producer that waits for room does not get
        // it by the line; but nothing is kept back from a producer whose lane is empty.
        let much = end.wrapping_sub(released) >= self.shape.capacity() / 4;
        if much || is_empty(&self.shape, region, lane) {
            self.release(region, lane, end);
        }
        self.give_back(region, lane);
        let data = self.shape.data(region);
        // Another consumer may have gone to sleep over what this one held.
        data.ring_light(|| {
            let attended = region.load_u64(layout::ATTENDED, Ordering::Relaxed);
            let owner = self.shape.owner(lane).who(region);
            attended > 1 && (owner == 0 || !is_empty(&self.shape, region, lane))
        });
    }

    fn release(&self, region: &Region, lane: usize, end: u64) {
        // [LANE_RELEASE] release.
        region
            .u64(self.shape.at(lane, lane::RELEASED))
            .store(end, Ordering::Release);
        self.shape.space(region, lane).ring_light(|| true);
    }

    fn give_back(&self, region: &Region, lane: usize) {
        // [QUEUE_TAKE] release.
        region
            .u64(self.shape.at(lane, lane::TAKER))
            .store(0, Ordering::Release);
    }
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
