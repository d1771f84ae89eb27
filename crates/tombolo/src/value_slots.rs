//! The slots of a `value`: how a message is written so that no reader ever takes half of one.
//!
//! # Protocol
//! Messages are numbered from 1. Message *n* goes to slot *n* mod the number of slots, of which
//! there are at least two, so while it is written the one before stays readable.
//!
//! The writer, holding the lock or keeping the value (see `value_keep`): mark the slot with `n`; copy the
//! bytes; store `n` as the latest; ring. A reader: load the latest `n`; copy the bytes of its slot; look
//! at the slot's mark. If it is not `n`, the writer went round all slots in the meantime: the copy may be
//! torn and is thrown away, and the reader starts over, a bounded number of times.
//!
//! The mark says what is *going* to be in the slot, not what is there whole: that, only the latest
//! number says.
//!
//! - `[VALUE_TEAR]` If a reader has copied a byte of a newer message, or its extent, its look at the mark
//!   sees the newer one: the writer's release fence stands between the mark and what follows, the reader's
//!   acquire fence between that and the mark. Weaker, a torn copy passes for whole.
//! - `[VALUE_LATEST]` Who sees `n` as the latest sees its mark, its extent and all its bytes, or newer
//!   ones: released, acquired. Weaker, a reader takes a message of which not all is there.
//!
//! # Crash
//! A writer that dies before it stores `n` leaves a slot that is marked with a number that is not the
//! latest, so nobody reads it; the next writer, which inherits the lock, writes the same number into the
//! same slot again. Between storing `n` and ringing, the message is there and waiters see it at the end of
//! their slice.

use shmem::cells::{self, Cells, Extent, Fitting, Row};
use shmem::header::{self, ENDED, READY};
use shmem::lock::{LOCK_SIZE, Lock};
use shmem::region::{OutOfBounds, Region, View};
use shmem::sync::{Ordering, fence};
use shmem::wait::{self, BELL_SIZE, Bell};
use shmem::window::{Window, Words};

/// The channel's own part of the segment, behind the header.
pub mod layout {
    use super::{BELL_SIZE, LOCK_SIZE};

    shmem::layout! {
        "value", (448 + super::KEEPERS * super::keeper::LAYOUT.size);
        LOCK: (LOCK_SIZE) @ 256, "writers", "held for the time of a put by who does not keep the value; inherited from the dead";
        KEEP: 8 @ 272, "the writer that holds the lock [VALUE_KEEP]", "who keeps the value: bytes from the first seat to the keeper's, + 1, in bits 0 to 15, 0 for nobody; bit 16: it may go in without the lock; above: grows with each change";
        LATEST: 8 @ 320, "the writer that holds the lock or keeps the value [VALUE_LATEST]", "number of the latest whole message, 0 for none yet";
        BELL: (BELL_SIZE) @ 328, "waiters register, writers ring", "rung when there is a newer message";
        CAPACITY: 8 @ 384, "the initialiser", "longest message, in bytes";
        SLOTS: 4 @ 392, "the initialiser", "how many slots there are: 2, 4 or 8";
        SEATS: (super::KEEPERS * super::keeper::LAYOUT.size) @ 448, "keepers", "seats of those who keep the value, or may again: see value keeper";
    }
}

/// How many writers can have a keeper's seat: see `value_keep`.
pub const KEEPERS: usize = if cfg!(loom) { 1 } else { 8 };

/// A keeper's seat, on a line of its own.
pub mod keeper {
    shmem::layout! {
        "value keeper", 64;
        WHO: 8 @ 0, "who holds the lock takes it, from 0 or from a dead one; 0 by its owner [VALUE_OUT]", "identity of the process whose seat it is; 0 if it is free; a dead one's if it died";
        INSIDE: 8 @ 8, "its owner [VALUE_KEEP] [VALUE_OUT]", "number of the message that its owner puts without the lock, or wants to; it is out when that is the latest; 0 if it turned back";
    }
}

/// One slot.
pub mod slot {
    shmem::layout! {
        "value slot", 16;
        NUMBER: 8 @ 0, "as LATEST [VALUE_TEAR]", "number of the message that is in it, or going to be";
        EXTENT: 8 @ 8, "as LATEST", "lower 58 bits: bytes of the message, which follow; above: of one of more than 256, how far behind the slot's second line it begins instead, 0 to 63";
    }
}

/// Hash over everything above, and over how slots are laid out as cells.
pub const LAYOUT_HASH: u64 = cells::layout_hash(
    header::layout_hash(&[&layout::LAYOUT, &keeper::LAYOUT, &slot::LAYOUT]),
    slot::LAYOUT.size,
);

const FIRST_SLOT: usize = layout::LAYOUT.size;
/// Up to this capacity there are eight slots, which gives slow readers more time.
const SMALL: usize = 64 * 1024;

