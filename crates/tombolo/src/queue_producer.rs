//! The producer's side of `queue`: sending, one by one and in place. Batches: `queue_sending`.

use crate::channel::Channel;
use crate::coming;
use crate::lane::{Claim, Filling, Tail};
use crate::queue::{self, MANY, Options, SendError, Watch, is_dead};
use crate::queue_layout::{Shape, lane, layout};
use crate::queue_members::{is_deserted, is_hung, leave_lane, missed, take_lane, watch_consumers};
use shmem::Peers;
use shmem::copy::SHORT as COPIED_HERE;
use shmem::header::has_ended_in;
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience, is_parked, layout as bell};
use shmem::zerocopy::{Immutable, IntoBytes};
use shmem::{Address, BytesMut, OpenError, OutOfBounds, Reason, barrier};
use shmem::{Wait, Waiter, Waiting, Window};
use std::time::Duration;

/// Each so many looks for room one looks closer: see [`Tail::look_closer`].
const CLOSER: u32 = 64;

/// Sends messages.
///
/// Dropping it closes its lane: consumers that have received everything learn that it left.
#[derive(Debug)]
pub struct Producer {
    follow: bool,
    /// Consumers that had gone before it came.
    missed: u64,
    lane: usize,
    words: Window<{ lane::LAYOUT.size }>,
    control: Window<{ layout::LAYOUT.size }>,
    pub(crate) tail: Tail,
    longest: usize,
    waiter: Waiter,
    watch: Watch,
    /// Messages that went through this lane.
    pub(crate) sent: u64,
    /// Rings until this process registers for cheap ones.
    until_many: u32,
    pub(crate) channel: Channel<Shape>,
}

impl Producer {
    /// Opens a queue, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Crowded`] if it has as many producers as it may.
    pub fn open_or_create(
        address: impl Into<Address>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Self::of(queue::open_or_create(address.into(), options)?)
    }

