//! A message of a `topic` in place, and what there is to say about one.

use crate::ring::Record;
use crate::topic_subscriber::Subscriber;
use shmem::{Bytes, OutOfBounds};

/// A message that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) lane: usize,
    pub(crate) record: Record,
}

/// What there is to say about a message beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its publisher's lane. A publisher that comes takes the lane of one that left or died.
    pub lane: usize,
    /// Its number among the messages of the lane, from 0.
    pub number: u64,
    /// How many messages of the lane were lost directly before it, that this subscriber would have
    /// received had it been faster.
    pub lost: u64,
}

/// The message was overwritten while it was read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the publisher has overwritten the message while it was read; throw away what was read")]
pub struct Lapped;

/// A message in place. Peers can still write its bytes: look at each once, or copy them out first.
///
/// Where slow subscribers are overrun its publisher may do so too: what was read counts only if
/// [`check`](Self::check) says so afterwards.
#[derive(Debug)]
pub struct Delivery<'a> {
    pub(crate) subscriber: &'a mut Subscriber,
    pub(crate) found: Found,
    pub(crate) received: Received,
    pub(crate) lapped: bool,
}

impl Delivery<'_> {
    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.found.record.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, in place. Where slow subscribers are overrun nobody can promise that they stay as
    /// they are, so no plain slice can be made of them there.
    #[inline]
    pub fn bytes(&self) -> Bytes<'_> {
        let record = self.found.record;
        let bytes = Bytes::new(self.subscriber.channel.view(), record.offset, record.length);
        bytes.expect("the ring lies inside the region, and a record inside the ring")
    }

    /// What there is to say about it beyond its bytes.
    pub fn received(&self) -> Received {
        self.received
    }

    /// Copies a part of the message out.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is copied then.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.bytes().copy_out(offset, to)
    }

    /// Appends the message to a buffer.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        self.bytes().append_to(to);
    }

    /// Says whether everything that was read so far is of this message. Where slow subscribers are
    /// waited for it always is.
    ///
    /// # Errors
    /// [`Lapped`]; the message counts as lost then, and the next one tells so.
    #[inline]
    pub fn check(&mut self) -> Result<(), Lapped> {
        let Found { lane, record } = self.found;
        let subscriber = &self.subscriber;
        let whole = subscriber.heads[lane].verify(subscriber.channel.view(), &record);
        self.lapped |= whole.is_err();
        if self.lapped { Err(Lapped) } else { Ok(()) }
    }
}

impl Drop for Delivery<'_> {
    #[inline]
    fn drop(&mut self) {
        let Found { lane, record } = self.found;
        // In a child that has it by a fork the cursor is still the parent's.
        if !self.subscriber.channel.is_mine() {
            return;
        }
        let head = &mut self.subscriber.heads[lane];
        if self.lapped {
            head.lap();
            // It is about to be counted among the lost.
            self.subscriber.received = self.subscriber.received.wrapping_sub(1);
            self.subscriber.untold[lane] += self.received.lost;
        } else {
            head.pass(&record);
        }
        self.subscriber.release_much(lane);
    }
}
