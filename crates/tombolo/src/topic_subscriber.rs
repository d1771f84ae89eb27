//! The subscriber's side of `topic`: receiving, one by one, in batches and in place.

use crate::channel::Channel;
use crate::queue::Watch;
use crate::topic::{self, MANY, Options, Policy, RecvError, Start};
use crate::topic_delivery::{Delivery, Found, Received};
use crate::topic_head::{Head, Next, Unfit};
use crate::topic_layout::{Shape, layout, seat};
use crate::topic_members::{Ended, attempt, ended, hold, leave_seat, move_cursor, take_seat};
use crate::topic_run::Run;
use shmem::sync::Ordering;
use shmem::wait::{Moment, Patience};
use shmem::zerocopy::{FromBytes, IntoBytes};
use shmem::{Address, OpenError, Peers, Reason, Region, View, Wait, Waiter, Waiting, barrier};
use std::time::Duration;

/// How often a subscriber that publishers outrun looks for a place to start.
const ATTEMPTS: u64 = 1000;
/// How often a subscriber whose patience is over starts anew when it is lapped.
pub(crate) const TRIES: u32 = 16;
/// How many receipts a subscriber stays on a lane that always has messages.
pub(crate) const QUOTA: u32 = 256;

/// Receives messages.
///
/// Dropping it gives its seat back: publishers do not wait for it any more.
#[derive(Debug)]
pub struct Subscriber {
    follow: bool,
    pub(crate) heads: Vec<Head>,
    /// Where to look first, and for how many receipts.
    pub(crate) lane: usize,
    pub(crate) left: u32,
    /// How many messages were lost in each lane that nobody was told of.
    pub(crate) untold: Vec<u64>,
    lost: u64,
    seat: Option<usize>,
    /// Up to where each lane's messages are given back, as the cursors say.
    released: Vec<u64>,
    waiter: Waiter,
    watch: Watch,
    /// How many messages it has received.
    pub(crate) received: u64,
    /// Receipts until this process registers for cheap rings.
    until_many: u32,
    /// A copy of a message, for batches.
    copy: Vec<u8>,
    /// The same memory for writing: seat and bell. `None` for who may only read.
    pub(crate) door: Option<Region>,
    pub(crate) run: Option<Run>,
    pub(crate) channel: Channel<Shape, View>,
}

impl Subscriber {
    /// Opens a topic, or creates it as `options` say, and starts at `start`.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Crowded`] if subscribers are waited for and all seats are taken.
    pub fn open_or_create(
        address: impl Into<Address>,
        options: &Options,
        start: Start,
    ) -> Result<Self, OpenError> {
        let address = address.into();
        let opened = topic::open_or_create(address.clone(), options);
        Self::of(address, opened, start)
    }

