//! `mailbox`: System V's typed messages. Each message has a type and goes to one taker, who may
//! choose by type.
//!
//! ```text
//! 0        256                      448                 704       5888   7424    one for each member
//! ┌────────┬────────────────────────┬───────────────────┬─────────┬──────┬───────┬────────────────
//! │ header │ shape; lock, messages, │ who waits,        │ journal │ heap │ seats │ blocks: messages,
//! │        │ counts                 │ who has something │         │      │       │ runs, types …
//! └────────┴────────────────────────┴───────────────────┴─────────┴──────┴───────┴────────────────
//! ```
//!
//! Any number of [posters](Poster) [post](Poster::post) messages of any length up to the capacity,
//! each with a type from 1 to 2⁶³−1; any number of [takers](Taker) [take](Taker::take) them: the
//! oldest, the oldest of a type, the oldest of the lowest type up to one, the oldest of any type but
//! one ([`Wanted`]). Each takes the same time however many messages wait, but for the
//! [peek](Taker::peek_at) by position. It is what `msgsnd` and `msgrcv` do, without the kernel, its
//! copies and its limits.
//!
//! All messages stand in one store under one lock, see `mailbox_store`, `mailbox_inside`: posters
//! and takers follow one another in 100 ns or so, and do not work side by side as those of a `queue`
//! do. Long texts are copied outside the lock.
//!
//! **A mailbox persists.** It can be posted to without a taker, and what was posted waits, also when
//! its poster has left. A mailbox that lives while it is used is not removed while it holds messages.
//!
//! **The end.** When nothing waits that is wanted, and all posters have left, a taker gets
//! [`TakeError::Closed`], as a pipe has it, or [`TakeError::PosterDied`] if one of them died since
//! the taker came. Before the first poster has come it waits for it. A taker may rather wait for the
//! next message whoever posts it, as `msgrcv` does: [`follow`](Taker::follow).
//!
//! **Death.** What a process does to the mailbox happens whole or not at all, whenever it is killed:
//! the next who takes the lock puts back what a dead holder had begun, within 50 ms. A message that a
//! taker had in hand when it died goes back to the front, marked as
//! [redelivered](Taken::redelivered); what a poster was writing in place is thrown away.
//!
//! **Guards.** A [`Delivery`] has one message in hand, and stands in nobody's way. It counts as taken
//! when it is dropped.
//!
//! **Waiting.** As with a queue; who waits for a type is woken for messages of that type only. All who
//! wait for one that has come are woken, and one of them gets it. Posters that wait for room are not
//! served in the order in which they came: a long message may wait while short ones pass. A poster that
//! is far ahead of takers who are at work lets them go first, for some microseconds: see `mailbox_lead`.
//!
//! **Fork.** A handle that a child inherited is refused there ([`PostError::Forked`],
//! [`TakeError::Forked`]): open the mailbox again.
//!
//! **Limits.** Bytes, messages and members are fixed at creation. Messages stand in blocks of sizes
//! that lie 14 to 25 % apart, and a block keeps its size until the mailbox is empty: one that was
//! full of small messages may have no block for a large one before that, though there is room by the
//! numbers, and a poster waits as if it were full. A process that is stopped while it has the lock,
//! which it has for less than a microsecond at a time, stops all; they are told so after 20 s
//! ([`PostError::Busy`]), or after their time-out. Everybody needs write permission.
//!
//! # Examples
//! ```
//! use tombolo::mailbox::{Options, Poster, Taker, Wanted};
//!
//! # let name = format!("doc-mailbox-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let mut poster = Poster::open_or_create(name.clone(), &Options::default())?;
//! poster.post(2, b"later")?;
//! poster.post(1, b"urgent")?;
//!
//! let mut taker = Taker::open(name)?;
//! let mut message = Vec::new();
//! taker.take(Wanted::UpTo(9), &mut message)?;
//! assert_eq!(message, b"urgent");
//! assert_eq!(taker.take(Wanted::Any, &mut message)?.kind, 2);
//!
//! drop(poster);
//! let end = taker.take(Wanted::Any, &mut message).unwrap_err();
//! assert!(end.is_closed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # References
//! msgget(2), msgop(2), sysvipc(7).

use crate::channel::{self, Channel};
use crate::mailbox_inside::Fault;
use crate::mailbox_layout::Shape;
use shmem::header::Lifetime;
use shmem::{Address, OpenError, Reason, WrongSize};
use sysv::Mode;

pub use crate::mailbox_poster::{Loan, Poster};
pub use crate::mailbox_store::Wanted;
pub use crate::mailbox_taker::{Delivery, Taken, Taker};

/// Texts up to this long are copied under the lock, rather than that it be taken twice.
pub(crate) const SHORT: usize = 4096;
/// The largest type.
pub const LARGEST_TYPE: u64 = i64::MAX as u64;

