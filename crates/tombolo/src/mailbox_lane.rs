//! The lane of a queue: a ring for short messages, with a lock for each end.
//!
//! ```text
//!   senders' side              receivers' side             ring of lines
//! ┌────────────────────────┐ ┌────────────────────────┐ ┌─────────┬────┬─────────┬───
//! │ lock  who  gate │ tail │ │ lock  who  gate │ head │ │ b       │ c  │ d       │ …
//! └────────────────────────┘ └────────────────────────┘ └─────────┴────┴─────────┴───
//!                                                         ▲ head                   ▲ tail
//! ```
//!
//! A message is a record: its type, its length, its text, from the beginning of a cache line. One that
//! begins near the ring's end runs over it, into lines behind that are there for this.
//!
//! **Protocol.** Who sends holds the lock of the senders' side, writes the record behind the tail, and
//! moves the tail; who receives holds that of the receivers' side, reads the record at the head, and
//! moves the head. The ends are *marks*: one word that tells where, how many bytes of text have passed,
//! and which of two words says who was there last and when. So to send is one store, and so is to
//! receive.
//!
//! All this only while a side's *gate* is open: it says which queue's lane this is, by its id. Whoever
//! holds the lock of the whole may open it; to close both he takes the two locks of the lane as well, and
//! empties it in the same transaction. While both are closed the lane is empty, and the lock of the
//! whole guards everything. The senders' gate may be open alone: what there is beside the lane is then
//! older than what is in it.
//!
//! - `[SIDE_LOCK]` What the last holder of a side stored is seen by the next: released by the store of
//!   0, acquired by the compare-exchange that takes it. Weaker, and a holder builds on an old mark.
//! - `[SIDE_TAIL]` A record's bytes are stored before the tail that tells of them: released by the
//!   sender, acquired by the receiver. Weaker, and a message's text is what stood there before.
//! - `[SIDE_HEAD]` A record has been read before the head leaves it: released by the receiver, acquired
//!   by the sender, who may write over it then. Weaker, and a receiver reads a later message's text; loom
//!   has no loads that come after a later store, so no model would tell.
//! - `[SIDE_GATE]` What was done to the queue under the lock of the whole is seen by who finds the gate
//!   open: released by who opens it, acquired on each side. Weaker, and a call is let in by permissions
//!   that were taken away.
//!
//! **Crash.** Killed before the mark is moved: nothing has happened, since nobody looks at bytes beyond
//! it, or at the word for who comes next. Killed after: everything has. The lock of a side stays with
//! the dead; others then go by the lock of the whole, and whoever closes the gate takes it over.
//!
//! **A peer that lies** in marks and lengths: what does not lie in the ring is `EUCLEAN`.
//!
//! **Cost.** A compare-exchange for each call, and no fence. Between two processes a message moves the
//! lines of its record and the tail's; what each side writes for itself stays with it. With the tail on
//! the line of the lock, at which the receiver looks all the time, a stream of 64 bytes took 250 to 330 ns
//! a message instead of 80 to 130.
//!
//! **Limits.** Texts of up to [`LONGEST`] bytes.

use shmem::Region;
use shmem::sync::Ordering;
use sysv::{Errno, Result};

/// What a lane begins with; its ring follows.
pub mod layout {
    shmem::layout! {
        "lane for short messages", 256;
        SENDERS: 128 @ 0, "who sends", "the senders' side";
        RECEIVERS: 128 @ 128, "who receives", "the receivers' side";
    }
}

/// A side of a lane. The mark, at which the other side looks, has a line of its own.
pub mod side {
    shmem::layout! {
        "side of a lane for short messages", 128;
        LOCK: 8 @ 0, "who sends or receives, by compare-exchange from 0, or from a dead one by who closes the gate; 0 by the holder [SIDE_LOCK]", "0: free; otherwise the identity of who holds it, or held it when he died";
        WHO: 16 @ 8, "the lock's holder", "who was last here and when, twice: one counts, the other is for the next";
        GATE: 8 @ 24, "who opens it, holding the lock of the whole; who closes it, with both sides' locks, by journal [SIDE_GATE]", "the id of the queue whose lane this is, plus one; 0: closed";
        SEEN: 8 @ 32, "the lock's holder", "where the other side's mark was when it was last looked at";
        MARK: 8 @ 64, "the lock's holder [SIDE_TAIL] [SIDE_HEAD]", "the tail or the head: which word of WHO counts, line, bytes of text";
    }
}

