//! A lane: records of any length from one producer, in a ring.
//!
//! ```text
//! position  tail & mask ──┐        every record begins on a cache line
//!   ┌──────────┬──────────▼┬─────────┬──────────────┬─────────────────┐
//!   │ released │ published │ claimed │ cleared ahead│ stale           │
//!   └──────────┴───────────┴─────────┴──────────────┴─────────────────┘
//!     head ────►
//! ```
//!
//! Positions count bytes from the lane's beginning and never wrap; the byte of a position stands at
//! `position mod capacity` of the ring, a power of two. A record is a header word and the message;
//! one that does not fit before the ring's end is preceded by padding up to there.
//!
//! # Protocol
//! Publication is in-band: the header word is the flag, so a small message is one cache line that
//! moves from one core to the other. What the consumer polls must be zero until it is published,
//! and no stale byte may be taken for a header. Headers stand at the beginnings of lines only, so
//! it is those words that the producer clears: in steps of [`CLEAR_STEP`] ahead of what it
//! publishes, beyond the line that is being polled. The lines inside a long message are never
//! cleared, they are jumped over.
//!
//! - `[LANE_PUBLISH]` Who sees a header sees its message, and sees the word where the next header
//!   will be as zero: released by the store of the header, acquired by the load that polls it.
//!   Weaker, stale bytes are taken for a message, or for a header.
//! - `[LANE_RELEASE]` Who sees a position as released sees that the consumer has read everything
//!   before it: released by the store, acquired by the producer. Weaker, a message is overwritten
//!   while it is read.
//!
//! # Crash
//! A producer that dies leaves a claimed record without a header: its successor finds the tail by
//! walking the headers, and clears ahead anew. What the consumer side leaves is told in `queue`.
//!
//! # Hostile bytes
//! A header is checked against the private shape: a length that reaches beyond the ring is damage,
//! not an access. Positions from the segment are used masked, so they stay in the ring as well.

use shmem::region::{Region, View};
use shmem::sync::Ordering;

/// Records begin at multiples of this, in bytes.
pub const LINE: u64 = 64;
/// How far ahead headers are cleared at a time.
pub const CLEAR_STEP: u64 = if cfg!(loom) { LINE } else { 512 };

/// Set in every header, so that none is zero.
pub const PUBLISHED: u64 = 1 << 63;
/// The record only fills the ring up to its end.
pub const PADDING: u64 = 1 << 62;
const LENGTH: u64 = (1 << 48) - 1;
/// No lane's positions come near this in the life of a machine.
pub const POSITION_MAX: u64 = 1 << 62;

/// Where a lane's ring is, and how large: private numbers, checked at opening. `HEADER` is how many
/// bytes stand before each message: the header word, and whatever else the channel puts there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOf<const HEADER: u64> {
    offset: usize,
    capacity: u64,
}

/// A ring whose records have the header word only.
pub type Ring = RingOf<HEADER>;
/// Bytes of the header word.
const HEADER: u64 = 8;

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
    /// Padding up to the ring's end.
    Padding {
        /// Position behind it.
        end: u64,
    },
    /// A record.
    Message(Record),
}

impl<const HEADER: u64> RingOf<HEADER> {
    /// A ring of `capacity` bytes, a power of two and at least four lines, at `offset`, a multiple
    /// of a line. The caller has checked that it lies inside the region.
    pub fn new(offset: usize, capacity: u64) -> Option<Self> {
        let fits = capacity.is_power_of_two() && (4 * LINE..=1 << 40).contains(&capacity);
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

    /// What is to be found at a position.
    #[inline]
    pub fn header(&self, view: &View, position: u64) -> Result<Header, Damaged> {
        // [LANE_PUBLISH] acquire.
        let word = view.load_u64(self.at(position), Ordering::Acquire);
        if word == 0 {
            return Ok(Header::Nothing);
        }
        let length = word & LENGTH;
        let size = Self::record_size(length);
        if word & PUBLISHED == 0 || size > self.left_behind(position) {
            return Err(Damaged);
        }
        let end = position.wrapping_add(size);
        Ok(if word & PADDING != 0 {
            Header::Padding { end }
        } else {
            let offset = self.at(position) + HEADER as usize;
            Header::Message(Record {
                offset,
                length: length as usize,
                end,
            })
        })
    }

    /// The record at a position, or at the ring's beginning if padding stands there; `None` if
    /// nothing is published yet.
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
        // Padding ends at the ring's end, so what follows it is not padding again.
        if end & (self.capacity - 1) != 0 {
            return Err(Damaged);
        }
        match self.header(view, end)? {
            Header::Nothing => Ok(None),
            Header::Message(record) => Ok(Some(record)),
            Header::Padding { .. } => Err(Damaged),
        }
    }

