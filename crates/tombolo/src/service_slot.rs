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
//! hand the slot is left alone until it is *quiet*: nobody has it, and its last call was taken.
//! Only then there is a new call in it; so a late reply finds nobody, and its number is never
//! another call's.
//!
//! **Close at hand.** Who looks at many slots makes one of each when it looks. A client and a server
//! keep the one where they are, checked once: its words stand at constant offsets then.
//!
//! # Crash
//! A slot whose taker is dead is taken over by compare-exchange from that very identity; only one
//! can win. By the taker's last store it died
//!
//! | after | the call | who goes on |
//! | --- | --- | --- |
//! | TAKER, before TAKEN | was not seen | another server takes it |
//! | TAKEN, before the reply's NUMBER | may have been executed, in part | its client, which is told so; nobody executes it again |
//! | the reply's NUMBER | is answered | whoever takes the next call |
//!
//! A client that dies leaves its slot to the next, which makes it quiet first: a call that no
//! server has taken is taken back, one that a living server has in hand keeps the slot from being
//! used.
//!
//! # Hostile bytes
//! Lengths are checked against the private shape. Numbers are compared for equality only. A lie
//! about them yields wrong messages, calls that are executed again, or a wait to the end of the
//! caller's patience.

use crate::glance::glance_at_answer;
use crate::service_layout::{Shape, layout, reply, request, slot};
use crate::service_members::had_others;
use shmem::room::Keep;
use shmem::sync::Ordering;
use shmem::wait::{Bell, is_parked, layout as bell};
use shmem::{Region, Room};

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
    fn from_number(number: u32) -> Option<Self> {
        [Self::Reply, Self::Failed, Self::Dropped, Self::Damaged]
            .into_iter()
            .find(|outcome| *outcome as u32 == number)
    }
}

/// A reply that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the call ended.
    pub outcome: Outcome,
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
    /// Bytes of the request.
    pub length: usize,
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

/// One slot of a service, and the region that it is in: borrowed, or kept.
#[derive(Debug)]
pub struct Slot<R> {
    slot: usize,
    control: Room<R, { layout::LAYOUT.size }>,
    words: Room<R, { slot::LAYOUT.size }>,
    request: Room<R, { request::LAYOUT.size }>,
    reply: Room<R, { reply::LAYOUT.size }>,
}

impl<R: Keep + Clone> Slot<R> {
    /// The slot with that number, which there is in that shape.
    #[inline]
    pub fn new(shape: &Shape, region: R, slot: usize) -> Self {
        Self {
            slot,
            control: Room::new(region.clone(), 0, 0),
            words: Room::new(region.clone(), shape.at(slot, 0), 0),
            request: Room::new(region.clone(), shape.request(slot), shape.longest_request()),
            reply: Room::new(region, shape.reply(slot), shape.longest_reply()),
        }
    }
}

impl<R: Keep> Slot<R> {
    /// Becomes another slot of the service.
    #[inline]
    pub fn go_to(&mut self, shape: &Shape, slot: usize) {
        self.slot = slot;
        self.words.go_to(shape.at(slot, 0));
        self.request.go_to(shape.request(slot));
        self.reply.go_to(shape.reply(slot));
    }

    /// The same slot, borrowed: where its words are is then a value of whoever has it, which need not be
    /// loaded again behind each fence.
    #[inline(always)]
    pub fn borrow(&self) -> Slot<&Region> {
        Slot {
            slot: self.slot,
            control: self.control.borrow(),
            words: self.words.borrow(),
            request: self.request.borrow(),
            reply: self.reply.borrow(),
        }
    }

    /// Its number.
    #[inline(always)]
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The region that it is in.
    #[inline]
    pub fn region(&self) -> &Region {
        self.control.region()
    }

    /// Whether it is the only one that ever had a client, as far as one can see.
    #[inline(always)]
    pub fn is_only(&self) -> bool {
        // Relaxed: as in `Shape::used`.
        self.control.u32(layout::USED).load(Ordering::Relaxed) == 1 && self.slot == 0
    }

