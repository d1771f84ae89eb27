//! The header by which a segment is known as one of ours.
//!
//! The first word tells what state the segment is in, and everything hangs on it:
//!
//! | word | the segment is |
//! | --- | --- |
//! | 0 | new: all zero, whoever comes may initialise it |
//! | an [`Identity`] | being initialised by that process; if it is dead, nobody's |
//! | an identity, marked | a channel that this process may be about to give up, as the last to leave it; if it is dead, `READY` |
//! | [`READY`] | a channel; the rest of the header is whole and does not change any more |
//! | [`ENDED`] | given up: whoever has it open looks for a newer one, or learns that it is gone |
//! | anything else | not ours |
//!
//! - `[HEADER_READY]` Everything that the initialiser stored is seen by whoever loads `READY`:
//!   released by the store of `READY`, acquired by the load. Weaker, an opener could read the
//!   fields of a header before they are there.
//! - `[HEADER_CLAIM]` Who takes over from a dead initialiser sees what it stored, and stores over
//!   it: the compare-exchange acquires and releases.
//!
//! A header is input like everything else: [`Header::read`] copies it once, checks the copy, and
//! only the copy is used.

use crate::layout::Layout;
use crate::presence::Identity;
use crate::region::{OutOfBounds, Region, View};
use crate::sync::Ordering;
use crate::window::Window;

crate::layout! {
    "header", 256;
    STATE: 8 @ 0, "each initialiser by compare-exchange [HEADER_CLAIM]; READY last [HEADER_READY]; who leaves last, marked; ENDED by the remover", "what state the segment is in, see the table above; a crash leaves the dead one's identity";
    HEADER_VERSION: 4 @ 8, "the initialiser, before READY", "version of this table";
    KIND: 4 @ 12, "the initialiser, before READY", "which channel: a Kind";
    LAYOUT_HASH: 8 @ 16, "the initialiser, before READY", "hash of all offsets and sizes of the channel's layout";
    LENGTH: 8 @ 24, "the initialiser, before READY", "bytes of the segment, the same as the kernel says";
    GENERATION: 4 @ 32, "the initialiser, before READY", "1, and one more each time the channel moved to a larger segment";
    LIFETIME: 4 @ 36, "the initialiser, before READY", "until removed 0, while used 1, anonymous 2";
    CREATOR_UID: 4 @ 40, "the initialiser, before READY", "its effective user; the kernel's word for it is in shmid_ds";
    CREATOR_PID: 4 @ 44, "the initialiser, before READY", "its pid, in its own PID name space";
    CREATOR: 8 @ 48, "the initialiser, before READY", "its identity";
    CREATED: 8 @ 56, "the initialiser, before READY", "nanoseconds since the epoch";
    NAME_LENGTH: 4 @ 64, "the initialiser, before READY", "bytes of the name, 0 if it has none";
    NAME: 128 @ 72, "the initialiser, before READY", "the name without its user, UTF-8";
}

/// Bytes of the header; a channel's own layout begins here.
pub const SIZE: usize = LAYOUT.size;
/// The version of the header's layout.
pub const VERSION: u32 = 1;
/// Longest name, in bytes.
pub const NAME_MAX: usize = 128;

/// The state word of a channel.
pub const READY: u64 = u64::from_le_bytes(*b"TOMBOLO\x01");
/// The state word of a segment that was given up.
pub const ENDED: u64 = u64::from_le_bytes(*b"TOMBEND\x01");

/// Marks the identity of who decides whether a channel goes. No identity has this bit.
const LEAVING: u64 = 1 << 31;

/// The state word of a channel while `process` decides whether it goes.
#[cfg_attr(
    loom,
    expect(dead_code, reason = "used by closing, which needs the kernel")
)]
pub(crate) fn leaving(process: Identity) -> u64 {
    process.word() | LEAVING
}

/// Which channel a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum Kind {
    /// The latest message.
    Value = 1,
    /// The bounded buffer.
    Queue = 2,
    /// One to many.
    Topic = 3,
    /// Typed messages.
    Mailbox = 4,
    /// Requests with replies.
    Service = 5,
}

impl Kind {
    /// The kind with that number.
    pub fn from_number(number: u32) -> Option<Self> {
        [
            Self::Value,
            Self::Queue,
            Self::Topic,
            Self::Mailbox,
            Self::Service,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == number)
    }

    /// Its name, as commands show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Queue => "queue",
            Self::Topic => "topic",
            Self::Mailbox => "mailbox",
            Self::Service => "service",
        }
    }
}

/// How long a channel lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// Until somebody removes it, whoever has it open.
    #[default]
    UntilRemoved,
    /// Until the last one closes it.
    WhileUsed,
    /// Without a name or key, reached by id, until the last one closes it or dies.
    Anonymous,
}

