//! The client's side of `service`: calling, and several calls at a time.

use crate::channel::Channel;
use crate::glance::glance;
use crate::service::{self, CallError, MANY, Options};
use crate::service_asking::Answered;
use crate::service_layout::Shape;
use crate::service_members::{leave_slot, somebody, take_slot};
use crate::service_slot::{Fate, Outcome, Slot};
use shmem::wait::{Moment, Patience};
use shmem::{Address, Bytes, BytesMut, OpenError, Peers, Reason, Wait, Waiter, Waiting, barrier};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "async")]
use std::task::Waker;
use std::time::Duration;

/// Calls a service.
///
/// It takes a slot for calls when it is opened, and more when it has several calls at a time;
/// dropping it and what it started gives them back.
#[derive(Debug)]
pub struct Client {
    /// The slot for the next call. `None` if its last one was started, or is still in hand.
    line: Option<Line>,
    waiting: Waiting,
    follow: bool,
    waiter: Waiter,
    calls: u32,
    shared: Arc<Shared>,
}

/// A slot of this client's, and its last call.
#[derive(Debug)]
struct Line {
    slot: usize,
    number: u64,
}

/// What a client and the calls that it started have in common.
#[derive(Debug)]
struct Shared {
    /// Slots of this client that it does not wait for. Servers may have calls of theirs in hand.
    spare: Mutex<Vec<usize>>,
    channel: Channel<Shape>,
}

impl Client {
    /// Opens a service, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`]; [`Reason::Crowded`] if it has as many calls as it may.
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

    /// Opens a service, waiting until there is one. It looks for it in slices of up to 10 ms.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create); not found when patience ends.
    pub fn wait(address: impl Into<Address>, patience: Patience) -> Result<Self, OpenError> {
        Self::of(Channel::wait(address.into(), patience)?)
    }

    pub(crate) fn of(channel: Channel<Shape>) -> Result<Self, OpenError> {
        let mut waiter = Waiter::new();
        let shared = Shared {
            spare: Mutex::new(vec![]),
            channel,
        };
        let Some(line) = shared.line(waiter.peers()) else {
            let (what, limit) = ("calls", shared.channel.shape.calls());
            return Err(shared.channel.error(Reason::Crowded { what, limit }));
        };
        Ok(Self {
            line: Some(line),
            waiting: Waiting::default(),
            follow: false,
            waiter,
            calls: 0,
            shared: Arc::new(shared),
        })
    }