/// How many times a reader starts over.
pub const TRIES: u32 = if cfg!(loom) { 3 } else { 200 };

/// The shape of the slots: private copies of what was checked at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    capacity: usize,
    count: usize,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Nothing newer than what the reader has.
    Nothing,
    /// The message with this number, whole.
    Whole(u64),
    /// The writer was faster, each of [`TRIES`] times.
    Overtaken,
    /// The slot says that its message is longer than any can be.
    Damaged,
}

impl Slots {
    /// The shape for messages of up to `capacity` bytes, and how long a segment must be for it.
    /// `None` if no segment can be.
    pub fn plan(capacity: usize) -> Option<(Self, usize)> {
        Self::shaped(capacity, if capacity <= SMALL { 8 } else { 2 })
    }

    fn shaped(capacity: usize, count: usize) -> Option<(Self, usize)> {
        let stride = cells::stride(slot::LAYOUT.size, capacity)?;
        let length = stride.checked_mul(count)?.checked_add(FIRST_SLOT)?;
        (length <= isize::MAX as usize).then_some((Self { capacity, count }, length))
    }

    /// Writes the shape into a new segment, which is all zero.
    pub fn format(&self, region: &Region) -> Result<(), OutOfBounds> {
        region.copy_in(layout::CAPACITY, &(self.capacity as u64).to_ne_bytes())?;
        region.copy_in(layout::SLOTS, &(self.count as u32).to_ne_bytes())
    }

    /// Reads the shape from a segment and checks that it fits; `None` if it does not.
    pub fn open(view: &View) -> Option<Self> {
        let (mut capacity, mut count) = ([0; 8], [0; 4]);
        view.copy_out(layout::CAPACITY, &mut capacity).ok()?;
        view.copy_out(layout::SLOTS, &mut count).ok()?;
        let capacity = usize::try_from(u64::from_ne_bytes(capacity)).ok()?;
        let count = u32::from_ne_bytes(count) as usize;
        let (slots, length) = Self::shaped(capacity, count)?;
        (matches!(count, 2 | 4 | 8) && length <= view.len()).then_some(slots)
    }

    /// Longest message, in bytes.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The lock that writers take.
    #[inline]
    pub fn lock<'a>(&self, region: &'a Region) -> Lock<'a> {
        Lock::new(region, layout::LOCK)
    }

    /// The bell that a writer rings when it is done: a light one, for keepers.
    #[inline]
    pub fn bell<'a>(&self, region: &'a Region) -> Bell<'a> {
        Bell::light(region, layout::BELL)
    }

    fn row(&self) -> Row {
        Row {
            offset: FIRST_SLOT,
            count: self.count,
            room: self.capacity,
        }
    }

    /// The slots for reading. They are in the view, as was checked.
    pub fn reading(&self, view: &View) -> Reading {
        Reading {
            words: Window::of_view(view, 0),
            cells: Cells::of_view(view, self.row()),
        }
    }

    /// The slots for writing. They are in the region, as was checked.
    pub fn writing(&self, region: &Region) -> Writing {
        Writing {
            words: Window::new(region, 0),
            cells: Cells::new(region, self.row()),
        }
    }
}

/// The slots as a reader has them.
#[derive(Debug)]
pub struct Reading {
    /// From the segment's beginning.
    words: Window<{ layout::LAYOUT.size }, View>,
    cells: Cells<{ slot::LAYOUT.size }, View>,
}

impl Reading {
    /// Number of the latest message, 0 if there is none. A peer may publish a newer one before the
    /// answer is used.
    #[inline(always)]
    pub fn latest(&self) -> u64 {
        latest(self.words.words())
    }

    /// Whether there is a message, and the latest one is another than `seen`.
    #[inline(always)]
    pub fn has_news(&self, seen: u64) -> bool {
        let latest = self.latest();
        latest != seen && latest != 0
    }

    /// Whether the channel was given up: see `header::has_ended`.
    #[inline]
    pub fn has_ended(&self) -> bool {
        // [HEADER_READY] acquire, as in `header::has_ended`.
        self.words.load_u64(header::STATE, Ordering::Acquire) == ENDED
    }

    /// Reads the latest message into `to`, replacing what is there, if that goes without any ado: there is
    /// one, its number is not `seen`, the writer was not faster, and the channel has not ended. Otherwise
    /// `None`, and `to` means nothing.
    #[inline(always)]
    pub fn read_at_once(&self, seen: u64, to: &mut Vec<u8>) -> Option<u64> {
        let words = self.words.words();
        let Some(Read::Whole(number)) = self.read_once(words, seen, to) else {
            return None;
        };
        // Looked at after reading: it was the latest while the segment was the channel's.
        // [HEADER_READY] acquire, as in `header::has_ended`.
        let state = words.load_u64(header::STATE, Ordering::Acquire);
        (state == READY).then_some(number)
    }