/// What state a segment is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Zero: nobody has begun to initialise it.
    New,
    /// Being initialised.
    Claimed(Identity),
    /// A channel whose last user, perhaps, is deciding whether it goes.
    Leaving(Identity),
    /// A channel.
    Ready,
    /// Given up.
    Ended,
    /// Not ours.
    Foreign,
}

impl State {
    /// Loads the state of a segment. One too small for a header is not ours.
    pub fn of(view: &View) -> Self {
        if view.len() < SIZE {
            return Self::Foreign;
        }
        // [HEADER_READY] acquire.
        match view.load_u64(STATE, Ordering::Acquire) {
            0 => Self::New,
            READY => Self::Ready,
            ENDED => Self::Ended,
            word => match Identity::from_word(word & !LEAVING) {
                None => Self::Foreign,
                Some(process) if word & LEAVING == 0 => Self::Claimed(process),
                Some(process) => Self::Leaving(process),
            },
        }
    }
}

/// Whether a channel that was ready has been given up: who has it open looks for another.
#[inline]
pub fn has_ended(view: &View) -> bool {
    // [HEADER_READY] acquire, as in `State::of`.
    view.load_u64(STATE, Ordering::Acquire) == ENDED
}

/// [`has_ended`] by a window that begins where the segment does.
#[inline]
pub fn has_ended_in<const BYTES: usize>(window: &Window<BYTES>) -> bool {
    // [HEADER_READY] acquire, as in `State::of`.
    window.load_u64(STATE, Ordering::Acquire) == ENDED
}

/// Tries to become the one who initialises the segment, from the state `from`.
pub fn claim(region: &Region, from: State, me: Identity) -> bool {
    let from = match from {
        State::New => 0,
        State::Claimed(other) => other.word(),
        _ => return false,
    };
    // [HEADER_CLAIM] acquire and release; Relaxed on failure: nothing is read then.
    region
        .u64(STATE)
        .compare_exchange(from, me.word(), Ordering::AcqRel, Ordering::Relaxed)
        .is_ok()
}

/// Tries to move the state word from one state to another.
#[cfg_attr(
    loom,
    expect(
        dead_code,
        reason = "used by opening and closing, which need the kernel"
    )
)]
pub(crate) fn advance(region: &Region, from: u64, to: u64) -> bool {
    // Release to READY: [HEADER_READY]. SeqCst because the one who ends a channel looks at the
    // count of attaches afterwards, and an opener attaches and then looks at this word; both are
    // ordered by the kernel's lock around the count as well.
    region
        .u64(STATE)
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
        .is_ok()
}

/// The header of a segment, copied and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which channel.
    pub kind: u32,
    /// Hash of the channel's layout.
    pub layout_hash: u64,
    /// Bytes of the segment.
    pub length: u64,
    /// Counts the segments that the channel has moved through.
    pub generation: u32,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Effective user of its creator, as the creator wrote it.
    pub creator_uid: u32,
    /// Pid of its creator, in the creator's PID name space.
    pub creator_pid: u32,
    /// Identity of its creator.
    pub creator: u64,
    /// Nanoseconds since the epoch.
    pub created: u64,
    /// The name without its user; empty if it has none.
    pub name: String,
}

/// Why a header is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHeader {
    /// Made by a program with another layout of headers.
    #[error("its header has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// The length in the header is not that of the segment.
    #[error("its header says {header} bytes, the segment has {segment}")]
    Length {
        /// Bytes by the header.
        header: u64,
        /// Bytes by the kernel.
        segment: u64,
    },
    /// The name is too long or no text.
    #[error("the name in its header is damaged")]
    Name,
    /// A field has a value that it can't have.
    #[error("the field {0} in its header is damaged")]
    Field(&'static str),
}

impl Header {
    /// Copies and checks the header of a segment whose state is [`State::Ready`].
    pub fn read(view: &View) -> Result<Self, BadHeader> {
        Self::read_part(view, view.len() as u64)
    }