    /// Whether to wait for the next server when there is none; otherwise calls fail with
    /// [`CallError::NoServers`] then. A call that a server had taken when it died fails anyhow.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// How to wait for replies.
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiting = waiting;
        self.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.shared.channel.opened.id
    }

    /// Longest request, in bytes.
    pub fn longest(&self) -> usize {
        self.shared.channel.shape.longest_request()
    }

    /// Calls, and puts the reply into a buffer, whose content it replaces. Waits as long as it
    /// takes.
    ///
    /// # Errors
    /// See [`CallError`]; the buffer is left empty, but with [`CallError::Failed`].
    #[inline]
    pub fn call(&mut self, request: &[u8], reply: &mut Vec<u8>) -> Result<(), CallError> {
        self.call_while(request, Patience::FOREVER, reply)
    }

    /// [`call`](Self::call) that waits no longer than `timeout` for the reply.
    ///
    /// # Errors
    /// See [`CallError`]; the buffer is left empty, but with [`CallError::Failed`].
    pub fn call_timeout(
        &mut self,
        request: &[u8],
        timeout: Duration,
        reply: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        self.call_while(request, timeout.into(), reply)
    }

    #[inline]
    fn call_while(
        &mut self,
        request: &[u8],
        patience: Patience,
        reply: &mut Vec<u8>,
    ) -> Result<(), CallError> {
        reply.clear();
        self.shared.check(request.len())?;
        self.count();
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(self.shared.line_or_error(self.waiter.peers())?),
        };
        self.shared.ask(line, request);
        // The line stays where it is: moved as a whole it would be loaded in pieces larger than those
        // in which it was just stored, which the processor has to wait for.
        if !self.shared.glance(line) {
            self.wait_for_call(patience)?;
        }
        self.read(reply)
    }

    /// Has a slot at hand for a call in place; answers where in its room the request is to be.
    pub(crate) fn prepare(&mut self, length: usize) -> Result<usize, CallError> {
        self.shared.check(length)?;
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(self.shared.line_or_error(self.waiter.peers())?),
        };
        Ok(self.shared.channel.shape.request_place(line.number, length))
    }

    /// The request of the next call, at an `offset` of the room.
    pub(crate) fn room(&self, offset: usize, length: usize) -> BytesMut<'_> {
        let line = self.line.as_ref().expect("there is one for a loan");
        let room = self.shared.slot(line.slot).room();
        BytesMut::new(self.shared.channel.region(), room + offset, length)
            .expect("the slot lies inside the region, and the request was found to fit")
    }

    /// Makes the call whose request is in place.
    pub(crate) fn call_in_place(
        &mut self,
        offset: usize,
        length: usize,
        patience: Patience,
    ) -> Result<Answered<'_>, CallError> {
        // It may have ended meanwhile, or this be a child.
        self.shared.check(length)?;
        self.count();
        let line = self.line.as_mut().expect("there is one for a loan");
        self.shared.publish(line, offset, length);
        if !self.shared.glance(line) {
            self.wait_for_call(patience)?;
        }
        self.answered()
    }

    /// The reply to the last call, which has come.
    #[inline]
    fn answered(&self) -> Result<Answered<'_>, CallError> {
        let line = self.line.as_ref().expect("its call was answered");
        self.shared.answered(line)
    }

    #[inline]
    fn read(&self, reply: &mut Vec<u8>) -> Result<(), CallError> {
        self.answered()?.append_to(reply)
    }

    /// Waits for the reply to the last call. It is there then.
    #[inline(never)]
    fn wait_for_call(&mut self, patience: Patience) -> Result<(), CallError> {
        let line = self.line.take().expect("a call was made in it");
        let ended = self
            .shared
            .wait(&line, self.follow, &mut self.waiter, Wait::While(patience))
            .unwrap_or_else(|| self.shared.give_up(&line, self.waiter.peers()));
        match ended {
            Ok(()) => self.line = Some(line),
            Err(_) => self.shared.spare().push(line.slot),
        }
        ended
    }

    /// Begins a call, whose reply is [waited for](Pending::wait) later. So one client has several
    /// calls at a time.
    ///
    /// # Errors
    /// See [`CallError`]; nothing is asked then.
    pub fn start(&mut self, request: &[u8]) -> Result<Pending, CallError> {
        self.shared.check(request.len())?;
        let mut line = self.own_line()?;
        self.shared.ask(&mut line, request);
        self.count();
        let mut waiter = Waiter::new();
        waiter.set_waiting(self.waiting);
        Ok(Pending {
            line,
            follow: self.follow,
            ended: None,
            waiter,
            shared: self.shared.clone(),
        })
    }

    /// Gives a call the client's own way of waiting, which knows the servers, or takes it back.
    #[cfg(feature = "async")]
    pub(crate) fn lend_waiter(&mut self, pending: &mut Pending) {
        std::mem::swap(&mut self.waiter, &mut pending.waiter);
    }

    /// A slot for a call.
    #[inline]
    fn own_line(&mut self) -> Result<Line, CallError> {
        match self.line.take() {
            Some(line) => Ok(line),
            None => self.shared.line_or_error(self.waiter.peers()),
        }
    }

    #[inline]
    fn count(&mut self) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls == MANY {
            barrier::register();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            self.shared.spare().push(line.slot);
        }
    }
}

/// A call that was started. Dropping it takes it back if no server has it, and throws its reply
/// away otherwise.
#[derive(Debug)]
pub struct Pending {
    line: Line,
    follow: bool,
    /// How it ended, if that is known.
    ended: Option<Result<(), CallError>>,
    waiter: Waiter,
    shared: Arc<Shared>,
}

impl Pending {
    /// Waits for the reply as long as it takes, and puts it into a buffer, whose content it
    /// replaces.
    ///
    /// # Errors
    /// See [`CallError`]; the buffer is left empty, but with [`CallError::Failed`].
    pub fn wait(self, reply: &mut Vec<u8>) -> Result<(), CallError> {
        self.finish(Patience::FOREVER, reply)
    }

