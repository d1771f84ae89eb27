//! A lane: records of any length from one producer, in a ring.
//!
//! ```text
//! position  tail & mask ──┐        records begin at multiples of eight bytes
//!   ┌──────────┬──────────▼┬──┬──────────────┬─────────────────────────┐
//!   │ released │ published │ 0│ claimed      │ stale                   │
//!   └──────────┴───────────┴──┴──────────────┴─────────────────────────┘
//!     head ────►
//! ```
//!
//! Positions count bytes from the lane's beginning and never wrap; the byte of a position stands at
//! `position mod capacity` of the ring, a power of two. A record is a header word and the message;
//! one that does not fit before the ring's end is preceded by padding up to there. The next begins
//! right behind it, at a multiple of eight bytes: the fewer lines there are, the fewer have to move.
//! Padding is published with the message behind it, and never without.
//!
//! A message of [`LONG`] bytes or more begins on a line of its own, behind that of its header.
//!
//! # Protocol
//! Publication is in-band: the header word is the flag, so a small message is one cache line that
//! moves from one core to the other. The word where the next header will be, which the consumer polls
//! then, is zero from the moment that it can be found: it is zeroed before the header in front of it is
//! stored. So no stale byte is taken for a header, whatever the ring held there.
//!
//! Short messages of one batch form a *group*: the header of the first is stored last, and publishes
//! them all.
//!
//! - `[LANE_PUBLISH]` Who sees a header sees its message, and the word where the next header will be
//!   as zero: released by the store of the header, acquired by the load that polls it.
//!   Weaker, stale bytes are taken for a message, or for a header.
//! - `[LANE_RELEASE]` Who sees a position as released or finished sees that the consumer has read
//!   everything before it: released by the store, acquired by the producer. Weaker, a message is
//!   overwritten while it is read.
//!
//! What is *finished* the consumer stores with each message, on a line of its own; what is
//! *released* in quarters of the ring, on a line that the producer looks at while it waits for room.
//! It [looks closer](Tail::look_closer), at what is finished, only where it must.
//!
//! # Beginning again
//! What was written and read lately is in a cache, the rest of a large ring may not be. So a message of
//! [`FAR`] bytes or more goes to the ring's beginning instead, behind longer padding than needed, if it finds the
//! lane empty and its tail [far enough](Filling::warm) into the ring; or, where messages come so closely that the
//! lane is never empty, a [stretch](Filling::stretch) of it, no more than half of which is not finished:
//!
//! ```text
//!   ┌──────────────────┬────────┬──── gap ─────┬──────────────────────┐
//!   │ the next message │ room   │ unfinished │p│ room                 │   p: the header of the padding
//!   └──────────────────┴────────┴──────────────┴──────────────────────┘
//! ```
//!
//! What is not finished and that header are in use then, until the consumer has passed them. All of the ring is
//! room, but for this *gap*: who comes to it before the consumer has passed it goes over it, by padding.
//!
//! # Crash
//! A producer that dies leaves a claimed record without a header: its successor finds the tail by
//! walking the headers to the word that is zero. What the consumer side leaves is told in `queue`.

use crate::ring::{Damaged, LONG, PADDING, PUBLISHED, Ring, WORD};
use shmem::Walk;
use shmem::region::Region;
use shmem::sync::Ordering;

/// Longest group, in bytes: its consumer should begin while the next one is written.
const GROUP: u64 = 2048;
/// Longest message that goes into a group, in bytes; behind a longer one a line more or less does not
/// matter.
pub const SHORT: usize = 256;

/// Longest message right behind its header, in bytes.
pub const PLAIN: usize = LONG - 1;

