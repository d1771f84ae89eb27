//! What stands where in a `mailbox`.

use crate::mailbox_store::{Store, layout as store, message, run};
use crate::mailbox_waits::{WORDS, Waits};
use crate::participant::{Place, layout as participant};
use crate::{channel, mailbox_store};
use shmem::header::Kind;
use shmem::heap::{self, HEADER, Heap};
use shmem::journal::{self, Journal};
use shmem::lock::{LOCK_SIZE, Lock};
use shmem::open::Expected;
use shmem::region::{OutOfBounds, Region, View};
use shmem::sync::Ordering;
use shmem::wait::{BELL_SIZE, Bell};

/// Notes of the largest change, and more: see `journal`.
const NOTES: usize = 320;

/// The channel's own part of the segment, behind the header.
pub mod layout {
    use super::{BELL_SIZE, HEADER, LOCK_SIZE, NOTES, WORDS, journal, store};

    /// Bytes of a set of members.
    const SET: usize = WORDS * 8;
    const STORE_SIZE: usize = store::LAYOUT.size;
    const JOURNAL_SIZE: usize = journal::size(NOTES);
    const _: () = assert!(BELL_SIZE == 8);

    shmem::layout! {
        "mailbox", 7424;
        CAPACITY: 8 @ 256, "the initialiser", "bytes of text that it may hold";
        MESSAGES: 8 @ 264, "the initialiser", "messages that it may hold";
        MEMBERS: 4 @ 272, "the initialiser", "how many members there may be, 1 to 1024";
        LOCK: (LOCK_SIZE) @ 320, "see `lock`", "guards everything below, and all blocks";
        STORE: (STORE_SIZE) @ 336, "the lock's holder, by journal", "the messages that wait: see `mailbox_store`";
        POSTED: 8 @ 384, "the lock's holder", "messages that ever came; takers that spin look at it";
        TAKEN: 8 @ 392, "the lock's holder", "times that room became free; posters that spin look at it";
        POSTERS: 8 @ 400, "the lock's holder, by journal", "posters that ever came";
        DIED: 8 @ 408, "the lock's holder, by journal", "posters of them that died instead of leaving, as far as that was noticed";
        DRAFTS: 8 @ 416, "the lock's holder, by journal", "messages that are being written in place";
        RESERVED: 8 @ 424, "the lock's holder, by journal", "bytes that they may have";
        SEATED: 4 @ 432, "the lock's holder", "seats from this one on never had a member";
        WAITING: (SET) @ 448, "members, by read-modify-write; set under the lock [MAILBOX_WAITS]", "a bit for each seat: whether its member waits, for what WANTS there says; means nothing if it is dead";
        HOLDING: (SET) @ 576, "the lock's holder, by journal", "a bit for each seat: whether it has a block in hand";
        JOURNAL: (JOURNAL_SIZE) @ 704, "see `journal`", "what the lock's holder has changed so far";
        HEAP: (HEADER) @ 5888, "see `heap`", "the header of the heap whose blocks the messages are";
    }
}

pub use crate::mailbox_waits::{MOST, seat};

/// Hash over everything above, and all that is in it.
pub const LAYOUT_HASH: u64 = shmem::header::layout_hash(&[
    &layout::LAYOUT,
    &seat::LAYOUT,
    &participant::LAYOUT,
    &store::LAYOUT,
    &message::LAYOUT,
    &run::LAYOUT,
    &mailbox_store::kind::LAYOUT,
    &mailbox_store::node::LAYOUT,
    &heap::layout::LAYOUT,
    &heap::block::LAYOUT,
    &journal::layout::LAYOUT,
]);

const SEATS: usize = layout::LAYOUT.size;
const LINE: usize = 64;
/// Bytes that a message takes beside its text, at most: its block's, and those of a run, a type and
/// a node.
const BESIDE: usize = 256;
/// Most messages.
pub const MOST_MESSAGES: usize = 1 << 26;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// It posts.
    Poster = 1,
    /// It takes.
    Taker = 2,
}

/// The shape of a mailbox: private copies of what was checked at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    capacity: u64,
    messages: u64,
    members: usize,
    /// Bytes of the segment.
    length: usize,
}

impl Shape {
    fn new(capacity: u64, messages: u64, members: usize) -> Option<Self> {
        let counts = (1..=MOST).contains(&members)
            && (1..=MOST_MESSAGES as u64).contains(&messages)
            && capacity >= 1;
        if !counts {
            return None;
        }
        // Blocks of one size are not used for another while any message is there, so there is more
        // than what is counted: see `heap`. What nobody touches the kernel does not provide.
        let texts = usize::try_from(capacity).ok()?.checked_mul(4)?;
        let beside = usize::try_from(messages).ok()?.checked_mul(BESIDE)?;
        let seats = SEATS + members * seat::LAYOUT.size;
        let length = texts.checked_add(beside)?.checked_add(seats)?;
        (length <= isize::MAX as usize - LINE).then(|| Self {
            capacity,
            messages,
            members,
            length: length.next_multiple_of(LINE),
        })
    }

    /// A mailbox for so many bytes, messages and members, and how long a segment must be for it.
    /// `None` if no segment can be.
    pub fn plan(capacity: usize, messages: usize, members: usize) -> Option<(Self, usize)> {
        let shape = Self::new(capacity as u64, messages as u64, members)?;
        Some((shape, shape.length))
    }

    /// Where the blocks begin.
    pub fn blocks(&self) -> usize {
        SEATS + self.members * seat::LAYOUT.size
    }

