//! The writer's side of `value`: taking the lock, putting, growing.

use crate::value::{EXPECTED, Options, PutError, plan};
use crate::value_slots::{Read, Slots};
use shmem::close::{self, Leaving};
use shmem::header::{Lifetime, has_ended};
use shmem::lock::{Held, Taken};
use shmem::open::{self, Creation, Opened};
use shmem::presence::{self, Identity};
use shmem::wait::Patience;
use shmem::{Address, OpenError, Reason, Region};
use sysv::Segment;

/// Puts messages.
///
/// After a `fork`, parent and child may both go on with it: each is a writer of its own.
#[derive(Debug)]
pub struct Writer {
    address: Address,
    slots: Slots,
    opened: Opened<Region>,
    /// This process's identity when it last put, 0 before.
    me: u64,
    // Behind the memory: see `Leaving`.
    _leaving: Leaving,
}

impl Writer {
    /// Opens a value, or creates it as `options` say.
    ///
    /// # Errors
    /// See [`Reason`](shmem::Reason).
    pub fn open_or_create(
        address: impl Into<Address>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let address = address.into();
        let (slots, creation) = plan(&address, options)?;
        let opened = open::open_or_create(&address, &EXPECTED, &creation, &|region| {
            slots.format(region)
        })?;
        Self::of(address, opened)
    }

    /// Opens a value that exists.
    ///
    /// # Errors
    /// See [`Reason`](shmem::Reason).
    pub fn open(address: impl Into<Address>) -> Result<Self, OpenError> {
        let address = address.into();
        let opened = open::open(&address, &EXPECTED)?;
        Self::of(address, opened)
    }

    /// Creates a value without a name, which readers reach by its [id](Self::id), and which goes
    /// with its last user.
    ///
    /// # Errors
    /// See [`Reason`](shmem::Reason).
    pub fn anonymous(options: &Options) -> Result<Self, OpenError> {
        let options = Options {
            lifetime: Lifetime::Anonymous,
            ..*options
        };
        let (slots, creation) = plan(&Address::Id(-1), &options)?;
        let opened = open::create_anonymous(&EXPECTED, &creation, &|region| slots.format(region))?;
        Self::of(Address::Id(opened.id), opened)
    }

    pub(crate) fn of(address: Address, opened: Opened<Region>) -> Result<Self, OpenError> {
        let slots = Slots::open(&opened.memory)
            .ok_or_else(|| OpenError::new(&address, Reason::Shape(opened.id)))?;
        let leaving = Leaving::new(&opened, &EXPECTED);
        Ok(Self {
            address,
            slots,
            opened,
            me: 0,
            _leaving: leaving,
        })
    }

    /// Id of the segment. It changes when the channel grows.
    pub fn id(&self) -> i32 {
        self.opened.id
    }

    /// Longest message, in bytes.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// How long the channel lives, as its creator chose.
    pub fn lifetime(&self) -> Lifetime {
        self.opened.header.lifetime
    }

    /// Publishes a message and answers its number. Waits while another writer puts, as long as it
    /// takes.
    ///
    /// # Errors
    /// See [`PutError`]; nothing is published then.
    #[inline]
    pub fn put(&mut self, message: &[u8]) -> Result<u64, PutError> {
        self.put_patiently(message, Patience::FOREVER)
    }

    /// [`put`](Self::put) that waits for other writers no longer than `timeout`.
    ///
    /// # Errors
    /// See [`PutError`]; nothing is published then.
    pub fn put_timeout(
        &mut self,
        message: &[u8],
        timeout: std::time::Duration,
    ) -> Result<u64, PutError> {
        self.put_patiently(message, timeout.into())
    }

    #[inline]
    fn put_patiently(&mut self, message: &[u8], patience: Patience) -> Result<u64, PutError> {
        loop {
            self.me = self.identity()?;
            if let Some(number) = self.put_here(message, patience)? {
                return Ok(number);
            }
            self.follow()?;
        }
    }

    #[inline]
    fn identity(&self) -> Result<u64, PutError> {
        if self.me != 0 && presence::is_mine(self.me) {
            return Ok(self.me);
        }
        Ok(presence::mine().map_err(PutError::Presence)?.word())
    }