/// Shortest message that may begin the ring again, in bytes: for shorter ones nobody looks whether the lane is
/// empty. Models have short ones, in small rings.
const FAR: usize = if cfg!(loom) { 16 } else { 16 * 1024 };
/// So many bytes of the ring are gone through before it is begun again, by copies also while not all is finished: what
/// the other processor has just read is dear to write, what was written and read a while ago is not, as long as it is in a cache.
const WARM: u64 = if cfg!(loom) { 32 } else { 1 << 20 };
/// The same for messages that are written in place, of which a line that is not there is waited for.
const WARM_IN_PLACE: u64 = if cfg!(loom) { 32 } else { 2 << 20 };

/// So many bytes of the ring are gone through by messages written in place before it is begun again while not all is
/// finished. Less is dearer where the last cache holds it, more where others use that too: see docs/design.md.
const LONG_STRETCH: u64 = if cfg!(loom) { 32 } else { 8 << 20 };
const _: () = assert!(WARM <= WARM_IN_PLACE && WARM_IN_PLACE <= LONG_STRETCH);

/// How a message gets to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Elsewhere, and then it is copied as a whole.
    Copied,
    /// In the place that was lent, in whatever way.
    InPlace,
}

impl Filling {
    /// So many bytes of the ring are gone through before it is begun again where it is empty.
    fn warm(self) -> u64 {
        match self {
            Self::Copied => WARM,
            Self::InPlace => WARM_IN_PLACE,
        }
    }

    /// So many bytes of the ring are gone through before it is begun again while not all is finished. To copy to lines
    /// that have left the nearest caches took twice as long, to write them in place did not.
    fn stretch(self) -> u64 {
        match self {
            Self::Copied => WARM,
            Self::InPlace => LONG_STRETCH,
        }
    }
}

/// What begins a ring again takes no more of it than one part in so many: the room before and behind the gap
/// may be too short for one of its like, each.
const PARTS: u64 = if cfg!(loom) { 4 } else { 8 };

/// What is in use where the ring was begun again: positions, of one lap later.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Where it begins, behind all that was finished.
    from: u64,
    /// Where it ends, behind the header of the padding.
    to: u64,
}

impl Gap {
    /// Behind all that is ever written.
    const NONE: Self = Self {
        from: u64::MAX,
        to: u64::MAX,
    };

    /// Less is in use.
    fn finish(&mut self, up_to: u64) {
        if (self.from..self.to).contains(&up_to) {
            self.from = up_to;
        }
    }
}

/// No lane's positions come near this in the life of a machine.
pub const POSITION_MAX: u64 = 1 << 62;

/// Where the consumer side tells how far it is: offsets in the region.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// Of the position up to which there is room again, stored from time to time.
    pub released: usize,
    /// Of the position up to which messages are finished, stored with each.
    pub finished: usize,
}

/// Where the ring was begun again last: what lies between the two was never a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// Position that was the tail.
    pub from: u64,
    /// Position of the message at the ring's beginning; 0 if there is none.
    pub at: u64,
}

/// Whether a ring is begun again by a record that needs so many bytes: by what is gone through at least, how far the tail
/// is into the ring, and how much before that is not finished.
fn begins_again(least: u64, into_ring: u64, unfinished: u64, needed: u64) -> bool {
    let little = unfinished == 0 || into_ring >= least && unfinished <= into_ring / 2;
    little && needed <= into_ring - unfinished
}

/// The producer's end of a lane.
#[derive(Debug)]
pub struct Tail {
    ring: Ring,
    /// Where the next record goes. What is inside its stretch, with the word behind it, needs nothing
    /// else to be done first: there is room for it, and it does not go beyond the ring's end.
    walk: Walk,
    marks: Marks,
    /// Up to where the consumer is known to be done.
    released: u64,
    /// What is not to be written, because the consumer may still have to read what it was a ring before. Beyond it
    /// nothing is in the way.
    gap: Gap,
    begun: Begun,
    group: Group,
}

/// Records of a batch that are written and not published.
#[derive(Debug)]
struct Group {
    /// How many; 0 if there is no group.
    count: u64,
    /// Position and length of the first one, whose header is still to be stored.
    at: u64,
    first: u64,
    /// Where the next one goes, and up to where they may go: nowhere if there is no group.
    walk: Walk,
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
    /// Bytes between the lane's tail and its record.
    pub padding: u64,
}

