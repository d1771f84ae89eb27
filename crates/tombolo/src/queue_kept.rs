//! A lane as one consumer has it, and the way of a message through one that it keeps: nothing that
//! needs others, a handful of stores and loads. The protocol is told in `queue_taker`.

use crate::lane::{Record, Ring};
use crate::queue_hold::Hold;
use crate::queue_layout::{Shape, lane};
use shmem::sync::{AtomicU32, Ordering};
use shmem::wait::layout as bell;
use shmem::{Circle, Region, Window, barrier};

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
    pub received: u64,
    /// What lies before this position was handed out to a consumer that died.
    pub again: u64,
    /// So much room is given back at a time.
    pub quarter: u64,
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
            received: 0,
            again: 0,
            quarter: shape.capacity() / 4,
        }
    }

    /// The message at PROGRESS of a lane that is kept.
    #[inline(always)]
    pub(crate) fn next(&self) -> Option<Record> {
        self.ring.message(&self.headers, self.progress)
    }

    /// Into the lane, to hand out what lies before a position; false if it is kept no more, and then
    /// who called goes out again.
    #[inline(always)]
    pub(crate) fn go_in(&self, busy: &AtomicU32, end: u64) -> bool {
        // Relaxed: ordered by the fence.
        busy.store(self.number as u32 + 1, Ordering::Relaxed);
        // [QUEUE_KEEP]
        barrier::light();
        if !self.is_kept() {
            return false;
        }
        // Relaxed: whatever the message leads to is seen by others through a system call or a
        // release, which is later.
        let hand = self.words.u64(lane::HAND);
        hand.store(end.max(self.again), Ordering::Relaxed);
        true
    }

    /// Finishes so many messages, up to a position.
    #[inline(always)]
    pub(crate) fn finish(&mut self, end: u64, count: u64) {
        self.progress = end;
        // [LANE_RELEASE] release, for a producer that looks closer. It goes on to the next holder
        // with BUSY.
        self.words.u64(lane::PROGRESS).store(end, Ordering::Release);
        self.received = self.received.wrapping_add(count);
        // Relaxed: for who looks from outside; only who holds the lane stores it.
        let received = self.words.u64(lane::RECEIVED);
        received.store(self.received, Ordering::Relaxed);
    }

    /// Out of the lane. Whether nothing else is to be done: it is still kept, its producer does not
    /// sleep, and there is no room to give back.
    #[inline(always)]
    pub(crate) fn go_out(&self, busy: &AtomicU32) -> bool {
        // [QUEUE_TAKE] release.
        busy.store(0, Ordering::Release);
        // [QUEUE_KEEP], and [BELL_PARK] for the producer: PROGRESS was stored before.
        barrier::light();
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
