//! The server's side of `service`: taking requests, and replying.

use crate::channel::Channel;
use crate::queue::Watch;
use crate::service::{self, MANY, Options, ServeError};
use crate::service_layout::Shape;
use crate::service_members::{leave_seat, take_seat};
use crate::service_slot::{Extent, Outcome, Slot, Taken};
use shmem::wait::Moment;
use shmem::{
    Address, Bytes, BytesMut, OpenError, OutOfBounds, Peers, Reason, Wait, Waiter, Waiting,
    barrier, pulse,
};
use std::fmt;
use std::time::Duration;

/// How many calls in a row a server takes from one slot before it looks at the others first.
const QUOTA: u32 = 64;
/// How many times a server passes by a slot that somebody else has before it looks whether that
/// one lives, which is a system call.
const PATIENT: u32 = 1024;

/// Serves: takes requests and replies.
///
/// Dropping it gives its seat back; when the last server leaves, clients learn of it.
#[derive(Debug)]
pub struct Server {
    seat: usize,
    round: Round,
    /// What was handed out last, changed in place: moved as a whole it would be loaded in pieces larger
    /// than those in which it was just stored, which the processor has to wait for.
    held: Taken,
    /// Whether that is not answered yet.
    holds: bool,
    waiter: Waiter,
    watch: Watch,
    served: u32,
    channel: Channel<Shape>,
}

impl Server {
    /// Opens a service, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Crowded`] if it has as many servers as it may.
    pub fn open_or_create(
        address: impl Into<Address>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Self::of(service::open_or_create(address.into(), options)?)
    }

    /// Opens a service that exists.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open(address: impl Into<Address>) -> Result<Self, OpenError> {
        Self::of(Channel::open(address.into())?)
    }

    pub(crate) fn of(channel: Channel<Shape>) -> Result<Self, OpenError> {
        let mut waiter = Waiter::new();
        let Channel { shape, me, .. } = channel;
        let is_dead = |who| waiter.peers().is_dead(who);
        let Some(seat) = take_seat(&shape, channel.region(), me, is_dead) else {
            let (what, limit) = ("servers", shape.servers());
            return Err(channel.error(Reason::Crowded { what, limit }));
        };
        Ok(Self {
            seat,
            round: Round {
                first: 0,
                left: QUOTA,
                passed: 0,
                pulse: pulse::mine(),
            },
            held: Taken {
                slot: 0,
                number: 0,
                extent: Extent::new(0, 0),
            },
            holds: false,
            waiter,
            watch: Watch::default(),
            served: 0,
            channel,
        })
    }

    /// How to wait for requests.
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.channel.opened.id
    }

    /// Longest reply, in bytes.
    #[inline]
    pub fn longest(&self) -> usize {
        self.channel.shape.longest_reply()
    }

    /// Takes the next request. Waits as long as it takes.
    ///
    /// # Errors
    /// See [`ServeError`].
    #[expect(
        clippy::should_implement_trait,
        reason = "a request borrows the server, which no iterator's item can"
    )]
    #[inline]
    pub fn next(&mut self) -> Result<Request<'_>, ServeError> {
        while !self.take(Wait::FOREVER)? {}
        Ok(Request { server: self })
    }

    /// Takes the next request if there is one now, `None` if not.
    ///
    /// # Errors
    /// See [`ServeError`].
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<Request<'_>>, ServeError> {
        Ok(self.take(Wait::Not)?.then_some(Request { server: self }))
    }

    /// [`next`](Self::next) that waits no longer than `timeout`, `None` if there was no request.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Request<'_>>, ServeError> {
        let taken = self.take(Wait::While(timeout.into()))?;
        Ok(taken.then_some(Request { server: self }))
    }

    /// Takes a request in hand; false if there is none.
    #[inline]
    pub(crate) fn take(&mut self, wait: Wait<'_>) -> Result<bool, ServeError> {
        if !self.channel.is_mine() {
            return Err(ServeError::Forked);
        }
        // A guard that was forgotten, not dropped.
        self.finish(Outcome::Dropped, 0, 0);
        let Self {
            round,
            waiter,
            channel,
            held,
            ..
        } = self;
        let mut found = round.find_quickly(channel, waiter.peers());
        if found.is_none() && matches!(wait, Wait::While(_)) {
            found = round.find_soon(channel, held.extent);
        }
        match found {
            Some(taken) => {
                self.hold(&taken);
                Ok(true)
            }
            None => self.take_slowly(wait),
        }
    }

    #[inline(always)]
    fn hold(&mut self, taken: &Taken) {
        self.held.slot = taken.slot;
        self.held.number = taken.number;
        self.held.extent = taken.extent;
        self.holds = true;
    }

    #[cold]
    fn take_slowly(&mut self, wait: Wait<'_>) -> Result<bool, ServeError> {
        let Self {
            round,
            waiter,
            watch,
            channel,
            ..
        } = self;
        let look = |moment, peers: &mut Peers| {
            if moment == Moment::Spinning {
                return round.find_quickly(channel, peers).map(Ok);
            }
            let found = round.find(channel, |slot, taker| {
                peers.watch(taker, slot.in_hand().1);
                peers.is_dead(taker)
            });
            if let Some(found) = found {
                return Some(Ok(found));
            }
            let gone = channel.has_ended() || watch.is_due() && channel.is_gone();
            gone.then_some(Err(ServeError::Removed))
        };
        let door = channel.shape.door(channel.region());
        let found = waiter.find(door, wait, look);
        let found = found.transpose()?;
        if let Some(taken) = &found {
            self.hold(taken);
        }
        Ok(found.is_some())
    }

    /// The request in hand.
    #[cfg(feature = "async")]
    pub(crate) fn request(&mut self) -> Request<'_> {
        Request { server: self }
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        self.waiter.withdraw();
    }

    #[inline]
    fn slot(&self, slot: usize) -> Slot<'_> {
        Slot {
            shape: &self.channel.shape,
            region: self.channel.region(),
            slot,
        }
    }

    #[inline]
    fn finish(&mut self, outcome: Outcome, offset: usize, length: usize) {
        // In a child that has it by a fork the request is still the parent's.
        if std::mem::take(&mut self.holds) && self.channel.is_mine() {
            let held = &self.held;
            self.slot(held.slot).reply(held, outcome, offset, length);
            self.served = self.served.wrapping_add(1);
            if self.served == MANY {
                barrier::register();
            }
        }
    }
}