impl Claim {
    /// For the first `length` bytes of the message only.
    pub fn part(self, length: usize) -> Self {
        let length = self.length.min(length);
        Self { length, ..self }
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
        let mut walk = Walk::new(ring.words(region));
        let group = Group {
            count: 0,
            at: 0,
            first: 0,
            walk: walk.clone(),
        };
        walk.go_to(tail);
        Ok(Self {
            ring,
            walk,
            marks,
            released,
            gap: Gap::NONE,
            begun: Begun::default(),
            group,
        })
    }

    /// Sends a message, if nothing else is to be done first; false if there is.
    #[inline(always)]
    pub fn push(&mut self, message: &[u8]) -> bool {
        let Some(record) = self.walk.write::<WORD, PLAIN>(message, WORD) else {
            return false;
        };
        let header = PUBLISHED | message.len() as u64;
        // [LANE_PUBLISH] release: the message, and the zero where the next header will be.
        record.word(0).store(header, Ordering::Release);
        record.pass();
        true
    }

    /// Whether something is to be done before a message of so many bytes can be [pushed](Self::push).
    #[inline(always)]
    pub fn is_short_of(&self, length: usize) -> bool {
        !self.walk.has_room_for::<WORD, PLAIN>(length, WORD)
    }

    /// Looks whether there is room for more.
    pub fn prepare(&mut self, region: &Region) {
        self.look(region, self.marks.released, |_| true);
        self.begin_stretch();
    }

    fn begin_stretch(&mut self) {
        self.walk.begin(self.stretch(self.walk.position()));
    }

    /// Where what may be written ends, the gap aside: before the tail if what a peer wrote made that run
    /// away.
    fn limit(&self) -> u64 {
        self.released + self.ring.capacity
    }

    /// Bytes that may be written from a position on before something is in the way, the gap included.
    fn stretch(&self, at: u64) -> u64 {
        let (gap, limit) = (self.gap.from, self.limit());
        let end = if at < gap { limit.min(gap) } else { limit };
        end.saturating_sub(at)
    }

    /// Position behind the last record.
    #[inline]
    #[cfg_attr(loom, expect(dead_code, reason = "for who looks from outside"))]
    pub fn position(&self) -> u64 {
        self.walk.position()
    }

    /// Where the record of a claim begins, the last one made.
    #[inline(always)]
    fn record_of(&self, claim: Claim) -> u64 {
        self.walk.position() + claim.padding
    }

    /// Where its message begins.
    pub fn start(&self, claim: Claim) -> u64 {
        let at = self.record_of(claim);
        at + Ring::skip(at, claim.flags)
    }

    /// Where the ring was begun again last.
    #[cfg(not(loom))]
    pub fn begun(&self) -> Begun {
        self.begun
    }

    /// Finds a place for a message of `length` bytes.
    #[inline(always)]
    pub fn claim(
        &mut self,
        region: &Region,
        length: usize,
        filling: Filling,
    ) -> Result<Claim, Full> {
        let flags = Ring::flags(length);
        let tail = self.walk.position();
        let mut at = self.place(region, flags, length);
        if length >= FAR {
            at = self.nearer(region, at, flags, length, filling);
        }
        // One word more, where the next header will be polled.
        let mut end = at + Ring::size(at, flags, length) + WORD;
        if end > self.limit() {
            self.look(region, self.marks.released, |_| true);
            // Perhaps there is no gap any more.
            at = self.place(region, flags, length);
            end = at + Ring::size(at, flags, length) + WORD;
            if end > self.limit() {
                return Err(Full);
            }
        }
        Ok(Claim {
            offset: self.ring.at(at) + Ring::skip(at, flags) as usize,
            length,
            flags,
            padding: at - tail,
        })
    }

