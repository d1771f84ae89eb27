//! `queue` for tasks.

use crate::asynchronous::{Asked, Asking};
use crate::lane::Filling;
use crate::queue::{Consumer, Delivery, Loan, Message, Producer, Received, RecvError, SendError};
use futures_core::Stream;
use shmem::Wait;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

impl Asked for Consumer {
    fn withdraw(&mut self) {
        Consumer::withdraw(self);
    }
}

impl Asked for Producer {
    fn withdraw(&mut self) {
        Producer::withdraw(self);
    }
}

/// Receives messages of a queue, for a task.
///
/// As a [`Stream`] it yields messages until the queue is at its end; any other error is the last
/// item.
#[derive(Debug)]
pub struct AsyncConsumer {
    asking: Asking<Consumer>,
    /// The stream has yielded its last item.
    ended: bool,
}

impl Consumer {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncConsumer {
        AsyncConsumer::from(self)
    }
}

impl From<Consumer> for AsyncConsumer {
    fn from(consumer: Consumer) -> Self {
        Self {
            asking: Asking::new(consumer),
            ended: false,
        }
    }
}

impl AsyncConsumer {
    /// The same, for a thread.
    pub fn into_inner(self) -> Consumer {
        let mut consumer = self.asking.handle;
        consumer.withdraw();
        consumer
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// Receives a message into a buffer, whose content it replaces.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    pub async fn recv(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        let recv = |consumer: &mut Consumer, waker: &Waker| {
            consumer.copy(Wait::Wake(waker), to).transpose()
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

    /// Receives a message in place. It is finished when the guard is dropped, and holds its
    /// producer's lane until then, also while the task waits for something else.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn receive(&mut self) -> Result<Delivery<'_>, RecvError> {
        self.asking.ask(take).await?;
        Ok(self.asking.handle.delivery())
    }

    /// Receives up to `most` messages of one producer in place, at least one, and calls `each` with
    /// them one after the other; all are finished then. Answers how many there were.
    ///
    /// If this process dies in the middle, those that it has seen are delivered again, marked.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub async fn recv_batch(
        &mut self,
        most: usize,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        let batch = |consumer: &mut Consumer, waker: &Waker| {
            let count = consumer.each_of_batch(most, Wait::Wake(waker), &mut each);
            count.map(|count| (count > 0).then_some(count)).transpose()
        };
        self.asking.ask(batch).await
    }
}

/// Takes a message in hand.
fn take(consumer: &mut Consumer, waker: &Waker) -> Option<Result<(), RecvError>> {
    let taken = consumer.take(Wait::Wake(waker));
    taken.map(|taken| taken.then_some(())).transpose()
}

impl Stream for AsyncConsumer {
    type Item = Result<(Vec<u8>, Received), RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.asking.poll(context.waker(), |consumer, waker| {
            let mut bytes = Vec::new();
            let received = consumer.copy(Wait::Wake(waker), &mut bytes).transpose();
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

/// Sends messages to a queue, for a task.
#[derive(Debug)]
pub struct AsyncProducer {
    asking: Asking<Producer>,
}

impl Producer {
    /// The same, for a task.
    pub fn into_async(self) -> AsyncProducer {
        AsyncProducer::from(self)
    }
}

impl From<Producer> for AsyncProducer {
    fn from(producer: Producer) -> Self {
        Self {
            asking: Asking::new(producer),
        }
    }
}

impl AsyncProducer {
    /// The same, for a thread.
    pub fn into_inner(self) -> Producer {
        let mut producer = self.asking.handle;
        producer.withdraw();
        producer
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.asking.handle.id()
    }

    /// Longest message, in bytes.
    pub fn longest(&self) -> usize {
        self.asking.handle.longest()
    }

    /// Sends a message when there is room for it.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is sent then.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let send = |producer: &mut Producer, waker: &Waker| {
            unless_full(producer.send_one(message, Wait::Wake(waker)))
        };
        self.asking.ask(send).await
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is sent then.
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.asking.handle.try_send(message)
    }

    /// A place for a message of `length` bytes, to be written in place, when there is room for it.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn loan(&mut self, length: usize) -> Result<Loan<'_>, SendError> {
        let claim = |producer: &mut Producer, waker: &Waker| {
            unless_full(producer.claim(length, Filling::InPlace, Wait::Wake(waker)))
        };
        let claim = self.asking.ask(claim).await?;
        Ok(self.asking.handle.claimed(claim))
    }
}

/// `None` while there is no room.
fn unless_full<T>(result: Result<T, SendError>) -> Option<Result<T, SendError>> {
    (!matches!(result, Err(SendError::Full))).then_some(result)
}
