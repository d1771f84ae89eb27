//! Inside the lock of a `mailbox`: what is looked at and changed there, and who is woken after.
//!
//! # Protocol
//! Everything that counts changes under the lock and by the journal, so a change happens whole or
//! not at all. Who finds nothing, or no room, says under the same lock what it waits for; who
//! changes something sees under the lock whom that may concern, and rings when it has unlocked. See `mailbox_waits`.
//!
//! # Crash
//! Who inherits the lock puts back what the dead one had begun, and rings for everybody, because
//! the dead one may have changed something and not have rung. What a dead member had in hand is
//! told in `mailbox_members`.

use crate::channel::Channel;
use crate::mailbox_layout::{Shape, layout, seat};
use crate::mailbox_store::{Message, Place, Store, Wanted};
use crate::mailbox_waits::Seats;
use shmem::Region;
use shmem::journal::Tx;
use shmem::lock::{Held, Taken};
use shmem::presence::Identity;
use shmem::sync::Ordering;
use shmem::wait::Patience;
use sysv::Errno;

/// What makes an operation fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The segment holds what no member writes.
    Damaged,
    /// Somebody, with this pid if it is known, has the lock and does not go on.
    Busy(Option<i32>),
    /// The mailbox was removed.
    Removed,
    /// The kernel has no memory.
    NoMemory,
    /// No poster is left, after one had died or not.
    Deserted { died: bool },
}

impl From<Errno> for Fault {
    /// Of a change for which there is memory.
    fn from(_: Errno) -> Self {
        Self::Damaged
    }
}

/// What a member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    /// A message.
    Message(Wanted),
    /// Room for a message of so many bytes.
    Room(u64),
}

impl Wants {
    /// As it stands in a seat.
    pub(crate) fn words(self) -> (u32, u64) {
        match self {
            Self::Message(Wanted::Any) => (1, 0),
            Self::Message(Wanted::Type(number)) => (2, number),
            Self::Message(Wanted::UpTo(number)) => (3, number),
            Self::Message(Wanted::Except(number)) => (4, number),
            Self::Room(length) => (5, length),
        }
    }

    fn from_words(wants: u32, number: u64) -> Option<Self> {
        Some(match wants {
            1 => Self::Message(Wanted::Any),
            2 => Self::Message(Wanted::Type(number)),
            3 => Self::Message(Wanted::UpTo(number)),
            4 => Self::Message(Wanted::Except(number)),
            5 => Self::Room(number),
            _ => return None,
        })
    }
}

/// The lock, held, and a transaction under it. Dropped without [`finish`](Self::finish), nothing
/// has happened.
///
/// The order of the fields is that of the end: put back, unlock.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub(crate) tx: Tx<'a>,
    /// Who is to be woken when everything is done.
    rings: Seats,
    shape: &'a Shape,
    region: &'a Region,
    held: Held<'a>,
}

impl<'a> Inside<'a> {
    /// Takes the lock, and puts back what its last holder left if it died.
    #[inline]
    pub(crate) fn enter(
        channel: &'a Channel<Shape>,
        patience: impl FnOnce() -> Patience,
    ) -> Result<Self, Fault> {
        let (shape, region) = (&channel.shape, channel.region());
        let lock = shape.lock(region);
        match lock.take_if_free(channel.me) {
            Some(held) => Ok(Self::with(shape, region, held, Seats::default())),
            None => Self::enter_slowly(channel, patience()),
        }
    }

    #[cold]
    fn enter_slowly(channel: &'a Channel<Shape>, patience: Patience) -> Result<Self, Fault> {
        let (shape, region) = (&channel.shape, channel.region());
        let mut holder = None;
        let held = shape.lock(region).take(channel.me, patience, |word| {
            holder = Identity::from_word(word);
            holder.is_none_or(|holder| matches!(holder.is_alive(), Ok(false)))
        });
        let Some(held) = held else {
            let pid = holder.and_then(Identity::pid).filter(|pid| *pid > 0);
            return Err(Fault::Busy(pid));
        };
        let mut rings = Seats::default();
        if held.taken == Taken::Inherited {
            shape.journal().recover(region);
            rings = Seats::load(region, layout::WAITING, shape.seated(region));
        }
        Ok(Self::with(shape, region, held, rings))
    }

    #[inline]
    fn with(shape: &'a Shape, region: &'a Region, held: Held<'a>, rings: Seats) -> Self {
        Self {
            tx: shape.journal().begin(region),
            rings,
            shape,
            region,
            held,
        }
    }

    /// Makes everything final, unlocks, and wakes whom it concerns.
    #[inline]
    pub(crate) fn finish(self) {
        let Self {
            mut tx,
            rings,
            shape,
            region,
            held,
        } = self;
        tx.commit();
        drop(tx);
        // The unlock's read-modify-write is the full fence of the bells, too.
        drop(held);
        for seat in rings.iter() {
            shape.bell(region, seat).ring_after_exchange();
        }
    }

    /// Takes back what was changed since the last commit.
    pub(crate) fn undo(&mut self) {
        // The old one is dropped, and so undone, before the new one notes anything.
        self.tx = self.shape.journal().begin(self.region);
    }