    /// Number of the last call.
    #[inline(always)]
    pub fn last(&self) -> u64 {
        // [SERVICE_ASK] acquire.
        self.request.u64(request::NUMBER).load(Ordering::Acquire)
    }

    #[inline(always)]
    fn taken(&self) -> u64 {
        // [SERVICE_TAKEN] acquire.
        self.words.u64(slot::TAKEN).load(Ordering::Acquire)
    }

    #[inline(always)]
    fn taker(&self) -> u64 {
        // [SERVICE_TAKE] acquire.
        self.words.u64(slot::TAKER).load(Ordering::Acquire)
    }

    /// The identity of who has the call in hand, 0 if nobody, and where its pulse is.
    pub fn in_hand(&self) -> (u64, u32) {
        // Relaxed: the pulse is a hint.
        let pulse = self.words.u32(slot::PULSE).load(Ordering::Relaxed);
        (self.taker(), pulse)
    }

    #[inline(always)]
    fn seize(&self, from: u64, me: u64) -> bool {
        let taker = self.words.u64(slot::TAKER);
        // [SERVICE_TAKE] acquire. Relaxed on failure: nothing is read then.
        taker
            .compare_exchange(from, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline(always)]
    fn give_back(&self) {
        // [SERVICE_TAKE] release.
        self.words.u64(slot::TAKER).store(0, Ordering::Release);
    }

    #[inline(always)]
    fn mark_taken(&self, number: u64) {
        // [SERVICE_TAKEN] release.
        self.words.u64(slot::TAKEN).store(number, Ordering::Release);
    }

    /// Rings the bell of the servers, if `worth` agrees: asked only if one of them is parked.
    #[inline(always)]
    fn ring_door(&self, worth: impl FnOnce(&Self) -> bool) {
        let parked = self.control.u32(layout::DOOR + bell::PARKED);
        if is_parked(parked) && worth(self) {
            ring(self.region(), layout::DOOR);
        }
    }
}

/// Rings a bell at which somebody is parked.
#[cold]
#[inline(never)]
fn ring(region: &Region, at: usize) {
    Bell::light(region, at).ring_light(|| true);
}

/// The client's side.
impl<R: Keep> Slot<R> {
    /// Writes the request; false if one can't be so long.
    #[inline(always)]
    pub fn copy_request_in(&self, request: &[u8]) -> bool {
        self.request.copy_in(0, request)
    }

    /// Asks: publishes the request of `length` bytes that was [written](Self::copy_request_in).
    #[inline(always)]
    pub fn ask(&self, number: u64, length: usize) {
        // Relaxed: released with the number.
        self.request
            .u32(request::LENGTH)
            .store(length as u32, Ordering::Relaxed);
        // [SERVICE_ASK] release.
        self.request
            .u64(request::NUMBER)
            .store(number, Ordering::Release);
    }

    /// Wakes servers. To be called after [asking](Self::ask).
    #[inline(always)]
    pub fn ring_servers(&self) {
        self.ring_door(|_| true);
    }

    /// Whether a call has its reply.
    #[inline(always)]
    pub fn is_answered(&self, number: u64) -> bool {
        // [SERVICE_ANSWER] acquire.
        self.reply.u64(reply::NUMBER).load(Ordering::Acquire) == number
    }

    /// Looks for a moment whether the reply comes.
    #[inline(always)]
    pub fn glance_for_answer(&self, number: u64) -> bool {
        glance_at_answer(|| self.is_answered(number))
    }

    /// The reply to a call that [is answered](Self::is_answered).
    #[inline(always)]
    pub fn answer(&self) -> Result<Answer, Damaged> {
        // Relaxed, both: acquired with the number.
        let length = self.reply.u32(reply::LENGTH).load(Ordering::Relaxed) as usize;
        let outcome = self.reply.u32(reply::OUTCOME).load(Ordering::Relaxed);
        let outcome = Outcome::from_number(outcome).ok_or(Damaged)?;
        if length > self.reply.behind() {
            return Err(Damaged);
        }
        Ok(Answer { outcome, length })
    }

