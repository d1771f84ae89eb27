//! Runs: the way of most messages of a `queue`, a handful of stores and loads. The protocol is told in
//! `queue_taker`.

use crate::glance::{Came, glance_for};
use crate::queue_kept::{Door, Lane};
use crate::queue_layout::seat;
use crate::queue_taker::Taking;
use crate::ring::{PUBLISHED, WORD};
use shmem::barrier::Registered;
use shmem::copy::SHORT;
use shmem::sync::Ordering;
use shmem::{Extent, Region, Walk};

/// Messages that are alike, one after the other: short ones of one length, through a lane that is kept,
/// none of which was handed out before to one that died. Where the next one ends is known before its
/// header is, and the processor can go on to the one behind it.
///
/// What else is to be looked at is looked at when a run begins, which goes no further than is right:
/// [`walk`](Self::walk) ends where the consumer's quota does, where room is to be given back, and at the
/// ring's end.
#[derive(Debug)]
pub(crate) struct Run {
    /// The header of each message.
    header: u64,
    /// [`Extent::NONE`] if there is no run.
    extent: Extent<WORD, SHORT>,
    pub(crate) walk: Walk,
    pub(crate) door: Door,
    /// Of which lane the two are.
    pub(crate) lane: usize,
    /// Where it began.
    from: u64,
    /// Where the next message is expected soon, as the one before came soon.
    soon: u64,
}

impl Run {
    /// None. What it has of a lane is as good as that of any other.
    pub(crate) fn none(lane: &Lane, number: usize) -> Self {
        Self {
            header: 0,
            extent: Extent::NONE,
            walk: Walk::new(lane.headers.clone()),
            door: lane.door.clone(),
            lane: number,
            from: 0,
            soon: u64::MAX,
        }
    }

    /// Whether there is one.
    #[inline(always)]
    pub(crate) fn is_any(&self) -> bool {
        self.extent != Extent::NONE
    }
}

/// What became of looking for the next message of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// There is none such.
    Nothing,
    Received,
    /// The same two, and somebody wants the lane, or room in it: see [`Taking::settle_short`].
    Refused,
    ReceivedLast,
}

impl Taking {
    /// Receives the next message of a run instead of what `to` has.
    ///
    /// What happens seldom is left to the caller, who does it in a function of its own: a call here would cost each
    /// message the registers that are kept over it, a tenth of all there is to do.
    #[inline(always)]
    pub(crate) fn recv_short(&mut self, registered: Registered, to: &mut Vec<u8>) -> Short {
        let Run {
            header,
            extent,
            walk,
            door,
            ..
        } = &mut self.run;
        let Some(ahead) = walk.ahead(*extent) else {
            return Short::Nothing;
        };
        // [LANE_PUBLISH] acquire.
        if ahead.word(0).load(Ordering::Acquire) != *header {
            return Short::Nothing;
        }
        let Some(mut message) = ahead.replacing(to) else {
            return Short::Nothing;
        };
        let busy = self.seat_words.u32(seat::BUSY);
        if !door.go_in(|| registered.light(), busy) {
            return Short::Refused;
        }
        message.replace();
        door.finish(message.pass(), 1);
        if door.go_out(|| registered.light(), busy) {
            Short::Received
        } else {
            Short::ReceivedLast
        }
    }

    /// Whether a message was received, when all that it takes is done.
    #[inline]
    pub(crate) fn settle_short(&mut self, region: &Region, short: Short) -> bool {
        if matches!(short, Short::Refused | Short::ReceivedLast) {
            self.recv_unusual(region);
        }
        matches!(short, Short::Received | Short::ReceivedLast)
    }

    /// [`recv_short`](Self::recv_short) that looks for a moment whether the message comes. It goes in before, so
    /// that there is little left to be done when it comes.
    #[inline(always)]
    pub(crate) fn recv_soon(
        &mut self,
        region: &Region,
        registered: Registered,
        to: &mut Vec<u8>,
    ) -> bool {
        if self.shape.used(region) != 1 {
            return false;
        }
        let Run {
            header,
            extent,
            walk,
            door,
            soon,
            ..
        } = &mut self.run;
        let (header, busy) = (*header, self.seat_words.u32(seat::BUSY));
        let is_soon = walk.position() == *soon;
        let Some(mut message) = walk.ahead(*extent).and_then(|ahead| ahead.replacing(to)) else {
            return false;
        };
        // Relaxed: a hint. Another one than those of the run is received in another way.
        if message.ahead().word(0).load(Ordering::Relaxed) != 0 {
            return false;
        }
        if !door.go_in(|| registered.light(), busy) {
            self.recv_unusual(region);
            return false;
        }
        let mut found = 0;
        let came = glance_for(is_soon, || {
            // [LANE_PUBLISH] acquire.
            found = message.ahead().word(0).load(Ordering::Acquire);
            found != 0
        });
        let is_it = found == header;
        if is_it {
            message.replace();
            let end = message.pass();
            door.finish(end, 1);
            *soon = if came == Came::Soon { end } else { u64::MAX };
        }
        if !door.go_out(|| registered.light(), busy) {
            self.recv_unusual(region);
        }
        is_it
    }

    /// Somebody wants the lane, or room in it.
    #[cold]
    #[inline(never)]
    fn recv_unusual(&mut self, region: &Region) {
        self.end_run();
        self.go_out(region, self.lane);
    }

    /// Begins a run of messages as long as the one that was just received, as far as it may go.
    pub(crate) fn begin_run(&mut self, length: usize) {
        let lane = &self.lanes[self.lane];
        let run = &mut self.run;
        let Some(extent) = Extent::of(length, WORD).filter(|_| lane.door.hold.is_kept()) else {
            return;
        };
        if run.lane != self.lane {
            *run = Run::none(lane, self.lane);
        }
        let room = lane
            .quarter
            .saturating_sub(lane.progress.wrapping_sub(lane.released));
        run.walk.go_to(lane.progress);
        run.walk
            .begin(room.min(u64::from(self.left) * extent.size()));
        run.door.hold = lane.door.hold;
        run.header = PUBLISHED | length as u64;
        (run.extent, run.from) = (extent, lane.progress);
    }

    /// Ends the run, if there is one: what it took counts.
    #[inline]
    pub(crate) fn end_run(&mut self) {
        if self.run.is_any() {
            self.end_that_run();
        }
    }

    fn end_that_run(&mut self) {
        let extent = std::mem::replace(&mut self.run.extent, Extent::NONE);
        let taken = self.run.walk.position().wrapping_sub(self.run.from) / extent.size();
        self.left = self.left.saturating_sub(taken as u32);
        self.lanes[self.run.lane].progress = self.run.walk.position();
    }
}
