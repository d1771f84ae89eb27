//! `topic` for tasks.

use crate::asynchronous::{Asked, Asking};
use crate::topic::{Loan, PublishError, Publisher, Received, RecvError, Subscriber};
use futures_core::Stream;
use shmem::Wait;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

impl Asked for Subscriber {
    fn withdraw(&mut self) {
        Subscriber::withdraw(self);
    }
}

impl Asked for Publisher {
    fn withdraw(&mut self) {
        Publisher::withdraw(self);
    }
}

/// Receives the messages of a topic, for a task.
///
/// As a [`Stream`] it yields messages, each with what was lost before it, until the topic is at its
/// end; any other error is the last item.
///
/// # Examples
/// ```
/// use tombolo::asynchronous::{AsyncPublisher, AsyncSubscriber};
/// use tombolo::topic::{Options, Publisher, Start, Subscriber};
///
/// # let name: tombolo::Name = format!("doc-async-topic-{}", std::process::id()).parse()?;
/// let publisher = Publisher::open_or_create(name.clone(), &Options::default())?;
/// let mut publisher = AsyncPublisher::from(publisher);
/// let mut subscriber = AsyncSubscriber::from(Subscriber::open(name, Start::Now)?);
///
/// # pollster::block_on(async {
/// publisher.publish(b"to all").await?;
/// let mut message = Vec::new();
/// let received = subscriber.recv(&mut message).await?;
/// assert_eq!((message.as_slice(), received.lost), (&b"to all"[..], 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncSubscriber {
    asking: Asking<Subscriber>,
    /// The stream has yielded its last item.
    ended: bool,
}

impl Subscriber {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncSubscriber {
        AsyncSubscriber::from(self)
    }
}

impl From<Subscriber> for AsyncSubscriber {
    fn from(subscriber: Subscriber) -> Self {
        Self {
            asking: Asking::new(subscriber),
            ended: false,
        }
    }
}

impl AsyncSubscriber {
    /// The same, for a thread.
    pub fn into_inner(self) -> Subscriber {
        let mut subscriber = self.asking.handle;
        subscriber.withdraw();
        subscriber
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// How many messages it has lost so far, of all publishers, as far as it has noticed.
    pub fn lost(&self) -> u64 {
        self.asking.handle.lost()
    }

    /// Receives a message into a buffer, whose content it replaces.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    pub async fn recv(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        let recv = |subscriber: &mut Subscriber, waker: &Waker| {
            subscriber.copy(Wait::Wake(waker), to).transpose()
        };
        self.asking.ask(recv).await
    }

    /// Receives a message if there is one now, `None` if not.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    pub fn try_recv(&mut self, to: &mut Vec<u8>) -> Result<Option<Received>, RecvError> {
        self.asking.handle.try_recv(to)
    }

    /// Receives up to `most` messages of one publisher, at least one, and calls `each` with a copy
    /// of each, one after the other. Answers how many there were.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv_batch(
        &mut self,
        most: usize,
        mut each: impl FnMut(&[u8], Received),
    ) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let batch = |subscriber: &mut Subscriber, waker: &Waker| {
            let count = subscriber.batch(most, Wait::Wake(waker), &mut each);
            count.map(|count| (count > 0).then_some(count)).transpose()
        };
        self.asking.ask(batch).await
    }
}

impl Stream for AsyncSubscriber {
    type Item = Result<(Vec<u8>, Received), RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.asking.poll(context.waker(), |subscriber, waker| {
            let mut bytes = Vec::new();
            let received = subscriber.copy(Wait::Wake(waker), &mut bytes).transpose();
            received.map(|received| received.map(|received| (bytes, received)))
        });
        polled.map(|item| {
            self.ended = item.is_err();
            match item {
                Err(end) if end.is_closed() => None,
                item => Some(item),
            }
        })
    }
}

/// Publishes messages, for a task.
#[derive(Debug)]
pub struct AsyncPublisher {
    asking: Asking<Publisher>,
}

impl Publisher {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncPublisher {
        AsyncPublisher::from(self)
    }
}

impl From<Publisher> for AsyncPublisher {
    fn from(publisher: Publisher) -> Self {
        Self {
            asking: Asking::new(publisher),
        }
    }
}

impl AsyncPublisher {
    /// The same, for a thread.
    pub fn into_inner(self) -> Publisher {
        let mut publisher = self.asking.handle;
        publisher.withdraw();
        publisher
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// Longest message, in bytes.
    pub fn longest(&self) -> usize {
        self.asking.handle.longest()
    }

    /// Publishes a message. Where slow subscribers are waited for, when there is room for it.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is published then.
    pub async fn publish(&mut self, message: &[u8]) -> Result<(), PublishError> {
        let publish = |publisher: &mut Publisher, waker: &Waker| {
            unless_full(publisher.publish_one(message, Wait::Wake(waker)))
        };
        self.asking.ask(publish).await
    }

    /// Publishes a message if there is room for it now.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is published then.
    pub fn try_publish(&mut self, message: &[u8]) -> Result<(), PublishError> {
        self.asking.handle.try_publish(message)
    }

    /// A place for a message of `length` bytes, to be written in place. Where slow subscribers are
    /// waited for, when there is room for it.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn loan(&mut self, length: usize) -> Result<Loan<'_>, PublishError> {
        let claim = |publisher: &mut Publisher, waker: &Waker| {
            unless_full(publisher.claim(length, Wait::Wake(waker)))
        };
        let claim = self.asking.ask(claim).await?;
        Ok(self.asking.handle.claimed(claim))
    }
}

/// `None` while there is no room.
fn unless_full<T>(result: Result<T, PublishError>) -> Option<Result<T, PublishError>> {
    (!matches!(result, Err(PublishError::Full))).then_some(result)
}
