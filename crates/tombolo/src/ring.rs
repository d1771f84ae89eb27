//! A ring of records: where they stand, and what their headers say. The protocol is told in `lane`.
//!
//! # Hostile bytes
//! A header is checked against the private shape: a length that reaches beyond the ring is damage,
//! not an access. Positions from the segment are used masked, so they stay in the ring as well.

use shmem::Circle;
use shmem::region::{Region, View};
use shmem::sync::Ordering;

/// A cache line, in bytes.
pub const LINE: u64 = 64;

/// Set in every header, so that none is zero.
pub const PUBLISHED: u64 = 1 << 63;
/// The record only fills the ring, up to where the next one is.
pub const PADDING: u64 = 1 << 62;
/// The message begins on the line behind that of its header.
pub const APART: u64 = 1 << 60;
/// Shortest message that begins there, in bytes: copied with the widest stores, it would be split at
/// every line otherwise (measured: half the speed).
pub const LONG: usize = 512;
/// Bytes of a word, and of a bare header.
pub const WORD: u64 = 8;
/// The bits of the length of a message.
pub const LENGTH: u64 = (1 << 48) - 1;

/// Where a lane's ring is, and how large: private numbers, checked at opening. `HEADER` is how many
/// bytes stand before each message: the header word, and whatever else the channel puts there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOf<const HEADER: u64> {
    offset: usize,
    pub(crate) capacity: u64,
}

/// A ring whose records have the header word only.
pub type Ring = RingOf<WORD>;

/// A record that a consumer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset of the message in the region, in bytes.
    pub offset: usize,
    /// Bytes of the message.
    pub length: usize,
    /// Position behind the record.
    pub end: u64,
}

/// The header at a position is none that a producer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// What is to be found at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Zero: nothing yet.
    Nothing,
    /// Padding.
    Padding {
        /// Position behind it.
        end: u64,
    },
    /// A record.
    Message(Record),
}

impl<const HEADER: u64> RingOf<HEADER> {
    /// Records begin at multiples of this, in bytes: those that bear more than a header word on lines.
    const UNIT: u64 = if HEADER == WORD { WORD } else { LINE };

    /// Least capacity, in bytes. Models have to go round with few messages.
    const LEAST: u64 = if cfg!(loom) { LINE } else { 4 * LINE };

    /// A ring of `capacity` bytes, a power of two and at least four lines, at `offset`, a multiple
    /// of a line. The caller has checked that it lies inside the region.
    pub fn new(offset: usize, capacity: u64) -> Option<Self> {
        let fits = capacity.is_power_of_two() && (Self::LEAST..=1 << 40).contains(&capacity);
        (fits && (offset as u64).is_multiple_of(LINE)).then_some(Self { offset, capacity })
    }

    /// Longest message: half the ring, so that there is always a way to place it.
    pub fn longest(&self) -> usize {
        (self.capacity / 2 - LINE - HEADER) as usize
    }

    /// Where the byte of a position stands in the region.
    #[inline]
    pub fn at(&self, position: u64) -> usize {
        self.offset + (position & (self.capacity - 1)) as usize
    }

    /// Bytes from a position to the ring's end.
    #[inline]
    pub fn left_behind(&self, position: u64) -> u64 {
        self.capacity - (position & (self.capacity - 1))
    }

    /// The message at a position, if a whole and sound record of one stands there; everything else
    /// is for [`record`](Self::record) to tell apart.
    #[inline(always)]
    pub fn message(&self, words: &Circle, position: u64) -> Option<Record> {
        // [LANE_PUBLISH] acquire.
        self.sound(words.word(position).load(Ordering::Acquire), position)
    }

    /// The same by the header that stands there.
    #[inline(always)]
    pub fn sound(&self, header: u64, position: u64) -> Option<Record> {
        if header & (PUBLISHED | PADDING) != PUBLISHED {
            return None;
        }
        Some(Record {
            offset: self.at(position) + Self::skip(position, header) as usize,
            length: (header & LENGTH) as usize,
            end: self.end(header, position)?,
        })
    }

    /// The words of the ring.
    pub fn words(&self, region: &Region) -> Circle {
        Circle::new(region, self.offset, self.capacity)
    }

