//! The consumer's side of `queue`: receiving, one by one, in batches and in place.

use crate::channel::Channel;
use crate::coming::{Announced, Coming, LEAST, Pursuit};
use crate::queue::{self, MANY, Options, RecvError, Watch, is_dead};
use crate::queue_delivery::{Batch, Delivery, Message, Received};
use crate::queue_kept::Lane;
use crate::queue_layout::{Shape, lane, layout};
use crate::queue_members::{End, buried, end, leave_seat, take_seat, watch_the_others};
use crate::queue_run::Short;
use crate::queue_taker::Taking;
use crate::ring::{Damaged, Record};
use shmem::Peers;
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience};
use shmem::zerocopy::{FromBytes, IntoBytes};
use shmem::{Address, Bytes, OpenError, Reason, barrier};
use shmem::{Wait, Waiter, Waiting};
use std::time::Duration;

/// Receives messages.
///
/// Dropping it gives its seat back; when the last consumer leaves, producers learn of it.
#[derive(Debug)]
pub struct Consumer {
    follow: bool,
    /// Producers that had gone, one of them by death, before it came.
    buried: Option<u64>,
    seat: usize,
    pub(crate) taking: Taking,
    /// Whether a message is in hand.
    holds: bool,
    waiter: Waiter,
    watch: Watch,
    /// Receipts until this process registers for cheap ones.
    until_many: u32,
    pursuit: Pursuit,
    pub(crate) channel: Channel<Shape>,
}

/// What waiting for a message came to.
#[derive(Debug)]
enum Waited {
    Nothing,
    InHand,
    /// One is being written.
    Coming(Coming),
}

impl Consumer {
    /// Opens a queue, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Crowded`] if it has as many consumers as it may.
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

    /// Opens a queue, waiting until there is one. It looks for it in slices of up to 10 ms.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create); not found when patience ends.
    pub fn wait(address: impl Into<Address>, patience: Patience) -> Result<Self, OpenError> {
        Self::of(Channel::wait(address.into(), patience)?)
    }

    pub(crate) fn of(channel: Channel<Shape>) -> Result<Self, OpenError> {
        let Channel { shape, me, .. } = channel;
        let Some(seat) = take_seat(&shape, channel.region(), me, is_dead) else {
            let (what, limit) = ("consumers", shape.seats());
            return Err(channel.error(Reason::Crowded { what, limit }));
        };
        let buried = buried(&shape, channel.region(), is_dead);
        Ok(Self {
            follow: false,
            buried,
            seat,
            taking: Taking::new(shape, channel.region(), seat),
            holds: false,
            waiter: Waiter::new(),
            watch: Watch::default(),
            until_many: MANY,
            pursuit: Pursuit::default(),
            channel,
        })
    }

