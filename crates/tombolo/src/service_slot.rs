//! One slot of a `service`: a call at a time, asked by its client, taken by one server, answered.
//!
//! ```text
//! client writes          one server at a time writes
//! ┌─────────────────┐    ┌───────────────┐   ┌─────────────────┐
//! │ NUMBER  request │    │ TAKER · TAKEN │   │ NUMBER  reply   │
//! └─────────────────┘    └───────────────┘   └─────────────────┘
//!   servers poll it       nobody polls it      the client polls it
//! ```
//!
//! # Protocol
//! The client writes the request, and NUMBER behind it, one more than the call before. A server
//! that sees another NUMBER than TAKEN has found a call: it takes the slot (TAKER from 0 to its
//! identity by compare-exchange), looks again, stores TAKEN, and hands the request out. It writes
//! the reply, NUMBER behind it, and stores TAKER as 0. The client that sees its NUMBER there has
//! its reply, and may ask again at once.
//!
//! A server that waits, and has one slot to look at, takes that before a call comes, and looks for a moment: what
//! the compare-exchange takes is over then when one does. If none came it gives the slot back and goes on as above.
//! Measured in turns, 64 B one way: 51 ns instead of 70 on two hyper-threads of one core.
//!
//! Where in their rooms the two begin is told beside their lengths: at the beginning, but for long ones that
//! are written in place.
//!
//! What is polled is written once for each call, and TAKER and TAKEN stay in the cache of a server
//! that is alone. So a small call is one line in each direction.
//!
//! - `[SERVICE_ASK]` Who sees a call's number sees its request, and that the client has read the
//!   reply before: released by the store of the number, acquired by the load. Weaker, a server
//!   hands out stale bytes, or writes over a reply that is being read.
//! - `[SERVICE_ANSWER]` Who sees a reply's number sees the reply, and that the server has done with
//!   the request: released by the store of the number, acquired by the load.
//! - `[SERVICE_TAKE]` Who takes a slot, or sees that nobody has it, sees what the one before
//!   stored: TAKEN above all, and the reply. TAKER is released by the store of 0 and acquired by
//!   the compare-exchange and by looks at it. Weaker, a call is executed twice.
//! - `[SERVICE_TAKEN]` Who sees a call as taken sees by whom: TAKEN is released, behind TAKER, and
//!   acquired by the client before it looks at TAKER. Weaker, the client sees a call that was taken
//!   by nobody.
//!
//! **Taking back.** A client that does not want to wait any longer takes the slot itself, and if
//! its call was not taken stores TAKEN: no server will ever see it. If a server has the call in
//! hand the slot is left alone until it is *quiet*: its last call is answered, or was taken and nobody has the slot.
//! Only then there is a new call in it; so a late reply finds nobody, and its number is never
//! another call's.
//!
//! # Crash
//! A slot whose taker is dead is taken over by compare-exchange from that very identity; only one
//! can win. By the taker's last store it died
//!
//! | after | the call | who goes on |
//! | --- | --- | --- |
//! | TAKER, before TAKEN | was not taken | another server takes it |
//! | TAKEN, before the reply's NUMBER | may have been executed, in part | its client, which is told so; nobody executes it again |
//! | the reply's NUMBER | is answered | whoever takes the next call |
//!
//! A client that dies leaves its slot to the next, which makes it quiet first: a call that no
//! server has taken is taken back, one that a living server has in hand keeps the slot from being
//! used.
//!
//! # Hostile bytes
//! Lengths and places are checked against the private shape. Numbers are compared for equality only. A lie
//! about them yields wrong messages, calls that are executed again, or a wait to the end of the
//! caller's patience.

use crate::glance::glance;
use crate::service_layout::{PAIR, ROUND, Shape, reply, request, slot};
use crate::service_members::had_others;
use shmem::Region;
use shmem::sync::Ordering;

/// The bits of [`reply::END`] that tell the outcome, and where those that tell the place begin.
const OUTCOME: u32 = 0xff;
const PLACE: u32 = 8;
const _: () = assert!(2 * ROUND / PAIR <= (u32::MAX >> PLACE) as usize);