    /// Opens a topic that exists, and starts at `start`.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open(address: impl Into<Address>, start: Start) -> Result<Self, OpenError> {
        let address = address.into();
        let opened = Channel::open(address.clone());
        Self::of(address, opened, start)
    }

    /// Opens a topic, waiting until there is one, and starts at `start`. It looks for it in slices
    /// of up to 10 ms.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create); not found when patience ends.
    pub fn wait(
        address: impl Into<Address>,
        patience: Patience,
        start: Start,
    ) -> Result<Self, OpenError> {
        let address = address.into();
        let opened = Channel::wait(address.clone(), patience);
        Self::of(address, opened, start)
    }

    fn of(
        address: Address,
        opened: Result<Channel<Shape>, OpenError>,
        start: Start,
    ) -> Result<Self, OpenError> {
        let (channel, door) = match opened {
            Ok(channel) => {
                let (channel, region) = channel.into_reader();
                (channel, Some(region))
            }
            // Who may only read can be overrun, but not be waited for.
            Err(error) if matches!(error.reason(), Reason::Denied(_)) => {
                let channel = Channel::<Shape, View>::open_read_only(address)?;
                if channel.shape.policy() == Policy::WaitForSlowest {
                    return Err(error);
                }
                (channel, None)
            }
            Err(error) => return Err(error),
        };
        Self::through(channel, door, start)
    }

    /// One that writes through `door`, if at all.
    pub(crate) fn through(
        channel: Channel<Shape, View>,
        door: Option<Region>,
        start: Start,
    ) -> Result<Self, OpenError> {
        let Channel { shape, me, .. } = channel;
        let mut waiter = Waiter::new();
        let seat = door
            .as_ref()
            .and_then(|region| take_seat(&shape, region, me, |who| waiter.peers().is_dead(who)));
        let waited_for = shape.policy() == Policy::WaitForSlowest;
        let mut heads = Vec::with_capacity(shape.lanes());
        for lane in 0..shape.lanes() {
            let head = match (&door, seat) {
                (Some(region), Some(seat)) => hold(&shape, region, seat, lane, start, ATTEMPTS),
                _ if waited_for => {
                    let (what, limit) = ("subscribers", shape.seats());
                    return Err(channel.error(Reason::Crowded { what, limit }));
                }
                _ => attempt(ATTEMPTS, |attempt| {
                    Head::seek(shape, channel.view(), lane, start, attempt)
                }),
            };
            match head {
                Ok(head) => heads.push(head),
                Err(_) => {
                    if let (Some(region), Some(seat)) = (&door, seat) {
                        leave_seat(&shape, region, seat);
                    }
                    return Err(channel.error(Reason::Shape(channel.opened.id)));
                }
            }
        }
        if let (Some(region), Some(seat)) = (&door, seat) {
            let numbers = heads.iter().map(|head| head.point().number);
            let started = numbers.fold(0u64, u64::wrapping_add);
            tell(&shape, region, seat, seat::STARTED, started);
            tell(&shape, region, seat, seat::RECEIVED, 0);
            tell(&shape, region, seat, seat::LOST, 0);
        }
        Ok(Self {
            follow: false,
            lane: 0,
            left: QUOTA,
            untold: vec![0; shape.lanes()],
            lost: 0,
            seat,
            released: heads.iter().map(|head| head.point().position).collect(),
            heads,
            waiter,
            watch: Watch::default(),
            received: 0,
            until_many: MANY,
            copy: Vec::new(),
            run: door.as_ref().map(|region| Run::none(&shape, region, 0)),
            door,
            channel,
        })
    }

    /// Whether to wait for the next publisher when the last one is gone; otherwise receiving ends
    /// with [`RecvError::Closed`] or [`RecvError::PublisherDied`] then.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// How to wait for messages.
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.channel.opened.id
    }

    /// What the topic does about slow subscribers.
    pub fn policy(&self) -> Policy {
        self.channel.shape.policy()
    }

    /// How many messages it has lost so far, of all publishers, as far as it has noticed.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Receives a message into a buffer, whose content it replaces. Waits as long as it takes.
    ///
    /// # Errors
    /// See [`RecvError`]; the buffer is left empty.
    #[inline]
    pub fn recv(&mut self, to: &mut Vec<u8>) -> Result<Received, RecvError> {
        loop {
            if let Some(received) = self.copy(Wait::FOREVER, to)? {
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

    /// Receives a message that is one value. Waits as long as it takes.
    ///
    /// A peer can publish any bytes; the type accepts them all.
    ///
    /// ```
    /// # use tombolo::topic::{Options, Publisher, Start, Subscriber};
    /// # let name: tombolo::Name = format!("doc-topic-typed-{}", std::process::id()).parse()?;
    /// let mut publisher = Publisher::open_or_create(name.clone(), &Options::default())?;
    /// let mut subscriber = Subscriber::open(name, Start::Now)?;
    /// publisher.publish_value(&[1.5f64, 2.5])?;
    /// assert_eq!(subscriber.recv_value::<[f64; 2]>()?, [1.5, 2.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`RecvError`]; [`RecvError::WrongSize`] if it is another type's, which was received then.
    pub fn recv_value<T: FromBytes + IntoBytes>(&mut self) -> Result<T, RecvError> {
        loop {
            let Some(mut delivery) = self.receive(Patience::FOREVER)? else {
                continue;
            };
            let value = delivery.bytes().read();
            if delivery.check().is_ok() {
                return value.map_err(RecvError::WrongSize);
            }
        }
    }

    /// Receives up to `most` messages of one publisher, at least one, and calls `each` with a copy
    /// of each, one after the other. Answers how many there were: 0 if there was none while
    /// `patience` lasted.
    ///
    /// # Errors
    /// See [`RecvError`].
    pub fn recv_batch(
        &mut self,
        most: usize,
        patience: Patience,
        each: impl FnMut(&[u8], Received),
    ) -> Result<usize, RecvError> {
        self.batch(most, Wait::While(patience), each)
    }

    pub(crate) fn batch(
        &mut self,
        most: usize,
        wait: Wait<'_>,
        mut each: impl FnMut(&[u8], Received),
    ) -> Result<usize, RecvError> {
        let mut bytes = std::mem::take(&mut self.copy);
        let mut count = 0;
        let mut result = Ok(());
        if most > 0 {
            match self.copy(wait, &mut bytes) {
                Ok(Some(received)) => {
                    each(&bytes, received);
                    count = 1;
                    while count < most {
                        // What was lost or damaged is left for the next receipt.
                        let Some(received) = self.copy_another(received.lane, &mut bytes) else {
                            break;
                        };
                        each(&bytes, received);
                        count += 1;
                    }
                    self.end_run();
                    self.release(received.lane);
                }
                Ok(None) => {}
                Err(error) => result = Err(error),
            }
        }
        self.copy = bytes;
        result.map(|()| count)
    }

    /// Receives a message in place, `None` if there is none while `patience` lasts.
    ///
    /// # Errors
    /// See [`RecvError`].
    #[inline]
    pub fn receive(&mut self, patience: Patience) -> Result<Option<Delivery<'_>>, RecvError> {
        self.end_run();
        // Whatever it sees: it saves the way past everything else if a message comes.
        self.glance();
        self.find_whole(Wait::While(patience))
    }

    #[inline]
    fn find_whole(&mut self, wait: Wait<'_>) -> Result<Option<Delivery<'_>>, RecvError> {
        for attempt in 0u32.. {
            let Some(found) = self.find(wait)? else {
                break;
            };
            let head = &mut self.heads[found.lane];
            let received = match head.verify(self.channel.view(), &found.record) {
                Ok(()) => self.received(&found),
                Err(Unfit::Damaged) => return Err(RecvError::Damaged),
                Err(Unfit::Lapped) => {
                    head.lap();
                    if attempt >= TRIES && wait.gives_up() {
                        break;
                    }
                    continue;
                }
            };
            return Ok(Some(Delivery {
                subscriber: self,
                found,
                received,
                lapped: false,
            }));
        }
        Ok(None)
    }

    #[inline]
    pub(crate) fn received(&mut self, found: &Found) -> Received {
        let lane = found.lane;
        let number = self.heads[lane].point().number;
        let lost = std::mem::take(&mut self.untold[lane]);
        self.received = self.received.wrapping_add(1);
        Received { lane, number, lost }
    }

    /// Finds a message.
    #[inline]
    pub(crate) fn find(&mut self, wait: Wait<'_>) -> Result<Option<Found>, RecvError> {
        if !self.channel.is_mine() {
            return Err(RecvError::Forked);
        }
        self.end_run();
        if self.left > 0
            && let Ok(Next::Record(record)) = self.heads[self.lane].next(self.channel.view())
        {
            self.left -= 1;
            let lane = self.lane;
            return Ok(Some(Found { lane, record }));
        }
        self.find_slowly(wait)
    }

    #[cold]
    fn find_slowly(&mut self, wait: Wait<'_>) -> Result<Option<Found>, RecvError> {
        // Nothing is kept back from publishers while this one waits; but while there is more to come,
        // no publisher is woken for what a quota makes room for.
        let view = self.channel.view();
        let used = self.channel.shape.used(view);
        if !self.heads[..used].iter().any(|head| head.has_next(view)) {
            (0..used).for_each(|lane| self.release(lane));
        }
        let Self {
            follow,
            heads,
            lane,
            left,
            untold,
            lost,
            seat,
            waiter,
            watch,
            door,
            channel,
            ..
        } = self;
        let (shape, view) = (channel.shape, channel.view());
        let (follow, first, before) = (*follow, *lane + 1, *lost);
        let place = door.as_ref().zip(seat.map(|seat| shape.seat(seat)));
        let look = |moment, peers: &mut Peers| {
            let used = shape.used(view);
            let first = if first < used { first } else { 0 };
            for at in (first..used).chain(0..first) {
                let mut next = heads[at].next(view);
                if next == Ok(Next::Lapped)
                    && let Some(gone) = heads[at].resume(view)
                {
                    untold[at] = untold[at].saturating_add(gone);
                    *lost = lost.saturating_add(gone);
                    next = heads[at].next(view);
                }
                match next {
                    Ok(Next::Record(record)) => {
                        (*lane, *left) = (at, QUOTA - 1);
                        return Some(Ok(Found { lane: at, record }));
                    }
                    // A damaged lane does not keep a subscriber from the others.
                    Err(_) => {
                        (*lane, *left) = (at, 0);
                        return Some(Err(RecvError::Damaged));
                    }
                    Ok(Next::Nothing | Next::Lapped) => {}
                }
            }
            if moment == Moment::Spinning {
                return None;
            }
            let due = wait.is_waiting() || watch.is_due();
            if channel.has_ended() || due && channel.is_gone() {
                return Some(Err(RecvError::Removed));
            }
            if !follow {
                let is_empty = |lane: usize| heads[lane].is_empty(view);
                let end = ended(&shape, view, |who| due && peers.is_dead(who), is_empty);
                if let Some(end) = end {
                    return Some(Err(match end {
                        Ended::Closed => RecvError::Closed,
                        Ended::Died => RecvError::PublisherDied,
                    }));
                }
            }
            for publisher in (0..used).map(|lane| shape.owner(lane)) {
                let who = publisher.who(view);
                if who != 0 && !follow {
                    peers.watch(who, publisher.pulse(view));
                }
            }
            if let Some((region, place)) = place {
                place.set_asleep(region, true);
            }
            None
        };
        let found = match &*door {
            Some(region) => waiter.find(shape.data(region), wait, look),
            None => waiter.find_unregistered(view, layout::DATA, wait, look),
        };
        if let Some((region, place)) = place
            && (found.is_some() || !wait.is_task())
        {
            place.set_asleep(region, false);
        }
        if let (Some(region), Some(at)) = (&*door, *seat)
            && *lost != before
        {
            tell(&shape, region, at, seat::LOST, *lost);
        }
        found.transpose()
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        if self.waiter.withdraw()
            && self.channel.is_mine()
            && let (Some(region), Some(seat)) = (&self.door, self.seat)
        {
            self.channel.shape.seat(seat).set_asleep(region, false);
        }
    }

    /// Gives back what was received in a lane, if it is much: so that publishers that wait for room
    /// do not get it by the line. Answers how many bytes more are not much.
    #[inline]
    pub(crate) fn release_much(&mut self, lane: usize) -> u64 {
        let position = self.heads[lane].point().position;
        let much = self.channel.shape.capacity() / 4;
        let kept = position.wrapping_sub(self.released[lane]);
        if kept >= much {
            self.release(lane);
        }
        self.count_down(1);
        if kept < much { much - kept } else { much }
    }

    #[inline]
    pub(crate) fn count_down(&mut self, received: u32) {
        if self.until_many > 0 {
            self.until_many = self.until_many.saturating_sub(received);
            if self.until_many == 0 && self.policy() == Policy::WaitForSlowest {
                barrier::register();
            }
        }
    }

    /// Gives back what was received in a lane.
    fn release(&mut self, lane: usize) {
        let position = self.heads[lane].point().position;
        if let (Some(region), Some(seat)) = (&self.door, self.seat)
            && self.released[lane] != position
        {
            self.released[lane] = position;
            let shape = &self.channel.shape;
            move_cursor(shape, region, seat, lane, &self.heads[lane]);
            tell(shape, region, seat, seat::RECEIVED, self.received);
            if shape.policy() == Policy::WaitForSlowest {
                shape.space(region, lane).ring_light(|| true);
            }
        }
    }
}

/// Stores a word of a seat, for who looks from outside.
fn tell(shape: &Shape, region: &Region, at: usize, word: usize, value: u64) {
    // Relaxed: a statistic.
    region
        .u64(shape.seat_at(at) + word)
        .store(value, Ordering::Relaxed);
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // In a child that has it by a fork the seat is still the parent's.
        if let (Some(region), Some(seat)) = (&self.door, self.seat)
            && self.channel.is_mine()
        {
            leave_seat(&self.channel.shape, region, seat);
        }
    }
}
