//! A lane as one consumer has it, and the way of a message through one that it keeps. The protocol is told
//! in `queue_taker`.

use crate::coming::{Announced, Coming};
use crate::queue_hold::Hold;
use crate::queue_layout::{Shape, lane, seat};
use crate::queue_taker::{QUOTA, Taking};
use crate::ring::{Record, Ring};
use shmem::barrier::Registered;
use shmem::sync::{AtomicU32, Ordering};
#[cfg(not(loom))]
use shmem::wait::Patience;
use shmem::wait::layout as bell;
use shmem::{Circle, Region, Window};

/// A lane as this consumer has it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub ring: Ring,
    pub headers: Circle,
    pub door: Door,
    /// What nobody else changes while it is kept, both; in a run `progress` is where that began.
    pub progress: u64,
    pub released: u64,
    /// What lies before this position was handed out to a consumer that died.
    pub again: u64,
    /// So much room is given back at a time.
    pub quarter: u64,
}

/// What is looked at and stored to go into a lane and out of it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub words: Window<{ lane::LAYOUT.size }>,
    /// What BUSY is inside.
    inside: u32,
    /// What TAKER must be as long as this consumer keeps the lane.
    pub hold: Hold,
}

impl Taking {
    /// A quota that ran out: the others are next, if there are any, and at times a look whether other
    /// consumers came.
    fn renew(&mut self, region: &Region) {
        if self.shape.used(region) == 1 && self.look_around_in > QUOTA {
            self.look_around_in -= QUOTA;
            (self.left, self.quota) = (QUOTA, QUOTA);
        }
    }

    /// Receives the next message of the lane where this consumer is, if it keeps that and there is
    /// one; `each` gets it. Answers whether a consumer had it in hand when it died.
    #[inline(always)]
    pub(crate) fn recv_any(
        &mut self,
        region: &Region,
        registered: Registered,
        each: impl FnOnce(&Lane, Record),
    ) -> Option<bool> {
        self.end_run();
        if self.left == 0 {
            self.renew(region);
        }
        let lane = self.lanes.get_mut(self.lane)?;
        if self.left == 0 || !lane.door.hold.is_kept() {
            return None;
        }
        // [LANE_PUBLISH] acquire.
        let header = lane.headers.word(lane.progress).load(Ordering::Acquire);
        let record = match lane.ring.sound(header, lane.progress) {
            // Behind padding, perhaps.
            None if header != 0 => lane.ring.record(region, lane.progress).ok().flatten(),
            found => found,
        }?;
        // Positions: what ends before the mark was handed out.
        let (end, redelivered) = (record.end, lane.again >= record.end);
        let (length, again) = (record.length, lane.again);
        let busy = self.seat_words.u32(seat::BUSY);
        if !lane.door.go_in(|| registered.light(), busy) {
            self.go_out(region, self.lane);
            return None;
        }
        each(lane, record);
        lane.finish(end, 1);
        let usual = lane.go_out(|| registered.light(), busy);
        self.left -= 1;
        if !usual {
            self.go_out_slowly(region, self.lane);
        }
        if again <= end {
            self.begin_run(length);
        }
        Some(redelivered)
    }
}

impl Lane {
    pub(crate) fn new(shape: &Shape, region: &Region, number: usize) -> Self {
        let ring = shape.ring(number);
        Self {
            ring,
            door: Door {
                words: Window::new(region, shape.at(number, 0)),
                inside: number as u32 + 1,
                hold: Hold::default(),
            },
            headers: ring.words(region),
            progress: 0,
            released: 0,
            again: 0,
            quarter: shape.capacity() / 4,
        }
    }

    /// The next message of a lane that is kept.
    #[inline(always)]
    pub(crate) fn next(&self) -> Option<Record> {
        self.ring.message(&self.headers, self.progress)
    }