    /// Whether to wait for the next producer when the last one is gone; otherwise receiving ends
    /// with [`RecvError::Closed`] or [`RecvError::ProducerDied`] then.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// How to wait: see [`Waiting`].
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.channel.opened.id
    }

    /// Receives a message into a buffer, whose content it replaces. Waits as long as it takes.
    ///
    /// A long message (128 KiB or more) is copied out while it is copied in by [`send`](crate::queue::Producer::send),
    /// if that begins while this waits, if the buffer has room for such ones already, and if this is the only
    /// consumer, has received before, and there never was more than one producer at a time. It is received whole or
    /// not at all.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    #[inline]
    pub fn recv(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        let short = self.recv_short(to);
        if short == Short::Received {
            return Ok(Received { redelivered: false });
        }
        self.recv_apart(short, to)
    }

    #[inline(never)]
    fn recv_apart(&mut self, short: Short, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        let region = self.channel.region();
        if self.taking.settle_short(region, short)
            || self
                .channel
                .registered()
                .is_some_and(|registered| self.taking.recv_soon(region, registered, to))
        {
            return Ok(Received { redelivered: false });
        }
        to.clear();
        self.recv_slowly(to)
    }

    #[inline(never)]
    fn recv_slowly(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        loop {
            if let Some(received) = self.copy_slowly(Wait::FOREVER, to)? {
                return Ok(received);
            }
        }
    }

    /// Receives a message if there is one now, `None` if not.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    #[inline]
    pub fn try_recv(&mut self, to: &mut Vec<u8>) -> Result<Option<Received>, RecvError> {
        self.copy(Wait::Not, to)
    }

    /// [`recv`](Self::recv) that waits no longer than `timeout`, `None` if there was no message.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    pub fn recv_timeout(
        &mut self,
        to: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<Option<Received>, RecvError> {
        self.copy(Wait::While(timeout.into()), to)
    }

    #[inline]
    pub(crate) fn copy(
        &mut self,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Received>, RecvError> {
        let short = self.recv_short(to);
        let is_received = self.taking.settle_short(self.channel.region(), short);
        if is_received || matches!(wait, Wait::While(_)) && self.recv_soon(to) {
            return Ok(Some(Received { redelivered: false }));
        }
        to.clear();
        self.copy_slowly(wait, to)
    }

    /// The way of most messages: see [`Taking::recv_short`].
    #[inline(always)]
    fn recv_short(&mut self, to: &mut Vec<u8>) -> Short {
        // None while a message is in hand: who takes one ends the run.
        match self.channel.registered() {
            Some(registered) => self.taking.recv_short(registered, to),
            None => Short::Nothing,
        }
    }

    /// The way of those that are waited for a moment: see [`Taking::recv_soon`].
    #[inline(never)]
    fn recv_soon(&mut self, to: &mut Vec<u8>) -> bool {
        self.channel
            .registered()
            .is_some_and(|registered| self.taking.recv_soon(self.channel.region(), registered, to))
    }

    #[inline(never)]
    fn copy_slowly(
        &mut self,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Received>, RecvError> {
        let waits = matches!(wait, Wait::While(_)) && !self.holds;
        let region = self.channel.region();
        // Who has had long messages has a buffer for them; the others don't look for one.
        let can_follow = to.capacity() >= LEAST && self.channel.registered().is_some();
        let follows = waits && can_follow && self.pursuit.is_due();
        let only_lane = || self.taking.only_lane(region).map(Lane::announced);
        let then = if follows { only_lane() } else { None };
        if waits && !self.taking.run.is_any() {
            self.taking.glance(region, then);
        }
        if let Some(received) = self.copy_kept(to) {
            return Ok(Some(received));
        }
        let mut waited = self.take_or_wait(wait, then)?;
        if let (Waited::Coming(coming), Wait::While(patience)) = (&waited, wait) {
            let received = self.copy_coming(*coming, to, patience);
            self.pursuit.was(received.is_some());
            if received.is_some() {
                return Ok(received);
            }
            to.clear();
            waited = self.take_or_wait(wait, None)?;
        }
        if !matches!(waited, Waited::InHand) {
            return Ok(None);
        }
        let message = Delivery { consumer: self };
        let (length, redelivered) = (message.len(), message.redelivered());
        message.append_to(to);
        drop(message);
        if !redelivered {
            self.taking.begin_run(length);
        }
        Ok(Some(Received { redelivered }))
    }

    /// Receives the next message of a lane that is kept, if there is one.
    #[inline(always)]
    fn copy_kept(&mut self, to: &mut Vec<u8>) -> Option<Received> {
        let registered = self.channel.registered().filter(|_| !self.holds)?;
        let region = self.channel.region();
        let each = |_: &Lane, record: Record| {
            let bytes = Bytes::new(region, record.offset, record.length);
            bytes
                .expect("the ring lies inside the region, and a record inside the ring")
                .append_to(to);
        };
        let redelivered = self.taking.recv_any(region, registered, each)?;
        Some(Received { redelivered })
    }

    /// The same of one that comes, as it comes.
    #[inline(never)]
    fn copy_coming(
        &mut self,
        mut coming: Coming,
        to: &mut Vec<u8>,
        patience: Patience,
    ) -> Option<Received> {
        let registered = self.channel.registered()?;
        let region = self.channel.region();
        self.taking
            .only_lane(region)?
            .follow(&mut coming, region, to, patience);
        let each = |lane: &Lane, record| lane.complete(coming, region, record, to);
        let redelivered = self.taking.recv_any(region, registered, each)?;
        Some(Received { redelivered })
    }

    fn take_or_wait(
        &mut self,
        wait: Wait<'_>,
        then: Option<Announced>,
    ) -> Result<Waited, RecvError> {
        if self.take_at_once()? {
            return Ok(Waited::InHand);
        }
        self.take_or_follow(wait, then)
    }

    /// Receives a message that is one value. Waits as long as it takes.
    ///
    /// A peer can send any bytes; the type accepts them all.
    ///
    /// ```
    /// # use tombolo::queue::{Consumer, Options, Producer};
    /// # let name: tombolo::Name = format!("doc-typed-{}", std::process::id()).parse()?;
    /// let mut producer = Producer::open_or_create(name.clone(), &Options::default())?;
    /// let mut consumer = Consumer::open(name)?;
    /// producer.send_value(&[1.5f64, 2.5])?;
    /// assert_eq!(consumer.recv_value::<[f64; 2]>()?, [1.5, 2.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`RecvError`]; [`RecvError::WrongSize`] if it is another type's, and then it is finished.
    pub fn recv_value<T: FromBytes + IntoBytes>(&mut self) -> Result<T, RecvError> {
        loop {
            if let Some(message) = self.receive(Patience::FOREVER)? {
                return message.bytes().read().map_err(RecvError::WrongSize);
            }
        }
    }

    /// Receives a message in place, `None` if there is none while `patience` lasts.
    ///
    /// # Errors
    /// See [`RecvError`].
    #[inline]
    pub fn receive(&mut self, patience: Patience) -> Result<Option<Delivery<'_>>, RecvError> {
        Ok(self
            .take(Wait::While(patience))?
            .then_some(Delivery { consumer: self }))
    }

    /// Receives up to `most` messages of one producer in place, at least one, and calls `each` with
    /// them one after the other; all are finished when it returns. Answers how many there were: 0
    /// if there was none while `patience` lasted.
    ///
    /// If this process dies in the middle, those that it has seen are delivered again, marked.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv_batch(
        &mut self,
        most: usize,
        patience: Patience,
        each: impl FnMut(Message<'_>),
    ) -> Result<usize, RecvError> {
        self.each_of_batch(most, Wait::While(patience), each)
    }

    pub(crate) fn each_of_batch(
        &mut self,
        most: usize,
        wait: Wait<'_>,
        each: impl FnMut(Message<'_>),
    ) -> Result<usize, RecvError> {
        let batch = self.take_batch(most, wait)?;
        Ok(batch.map_or(0, |batch| batch.each(each)))
    }

    /// Takes up to `most` messages of one producer in hand, at least one; `None` if there was none
    /// while `patience` lasted.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn batch(
        &mut self,
        most: usize,
        patience: Patience,
    ) -> Result<Option<Batch<'_>>, RecvError> {
        self.take_batch(most, Wait::While(patience))
    }

    fn take_batch(&mut self, most: usize, wait: Wait<'_>) -> Result<Option<Batch<'_>>, RecvError> {
        if most == 0 || !self.take(wait)? {
            return Ok(None);
        }
        Ok(Some(Batch {
            consumer: self,
            left: most,
            begun: false,
        }))
    }

    /// Takes a message in hand; false if there is none.
    #[inline]
    pub(crate) fn take(&mut self, wait: Wait<'_>) -> Result<bool, RecvError> {
        if self.take_at_once()? {
            return Ok(true);
        }
        let glances = matches!(wait, Wait::While(_)) && self.glance();
        if glances && self.take_at_once()? {
            return Ok(true);
        }
        self.take_slowly(wait)
    }

    /// Whether a message comes in a moment.
    #[inline]
    fn glance(&self) -> bool {
        self.taking.glance(self.channel.region(), None)
    }

    /// Takes a message in hand, if there is one now.
    #[inline]
    fn take_at_once(&mut self) -> Result<bool, RecvError> {
        if !self.channel.is_mine() {
            return Err(RecvError::Forked);
        }
        // A guard that was forgotten, not dropped.
        self.finish();
        let region = self.channel.region();
        let found = self.taking.find(region, self.watch.look());
        self.holds = found
            .transpose()
            .map_err(|Damaged| RecvError::Damaged)?
            .is_some();
        Ok(self.holds)
    }

    #[cold]
    fn take_slowly(&mut self, wait: Wait<'_>) -> Result<bool, RecvError> {
        Ok(matches!(self.take_or_follow(wait, None)?, Waited::InHand))
    }

    /// Waits for a message, or for one that is announced since `then`.
    #[cold]
    fn take_or_follow(
        &mut self,
        wait: Wait<'_>,
        then: Option<Announced>,
    ) -> Result<Waited, RecvError> {
        let Self {
            follow,
            buried,
            seat,
            taking,
            waiter,
            watch,
            channel,
            ..
        } = self;
        let Channel { shape, .. } = *channel;
        let (region, seat, follow, buried) = (channel.region(), *seat, *follow, *buried);
        let mut slept = wait.is_task();
        let awaited = region.u32(shape.at(taking.lane, lane::AWAITED));
        // Relaxed: a hint.
        let set_awaited = |is: bool| awaited.store(is.into(), Ordering::Relaxed);
        let look = |moment, peers: &mut Peers| {
            let parking = moment == Moment::Parking;
            let found = taking.find(region, |word| parking && peers.is_dead(word));
            if let Some(found) = found {
                let found = found.map_err(|Damaged| RecvError::Damaged);
                return Some(found.map(|()| Waited::InHand));
            }
            if let Some(coming) = then.and_then(|then| taking.only_lane(region)?.coming(then)) {
                return Some(Ok(Waited::Coming(coming)));
            }
            if !parking {
                return None;
            }
            if channel.has_ended() || watch.is_due() && channel.is_gone() {
                return Some(Err(RecvError::Removed));
            }
            let end = end(&shape, region, |word| peers.is_dead(word)).filter(|end| {
                // Relaxed: an old count only makes it look once more.
                let came = region.load_u64(layout::PRODUCED, Ordering::Relaxed);
                !follow && (*end == End::Closed || buried != Some(came))
            });
            if end.is_none() {
                watch_the_others(&shape, region, seat, peers);
                shape.seat(seat).set_asleep(region, true);
                set_awaited(then.is_some());
                slept = true;
            }
            end.map(|end| match end {
                End::Closed => Err(RecvError::Closed),
                End::Died => Err(RecvError::ProducerDied),
            })
        };
        let found = waiter.find(shape.data(region), wait, look);
        if slept && (found.is_some() || !wait.is_task()) {
            shape.seat(seat).set_asleep(region, false);
            set_awaited(false);
            taking.pass_on(region);
        }
        let waited = found.transpose()?.unwrap_or(Waited::Nothing);
        self.holds = matches!(waited, Waited::InHand);
        Ok(waited)
    }

    /// Takes the message in hand in place.
    #[cfg(feature = "async")]
    pub(crate) fn delivery(&mut self) -> Delivery<'_> {
        Delivery { consumer: self }
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        if self.waiter.withdraw() && self.channel.is_mine() {
            let seat = self.channel.shape.seat(self.seat);
            seat.set_asleep(self.channel.region(), false);
            self.taking.pass_on(self.channel.region());
        }
    }

    #[inline]
    pub(crate) fn finish(&mut self) {
        // In a child that has it by a fork the message is still the parent's.
        if std::mem::take(&mut self.holds) && self.channel.is_mine() {
            self.taking.finish(self.channel.region());
            self.count_down();
        }
    }

    #[inline]
    fn count_down(&mut self) {
        if self.until_many > 0 {
            self.until_many -= 1;
            if self.until_many == 0 {
                barrier::register();
            }
        }
    }
}

impl Consumer {
    pub(crate) fn put_back(&mut self) {
        if std::mem::take(&mut self.holds) && self.channel.is_mine() {
            self.taking.put_back(self.channel.region());
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.finish();
        if self.channel.is_mine() {
            self.taking.leave(self.channel.region());
            leave_seat(
                &self.channel.shape,
                self.channel.region(),
                self.seat,
                is_dead,
            );
        }
    }
}
