//! From a message of a `queue` in hand to the one behind it, which is in hand then too.

use crate::lane::PLAIN;
use crate::queue_layout::lane;
use crate::queue_run::Run;
use crate::queue_taker::Taking;
use crate::ring::{PUBLISHED, WORD};
use shmem::sync::Ordering;
use shmem::{Extent, Region};

/// Messages in hand that are alike, one after the other: short ones of one length, none of which was handed out
/// before to one that died. As in a [`Run`], but for those that are handed out where they lie, whoever holds the
/// lane. There is never one of each, and a row goes by the walk of the run that there might be.
#[derive(Debug)]
pub(crate) struct Row {
    /// The header of each message.
    header: u64,
    /// [`Extent::NONE`] if there is no row.
    extent: Extent<WORD, PLAIN>,
}

impl Row {
    pub(crate) const NONE: Self = Self {
        header: 0,
        extent: Extent::NONE,
    };

    /// Whether there is one.
    #[cfg(all(test, loom))]
    pub(crate) fn is_any(&self) -> bool {
        self.extent != Extent::NONE
    }

    /// Ends it.
    #[inline(always)]
    pub(crate) fn end(&mut self) {
        self.extent = Extent::NONE;
    }
}

impl Taking {
    /// Goes from the message in hand to the one behind it in the lane, if there is one: it is in hand
    /// too. No further than about a quarter of the lane, or the producer would wait for the end of
    /// it. What is damaged is left for the next receipt.
    #[inline(always)]
    pub fn step(&mut self, region: &Region) -> bool {
        let Row { header, extent } = &self.row;
        let Run { walk, door, .. } = &mut self.run;
        // Where one ends that is as long as the one before is known before its header is, and the processor
        // goes on to the next.
        if let Some(ahead) = walk.ahead(*extent)
            // [LANE_PUBLISH] acquire.
            && ahead.word(0).load(Ordering::Acquire) == *header
        {
            let end = ahead.pass();
            // Relaxed: as in `Lane::hand_out`.
            door.words.u64(lane::HAND).store(end, Ordering::Relaxed);
            self.held.record.offset += extent.size() as usize;
            self.held.record.end = end;
            self.held.count += 1;
            return true;
        }
        self.step_apart(region)
    }

    /// To one that is not alike, or the second.
    #[inline(never)]
    fn step_apart(&mut self, region: &Region) -> bool {
        self.row.end();
        let end = self.held.record.end;
        let lane = &self.lanes[self.held.lane];
        if end.wrapping_sub(self.held.from) >= lane.quarter {
            return false;
        }
        // [LANE_PUBLISH] acquire.
        let header = lane.headers.word(end).load(Ordering::Acquire);
        let found = lane.ring.sound(header, end);
        // By this header and no other: behind padding it is looked at again, and a peer may have changed it.
        let is_alike = found.is_some() && header == PUBLISHED | self.held.record.length as u64;
        let record = match found {
            // Padding, perhaps.
            None if header != 0 => lane.ring.record(region, end).ok().flatten(),
            found => found,
        };
        let Some(record) = record else {
            return false;
        };
        // Relaxed: as in `Lane::hand_out`.
        let hand = lane.door.words.u64(lane::HAND);
        hand.store(record.end.max(self.held.again), Ordering::Relaxed);
        self.held.record.offset = record.offset;
        self.held.record.length = record.length;
        self.held.record.end = record.end;
        self.held.count += 1;
        if is_alike {
            self.begin_row(header);
        }
        true
    }

    /// Begins a row of messages like the one in hand, which is like the one before, if it is short.
    fn begin_row(&mut self, header: u64) {
        let (record, number) = (self.held.record, self.held.lane);
        let lane = &self.lanes[number];
        // What stands behind it, and not at the ring's beginning.
        let is_behind = lane.ring.left_behind(record.end) < lane.ring.capacity;
        if !is_behind || self.held.again > record.end {
            return;
        }
        let Some(extent) = Extent::of(record.length, WORD) else {
            return;
        };
        if self.run.lane != number {
            self.run = Run::none(lane, number);
        }
        let walk = &mut self.run.walk;
        walk.go_to(record.end);
        let gone = record.end.wrapping_sub(self.held.from);
        walk.begin(lane.quarter.saturating_sub(gone));
        self.row = Row { header, extent };
    }
}
