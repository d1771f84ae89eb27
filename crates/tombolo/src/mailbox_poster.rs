//! The poster's side of `mailbox`: posting, copied or in place.

use crate::channel::Channel;
use crate::mailbox::{self, LARGEST_TYPE, Options, PostError, SHORT};
use crate::mailbox_inside::{Fault, Inside, Wants};
use crate::mailbox_layout::{Part, Shape};
use crate::mailbox_lead::Lead;
use crate::mailbox_member::{GRACE, Member};
use crate::mailbox_members::throw_away;
use crate::mailbox_store::Message;
use shmem::wait::Patience;
use shmem::zerocopy::{Immutable, IntoBytes};
use shmem::{Address, BytesMut, OpenError, OutOfBounds, Wait, Waiting};
use std::time::Duration;

/// Posts messages.
///
/// Dropping it gives its seat back; takers that wait learn when the last poster leaves.
#[derive(Debug)]
pub struct Poster {
    member: Member,
    /// What is being written in place, and how many bytes it may have.
    draft: Option<Draft>,
    lead: Lead,
}

/// A message that is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    message: Message,
    kind: u64,
    length: usize,
}

impl Poster {
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
        Ok(Self {
            member: Member::of(channel, Part::Poster, grace)?,
            draft: None,
            lead: Lead::default(),
        })
    }

    /// How to wait for room: see [`Waiting`].
    #[must_use]
    pub fn waiting(mut self, waiting: Waiting) -> Self {
        self.member.waiter.set_waiting(waiting);
        self
    }

    /// Id of the segment.
    pub fn id(&self) -> i32 {
        self.member.channel.opened.id
    }

    /// Longest message, in bytes.
    pub fn longest(&self) -> usize {
        self.member.channel.shape.capacity() as usize
    }

    /// Posts a message of a type. Waits for room as long as it takes.
    ///
    /// # Errors
    /// See [`PostError`]; nothing is posted then.
    #[inline]
    #[doc(alias = "msgsnd")]
    pub fn post(&mut self, kind: u64, message: &[u8]) -> Result<(), PostError> {
        self.post_one(kind, message, Wait::FOREVER)
    }

    /// Posts a value as a message. Waits for room as long as it takes. See
    /// [`Taker::take_value`](crate::mailbox::Taker::take_value).
    ///
    /// # Errors
    /// See [`PostError`]; nothing is posted then.
    pub fn post_value<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        kind: u64,
        value: &T,
    ) -> Result<(), PostError> {
        self.post(kind, value.as_bytes())
    }

    /// Posts a message if there is room for it now.
    ///
    /// # Errors
    /// See [`PostError`]; nothing is posted then.
    #[inline]
    #[doc(alias = "IPC_NOWAIT")]
    pub fn try_post(&mut self, kind: u64, message: &[u8]) -> Result<(), PostError> {
        self.post_one(kind, message, Wait::Not)
    }

    /// [`post`](Self::post) that waits no longer than `timeout`.
    ///
    /// # Errors
    /// See [`PostError`]; nothing is posted then.
    pub fn post_timeout(
        &mut self,
        kind: u64,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), PostError> {
        self.post_one(kind, message, Wait::While(timeout.into()))
    }

    #[inline]
    pub(crate) fn post_one(
        &mut self,
        kind: u64,
        message: &[u8],
        wait: Wait<'_>,
    ) -> Result<(), PostError> {
        if message.len() > SHORT {
            return self.post_long(kind, message, wait);
        }
        self.check(kind, message.len())?;
        let Self { member, lead, .. } = self;
        lead.give_way(&member.channel.shape, member.channel.region(), wait);
        let wants = Wants::Room(message.len() as u64);
        let post = |inside: &mut Inside<'_>| {
            if !inside.fits(message.len() as u64)? {
                return Ok(None);
            }
            let posted = inside.allocating(|store, tx| {
                let new = Message::new(tx, &store.heap, kind, message)?;
                store.append(tx, new)
            })?;
            if posted.is_some() {
                lead.has_posted(inside)?;
                inside.has_come(kind);
            }
            Ok(posted)
        };
        let posted = member.until(wait, wants, post, |_, _| Ok(()))?;
        posted.ok_or(PostError::Full)?;
        self.member.has_done_one();
        Ok(())
    }

    #[cold]
    fn post_long(&mut self, kind: u64, message: &[u8], wait: Wait<'_>) -> Result<(), PostError> {
        self.draft(kind, message.len(), wait)?;
        let mut loan = Loan { poster: self };
        let fits = loan.copy_in(0, message);
        // As long as it was asked to be.
        debug_assert!(fits.is_ok(), "{fits:?}");
        loan.post()
    }

    /// A place for a message of `length` bytes, to be written in place. Waits for room as long as
    /// `patience` lasts.
    ///
    /// # Errors
    /// See [`PostError`].
    pub fn loan(
        &mut self,
        kind: u64,
        length: usize,
        patience: Patience,
    ) -> Result<Loan<'_>, PostError> {
        self.draft(kind, length, Wait::While(patience))?;
        Ok(Loan { poster: self })
    }

    /// Finds a place for a message that is to be written.
    pub(crate) fn draft(
        &mut self,
        kind: u64,
        length: usize,
        wait: Wait<'_>,
    ) -> Result<(), PostError> {
        self.check(kind, length)?;
        let seat = self.member.seat;
        let draft = |inside: &mut Inside<'_>| {
            if !inside.fits(length as u64)? {
                return Ok(None);
            }
            let blank =
                inside.allocating(|store, tx| Message::blank(tx, &store.heap, kind, length))?;
            let Some(message) = blank else {
                return Ok(None);
            };
            inside.set_in_hand(seat, Some(message))?;
            inside.reserve(length, true)?;
            Ok(Some(message))
        };
        let wants = Wants::Room(length as u64);
        let message = self.member.until(wait, wants, draft, |_, _| Ok(()))?;
        let message = message.ok_or(PostError::Full)?;
        self.draft = Some(Draft {
            message,
            kind,
            length,
        });
        // A peer that lies may have had it cut anywhere.
        let region = self.member.channel.region();
        BytesMut::new(region, message.text(), length).map_err(|_| PostError::Damaged)?;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn lead(&self) -> &Lead {
        &self.lead
    }

    /// What is being written, in place.
    #[cfg(feature = "async")]
    pub(crate) fn drafted(&mut self) -> Loan<'_> {
        Loan { poster: self }
    }

    #[inline]
    fn check(&mut self, kind: u64, length: usize) -> Result<(), PostError> {
        if !self.member.channel.is_mine() {
            return Err(PostError::Forked);
        }
        if kind == 0 || kind > LARGEST_TYPE {
            return Err(PostError::Type(kind));
        }
        let longest = self.longest();
        if length > longest {
            return Err(PostError::TooLong { length, longest });
        }
        // A loan that was forgotten, not dropped.
        if self.draft.is_some() {
            self.throw_away()?;
        }
        Ok(())
    }

    #[cold]
    fn throw_away(&mut self) -> Result<(), Fault> {
        if self.draft.is_some() && self.member.channel.is_mine() {
            let mut inside = self.member.enter()?;
            if let Some(draft) = inside.in_hand(self.member.seat)? {
                throw_away(&mut inside, self.member.seat, draft)?;
            }
            inside.finish();
            self.draft = None;
        }
        Ok(())
    }

    /// Posts what was written, or its first part.
    fn publish(&mut self, draft: Draft, length: usize) -> Result<(), PostError> {
        let seat = self.member.seat;
        let mut inside = self.member.enter()?;
        if inside.in_hand(seat)? != Some(draft.message) {
            return Err(PostError::Damaged);
        }
        let posted = inside.allocating(|store, tx| {
            draft.message.truncate(tx, &store.heap, length)?;
            store.append(tx, draft.message)
        })?;
        if posted.is_none() {
            return Err(PostError::NoMemory);
        }
        inside.set_in_hand(seat, None)?;
        inside.reserve(draft.length, false)?;
        if length < draft.length {
            inside.has_gone()?;
        }
        inside.has_come(draft.kind);
        inside.finish();
        self.draft = None;
        self.member.has_done_one();
        Ok(())
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        self.member.withdraw();
    }
}