/// A message in a lane; its text follows.
pub mod record {
    shmem::layout! {
        "record of a lane for short messages", 16;
        TYPE: 8 @ 0, "who sends, before the tail", "its type, from 1";
        LENGTH: 8 @ 8, "who sends, before the tail", "bytes of text";
    }
}

/// Bytes of a line.
const LINE: usize = 64;
/// Lines of the ring.
pub const LINES: usize = if cfg!(loom) { 4 } else { 512 };
/// Lines that a record has at most.
const MOST: usize = if cfg!(loom) { 2 } else { 32 };
/// The longest text that a lane takes.
pub const LONGEST: usize = MOST * LINE - record::LAYOUT.size;
/// Where the ring begins within the lane.
const RING: usize = layout::LAYOUT.size;
/// Bytes of a lane.
pub const SIZE: usize = (RING + (LINES + MOST - 1) * LINE).next_multiple_of(4096);

/// How often one who finds a side taken looks again, if another processor may be at work.
const LOOKS: u32 = if cfg!(loom) { 0 } else { 500 };

/// An end of the ring.
///
/// | bits | what |
/// | --- | --- |
/// | 0 | which of the two words says who was here last |
/// | 1..32 | the line, counted on and on |
/// | 32..64 | bytes of text that have passed, counted on and on |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u64);

impl Mark {
    const LINE_BITS: u32 = (1 << 31) - 1;

    #[inline]
    fn line(self) -> u32 {
        (self.0 >> 1) as u32 & Self::LINE_BITS
    }

    #[inline]
    fn bytes(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which of the two words says who was here last.
    #[inline]
    pub fn parity(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The mark behind a record of so many bytes of text.
    #[inline]
    pub fn behind(self, length: usize) -> Self {
        let line = self.line().wrapping_add(lines(length) as u32) & Self::LINE_BITS;
        let bytes = self.bytes().wrapping_add(length as u32);
        let parity = self.0 & 1 ^ 1;
        Self(u64::from(bytes) << 32 | u64::from(line) << 1 | parity)
    }

    /// Whether it is the same place.
    #[inline]
    pub fn is_at(self, other: Self) -> bool {
        self.line() == other.line()
    }

    /// Lines from an earlier mark to this.
    #[inline]
    fn lines_since(self, earlier: Self) -> usize {
        (self.line().wrapping_sub(earlier.line()) & Self::LINE_BITS) as usize
    }

    /// Bytes of text between an earlier mark and this.
    #[inline]
    fn bytes_since(self, earlier: Self) -> u64 {
        self.bytes().wrapping_sub(earlier.bytes()).into()
    }
}

/// Who made a call, and when: a process id has 22 bits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who(pub u64);

impl Who {
    const PID_BITS: u32 = 24;

    /// A process, in seconds since the epoch.
    #[inline]
    pub fn new(pid: i32, seconds: u64) -> Self {
        let pid = u64::from(pid as u32) & ((1 << Self::PID_BITS) - 1);
        Self(seconds << Self::PID_BITS | pid)
    }

    /// Nobody since the gate was opened.
    pub fn is_nobody(self) -> bool {
        self.0 == 0
    }

    /// The process.
    pub fn pid(self) -> u64 {
        self.0 & ((1 << Self::PID_BITS) - 1)
    }

    /// When, in seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 >> Self::PID_BITS
    }
}

/// Lines of a record.
#[inline]
fn lines(length: usize) -> usize {
    (record::LAYOUT.size + length).div_ceil(LINE)
}

/// Whether a message went in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It did.
    Yes,
    /// The queue may not hold so many bytes. That was where the head stood.
    NoRoom(Mark),
    /// The ring has no room. That was where the head stood.
    Full(Mark),
}

