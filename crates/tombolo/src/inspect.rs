//! Looking at a channel from outside: how full it is, who takes part, who sleeps, who is dead.
//!
//! # Protocol
//! Nothing is asked of those who use the channel, and nothing is stored: what they leave in the
//! segment for their own purposes, and a few statistic words, say it all. Only the *control part*
//! is read: the header, the shape, the places and lanes that are in use, and what links the messages
//! of a mailbox; never a message's bytes. It
//! comes through a function of the caller's, so that it can be had without an attach, which would
//! move the segment's times: from the memory of a process that has it attached.
//!
//! # Limits
//! What is read here and there is not of one moment: counts may be off by what went through
//! meanwhile. A producer tells when it rings, so a batch shows at its end; a subscriber tells in
//! eighths of the ring, and before it waits.
//!
//! # Hostile bytes
//! A segment is written by others. Lies yield wrong numbers, or an error; what is allocated and
//! how long this takes is bounded by the largest shape that a channel may have.
//!
//! # Examples
//! ```
//! use tombolo::inspect::{self, Role};
//! use tombolo::queue::{Options, Producer};
//! use tombolo::shmem::View;
//!
//! # let name = format!("doc-inspect-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let mut producer = Producer::open_or_create(name.clone(), &Options::default())?;
//! producer.send(b"hello")?;
//!
//! // This process has it attached anyway.
//! let view = View::attach(producer.id())?;
//! let seen = inspect::inspect(view.len() as u64, &mut |offset, to| {
//!     view.copy_out(offset, to).is_ok()
//! })?;
//! assert_eq!(seen.waiting, Some(1));
//! assert_eq!(seen.participants[0].role, Role::Producer);
//! assert_eq!(seen.participants[0].pid, Some(std::process::id() as i32));
//! # tombolo::queue::remove(name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::channel;
use crate::inspect_parts;
use crate::participant::Place;
use crate::topic::Policy;
use crate::value_slots;
use shmem::Region;
use shmem::header::{Header, Kind, SIZE, State};
use shmem::presence::Identity;
use shmem::sync::Ordering;

/// Bytes in which every kind of channel has its shape and its counts.
const HEAD: usize = 1024;
const _: () = assert!(value_slots::layout::LAYOUT.size <= HEAD);

/// Reads the bytes from an offset of the segment on; says whether it could.
pub type Read<'a> = dyn FnMut(usize, &mut [u8]) -> bool + 'a;

/// What can be told of a channel from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Which channel.
    pub kind: Kind,
    /// Its header.
    pub header: Header,
    /// Bytes: of each producer's or publisher's lane, that a mailbox may hold, or that a value or a
    /// request may have.
    pub capacity: u64,
    /// Messages, requests or values that there ever were, as far as was told.
    pub total: u64,
    /// How many of them wait: to be received by a consumer, by the slowest subscriber, to be taken
    /// by a server or a taker. `None` of a value, whose message never goes.
    pub waiting: Option<u64>,
    /// How many bytes those take.
    pub bytes: Option<u64>,
    /// Of a mailbox: how many messages of which type wait, the lowest type first. `None` if that
    /// changes while one looks, or if there are more than some 8,000.
    pub types: Option<Vec<(u64, u64)>>,
    /// What a topic does about slow subscribers.
    pub policy: Option<Policy>,
    /// Who takes part, as far as it has a place: readers of a value have none, nor have subscribers
    /// that may only read. Dead ones too, until another takes their place.
    pub participants: Vec<Participant>,
}

/// What a participant does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends to a queue.
    Producer,
    /// Receives from a queue.
    Consumer,
    /// Publishes to a topic.
    Publisher,
    /// Receives from a topic.
    Subscriber,
    /// Calls a service.
    Client,
    /// Serves.
    Server,
    /// Is in the middle of a put to a value.
    Writer,
    /// Posts to a mailbox.
    Poster,
    /// Takes from a mailbox.
    Taker,
}

impl Role {
    /// Its name, as commands show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
            Self::Client => "client",
            Self::Server => "server",
            Self::Writer => "writer",
            Self::Poster => "poster",
            Self::Taker => "taker",
        }
    }
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// What it does.
    pub role: Role,
    /// Which of the places for this role it has, from 0.
    pub place: usize,
    /// Its process in the PID name space of this one, 0 if it is in another; `None` if it is dead.
    pub pid: Option<i32>,
    /// Whether it sleeps, as it says; a dead one does not.
    pub asleep: bool,
    /// Messages so far: sent through its lane, published through its lane, received by a
    /// subscriber, called through its slot, posted or taken.
    pub messages: Option<u64>,
    /// What is yet to be done: messages of a producer that nobody has finished, messages that a
    /// subscriber has yet to receive, a call of a client without a reply, calls that a server has
    /// in hand, a message that a poster or a taker has in hand.
    pub waiting: Option<u64>,
    /// Messages that a subscriber has lost.
    pub lost: Option<u64>,
}

