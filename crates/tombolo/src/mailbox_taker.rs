//! The taker's side of `mailbox`: taking and peeking, copied or in place.

use crate::channel::Channel;
use crate::mailbox::{self, Options, SHORT, TakeError};
use crate::mailbox_inside::{Fault, Inside, Wants};
use crate::mailbox_layout::{Part, Shape};
use crate::mailbox_member::{GRACE, Member};
use crate::mailbox_members::{died, end, give_back};
use crate::mailbox_store::{Message, Wanted};
use shmem::wait::Patience;
use shmem::zerocopy::{FromBytes, IntoBytes};
use shmem::{Address, Bytes, OpenError, OutOfBounds, Peers, Wait, Waiting};
use std::time::Duration;

/// Takes messages, and looks at them.
///
/// Dropping it gives its seat back.
#[derive(Debug)]
pub struct Taker {
    member: Member,
    follow: bool,
    /// Posters that had died before it came.
    mourned: u64,
    hand: Option<Hand>,
}

/// A message in hand.
#[derive(Clone, Copy, Debug)]
struct Hand {
    message: Message,
    length: usize,
    taken: Taken,
    /// It is to go back, for which there was no room.
    goes_back: bool,
}

/// What there is to say about a message beyond its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its type.
    pub kind: u64,
    /// A taker had it in hand when it died, and may have acted on it; or has put it back.
    pub redelivered: bool,
}

/// What is done with a message that is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Copy,
    Peek,
    InHand,
}

impl Taker {
    /// Opens a mailbox, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`](shmem::Reason); [`Crowded`](shmem::Reason::Crowded) if it has as many members
    /// as it may.
    pub fn open_or_create(
        address: impl Into<Address>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Self::of(mailbox::open_or_create(address.into(), options)?)
    }