/// A place for a message, not posted yet. Dropping it means that nothing happened.
#[derive(Debug)]
pub struct Loan<'a> {
    poster: &'a mut Poster,
}

impl Loan<'_> {
    fn draft(&self) -> Draft {
        self.poster.draft.expect("a loan has a draft until it goes")
    }

    /// Bytes of the message.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the caller has said how long it is"
    )]
    pub fn len(&self) -> usize {
        self.draft().length
    }

    /// Its bytes, to be written in place, long ones by [pieces](BytesMut::as_chunks_mut). What is never written
    /// holds the bytes of older messages.
    pub fn bytes(&mut self) -> BytesMut<'_> {
        let Draft {
            message, length, ..
        } = self.draft();
        BytesMut::new(self.poster.member.channel.region(), message.text(), length)
            .expect("checked when it was lent")
    }

    /// Writes a part of the message.
    ///
    /// # Errors
    /// If the part is not inside the message; nothing is written then.
    pub fn copy_in(&mut self, offset: usize, part: &[u8]) -> Result<(), OutOfBounds> {
        self.bytes().copy_in(offset, part)
    }

    /// Posts the message.
    ///
    /// # Errors
    /// [`PostError::Busy`] and [`PostError::Damaged`], or [`PostError::NoMemory`] if the blocks of
    /// the mailbox are used up; nothing is posted then.
    pub fn post(self) -> Result<(), PostError> {
        let draft = self.draft();
        self.poster.publish(draft, draft.length)
    }

    /// Posts the first `length` bytes of the message, all of it if it has not so many.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub fn post_part(self, length: usize) -> Result<(), PostError> {
        let draft = self.draft();
        self.poster.publish(draft, length.min(draft.length))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // Who keeps the lock now has it thrown away later.
        let _ = self.poster.throw_away();
    }
}