/// A server's way of going round the slots.
#[derive(Debug)]
struct Round {
    /// The slot to look at first, and how many more times.
    first: usize,
    left: u32,
    /// How many times it passed by a slot that somebody else has.
    passed: u32,
    pulse: u32,
}

impl Round {
    /// Takes a request, asking the kernel seldom who lives.
    #[inline]
    fn find_quickly(&mut self, channel: &Channel<Shape>, peers: &mut Peers) -> Option<Taken> {
        let mut passed = self.passed;
        let found = self.find(channel, |_, taker| {
            passed = passed.wrapping_add(1);
            passed.is_multiple_of(PATIENT) && peers.is_dead(taker)
        });
        self.passed = passed;
        found
    }

    /// Looks for a moment whether a request comes, if there is one slot only.
    #[inline(always)]
    fn find_soon(&self, channel: &Channel<Shape>, before: Extent) -> Option<Taken> {
        let (shape, region, slot) = (&channel.shape, channel.region(), 0);
        if shape.used(region) != 1 {
            return None;
        }
        let only = Slot {
            shape,
            region,
            slot,
        };
        only.take_soon(channel.me, self.pulse, before)
    }

    /// Takes a request, `None` if there is none that nobody else has.
    #[inline]
    fn find(
        &mut self,
        channel: &Channel<Shape>,
        mut is_dead: impl FnMut(&Slot<'_>, u64) -> bool,
    ) -> Option<Taken> {
        let (shape, region) = (&channel.shape, channel.region());
        let used = shape.used(region);
        let first = if self.first < used { self.first } else { 0 };
        for slot in (first..used).chain(0..first) {
            let at = Slot {
                shape,
                region,
                slot,
            };
            let taken = at.take(channel.me, self.pulse, |taker| is_dead(&at, taker));
            if taken.is_none() {
                continue;
            }
            if slot != self.first {
                (self.first, self.left) = (slot, QUOTA);
            }
            self.left -= 1;
            if self.left == 0 {
                (self.first, self.left) = (slot + 1, QUOTA);
            }
            return taken;
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish(Outcome::Dropped, 0, 0);
        if self.channel.is_mine() {
            leave_seat(&self.channel.shape, self.channel.region(), self.seat);
        }
    }
}

/// A request in place, to be replied to. Dropping it tells the client that there is no reply.
///
/// Peers can still write its bytes: look at each once, or copy them out first.
#[derive(Debug)]
pub struct Request<'a> {
    server: &'a mut Server,
}

impl<'a> Request<'a> {
    #[inline]
    fn taken(&self) -> &Taken {
        // A request is made when something is held.
        &self.server.held
    }

    /// Where its bytes begin.
    #[inline]
    fn room(&self) -> usize {
        let taken = self.taken();
        self.server.slot(taken.slot).room() + taken.extent.offset()
    }

    /// Bytes of the request.
    #[inline]
    pub fn len(&self) -> usize {
        self.taken().extent.length()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes, in place. Long ones are read by [pieces](Bytes::as_chunks).
    #[inline]
    pub fn bytes(&self) -> Bytes<'_> {
        Bytes::new(self.server.channel.region(), self.room(), self.len())
            .expect("the slot lies inside the region, and the request was found to fit")
    }

    /// Copies a part of the request out.
    ///
    /// # Errors
    /// If the part is not inside the request; nothing is copied then.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        let start = inside(offset, to.len(), self.len())?;
        let region = self.server.channel.region();
        region.copy_out(self.room() + start, to)
    }

