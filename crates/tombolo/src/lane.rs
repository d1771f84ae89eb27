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
//! A message of [`LONG`] bytes or more begins on a line of its own, behind that of its header: copied
//! with the widest stores, it would be split at every line otherwise (measured: half the speed).
//!
//! Short messages of one batch form a *group*: their records stand close together, each at the next
//! multiple of eight bytes, and all are published by the header of the first. A header says whether
//! another record of its group follows it; behind the last one the next line begins.
//!
//! # Protocol
//! Publication is in-band: the header word is the flag, so a small message is one cache line that
//! moves from one core to the other. What the consumer polls must be zero until it is published,
//! and no stale byte may be taken for a header. Headers stand at the beginnings of lines only, so
//! it is those words that the producer clears: in steps of [`CLEAR_STEP`] ahead of what it
//! publishes, beyond the line that is being polled, and rather after a message is published than
//! before, where its consumer would wait for it. The lines inside a long message are never cleared,
//! they are jumped over.
//!
//! - `[LANE_PUBLISH]` Who sees a header sees its message, and sees the word where the next header
//!   will be as zero: released by the store of the header, acquired by the load that polls it.
//!   Weaker, stale bytes are taken for a message, or for a header.
//! - `[LANE_RELEASE]` Who sees a position as released or finished sees that the consumer has read
//!   everything before it: released by the store, acquired by the producer. Weaker, a message is
//!   overwritten while it is read.
//!
//! What is *finished* the consumer stores with each message, on a line of its own; what is
//! *released* in quarters of the ring, on a line that the producer looks at while it waits for room.
//! It [looks closer](Tail::look_closer), at what is finished, only where it must.
//!
//! # Crash
//! A producer that dies leaves a claimed record without a header: its successor finds the tail by
//! walking the headers, and clears ahead anew. What the consumer side leaves is told in `queue`.
//!
//! # Hostile bytes
//! A header is checked against the private shape: a length that reaches beyond the ring is damage,
//! not an access. Positions from the segment are used masked, so they stay in the ring as well.

use shmem::Circle;
use shmem::region::{Region, View};
use shmem::sync::Ordering;

/// Records begin at multiples of this, in bytes.
pub const LINE: u64 = 64;
/// How far ahead headers are cleared at a time.
pub const CLEAR_STEP: u64 = if cfg!(loom) { LINE } else { 1024 };
/// Longest group, in bytes: its consumer should begin while the next one is written.
const GROUP: u64 = 2048;
/// Longest message that goes into a group, in bytes; behind a longer one a line more or less does not
/// matter.
pub const SHORT: usize = 256;

/// Set in every header, so that none is zero.
pub const PUBLISHED: u64 = 1 << 63;
/// The record only fills the ring up to its end.
pub const PADDING: u64 = 1 << 62;
/// Another record of the same group follows at the next multiple of eight bytes.
const MORE: u64 = 1 << 61;
/// The message begins on the line behind that of its header.
const APART: u64 = 1 << 60;
/// Shortest message that begins on a line of its own, in bytes.
const LONG: usize = 512;
/// Records of a group begin at multiples of this, in bytes.
pub const WORD: u64 = 8;
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
            offset: self.at(position) + Self::skip(header) as usize,
            length: (header & LENGTH) as usize,
            end: self.end(header, position)?,
        })
    }

    /// Whether a header is of a message behind which a new line begins.
    #[inline(always)]
    pub fn is_plain(header: u64) -> bool {
        header & (PUBLISHED | PADDING | MORE | APART) == PUBLISHED
    }

    /// The position behind a record of such a message at a position.
    #[inline(always)]
    pub fn end_of_plain(position: u64, length: u64) -> u64 {
        position.wrapping_add(length + HEADER + LINE - 1) & !(LINE - 1)
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
            let offset = self.at(position) + Self::skip(word) as usize;
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

    /// From a header to its message, in bytes.
    #[inline(always)]
    fn skip(header: u64) -> u64 {
        // Only where nothing else stands before the message.
        let apart = HEADER == WORD && header & APART != 0;
        if apart { LINE } else { HEADER }
    }

    /// Bytes that a record takes that stands alone, its message right behind the header.
    #[inline]
    pub fn record_size(length: u64) -> u64 {
        (length + HEADER + LINE - 1) & !(LINE - 1)
    }

    /// Position behind a record, as its header says; `None` if that is behind the ring's end.
    #[inline(always)]
    fn end(&self, word: u64, position: u64) -> Option<u64> {
        // Only records of a bare header word come in groups.
        let more = HEADER == WORD && word & MORE != 0;
        let unit = if more { WORD } else { LINE };
        let size = (word & LENGTH) + Self::skip(word);
        let end = position.wrapping_add(size + unit - 1) & !(unit - 1);
        (end.wrapping_sub(position) <= self.left_behind(position)).then_some(end)
    }

    /// The position behind the last record that is published, walking from `head`.
    fn find_tail(&self, view: &View, head: u64) -> Result<u64, Damaged> {
        let mut tail = head;
        // No more than a ring full of records, whatever a hostile peer writes meanwhile.
        for _ in 0..self.capacity / WORD {
            match self.header(view, tail)? {
                Header::Nothing => return Ok(tail),
                Header::Padding { end } | Header::Message(Record { end, .. }) => tail = end,
            }
        }
        Err(Damaged)
    }
}