    pub(crate) fn shape(&self) -> &'a Shape {
        self.shape
    }

    pub(crate) fn region(&self) -> &'a Region {
        self.region
    }

    pub(crate) fn store(&self) -> Store {
        self.shape.store()
    }

    /// Where the wanted message is.
    #[inline]
    pub(crate) fn find(&self, wanted: Wanted) -> Result<Option<Place>, Fault> {
        Ok(self.store().find(&self.tx, wanted)?)
    }

    /// Whether there is room for one more message, of so many bytes.
    #[inline]
    pub(crate) fn fits(&self, length: u64) -> Result<bool, Fault> {
        let (count, bytes) = self.store().contents(&self.tx)?;
        let drafts = self.tx.get(layout::DRAFTS)?;
        let reserved = self.tx.get(layout::RESERVED)?;
        let bytes = bytes.saturating_add(reserved).saturating_add(length);
        let count = count.saturating_add(drafts);
        Ok(bytes <= self.shape.capacity() && count < self.shape.messages())
    }

    /// Makes something out of fresh blocks; `None` if there are none while others are in use.
    ///
    /// Blocks stay of the size that they were cut to, so it may be that there is room by the
    /// numbers and none in one piece; an empty mailbox is one piece again.
    pub(crate) fn allocating<T>(
        &mut self,
        mut make: impl FnMut(&Store, &mut Tx<'_>) -> sysv::Result<T>,
    ) -> Result<Option<T>, Fault> {
        let store = self.store();
        match make(&store, &mut self.tx) {
            Ok(made) => return Ok(Some(made)),
            Err(Errno::NOMEM) => self.undo(),
            Err(error) => return Err(error.into()),
        }
        if store.contents(&self.tx)?.0 != 0 || !self.holding().is_empty() {
            return Ok(None);
        }
        store.cut_anew(&mut self.tx)?;
        self.tx.commit();
        match make(&store, &mut self.tx) {
            Ok(made) => Ok(Some(made)),
            Err(Errno::NOMEM) => Err(Fault::NoMemory),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells takers that wait for one like it that there is a message more of a type.
    #[inline]
    pub(crate) fn has_come(&mut self, number: u64) {
        self.wake(|wants| matches!(wants, Wants::Message(wanted) if wanted.suits(number)));
        self.count(layout::POSTED);
    }

    /// Tells posters that wait, for whom there may be room now.
    #[inline]
    pub(crate) fn has_gone(&mut self) -> Result<(), Fault> {
        let (_, bytes) = self.store().contents(&self.tx)?;
        let left = self.shape.capacity().saturating_sub(bytes);
        self.wake(|wants| matches!(wants, Wants::Room(length) if length <= left));
        self.count(layout::TAKEN);
        Ok(())
    }

    /// Has everybody woken who waits for something like that.
    #[inline]
    pub(crate) fn wake(&mut self, concerns: impl Fn(Wants) -> bool) {
        let (waits, seated) = (
            self.shape.waits(self.region),
            self.shape.seated(self.region),
        );
        let concerns = |wants, number| Wants::from_words(wants, number).is_some_and(&concerns);
        waits.concerned(seated, concerns, &mut self.rings);
    }

    /// Counts up a word that those who spin look at.
    #[inline]
    fn count(&self, offset: usize) {
        let word = self.region.u64(offset);
        // Relaxed: only who holds the lock stores it, and who spins takes the lock before it
        // believes anything.
        word.store(
            word.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Who has a block in hand.
    pub(crate) fn holding(&self) -> Seats {
        Seats::load(self.region, layout::HOLDING, self.shape.seated(self.region))
    }

    /// Seats that have a block in hand.
    pub(crate) fn holders(&self) -> impl Iterator<Item = usize> + use<> {
        self.holding().iter()
    }

    /// The block that the member of a seat has in hand.
    pub(crate) fn in_hand(&self, at: usize) -> Result<Option<Message>, Fault> {
        let held = self.tx.get_at(self.shape.at(at, seat::HELD))?;
        Ok((held != 0).then(|| Message::from_offset(held)))
    }

    /// Notes which block the member of a seat has in hand.
    pub(crate) fn set_in_hand(&mut self, at: usize, held: Option<Message>) -> Result<(), Fault> {
        let offset = held.map_or(0, Message::offset);
        self.tx.set(self.shape.at(at, seat::HELD), offset as u64)?;
        let word = layout::HOLDING + at / 64 * 8;
        let (set, bit) = (self.tx.get(word)?, 1 << (at % 64));
        let set = if held.is_some() {
            set | bit
        } else {
            set & !bit
        };
        Ok(self.tx.set(word, set)?)
    }

    /// Reserves room for a message that is being written, or gives it back.
    pub(crate) fn reserve(&mut self, length: usize, more: bool) -> Result<(), Fault> {
        let sign = if more { 1 } else { -1 };
        self.tx.add(layout::DRAFTS, sign)?;
        Ok(self.tx.add(layout::RESERVED, sign * length as i64)?)
    }
}
