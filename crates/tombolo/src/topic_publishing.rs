//! Publishing batches to a `topic`: subscribers are woken once.

use crate::topic::{BatchError, PublishError};
use crate::topic_publisher::Publisher;
use shmem::Wait;
use shmem::copy::SHORT;

impl Publisher {
    /// Publishes messages one after the other, and wakes subscribers once. Where slow subscribers
    /// are waited for, it waits for room as long as it takes. Answers how many there were.
    ///
    /// # Errors
    /// The first [`PublishError`], and how many messages were published before.
    pub fn publish_batch<M: AsRef<[u8]>>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<usize, BatchError> {
        let mut published = 0;
        let mut result = Ok(());
        for message in messages {
            if let Err(error) = self.add(message.as_ref()) {
                result = Err(BatchError { published, error });
                break;
            }
            published += 1;
        }
        if published > 0 {
            self.ring();
        }
        result.map(|()| published)
    }

    /// Publishes a message without waking anybody, unless there is no room.
    #[inline(always)]
    fn add(&mut self, message: &[u8]) -> Result<(), PublishError> {
        if message.len() <= SHORT && self.push(message) {
            return Ok(());
        }
        let mut claim = self.claim(message.len(), Wait::Not);
        if claim == Err(PublishError::Full) {
            self.ring();
            claim = self.claim(message.len(), Wait::FOREVER);
        }
        self.write(claim?, message);
        Ok(())
    }

    /// Begins a batch to which messages are added one by one, from one buffer if need be: what
    /// [`publish_batch`](Self::publish_batch) does for those that are all there already.
    #[inline]
    pub fn batch(&mut self) -> Publishing<'_> {
        Publishing {
            publisher: self,
            published: 0,
        }
    }
}

/// A batch that is being published. Subscribers that sleep are woken when it is
/// [finished](Self::finish) or dropped.
#[derive(Debug)]
pub struct Publishing<'a> {
    publisher: &'a mut Publisher,
    published: usize,
}

impl Publishing<'_> {
    /// Adds a message. Where slow subscribers are waited for, it waits for room as long as it takes.
    ///
    /// # Errors
    /// See [`PublishError`]; the message is not published then, and those before are.
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<(), PublishError> {
        self.publisher.add(message)?;
        self.published += 1;
        Ok(())
    }

    /// Ends it; answers how many there were.
    pub fn finish(self) -> usize {
        self.published
    }
}

// Also if the caller panics between two of them.
impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if self.published > 0 {
            self.publisher.ring();
        }
    }
}
