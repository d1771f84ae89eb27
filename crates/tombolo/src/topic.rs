//! `topic`: one to many. Each message goes to every subscriber.
//!
//! ```text
//! 0        256                      384                     one for each lane     one for each lane
//! ┌────────┬──────────────────────┬───────────────────────┬─────────────────────┬───────────────
//! │ header │ shape, bell, counts  │ seats of subscribers, │ owner; claim; marks;│ ring of
//! │        │                      │ each with its cursors │ room, bell          │ messages …
//! └────────┴──────────────────────┴───────────────────────┴─────────────────────┴───────────────
//! ```
//!
//! [Publishers](Publisher) [publish](Publisher::publish) messages of any length up to a quarter of
//! the capacity, whether anybody listens or not. Each [subscriber](Subscriber)
//! [receives](Subscriber::recv) all of them from where it [starts](Start), the messages of one
//! publisher in their order. Each publisher has a **lane** of its own, a ring; what is in it stays
//! there for subscribers that come later, until it is written over.
//!
//! **Slow subscribers** are waited for, or overrun, as the topic's [`Policy`] says.
//! - [`WaitForSlowest`](Policy::WaitForSlowest): a publisher goes no further than a ring beyond the
//!   slowest subscriber that is alive. Nobody loses anything.
//! - [`Overrun`](Policy::Overrun): a publisher never waits. A subscriber that was lapped goes on
//!   with whole messages, of which the first tells [how many](Received::lost) of its publisher were
//!   lost before it: exactly, also if the publisher died and another took its lane over. About an
//!   eighth of the ring is the publisher's at any time; the rest is history.
//!
//! **The end.** When all publishers have left and everything is received, subscribers get
//! [`RecvError::Closed`], as a pipe has it, or [`RecvError::PublisherDied`] if one of them died
//! instead of leaving. A publisher that comes later takes the dead one's lane over and with it the
//! duty to close it. Subscribers may rather wait for the next: `follow`.
//!
//! **Death.** What a publisher had published when it died is received, what it was writing is not.
//! A subscriber that dies is not waited for any more: a publisher that waits for room notices its
//! death, and frees what it held.
//!
//! **In place.** [`Subscriber::receive`] answers a guard through which a message is read where it
//! stands. Where subscribers are overrun its publisher may write over it meanwhile, so what was
//! read counts only if [`Delivery::check`] says so afterwards. All other ways to receive copy the
//! message first and answer only whole ones.
//!
//! **Reading only.** Who may not write can subscribe where slow subscribers are overrun. It has no
//! seat and can't register on the bell: it sleeps in slices that grow from a quarter of a
//! millisecond to 16, and wakes earlier if the bell is rung for another.
//!
//! **Fork.** A handle that a child inherited is refused there ([`PublishError::Forked`],
//! [`RecvError::Forked`]): open the channel again.
//!
//! **Limits.** The capacity and the numbers of publishers and seats are fixed at creation. Messages
//! of different publishers have no common order, and history is counted for each lane. A ring wakes
//! all who sleep.
//!
//! # Examples
//! ```
//! use tombolo::topic::{Options, Publisher, Start, Subscriber};
//!
//! # let name = format!("doc-topic-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let mut publisher = Publisher::open_or_create(name.clone(), &Options::default())?;
//! publisher.publish(b"before")?;
//!
//! let mut one = Subscriber::open(name.clone(), Start::Now)?;
//! let mut two = Subscriber::open(name, Start::Last(1))?;
//! publisher.publish(b"hello")?;
//!
//! let mut message = Vec::new();
//! one.recv(&mut message)?;
//! assert_eq!(message, b"hello");
//! two.recv(&mut message)?;
//! assert_eq!(message, b"before");
//! two.recv(&mut message)?;
//! assert_eq!(message, b"hello");
//!
//! drop(publisher);
//! assert!(one.recv(&mut message).unwrap_err().is_closed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::channel::{self, Channel};
use crate::topic_layout::Shape;
use shmem::header::Lifetime;
use shmem::{Address, OpenError, Reason, WrongSize};
use sysv::Mode;