/// How a call ended, for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// With a reply.
    Reply = 1,
    /// With an error, whose bytes are where a reply's would be.
    Failed = 2,
    /// The server let it go.
    Dropped = 3,
    /// The request was none that a client writes.
    Damaged = 4,
}

impl Outcome {
    /// How a call ended and where in its room the reply begins, from [`reply::END`].
    #[inline]
    fn from_end(end: u32) -> Option<(Self, usize)> {
        let outcome = match end & OUTCOME {
            1 => Self::Reply,
            2 => Self::Failed,
            3 => Self::Dropped,
            4 => Self::Damaged,
            _ => return None,
        };
        Some((outcome, (end >> PLACE) as usize * PAIR))
    }

    /// The word [`reply::END`] for a reply that begins at `offset`, a multiple of [`PAIR`].
    #[inline]
    fn end(self, offset: usize) -> u32 {
        self as u32 | ((offset / PAIR) as u32) << PLACE
    }
}

/// A reply that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the call ended.
    pub outcome: Outcome,
    /// Offset of the reply in the region, in bytes.
    pub offset: usize,
    /// Bytes of the reply.
    pub length: usize,
}

/// The words of a reply are none that a server writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// A call that a server has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its slot.
    pub slot: usize,
    /// Its number.
    pub number: u64,
    /// Where the request is.
    pub extent: Extent,
}

/// Where in its room a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent(pub u64);

impl Extent {
    /// So many bytes from `offset` on.
    #[inline]
    pub fn new(offset: usize, length: usize) -> Self {
        Self((offset as u64) << u32::BITS | length as u32 as u64)
    }

    /// Where it begins, in bytes.
    #[inline]
    pub fn offset(self) -> usize {
        (self.0 >> u32::BITS) as usize
    }

    /// How long it is, in bytes.
    #[inline]
    pub fn length(self) -> usize {
        self.0 as u32 as usize
    }
}

/// What has become of a call when its client looked closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// There is a reply.
    Answered,
    /// A server has taken it, or is just taking it.
    InHand,
    /// No server has taken it.
    Waits,
    /// The server that had taken it is dead; nobody will answer.
    Died,
    /// It was taken back; no server will ever see it.
    TakenBack,
    /// It was taken, nobody has it, and there is no reply.
    Damaged,
}

/// One slot of a service, and the region that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    pub shape: &'a Shape,
    pub region: &'a Region,
    pub slot: usize,
}

