//! The slots of a `value`: how a message is written so that no reader ever takes half of one.
//!
//! # Protocol
//! Messages are numbered from 1. Message *n* goes to slot *n* mod the number of slots, of which
//! there are at least two, so while it is written the one before it stays readable.
//!
//! The writer, holding the lock or keeping the value (see `value_keep`): mark the slot's sequence odd; copy the bytes; mark it `2n`; store
//! `n` as the latest; ring. A reader: load the latest `n`; check that its slot's sequence is `2n`;
//! copy the bytes; check the sequence again. If it changed, the writer went round all slots in the
//! meantime: the copy may be torn and is thrown away, and the reader starts over, a bounded number
//! of times.
//!
//! - `[VALUE_TEAR]` If a reader has copied a byte of a newer message, its second look at the
//!   sequence sees the newer mark: the writer's release fence stands between the odd mark and the
//!   bytes, the reader's acquire fence between the bytes and the second look. Weaker, a torn copy
//!   passes for whole.
//! - `[VALUE_WHOLE]` Who sees the mark `2n` sees all bytes of message *n*: released by the store of
//!   the mark, acquired by the reader's first look.
//! - `[VALUE_LATEST]` Who sees `n` as the latest sees the mark `2n`: released, acquired.
//!
//! # Crash
//! A writer that dies before it stores `n` leaves an odd or an unannounced slot that nobody reads;
//! the next writer, which inherits the lock, writes the same number into the same slot again.
//! Between storing `n` and ringing, the message is there and waiters see it at the end of their
//! slice.

use shmem::lock::{LOCK_SIZE, Lock};
use shmem::region::{OutOfBounds, Region, View};
use shmem::sync::{Ordering, fence};
use shmem::wait::{BELL_SIZE, Bell};

/// The channel's own part of the segment, behind the header.
pub mod layout {
    use super::{BELL_SIZE, LOCK_SIZE};

    shmem::layout! {
        "value", (448 + super::KEEPERS * super::keeper::LAYOUT.size);
        LOCK: (LOCK_SIZE) @ 256, "writers", "held for the time of a put by who does not keep the value; inherited from the dead";
        KEEP: 8 @ 272, "the writer that holds the lock [VALUE_KEEP]", "who keeps the value: seat + 1 in bits 0 to 15, 0 for nobody; bit 16: it may go in without the lock; above: grows with each change";
        LATEST: 8 @ 320, "the writer that holds the lock or keeps the value [VALUE_LATEST]", "number of the latest whole message, 0 for none yet";
        BELL: (BELL_SIZE) @ 328, "waiters register, writers ring", "rung when there is a newer message";
        CAPACITY: 8 @ 384, "the initialiser", "longest message, in bytes";
        SLOTS: 4 @ 392, "the initialiser", "how many slots there are: 2, 4 or 8";
        KEEPERS: (super::KEEPERS * super::keeper::LAYOUT.size) @ 448, "keepers", "seats of those who keep the value, or may again: see value keeper";
    }
}

/// How many writers can have a keeper's seat: see `value_keep`.
pub const KEEPERS: usize = if cfg!(loom) { 1 } else { 8 };

/// A keeper's seat, on a line of its own.
pub mod keeper {
    shmem::layout! {
        "value keeper", 64;
        WHO: 8 @ 0, "who holds the lock takes it, from 0 or from a dead one; 0 by its owner [VALUE_OUT]", "identity of the process whose seat it is; 0 if it is free; a dead one's if it died";
        INSIDE: 4 @ 8, "its owner [VALUE_KEEP] [VALUE_OUT]", "1 while its owner puts without the lock, or looks whether it may; means nothing if it is dead";
    }
}

/// One slot.
pub mod slot {
    shmem::layout! {
        "value slot", 16;
        SEQUENCE: 8 @ 0, "as LATEST [VALUE_TEAR] [VALUE_WHOLE]", "2n: message n is whole; 2n - 1: it is being written";
        LENGTH: 8 @ 8, "as LATEST", "bytes of the message, which follow";
    }
}

