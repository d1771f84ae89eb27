//! The publisher's end of a topic's lane: where it may write, and how a message gets there.
//!
//! ```text
//!   claimed - capacity          tail       claimed
//!   ┌──────┬─────────────────────┬────────────┐
//!   │ gone │ records             │ claimed    │   header, number, message; header, …
//!   └──────┴─────────────────────┴────────────┘
//!          marks: ▲      ▲      ▲
//! ```
//!
//! Records, and how they are published, are those of `lane`, but that they begin on lines; before each message stand its header
//! word and its number, which counts the messages of the lane from 0, whoever publishes. Where the
//! message has a line of its own, the number stands at the end of the header's.
//!
//! # Protocol
//! CLAIMED is announced **before** anything is written beyond it, the zero behind a record included. So
//! what stands at a position is what was published there as long as CLAIMED is no more than a ring
//! beyond the position. CLAIMED moves in steps of a sixteenth of the ring, so subscribers, who look
//! at it after each copy, have its line most of the time.
//!
//! The first record of each step leaves its position in MARKS: where a subscriber that was lapped,
//! or comes late, begins to walk.
//!
//! - `[TOPIC_TEAR]` If a subscriber has read a byte, or a header, that was written beyond a claim,
//!   it sees that claim when it looks at CLAIMED: the publisher's fence stands between CLAIMED and
//!   the bytes, the subscriber's acquire fence between the bytes and CLAIMED. Weaker, a torn copy
//!   passes for whole, and stale bytes for a header.
//! - `[TOPIC_MARK]` Who sees a mark sees the record there: released by the store of the mark. Who
//!   sees a claim sees the marks made before it: released by the store of CLAIMED. Acquired by the
//!   loads. Weaker, a lapped subscriber finds no record to go on with.
//! - `[TOPIC_HOLD]` Where slow subscribers are waited for, nobody writes over what a subscriber
//!   holds. The publisher stores CLAIMED and then looks at the cursors; who subscribes stores its
//!   cursor and then looks at CLAIMED; a full fence between on both sides. In the one order of the
//!   fences either
//!   1. the publisher's comes first: the subscriber sees the claim, and if it goes more than a ring
//!      beyond its cursor, takes another place to start; or
//!   2. the subscriber's comes first: the publisher sees the cursor and does not write beyond it.
//!
//!   Both may see each other, which costs a place. A cursor that only moves on needs no fence: an
//!   old one holds more. Weaker, both may miss, and a message is overwritten while it is read.
//! - `[TOPIC_RELEASE]` Who sees a cursor sees that its subscriber has read everything before it:
//!   released by its store, acquired by the publisher. Weaker, a message is overwritten while it
//!   is read.
//!
//! Why no stale byte is taken for a header: a subscriber comes to a position by a mark, or from the
//! record before it. When that record was published, the word behind it was zero [LANE_PUBLISH],
//! and until CLAIMED is more than a ring beyond it only the header of the next record is stored
//! there. A mark is a position at which a header was published. In both cases CLAIMED is looked at
//! after the word.
//!
//! # Crash
//! A publisher that dies leaves a claim, bytes without a header, and, between a header and its
//! mark, a step without a mark. Its successor walks from the latest mark to the tail, which tells
//! the next number too; makes the mark that is missing; and goes on from the claim. The latest mark
//! is never a ring behind the claim, because a message has a quarter of the ring at most.
//!
//! # Hostile bytes
//! The publisher believes nothing but the cursors, and those only hold it back.

use crate::lane::{Claim, Full, PLAIN, POSITION_MAX};
use crate::ring::{Damaged, LINE, PADDING, PUBLISHED, WORD};
use crate::topic_head::{End, Point, end_of};
use crate::topic_layout::{HEADER, Ring, Shape, lane, layout, record as word};
use crate::topic_policy::Policy;
use shmem::sync::{Ordering, fence};
use shmem::{Region, Walk, Window};