impl Slot<'_> {
    #[inline]
    fn request_at(&self) -> usize {
        self.shape.request(self.slot)
    }

    #[inline]
    fn reply_at(&self) -> usize {
        self.shape.reply(self.slot)
    }

    #[inline]
    fn at(&self, word: usize) -> usize {
        self.shape.at(self.slot, word)
    }

    /// Number of the last call.
    #[inline]
    pub fn last(&self) -> u64 {
        // [SERVICE_ASK] acquire.
        self.region
            .load_u64(self.request_at() + request::NUMBER, Ordering::Acquire)
    }

    #[inline]
    fn taken(&self) -> u64 {
        // [SERVICE_TAKEN] acquire.
        self.region
            .load_u64(self.at(slot::TAKEN), Ordering::Acquire)
    }

    #[inline]
    fn taker(&self) -> u64 {
        // [SERVICE_TAKE] acquire.
        self.region
            .load_u64(self.at(slot::TAKER), Ordering::Acquire)
    }

    /// The identity of who has the call in hand, 0 if nobody, and where its pulse is.
    pub fn in_hand(&self) -> (u64, u32) {
        // Relaxed: the pulse is a hint.
        let pulse = self
            .region
            .load_u32(self.at(slot::PULSE), Ordering::Relaxed);
        (self.taker(), pulse)
    }

    #[inline]
    fn seize(&self, from: u64, me: u64) -> bool {
        let taker = self.region.u64(self.at(slot::TAKER));
        // [SERVICE_TAKE] acquire. Relaxed on failure: nothing is read then.
        taker
            .compare_exchange(from, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    fn give_back(&self) {
        // [SERVICE_TAKE] release.
        self.region
            .u64(self.at(slot::TAKER))
            .store(0, Ordering::Release);
    }

    #[inline]
    fn mark_taken(&self, number: u64) {
        // [SERVICE_TAKEN] release.
        self.region
            .u64(self.at(slot::TAKEN))
            .store(number, Ordering::Release);
    }
}

/// The client's side.
impl Slot<'_> {
    /// Offset of the request's bytes.
    #[inline]
    pub fn room(&self) -> usize {
        self.request_at() + request::LAYOUT.size
    }

    /// Asks: publishes the request of `length` bytes that begins at `offset` in [`room`](Self::room).
    #[inline]
    pub fn ask(&self, number: u64, offset: usize, length: usize) {
        // Relaxed: released with the number.
        self.region
            .u64(self.request_at() + request::EXTENT)
            .store(Extent::new(offset, length).0, Ordering::Relaxed);
        // [SERVICE_ASK] release.
        self.region
            .u64(self.request_at() + request::NUMBER)
            .store(number, Ordering::Release);
    }

    /// Whether a call has its reply.
    #[inline]
    pub fn is_answered(&self, number: u64) -> bool {
        // [SERVICE_ANSWER] acquire.
        let found = self
            .region
            .load_u64(self.reply_at() + reply::NUMBER, Ordering::Acquire);
        found == number
    }

    /// The reply to a call that [is answered](Self::is_answered).
    #[inline]
    pub fn answer(&self) -> Result<Answer, Damaged> {
        // Relaxed, both: acquired with the number.
        let length =
            self.region
                .load_u32(self.reply_at() + reply::LENGTH, Ordering::Relaxed) as usize;
        let end = self
            .region
            .load_u32(self.reply_at() + reply::END, Ordering::Relaxed);
        let (outcome, offset) = Outcome::from_end(end).ok_or(Damaged)?;
        if !self.shape.holds_reply(offset, length) {
            return Err(Damaged);
        }
        Ok(Answer {
            outcome,
            offset: self.reply_room() + offset,
            length,
        })
    }

    /// What has become of a call, which is left as it is.
    pub fn fate(&self, number: u64, is_dead: impl FnOnce(u64) -> bool) -> Fate {
        if self.is_answered(number) {
            return Fate::Answered;
        }
        if self.taken() != number {
            return Fate::Waits;
        }
        match self.taker() {
            // [SERVICE_TAKE]: what there is of a reply is to be seen now.
            0 if self.is_answered(number) => Fate::Answered,
            0 => Fate::Damaged,
            taker if is_dead(taker) => Fate::Died,
            _ => Fate::InHand,
        }
    }

    /// Takes a call back, unless a living server has it in hand. `me` is the client.
    ///
    /// With [`Fate::Answered`], [`Fate::Died`] and [`Fate::TakenBack`] the slot is quiet.
    pub fn take_back(&self, me: u64, number: u64, is_dead: impl FnOnce(u64) -> bool) -> Fate {
        if self.is_answered(number) {
            return Fate::Answered;
        }
        let taker = self.taker();
        if taker != 0 && !is_dead(taker) || !self.seize(taker, me) {
            return Fate::InHand;
        }
        let fate = if self.is_answered(number) {
            Fate::Answered
        } else if self.taken() == number {
            Fate::Died
        } else {
            self.mark_taken(number);
            Fate::TakenBack
        };
        self.give_back();
        fate
    }

    /// Makes sure that nobody has the slot's last call in hand, nor will; false if somebody may.
    pub fn quieten(&self, me: u64, is_dead: impl FnOnce(u64) -> bool) -> bool {
        let last = self.last();
        // Whoever has the slot then has done with that call, and looks for the next one.
        if self.is_answered(last) {
            return true;
        }
        let taker = self.taker();
        if taker == 0 && self.taken() == last {
            return true;
        }
        if taker != 0 && !is_dead(taker) || !self.seize(taker, me) {
            return false;
        }
        self.mark_taken(last);
        self.give_back();
        true
    }
}