    /// Appends `length` bytes of the reply to a buffer; false if one can't be so long.
    #[inline(always)]
    pub fn append_reply(&self, length: usize, to: &mut Vec<u8>) -> bool {
        self.reply.append(length, to)
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
        let taker = self.taker();
        if taker == 0 && self.taken() == self.last() {
            return true;
        }
        if taker != 0 && !is_dead(taker) || !self.seize(taker, me) {
            return false;
        }
        self.mark_taken(self.last());
        self.give_back();
        true
    }
}

/// The server's side.
impl<R: Keep> Slot<R> {
    /// Whether a call waits to be taken, as far as one can tell who has not taken the slot.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        // Relaxed: who takes the slot looks again. An old number of what was taken only shows a
        // call that is taken by now.
        let taken = self.words.u64(slot::TAKEN).load(Ordering::Relaxed);
        self.last() != taken
    }

    /// Looks for a moment whether a call comes.
    #[inline(always)]
    pub fn glance(&self) -> bool {
        // Relaxed: as in `is_waiting`.
        let taken = self.words.u64(slot::TAKEN).load(Ordering::Relaxed);
        glance_at_answer(|| self.last() != taken)
    }

    /// Takes the call that waits, `None` if there is none, or somebody has it.
    ///
    /// `is_dead` says whether a taker is dead; it is asked only if a call waits and somebody has
    /// the slot.
    #[inline(always)]
    pub fn take(&self, me: u64, pulse: u32, is_dead: impl FnOnce(u64) -> bool) -> Option<Taken> {
        if !self.is_waiting() {
            return None;
        }
        let taker = self.taker();
        if taker != 0 && !is_dead(taker) || !self.seize(taker, me) {
            return None;
        }
        // Relaxed: a hint.
        self.words.u32(slot::PULSE).store(pulse, Ordering::Relaxed);
        let number = self.last();
        if number == self.taken() {
            self.hand_on();
            return None;
        }
        self.mark_taken(number);
        // Relaxed: acquired with the number.
        let length = self.request.u32(request::LENGTH).load(Ordering::Relaxed) as usize;
        if length > self.request.behind() {
            self.refuse(number);
            return None;
        }
        Some(Taken {
            slot: self.slot,
            number,
            length,
        })
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, number: u64) {
        self.end(number, Outcome::Damaged, 0);
    }

    /// Copies a part of the request out; false if one can't be so long.
    #[inline]
    pub fn copy_request_out(&self, at: usize, to: &mut [u8]) -> bool {
        self.request.copy_out(at, to)
    }

    /// Appends `length` bytes of the request to a buffer; false if one can't be so long.
    #[inline(always)]
    pub fn append_request(&self, length: usize, to: &mut Vec<u8>) -> bool {
        self.request.append(length, to)
    }

    /// Writes a part of the reply; false if one can't be so long.
    #[inline(always)]
    pub fn copy_reply_in(&self, at: usize, part: &[u8]) -> bool {
        self.reply.copy_in(at, part)
    }

    /// Ends the call with that number: publishes the reply of `length` bytes that was
    /// [written](Self::copy_reply_in), and gives the slot back.
    #[inline(always)]
    pub fn end(&self, number: u64, outcome: Outcome, length: usize) {
        // Relaxed, both: released with the number.
        self.reply
            .u32(reply::LENGTH)
            .store(length as u32, Ordering::Relaxed);
        self.reply
            .u32(reply::OUTCOME)
            .store(outcome as u32, Ordering::Relaxed);
        // [SERVICE_ANSWER] release.
        self.reply
            .u64(reply::NUMBER)
            .store(number, Ordering::Release);
        if is_parked(self.words.u32(slot::ANSWERED + bell::PARKED)) {
            ring(self.region(), self.words.offset() + slot::ANSWERED);
        }
        self.hand_on();
    }

    /// Gives the slot back. Another server may have gone to sleep over it while the client asked
    /// again.
    #[inline(always)]
    fn hand_on(&self) {
        self.give_back();
        self.ring_door(|slot| had_others(slot.region()) && slot.is_waiting());
    }
}