    /// [`read`](Self::read) from a copy of the beginning of a segment of `segment` bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_part(view: &View, segment: u64) -> Result<Self, BadHeader> {
        let mut bytes = [0u8; SIZE];
        view.copy_out(0, &mut bytes)
            .map_err(|OutOfBounds { region, .. }| BadHeader::Length {
                header: SIZE as u64,
                segment: region as u64,
            })?;
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let version = u32_at(HEADER_VERSION);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let length = u64_at(LENGTH);
        if length != segment {
            return Err(BadHeader::Length {
                header: length,
                segment,
            });
        }
        let name_length = u32_at(NAME_LENGTH) as usize;
        let name = bytes[NAME..NAME + NAME_MAX]
            .get(..name_length)
            .ok_or(BadHeader::Name)?;
        let lifetime = match u32_at(LIFETIME) {
            0 => Lifetime::UntilRemoved,
            1 => Lifetime::WhileUsed,
            2 => Lifetime::Anonymous,
            _ => return Err(BadHeader::Field("lifetime")),
        };
        Ok(Self {
            kind: u32_at(KIND),
            layout_hash: u64_at(LAYOUT_HASH),
            length,
            generation: u32_at(GENERATION),
            lifetime,
            creator_uid: u32_at(CREATOR_UID),
            creator_pid: u32_at(CREATOR_PID),
            creator: u64_at(CREATOR),
            created: u64_at(CREATED),
            name: std::str::from_utf8(name)
                .map_err(|_| BadHeader::Name)?
                .to_owned(),
        })
    }

    /// Writes everything but the state word. Only the one who claimed the segment does.
    ///
    /// # Errors
    /// If the segment is too small for a header.
    ///
    /// # Panics
    /// If the name is longer than [`NAME_MAX`].
    pub fn write(&self, region: &Region) -> Result<(), OutOfBounds> {
        let mut bytes = [0u8; SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(HEADER_VERSION, &VERSION.to_ne_bytes());
        put(KIND, &self.kind.to_ne_bytes());
        put(LAYOUT_HASH, &self.layout_hash.to_ne_bytes());
        put(LENGTH, &self.length.to_ne_bytes());
        put(GENERATION, &self.generation.to_ne_bytes());
        put(LIFETIME, &(self.lifetime as u32).to_ne_bytes());
        put(CREATOR_UID, &self.creator_uid.to_ne_bytes());
        put(CREATOR_PID, &self.creator_pid.to_ne_bytes());
        put(CREATOR, &self.creator.to_ne_bytes());
        put(CREATED, &self.created.to_ne_bytes());
        put(NAME_LENGTH, &(self.name.len() as u32).to_ne_bytes());
        put(NAME, self.name.as_bytes());
        region.copy_in(HEADER_VERSION, &bytes[HEADER_VERSION..])
    }
}

/// The hash of a channel's layout: the tables of the header, of locks and bells, and its own.
pub const fn layout_hash(tables: &[&Layout]) -> u64 {
    let mut hash = LAYOUT.hash(crate::layout::FNV_START);
    hash = crate::lock::layout::LAYOUT.hash(hash);
    hash = crate::wait::layout::LAYOUT.hash(hash);
    let mut i = 0;
    while i < tables.len() {
        hash = tables[i].hash(hash);
        i += 1;
    }
    hash
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Value as u32,
            layout_hash: 7,
            length: 512,
            generation: 1,
            lifetime: Lifetime::WhileUsed,
            creator_uid: 1000,
            creator_pid: 42,
            creator: 99,
            created: 1,
            name: "greeting".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let region = Region::heap(512);
        header().write(&region).unwrap();
        assert_eq!(Header::read(&region).unwrap(), header());
        assert_eq!(
            State::of(&region),
            State::New,
            "the state word is not the header's to write"
        );
    }

    #[test]
    fn damage_is_an_error() {
        let region = Region::heap(512);
        header().write(&region).unwrap();
        let with = |offset: usize, bytes: &[u8]| {
            let copy = Region::heap(512);
            header().write(&copy).unwrap();
            copy.copy_in(offset, bytes).unwrap();
            Header::read(&copy).unwrap_err()
        };
        assert_eq!(with(HEADER_VERSION, &[9, 0, 0, 0]), BadHeader::Version(9));
        assert_eq!(with(NAME_LENGTH, &[0xff; 4]), BadHeader::Name);
        assert_eq!(with(NAME, &[0xff]), BadHeader::Name);
        assert_eq!(with(LIFETIME, &[7]), BadHeader::Field("lifetime"));
        assert!(matches!(with(LENGTH, &[1]), BadHeader::Length { .. }));
        assert!(Header::read(&Region::heap(100)).is_err());
    }

    #[test]
    fn only_one_claims() {
        let region = Region::heap(512);
        let me = Identity::from_word(5 << 32 | 0x2b).unwrap();
        let other = Identity::from_word(6 << 32 | 0x2b).unwrap();
        assert!(claim(&region, State::New, me));
        assert!(!claim(&region, State::New, other));
        assert_eq!(State::of(&region), State::Claimed(me));
        assert!(claim(&region, State::Claimed(me), other));
        assert!(advance(&region, other.word(), READY));
        assert_eq!(State::of(&region), State::Ready);
        assert!(!claim(&region, State::Ready, me));
        assert!(advance(&region, READY, leaving(me)));
        assert_eq!(State::of(&region), State::Leaving(me));
        assert!(!claim(&region, State::Leaving(me), other));
    }
}