/// The publisher's end of a lane.
#[derive(Debug)]
pub struct Tail {
    shape: Shape,
    lane: usize,
    ring: Ring,
    /// Where the next record goes. What is inside its stretch, with the word behind it, needs nothing
    /// else to be done first, nor after: it may be written, and is before the ring's end and the next mark.
    walk: Walk,
    words: Window<{ lane::LAYOUT.size }>,
    /// The number of the next message.
    number: u64,
    /// What CLAIMED says.
    claimed: u64,
    /// Up to where it may write: no further than `claimed`.
    writable: u64,
    /// Where the step ends whose mark was made last: the first record from there on leaves the next.
    unmarked: u64,
}

impl Tail {
    /// The end of a lane that nobody else publishes to: a new one, or one whose publisher is gone.
    pub fn open(shape: Shape, region: &Region, lane: usize) -> Result<Self, Damaged> {
        // Relaxed: acquired with the lane.
        let claimed = region.load_u64(shape.at(lane, lane::CLAIMED), Ordering::Relaxed);
        let End { tail, last, marked } = end_of(&shape, region, lane).map_err(|_| Damaged)?;
        let Point {
            position: tail,
            number,
        } = tail;
        // So that positions never overflow: nobody writes so much.
        if claimed > POSITION_MAX || tail > claimed {
            return Err(Damaged);
        }
        let mut walk = Walk::new(shape.ring(lane).words(region));
        walk.go_to(tail);
        let mut this = Self {
            shape,
            lane,
            ring: shape.ring(lane),
            walk,
            words: Window::new(region, shape.at(lane, 0)),
            number,
            claimed,
            writable: tail,
            unmarked: marked.map_or(0, |position| step_behind(&shape, position)),
        };
        if let Some(last) = last.filter(|last| *last >= this.unmarked) {
            // The predecessor may have died before it made the mark.
            this.mark(region, last);
        }
        Ok(this)
    }

    /// Finds a place for a message of `length` bytes, no more than [`Shape::longest`].
    #[inline(always)]
    pub fn claim(&mut self, region: &Region, length: usize) -> Result<Claim, Full> {
        let flags = Ring::flags(length);
        let size = Ring::size(0, flags, length);
        let tail = self.walk.position();
        let to_end = self.ring.left_behind(tail);
        let padding = if size > to_end { to_end } else { 0 };
        // One line more, where the next header will be polled.
        let end = tail + padding + size + LINE;
        if end > self.writable {
            self.advance(region, end)?;
        }
        Ok(Claim {
            offset: self.ring.at(tail + padding) + Ring::skip(0, flags) as usize,
            length,
            flags,
            padding,
        })
    }

    /// Publishes a message, if nothing else is to be done for it; false if there is.
    #[inline(always)]
    pub fn push(&mut self, message: &[u8]) -> bool {
        let Some(record) = self.walk.write::<HEADER, PLAIN>(message, LINE) else {
            return false;
        };
        // Relaxed: published by the header.
        record
            .word(word::NUMBER as u64)
            .store(self.number, Ordering::Relaxed);
        // [LANE_PUBLISH] release: the message and its number, and the zero where the next header
        // will be.
        record
            .word(word::HEADER as u64)
            .store(PUBLISHED | message.len() as u64, Ordering::Release);
        record.pass();
        self.number = self.number.wrapping_add(1);
        true
    }