    /// Where they end.
    pub fn end(&self) -> usize {
        self.length
    }

    /// Bytes of text that it may hold, and so of one message.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Messages that it may hold.
    #[inline]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many members there may be.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Offset of a word of a seat, one of [`seat`]'s.
    #[inline]
    pub fn at(&self, seat: usize, word: usize) -> usize {
        SEATS + seat * seat::LAYOUT.size + word
    }

    /// The place of a seat's member.
    #[inline]
    pub fn seat(&self, seat: usize) -> Place {
        Place(self.at(seat, seat::MEMBER))
    }

    /// The bell of a seat.
    #[inline]
    pub fn bell<'a>(&self, region: &'a Region, seat: usize) -> Bell<'a> {
        Bell::new(region, self.at(seat, seat::BELL))
    }

    /// How many seats may have members.
    #[inline]
    pub fn seated(&self, view: &View) -> usize {
        // Relaxed: the lock orders it, or it is for who looks from outside.
        (view.load_u32(layout::SEATED, Ordering::Relaxed) as usize).min(self.members)
    }

    /// Those who wait.
    #[inline]
    pub(crate) fn waits<'a>(&self, region: &'a Region) -> Waits<'a> {
        Waits {
            region,
            set: layout::WAITING,
            seats: SEATS,
        }
    }

    /// The lock.
    #[inline]
    pub fn lock<'a>(&self, region: &'a Region) -> Lock<'a> {
        Lock::new(region, layout::LOCK)
    }

    /// The journal.
    #[inline]
    pub fn journal(&self) -> Journal {
        Journal {
            offset: layout::JOURNAL,
            room: NOTES,
        }
    }

    /// The messages that wait.
    #[inline]
    pub fn store(&self) -> Store {
        Store {
            root: layout::STORE,
            heap: Heap {
                header: layout::HEAP,
                start: self.blocks(),
                end: self.length,
            },
        }
    }
}

/// Whether nothing in a mailbox waits for anybody: no message, and none in the hands of a taker.
///
/// A holder of the lock that died may have left a change half made, so what counts is what stood
/// before it.
fn is_empty(shape: &Shape, view: &View) -> bool {
    let before = |offset| {
        let noted = shape.journal().before(view, offset);
        // Relaxed: nobody is there, or somebody looks again.
        noted.unwrap_or_else(|| view.load_u64(offset, Ordering::Relaxed))
    };
    let holds = |seat: usize| {
        // Relaxed: as above.
        let role = view.load_u32(shape.at(seat, seat::ROLE), Ordering::Relaxed);
        role == Part::Taker as u32 && before(shape.at(seat, seat::HELD)) != 0
    };
    before(layout::STORE + store::COUNT) == 0 && !(0..shape.seated(view)).any(holds)
}

impl channel::Shape for Shape {
    const EXPECTED: Expected = Expected {
        kind: Kind::Mailbox,
        layout_hash: LAYOUT_HASH,
        may_discard: |view| {
            let holds = |shape: Self| !is_empty(&shape, view);
            !channel::Shape::open(view).is_some_and(holds)
        },
    };

    fn length(&self) -> Option<usize> {
        Some(self.length)
    }

    fn format(&self, region: &Region) -> Result<(), OutOfBounds> {
        region.copy_in(layout::CAPACITY, &self.capacity.to_ne_bytes())?;
        region.copy_in(layout::MESSAGES, &self.messages.to_ne_bytes())?;
        region.copy_in(layout::MEMBERS, &(self.members as u32).to_ne_bytes())
    }

    fn read(view: &View) -> Option<Self> {
        let word = |at| {
            let mut bytes = [0; 8];
            view.copy_out(at, &mut bytes).ok()?;
            Some(u64::from_ne_bytes(bytes))
        };
        let mut members = [0; 4];
        view.copy_out(layout::MEMBERS, &mut members).ok()?;
        let members = usize::try_from(u32::from_ne_bytes(members)).ok()?;
        Self::new(word(layout::CAPACITY)?, word(layout::MESSAGES)?, members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use channel::Shape as _;

    #[test]
    fn a_shape_is_read_as_it_was_written() {
        for (capacity, messages, members) in [(1, 1, 1), (300, 9, 3), (1 << 20, 4096, MOST)] {
            let (shape, length) = Shape::plan(capacity, messages, members).unwrap();
            let region = Region::heap(length);
            shape.format(&region).unwrap();
            assert_eq!(Shape::open(&region), Some(shape));
            assert_eq!(Shape::open(&Region::heap(length - 1)), None);
            assert!(shape.at(members, 0) <= shape.blocks());
        }
        assert_eq!(Shape::plan(0, 1, 1), None);
        assert_eq!(Shape::plan(1, 0, 1), None);
        assert_eq!(Shape::plan(1, 1, MOST + 1), None);
        assert_eq!(Shape::plan(usize::MAX / 2, 1, 1), None);
    }

    #[test]
    fn a_hostile_shape_is_none() {
        let (shape, length) = Shape::plan(256, 4, 2).unwrap();
        for (at, bytes) in [
            (layout::CAPACITY, 8),
            (layout::MESSAGES, 8),
            (layout::MEMBERS, 4),
        ] {
            for word in [0, 1 << 30, u64::MAX] {
                let region = Region::heap(length);
                shape.format(&region).unwrap();
                region.copy_in(at, &word.to_ne_bytes()[..bytes]).unwrap();
                assert_eq!(Shape::open(&region), None, "{word} at {at}");
            }
        }
    }
}
