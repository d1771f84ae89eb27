//! What a consumer of a `queue` has in hand: a message in place, or several.

use crate::queue_consumer::Consumer;
use crate::queue_taker::Held;
use shmem::{Bytes, OutOfBounds, Region};

/// What there is to say about a message beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// A consumer had it in hand when it died, and may have acted on it.
    pub redelivered: bool,
}

/// A message in place. Peers can still write its bytes: look at each once, or copy them out first.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: Bytes<'a>,
    redelivered: bool,
}

impl<'a> Message<'a> {
    #[inline]
    fn new(region: &'a Region, held: &Held) -> Self {
        let record = held.record;
        let bytes = Bytes::new(region, record.offset, record.length);
        Self {
            bytes: bytes.expect("the ring lies inside the region, and a record inside the ring"),
            // Positions: what ends before the mark was handed out.
            redelivered: held.again >= record.end,
        }
    }

    /// Its bytes, in place. Long ones are read by [pieces](Bytes::as_chunks).
    #[inline]
    pub fn bytes(&self) -> Bytes<'a> {
        self.bytes
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a consumer had it in hand when it died.
    #[inline]
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Copies a part of the message out.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.bytes.copy_out(offset, to)
    }

    /// Appends the message to a buffer.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        self.bytes.append_to(to);
    }
}

/// Messages of one producer in hand, one after the other. When this is dropped, those that
/// [`next`](Self::next) has answered are finished; if the process dies before, they are delivered
/// again.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(crate) consumer: &'a mut Consumer,
    /// How many [`next`](Self::next) may still answer.
    pub(crate) left: usize,
    pub(crate) begun: bool,
}

impl Batch<'_> {
    /// The next message in place.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it lends what it answers")]
    pub fn next(&mut self) -> Option<Message<'_>> {
        if self.left == 0 || self.begun && !self.step() {
            self.left = 0;
            return None;
        }
        (self.begun, self.left) = (true, self.left - 1);
        Some(self.message())
    }

    /// All there are, each in place; answers how many those were. There must be one.
    #[inline]
    pub(crate) fn each(mut self, mut each: impl FnMut(Message<'_>)) -> usize {
        self.begun = true;
        let mut count = 0;
        loop {
            each(self.message());
            count += 1;
            if count == self.left || !self.step() {
                return count;
            }
        }
    }

    /// To the one behind that in hand.
    #[inline(always)]
    fn step(&mut self) -> bool {
        let Consumer {
            taking, channel, ..
        } = &mut *self.consumer;
        taking.step(channel.region())
    }

    /// That in hand.
    #[inline(always)]
    fn message(&self) -> Message<'_> {
        Message::new(self.consumer.channel.region(), self.consumer.taking.held())
    }

    /// Finishes none of them: they will be delivered again, marked as redelivered.
    pub fn put_back(self) {
        self.consumer.put_back();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.begun {
            // Nothing was seen.
            return self.consumer.put_back();
        }
        self.consumer.finish();
    }
}

/// A message in place, which is finished when this is dropped. It holds its producer's lane until
/// then.
#[derive(Debug)]
pub struct Delivery<'a> {
    pub(crate) consumer: &'a mut Consumer,
}

impl Delivery<'_> {
    /// The message.
    #[inline]
    pub fn message(&self) -> Message<'_> {
        Message::new(self.consumer.channel.region(), self.consumer.taking.held())
    }

    /// Its bytes, in place. Long ones are read by [pieces](Bytes::as_chunks).
    #[inline]
    pub fn bytes(&self) -> Bytes<'_> {
        self.message().bytes()
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.message().len()
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.message().is_empty()
    }

    /// Whether a consumer had it in hand when it died.
    #[inline]
    pub fn redelivered(&self) -> bool {
        self.message().redelivered()
    }

    /// Copies a part of the message out.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.message().copy_out(offset, to)
    }

    /// Appends the message to a buffer.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        self.message().append_to(to);
    }
}

impl Drop for Delivery<'_> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.finish();
    }
}
