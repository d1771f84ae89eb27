//! Long messages that are copied out while they are copied in.
//!
//! Copied in whole and then copied out whole, a long message takes twice as long as it takes to move it. So who
//! copies one in tells how far it is, and who waits for it copies out what is there meanwhile:
//!
//! ```text
//!   producer   START ├─ copies in ──────────────┤ header
//!              WRITTEN     ▲   ▲   ▲   ▲   ▲   ▲
//!   consumer   looks at START └─ copies out ────────┤ looks at the header, takes the message
//! ```
//!
//! It is taken as ever: when its header is there, and so when it is whole. What was copied out before counts only
//! if the header says that it is that message, and if the lane's producer is the same as before. Otherwise all of
//! it is copied out.
//!
//! Only what is announced while somebody waits is followed like this. Who comes when one is being written already is
//! in a stream, whose producer would be slowed down by a reader at its heels (measured, 1 MiB: 15 to 17
//! thousand a second instead of 17 to 21), and who finds what a dead producer announced does not wait for it.
//! A consumer that sleeps says in AWAITED whether it would follow: then it is woken by the announcement, and not
//! only by the message.
//!
//! - `[LANE_COMING]` Who sees START sees the messages before it as published, so one that finds nothing published
//!   then follows the next one; and WRITTEN as that message's: released by the store of START, acquired by the
//!   load. Who sees a position as written sees the bytes before it: the same of WRITTEN. Weaker, what is copied
//!   out is no part of the message.
//! - `[LANE_OPENED]` Who sees a message of a producer sees that it opened the lane: OPENED is stored before
//!   anything else of it, and released with each header. Who sees OPENED sees what the one before announced:
//!   released by the store, acquired by the load, and by its death, which its successor has learnt from the
//!   kernel. Weaker, the beginning of a message that was never published goes before the end of another.
//!
//! # Crash
//! A producer that dies leaves what it announced, and its message is never published. Its successor may well write
//! another one at the same place, as long: OPENED tells the two apart.
//!
//! # Hostile bytes
//! Positions and lengths are checked against the private shape: a lie yields wrong bytes, which who writes the
//! messages can have anyway. Who waits does not wait long for what does not come any further, by whole pieces.

use crate::lane::{Claim, Tail};
use crate::queue_layout::lane;
use crate::ring::{Record, Ring};
use shmem::sync::{Ordering, spin_loop};
use shmem::wait::Patience;
use shmem::{Region, Window};

/// So much is copied in between two stores of WRITTEN: what is one call anyway. Less is dear in a stream: before each
/// store the processor seems to wait for all lines of the piece (measured, 64 KiB: 8 KiB at a time 500 thousand a second,
/// 32 KiB 610, all at once 680), and 1 MiB there and back is no faster by it.
const PIECE: usize = if cfg!(loom) { 8 } else { shmem::copy::PIECE };
/// Shortest message that is announced, in bytes: a shorter one has no two whole pieces.
pub(crate) const LEAST: usize = 2 * PIECE;
/// So many looks at what does not come any further, some 30 µs where a pause takes 24 ns, several times what a piece
/// takes. Where pauses are shorter one may be given up too soon, and is copied out at its end.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 1024 };
/// Looks between two at the clock.
const SOME: u32 = 64;

/// A lane's words.
pub(crate) type Words = Window<{ lane::LAYOUT.size }>;

/// Says that another producer has the lane, before it does anything else.
pub(crate) fn open(words: &Words) {
    let opened = words.u64(lane::OPENED);
    // Relaxed: only who has the lane stores it.
    let count = opened.load(Ordering::Relaxed).wrapping_add(1);
    // [LANE_OPENED] release.
    opened.store(count, Ordering::Release);
}

/// Announces the message that is to be copied to the place of a claim, the last one made.
pub(crate) fn announce(words: &Words, tail: &Tail, claim: Claim) {
    let (start, length) = (tail.start(claim), claim.length as u64);
    // Relaxed: it is checked against the header.
    words.u64(lane::LENGTH).store(length, Ordering::Relaxed);
    // Relaxed: released by START.
    words.u64(lane::WRITTEN).store(start, Ordering::Relaxed);
    // [LANE_COMING] release.
    words.u64(lane::START).store(start, Ordering::Release);
}