    /// Puts into this generation; `None` if it has ended.
    #[inline]
    fn put_here(&self, message: &[u8], patience: Patience) -> Result<Option<u64>, PutError> {
        let region = &self.opened.memory;
        let (length, capacity) = (message.len(), self.slots.capacity());
        if length > capacity {
            return if has_ended(region) {
                Ok(None)
            } else {
                Err(PutError::TooLong { length, capacity })
            };
        }
        let Some(held) = self.lock(region, patience)? else {
            return Ok(None);
        };
        let number = self.slots.put(region, message);
        // One full fence for both: the unlock's read-modify-write is the one that the bell needs
        // between the publication and its look.
        drop(held);
        self.slots.bell(region).ring_after_exchange();
        number
            .map(Some)
            .map_err(|_| PutError::TooLong { length, capacity })
    }

    /// Makes room for messages of `capacity` bytes, by moving to a larger segment. Readers follow
    /// and keep the latest message. Does nothing if there is room already.
    ///
    /// # Errors
    /// See [`PutError`]; only the creator of a named channel can make it grow.
    pub fn grow(&mut self, capacity: usize) -> Result<(), PutError> {
        loop {
            if capacity <= self.slots.capacity() && !has_ended(&self.opened.memory) {
                return Ok(());
            }
            let region = self.opened.memory.clone();
            if let Some(held) = self.lock(&region, Patience::FOREVER)? {
                let new = self.replacement(&region, capacity)?;
                drop(held);
                // Those who are parked look at the state word.
                self.slots.bell(&region).ring();
                *self = Self::of(self.address.clone(), new)?;
                return Ok(());
            }
            self.follow()?;
        }
    }

    /// The next generation, with the latest message in it. The caller holds the lock.
    fn replacement(&self, region: &Region, capacity: usize) -> Result<Opened<Region>, PutError> {
        let status = Segment::from_id(self.opened.id)
            .status_any()
            .map_err(|_| PutError::Removed)?;
        let (uid, gid) = (status.perm.uid, status.perm.gid);
        let changed = (uid, gid) != (status.perm.cuid, status.perm.cgid);
        let options = Options {
            capacity,
            mode: status.perm.mode,
            lifetime: self.opened.header.lifetime,
        };
        let (slots, creation) = plan(&self.address, &options)?;
        let creation = Creation {
            owner: changed.then_some((uid, gid)),
            ..creation
        };
        let mut latest = Vec::new();
        let read = self.slots.read(region, 0, &mut latest);
        let new = open::replace(&self.address, &self.opened, &EXPECTED, &creation, &|new| {
            slots.format(new)?;
            match read {
                Read::Whole(number) => slots.put_numbered(new, number, &latest),
                _ => Ok(()),
            }
        })?;
        Ok(new)
    }

    /// Takes the writers' lock; `None` if the channel has moved on meanwhile.
    #[inline]
    fn lock<'a>(
        &self,
        region: &'a Region,
        patience: Patience,
    ) -> Result<Option<Held<'a>>, PutError> {
        let me = self.identity()?;
        let mut holder = None;
        let held = self.slots.lock(region).take(me, patience, |word| {
            holder = Identity::from_word(word);
            holder.is_none_or(|holder| matches!(holder.is_alive(), Ok(false)))
        });
        let Some(held) = held else {
            let pid = holder.and_then(Identity::pid).filter(|pid| *pid > 0);
            return Err(PutError::Busy(pid));
        };
        if held.taken == Taken::Inherited {
            self.finish_growing();
        }
        Ok((!has_ended(region)).then_some(held))
    }

    /// The writer that died may have made the next generation and not ended this one.
    #[cold]
    fn finish_growing(&self) {
        let newest = open::open_read_only(&self.address, &EXPECTED);
        if newest.is_ok_and(|new| new.header.generation > self.opened.header.generation) {
            close::end(&self.opened);
        }
    }

    fn follow(&mut self) -> Result<(), PutError> {
        let opened = match open::open(&self.address, &EXPECTED) {
            Err(error) if error.is_not_found() => return Err(PutError::Removed),
            result => result?,
        };
        // What has ended is not ready again; who says so would keep it busy for ever.
        if opened.id == self.opened.id {
            return Err(PutError::Removed);
        }
        // What `drop` does to the old one is nothing: it has ended.
        *self = Self::of(self.address.clone(), opened)?;
        Ok(())
    }
}