    /// Opens a mailbox that exists.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open(address: impl Into<Address>) -> Result<Self, OpenError> {
        Self::of(Channel::open(address.into())?)
    }

    /// Opens a mailbox, waiting until there is one. It looks for it in slices of up to 10 ms.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create); not found when patience ends.
    pub fn wait(address: impl Into<Address>, patience: Patience) -> Result<Self, OpenError> {
        Self::of(Channel::wait(address.into(), patience)?)
    }

    pub(crate) fn of(channel: Channel<Shape>) -> Result<Self, OpenError> {
        Self::with_grace(channel, GRACE)
    }

    /// One that waits for the lock so long where it should not wait.
    pub(crate) fn with_grace(channel: Channel<Shape>, grace: Duration) -> Result<Self, OpenError> {
        let member = Member::of(channel, Part::Taker, grace)?;
        let mourned = member.enter().and_then(|inside| died(&inside));
        Ok(Self {
            mourned: mourned.unwrap_or(0),
            member,
            follow: false,
            hand: None,
        })
    }

    /// Whether to wait for the next message also when no poster is there, as `msgrcv` does;
    /// otherwise taking ends with [`TakeError::Closed`] or [`TakeError::PosterDied`] then.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// How to wait: see [`Waiting`].
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.member.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.member.channel.opened.id
    }

    /// Takes a message into a buffer, whose content it replaces. Waits as long as it takes.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    #[inline]
    #[doc(alias = "msgrcv")]
    pub fn take(&mut self, wanted: Wanted, to: &mut Vec<u8>) -> Result<Taken, TakeError> {
        loop {
            if let Some(taken) = self.copy(wanted, Wait::FOREVER, to)? {
                return Ok(taken);
            }
        }
    }

    /// Takes a message if there is one now, `None` if not.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    #[inline]
    #[doc(alias = "IPC_NOWAIT")]
    pub fn try_take(
        &mut self,
        wanted: Wanted,
        to: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        self.copy(wanted, Wait::Not, to)
    }

    /// [`take`](Self::take) that waits no longer than `timeout`, `None` if there was no message.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    pub fn take_timeout(
        &mut self,
        wanted: Wanted,
        to: &mut Vec<u8>,
        timeout: Duration,
    ) -> Result<Option<Taken>, TakeError> {
        self.copy(wanted, Wait::While(timeout.into()), to)
    }

    #[inline]
    pub(crate) fn copy(
        &mut self,
        wanted: Wanted,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        to.clear();
        let taken = self.find(wanted, wait, How::Copy, to)?;
        if self.hand.is_some() {
            // A long one, copied where it stands in nobody's way.
            Delivery { taker: self }.append_to(to);
        } else if taken.is_some() {
            self.member.has_done_one();
        }
        Ok(taken)
    }

    /// Takes a message that is one value. Waits as long as it takes.
    ///
    /// A peer can post any bytes; the type accepts them all.
    ///
    /// ```
    /// # use tombolo::mailbox::{Options, Poster, Taker, Wanted};
    /// # let name: tombolo::Name = format!("doc-mailbox-typed-{}", std::process::id()).parse()?;
    /// let mut poster = Poster::open_or_create(name.clone(), &Options::default())?;
    /// let mut taker = Taker::open(name)?;
    /// poster.post_value(7, &[1.5f64, 2.5])?;
    /// assert_eq!(taker.take_value::<[f64; 2]>(Wanted::Type(7))?, [1.5, 2.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`TakeError`]; [`TakeError::WrongSize`] if it has another size, and then it is taken.
    pub fn take_value<T: FromBytes + IntoBytes>(&mut self, wanted: Wanted) -> Result<T, TakeError> {
        loop {
            if let Some(delivery) = self.receive(wanted, Patience::FOREVER)? {
                return delivery.bytes().read().map_err(TakeError::WrongSize);
            }
        }
    }

    /// Takes a message in hand, in place; `None` if there is none while `patience` lasts.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub fn receive(
        &mut self,
        wanted: Wanted,
        patience: Patience,
    ) -> Result<Option<Delivery<'_>>, TakeError> {
        let found = self.take_in_hand(wanted, Wait::While(patience))?;
        Ok(found.then_some(Delivery { taker: self }))
    }

    /// Takes a message in hand; false if there is none.
    pub(crate) fn take_in_hand(
        &mut self,
        wanted: Wanted,
        wait: Wait<'_>,
    ) -> Result<bool, TakeError> {
        let found = self.find(wanted, wait, How::InHand, &mut vec![])?;
        Ok(found.is_some())
    }

    /// Copies a message into a buffer, whose content it replaces, and leaves it where it is: the one
    /// that [`take`](Self::take) would take. `None` if there is none while `patience` lasts.
    ///
    /// Another may take it before the answer is used.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    pub fn peek(
        &mut self,
        wanted: Wanted,
        patience: Patience,
        to: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        self.look(wanted, Wait::While(patience), to)
    }

    pub(crate) fn look(
        &mut self,
        wanted: Wanted,
        wait: Wait<'_>,
        to: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        to.clear();
        self.find(wanted, wait, How::Peek, to)
    }

    /// Copies the message at a position, 0 being the oldest, into a buffer, whose content it
    /// replaces, and leaves it where it is. `None` if there are not so many. Takes as long as there
    /// are messages before it.
    ///
    /// # Errors
    /// See [`TakeError`]; the buffer is left empty.
    #[doc(alias = "MSG_COPY")]
    pub fn peek_at(&mut self, position: u64, to: &mut Vec<u8>) -> Result<Option<Taken>, TakeError> {
        to.clear();
        self.check()?;
        if self.member.channel.has_ended() {
            return Err(TakeError::Removed);
        }
        let inside = self.member.enter()?;
        let store = inside.store();
        let found = store.at(&inside.tx, position).map_err(Fault::from)?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(read(&inside, found.message(), to)?))
    }

    #[inline]
    fn find(
        &mut self,
        wanted: Wanted,
        wait: Wait<'_>,
        how: How,
        to: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        self.check()?;
        let (seat, follow, mourned) = (self.member.seat, self.follow, self.mourned);
        let look = |inside: &mut Inside<'_>| act(inside, seat, wanted, how, to);
        let idle = |inside: &mut Inside<'_>, peers: &mut Peers| match follow {
            true => Ok(()),
            false => end(inside, mourned, peers),
        };
        let wants = Wants::Message(wanted);
        let Some(found) = self.member.until(wait, wants, look, idle)? else {
            return Ok(None);
        };
        if let Found::InHand(hand) = found {
            self.hand = Some(hand);
            // A peer that lies may have had it cut anywhere.
            let region = self.member.channel.region();
            let fits = Bytes::new(region, hand.message.text(), hand.length);
            fits.map_err(|_| TakeError::Damaged)?;
        }
        Ok(Some(found.taken()))
    }

    #[inline]
    fn check(&mut self) -> Result<(), TakeError> {
        if !self.member.channel.is_mine() {
            return Err(TakeError::Forked);
        }
        // A guard that was forgotten, not dropped.
        if self.hand.is_some() {
            self.finish()?;
        }
        Ok(())
    }

    /// Takes a message in place that is in hand.
    #[cfg(feature = "async")]
    pub(crate) fn delivery(&mut self) -> Delivery<'_> {
        Delivery { taker: self }
    }

    /// Finishes the message in hand, or puts it back.
    fn finish(&mut self) -> Result<(), Fault> {
        // In a child that has it by a fork the message is still the parent's.
        let Some(hand) = self.hand.filter(|_| self.member.channel.is_mine()) else {
            return Ok(());
        };
        let seat = self.member.seat;
        let mut inside = self.member.enter()?;
        let mut is_done = true;
        // A peer that lies may have taken it out of the hand.
        if inside.in_hand(seat)? == Some(hand.message) {
            if hand.goes_back {
                is_done = give_back(&mut inside, seat, hand.message)?;
            } else {
                let heap = inside.store().heap;
                hand.message
                    .free(&mut inside.tx, &heap)
                    .map_err(Fault::from)?;
                inside.set_in_hand(seat, None)?;
                inside.has_gone()?;
            }
        }
        inside.finish();
        if is_done {
            self.hand = None;
            if !hand.goes_back {
                self.member.has_done_one();
            }
        }
        Ok(())
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        self.member.withdraw();
    }
}

