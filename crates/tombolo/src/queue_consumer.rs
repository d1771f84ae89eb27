//! The consumer's side of `queue`: receiving, one by one, in batches and in place.

use crate::channel::Channel;
use crate::queue::{self, MANY, Options, RecvError, Watch, is_dead};
use crate::queue_layout::{Shape, layout};
use crate::queue_members::{End, buried, end, leave_seat, take_seat, watch_the_others};
use crate::queue_taker::{Held, Taking};
use crate::ring::{Damaged, Record};
use shmem::Peers;
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience};
use shmem::zerocopy::{FromBytes, IntoBytes};
use shmem::{Address, Bytes, OpenError, OutOfBounds, Reason, Region, barrier};
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
    taking: Taking,
    /// Whether a message is in hand.
    holds: bool,
    waiter: Waiter,
    watch: Watch,
    /// Receipts until this process registers for cheap ones.
    until_many: u32,
    channel: Channel<Shape>,
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
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    #[inline]
    pub fn recv(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        to.clear();
        if self.recv_short(to) {
            return Ok(Received { redelivered: false });
        }
        self.recv_slowly(to)
    }

    #[inline(never)]
    fn recv_slowly(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        let region = self.channel.region();
        if self.taking.glance(region) && self.recv_short(to) {
            return Ok(Received { redelivered: false });
        }
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
        to.clear();
        if self.recv_short(to) {
            return Ok(Some(Received { redelivered: false }));
        }
        self.copy_slowly(wait, to)
    }

    /// The way of most messages: see [`Taking::recv_short`].
    #[inline(always)]
    fn recv_short(&mut self, to: &mut Vec<u8>) -> bool {
        let Some(registered) = self.channel.registered() else {
            return false;
        };
        let region = self.channel.region();
        !self.holds && self.taking.recv_short(region, registered, to)
    }

    #[inline(never)]
    fn copy_slowly(
        &mut self,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Received>, RecvError> {
        if let Some(registered) = self.channel.registered()
            && !self.holds
        {
            let (region, glances) = (self.channel.region(), matches!(wait, Wait::While(_)));
            let each = |record: Record| {
                let bytes = Bytes::new(region, record.offset, record.length);
                bytes
                    .expect("the ring lies inside the region, and a record inside the ring")
                    .append_to(to);
            };
            let found = self.taking.recv_any(region, registered, glances, each);
            if let Some(redelivered) = found {
                return Ok(Some(Received { redelivered }));
            }
        }
        if !self.take(wait)? {
            return Ok(None);
        }
        let message = Delivery { consumer: self };
        let received = Received {
            redelivered: message.redelivered(),
        };
        message.append_to(to);
        Ok(Some(received))
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
        mut each: impl FnMut(Message<'_>),
    ) -> Result<usize, RecvError> {
        let mut count = 0;
        if let Some(mut batch) = self.take_batch(most, wait)? {
            while let Some(message) = batch.next() {
                count += 1;
                each(message);
            }
        }
        Ok(count)
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
        if !self.channel.is_mine() {
            return Err(RecvError::Forked);
        }
        // A guard that was forgotten, not dropped.
        self.finish();
        let region = self.channel.region();
        let found = self.taking.find(region, self.watch.look());
        let found = match found {
            None if matches!(wait, Wait::While(_)) && self.taking.glance(region) => {
                self.taking.find(region, self.watch.look())
            }
            found => found,
        };
        self.holds = match found {
            Some(Ok(())) => true,
            Some(Err(Damaged)) => return Err(RecvError::Damaged),
            None => self.take_slowly(wait)?,
        };
        Ok(self.holds)
    }

    #[cold]
    fn take_slowly(&mut self, wait: Wait<'_>) -> Result<bool, RecvError> {
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
        let look = |moment, peers: &mut Peers| {
            let parking = moment == Moment::Parking;
            let found = taking.find(region, |word| parking && peers.is_dead(word));
            if let Some(found) = found {
                return Some(found.map_err(|Damaged| RecvError::Damaged));
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
        }
        found.transpose().map(|found| found.is_some())
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
        }
    }

    #[inline]
    fn finish(&mut self) {
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
    fn put_back(&mut self) {
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

/// What there is to say about a message beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// A consumer had it in hand when it died, and may have acted on it.
    pub redelivered: bool,
}

/// A message in place. Peers can still write its bytes: look at each once, or copy them out first.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: Bytes<'a>,
    redelivered: bool,
}

impl<'a> Message<'a> {
    #[inline]
    fn new(region: &'a Region, held: &Held) -> Self {
        let record = held.record;
        let bytes = Bytes::new(region, record.offset, record.length);
        Self {
            bytes: bytes.expect("the ring lies inside the region, and a record inside the ring"),
            // Positions: what ends before the mark was handed out.
            redelivered: held.again >= record.end,
        }
    }

    /// Its bytes, in place.
    #[inline]
    pub fn bytes(&self) -> Bytes<'a> {
        self.bytes
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a consumer had it in hand when it died.
    #[inline]
    pub fn redelivered(&self) -> bool {
        self.redelivered
    }

    /// Copies a part of the message out.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.bytes.copy_out(offset, to)
    }

    /// Appends the message to a buffer.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        self.bytes.append_to(to);
    }
}

/// Messages of one producer in hand, one after the other. When this is dropped, those that
/// [`next`](Self::next) has answered are finished; if the process dies before, they are delivered
/// again.
#[derive(Debug)]
pub struct Batch<'a> {
    consumer: &'a mut Consumer,
    /// How many [`next`](Self::next) may still answer.
    left: usize,
    begun: bool,
}

impl Batch<'_> {
    /// The next message in place.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "it lends what it answers")]
    pub fn next(&mut self) -> Option<Message<'_>> {
        let Consumer {
            taking, channel, ..
        } = &mut *self.consumer;
        if self.left == 0 || self.begun && !taking.step(channel.region()) {
            self.left = 0;
            return None;
        }
        (self.begun, self.left) = (true, self.left - 1);
        Some(Message::new(channel.region(), taking.held()))
    }

    /// Finishes none of them: they will be delivered again, marked as redelivered.
    pub fn put_back(self) {
        self.consumer.put_back();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        if !self.begun {
            // Nothing was seen.
            return self.consumer.put_back();
        }
        self.consumer.finish();
    }
}

/// A message in place, which is finished when this is dropped. It holds its producer's lane until
/// then.
#[derive(Debug)]
pub struct Delivery<'a> {
    consumer: &'a mut Consumer,
}

impl Delivery<'_> {
    /// The message.
    #[inline]
    pub fn message(&self) -> Message<'_> {
        Message::new(self.consumer.channel.region(), self.consumer.taking.held())
    }

    /// Its bytes, in place.
    #[inline]
    pub fn bytes(&self) -> Bytes<'_> {
        self.message().bytes()
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.message().len()
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.message().is_empty()
    }

    /// Whether a consumer had it in hand when it died.
    #[inline]
    pub fn redelivered(&self) -> bool {
        self.message().redelivered()
    }

    /// Copies a part of the message out.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is copied then.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.message().copy_out(offset, to)
    }

    /// Appends the message to a buffer.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        self.message().append_to(to);
    }
}

impl Drop for Delivery<'_> {
    #[inline]
    fn drop(&mut self) {
        self.consumer.finish();
    }
}