    /// The first position from the tail on where a record is neither in the gap nor split by the ring's
    /// end.
    #[inline(always)]
    fn place(&mut self, region: &Region, flags: u64, length: usize) -> u64 {
        let tail = self.walk.position();
        let size = Ring::size(tail, flags, length);
        if size <= self.ring.left_behind(tail) && tail + size + WORD <= self.gap.from {
            return tail;
        }
        self.place_beyond(region, flags, length)
    }

    #[cold]
    fn place_beyond(&mut self, region: &Region, flags: u64, length: usize) -> u64 {
        let end = |at| at + Ring::size(at, flags, length);
        let mut at = self.walk.position();
        if end(at) + WORD > self.gap.from {
            // Most often the consumer has passed it since.
            self.look(region, self.marks.finished, |_| true);
        }
        if end(at) + WORD > self.gap.from {
            at = self.gap.to;
        }
        let ring_end = at + self.ring.left_behind(at);
        if end(at) > ring_end { ring_end } else { at }
    }

    /// The ring's beginning, if a message is better there than at `at`: see the module's text.
    #[inline]
    fn nearer(
        &mut self,
        region: &Region,
        at: u64,
        flags: u64,
        length: usize,
        filling: Filling,
    ) -> u64 {
        let tail = self.walk.position();
        let needed = Ring::size(0, flags, length) + WORD;
        let fits = length as u64 <= self.ring.capacity / PARTS;
        let before = self.before(tail);
        if !fits || before < filling.warm().max(needed) {
            return at;
        }
        let least = filling.stretch();
        self.look(region, self.marks.finished, |finished| {
            begins_again(least, before, tail - finished, needed)
        });
        if begins_again(least, before, tail - self.released, needed) {
            tail + self.ring.left_behind(tail)
        } else {
            at
        }
    }

    /// Bytes from the ring's beginning to a position.
    #[inline]
    fn before(&self, position: u64) -> u64 {
        self.ring.capacity - self.ring.left_behind(position)
    }

    /// Looks at what is finished, which the consumer stores with each message, after a claim has
    /// failed. While there is more to come, room is not to be had by the line, unless `anyway`.
    #[cold]
    pub fn look_closer(&mut self, region: &Region, anyway: bool) {
        let tail = self.walk.position();
        self.look(region, self.marks.finished, |finished| {
            anyway || finished == tail
        });
    }

    #[inline]
    fn look(&mut self, region: &Region, mark: usize, wanted: impl FnOnce(u64) -> bool) {
        // [LANE_RELEASE] acquire. A peer's lie moves it within what is in use, at most: then
        // messages are spoilt, but no byte outside the ring is touched.
        let mark = region.load_u64(mark, Ordering::Acquire) & !(WORD - 1);
        let before = self.released;
        let known = before..=self.walk.position();
        if known.contains(&mark) && wanted(mark) {
            self.released = mark;
            // What is behind the gap's padding is finished, so that was read.
            if mark > before {
                self.gap = Gap::NONE;
            }
        } else {
            // Before the ring was begun again: a part of the gap. A lie as above.
            self.gap.finish(mark.saturating_add(self.ring.capacity));
        }
    }

    /// Gives up a group that was not published: nobody saw it.
    #[inline]
    pub fn drop_group(&mut self) {
        self.group.count = 0;
        self.group.walk.go_to(0);
    }

    /// Begins a group with a short message, for which a claim was just made.
    pub fn begin_group(&mut self, claim: Claim, message: &[u8]) {
        let at = self.record_of(claim);
        let most = self.stretch(at) - WORD;
        let group = &mut self.group;
        group.walk.go_to(at);
        group.walk.begin(most.min(GROUP));
        (group.at, group.first) = (at, message.len() as u64);
        let first = group.walk.fill::<WORD, SHORT>(message, WORD);
        first.expect("there is a claim for it").pass();
        group.count = 1;
    }