    /// Publishes what was written at the claim, the last one made.
    #[inline(always)]
    pub fn publish(&mut self, region: &Region, claim: Claim) {
        let Claim {
            length,
            flags,
            padding,
            ..
        } = claim;
        let (words, tail) = (self.walk.circle(), self.walk.position());
        let position = tail + padding;
        let next = position + Ring::size(0, flags, length);
        // Relaxed, both: published by the header.
        words.word(next).store(0, Ordering::Relaxed);
        words
            .word(position + Ring::skip(0, flags) - WORD)
            .store(self.number, Ordering::Relaxed);
        let header = PUBLISHED | flags | length as u64;
        if padding > 0 {
            // Relaxed: published by the padding.
            words.word(position).store(header, Ordering::Relaxed);
            let padding = PUBLISHED | PADDING | (padding - HEADER);
            // [LANE_PUBLISH] release: as in `push`, and the header behind it.
            words.word(tail).store(padding, Ordering::Release);
        } else {
            // [LANE_PUBLISH] release: as in `push`.
            words.word(position).store(header, Ordering::Release);
        }
        self.walk.go_to(next);
        // A lie about the last number must not stop it.
        self.number = self.number.wrapping_add(1);
        if position >= self.unmarked {
            self.mark(region, position);
        }
        // As a claim has it: a line behind the record.
        let end = (self.writable + WORD).saturating_sub(LINE);
        self.walk.begin(end.min(self.unmarked).saturating_sub(next));
    }

    /// Stores how far it is, for who looks from outside.
    #[inline(always)]
    pub fn tell(&self) {
        // Relaxed, both: statistics.
        let told = |word, value| self.words.u64(word).store(value, Ordering::Relaxed);
        told(lane::SENT, self.number);
        told(lane::TAIL, self.walk.position());
    }

    /// Makes it allowed to write up to `end`.
    #[cold]
    fn advance(&mut self, region: &Region, end: u64) -> Result<(), Full> {
        if end > self.claimed {
            self.claimed = end + self.shape.step();
            // [TOPIC_MARK] release: the marks made so far.
            self.words
                .u64(lane::CLAIMED)
                .store(self.claimed, Ordering::Release);
        }
        if self.shape.policy() == Policy::Overrun {
            // [TOPIC_TEAR] release: the claim before what is written there.
            fence(Ordering::Release);
            self.writable = self.claimed;
            return Ok(());
        }
        // [TOPIC_HOLD] between the claim before and the cursors after; [TOPIC_TEAR] as above, for
        // those who come.
        fence(Ordering::SeqCst);
        let mut writable = self.claimed;
        for seat in 0..seated(&self.shape, region) {
            if let Some(held) = self.held(region, seat) {
                writable = writable.min(held + self.shape.capacity());
            }
        }
        self.writable = writable.max(self.writable);
        if end > writable { Err(Full) } else { Ok(()) }
    }

    /// From where on a seat holds the lane's messages; no further than the tail.
    fn held(&self, region: &Region, seat: usize) -> Option<u64> {
        // [TOPIC_RELEASE] acquire.
        let word = region.load_u64(self.shape.cursor(seat, self.lane), Ordering::Acquire);
        let position = word.checked_sub(1)? & !(LINE - 1);
        Some(position.min(self.walk.position()))
    }

    /// The seats whose subscribers leave no room for a message of `length` bytes.
    pub fn held_by(&self, region: &Region, length: usize) -> impl Iterator<Item = usize> {
        // As in `claim`, with as much padding as there may be.
        let size = Ring::size(0, Ring::flags(length), length);
        let needed = (self.walk.position() + 2 * size + LINE).saturating_sub(self.shape.capacity());
        let seats = 0..seated(&self.shape, region);
        seats.filter(move |seat| self.held(region, *seat).is_some_and(|held| held < needed))
    }

    /// Makes the mark for the record at a position, the first of its step.
    #[cold]
    fn mark(&mut self, region: &Region, position: u64) {
        let step = position / self.shape.step();
        self.unmarked = step_behind(&self.shape, position);
        // [TOPIC_MARK] release: the record.
        region
            .u64(self.shape.mark(self.lane, step % self.shape.marks()))
            .store(position + 1, Ordering::Release);
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

/// Where the step ends in which a position is.
fn step_behind(shape: &Shape, position: u64) -> u64 {
    (position / shape.step() + 1) * shape.step()
}

/// How many seats may hold something: a subscriber may take another before the answer is used.
fn seated(shape: &Shape, region: &Region) -> usize {
    // Relaxed: [TOPIC_HOLD] orders it as it does the cursors.
    (region.load_u32(layout::SEATED, Ordering::Relaxed) as usize).min(shape.seats())
}
