//! Runs: the way of most messages of a `topic`, a handful of stores and loads. The protocol is told in
//! `topic_tail`; runs of a `queue` are told in `queue_run`, and these are the same.

use crate::glance::{Came, glance_for};
use crate::ring::{LINE, PUBLISHED};
use crate::topic_head::{Point, is_beyond};
use crate::topic_layout::{HEADER, Shape, lane, record};
use crate::topic_policy::Policy;
#[cfg(not(loom))]
use crate::topic_subscriber::Subscriber;
use shmem::copy::SHORT;
use shmem::sync::{Ordering, fence};
use shmem::{Extent, Region, Walk, Window};

/// Messages that are alike, one after the other: short ones of one length, of one lane. Where the next one
/// ends is known before its header is.
///
/// [`walk`](Self::walk) ends where the subscriber's quota does, where room is to be given back, and at the
/// ring's end. Only who may write has runs, because it walks words.
#[derive(Debug)]
pub(crate) struct Run {
    /// The header of each message.
    header: u64,
    /// [`Extent::NONE`] if there is no run.
    extent: Extent<HEADER, SHORT>,
    walk: Walk,
    words: Window<{ lane::LAYOUT.size }>,
    /// Of which lane the two are.
    pub(crate) lane: usize,
    /// Where the publisher may lap it at all: the ring's length.
    lapped_by: Option<u64>,
    /// Where it began, and the number of the next message.
    from: u64,
    number: u64,
    /// Where the next message is expected soon, as the one before came soon.
    soon: u64,
}

impl Run {
    /// None. What it has of a lane is as good as that of any other.
    pub(crate) fn none(shape: &Shape, region: &Region, lane: usize) -> Self {
        Self {
            header: 0,
            extent: Extent::NONE,
            walk: Walk::new(shape.ring(lane).words(region)),
            words: Window::new(region, shape.at(lane, 0)),
            lane,
            lapped_by: (shape.policy() == Policy::Overrun).then(|| shape.capacity()),
            from: 0,
            number: 0,
            soon: u64::MAX,
        }
    }

    /// What one is of whose messages have `length` bytes; `None` if they are too long.
    #[inline(always)]
    pub(crate) fn extent(length: usize) -> Option<Extent<HEADER, SHORT>> {
        Extent::of(length, LINE)
    }

    /// Begins one at a point, of messages of that extent: no further than `most` bytes, or `count` messages.
    pub(crate) fn begin(
        &mut self,
        at: Point,
        extent: Extent<HEADER, SHORT>,
        most: u64,
        count: u32,
    ) {
        self.walk.go_to(at.position);
        self.walk.begin(most.min(u64::from(count) * extent.size()));
        (self.header, self.extent) = (PUBLISHED | extent.length() as u64, extent);
        (self.from, self.number) = (at.position, at.number);
    }

    /// Copies the next message instead of what `to` has, and goes behind it; answers its number. `None` if there is
    /// none such, or it does not count; what the buffer holds then is nonsense. Who `waits` looks for a moment whether
    /// it comes.
    #[inline(always)]
    pub(crate) fn recv(&mut self, to: &mut Vec<u8>, waits: impl FnOnce() -> bool) -> Option<u64> {
        let position = self.walk.position();
        let ahead = self.walk.ahead(self.extent)?;
        // [LANE_PUBLISH] acquire, both.
        let mut found = ahead.word(record::HEADER as u64).load(Ordering::Acquire);
        let came = (found == 0 && waits()).then(|| {
            glance_for(position == self.soon, || {
                found = ahead.word(record::HEADER as u64).load(Ordering::Acquire);
                found != 0
            })
        });
        if found != self.header {
            return None;
        }
        let mut message = ahead.replacing(to)?;
        message.replace();
        // Relaxed: acquired with the header.
        let number = message
            .ahead()
            .word(record::NUMBER as u64)
            .load(Ordering::Relaxed);
        if let Some(capacity) = self.lapped_by {
            // [TOPIC_TEAR] acquire: what was read before the claim.
            fence(Ordering::Acquire);
            // [TOPIC_MARK] acquire.
            let claimed = self.words.u64(lane::CLAIMED).load(Ordering::Acquire);
            if is_beyond(claimed, position, capacity) {
                return None;
            }
        }
        if number != self.number {
            return None;
        }
        let end = message.pass();
        if let Some(came) = came {
            self.soon = if came == Came::Soon { end } else { u64::MAX };
        }
        self.number = number.wrapping_add(1);
        Some(number)
    }

    /// Ends it, if there is one. Answers where, and how many messages it took.
    pub(crate) fn end(&mut self) -> Option<(Point, u64)> {
        let extent = std::mem::replace(&mut self.extent, Extent::NONE);
        let position = self.walk.position();
        let point = Point {
            position,
            number: self.number,
        };
        let taken = position.wrapping_sub(self.from) / extent.size();
        (extent != Extent::NONE).then_some((point, taken))
    }
}

#[cfg(not(loom))]
impl Subscriber {
    /// Begins a run of messages like the one that was just received, if there can be one: no further than
    /// `most` bytes.
    pub(crate) fn begin_run(&mut self, length: usize, most: u64) {
        let (Some(run), Some(extent)) = (&mut self.run, Run::extent(length)) else {
            return;
        };
        if run.lane != self.lane {
            let Some(region) = &self.door else {
                return;
            };
            *run = Run::none(&self.channel.shape, region, self.lane);
        }
        run.begin(self.heads[self.lane].point(), extent, most, self.left);
    }

    /// Ends the run, if there is one: what it took counts.
    #[inline]
    pub(crate) fn end_run(&mut self) {
        if let Some(run) = &mut self.run
            && let Some((point, taken)) = run.end()
        {
            let lane = run.lane;
            self.heads[lane].go_to(point);
            self.received = self.received.wrapping_add(taken);
            self.left = self.left.saturating_sub(taken as u32);
            self.count_down(taken as u32);
        }
    }
}
