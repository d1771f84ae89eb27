//! Why a channel can't be opened or made.

use crate::header::{BadHeader, Kind};
use crate::open::Address;
use crate::presence::Identity;
use std::fmt;
use sysv::{Errno, shm};

/// A channel could not be opened or made.
#[derive(Clone, Debug)]
pub struct OpenError {
    address: Address,
    reason: Reason,
}

/// The reasons.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// There is no such channel.
    NotFound,
    /// Its mode does not let this process in.
    Denied(shm::Status),
    /// There is something else, with these ids.
    NotAChannel(Vec<i32>),
    /// The segment with this id says that it is a channel, but its header is damaged.
    Damaged(i32, BadHeader),
    /// The channel's own part of the segment with this id is damaged.
    Shape(i32),
    /// No segment can have room for messages of so many bytes.
    Capacity(usize),
    /// It is another kind of channel.
    Kind {
        /// The kind's number in its header.
        found: u32,
        /// The kind that was wanted.
        expected: Kind,
    },
    /// The segment with this id was made by a program with another layout.
    Layout(i32),
    /// Only the user with this number can create channels of its names.
    NotMine(u32),
    /// Key 0 makes a new segment each time.
    Private,
    /// All keys of the name have other segments, with these ids.
    WindowFull(Vec<i32>),
    /// Whoever creates it is alive but does not finish.
    Unfinished(Identity),
    /// Others create and remove segments at its keys all the time.
    Contended,
    /// Its lock is held by a process, with this pid if it is known, that is alive and does not go on.
    Locked(Option<i32>),
    /// It has as many of something as it may.
    Crowded {
        /// Of what: producers, consumers, …
        what: &'static str,
        /// How many.
        limit: usize,
    },
    /// Only channels with a name can move to a larger segment.
    NoRoomToGrow,
    /// The segment is too small for what is to be in it, so many bytes.
    TooSmall(usize),
    /// A limit of the kernel is reached.
    Limit {
        /// What was being made.
        what: &'static str,
        /// Which limits can be meant.
        limits: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A system call failed.
    Call(&'static str, Errno),
}

impl Reason {
    /// Why a presence can't be made or looked for.
    pub fn presence(errno: Errno) -> Self {
        match errno {
            Errno::NOSPC => Self::Limit {
                what: "this process's presence segment",
                limits: "kernel.shmmni, kernel.shmall",
                errno,
            },
            errno => Self::Call("making or looking for a presence segment", errno),
        }
    }

    /// Why removing failed.
    pub fn remove(errno: Errno) -> Self {
        match errno {
            Errno::INVAL | Errno::IDRM => Self::NotFound,
            errno => Self::Call("shmctl IPC_RMID", errno),
        }
    }

    pub(crate) fn create(length: usize, errno: Errno) -> Self {
        match errno {
            Errno::NOSPC => Self::Limit {
                what: "the segment",
                limits: "kernel.shmmni, kernel.shmall",
                errno,
            },
            Errno::INVAL => Self::Limit {
                what: "the segment",
                limits: "kernel.shmmax",
                errno,
            },
            Errno::NOMEM => Self::Limit {
                what: "the segment",
                limits: "the memory of this machine",
                errno,
            },
            errno if length == 0 => Self::Call("shmget of 0 bytes", errno),
            errno => Self::Call("shmget", errno),
        }
    }
}

impl OpenError {
    /// Says why something at an address can't be opened.
    pub fn new(address: &Address, reason: Reason) -> Self {
        Self {
            address: address.clone(),
            reason,
        }
    }

    /// What was to be opened.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Why it was not.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether there is no such channel.
    pub fn is_not_found(&self) -> bool {
        matches!(self.reason, Reason::NotFound)
    }

    /// Whether permission is missing.
    pub fn is_permission_denied(&self) -> bool {
        let errno = match self.reason {
            Reason::Denied(_) | Reason::NotMine(_) => return true,
            Reason::Call(_, errno) => errno,
            _ => return false,
        };
        matches!(errno, Errno::ACCESS | Errno::PERM)
    }

    /// Whether something else than the channel that was wanted is there.
    pub fn is_mismatch(&self) -> bool {
        matches!(
            self.reason,
            Reason::NotAChannel(_)
                | Reason::Damaged(..)
                | Reason::Shape(_)
                | Reason::Kind { .. }
                | Reason::Layout(_)
        )
    }

    /// Whether a limit of the kernel was reached.
    pub fn is_limit(&self) -> bool {
        matches!(self.reason, Reason::Limit { .. })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.reason {
            Reason::NotFound => {
                write!(
                    f,
                    "there is no channel {address}; list what there is: tombolo ls"
                )
            }
            Reason::Denied(status) => write!(
                f,
                "permission denied for {address}: segment {} belongs to user {} and has mode {}; \
                 its owner can open it: tombolo set shm {} --mode MODE",
                status.id, status.perm.uid, status.perm.mode, status.id
            ),
            Reason::NotAChannel(ids) => {
                write!(f, "{address} is no channel of tombolo ({}); ", Ids(ids))?;
                write!(
                    f,
                    "look at its bytes: tombolo dump {}",
                    ids.first().unwrap_or(&0)
                )
            }
            Reason::Damaged(id, bad) => write!(
                f,
                "{address} is damaged: segment {id}: {bad}; remove it: tombolo rm shm {id}"
            ),
            Reason::Shape(id) => write!(
                f,
                "{address} is damaged: the numbers in segment {id} do not fit its size; \
                 remove it: tombolo rm shm {id}"
            ),
            Reason::Capacity(capacity) => write!(
                f,
                "{address} can't have a capacity of {capacity} bytes; no address space is so large"
            ),
            Reason::Kind { found, expected } => {
                let found = Kind::from_number(*found).map_or("of an unknown kind", Kind::name);
                write!(f, "{address} is a {found}, not a {}", expected.name())
            }
            Reason::Layout(id) => write!(
                f,
                "{address} was made by a program of another version (segment {id}); \
                 end its users and remove it: tombolo rm shm {id}"
            ),
            Reason::NotMine(uid) => write!(
                f,
                "there is no channel {address}, and only user {uid} can create it; \
                 wait until that user does, or use a name of your own"
            ),
            Reason::Private => write!(
                f,
                "{address} is private and reaches no channel; take a name, or create an anonymous one"
            ),
            Reason::WindowFull(ids) => write!(
                f,
                "no key is left for {address}: other segments have them all ({}); \
                 remove one, or take another name",
                Ids(ids)
            ),
            Reason::Unfinished(creator) => {
                write!(
                    f,
                    "{address} is being created by a process that does not finish"
                )?;
                match creator.pid() {
                    Some(pid) if pid > 0 => write!(f, ": pid {pid}; continue or end it"),
                    _ => write!(f, " in another PID name space; continue or end it"),
                }
            }
            Reason::Contended => write!(
                f,
                "{address} can't be created: others create and remove segments at its keys \
                 all the time; end them, or take another name"
            ),
            Reason::Locked(pid) => {
                write!(f, "{address} is locked by a process that does not go on")?;
                match pid {
                    Some(pid) => write!(f, ": pid {pid}; continue or end it"),
                    None => write!(f, " in another PID name space; continue or end it"),
                }
            }
            Reason::Crowded { what, limit } => write!(
                f,
                "{address} has {limit} {what} already, as many as it may; \
                 end one, or remove it and create it with a larger limit"
            ),
            Reason::NoRoomToGrow => write!(
                f,
                "{address} can't grow: only a channel with a name can; \
                 remove it and create it with a larger capacity"
            ),
            Reason::TooSmall(bytes) => {
                write!(f, "{address} does not fit its segment of {bytes} bytes")
            }
            Reason::Limit {
                what,
                limits,
                errno,
            } => write!(
                f,
                "no room for {what} of {address}: {errno}; see {limits} in: tombolo limits"
            ),
            Reason::Call(call, errno) => write!(f, "{call} failed for {address}: {errno}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Ids in a sentence.
struct Ids<'a>(&'a [i32]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 {
            "segment"
        } else {
            "segments"
        })?;
        for (i, id) in self.0.iter().enumerate() {
            write!(f, "{} {id}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