    /// Adds a short message to the group, if there is one and it fits.
    #[inline(always)]
    pub fn add(&mut self, message: &[u8]) -> bool {
        let Some(record) = self.group.walk.fill::<WORD, SHORT>(message, WORD) else {
            return false;
        };
        // Relaxed: published by the first header.
        let header = PUBLISHED | message.len() as u64;
        record.word(0).store(header, Ordering::Relaxed);
        record.pass();
        self.group.count += 1;
        true
    }

    /// Publishes the group; answers how many messages it had.
    pub fn publish_group(&mut self) -> u64 {
        let Group {
            count,
            at,
            first,
            ref walk,
        } = self.group;
        let next = walk.position();
        self.drop_group();
        if count > 0 {
            self.publish_record(at, PUBLISHED | first, next);
        }
        count
    }

    /// Publishes what was written at the claim, the last one made.
    #[inline(always)]
    pub fn publish(&mut self, claim: Claim) {
        let at = self.record_of(claim);
        let size = Ring::size(at, claim.flags, claim.length);
        let header = PUBLISHED | claim.flags | claim.length as u64;
        self.publish_record(at, header, at + size);
    }

    /// Publishes a record, or the first of a group, by its header; what is published ends at a position.
    #[inline(always)]
    fn publish_record(&mut self, at: u64, header: u64, next: u64) {
        let words = self.walk.circle();
        // Relaxed: published by the header.
        words.word(next).store(0, Ordering::Relaxed);
        if at == self.walk.position() {
            // [LANE_PUBLISH] release: as in `push`.
            words.word(at).store(header, Ordering::Release);
        } else {
            self.publish_padded(at, header, next);
        }
        self.walk.go_to(next);
        self.begin_stretch();
    }

    /// The same behind padding, from the tail on.
    #[cold]
    fn publish_padded(&mut self, at: u64, header: u64, next: u64) {
        let (words, tail) = (self.walk.circle(), self.walk.position());
        // Relaxed: published by the padding.
        words.word(at).store(header, Ordering::Relaxed);
        let padding = PUBLISHED | PADDING | (at - tail - WORD);
        // [LANE_PUBLISH] release: as in `push`, and the header behind it.
        words.word(tail).store(padding, Ordering::Release);
        let (before, unfinished) = (self.before(tail), tail - self.released);
        let needed = next + WORD - at;
        // One that had to go round finds room as what is before it is finished, bit by bit.
        let had_to = needed > self.ring.left_behind(tail);
        // By what copies go through, which is less: who found that too little has claimed no place at the beginning but
        // one that it had to. Of which it may have published less, and that takes no room from anybody.
        if begins_again(WARM, before, unfinished, needed) && (unfinished == 0 || !had_to) {
            let lap = self.ring.capacity;
            let (from, to) = (self.released + lap, tail + WORD + lap);
            self.gap = Gap { from, to };
            self.begun = Begun { from: tail, at };
            // But for the gap nothing is in use.
            self.released = at;
        } else if at > self.gap.from {
            // Over it.
            self.gap = Gap::NONE;
        }
    }

    /// Claims, copies and publishes.
    ///
    /// # Errors
    /// [`Full`]; nothing has happened then.
    #[cfg(test)]
    pub fn send(&mut self, region: &Region, message: &[u8]) -> Result<(), Full> {
        self.send_filled(region, message, Filling::Copied)
    }

    /// The same where room is claimed as for another filling.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[cfg(test)]
    fn send_filled(
        &mut self,
        region: &Region,
        message: &[u8],
        filling: Filling,
    ) -> Result<(), Full> {
        let length = message.len();
        let claim = self.claim(region, length, filling).or_else(|Full| {
            self.look_closer(region, true);
            self.claim(region, length, filling)
        })?;
        // The ring lies inside the region, and the claim inside the ring.
        region.copy_in(claim.offset, message).map_err(|_| Full)?;
        self.publish(claim);
        Ok(())
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod lane_tests;
