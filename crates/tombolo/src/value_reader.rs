//! The reader's side of `value`: getting, watching, following to a larger segment.

use crate::glance::glance;
use crate::value::{EXPECTED, Message, ReadError};
use crate::value_slots::{Read, Reading, Slots, layout};
use shmem::close::Leaving;
use shmem::header::Lifetime;
use shmem::open::{self, Opened};
use shmem::wait::{Moment, Patience};
use shmem::{Address, OpenError, Reason, Region, View, Wait, Waiter};
#[cfg(feature = "async")]
use std::task::Waker;

/// Reads messages, through a read-only attach.
#[derive(Debug)]
pub struct Reader {
    address: Address,
    slots: Slots,
    reading: Reading,
    /// Number of the last message that this reader took.
    seen: u64,
    waiter: Waiter,
    opened: Opened<View>,
    /// The same segment once more, writable, to register on the bell; made when first needed, and
    /// not at all where the mode does not allow it.
    door: Option<Region>,
    // Behind the memory: see `Leaving`.
    _leaving: Leaving,
}

impl Reader {
    /// Opens a value that exists.
    ///
    /// # Errors
    /// See [`Reason`](shmem::Reason).
    pub fn open(address: impl Into<Address>) -> Result<Self, OpenError> {
        let address = address.into();
        let opened = open::open_read_only(&address, &EXPECTED)?;
        Self::of(address, opened, 0)
    }

    /// Opens a value, waiting until there is one. It looks for it in slices of up to 10 ms.
    ///
    /// # Errors
    /// See [`Reason`](shmem::Reason); not found when patience ends.
    pub fn wait(address: impl Into<Address>, patience: Patience) -> Result<Self, OpenError> {
        let address = address.into();
        let opened = open::wait_read_only(&address, &EXPECTED, patience)?;
        Self::of(address, opened, 0)
    }

    pub(crate) fn of(address: Address, opened: Opened<View>, seen: u64) -> Result<Self, OpenError> {
        let slots = Slots::open(&opened.memory)
            .ok_or_else(|| OpenError::new(&address, Reason::Shape(opened.id)))?;
        let leaving = Leaving::new(&opened, &EXPECTED);
        Ok(Self {
            address,
            reading: slots.reading(&opened.memory),
            slots,
            seen,
            waiter: Waiter::new(),
            opened,
            door: None,
            _leaving: leaving,
        })
    }

    /// Id of the segment. It changes when the channel grows.
    pub fn id(&self) -> i32 {
        self.opened.id
    }

    /// Longest message, in bytes. A writer may make the channel grow.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Number of the latest message, 0 if there is none: what tells whether there is anything new,
    /// for the price of a load.
    #[inline]
    pub fn latest(&self) -> u64 {
        self.reading.latest()
    }