/// A record in the ring.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The type.
    pub number: u64,
    /// Where its text begins.
    pub text: usize,
    /// Bytes of text, no more than [`LONGEST`].
    pub length: usize,
    /// Where the next one begins.
    pub behind: Mark,
}

/// A lane, by where it is.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'s> {
    region: &'s Region,
    at: usize,
}

/// The lock of a side, held until this is dropped.
#[derive(Debug)]
pub struct Side<'s> {
    lane: Lane<'s>,
    at: usize,
}

impl<'s> Lane<'s> {
    /// The lane at an offset, a multiple of 64; its bytes were zero at first.
    #[inline]
    pub fn new(region: &'s Region, at: usize) -> Self {
        Self { region, at }
    }

    /// Where the senders' side is.
    #[inline]
    pub fn senders(&self) -> usize {
        self.at + layout::SENDERS
    }

    /// Where the receivers' side is.
    #[inline]
    pub fn receivers(&self) -> usize {
        self.at + layout::RECEIVERS
    }

    /// Whose the lane is on a side: his id plus one; 0 if the gate is closed.
    #[inline]
    pub fn gate(&self, side: usize) -> u64 {
        // [SIDE_GATE] acquire.
        self.region.load_u64(side + side::GATE, Ordering::Acquire)
    }

    /// Opens the gate on a side. Under the lock of the whole, when everything else is final.
    pub fn open(&self, side: usize, id: i32) {
        // [SIDE_GATE] release.
        self.region
            .u64(side + side::GATE)
            .store(id as u64 + 1, Ordering::Release);
    }

    /// Takes the lock of a side if it is free, or soon so when another processor may be at work.
    #[inline]
    pub fn take(&self, side: usize, me: u64, several: bool) -> Option<Side<'s>> {
        if self.exchange(side, 0, me) {
            return Some(self.held(side));
        }
        let looks = if several { LOOKS } else { 0 };
        for _ in 0..looks {
            std::hint::spin_loop();
            if self.holder(side) == 0 && self.exchange(side, 0, me) {
                return Some(self.held(side));
            }
        }
        None
    }

    /// Takes the lock of a side over from a holder who is dead.
    pub fn take_from(&self, side: usize, dead: u64, me: u64) -> Option<Side<'s>> {
        self.exchange(side, dead, me).then(|| self.held(side))
    }

    /// Who holds the lock of a side; 0 if nobody.
    pub fn holder(&self, side: usize) -> u64 {
        // Relaxed: a hint.
        self.region.load_u64(side + side::LOCK, Ordering::Relaxed)
    }

    #[inline]
    fn exchange(&self, side: usize, from: u64, to: u64) -> bool {
        // [SIDE_LOCK] acquire. Relaxed on failure: nothing is read then.
        self.region
            .u64(side + side::LOCK)
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    fn held(&self, at: usize) -> Side<'s> {
        Side { lane: *self, at }
    }

    #[inline]
    fn mark(&self, side: usize, ordering: Ordering) -> Mark {
        Mark(self.region.load_u64(side + side::MARK, ordering))
    }

    /// The record at a mark that lies before the tail.
    ///
    /// # Errors
    /// `EUCLEAN` if there can't be one.
    #[inline]
    pub fn record(&self, at: Mark, tail: Mark) -> Result<Record> {
        let left = tail.lines_since(at);
        let offset = self.offset(at);
        // Relaxed: the tail orders it.
        let word = |field| self.region.load_u64(offset + field, Ordering::Relaxed);
        let length = usize::try_from(word(record::LENGTH)).unwrap_or(usize::MAX);
        if left > LINES || length > LONGEST || lines(length) > left {
            return Err(Errno::UCLEAN);
        }
        Ok(Record {
            number: word(record::TYPE),
            text: offset + record::LAYOUT.size,
            length,
            behind: at.behind(length),
        })
    }

    #[inline]
    fn offset(&self, at: Mark) -> usize {
        self.at + RING + at.line() as usize % LINES * LINE
    }
}

