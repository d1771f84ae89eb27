//! A lane as one consumer has it, and the way of a message through one that it keeps: nothing that
//! needs others, a handful of stores and loads. The protocol is told in `queue_taker`.

#[cfg(not(loom))]
use crate::glance::glance;
use crate::queue_hold::Hold;
use crate::queue_layout::{Shape, lane, seat};
use crate::queue_taker::{QUOTA, Taking};
use crate::ring::{Record, Ring};
use shmem::barrier::Registered;
use shmem::copy::SHORT as COPIED_HERE;
use shmem::sync::{AtomicU32, Ordering};
use shmem::wait::layout as bell;
use shmem::{Circle, Region, Window};

/// A lane as this consumer has it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub number: usize,
    pub words: Window<{ lane::LAYOUT.size }>,
    pub ring: Ring,
    pub headers: Circle,
    /// What TAKER must be as long as this consumer keeps the lane.
    pub hold: Hold,
    /// What nobody else changes while it is kept.
    pub progress: u64,
    pub released: u64,
    /// What lies before this position was handed out to a consumer that died.
    pub again: u64,
    /// So much room is given back at a time.
    pub quarter: u64,
}

impl Taking {
    /// Receives the next message of the lane where this consumer is instead of what `to` has, if it keeps
    /// that lane and there is one: one like the last, which was short, and for which there is room in `to`. False if
    /// there is none such. Who `waits` looks for a moment whether it comes: here, where all is ready for
    /// it, and not on the way of those that come seldom.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn recv_short(
        &mut self,
        region: &Region,
        registered: Registered,
        to: &mut Vec<u8>,
        waits: bool,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(self.lane) else {
            return false;
        };
        let Alike { header, length } = self.alike;
        let place = lane.headers.place(lane.progress);
        // [LANE_PUBLISH] acquire, both.
        let mut found = place.word.load(Ordering::Acquire);
        if found == 0 && waits && self.alike.is_any() && self.shape.used(region) == 1 {
            glance(|| {
                found = place.word.load(Ordering::Acquire);
                found != 0
            });
        }
        if found != header || length > COPIED_HERE as u64 {
            return false;
        }
        let Some(message) = place.bytes(length).and_then(|bytes| bytes.replacing(to)) else {
            return false;
        };
        let end = lane.progress.wrapping_add(Ring::size_of_plain(length));
        let busy = self.seat_words.u32(seat::BUSY);
        if !lane.go_in(|| registered.light(), busy) {
            self.go_out(region, self.lane);
            return false;
        }
        message.replace();
        lane.finish(end, 1);
        let usual = lane.go_out(|| registered.light(), busy);
        // None may be left: a message that was taken in hand counts too.
        self.left = self.left.saturating_sub(1);
        if !usual || self.left == 0 {
            self.recv_unusual(region);
        }
        true
    }

    #[cold]
    #[inline(never)]
    fn recv_unusual(&mut self, region: &Region) {
        if self.left == 0 {
            self.renew(region);
        }
        self.go_out_slowly(region, self.lane);
    }

    /// A quota that ran out: the others are next, if there are any, and at times a look whether other
    /// consumers came.
    fn renew(&mut self, region: &Region) {
        if self.shape.used(region) == 1 && self.look_around_in > QUOTA {
            self.look_around_in -= QUOTA;
            (self.left, self.quota) = (QUOTA, QUOTA);
        } else {
            self.alike = Alike::NONE;
        }
    }

    /// Receives the next message of the lane where this consumer is, if it keeps that and there is
    /// one; `each` gets it. Answers whether a consumer had it in hand when it died.
    #[inline(always)]
    pub(crate) fn recv_any(
        &mut self,
        region: &Region,
        registered: Registered,
        each: impl FnOnce(Record),
    ) -> Option<bool> {
        let lane = self.lanes.get_mut(self.lane)?;
        if self.left == 0 || !lane.hold.is_kept() {
            return None;
        }
        // [LANE_PUBLISH] acquire.
        let header = lane.headers.word(lane.progress).load(Ordering::Acquire);
        let record = lane.ring.sound(header, lane.progress)?;
        // Positions: what ends before the mark was handed out.
        let (end, redelivered) = (record.end, lane.again >= record.end);
        let short = record.length <= COPIED_HERE && Ring::is_plain(header) && lane.again <= end;
        let length = record.length as u64;
        let busy = self.seat_words.u32(seat::BUSY);
        if !lane.go_in(|| registered.light(), busy) {
            self.go_out(region, self.lane);
            return None;
        }
        each(record);
        lane.finish(end, 1);
        let usual = lane.go_out(|| registered.light(), busy);
        self.alike = if short {
            Alike { header, length }
        } else {
            Alike::NONE
        };
        self.left -= 1;
        if !usual || self.left == 0 {
            self.recv_unusual(region);
        }
        Some(redelivered)
    }
}