/// Hash over everything above.
pub const LAYOUT_HASH: u64 =
    shmem::header::layout_hash(&[&layout::LAYOUT, &keeper::LAYOUT, &slot::LAYOUT]);

const FIRST_SLOT: usize = layout::LAYOUT.size;
const LINE: usize = 64;
/// Up to this capacity there are eight slots, which gives slow readers more time.
const SMALL: usize = 64 * 1024;

/// How many times a reader starts over.
pub const TRIES: u32 = if cfg!(loom) { 3 } else { 200 };

/// The shape of the slots: private copies of what was checked at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    capacity: usize,
    count: usize,
    stride: usize,
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
        let stride = capacity
            .checked_add(slot::LAYOUT.size)?
            .checked_next_multiple_of(LINE)?;
        let length = stride.checked_mul(count)?.checked_add(FIRST_SLOT)?;
        (length <= isize::MAX as usize).then_some((
            Self {
                capacity,
                count,
                stride,
            },
            length,
        ))
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

    #[inline(always)]
    fn slot(&self, number: u64) -> usize {
        // A power of two.
        FIRST_SLOT + (number as usize & (self.count - 1)) * self.stride
    }

    /// Number of the latest message, 0 if there is none. A peer may publish a newer one before the
    /// answer is used.
    #[inline]
    pub fn latest(&self, view: &View) -> u64 {
        // [VALUE_LATEST] acquire.
        view.load_u64(layout::LATEST, Ordering::Acquire)
    }

    /// Publishes a message and answers its number. The caller holds the lock, or keeps the value, and
    /// rings afterwards.
    ///
    /// # Errors
    /// If the message is longer than a slot.
    #[inline]
    pub fn put(&self, region: &Region, message: &[u8]) -> Result<u64, OutOfBounds> {
        // Relaxed: only who holds the lock, or keeps the value, stores it.
        let number = region
            .load_u64(layout::LATEST, Ordering::Relaxed)
            .wrapping_add(1)
            .max(1);
        self.put_numbered(region, number, message)?;
        Ok(number)
    }

    /// [`put`](Self::put) with a number of the caller's choice: the first of a new generation.
    ///
    /// # Errors
    /// If the message is longer than a slot.
    #[inline]
    pub fn put_numbered(
        &self,
        region: &Region,
        number: u64,
        message: &[u8],
    ) -> Result<(), OutOfBounds> {
        if message.len() > self.capacity {
            let (offset, region) = (0, self.capacity);
            return Err(OutOfBounds {
                offset,
                length: message.len(),
                region,
            });
        }
        let slot = self.slot(number);
        let whole = number.wrapping_mul(2);
        // Relaxed: ordered by the fence.
        region
            .u64(slot + slot::SEQUENCE)
            .store(whole.wrapping_sub(1), Ordering::Relaxed);
        // [VALUE_TEAR] release: the odd mark before the bytes.
        fence(Ordering::Release);
        region.copy_in(slot + slot::LAYOUT.size, message)?;
        // Relaxed: published by the mark.
        region
            .u64(slot + slot::LENGTH)
            .store(message.len() as u64, Ordering::Relaxed);
        // [VALUE_WHOLE] release: the bytes before the even mark.
        region
            .u64(slot + slot::SEQUENCE)
            .store(whole, Ordering::Release);
        // [VALUE_LATEST] release: the mark before the number.
        region.u64(layout::LATEST).store(number, Ordering::Release);
        Ok(())
    }

    /// Reads the latest message into `to`, replacing what is there, if its number is not `seen`.
    ///
    /// `to` is left empty if there is none or it can't be read.
    #[inline]
    pub fn read(&self, view: &View, seen: u64, to: &mut Vec<u8>) -> Read {
        match self.read_once(view, seen, to) {
            Some(read) => read,
            None => self.read_again(view, seen, to),
        }
    }

    #[cold]
    fn read_again(&self, view: &View, seen: u64, to: &mut Vec<u8>) -> Read {
        for _ in 1..TRIES {
            if let Some(read) = self.read_once(view, seen, to) {
                return read;
            }
            shmem::sync::spin_loop();
        }
        to.clear();
        Read::Overtaken
    }

    /// `None` if the writer was faster.
    #[inline(always)]
    fn read_once(&self, view: &View, seen: u64, to: &mut Vec<u8>) -> Option<Read> {
        to.clear();
        let number = self.latest(view);
        if number == seen || number == 0 {
            return Some(Read::Nothing);
        }
        let whole = number.wrapping_mul(2);
        let Some(slot) = view.part::<{ slot::LAYOUT.size }>(self.slot(number)) else {
            return Some(Read::Damaged);
        };
        // [VALUE_WHOLE] acquire.
        if slot.load_u64(slot::SEQUENCE, Ordering::Acquire) != whole {
            return None;
        }
        // Relaxed: acquired with the mark, and checked by the second look.
        let length = slot.load_u64(slot::LENGTH, Ordering::Relaxed);
        let fits = usize::try_from(length)
            .is_ok_and(|length| length <= self.capacity && slot.append_behind(length, to));
        // [VALUE_TEAR] acquire: the bytes before the second look.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        if slot.load_u64(slot::SEQUENCE, Ordering::Relaxed) != whole {
            return None;
        }
        if fits {
            return Some(Read::Whole(number));
        }
        to.clear();
        Some(Read::Damaged)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use shmem::wait::Patience;

    fn shape(count: usize, length: usize) -> (Slots, Region) {
        let (slots, bytes) = Slots::shaped(length, count).unwrap();
        (slots, Region::heap(bytes))
    }

    /// Message n is made of n's only, and as long as n says.
    fn message(number: u64) -> Vec<u8> {
        vec![number as u8; if number % 2 == 0 { 9 } else { 16 }]
    }

    /// [VALUE_TEAR], [VALUE_WHOLE], [VALUE_LATEST]: a reader takes whole messages only and never
    /// goes back, while a writer goes round both slots.
    #[test]
    fn no_reader_takes_half_a_message() {
        loom::model(|| {
            let (slots, region) = shape(2, 16);
            let writer = {
                let region = region.clone();
                thread::spawn(move || {
                    for number in 1..=3 {
                        assert_eq!(slots.put(&region, &message(number)).unwrap(), number);
                    }
                })
            };
            let mut bytes = Vec::new();
            let mut seen = 0;
            for _ in 0..2 {
                match slots.read(&region.view(), seen, &mut bytes) {
                    Read::Whole(number) => {
                        assert!(number > seen);
                        assert_eq!(bytes, message(number));
                        seen = number;
                    }
                    Read::Nothing | Read::Overtaken => assert!(bytes.is_empty()),
                    Read::Damaged => panic!("nothing is damaged here"),
                }
            }
            writer.join().unwrap();
            match slots.read(&region.view(), seen, &mut bytes) {
                Read::Whole(number) => assert_eq!((number, bytes), (3, message(3))),
                other => assert_eq!((other, seen), (Read::Nothing, 3)),
            }
        });
    }

    /// The whole of a put, unlock and bell included: a watcher sleeps through none.
    #[test]
    fn a_watcher_sees_the_last_message() {
        loom::model(|| {
            let (slots, region) = shape(2, 16);
            let writer = {
                let region = region.clone();
                thread::spawn(move || {
                    for _ in 1..=2 {
                        let held = slots.lock(&region).take(7, Patience::FOREVER, |_| false);
                        slots.put(&region, b"").unwrap();
                        drop(held);
                        slots.bell(&region).ring_after_exchange();
                    }
                })
            };
            let view = region.view();
            slots.bell(&region).wait(Patience::FOREVER, |_| {
                (slots.latest(&view) == 2).then_some(())
            });
            writer.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn new(capacity: usize) -> (Slots, Region) {
        let (slots, length) = Slots::plan(capacity).unwrap();
        let region = Region::heap(length);
        slots.format(&region).unwrap();
        assert_eq!(Slots::open(&region), Some(slots));
        (slots, region)
    }

    #[test]
    fn the_latest_is_read_again_and_again() {
        let (slots, region) = new(10);
        let mut bytes = vec![1, 2, 3];
        assert_eq!(slots.read(&region, 0, &mut bytes), Read::Nothing);
        assert!(bytes.is_empty());
        for number in 1..=20u8 {
            let message = vec![number; usize::from(number % 11)];
            assert_eq!(slots.put(&region, &message), Ok(u64::from(number)));
            for _ in 0..2 {
                assert_eq!(
                    slots.read(&region, 0, &mut bytes),
                    Read::Whole(number.into())
                );
                assert_eq!(bytes, message);
            }
            assert_eq!(
                slots.read(&region, number.into(), &mut bytes),
                Read::Nothing
            );
        }
        assert!(slots.put(&region, &[0; 11]).is_err());
    }

    #[test]
    fn a_capacity_of_zero_is_enough_for_nothing() {
        let (slots, region) = new(0);
        assert_eq!(slots.put(&region, b""), Ok(1));
        assert_eq!(slots.read(&region, 0, &mut Vec::new()), Read::Whole(1));
        assert!(slots.put(&region, b"x").is_err());
        assert_eq!(Slots::plan(usize::MAX), None);
        assert_eq!(Slots::plan(usize::MAX / 2), None);
    }

    #[test]
    fn a_writer_that_died_at_any_store_leaves_the_last_message() {
        let (slots, region) = new(16);
        slots.put(&region, b"one").unwrap();
        let mut bytes = Vec::new();
        let next = slots.slot(2);
        // The stores of `put`, one by one, as a death would leave them.
        region
            .u64(next + slot::SEQUENCE)
            .store(3, Ordering::Relaxed);
        assert_eq!(slots.read(&region, 0, &mut bytes), Read::Whole(1));
        region.copy_in(next + slot::LAYOUT.size, b"tw").unwrap();
        region.u64(next + slot::LENGTH).store(3, Ordering::Relaxed);
        region
            .u64(next + slot::SEQUENCE)
            .store(4, Ordering::Relaxed);
        assert_eq!(slots.read(&region, 0, &mut bytes), Read::Whole(1));
        assert_eq!(bytes, b"one");
        assert_eq!(slots.put(&region, b"two"), Ok(2));
        assert_eq!(slots.read(&region, 0, &mut bytes), Read::Whole(2));
        assert_eq!(bytes, b"two");
    }

    #[test]
    fn hostile_words_are_errors() {
        let (slots, region) = new(16);
        slots.put(&region, b"one").unwrap();
        let mut bytes = Vec::new();
        region
            .u64(slots.slot(1) + slot::LENGTH)
            .store(u64::MAX, Ordering::Relaxed);
        assert_eq!(slots.read(&region, 0, &mut bytes), Read::Damaged);
        region
            .u64(layout::LATEST)
            .store(u64::MAX, Ordering::Relaxed);
        assert_eq!(slots.read(&region, 0, &mut bytes), Read::Overtaken);
        assert!(slots.put(&region, b"again").is_ok());
        for (capacity, count) in [(u64::MAX, 8u32), (1 << 40, 2), (16, 0), (16, 1), (16, 9)] {
            region
                .copy_in(layout::CAPACITY, &capacity.to_ne_bytes())
                .unwrap();
            region.copy_in(layout::SLOTS, &count.to_ne_bytes()).unwrap();
            assert_eq!(Slots::open(&region), None, "{capacity} {count}");
        }
        assert_eq!(Slots::open(&Region::heap(100)), None);
    }
}