    /// Opens a queue that exists.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open(address: impl Into<Address>) -> Result<Self, OpenError> {
        Self::of(Channel::open(address.into())?)
    }

    pub(crate) fn of(channel: Channel<Shape>) -> Result<Self, OpenError> {
        let (shape, region) = (channel.shape, channel.region());
        let Some(lane) = take_lane(&shape, region, channel.me, is_dead) else {
            let (what, limit) = ("producers", shape.lanes());
            return Err(channel.error(Reason::Crowded { what, limit }));
        };
        let ring = shape.ring(lane);
        let Ok(tail) = Tail::open(ring, region, shape.marks(lane)) else {
            leave_lane(&shape, region, lane);
            return Err(channel.error(Reason::Shape(channel.opened.id)));
        };
        let words = Window::new(region, shape.at(lane, 0));
        coming::open(&words);
        let missed = missed(&shape, region, is_dead);
        // Relaxed: for who looks from outside.
        let sent = region.load_u64(shape.at(lane, lane::SENT), Ordering::Relaxed);
        Ok(Self {
            follow: false,
            missed,
            lane,
            words,
            control: Window::new(region, 0),
            tail,
            longest: ring.longest(),
            waiter: Waiter::new(),
            watch: Watch::default(),
            sent,
            until_many: MANY,
            channel,
        })
    }

    /// Whether to wait for the next consumer when the last one is gone; otherwise sending fails
    /// with [`SendError::NoConsumers`] then.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// How to wait for room: see [`Waiting`].
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

    /// Sends a message. Waits for room as long as it takes.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is sent then.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_one(message, Wait::FOREVER)
    }

    /// Sends a value as a message. Waits for room as long as it takes. See
    /// [`Consumer::recv_value`](crate::queue::Consumer::recv_value).
    ///
    /// # Errors
    /// See [`SendError`]; nothing is sent then.
    pub fn send_value<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), SendError> {
        self.send(value.as_bytes())
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is sent then.
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_one(message, Wait::Not)
    }

    /// [`send`](Self::send) that waits no longer than `timeout`.
    ///
    /// # Errors
    /// See [`SendError`]; nothing is sent then.
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_one(message, Wait::While(timeout.into()))
    }

    #[inline]
    pub(crate) fn send_one(&mut self, message: &[u8], wait: Wait<'_>) -> Result<(), SendError> {
        // What is longer is copied by a call, which has its price here too.
        if message.len() <= COPIED_HERE && self.push(message) {
            return Ok(());
        }
        self.send_slowly(message, wait)
    }

    /// The way of most messages; false if something is in it.
    #[inline(always)]
    fn push(&mut self, message: &[u8]) -> bool {
        let Some(registered) = self.channel.registered() else {
            return false;
        };
        if !self.is_usual() || !self.tail.push(message) {
            return false;
        }
        self.sent = self.sent.wrapping_add(1);
        self.tell();
        registered.light();
        // Relaxed: [BELL_PARK] ordered by the fence.
        let parked = self.control.u32(layout::DATA + bell::PARKED);
        // For the next one, if it is like this one.
        if self.tail.is_short_of(message.len()) || parked.load(Ordering::Relaxed) != 0 {
            self.afterwards();
        }
        true
    }

    #[inline(never)]
    fn afterwards(&mut self) {
        // It looks itself whether there is somebody to wake.
        self.wake();
        self.tail.prepare(self.channel.region());
    }

    /// Whether there is no need to look closer at what may keep it from sending.
    #[inline(always)]
    fn is_usual(&self) -> bool {
        !has_ended_in(&self.control)
            // Relaxed, both: only a hint that the last consumer may be gone.
            && self.control.u64(layout::HUNG).load(Ordering::Relaxed)
                != self.control.u64(layout::ATTENDED).load(Ordering::Relaxed)
    }

    #[inline(never)]
    fn send_slowly(&mut self, message: &[u8], wait: Wait<'_>) -> Result<(), SendError> {
        if message.len() > COPIED_HERE && self.push(message) {
            return Ok(());
        }
        let claim = self.claim(message.len(), Filling::Copied, wait)?;
        self.write(claim, message);
        self.ring();
        Ok(())
    }

    /// A place for a message of `length` bytes, to be written in place. Waits for room as long as
    /// `patience` lasts.
    ///
    /// # Errors
    /// See [`SendError`].
    #[inline]
    pub fn loan(&mut self, length: usize, patience: Patience) -> Result<Loan<'_>, SendError> {
        let claim = self.claim(length, Filling::InPlace, Wait::While(patience))?;
        Ok(Loan {
            producer: self,
            claim,
        })
    }

    /// Why nothing may be sent at all, or not so much.
    #[inline(always)]
    fn check(&self, length: usize) -> Result<(), SendError> {
        if !self.channel.is_mine() {
            return Err(SendError::Forked);
        }
        if length > self.longest {
            return Err(SendError::TooLong {
                length,
                longest: self.longest,
            });
        }
        if has_ended_in(&self.control) {
            return Err(SendError::Removed);
        }
        if !self.follow && is_hung(&self.control, self.missed) {
            return Err(SendError::NoConsumers);
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn claim(
        &mut self,
        length: usize,
        filling: Filling,
        wait: Wait<'_>,
    ) -> Result<Claim, SendError> {
        self.check(length)?;
        match self.tail.claim(self.channel.region(), length, filling) {
            Ok(claim) => Ok(claim),
            Err(_) => self.claim_slowly(length, filling, wait),
        }
    }

    #[cold]
    fn claim_slowly(
        &mut self,
        length: usize,
        filling: Filling,
        wait: Wait<'_>,
    ) -> Result<Claim, SendError> {
        let Self {
            follow,
            lane,
            tail,
            waiter,
            watch,
            missed,
            control,
            channel,
            ..
        } = self;
        let Channel { shape, .. } = *channel;
        let (region, follow, missed, lane) = (channel.region(), *follow, *missed, *lane);
        let (mut looks, mut slept) = (0u32, wait.is_task());
        let look = |moment, peers: &mut Peers| {
            let parking = moment == Moment::Parking;
            if looks.is_multiple_of(CLOSER) || parking {
                tail.look_closer(region, looks > 0 || parking);
            }
            looks = looks.wrapping_add(1);
            if let Ok(claim) = tail.claim(region, length, filling) {
                return Some(Ok(claim));
            }
            if channel.has_ended() {
                return Some(Err(SendError::Removed));
            }
            if !follow && is_hung(control, missed) {
                return Some(Err(SendError::NoConsumers));
            }
            if !parking {
                return None;
            }
            if watch.is_due() && channel.is_gone() {
                return Some(Err(SendError::Removed));
            }
            if !follow && is_deserted(&shape, region, missed, |word| peers.is_dead(word)) {
                return Some(Err(SendError::NoConsumers));
            }
            watch_consumers(&shape, region, peers);
            shape.owner(lane).set_asleep(region, true);
            slept = true;
            None
        };
        let found = waiter.find(shape.space(region, lane), wait, look);
        if slept && (found.is_some() || !wait.is_task()) {
            shape.owner(lane).set_asleep(region, false);
        }
        found.unwrap_or(Err(SendError::Full))
    }

    /// A place for a message, claimed just now.
    #[cfg(feature = "async")]
    pub(crate) fn claimed(&mut self, claim: Claim) -> Loan<'_> {
        Loan {
            producer: self,
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
        if message.len() < coming::LEAST {
            let fits = self.channel.region().copy_in(claim.offset, message);
            // The ring lies inside the region, and the claim inside the ring.
            debug_assert!(fits.is_ok(), "{fits:?}");
        } else {
            self.write_announced(claim, message);
        }
        self.publish(claim);
    }

    /// Writes a long message, which may be copied out meanwhile.
    #[inline(never)]
    fn write_announced(&self, claim: Claim, message: &[u8]) {
        coming::announce(&self.words, &self.tail, claim);
        // Who sleeps wakes while it is written. Relaxed: a hint; the message is rung for as well.
        let awaited = || self.words.u32(lane::AWAITED).load(Ordering::Relaxed) == 1;
        if is_parked(self.control.u32(layout::DATA + bell::PARKED)) && awaited() {
            self.wake();
        }
        coming::copy_in(
            self.channel.region(),
            &self.words,
            &self.tail,
            claim,
            message,
        );
    }

    #[inline(always)]
    fn publish(&mut self, claim: Claim) {
        self.tail.publish(claim);
        self.sent = self.sent.wrapping_add(1);
        if claim.padding > 0 {
            self.tell_begun();
        }
    }

    /// Tells who looks from outside where the ring was begun again.
    #[cold]
    fn tell_begun(&self) {
        let begun = self.tail.begun();
        // Otherwise a producer before this one may have done it.
        if begun.at > 0 {
            // Relaxed, both: for who looks from outside.
            self.words
                .u64(lane::LEFT)
                .store(begun.from, Ordering::Relaxed);
            self.words
                .u64(lane::BEGUN)
                .store(begun.at, Ordering::Relaxed);
        }
    }

    /// Tells who looks from outside how much was sent.
    #[inline(always)]
    fn tell(&mut self) {
        // Relaxed, both: for who looks from outside.
        self.words
            .u64(lane::SENT)
            .store(self.sent, Ordering::Relaxed);
        let position = self.tail.position();
        self.words
            .u64(lane::TAIL)
            .store(position, Ordering::Relaxed);
    }

    #[inline]
    fn wake(&self) {
        let data = self.channel.shape.data(self.channel.region());
        data.ring_one(|| true);
    }

    #[inline(always)]
    pub(crate) fn ring(&mut self) {
        self.tell();
        if is_parked(self.control.u32(layout::DATA + bell::PARKED)) {
            self.wake();
        }
        if self.until_many > 0 {
            self.until_many -= 1;
            if self.until_many == 0 {
                barrier::register();
            }
        }
    }
}

impl Drop for Producer {
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
    producer: &'a mut Producer,
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
        BytesMut::new(self.producer.channel.region(), offset, length)
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

    /// Sends the first `length` bytes of the message.
    ///
    /// # Errors
    /// If it has not so many; then nothing is sent.
    pub fn publish_part(self, length: usize) -> Result<(), OutOfBounds> {
        let Self { producer, claim } = self;
        if length > claim.length {
            return Err(OutOfBounds {
                offset: 0,
                length,
                region: claim.length,
            });
        }
        producer.publish(claim.part(length));
        producer.ring();
        Ok(())
    }

    /// Sends the message.
    #[inline]
    pub fn publish(self) {
        let Self { producer, claim } = self;
        producer.publish(claim);
        producer.ring();
    }
}