/// Where the consumer side tells how far it is: offsets in the region.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Of the position up to which there is room again, stored from time to time.
    pub released: usize,
    /// Of the position up to which messages are finished, stored with each.
    pub finished: usize,
}

/// The producer's end of a lane.
#[derive(Debug)]
pub struct Tail {
    ring: Ring,
    words: Circle,
    marks: Marks,
    tail: u64,
    /// Up to where the consumer is known to be done.
    released: u64,
    /// The words where headers can stand are zero from `tail` up to here, which is beyond it.
    cleared: u64,
    /// A record that ends here or before needs nothing else to be done first: it does not go beyond
    /// the ring's end, there is room for it and for the next header, whose word is zero, and no claim
    /// is open.
    limit: u64,
    /// A claim was made and not published.
    open: bool,
    group: Group,
}

/// Records of a batch that are written and not published. None fits where there is none.
#[derive(Debug, Default)]
struct Group {
    /// How many.
    count: u64,
    /// Length of the first one, whose header is still to be stored.
    first: u64,
    /// Where the last one stands, and its length.
    last: (u64, u64),
    /// Where the next one goes, and where it must end.
    next: u64,
    limit: u64,
}

/// A place for a message, claimed and not yet published. Dropping it means that nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Offset in the region, in bytes.
    pub offset: usize,
    /// Bytes of the message.
    pub length: usize,
    /// What else its header is to say.
    pub flags: u64,
}

impl Claim {
    /// Bytes of its record, in a `queue`.
    #[inline(always)]
    fn size(&self) -> u64 {
        Ring::skip(self.flags).wrapping_add(self.length as u64 + LINE - 1) & !(LINE - 1)
    }
}