    /// Appends the request to a buffer.
    #[inline]
    pub fn append_to(&self, to: &mut Vec<u8>) {
        let region = self.server.channel.region();
        let fits = region.append_to(self.room(), self.len(), to);
        // The slot lies inside the region, and the request was found to fit.
        debug_assert!(fits.is_ok(), "{fits:?}");
    }

    /// Longest reply, in bytes.
    #[inline]
    pub fn longest_reply(&self) -> usize {
        self.server.longest()
    }

    /// Replies.
    ///
    /// # Errors
    /// If the reply is longer than one may be. The request comes back with the error.
    #[inline]
    pub fn reply(self, reply: &[u8]) -> Result<(), TooLong<'a>> {
        self.answer(Outcome::Reply, reply)
    }

    /// Replies with an error, of which these bytes tell the client.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub fn fail(self, error: &[u8]) -> Result<(), TooLong<'a>> {
        self.answer(Outcome::Failed, error)
    }

    // Copied to the room's beginning always: a short reply is not to take longer.
    #[inline]
    fn answer(self, outcome: Outcome, bytes: &[u8]) -> Result<(), TooLong<'a>> {
        let request = self.fitting(bytes.len())?;
        let server = &mut *request.server;
        let room = server.slot(server.held.slot).reply_room();
        let fits = server.channel.region().copy_in(room, bytes);
        // The slot lies inside the region, and the reply was found to fit.
        debug_assert!(fits.is_ok(), "{fits:?}");
        server.finish(outcome, 0, bytes.len());
        Ok(())
    }

    /// The request, if a reply of so many bytes can be.
    #[inline]
    fn fitting(self, length: usize) -> Result<Self, TooLong<'a>> {
        let longest = self.longest_reply();
        if length > longest {
            return Err(TooLong {
                request: self,
                length,
                longest,
            });
        }
        Ok(self)
    }

    /// A place for a reply of `length` bytes, to be written in place. The request can be read
    /// meanwhile.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    #[inline]
    pub fn loan(self, length: usize) -> Result<Reply<'a>, TooLong<'a>> {
        let request = self.fitting(length)?;
        let Server { channel, held, .. } = &*request.server;
        let offset = channel.shape.reply_place(held.number, length);
        Ok(Reply {
            request,
            offset,
            length,
        })
    }
}

impl Drop for Request<'_> {
    #[inline]
    fn drop(&mut self) {
        // Nothing is held if it was answered.
        self.server.finish(Outcome::Dropped, 0, 0);
    }
}

/// Checks that a part is inside a message; answers where it begins.
fn inside(offset: usize, length: usize, message: usize) -> Result<usize, OutOfBounds> {
    match offset.checked_add(length) {
        Some(end) if end <= message => Ok(offset),
        _ => Err(OutOfBounds {
            offset,
            length,
            region: message,
        }),
    }
}

/// A place for a reply. Dropping it tells the client that there is none.
#[derive(Debug)]
pub struct Reply<'a> {
    request: Request<'a>,
    /// Where it begins in the slot's room.
    offset: usize,
    length: usize,
}

impl Reply<'_> {
    /// The request that it will be the reply to.
    pub fn request(&self) -> &Request<'_> {
        &self.request
    }

    /// Bytes of the reply.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the caller has said how long it is"
    )]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Where its bytes begin.
    #[inline]
    fn room(&self) -> usize {
        let slot = self.request.taken().slot;
        self.request.server.slot(slot).reply_room() + self.offset
    }

    /// The reply's bytes, to be written. What is never written holds the bytes of older replies.
    pub fn bytes(&mut self) -> BytesMut<'_> {
        let region = self.request.server.channel.region();
        BytesMut::new(region, self.room(), self.length)
            .expect("the slot lies inside the region, and the reply was found to fit")
    }

    /// Writes a part of the reply. What is never written holds the bytes of older replies.
    ///
    /// # Errors
    /// If the part is not inside the reply; nothing is written then.
    #[inline]
    pub fn copy_in(&mut self, offset: usize, part: &[u8]) -> Result<(), OutOfBounds> {
        let start = inside(offset, part.len(), self.length)?;
        let region = self.request.server.channel.region();
        region.copy_in(self.room() + start, part)
    }

    /// Replies.
    #[inline]
    pub fn send(self) {
        self.end(Outcome::Reply);
    }

    #[inline]
    fn end(self, outcome: Outcome) {
        let (offset, length) = (self.offset, self.length);
        self.request.server.finish(outcome, offset, length);
    }
}

/// A reply is longer than one may be; the request comes back.
pub struct TooLong<'a> {
    /// What is still to be replied to.
    pub request: Request<'a>,
    /// Bytes of the reply.
    pub length: usize,
    /// Bytes that a reply may have.
    pub longest: usize,
}

impl fmt::Debug for TooLong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TooLong")
            .field("length", &self.length)
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TooLong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            length, longest, ..
        } = self;
        write!(
            f,
            "a reply of {length} bytes is longer than the {longest} bytes that fit this service; \
             create it with a larger capacity"
        )
    }
}

impl std::error::Error for TooLong<'_> {}