pub use crate::topic_delivery::{Delivery, Lapped, Received};
pub use crate::topic_policy::{Policy, Start};
pub use crate::topic_publisher::{Loan, Publisher};
pub use crate::topic_publishing::Publishing;
pub use crate::topic_subscriber::Subscriber;

/// After so many messages a handle registers its process for cheap publication.
pub(crate) const MANY: u32 = 10_000;

/// What a new topic is to be like; one that exists stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of each publisher's lane, rounded up to a power of two. A message may have a quarter
    /// of it, less 16; each takes 16 bytes more, rounded up to 64. The kernel provides what is used.
    pub capacity: usize,
    /// How many publishers there may be at a time, 1 to 1024.
    pub publishers: usize,
    /// How many subscribers there may be at a time that are waited for, or seen from outside, 1 to
    /// 1024. Where slow subscribers are overrun there may be any number.
    pub subscribers: usize,
    /// What is done about slow subscribers.
    pub policy: Policy,
    /// Who may use it. Publishers need to read and to write; subscribers that are overrun need only
    /// to read.
    pub mode: Mode,
    /// How long it lives. An anonymous one is reached by its [id](Publisher::id).
    pub lifetime: Lifetime,
}

impl Default for Options {
    /// 16 publishers with 1 MiB each, 64 subscribers that may be overrun, for this user alone,
    /// while it is used.
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            publishers: 16,
            subscribers: 64,
            policy: Policy::default(),
            mode: Mode::default(),
            lifetime: Lifetime::WhileUsed,
        }
    }
}

/// A message could not be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The slowest subscriber left no room for it in time.
    #[error(
        "the slowest subscriber left no room in time; wait longer, or create the topic with a larger capacity or so that slow subscribers are overrun"
    )]
    Full,
    /// It is longer than a message may be.
    #[error(
        "a message of {length} bytes is longer than the {longest} bytes that fit this topic; create it with a larger capacity"
    )]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// Bytes that a message may have.
        longest: usize,
    },
    /// The topic was removed.
    #[error("the topic was removed; open it again")]
    Removed,
    /// This process has the publisher by a fork.
    #[error(
        "a publisher can't be used in a child of the process that opened it; open another there"
    )]
    Forked,
}

/// A batch was not published to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error} (after {published} messages of the batch)")]
pub struct BatchError {
    /// How many of its messages were published.
    pub published: usize,
    /// What happened to the next one.
    pub error: PublishError,
}

/// No message could be received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The end: all publishers have left, and everything was received.
    #[error("the topic is at its end: all publishers have left")]
    Closed,
    /// The end, but not a good one.
    #[error("a publisher of the topic died; everything that it had published was received")]
    PublisherDied,
    /// A lane of its segment holds what no publisher writes.
    #[error("the topic's segment is damaged; remove it and create it anew")]
    Damaged,
    /// The message is not of the type that was asked for.
    #[error(transparent)]
    WrongSize(WrongSize),
    /// The topic was removed.
    #[error("the topic was removed; open it again")]
    Removed,
    /// This process has the subscriber by a fork.
    #[error(
        "a subscriber can't be used in a child of the process that opened it; open another there"
    )]
    Forked,
}

impl RecvError {
    /// Whether there will be no more messages because all publishers have left.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

/// Removes a topic with all that is in it: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// See [`Reason`].
pub fn remove(address: impl Into<Address>) -> Result<(), OpenError> {
    channel::remove(&address.into(), |shape: &Shape, region| {
        shape.data(region).ring();
        (0..shape.used(region)).for_each(|lane| shape.space(region, lane).ring());
    })
}

/// Opens a topic, or creates it as `options` say.
pub(crate) fn open_or_create(
    address: Address,
    options: &Options,
) -> Result<Channel<Shape>, OpenError> {
    let Options {
        capacity,
        publishers,
        subscribers,
        policy,
        mode,
        lifetime,
    } = *options;
    let Some((shape, _)) = Shape::plan(publishers, subscribers, capacity, policy) else {
        let total = capacity.saturating_mul(publishers.max(1));
        return Err(OpenError::new(&address, Reason::Capacity(total)));
    };
    Channel::open_or_create(address, shape, mode, lifetime)
}