/// A message that was found, and what was done with it.
enum Found {
    /// It was copied.
    Copied(Taken),
    /// It is in hand.
    InHand(Hand),
}

impl Found {
    fn taken(&self) -> Taken {
        match self {
            Self::Copied(taken) => *taken,
            Self::InHand(hand) => hand.taken,
        }
    }
}

/// Finds a message, and does with it what is to be done under the lock.
#[inline]
fn act(
    inside: &mut Inside<'_>,
    seat: usize,
    wanted: Wanted,
    how: How,
    to: &mut Vec<u8>,
) -> Result<Option<Found>, Fault> {
    let store = inside.store();
    let Some(place) = inside.find(wanted)? else {
        return Ok(None);
    };
    if how == How::Peek {
        return Ok(Some(Found::Copied(read(inside, place.message(), to)?)));
    }
    let message = store.take(&mut inside.tx, place)?;
    let (kind, length) = message.describe(&inside.tx, &store.heap)?;
    if how == How::Copy && length <= SHORT {
        let taken = read(inside, message, to)?;
        message.free(&mut inside.tx, &store.heap)?;
        inside.has_gone()?;
        return Ok(Some(Found::Copied(taken)));
    }
    inside.set_in_hand(seat, Some(message))?;
    inside.has_gone()?;
    Ok(Some(Found::InHand(Hand {
        message,
        length,
        taken: Taken {
            kind,
            redelivered: message.is_again(&inside.tx)?,
        },
        goes_back: false,
    })))
}

/// Copies a message.
fn read(inside: &Inside<'_>, message: Message, to: &mut Vec<u8>) -> Result<Taken, Fault> {
    let heap = inside.store().heap;
    to.clear();
    let (kind, length) = message.describe(&inside.tx, &heap)?;
    message.read(&inside.tx, &heap, length, to)?;
    Ok(Taken {
        kind,
        redelivered: message.is_again(&inside.tx)?,
    })
}

/// A message in hand, in place. It counts as taken when this is dropped; if the process dies before,
/// it goes back.
#[derive(Debug)]
pub struct Delivery<'a> {
    taker: &'a mut Taker,
}

impl Delivery<'_> {
    fn hand(&self) -> Hand {
        self.taker
            .hand
            .expect("a delivery has a message in hand until it goes")
    }

    /// Its type, and whether it was in the hands of another.
    pub fn taken(&self) -> Taken {
        self.hand().taken
    }

    /// Its type.
    pub fn kind(&self) -> u64 {
        self.hand().taken.kind
    }

    /// Whether a taker had it in hand when it died, or has put it back.
    pub fn redelivered(&self) -> bool {
        self.hand().taken.redelivered
    }

    /// Its bytes, in place. Peers can still write them: look at each once, or copy them out first.
    pub fn bytes(&self) -> Bytes<'_> {
        let Hand {
            message, length, ..
        } = self.hand();
        Bytes::new(self.taker.member.channel.region(), message.text(), length)
            .expect("checked when it was taken")
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.hand().length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies a part of the message out.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is copied then.
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result<(), OutOfBounds> {
        self.bytes().copy_out(offset, to)
    }

    /// Appends the message to a buffer.
    pub fn append_to(&self, to: &mut Vec<u8>) {
        self.bytes().append_to(to);
    }

    /// Puts it back to the front of the mailbox: it will be delivered again, marked as redelivered.
    pub fn put_back(self) {
        if let Some(hand) = &mut self.taker.hand {
            hand.goes_back = true;
        }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        // Who keeps the lock now has it finished later.
        let _ = self.taker.finish();
    }
}