/// What a new mailbox is to be like; one that exists stays as it is.
#[derive(Clone, Copy, Debug)]
#[doc(alias = "msgmnb")]
pub struct Options {
    /// Bytes of text that it holds at most, and so of one message. The kernel provides what is used.
    pub capacity: usize,
    /// Messages that it holds at most, up to 67,108,864.
    pub messages: usize,
    /// How many posters and takers there may be at a time together, 1 to 1024.
    pub members: usize,
    /// Who may use it. Posters and takers both need to read and to write.
    pub mode: Mode,
    /// How long it lives. An anonymous one is reached by its [id](Poster::id).
    pub lifetime: Lifetime,
}

impl Default for Options {
    /// 65,536 messages with 16 MiB together, 256 members, for this user alone, while it is used or
    /// holds messages.
    fn default() -> Self {
        Self {
            capacity: 16 << 20,
            messages: 1 << 16,
            members: 256,
            mode: Mode::default(),
            lifetime: Lifetime::WhileUsed,
        }
    }
}

/// Somebody keeps the lock.
fn busy(pid: Option<i32>) -> String {
    match pid {
        Some(pid) => {
            format!("process {pid} has the mailbox's lock and does not go on; continue or end it")
        }
        None => "a process has the mailbox's lock and does not go on; continue or end it".into(),
    }
}

/// A message could not be posted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// There was no room for it in time.
    #[error("the mailbox is full; take from it, wait longer, or create it with a larger capacity")]
    Full,
    /// A message can't have this type.
    #[error("a message can't have the type {0}; types go from 1 to 9223372036854775807")]
    Type(u64),
    /// It is longer than a message may be.
    #[error(
        "a message of {length} bytes is longer than the {longest} bytes that fit this mailbox; create it with a larger capacity"
    )]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// Bytes that a message may have.
        longest: usize,
    },
    /// The process with this pid, if it is known, has the lock, lives, and does not go on.
    #[error("{}", busy(*.0))]
    Busy(Option<i32>),
    /// The kernel has no memory for it.
    #[error("the kernel has no memory for the message; free some, or post a shorter one")]
    NoMemory,
    /// Its segment holds what no member writes.
    #[error("the mailbox's segment is damaged; remove it and create it anew")]
    Damaged,
    /// The mailbox was removed.
    #[error("the mailbox was removed; open it again")]
    Removed,
    /// This process has the poster by a fork.
    #[error("a poster can't be used in a child of the process that opened it; open another there")]
    Forked,
}

impl From<Fault> for PostError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Busy(pid) => Self::Busy(pid),
            Fault::Removed => Self::Removed,
            Fault::NoMemory => Self::NoMemory,
            // A poster needs nobody.
            Fault::Damaged | Fault::Deserted { .. } => Self::Damaged,
        }
    }
}

/// No message could be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// The end: nothing that is wanted waits, and all posters have left.
    #[error("nothing that is wanted is left in the mailbox, and all its posters have left")]
    Closed,
    /// The end, but not a good one.
    #[error("nothing that is wanted is left in the mailbox, and one of its posters died")]
    PosterDied,
    /// The process with this pid, if it is known, has the lock, lives, and does not go on.
    #[error("{}", busy(*.0))]
    Busy(Option<i32>),
    /// Its segment holds what no member writes.
    #[error("the mailbox's segment is damaged; remove it and create it anew")]
    Damaged,
    /// The message is not of the size that was asked for.
    #[error(transparent)]
    WrongSize(WrongSize),
    /// The mailbox was removed.
    #[error("the mailbox was removed; open it again")]
    Removed,
    /// This process has the taker by a fork.
    #[error("a taker can't be used in a child of the process that opened it; open another there")]
    Forked,
}

impl TakeError {
    /// Whether nothing that is wanted is left, and all posters have left.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl From<Fault> for TakeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Busy(pid) => Self::Busy(pid),
            Fault::Removed => Self::Removed,
            Fault::Deserted { died: true } => Self::PosterDied,
            Fault::Deserted { died: false } => Self::Closed,
            // A taker needs no memory.
            Fault::Damaged | Fault::NoMemory => Self::Damaged,
        }
    }
}

/// Removes a mailbox with all that is in it: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// See [`Reason`].
pub fn remove(address: impl Into<Address>) -> Result<(), OpenError> {
    channel::remove(&address.into(), |shape: &Shape, region| {
        (0..shape.seated(region)).for_each(|seat| shape.bell(region, seat).ring());
    })
}

/// Opens a mailbox, or creates it as `options` say.
pub(crate) fn open_or_create(
    address: Address,
    options: &Options,
) -> Result<Channel<Shape>, OpenError> {
    let Options {
        capacity,
        messages,
        members,
        mode,
        lifetime,
    } = *options;
    let Some((shape, _)) = Shape::plan(capacity, messages, members) else {
        return Err(OpenError::new(&address, Reason::Capacity(capacity)));
    };
    Channel::open_or_create(address, shape, mode, lifetime)
}
