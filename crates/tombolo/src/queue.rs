//! `queue`: the bounded buffer. Each message goes to exactly one consumer.
//!
//! ```text
//! 0        256                      640        one for each lane        one for each lane
//! ┌────────┬──────────────────────┬──────────┬───────────────────────┬─────────────────────┬───
//! │ header │ shape, bell, counts  │ seats of │ owner; taker,         │ ring of messages    │ …
//! │        │                      │ consumers│ progress; room, bell  │ (see `lane`)        │
//! └────────┴──────────────────────┴──────────┴───────────────────────┴─────────────────────┴───
//! ```
//!
//! Any number of [producers](Producer) [send](Producer::send) messages of any length up to a share
//! of the capacity; any number of [consumers](Consumer) [receive](Consumer::recv) them. A
//! message waits for a consumer as long as it takes, also when there is none yet and its producer
//! has left. The messages of one producer are received in their order.
//!
//! Each producer has a **lane** of its own, so producers do not get into each other's way, and the
//! death of one stops nobody. A consumer holds a lane while it takes a message from it; the protocol,
//! and what a death leaves, are told in `queue_taker` and `queue_members`.
//!
//! **The end.** When all producers have left and everything is received, consumers get
//! [`RecvError::Closed`], as a pipe has it, or [`RecvError::ProducerDied`] if one of them died
//! instead of leaving. A producer that comes later takes the dead one's lane over and with it the
//! duty to close it, and a consumer that comes when nothing is left of the dead waits for the next. When the last consumer that it had has left, a producer gets
//! [`SendError::NoConsumers`]; consumers that had gone before it came do not count.
//! Both sides may rather wait for the next: `follow`.
//!
//! **Death.** A message that a consumer had in hand when it died is delivered again, to another
//! one, and marked as [redelivered](Received::redelivered). What a producer had published when it
//! died is received, what it was writing is not.
//!
//! **Guards.** A [`Delivery`] holds its lane until it is dropped, so consumers that read in place
//! take turns on the messages of one producer. [`Consumer::recv`] copies and holds it only for
//! that long.
//!
//! **Fork.** A handle that a child inherited is refused there ([`SendError::Forked`],
//! [`RecvError::Forked`]): open the channel again.
//!
//! **Waiting.** A handle spins for a short time, which adapts to what spinning has been good for, and
//! then sleeps; [`Waiting`](shmem::Waiting) chooses otherwise. Who sleeps is woken by the death of
//! those it waits for.
//!
//! **Limits.** The capacity and the numbers of producers and consumers are fixed at creation. A ring
//! wakes all who wait, of whom one gets the message. Where `membarrier` is refused (a seccomp
//! filter), a lane that a consumer kept while it was alone is given up at its next receipt only.
//! Everybody needs write permission.
//!
//! # Examples
//! ```
//! use tombolo::queue::{Consumer, Options, Producer};
//!
//! # let name = format!("doc-queue-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let mut producer = Producer::open_or_create(name.clone(), &Options::default())?;
//! producer.send(b"hello")?;
//!
//! let mut consumer = Consumer::open(name)?;
//! let mut message = Vec::new();
//! consumer.recv(&mut message)?;
//! assert_eq!(message, b"hello");
//!
//! drop(producer);
//! let end = consumer.recv(&mut message).unwrap_err();
//! assert!(end.is_closed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::channel::{self, Channel};
use crate::queue_layout::Shape;
use shmem::header::Lifetime;
use shmem::presence::Identity;
use shmem::{Address, OpenError, Reason, WrongSize};
use std::time::{Duration, Instant};
use sysv::Mode;

pub use crate::queue_consumer::Consumer;
pub use crate::queue_delivery::{Batch, Delivery, Message, Received};
pub use crate::queue_producer::{Loan, Producer};
pub use crate::queue_sending::Sending;

/// After so many messages a handle registers its process for cheap publication.
pub(crate) const MANY: u32 = 10_000;