    /// What was announced last.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn announced(&self) -> Announced {
        Announced::now(&self.door.words)
    }

    /// The message that comes, if one was announced since then.
    #[inline]
    pub(crate) fn coming(&self, then: Announced) -> Option<Coming> {
        then.since(&self.door.words, &self.ring)
    }

    /// Copies that out as it comes: see [`Coming::follow`].
    #[cfg(not(loom))]
    pub(crate) fn follow(
        &self,
        coming: &mut Coming,
        region: &Region,
        to: &mut Vec<u8>,
        patience: Patience,
    ) {
        let header = self.headers.word(self.progress);
        // Relaxed: who takes the message looks again.
        let is_published = || header.load(Ordering::Relaxed) != 0;
        let Self { door, ring, .. } = self;
        coming.follow(region, &door.words, ring, to, patience, is_published);
    }

    /// Copies out a message that was taken, but for what was copied out as it came.
    #[cfg(not(loom))]
    pub(crate) fn complete(
        &self,
        coming: Coming,
        region: &Region,
        record: Record,
        to: &mut Vec<u8>,
    ) {
        coming.complete(region, &self.door.words, &self.ring, record, to);
    }

    /// Tells, before it is, that what ends at a position is handed out. What is copied is not: it is
    /// finished before anybody sees the copy.
    #[inline(always)]
    pub(crate) fn hand_out(&self, end: u64) {
        // Relaxed: whatever the message leads to is seen by others through a system call or a
        // release, which is later.
        let hand = self.door.words.u64(lane::HAND);
        hand.store(end.max(self.again), Ordering::Relaxed);
    }

    /// Finishes so many messages, up to a position.
    #[inline(always)]
    pub(crate) fn finish(&mut self, end: u64, count: u64) {
        self.progress = end;
        self.door.finish(end, count);
    }

    /// Out of the lane. Whether nothing else is to be done: see [`Door::go_out`], and there is no room to
    /// give back.
    #[inline(always)]
    pub(crate) fn go_out(&self, light: impl FnOnce(), busy: &AtomicU32) -> bool {
        self.door.go_out(light, busy) && self.progress.wrapping_sub(self.released) < self.quarter
    }
}

impl Door {
    /// Into the lane, past a `light` fence; false if it is kept no more, and then who called goes out
    /// again.
    #[inline(always)]
    pub(crate) fn go_in(&self, light: impl FnOnce(), busy: &AtomicU32) -> bool {
        // Relaxed: ordered by the fence.
        busy.store(self.inside, Ordering::Relaxed);
        // [QUEUE_KEEP]
        light();
        self.is_kept()
    }

    /// Finishes so many messages, up to a position.
    #[inline(always)]
    pub(crate) fn finish(&self, end: u64, count: u64) {
        // [LANE_RELEASE] release, for a producer that looks closer. It goes on to the next holder
        // with BUSY.
        self.words.u64(lane::PROGRESS).store(end, Ordering::Release);
        // Relaxed, both: for who looks from outside; only who holds the lane stores it.
        let received = self.words.u64(lane::RECEIVED);
        let count = received.load(Ordering::Relaxed).wrapping_add(count);
        received.store(count, Ordering::Relaxed);
    }

    /// Out of the lane. Whether it is still kept, and its producer does not sleep.
    #[inline(always)]
    pub(crate) fn go_out(&self, light: impl FnOnce(), busy: &AtomicU32) -> bool {
        // [QUEUE_TAKE] release.
        busy.store(0, Ordering::Release);
        // [QUEUE_KEEP], and [BELL_PARK] for the producer: PROGRESS was stored before.
        light();
        // Relaxed: ordered by the fence.
        let parked = self.words.u32(lane::SPACE + bell::PARKED);
        self.is_kept() && parked.load(Ordering::Relaxed) == 0
    }

    /// Whether a lane that this consumer kept is still kept by it.
    #[inline(always)]
    pub(crate) fn is_kept(&self) -> bool {
        // Relaxed: ordered by a fence before.
        self.words.u64(lane::TAKER).load(Ordering::Relaxed) == self.hold.word()
    }
}