/// Copies it there, and tells how far it is.
pub(crate) fn copy_in(region: &Region, words: &Words, tail: &Tail, claim: Claim, message: &[u8]) {
    let (start, mut done) = (tail.start(claim), 0);
    for piece in message.chunks(PIECE) {
        let fits = region.copy_in(claim.offset + done, piece);
        // The ring lies inside the region, and the claim inside the ring.
        debug_assert!(fits.is_ok(), "{fits:?}");
        done += piece.len();
        let written = start + done as u64;
        // [LANE_COMING] release.
        words.u64(lane::WRITTEN).store(written, Ordering::Release);
    }
}

/// Whether one follows messages that come: who did it in vain lets that be for one, and for 3, 7, … 63, if it is in
/// vain again and again, because the producer needs the processor, perhaps.
#[derive(Debug, Default)]
pub(crate) struct Pursuit {
    /// How often it was in vain, since it was not.
    in_vain: u32,
    /// How many are let be.
    skip: u32,
}

impl Pursuit {
    /// Whether the next one is to be followed.
    pub(crate) fn is_due(&mut self) -> bool {
        let is_due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        is_due
    }

    /// One was followed, to its end or in vain.
    pub(crate) fn was(&mut self, to_its_end: bool) {
        self.in_vain = if to_its_end {
            0
        } else {
            (self.in_vain + 1).min(6)
        };
        self.skip = (1 << self.in_vain) - 1;
    }
}

/// What was announced last, and how many producers had opened the lane before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    opened: u64,
    start: u64,
}

impl Announced {
    /// As it is now.
    #[inline]
    pub(crate) fn now(words: &Words) -> Self {
        // [LANE_OPENED] acquire, and first.
        let opened = words.u64(lane::OPENED).load(Ordering::Acquire);
        // Relaxed: it is only compared.
        let start = words.u64(lane::START).load(Ordering::Relaxed);
        Self { opened, start }
    }

    /// The message that comes, if one was announced since then.
    #[inline]
    pub(crate) fn since(self, words: &Words, ring: &Ring) -> Option<Coming> {
        // [LANE_COMING] acquire.
        let start = words.u64(lane::START).load(Ordering::Acquire);
        if start == self.start {
            return None;
        }
        // Relaxed: it is checked against the header.
        let length = words.u64(lane::LENGTH).load(Ordering::Relaxed);
        let fits = length <= ring.left_behind(start) && length <= ring.longest() as u64;
        fits.then_some(Coming {
            opened: self.opened,
            start,
            length: length as usize,
            done: 0,
        })
    }
}

/// A message that is being copied in, and how much of it was copied out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coming {
    opened: u64,
    start: u64,
    length: usize,
    done: usize,
}

impl Coming {
    /// Copies out what is there and what comes, until the message is published, comes no further, or `patience`
    /// ends.
    pub(crate) fn follow(
        &mut self,
        region: &Region,
        words: &Words,
        ring: &Ring,
        to: &mut Vec<u8>,
        patience: Patience,
        is_published: impl Fn() -> bool,
    ) {
        to.reserve(self.length);
        let (offset, mut looks) = (ring.at(self.start), 0);
        while looks < LOOKS && !is_published() {
            if looks.is_multiple_of(SOME) && patience.is_over() {
                break;
            }
            // [LANE_COMING] acquire.
            let written = words.u64(lane::WRITTEN).load(Ordering::Acquire);
            let written = written.wrapping_sub(self.start);
            let least = (self.done + PIECE).min(self.length) as u64;
            if (least..=self.length as u64).contains(&written) && written > self.done as u64 {
                let more = written as usize - self.done;
                let fits = region.append_to(offset + self.done, more, to);
                // The ring lies inside the region, and the message inside the ring.
                debug_assert!(fits.is_ok(), "{fits:?}");
                (self.done, looks) = (written as usize, 0);
            } else {
                looks += 1;
                spin_loop();
            }
        }
    }

    /// Copies out the rest, or all of it if what was taken is not what came.
    pub(crate) fn complete(
        self,
        region: &Region,
        words: &Words,
        ring: &Ring,
        record: Record,
        to: &mut Vec<u8>,
    ) {
        // Relaxed: [LANE_OPENED] acquired with the header.
        let opened = words.u64(lane::OPENED).load(Ordering::Relaxed);
        let is_it = (self.opened, self.length, ring.at(self.start))
            == (opened, record.length, record.offset);
        let done = if is_it { self.done } else { 0 };
        to.truncate(done);
        let fits = region.append_to(record.offset + done, record.length - done, to);
        // The ring lies inside the region, and a record inside the ring.
        debug_assert!(fits.is_ok(), "{fits:?}");
    }
}

#[cfg(test)]
#[path = "coming_tests.rs"]
mod tests;