    /// The latest message, `None` if none was put yet. Never waits.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn get(&mut self) -> Result<Option<Message>, ReadError> {
        let mut bytes = Vec::new();
        let number = self.get_into(&mut bytes)?;
        Ok(number.map(|number| Message { number, bytes }))
    }

    /// [`get`](Self::get) into a buffer, whose content it replaces; answers the number.
    ///
    /// # Errors
    /// See [`ReadError`]; the buffer is left empty.
    #[inline]
    pub fn get_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<u64>, ReadError> {
        self.read(0, bytes)
    }

    /// Waits until there is a message that this reader has not taken, and takes the latest; `None`
    /// when patience ends.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn watch(&mut self, patience: Patience) -> Result<Option<Message>, ReadError> {
        let mut bytes = Vec::new();
        let number = self.watch_into(patience, &mut bytes)?;
        Ok(number.map(|number| Message { number, bytes }))
    }

    /// Has a task wait for a message, `None` if there is none yet.
    #[cfg(feature = "async")]
    pub(crate) fn ask(&mut self, waker: &Waker) -> Result<Option<Message>, ReadError> {
        let mut bytes = Vec::new();
        let number = self.watch_while(Wait::Wake(waker), &mut bytes)?;
        Ok(number.map(|number| Message { number, bytes }))
    }

    /// Says that no task waits any more.
    #[cfg(feature = "async")]
    pub(crate) fn withdraw(&mut self) {
        self.waiter.withdraw();
    }

    /// [`watch`](Self::watch) into a buffer, whose content it replaces; answers the number.
    ///
    /// # Errors
    /// See [`ReadError`]; the buffer is left empty.
    pub fn watch_into(
        &mut self,
        patience: Patience,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<u64>, ReadError> {
        self.watch_while(Wait::While(patience), bytes)
    }

    fn watch_while(
        &mut self,
        wait: Wait<'_>,
        bytes: &mut Vec<u8>,
    ) -> Result<Option<u64>, ReadError> {
        // Once: see below.
        let mut glances = matches!(wait, Wait::While(_));
        loop {
            if let found @ Some(_) = self.read(self.seen, bytes)? {
                return Ok(found);
            }
            if std::mem::take(&mut glances) && glance(|| self.reading.has_news(self.seen)) {
                continue;
            }
            match self.wait_for_news(wait) {
                // A peer that takes its news back must not keep this reader busy for ever.
                Some(News::Message) if wait.gives_up() => {
                    return self.read(self.seen, bytes);
                }
                Some(News::Message) => {}
                Some(News::Ended) => self.follow()?,
                None => return Ok(None),
            }
        }
    }

    #[inline(always)]
    fn read(&mut self, seen: u64, bytes: &mut Vec<u8>) -> Result<Option<u64>, ReadError> {
        match self.reading.read_at_once(seen, bytes) {
            Some(number) => {
                self.seen = number;
                Ok(Some(number))
            }
            None => self.read_slowly(seen, bytes),
        }
    }

    #[inline(never)]
    fn read_slowly(&mut self, seen: u64, bytes: &mut Vec<u8>) -> Result<Option<u64>, ReadError> {
        loop {
            match self.reading.read(seen, bytes) {
                // Looked at after reading: it was the latest while the segment was the channel's.
                Read::Whole(_) if self.reading.has_ended() => {
                    bytes.clear();
                    self.follow()?;
                }
                Read::Whole(number) => {
                    self.seen = number;
                    return Ok(Some(number));
                }
                Read::Overtaken => return Err(ReadError::Overtaken),
                Read::Damaged => return Err(ReadError::Damaged),
                Read::Nothing if !self.reading.has_ended() => return Ok(None),
                Read::Nothing => self.follow()?,
            }
        }
    }

    fn wait_for_news(&mut self, wait: Wait<'_>) -> Option<News> {
        let Self {
            opened,
            slots,
            reading,
            seen,
            waiter,
            door,
            ..
        } = self;
        let look = |moment, _: &mut _| {
            if reading.has_news(*seen) {
                return Some(News::Message);
            }
            let ended = reading.has_ended()
                || moment == Moment::Parking && opened.is_gone() && !is_anonymous(opened);
            ended.then_some(News::Ended)
        };
        if door.is_none() {
            *door = Region::attach(opened.id).ok();
        }
        match door {
            Some(region) => waiter.find(slots.bell(region), wait, look),
            None => waiter.find_unregistered(&opened.memory, layout::BELL, wait, look),
        }
    }

    /// Looks the channel up again, which has ended here.
    #[cold]
    fn follow(&mut self) -> Result<(), ReadError> {
        let opened = match open::open_read_only(&self.address, &EXPECTED) {
            Err(error) if error.is_not_found() => return Err(ReadError::Removed),
            result => result?,
        };
        if opened.id == self.opened.id {
            return Err(ReadError::Removed);
        }
        // A later generation goes on with the numbers; a channel made anew begins with 1.
        let goes_on = opened.header.generation > self.opened.header.generation;
        let seen = if goes_on { self.seen } else { 0 };
        *self = Self::of(self.address.clone(), opened, seen)?;
        Ok(())
    }
}

/// What a watcher woke for.
enum News {
    Message,
    Ended,
}

/// An anonymous channel is removed from its beginning, and lives on all the same.
fn is_anonymous<M>(opened: &Opened<M>) -> bool {
    opened.header.lifetime == Lifetime::Anonymous
}