/// The server's side.
impl Slot<'_> {
    /// Whether a call waits to be taken, as far as one can tell who has not taken the slot.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        // Relaxed: who takes the slot looks again. An old number of what was taken only shows a
        // call that is taken by now.
        let taken = self
            .region
            .load_u64(self.at(slot::TAKEN), Ordering::Relaxed);
        self.last() != taken
    }

    /// Takes the call that waits, `None` if there is none, or somebody has it.
    ///
    /// `is_dead` says whether a taker is dead; it is asked only if a call waits and somebody has
    /// the slot.
    #[inline]
    pub fn take(&self, me: u64, pulse: u32, is_dead: impl FnOnce(u64) -> bool) -> Option<Taken> {
        if !self.is_waiting() {
            return None;
        }
        let taker = self.taker();
        if taker != 0 && !is_dead(taker) || !self.seize(taker, me) {
            return None;
        }
        self.take_in_hand(pulse, |taken| {
            Some(self.last()).filter(|number| *number != taken)
        })
    }

    /// [`take`](Self::take) that looks for a moment whether a call comes. It has the slot meanwhile, so that
    /// there is little left to be done then: whoever else wants the slot passes it by.
    ///
    /// `before` is where the request before was. The line where this one ends, if it is as long, is fetched with
    /// the one that is looked at, and not after it (measured with processors far apart, 64 B one way: 268 ns
    /// instead of 328; on two hyper-threads 51 instead of 61).
    #[inline(always)]
    pub fn take_soon(&self, me: u64, pulse: u32, before: Extent) -> Option<Taken> {
        if self.taker() != 0 || !self.seize(0, me) {
            return None;
        }
        let end = self.room() + before.length().saturating_sub(1);
        self.take_in_hand(pulse, |taken| {
            let mut number = taken;
            let comes = glance(|| {
                self.region.expect_read(end);
                number = self.last();
                number != taken
            });
            comes.then_some(number)
        })
    }

    /// Takes the call that `next` finds in a slot that was seized; it is told the number of the one before. Gives the
    /// slot back if there is none.
    #[inline(always)]
    fn take_in_hand(&self, pulse: u32, next: impl FnOnce(u64) -> Option<u64>) -> Option<Taken> {
        // Relaxed: a hint.
        self.region
            .u32(self.at(slot::PULSE))
            .store(pulse, Ordering::Relaxed);
        let Some(number) = next(self.taken()) else {
            self.hand_on();
            return None;
        };
        self.mark_taken(number);
        // Relaxed: acquired with the number.
        let extent = self
            .region
            .load_u64(self.request_at() + request::EXTENT, Ordering::Relaxed);
        let extent = Extent(extent);
        let taken = Taken {
            slot: self.slot,
            number,
            extent,
        };
        if !self.shape.holds_request(extent.offset(), extent.length()) {
            self.reply(&taken, Outcome::Damaged, 0, 0);
            return None;
        }
        Some(taken)
    }

    /// Offset of the reply's bytes.
    #[inline]
    pub fn reply_room(&self) -> usize {
        self.reply_at() + reply::LAYOUT.size
    }

    /// Ends a call: publishes the reply of `length` bytes that begins at `offset`, a multiple of
    /// [`PAIR`], in [`reply_room`](Self::reply_room), and gives the slot back.
    #[inline]
    pub fn reply(&self, taken: &Taken, outcome: Outcome, offset: usize, length: usize) {
        let reply = self.reply_at();
        // Relaxed, both: released with the number.
        self.region
            .u32(reply + reply::LENGTH)
            .store(length as u32, Ordering::Relaxed);
        self.region
            .u32(reply + reply::END)
            .store(outcome.end(offset), Ordering::Relaxed);
        // [SERVICE_ANSWER] release.
        self.region
            .u64(reply + reply::NUMBER)
            .store(taken.number, Ordering::Release);
        self.shape
            .answered(self.region, self.slot)
            .ring_light(|| true);
        self.hand_on();
    }

    /// Gives the slot back. Another server may have gone to sleep over it while the client asked
    /// again.
    #[inline]
    fn hand_on(&self) {
        self.give_back();
        self.shape
            .door(self.region)
            .ring_light(|| had_others(self.region) && self.is_waiting());
    }
}