    /// What is to be found at a position.
    #[inline]
    pub fn header(&self, view: &View, position: u64) -> Result<Header, Damaged> {
        // [LANE_PUBLISH] acquire.
        let word = view.load_u64(self.at(position), Ordering::Acquire);
        if word == 0 {
            return Ok(Header::Nothing);
        }
        let length = word & LENGTH;
        if word & PUBLISHED == 0 {
            return Err(Damaged);
        }
        let end = self.end(word, position).ok_or(Damaged)?;
        Ok(if word & PADDING != 0 {
            Header::Padding { end }
        } else {
            let offset = self.at(position) + Self::skip(position, word) as usize;
            Header::Message(Record {
                offset,
                length: length as usize,
                end,
            })
        })
    }

    /// The record at a position, or behind the padding that stands there; `None` if nothing is published
    /// yet.
    #[inline]
    pub fn record(&self, view: &View, position: u64) -> Result<Option<Record>, Damaged> {
        match self.header(view, position)? {
            Header::Nothing => Ok(None),
            Header::Message(record) => Ok(Some(record)),
            Header::Padding { end } => self.record_behind_padding(view, end),
        }
    }

    #[cold]
    fn record_behind_padding(&self, view: &View, end: u64) -> Result<Option<Record>, Damaged> {
        // A message stands behind padding, and was there first.
        match self.header(view, end)? {
            Header::Message(record) => Ok(Some(record)),
            Header::Nothing | Header::Padding { .. } => Err(Damaged),
        }
    }

    /// From the header at a position to its message, in bytes. What a channel puts between them stands
    /// right before the message.
    #[inline(always)]
    pub fn skip(position: u64, header: u64) -> u64 {
        if header & APART != 0 {
            LINE - (position & (LINE - 1))
        } else {
            HEADER
        }
    }

    /// What the header of a message of so many bytes says beside that.
    #[inline(always)]
    pub fn flags(length: usize) -> u64 {
        if length < LONG { 0 } else { APART }
    }

    /// Bytes that the record of a message takes at a position, by its header's flags.
    #[inline(always)]
    pub fn size(position: u64, flags: u64, length: usize) -> u64 {
        let size = Self::skip(position, flags).wrapping_add(length as u64);
        size.wrapping_add(Self::UNIT - 1) & !(Self::UNIT - 1)
    }

    /// Position behind a record, as its header says; `None` if that is behind the ring's end.
    #[inline(always)]
    fn end(&self, word: u64, position: u64) -> Option<u64> {
        let size = Self::size(position, word, (word & LENGTH) as usize);
        (size <= self.left_behind(position)).then(|| position.wrapping_add(size))
    }

    /// The position behind the last record that is published, walking from `head`.
    pub fn find_tail(&self, view: &View, head: u64) -> Result<u64, Damaged> {
        let mut tail = head;
        // No more than a ring full of records, and the padding around the gap of a lane, whatever a
        // hostile peer writes meanwhile.
        for _ in 0..self.capacity / WORD + 2 {
            match self.header(view, tail)? {
                Header::Nothing => return Ok(tail),
                Header::Padding { end } | Header::Message(Record { end, .. }) => tail = end,
            }
        }
        Err(Damaged)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Where a walk goes by such an extent, others go by the header.
    #[test]
    fn a_plain_record_is_what_its_extent_says() {
        let ring = Ring::new(64, 1024).unwrap();
        let (mut found, mut none) = (0, 0);
        for position in (0..1024).chain((1 << 40) - 512..(1 << 40) + 512).step_by(8) {
            for length in (0..80).chain(LONG - 2..LONG + 2).chain(900..1100) {
                let size = shmem::Extent::<WORD, 2000>::of(length, WORD)
                    .unwrap()
                    .size();
                let at = position % 1024;
                let plain = (at + size <= 1024).then(|| Record {
                    offset: 64 + (at + WORD) as usize,
                    length,
                    end: position + size,
                });
                assert_eq!(plain, ring.sound(PUBLISHED | length as u64, position));
                *if plain.is_some() {
                    &mut found
                } else {
                    &mut none
                } += 1;
            }
        }
        assert!(found > 10_000 && none > 10_000, "{found}, {none}");
    }
}