/// What a new queue is to be like; one that exists stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of each producer's lane, rounded up to a power of two. A message may have almost half
    /// of it; each takes 8 bytes more, rounded up to 64. The kernel provides what is used.
    pub capacity: usize,
    /// How many producers there may be at a time, 1 to 1024.
    pub producers: usize,
    /// How many consumers there may be at a time, 1 to 1024.
    pub consumers: usize,
    /// Who may use it. Producers and consumers both need to read and to write.
    pub mode: Mode,
    /// How long it lives. An anonymous one is reached by its [id](Producer::id).
    pub lifetime: Lifetime,
}

impl Default for Options {
    /// 64 producers with 4 MiB each, 64 consumers, for this user alone, while it is used or holds
    /// messages.
    fn default() -> Self {
        Self {
            capacity: 4 << 20,
            producers: 64,
            consumers: 64,
            mode: Mode::default(),
            lifetime: Lifetime::WhileUsed,
        }
    }
}

/// A message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There was no room for it in time.
    #[error("the queue is full; receive from it, wait longer, or create it with a larger capacity")]
    Full,
    /// No consumer is left.
    #[error("all consumers of the queue are gone; start one, or tell the producer to wait for it")]
    NoConsumers,
    /// It is longer than a message may be.
    #[error(
        "a message of {length} bytes is longer than the {longest} bytes that fit this queue; create it with a larger capacity"
    )]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// Bytes that a message may have.
        longest: usize,
    },
    /// The queue was removed.
    #[error("the queue was removed; open it again")]
    Removed,
    /// This process has the producer by a fork.
    #[error(
        "a producer can't be used in a child of the process that opened it; open another there"
    )]
    Forked,
}

/// A batch was not sent to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error} (after {sent} messages of the batch)")]
pub struct BatchError {
    /// How many of its messages were sent.
    pub sent: usize,
    /// What happened to the next one.
    pub error: SendError,
}

/// No message could be received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The end: all producers have left, and everything was received.
    #[error("the queue is at its end: all producers have left")]
    Closed,
    /// The end, but not a good one.
    #[error("a producer of the queue died; everything that it had sent was received")]
    ProducerDied,
    /// A lane of its segment holds what no producer writes.
    #[error("the queue's segment is damaged; remove it and create it anew")]
    Damaged,
    /// The message is not of the type that was asked for.
    #[error(transparent)]
    WrongSize(WrongSize),
    /// The queue was removed.
    #[error("the queue was removed; open it again")]
    Removed,
    /// This process has the consumer by a fork.
    #[error(
        "a consumer can't be used in a child of the process that opened it; open another there"
    )]
    Forked,
}

impl RecvError {
    /// Whether there will be no more messages because all producers have left.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

/// Removes a queue with all that is in it: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// See [`Reason`].
pub fn remove(address: impl Into<Address>) -> Result<(), OpenError> {
    channel::remove(&address.into(), |shape: &Shape, region| {
        shape.data(region).ring();
        (0..shape.used(region)).for_each(|lane| shape.space(region, lane).ring());
    })
}

/// Opens a queue, or creates it as `options` say.
pub(crate) fn open_or_create(
    address: Address,
    options: &Options,
) -> Result<Channel<Shape>, OpenError> {
    let Options {
        capacity,
        producers,
        consumers,
        mode,
        lifetime,
    } = *options;
    let Some((shape, _)) = Shape::plan(producers, consumers, capacity) else {
        let total = capacity.saturating_mul(producers.max(1));
        return Err(OpenError::new(&address, Reason::Capacity(total)));
    };
    Channel::open_or_create(address, shape, mode, lifetime)
}

/// Whether the process that a word from the segment names is dead; so is one that names none.
pub(crate) fn is_dead(word: u64) -> bool {
    Identity::from_word(word).is_none_or(|process| matches!(process.is_alive(), Ok(false)))
}

/// Keeps looks at who is alive, which are system calls, from being made all the time.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Option<Instant>,
}

impl Watch {
    /// How often one looks, at most.
    const EVERY: Duration = Duration::from_millis(10);

    /// Whether it is time to look.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= Self::EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// [`is_dead`] while it is time to look, otherwise nobody is taken for dead.
    pub(crate) fn look(&mut self) -> impl FnMut(u64) -> bool + '_ {
        let mut due = None;
        move |word| *due.get_or_insert_with(|| self.is_due()) && is_dead(word)
    }
}