    /// [`wait`](Self::wait) that waits no longer than `timeout`, and then gives the call up.
    ///
    /// # Errors
    /// See [`CallError`]; the buffer is left empty, but with [`CallError::Failed`].
    pub fn wait_timeout(self, timeout: Duration, reply: &mut Vec<u8>) -> Result<(), CallError> {
        self.finish(timeout.into(), reply)
    }

    /// Whether [`wait`](Self::wait) would not have to wait any more; waits for that while
    /// `patience` lasts.
    ///
    /// # Errors
    /// [`CallError::Forked`] and [`CallError::Removed`].
    pub fn is_over(&mut self, patience: Patience) -> Result<bool, CallError> {
        self.shared.check(0)?;
        self.look(Wait::While(patience));
        Ok(self.ended.is_some())
    }

    fn look(&mut self, wait: Wait<'_>) {
        let Self {
            line,
            follow,
            ended,
            waiter,
            shared,
        } = self;
        if ended.is_none() {
            *ended = shared.wait(line, *follow, waiter, wait);
        }
    }

    /// Has a task wait for the end of the call, `None` if it has not ended.
    #[cfg(feature = "async")]
    pub(crate) fn ask(
        &mut self,
        waker: &Waker,
        reply: &mut Vec<u8>,
    ) -> Option<Result<(), CallError>> {
        reply.clear();
        if let Err(error) = self.shared.check(0) {
            return Some(Err(error));
        }
        self.look(Wait::Wake(waker));
        let ended = self.ended.clone()?;
        Some(ended.and_then(|()| self.shared.answered(&self.line)?.append_to(reply)))
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        self.waiter.withdraw();
    }

    fn finish(mut self, patience: Patience, reply: &mut Vec<u8>) -> Result<(), CallError> {
        reply.clear();
        self.shared.check(0)?;
        self.look(Wait::While(patience));
        let Self {
            line,
            ended,
            waiter,
            shared,
            ..
        } = &mut self;
        let ended = ended.get_or_insert_with(|| shared.give_up(line, waiter.peers()));
        ended.clone()?;
        shared.answered(line)?.append_to(reply)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // In a child that has it by a fork the call is still the parent's.
        if self.shared.channel.is_mine() {
            if self.ended.is_none() {
                self.shared.take_back(&self.line, self.waiter.peers());
            }
            self.shared.spare().push(self.line.slot);
        }
    }
}