    /// Reads the latest message into `to`, replacing what is there, if its number is not `seen`.
    ///
    /// `to` is left empty if there is none or it can't be read.
    pub fn read(&self, seen: u64, to: &mut Vec<u8>) -> Read {
        for _ in 0..TRIES {
            if let Some(read) = self.read_once(self.words.words(), seen, to) {
                return read;
            }
            shmem::sync::spin_loop();
        }
        to.clear();
        Read::Overtaken
    }

    /// `None` if the writer was faster; what `to` has is nonsense then.
    #[inline(always)]
    fn read_once(&self, words: Seen<'_>, seen: u64, to: &mut Vec<u8>) -> Option<Read> {
        let number = latest(words);
        if number == seen || number == 0 {
            to.clear();
            return Some(Read::Nothing);
        }
        let slot = self.cells.cell(number);
        // Relaxed: acquired with the number, and checked by the look at the mark.
        let extent = slot.words().load_u64(slot::EXTENT, Ordering::Relaxed);
        let fits = slot.replace(Extent(extent), to);
        // [VALUE_TEAR] acquire: the bytes before the mark.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        if slot.words().load_u64(slot::NUMBER, Ordering::Relaxed) != number {
            return None;
        }
        if fits {
            return Some(Read::Whole(number));
        }
        to.clear();
        Some(Read::Damaged)
    }
}

/// A message that fits into a slot.
pub type Message<'a, const FEW: bool = false> = Fitting<'a, { slot::LAYOUT.size }, FEW>;

/// The slots as a writer has them, who holds the lock or keeps the value, and rings afterwards.
#[derive(Debug)]
pub struct Writing {
    /// From the segment's beginning.
    words: Window<{ layout::LAYOUT.size }>,
    cells: Cells<{ slot::LAYOUT.size }>,
}

impl Writing {
    /// A message for a slot; `None` if it is longer than the capacity.
    #[inline(always)]
    pub fn fit<'a>(&'a self, message: &'a [u8]) -> Option<Message<'a>> {
        self.cells.fit(message)
    }

    /// The same for a short one: see [`Cells::fit_short`].
    #[inline(always)]
    pub fn fit_short<'a>(&'a self, message: &'a [u8]) -> Option<Message<'a, true>> {
        self.cells.fit_short(message)
    }

    /// The channel's words.
    #[inline(always)]
    pub fn words(&self) -> Control<'_> {
        self.words.words()
    }
}

/// The words at the beginning of the segment, for reading.
type Seen<'a> = Words<'a, { layout::LAYOUT.size }, View>;

#[inline(always)]
fn latest(words: Seen<'_>) -> u64 {
    // [VALUE_LATEST] acquire.
    words.load_u64(layout::LATEST, Ordering::Acquire)
}

/// The words at the beginning of the segment, for writing.
pub type Control<'a> = Words<'a, { layout::LAYOUT.size }>;

/// The number of the next message.
#[inline(always)]
pub fn next(words: Control<'_>) -> u64 {
    // Relaxed: only who holds the lock, or keeps the value, stores it.
    let latest = words.load_u64(layout::LATEST, Ordering::Relaxed);
    latest.wrapping_add(1)
}

/// Publishes a message with a number: the next one, or in a new generation that of the old one's
/// latest.
#[inline(always)]
pub fn put<const FEW: bool>(words: Control<'_>, number: u64, message: Message<'_, FEW>) {
    message.copy_to(number, |slot, extent| {
        // Relaxed: ordered by the fence.
        slot.u64(slot::NUMBER).store(number, Ordering::Relaxed);
        // [VALUE_TEAR] release: the mark before the extent and the bytes.
        fence(Ordering::Release);
        // Relaxed: published by the number.
        slot.u64(slot::EXTENT).store(extent.0, Ordering::Relaxed);
    });
    // [VALUE_LATEST] release: the mark, the extent and the bytes before the number.
    words.u64(layout::LATEST).store(number, Ordering::Release);
}

/// Whether nothing is to be done after a put, past a fence: no reader sleeps, and the channel goes on.
#[inline(always)]
pub fn is_quiet(words: Control<'_>) -> bool {
    // Relaxed: ordered by the fence, see [BELL_PARK].
    let parked = words.load_u32(layout::BELL + wait::layout::PARKED, Ordering::Relaxed);
    // [HEADER_READY] acquire, as in `header::has_ended`.
    let state = words.load_u64(header::STATE, Ordering::Acquire);
    parked == 0 && state == READY
}

/// What a put does, for tests.
#[cfg(test)]
pub fn put_next(slots: &Slots, region: &Region, message: &[u8]) -> Option<u64> {
    let writing = slots.writing(region);
    let message = writing.fit(message)?;
    let number = next(writing.words());
    put(writing.words(), number, message);
    Some(number)
}

#[cfg(test)]
#[path = "value_slots_tests.rs"]
mod value_slots_tests;
