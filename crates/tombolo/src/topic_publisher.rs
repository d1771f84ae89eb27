//! The publisher's side of `topic`: publishing, one by one and in place. Batches: `topic_publishing`.

use crate::channel::Channel;
use crate::lane::Claim;
use crate::topic::{self, MANY, Options, Policy, PublishError};
use crate::topic_layout::{Shape, layout};
use crate::topic_members::{free_seat, leave_lane, take_lane};
use crate::topic_tail::Tail;
use shmem::copy::SHORT;
use shmem::header::has_ended_in;
use shmem::wait::{Moment, Patience, is_parked, layout as bell};
use shmem::zerocopy::{Immutable, IntoBytes};
use shmem::{
    Address, BytesMut, OpenError, OutOfBounds, Peers, Reason, Wait, Waiter, Waiting, Window,
    barrier,
};
use std::time::Duration;

/// Publishes messages.
///
/// Dropping it closes its lane: subscribers that have received everything learn that it left.
#[derive(Debug)]
pub struct Publisher {
    lane: usize,
    control: Window<{ layout::LAYOUT.size }>,
    tail: Tail,
    longest: usize,
    waiter: Waiter,
    /// Rings until this process registers for cheap ones.
    until_many: u32,
    channel: Channel<Shape>,
}

impl Publisher {
    /// Opens a topic, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Crowded`] if it has as many publishers as it may.
    pub fn open_or_create(
        address: impl Into<Address>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Self::of(topic::open_or_create(address.into(), options)?)
    }