impl Shared {
    #[inline]
    fn slot(&self, slot: usize) -> Slot<'_> {
        Slot {
            shape: &self.channel.shape,
            region: self.channel.region(),
            slot,
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<usize>> {
        // Numbers: whole whoever panicked.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request of so many bytes can be made.
    #[inline]
    fn check(&self, length: usize) -> Result<(), CallError> {
        if !self.channel.is_mine() {
            return Err(CallError::Forked);
        }
        let longest = self.channel.shape.longest_request();
        if length > longest {
            return Err(CallError::TooLong { length, longest });
        }
        if self.channel.has_ended() {
            return Err(CallError::Removed);
        }
        Ok(())
    }

    /// A slot for a call: one of this client's that is quiet, or a further one.
    #[cold]
    fn line(&self, peers: &mut Peers) -> Option<Line> {
        let (me, region) = (self.channel.me, self.channel.region());
        let mut spare = self.spare();
        let quiet = spare
            .iter()
            .position(|slot| self.slot(*slot).quieten(me, |taker| peers.is_dead(taker)));
        let slot = match quiet {
            Some(at) => spare.swap_remove(at),
            None => take_slot(&self.channel.shape, region, me, |who| peers.is_dead(who))?,
        };
        let number = self.slot(slot).last();
        Some(Line { slot, number })
    }

    fn line_or_error(&self, peers: &mut Peers) -> Result<Line, CallError> {
        let limit = self.channel.shape.calls();
        self.line(peers).ok_or(CallError::Crowded { limit })
    }

    #[inline]
    fn ask(&self, line: &mut Line, request: &[u8]) {
        let slot = self.slot(line.slot);
        let fits = self.channel.region().copy_in(slot.room(), request);
        // The slot lies inside the region, and the request was found to fit.
        debug_assert!(fits.is_ok(), "{fits:?}");
        // At the room's beginning always: a short call is not to take longer.
        self.publish(line, 0, request.len());
    }

    /// Asks what is in the slot's room.
    #[inline]
    fn publish(&self, line: &mut Line, offset: usize, length: usize) {
        line.number = line.number.wrapping_add(1);
        self.slot(line.slot).ask(line.number, offset, length);
        let door = self.channel.shape.door(self.channel.region());
        door.ring_light(|| true);
    }

    /// Looks for a moment whether the reply comes.
    #[inline]
    fn glance(&self, line: &Line) -> bool {
        let slot = self.slot(line.slot);
        glance(|| slot.is_answered(line.number))
    }

    /// Waits until there is a reply, or none to wait for; `None` if patience ended, or a task will
    /// be woken.
    #[inline]
    fn wait(
        &self,
        line: &Line,
        follow: bool,
        waiter: &mut Waiter,
        wait: Wait<'_>,
    ) -> Option<Result<(), CallError>> {
        let slot = self.slot(line.slot);
        let bell = self
            .channel
            .shape
            .answered(self.channel.region(), line.slot);
        // A foreign removal is looked for after a sleep only: a system call.
        let mut slept = waiter.has_asked();
        waiter.find(bell, wait, |moment, peers| {
            if slot.is_answered(line.number) {
                return Some(Ok(()));
            }
            match moment {
                Moment::Spinning => None,
                Moment::Parking => {
                    let gone = self.channel.has_ended() || slept && self.channel.is_gone();
                    slept = true;
                    self.look(line, follow, gone, peers)
                }
            }
        })
    }

    /// Looks whether there is anybody to wait for, in a channel that is `gone` or not.
    #[cold]
    fn look(
        &self,
        line: &Line,
        follow: bool,
        gone: bool,
        peers: &mut Peers,
    ) -> Option<Result<(), CallError>> {
        let slot = self.slot(line.slot);
        let fate = slot.fate(line.number, |taker| {
            peers.watch(taker, slot.in_hand().1);
            peers.is_dead(taker)
        });
        let nobody = match fate {
            Fate::Answered => return Some(Ok(())),
            Fate::Damaged => return Some(Err(CallError::Damaged)),
            Fate::Died => true,
            Fate::Waits if !follow => {
                let (shape, region) = (&self.channel.shape, self.channel.region());
                let server = somebody(shape, region, |server| peers.is_dead(server));
                if let Some((server, pulse)) = server {
                    peers.watch(server, pulse);
                }
                server.is_none()
            }
            _ => false,
        };
        if !nobody && !gone {
            return None;
        }
        match self.take_back(line, peers) {
            Fate::Answered => Some(Ok(())),
            Fate::Died => Some(Err(CallError::ServerDied)),
            _ if gone => Some(Err(CallError::Removed)),
            Fate::TakenBack => Some(Err(CallError::NoServers)),
            // A server has come just now.
            _ => None,
        }
    }

    fn take_back(&self, line: &Line, peers: &mut Peers) -> Fate {
        let is_dead = |taker| peers.is_dead(taker);
        self.slot(line.slot)
            .take_back(self.channel.me, line.number, is_dead)
    }

    /// Ends a call whose time is over; the reply may have come just now.
    #[cold]
    fn give_up(&self, line: &Line, peers: &mut Peers) -> Result<(), CallError> {
        match self.take_back(line, peers) {
            Fate::Answered => Ok(()),
            Fate::TakenBack => Err(CallError::TimedOut { taken: false }),
            Fate::Died => Err(CallError::ServerDied),
            _ => Err(CallError::TimedOut { taken: true }),
        }
    }

    /// The reply, which has come.
    #[inline]
    fn answered(&self, line: &Line) -> Result<Answered<'_>, CallError> {
        let answer = self.slot(line.slot).answer();
        let answer = answer.map_err(|_| CallError::Damaged)?;
        let failed = match answer.outcome {
            Outcome::Reply => false,
            Outcome::Failed => true,
            Outcome::Dropped => return Err(CallError::Dropped),
            Outcome::Damaged => return Err(CallError::Damaged),
        };
        let bytes = Bytes::new(self.channel.region(), answer.offset, answer.length);
        let bytes = bytes.expect("the slot lies inside the region, and the reply was found to fit");
        Ok(Answered { bytes, failed })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // In a child that has it by a fork the slots are still the parent's.
        if self.channel.is_mine() {
            let (shape, region) = (&self.channel.shape, self.channel.region());
            for slot in self.spare().drain(..) {
                leave_slot(shape, region, slot);
            }
        }
    }
}