/// A channel can't be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The segment could not be read.
    #[error("its segment can't be read")]
    Unreadable,
    /// It is being made, or was given up.
    #[error("it is being made, or given up")]
    Unready,
    /// It is none of these channels.
    #[error("it is none of the channels that this program knows")]
    Foreign,
    /// It was made by a program with other layouts.
    #[error("it was made by a version of Tombolo with another layout")]
    Layout,
    /// It holds what no channel holds.
    #[error("it is damaged")]
    Damaged,
}

/// Looks at the channel in a segment of `length` bytes, of which `read` reads parts.
///
/// # Errors
/// See [`InspectError`].
pub fn inspect(length: u64, read: &mut Read<'_>) -> Result<Inspection, InspectError> {
    if length < SIZE as u64 {
        return Err(InspectError::Foreign);
    }
    let head = Region::heap(HEAD);
    let known = usize::try_from(length).map_or(HEAD, |length| length.min(HEAD));
    fetch(&head, read, 0, known)?;
    match State::of(&head) {
        State::Ready | State::Leaving(_) => {}
        State::Foreign => return Err(InspectError::Foreign),
        _ => return Err(InspectError::Unready),
    }
    let header = Header::read_part(&head, length).map_err(|_| InspectError::Damaged)?;
    match Kind::from_number(header.kind) {
        Some(Kind::Queue) => inspect_parts::queue(&shaped(header, &head)?, read),
        Some(Kind::Topic) => inspect_parts::topic(&shaped(header, &head)?, read),
        Some(Kind::Service) => inspect_parts::service(&shaped(header, &head)?, read),
        Some(Kind::Mailbox) => inspect_parts::mailbox(&shaped(header, &head)?, read),
        Some(Kind::Value) if header.layout_hash != value_slots::LAYOUT_HASH => {
            Err(InspectError::Layout)
        }
        Some(Kind::Value) => Ok(inspect_parts::value(header, &head)),
        _ => Err(InspectError::Foreign),
    }
}

/// A channel of which the beginning is known.
pub(crate) struct Begun<'a, S> {
    pub(crate) header: Header,
    pub(crate) head: &'a Region,
    pub(crate) shape: S,
}

fn shaped<S: channel::Shape>(header: Header, head: &Region) -> Result<Begun<'_, S>, InspectError> {
    if header.layout_hash != S::EXPECTED.layout_hash {
        return Err(InspectError::Layout);
    }
    let shape = S::read(head).ok_or(InspectError::Damaged)?;
    let fits = shape
        .length()
        .is_some_and(|length| length as u64 <= header.length);
    if !fits {
        return Err(InspectError::Damaged);
    }
    Ok(Begun {
        header,
        head,
        shape,
    })
}

/// Copies a part of the segment to the same place of `region`, where there is room for it.
pub(crate) fn fetch(
    region: &Region,
    read: &mut Read<'_>,
    offset: usize,
    length: usize,
) -> Result<(), InspectError> {
    let mut bytes = vec![0; length];
    if !read(offset, &mut bytes) {
        return Err(InspectError::Unreadable);
    }
    let fits = region.copy_in(offset, &bytes);
    fits.map_err(|_| InspectError::Damaged)
}

/// Who has a place; `None` if nobody has.
pub(crate) fn participant(
    region: &Region,
    role: Role,
    number: usize,
    place: Place,
) -> Option<(u64, Participant)> {
    let who = place.who(region);
    let asleep = place.is_asleep(region);
    (who != 0).then(|| (who, known(role, number, who, asleep)))
}

/// A participant by its identity.
pub(crate) fn known(role: Role, place: usize, who: u64, asleep: bool) -> Participant {
    // What is no identity is nobody's who lives.
    let pid = Identity::from_word(who).and_then(Identity::pid);
    Participant {
        role,
        place,
        pid,
        asleep: asleep && pid.is_some(),
        messages: None,
        waiting: None,
        lost: None,
    }
}

/// A statistic word of a copy.
pub(crate) fn word(region: &Region, offset: usize) -> u64 {
    // Relaxed: nobody else has the copy.
    region.load_u64(offset, Ordering::Relaxed)
}