/// There is no room for the message now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Tail {
    /// The end of a lane that nobody else produces to: a new one, or one whose producer is gone.
    pub fn open(ring: Ring, region: &Region, marks: Marks) -> Result<Self, Damaged> {
        // [LANE_RELEASE] acquire. What is finished may be overwritten, so the walk begins there.
        let released = region.load_u64(marks.finished, Ordering::Acquire) & !(WORD - 1);
        // So that positions never overflow: nobody writes so much.
        if released > POSITION_MAX {
            return Err(Damaged);
        }
        let tail = ring.find_tail(region, released)?;
        let mut this = Self {
            ring,
            words: ring.words(region),
            marks,
            tail,
            released,
            cleared: tail,
            limit: 0,
            open: false,
            group: Group::default(),
        };
        // The predecessor may have written into lines ahead without publishing.
        this.clear_ahead(tail);
        Ok(this)
    }

    /// Sends a message, if nothing else is to be done first; false if there is.
    #[inline(always)]
    pub fn push(&mut self, message: &[u8]) -> bool {
        let length = message.len() as u64;
        let next = self.tail + Ring::record_size(length);
        if length >= LONG as u64
            || next > self.limit
            || !self.words.copy_in_behind(self.tail, message)
        {
            return false;
        }
        // [LANE_PUBLISH] release: the message, and the zero where the next header will be.
        self.words
            .word(self.tail)
            .store(PUBLISHED | length, Ordering::Release);
        self.tail = next;
        true
    }

    /// Whether something is to be done before a message of so many bytes can be [pushed](Self::push).
    #[inline(always)]
    pub fn is_short_of(&self, length: usize) -> bool {
        self.tail + Ring::record_size(length as u64) > self.limit
    }

    /// Clears a step more, if there is room.
    pub fn prepare(&mut self) {
        if self.cleared < self.tail + CLEAR_STEP {
            self.clear_ahead(self.cleared);
        }
    }

    fn set_limit(&mut self) {
        let to_end = self.tail + self.ring.left_behind(self.tail);
        let cleared = self.cleared - LINE;
        self.limit = if self.open { 0 } else { to_end.min(cleared) };
    }

    /// Position behind the last record.
    #[inline]
    #[cfg_attr(loom, expect(dead_code, reason = "for who looks from outside"))]
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Finds a place for a message of `length` bytes.
    #[inline(always)]
    pub fn claim(&mut self, region: &Region, length: usize) -> Result<Claim, Full> {
        let flags = if length < LONG { 0 } else { APART };
        let mut claim = Claim {
            offset: 0,
            length,
            flags,
        };
        let size = claim.size();
        let to_end = self.ring.left_behind(self.tail);
        let padding = if size > to_end { to_end } else { 0 };
        // One line more, where the next header will be polled.
        let end = self.tail + padding + size + LINE;
        if end - self.released > self.ring.capacity {
            self.look(region, self.marks.released, |_| true);
            if end - self.released > self.ring.capacity {
                return Err(Full);
            }
        }
        if self.open {
            // The claim before was dropped: what was written there may look like headers.
            self.cleared = self.tail + LINE;
        }
        (self.open, self.limit) = (true, 0);
        if padding > 0 {
            self.publish_header(PADDING | (padding - HEADER), padding);
        }
        claim.offset = self.ring.at(self.tail) + Ring::skip(flags) as usize;
        Ok(claim)
    }

    /// Looks at what is finished, which the consumer stores with each message, after a claim has
    /// failed. While there is more to come, room is not to be had by the line, unless `anyway`.
    #[cold]
    pub fn look_closer(&mut self, region: &Region, anyway: bool) {
        let tail = self.tail;
        self.look(region, self.marks.finished, |finished| {
            anyway || finished == tail
        });
    }

    #[inline]
    fn look(&mut self, region: &Region, mark: usize, wanted: impl FnOnce(u64) -> bool) {
        // [LANE_RELEASE] acquire. A peer's lie moves it within what is in use, at most: then
        // messages are spoilt, but no byte outside the ring is touched.
        let mark = region.load_u64(mark, Ordering::Acquire) & !(WORD - 1);
        let known = self.released..=self.tail;
        if known.contains(&mark) && wanted(mark) {
            self.released = mark;
        }
    }

    /// Begins a group with a short message, for which a claim was just made.
    pub fn begin_group(&mut self, region: &Region, message: &[u8]) {
        let room = self.released + self.ring.capacity - LINE;
        let to_end = self.tail + self.ring.left_behind(self.tail);
        self.group = Group {
            next: self.tail,
            limit: room.min(to_end).min(self.tail + GROUP) & !(LINE - 1),
            ..Group::default()
        };
        self.write_next(region, message);
    }

    /// Adds a short message to the group, if there is one and it fits.
    #[inline(always)]
    pub fn add(&mut self, region: &Region, message: &[u8]) -> bool {
        let Group { next, limit, .. } = self.group;
        let fits = next + HEADER + message.len() as u64 <= limit;
        if fits {
            // Relaxed: published by the first header.
            self.words
                .word(next)
                .store(PUBLISHED | MORE | message.len() as u64, Ordering::Relaxed);
            self.write_next(region, message);
        }
        fits
    }

    #[inline(always)]
    fn write_next(&mut self, region: &Region, message: &[u8]) {
        let (length, group) = (message.len() as u64, &mut self.group);
        let at = self.ring.at(group.next) + HEADER as usize;
        let fits = region.copy_in(at, message);
        // The ring lies inside the region, and the group inside the ring.
        debug_assert!(fits.is_ok(), "{fits:?}");
        if group.count == 0 {
            group.first = length;
        }
        group.last = (group.next, length);
        group.next += (HEADER + length).next_multiple_of(WORD);
        group.count += 1;
    }

    /// Publishes the group; answers how many messages it had.
    pub fn publish_group(&mut self) -> u64 {
        let Group {
            count,
            first,
            last: (at, length),
            next,
            ..
        } = std::mem::take(&mut self.group);
        if count == 0 {
            return 0;
        }
        if count > 1 {
            // Relaxed: as in `push`. No other follows the last.
            self.words
                .word(at)
                .store(PUBLISHED | length, Ordering::Relaxed);
        }
        let more = if count > 1 { MORE } else { 0 };
        self.open = false;
        self.publish_header(first | more, (next - self.tail).next_multiple_of(LINE));
        count
    }

    /// Publishes what was written at the claim, the last one made.
    #[inline(always)]
    pub fn publish(&mut self, claim: Claim) {
        self.open = false;
        self.publish_header(claim.flags | claim.length as u64, claim.size());
    }

    /// [`publish`](Self::publish) of the first `length` bytes of the claim only.
    pub fn publish_part(&mut self, mut claim: Claim, length: usize) {
        if length < claim.length {
            claim.length = length;
            // What was written behind them may look like headers.
            self.cleared = self.tail + LINE;
        }
        self.publish(claim);
    }

    #[inline(always)]
    fn publish_header(&mut self, word: u64, size: u64) {
        let next = self.tail + size;
        if next >= self.cleared {
            self.clear_ahead(next);
        }
        // [LANE_PUBLISH] release: the message, and the zero where the next header will be.
        self.words
            .word(self.tail)
            .store(PUBLISHED | word, Ordering::Release);
        self.tail = next;
        // For the next one, if it is like this one.
        if next + size >= self.cleared && size <= CLEAR_STEP {
            self.clear_ahead(self.cleared);
        } else {
            self.set_limit();
        }
    }

    /// Clears the words where headers can stand from a position on, as far as a step goes and the
    /// consumer is done.
    fn clear_ahead(&mut self, from: u64) {
        let limit = (self.released + self.ring.capacity) & !(LINE - 1);
        // Whole steps, if there is room.
        let to = ((from + CLEAR_STEP) & !(CLEAR_STEP - 1)).min(limit);
        let mut position = from;
        // Relaxed, as below.
        if to.wrapping_sub(from) == CLEAR_STEP
            && self.words.zero_lines::<{ CLEAR_STEP / LINE }>(from)
        {
            position = to;
        }
        while position < to {
            // Relaxed: published by the next header.
            self.words.word(position).store(0, Ordering::Relaxed);
            position += LINE;
        }
        self.cleared = to.max(from);
        self.set_limit();
    }

    /// Claims, copies and publishes.
    ///
    /// # Errors
    /// [`Full`]; nothing has happened then.
    #[cfg(test)]
    pub fn send(&mut self, region: &Region, message: &[u8]) -> Result<(), Full> {
        let claim = self.claim(region, message.len()).or_else(|Full| {
            self.look_closer(region, true);
            self.claim(region, message.len())
        })?;
        // The ring lies inside the region, and the claim inside the ring.
        region.copy_in(claim.offset, message).map_err(|_| Full)?;
        self.publish(claim);
        Ok(())
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    const MARKS: Marks = Marks {
        released: RELEASED,
        finished: RELEASED,
    };
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
                    let mut tail = Tail::open(ring, &region, MARKS).unwrap();
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

    const MARKS: Marks = Marks {
        released: RELEASED,
        finished: RELEASED,
    };
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
            let mut tail = Tail::open(ring, &region, MARKS).unwrap();
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
                            tail.publish_part(claim, length / 3);
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
                    tail = Tail::open(ring, &region, MARKS).unwrap();
                }
            }
        }
    }

    /// Batches of short messages in groups, others between them, and a producer that dies with
    /// a group unpublished.
    #[test]
    fn groups_agree_with_a_plain_queue() {
        for capacity in [1024, 4096, 65536] {
            let (ring, region) = new(capacity);
            let mut tail = Tail::open(ring, &region, MARKS).unwrap();
            let mut model: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut head, mut state, mut number, mut received) = (0, capacity, 0, 0);
            for round in 0..20_000u64 {
                let mut open = 0;
                for _ in 0..random(&mut state) % 60 {
                    number += 1;
                    let length = random(&mut state) as usize % 72;
                    let message = message(number, length);
                    if !tail.add(&region, &message) {
                        open = 0;
                        tail.publish_group();
                        let Ok(_) = tail.claim(&region, length) else {
                            break;
                        };
                        tail.begin_group(&region, &message);
                    }
                    open += 1;
                    model.push_back((number, length));
                }
                if round % 7 == 3 {
                    // It dies; what it had not published is lost.
                    model.truncate(model.len() - open);
                    tail = Tail::open(ring, &region, MARKS).unwrap();
                } else {
                    tail.publish_group();
                }
                if round % 5 == 4 && tail.send(&region, &message(number + 1, 90)).is_ok() {
                    number += 1;
                    model.push_back((number, 90));
                }
                for _ in 0..random(&mut state) % 80 {
                    let found = ring.record(&region, head).unwrap();
                    let expected = model.pop_front();
                    assert_eq!(found.map(|r| r.length), expected.map(|(_, length)| length));
                    let (Some(record), Some((number, length))) = (found, expected) else {
                        break;
                    };
                    let mut bytes = vec![0; length];
                    region.copy_out(record.offset, &mut bytes).unwrap();
                    assert_eq!(bytes, message(number, length));
                    (head, received) = (record.end, received + 1);
                    region.u64(RELEASED).store(head, Ordering::Release);
                }
            }
            assert!(received > 100_000, "{received}");
        }
    }

    #[test]
    fn the_longest_message_fits_wherever_the_lane_stands() {
        let (ring, region) = new(1024);
        let mut tail = Tail::open(ring, &region, MARKS).unwrap();
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
        let mut tail = Tail::open(ring, &region, MARKS).unwrap();
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
