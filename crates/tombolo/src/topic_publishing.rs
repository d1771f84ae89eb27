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
        let mut batch = self.batch();
        for message in messages {
            if let Err(error) = batch.publish(message.as_ref()) {
                let published = batch.finish();
                return Err(BatchError { published, error });
            }
        }
        Ok(batch.finish())
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
        let publisher = &mut *self.publisher;
        if message.len() > SHORT || !publisher.push(message) {
            let mut claim = publisher.claim(message.len(), Wait::Not);
            if claim == Err(PublishError::Full) {
                publisher.ring();
                claim = publisher.claim(message.len(), Wait::FOREVER);
            }
            publisher.write(claim?, message);
        }
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