/// The last message, for the next may be like it: then where that ends is known before its header
/// is, and the processor can go on to the one behind it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(loom, expect(dead_code, reason = "loom models the way of all others"))]
pub(crate) struct Alike {
    /// Its header: of a short message in the lane where the consumer is, which it keeps, and of which
    /// no message was handed out before to one that died.
    header: u64,
    length: u64,
}

impl Alike {
    /// None is like it: no header is so.
    pub(crate) const NONE: Self = Self {
        header: u64::MAX,
        length: 0,
    };

    /// Whether there may be a message like it.
    #[cfg_attr(loom, expect(dead_code, reason = "as for all of this"))]
    #[inline(always)]
    pub(crate) fn is_any(&self) -> bool {
        self.header != Self::NONE.header
    }
}

impl Lane {
    pub(crate) fn new(shape: &Shape, region: &Region, number: usize) -> Self {
        let ring = shape.ring(number);
        Self {
            number,
            words: Window::new(region, shape.at(number, 0)),
            ring,
            headers: ring.words(region),
            hold: Hold::default(),
            progress: 0,
            released: 0,
            again: 0,
            quarter: shape.capacity() / 4,
        }
    }

    /// The message at PROGRESS of a lane that is kept.
    #[inline(always)]
    pub(crate) fn next(&self) -> Option<Record> {
        self.ring.message(&self.headers, self.progress)
    }

    /// Into the lane, past a `light` fence; false if it is kept no more, and then who called goes out
    /// again.
    #[inline(always)]
    pub(crate) fn go_in(&self, light: impl FnOnce(), busy: &AtomicU32) -> bool {
        // Relaxed: ordered by the fence.
        busy.store(self.number as u32 + 1, Ordering::Relaxed);
        // [QUEUE_KEEP]
        light();
        self.is_kept()
    }

    /// Tells, before it is, that what ends at a position is handed out. What is copied is not: it is
    /// finished before anybody sees the copy.
    #[inline(always)]
    pub(crate) fn hand_out(&self, end: u64) {
        // Relaxed: whatever the message leads to is seen by others through a system call or a
        // release, which is later.
        let hand = self.words.u64(lane::HAND);
        hand.store(end.max(self.again), Ordering::Relaxed);
    }

    /// Finishes so many messages, up to a position.
    #[inline(always)]
    pub(crate) fn finish(&mut self, end: u64, count: u64) {
        self.progress = end;
        // [LANE_RELEASE] release, for a producer that looks closer. It goes on to the next holder
        // with BUSY.
        self.words.u64(lane::PROGRESS).store(end, Ordering::Release);
        // Relaxed, both: for who looks from outside; only who holds the lane stores it.
        let received = self.words.u64(lane::RECEIVED);
        let count = received.load(Ordering::Relaxed).wrapping_add(count);
        received.store(count, Ordering::Relaxed);
    }

    /// Out of the lane. Whether nothing else is to be done: it is still kept, its producer does not
    /// sleep, and there is no room to give back.
    #[inline(always)]
    pub(crate) fn go_out(&self, light: impl FnOnce(), busy: &AtomicU32) -> bool {
        // [QUEUE_TAKE] release.
        busy.store(0, Ordering::Release);
        // [QUEUE_KEEP], and [BELL_PARK] for the producer: PROGRESS was stored before.
        light();
        // Relaxed: ordered by the fence.
        let parked = self.words.u32(lane::SPACE + bell::PARKED);
        let parked = parked.load(Ordering::Relaxed) != 0;
        self.is_kept() && !parked && self.progress.wrapping_sub(self.released) < self.quarter
    }

    /// Whether a lane that this consumer kept is still kept by it.
    #[inline(always)]
    pub(crate) fn is_kept(&self) -> bool {
        // Relaxed: ordered by a fence before.
        self.words.u64(lane::TAKER).load(Ordering::Relaxed) == self.hold.word()
    }
}