    /// Bytes that a record takes.
    #[inline]
    pub fn record_size(length: u64) -> u64 {
        (length + HEADER).next_multiple_of(LINE)
    }

    /// The position behind the last record that is published, walking from `head`.
    fn find_tail(&self, view: &View, head: u64) -> Result<u64, Damaged> {
        let mut tail = head;
        // No more than a ring full of lines, whatever a hostile peer writes meanwhile.
        for _ in 0..self.capacity / LINE {
            match self.header(view, tail)? {
                Header::Nothing => return Ok(tail),
                Header::Padding { end } | Header::Message(Record { end, .. }) => tail = end,
            }
        }
        Err(Damaged)
    }
}

/// The producer's end of a lane.
#[derive(Debug)]
pub struct Tail {
    ring: Ring,
    /// Where `released` stands in the region.
    released_at: usize,
    tail: u64,
    /// Up to where the consumer is known to be done.
    released: u64,
    /// The words where headers can stand are zero from `tail` up to here, which is beyond it.
    cleared: u64,
    /// A claim was made and not published.
    open: bool,
}

/// A place for a message, claimed and not yet published. Dropping it means that nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Offset in the region, in bytes.
    pub offset: usize,
    /// Bytes of the message.
    pub length: usize,
}

/// There is no room for the message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Tail {
    /// The end of a lane that nobody else produces to: a new one, or one whose producer is gone.
    pub fn open(ring: Ring, region: &Region, released_at: usize) -> Result<Self, Damaged> {
        // [LANE_RELEASE] acquire.
        let released = region.load_u64(released_at, Ordering::Acquire) & !(LINE - 1);
        // So that positions never overflow: nobody writes so much.
        if released > POSITION_MAX {
            return Err(Damaged);
        }
        let tail = ring.find_tail(region, released)?;
        let mut this = Self {
            ring,
            released_at,
            tail,
            released,
            cleared: tail,
            open: false,
        };
        // The predecessor may have written into lines ahead without publishing.
        this.clear_ahead(region, tail);
        Ok(this)
    }

    /// Position behind the last record.
    #[inline]
    #[cfg_attr(loom, expect(dead_code, reason = "for who looks from outside"))]
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Finds a place for a message of `length` bytes.
    #[inline]
    pub fn claim(&mut self, region: &Region, length: usize) -> Result<Claim, Full> {
        let size = Ring::record_size(length as u64);
        let to_end = self.ring.left_behind(self.tail);
        let padding = if size > to_end { to_end } else { 0 };
        // One line more, where the next header will be polled.
        let end = self.tail + padding + size + LINE;
        if end - self.released > self.ring.capacity {
            // [LANE_RELEASE] acquire. A peer's lie moves it within what is in use, at most: then
            // messages are spoilt, but no byte outside the ring is touched.
            let released = region.load_u64(self.released_at, Ordering::Acquire) & !(LINE - 1);
            if released > self.tail || self.tail - released > self.ring.capacity {
                return Err(Full);
            }
            self.released = released;
            if end - released > self.ring.capacity {
                return Err(Full);
            }
        }
        if self.open {
            // The claim before was dropped: what was written there may look like headers.
            self.cleared = self.tail + LINE;
        }
        self.open = true;
        if padding > 0 {
            self.publish_header(region, PADDING | (padding - HEADER), padding);
        }
        Ok(Claim {
            offset: self.ring.at(self.tail) + HEADER as usize,
            length,
        })
    }

    /// Publishes what was written at the claim, the last one made.
    #[inline]
    pub fn publish(&mut self, region: &Region, claim: Claim) {
        let length = claim.length as u64;
        self.publish_header(region, length, Ring::record_size(length));
        self.open = false;
    }

    /// [`publish`](Self::publish) of the first `length` bytes of the claim only.
    pub fn publish_part(&mut self, region: &Region, mut claim: Claim, length: usize) {
        if length < claim.length {
            claim.length = length;
            // What was written behind them may look like headers.
            self.cleared = self.tail + LINE;
        }
        self.publish(region, claim);
    }

    #[inline]
    fn publish_header(&mut self, region: &Region, word: u64, size: u64) {
        let next = self.tail + size;
        if next >= self.cleared {
            self.clear_ahead(region, next);
        }
        // [LANE_PUBLISH] release: the message, and the zero where the next header will be.
        region
            .u64(self.ring.at(self.tail))
            .store(PUBLISHED | word, Ordering::Release);
        self.tail = next;
    }

    /// Clears the words where headers can stand from a position on, as far as a step goes and the
    /// consumer is done.
    fn clear_ahead(&mut self, region: &Region, from: u64) {
        let limit = self.released + self.ring.capacity;
        let to = (from + CLEAR_STEP).min(limit).max(from + LINE);
        let mut position = from;
        while position < to {
            // Relaxed: published by the next header.
            region
                .u64(self.ring.at(position))
                .store(0, Ordering::Relaxed);
            position += LINE;
        }
        self.cleared = to;
    }

    /// Claims, copies and publishes.
    ///
    /// # Errors
    /// [`Full`]; nothing has happened then.
    #[cfg(test)]
    pub fn send(&mut self, region: &Region, message: &[u8]) -> Result<(), Full> {
        let claim = self.claim(region, message.len())?;
        // The ring lies inside the region, and the claim inside the ring.
        region.copy_in(claim.offset, message).map_err(|_| Full)?;
        self.publish(region, claim);
        Ok(())
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    const RELEASED: usize = 0;

    /// [LANE_PUBLISH] and [LANE_RELEASE], with the ring gone round more than once: four lines,
    /// messages of one line, padding included.
    #[test]
    fn messages_arrive_whole_and_in_order() {
        loom::model(|| {
            let region = Region::heap(64 + 256);
            let ring = Ring::new(64, 256).unwrap();
            let producer = {
                let region = region.clone();
                thread::spawn(move || {
                    let mut tail = Tail::open(ring, &region, RELEASED).unwrap();
                    for number in 1..=4u64 {
                        let mut tries = 0;
                        while tail.send(&region, &number.to_ne_bytes()).is_err() {
                            tries += 1;
                            assert!(tries < 100);
                            thread::yield_now();
                        }
                    }
                })
            };
            let mut head = 0;
            for number in 1..=4u64 {
                let record = loop {
                    match ring.record(&region, head).unwrap() {
                        Some(record) => break record,
                        None => thread::yield_now(),
                    }
                };
                let mut bytes = [0; 8];
                assert_eq!(record.length, 8);
                region.copy_out(record.offset, &mut bytes).unwrap();
                assert_eq!(u64::from_ne_bytes(bytes), number);
                head = record.end;
                region.u64(RELEASED).store(head, Ordering::Release);
            }
            assert_eq!(ring.record(&region, head), Ok(None));
            producer.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const RELEASED: usize = 0;

    fn new(capacity: u64) -> (Ring, Region) {
        let region = Region::heap(64 + capacity as usize);
        (Ring::new(64, capacity).unwrap(), region)
    }

    /// Bytes full of words that look like headers.
    fn message(number: u64, length: usize) -> Vec<u8> {
        let word = (PUBLISHED | number).to_ne_bytes();
        word.iter().copied().cycle().take(length).collect()
    }

    /// A small generator of numbers, the same in each run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn it_agrees_with_a_plain_queue() {
        for capacity in [256, 512, 4096, 65536] {
            let (ring, region) = new(capacity);
            let mut tail = Tail::open(ring, &region, RELEASED).unwrap();
            let mut model: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut head, mut state) = (0, capacity);
            for number in 0..20_000u64 {
                if random(&mut state).is_multiple_of(2) {
                    let length = random(&mut state) as usize % (ring.longest() + 1);
                    let length = if number % 3 == 0 { length } else { length % 80 };
                    let length = length.min(ring.longest());
                    let message = message(number, length);
                    let sent = if number % 5 == 0 {
                        // More is written than published.
                        let claim = tail.claim(&region, length);
                        claim.map(|claim| {
                            region.copy_in(claim.offset, &message).unwrap();
                            tail.publish_part(&region, claim, length / 3);
                            length / 3
                        })
                    } else {
                        tail.send(&region, &message).map(|()| length)
                    };
                    if let Ok(length) = sent {
                        model.push_back((number, length));
                    } else {
                        assert!(!model.is_empty(), "an empty lane takes any message");
                    }
                } else {
                    let found = ring.record(&region, head).unwrap();
                    assert_eq!(
                        found.map(|r| r.length),
                        model.front().map(|(_, length)| *length)
                    );
                    if let (Some(record), Some((number, length))) = (found, model.pop_front()) {
                        let mut bytes = vec![0; length];
                        region.copy_out(record.offset, &mut bytes).unwrap();
                        assert_eq!(bytes, message(number, length));
                        head = record.end;
                        region.u64(RELEASED).store(head, Ordering::Release);
                    }
                }
                if number % 1000 == 0 {
                    // A producer that died in the middle of a message, and its successor.
                    if let Ok(claim) = tail.claim(&region, ring.longest()) {
                        region
                            .copy_in(claim.offset, &message(number, claim.length))
                            .unwrap();
                    }
                    tail = Tail::open(ring, &region, RELEASED).unwrap();
                }
            }
        }
    }

    #[test]
    fn the_longest_message_fits_wherever_the_lane_stands() {
        let (ring, region) = new(1024);
        let mut tail = Tail::open(ring, &region, RELEASED).unwrap();
        let mut head = 0;
        for step in 0..200usize {
            for length in [ring.longest(), step % 200] {
                tail.send(&region, &message(1, length)).unwrap();
                head = ring.record(&region, head).unwrap().unwrap().end;
                region.u64(RELEASED).store(head, Ordering::Release);
            }
        }
    }

    #[test]
    fn what_a_dropped_claim_held_is_never_a_header() {
        let (ring, region) = new(4096);
        let mut tail = Tail::open(ring, &region, RELEASED).unwrap();
        tail.send(&region, b"one").unwrap();
        for length in [400, 1000] {
            let claim = tail.claim(&region, length).unwrap();
            let junk = message(7, length);
            region.copy_in(claim.offset, &junk).unwrap();
        }
        tail.send(&region, b"two").unwrap();
        let first = ring.record(&region, 0).unwrap().unwrap();
        let second = ring.record(&region, first.end).unwrap().unwrap();
        assert_eq!(ring.record(&region, second.end), Ok(None));
    }

    #[test]
    fn hostile_headers_are_damage() {
        let (ring, region) = new(256);
        for word in [
            1,
            LENGTH,
            PUBLISHED | LENGTH,
            PUBLISHED | 256,
            PUBLISHED | PADDING | 8,
        ] {
            region.u64(64).store(word, Ordering::Relaxed);
            assert_eq!(ring.record(&region, 0), Err(Damaged), "{word:x}");
        }
        assert_eq!(Ring::new(64, 100), None);
        assert_eq!(Ring::new(64, 128), None);
        assert_eq!(Ring::new(1, 256), None);
    }
}