    /// Opens a topic that exists.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open(address: impl Into<Address>) -> Result<Self, OpenError> {
        Self::of(Channel::open(address.into())?)
    }

    pub(crate) fn of(channel: Channel<Shape>) -> Result<Self, OpenError> {
        let (shape, region) = (channel.shape, channel.region());
        let mut waiter = Waiter::new();
        let lane = take_lane(&shape, region, channel.me, |who| {
            waiter.peers().is_dead(who)
        });
        let Some(lane) = lane else {
            let (what, limit) = ("publishers", shape.lanes());
            return Err(channel.error(Reason::Crowded { what, limit }));
        };
        let Ok(tail) = Tail::open(shape, region, lane) else {
            leave_lane(&shape, region, lane);
            return Err(channel.error(Reason::Shape(channel.opened.id)));
        };
        let this = Self {
            lane,
            control: Window::new(region, 0),
            tail,
            longest: shape.longest(),
            waiter,
            until_many: MANY,
            channel,
        };
        // What a predecessor that died had no time to tell.
        this.tail.tell();
        Ok(this)
    }

    /// How to wait for room.
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.channel.opened.id
    }

    /// Longest message, in bytes.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// What the topic does about slow subscribers.
    pub fn policy(&self) -> Policy {
        self.channel.shape.policy()
    }

    /// Publishes a message. Where slow subscribers are waited for, it waits for room as long as it
    /// takes.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is published then.
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<(), PublishError> {
        self.publish_one(message, Wait::FOREVER)
    }

    /// Publishes a value as a message. Where slow subscribers are waited for, it waits for room as
    /// long as it takes. See [`Subscriber::recv_value`](crate::topic::Subscriber::recv_value).
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is published then.
    pub fn publish_value<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), PublishError> {
        self.publish(value.as_bytes())
    }

    /// Publishes a message if there is room for it now.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is published then.
    #[inline]
    pub fn try_publish(&mut self, message: &[u8]) -> Result<(), PublishError> {
        self.publish_one(message, Wait::Not)
    }

    /// [`publish`](Self::publish) that waits no longer than `timeout`.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing is published then.
    pub fn publish_timeout(
        &mut self,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), PublishError> {
        self.publish_one(message, Wait::While(timeout.into()))
    }

    #[inline]
    pub(crate) fn publish_one(
        &mut self,
        message: &[u8],
        wait: Wait<'_>,
    ) -> Result<(), PublishError> {
        // What is longer is copied by a call, which has its price here too.
        if message.len() <= SHORT && self.push(message) {
            self.ring();
            return Ok(());
        }
        self.publish_slowly(message, wait)
    }

    /// The way of most messages; false if something is in it.
    #[inline(always)]
    pub(crate) fn push(&mut self, message: &[u8]) -> bool {
        self.channel.is_mine() && !has_ended_in(&self.control) && self.tail.push(message)
    }

    #[inline(never)]
    fn publish_slowly(&mut self, message: &[u8], wait: Wait<'_>) -> Result<(), PublishError> {
        let claim = self.claim(message.len(), wait)?;
        self.write(claim, message);
        self.ring();
        Ok(())
    }

    /// A place for a message of `length` bytes, to be written in place. Where slow subscribers are
    /// waited for, it waits for room as long as `patience` lasts.
    ///
    /// # Errors
    /// See [`PublishError`].
    // Inlined: handed over by memory, the loan would be stored in words and loaded in pairs of them, for
    // which the processor waits until all stores before are done, those of the last message too (measured
    // with 1 KiB in place: 12 million a second, 16 without that).
    #[inline]
    pub fn loan(&mut self, length: usize, patience: Patience) -> Result<Loan<'_>, PublishError> {
        let claim = self.claim(length, Wait::While(patience))?;
        Ok(Loan {
            publisher: self,
            claim,
        })
    }

    #[inline(always)]
    pub(crate) fn claim(&mut self, length: usize, wait: Wait<'_>) -> Result<Claim, PublishError> {
        if !self.channel.is_mine() {
            return Err(PublishError::Forked);
        }
        if length > self.longest {
            return Err(PublishError::TooLong {
                length,
                longest: self.longest,
            });
        }
        if has_ended_in(&self.control) {
            return Err(PublishError::Removed);
        }
        match self.tail.claim(self.channel.region(), length) {
            Ok(claim) => Ok(claim),
            Err(_) => self.claim_slowly(length, wait),
        }
    }

    #[cold]
    fn claim_slowly(&mut self, length: usize, wait: Wait<'_>) -> Result<Claim, PublishError> {
        let Self {
            lane,
            tail,
            waiter,
            channel,
            ..
        } = self;
        let (region, shape, me) = (channel.region(), &channel.shape, channel.me);
        let owner = shape.owner(*lane);
        let look = |moment, peers: &mut Peers| {
            if let Ok(claim) = tail.claim(region, length) {
                return Some(Ok(claim));
            }
            if channel.has_ended() {
                return Some(Err(PublishError::Removed));
            }
            if moment == Moment::Spinning {
                return None;
            }
            if channel.is_gone() {
                return Some(Err(PublishError::Removed));
            }
            let mut freed = false;
            for seat in tail.held_by(region, length) {
                let subscriber = shape.seat(seat);
                let who = subscriber.who(region);
                if who != 0 && !peers.is_dead(who) {
                    peers.watch(who, subscriber.pulse(region));
                } else {
                    freed |= free_seat(shape, region, seat, me, |who| peers.is_dead(who));
                }
            }
            let claim = freed.then(|| tail.claim(region, length).ok()).flatten();
            owner.set_asleep(region, claim.is_none());
            claim.map(Ok)
        };
        let found = waiter.find(shape.space(region, *lane), wait, look);
        if found.is_some() || !wait.is_task() {
            owner.set_asleep(region, false);
        }
        found.unwrap_or(Err(PublishError::Full))
    }

    /// A place for a message, claimed just now.
    #[cfg(feature = "async")]
    pub(crate) fn claimed(&mut self, claim: Claim) -> Loan<'_> {
        Loan {
            publisher: self,
            claim,
        }
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        if self.waiter.withdraw() && self.channel.is_mine() {
            let owner = self.channel.shape.owner(self.lane);
            owner.set_asleep(self.channel.region(), false);
        }
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, claim: Claim, message: &[u8]) {
        let region = self.channel.region();
        let fits = region.copy_in(claim.offset, message);
        // The ring lies inside the region, and the claim inside the ring.
        debug_assert!(fits.is_ok(), "{fits:?}");
        self.tail.publish(region, claim);
    }

    #[inline(always)]
    pub(crate) fn ring(&mut self) {
        self.tail.tell();
        if is_parked(self.control.u32(layout::DATA + bell::PARKED)) {
            let data = self.channel.shape.data(self.channel.region());
            data.ring_light(|| true);
        }
        if self.until_many > 0 {
            self.until_many -= 1;
            if self.until_many == 0 {
                barrier::register();
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // In a child that has it by a fork the lane is still the parent's.
        if self.channel.is_mine() {
            leave_lane(&self.channel.shape, self.channel.region(), self.lane);
        }
    }
}

/// A place for a message, claimed and not yet published. Dropping it means that nothing happened.
#[derive(Debug)]
pub struct Loan<'a> {
    publisher: &'a mut Publisher,
    claim: Claim,
}

impl Loan<'_> {
    /// Bytes of the message.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the caller has said how long it is"
    )]
    pub fn len(&self) -> usize {
        self.claim.length
    }

    /// Its bytes, to be written in place, long ones by [pieces](BytesMut::as_chunks_mut). What is never written
    /// holds the bytes of older messages.
    #[inline]
    pub fn bytes(&mut self) -> BytesMut<'_> {
        let Claim { offset, length, .. } = self.claim;
        BytesMut::new(self.publisher.channel.region(), offset, length)
            .expect("the ring lies inside the region, and the claim inside the ring")
    }

    /// Writes a part of the message.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is written then.
    #[inline]
    pub fn copy_in(&mut self, offset: usize, part: &[u8]) -> Result<(), OutOfBounds> {
        self.bytes().copy_in(offset, part)
    }

    /// Publishes the message.
    #[inline]
    pub fn publish(self) {
        let Self { publisher, claim } = self;
        publisher.tail.publish(publisher.channel.region(), claim);
        publisher.ring();
    }
}