impl<'s> Side<'s> {
    /// Sends a message to a queue that may hold so many bytes. On the senders' side.
    ///
    /// # Errors
    /// `EUCLEAN` if the lane is not all inside the region.
    #[inline]
    pub fn send(&self, capacity: u64, number: u64, text: &[u8], who: Who) -> Result<Sent> {
        let lane = self.lane;
        // Relaxed: the lock orders it.
        let tail = lane.mark(self.at, Ordering::Relaxed);
        let behind = tail.behind(text.len());
        // Relaxed: a copy that this side has made; acquired when it was.
        let mut head = Mark(
            lane.region
                .load_u64(self.at + side::SEEN, Ordering::Relaxed),
        );
        if !Self::fits(behind, head, capacity) {
            // [SIDE_HEAD] acquire.
            head = lane.mark(lane.receivers(), Ordering::Acquire);
            // Relaxed: as above.
            lane.region
                .u64(self.at + side::SEEN)
                .store(head.0, Ordering::Relaxed);
            if behind.bytes_since(head) > capacity {
                return Ok(Sent::NoRoom(head));
            }
            if behind.lines_since(head) > LINES {
                return Ok(Sent::Full(head));
            }
        }
        let offset = lane.offset(tail);
        let word = |field| lane.region.u64(offset + field);
        // Relaxed, both: the tail orders them.
        word(record::TYPE).store(number, Ordering::Relaxed);
        word(record::LENGTH).store(text.len() as u64, Ordering::Relaxed);
        let copied = lane.region.copy_in(offset + record::LAYOUT.size, text);
        copied.map_err(|_| Errno::UCLEAN)?;
        // [SIDE_TAIL] release.
        self.move_to(behind, who);
        Ok(Sent::Yes)
    }

    #[inline]
    fn fits(behind: Mark, head: Mark, capacity: u64) -> bool {
        behind.lines_since(head) <= LINES && behind.bytes_since(head) <= capacity
    }

    /// Where the ring begins, and where it ended when that was last looked at. On the receivers' side.
    #[inline]
    pub fn ends(&self) -> (Mark, Mark) {
        let lane = self.lane;
        // Relaxed: the lock orders it.
        let head = lane.mark(self.at, Ordering::Relaxed);
        // Relaxed: a copy that this side has made; acquired when it was.
        let tail = lane
            .region
            .load_u64(self.at + side::SEEN, Ordering::Relaxed);
        (head, Mark(tail))
    }

    /// Where the ring ends now. On the receivers' side.
    #[inline]
    pub fn look_again(&self) -> Mark {
        let lane = self.lane;
        // [SIDE_TAIL] acquire.
        let tail = lane.mark(lane.senders(), Ordering::Acquire);
        // Relaxed: whoever reads it has this side's lock.
        lane.region
            .u64(self.at + side::SEEN)
            .store(tail.0, Ordering::Relaxed);
        tail
    }

    /// Moves the mark of this side: this is what has happened then.
    #[inline]
    pub fn move_to(&self, behind: Mark, who: Who) {
        let region = self.lane.region;
        let word = self.at + side::WHO + 8 * behind.parity();
        // Relaxed: the mark orders it, and nobody looks at it before.
        region.u64(word).store(who.0, Ordering::Relaxed);
        // [SIDE_TAIL] [SIDE_HEAD] release.
        region
            .u64(self.at + side::MARK)
            .store(behind.0, Ordering::Release);
    }

    /// The mark of this side, and where it is said who was there last.
    pub fn state(&self) -> (Mark, usize) {
        // [SIDE_TAIL] [SIDE_HEAD] acquire: the lock says nothing if it was taken over from a dead one.
        let mark = self.lane.mark(self.at, Ordering::Acquire);
        (mark, self.at + side::WHO + 8 * mark.parity())
    }
}

impl Drop for Side<'_> {
    #[inline]
    fn drop(&mut self) {
        // [SIDE_LOCK] release.
        self.lane
            .region
            .u64(self.at + side::LOCK)
            .store(0, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "mailbox_lane_tests.rs"]
mod tests;
