//! Sending batches through a `queue`: short messages in groups, consumers woken once.

use crate::lane::{Filling, SHORT};
use crate::queue::{BatchError, SendError};
use crate::queue_producer::Producer;
use shmem::Wait;

impl Producer {
    /// Sends messages one after the other, and wakes consumers once, or over a long one. Waits for room as long
    /// as it takes. Answers how many there were.
    ///
    /// Short ones are published in groups of about 2 KiB, close together.
    ///
    /// # Errors
    /// The first [`SendError`], and how many messages were sent before.
    pub fn send_batch<M: AsRef<[u8]>>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<usize, BatchError> {
        let mut batch = self.batch();
        for message in messages {
            if let Err(error) = batch.send(message.as_ref()) {
                return Err(BatchError {
                    sent: batch.finish(),
                    error,
                });
            }
        }
        Ok(batch.finish())
    }

    /// Begins a batch to which messages are added one by one, from one buffer if need be: what
    /// [`send_batch`](Self::send_batch) does for those that are all there already.
    ///
    /// ```
    /// # use tombolo::queue::{Consumer, Options, Producer};
    /// # let name: tombolo::Name = format!("doc-sending-{}", std::process::id()).parse()?;
    /// # let mut consumer = Consumer::open_or_create(name.clone(), &Options::default())?;
    /// # let mut producer = Producer::open(name)?;
    /// let mut line = String::new();
    /// let mut batch = producer.batch();
    /// for number in 0..3 {
    ///     line.clear();
    ///     line += &format!("line {number}");
    ///     batch.send(line.as_bytes())?;
    /// }
    /// assert_eq!(batch.finish(), 3);
    /// # let mut received = vec![];
    /// # for number in 0..3 {
    /// #     consumer.recv(&mut received)?;
    /// #     assert_eq!(received, format!("line {number}").into_bytes());
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn batch(&mut self) -> Sending<'_> {
        // That of a batch that was forgotten.
        self.tail.drop_group();
        Sending {
            producer: self,
            sent: 0,
        }
    }
}

/// A batch that is being sent. The last of its messages may be received only when it is
/// [finished](Self::finish) or dropped.
#[derive(Debug)]
pub struct Sending<'a> {
    producer: &'a mut Producer,
    /// How many messages are published.
    sent: usize,
}

impl Sending<'_> {
    /// Adds a message. Waits for room as long as it takes.
    ///
    /// # Errors
    /// See [`SendError`]; the message is not sent then, and those before are.
    #[inline(always)]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let tail = &mut self.producer.tail;
        if tail.add(message) {
            return Ok(());
        }
        self.send_apart(message)
    }

    /// A message that is long, or the first of a group.
    #[inline(never)]
    fn send_apart(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.publish();
        let mut claim = self
            .producer
            .claim(message.len(), Filling::Copied, Wait::Not);
        if claim == Err(SendError::Full) {
            self.producer.ring();
            claim = self
                .producer
                .claim(message.len(), Filling::Copied, Wait::FOREVER);
        }
        let claim = claim?;
        if message.len() > SHORT {
            self.producer.write(claim, message);
            self.sent += 1;
        } else {
            self.producer.tail.begin_group(claim, message);
        }
        Ok(())
    }

    fn publish(&mut self) {
        let Producer { tail, sent, .. } = &mut *self.producer;
        let count = tail.publish_group();
        *sent = sent.wrapping_add(count);
        self.sent += count as usize;
    }

    /// Publishes the last of them; answers how many there were.
    pub fn finish(mut self) -> usize {
        self.publish();
        self.sent
    }
}

// Also if the caller panics between two of them.
impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.publish();
        if self.sent > 0 {
            self.producer.ring();
        }
    }
}
