//! The writer's side of `value`: putting, with the lock or as a keeper; growing.

use crate::value::{EXPECTED, Options, PutError, plan};
use crate::value_keep::Keeping;
use crate::value_slots::{self, Control, Message, Read, Slots, Writing};
use shmem::barrier::Registered;
use shmem::close::{self, Leaving};
use shmem::header::{Lifetime, has_ended};
use shmem::lock::{Held, Taken};
use shmem::open::{self, Creation, Opened};
use shmem::presence::{Identity, Mine};
use shmem::wait::Patience;
use shmem::{Address, OpenError, Reason, Region, barrier};
use sysv::Segment;

/// Puts messages.
///
/// After a `fork`, parent and child may both go on with it: each is a writer of its own.
#[derive(Debug)]
pub struct Writer {
    address: Address,
    slots: Slots,
    opened: Opened<Region>,
    /// This process as it was when it last put, `None` before.
    me: Option<Mine>,
    writing: Writing,
    keeping: Keeping,
    /// Puts until this process registers for cheap ones.
    until_many: u32,
    // Behind the memory: see `Leaving`.
    _leaving: Leaving,
}

/// After how many puts a process registers for cheap fences, which takes it milliseconds.
const MANY: u32 = 10_000;

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
        let leaving = Leaving::of_writable(&opened, &EXPECTED);
        Ok(Self {
            address,
            slots,
            writing: slots.writing(&opened.memory),
            keeping: Keeping::new(&opened.memory),
            opened,
            me: None,
            until_many: MANY,
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
        match self.put_kept(message) {
            Some(number) => Ok(number),
            None => self.put_slowly(message, patience),
        }
    }

    /// Puts if this writer keeps the value.
    #[inline(always)]
    fn put_kept(&mut self, message: &[u8]) -> Option<u64> {
        let words = self.writing.words();
        // Apart, so that a short one is asked nothing but whether it is one.
        let (number, is_quiet) = match self.writing.fit_short(message) {
            Some(message) => put_alone(&mut self.keeping, words, message)?,
            None => {
                // Not seldom, but it has a copy to make.
                cold_path();
                put_alone(&mut self.keeping, words, self.writing.fit(message)?)?
            }
        };
        (is_quiet || self.look_around()).then_some(number)
    }

    /// After a put: whoever waits is woken. False if the channel has ended, and the message went nowhere.
    #[cold]
    fn look_around(&self) -> bool {
        self.slots.bell(&self.opened.memory).ring();
        !has_ended(&self.opened.memory)
    }

    #[inline(never)]
    fn put_slowly(&mut self, message: &[u8], patience: Patience) -> Result<u64, PutError> {
        loop {
            if let Some(number) = self.put_here(message, patience)? {
                self.count_down();
                return Ok(number);
            }
            self.follow()?;
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

    /// This process, which by a fork may be another than it was.
    #[inline(always)]
    fn identity(&mut self) -> Result<Mine, PutError> {
        match self.me {
            Some(me) if me.is_mine() => Ok(me),
            _ => self.renew(),
        }
    }

    #[cold]
    fn renew(&mut self) -> Result<Mine, PutError> {
        let me = Mine::new().map_err(PutError::Presence)?;
        // What there is of it is the parent's.
        (self.me, self.keeping) = (Some(me), Keeping::new(&self.opened.memory));
        Ok(me)
    }

    /// Puts into this generation; `None` if it has ended.
    #[inline(always)]
    fn put_here(&mut self, message: &[u8], patience: Patience) -> Result<Option<u64>, PutError> {
        let me = self.identity()?;
        let slots = self.slots;
        let Self {
            address,
            opened,
            keeping,
            writing,
            ..
        } = self;
        let Some(message) = writing.fit(message) else {
            // It may have moved on to a larger one.
            let is_over = has_ended(&opened.memory);
            let (length, capacity) = (message.len(), slots.capacity());
            return is_over
                .then_some(None)
                .ok_or(PutError::TooLong { length, capacity });
        };
        let Some(held) = lock(address, opened, slots, keeping, me, patience)? else {
            return Ok(None);
        };
        let number = value_slots::next(writing.words());
        value_slots::put(writing.words(), number, message);
        if keeping.is_time(number)
            && let Some(registered) = me.registered()
        {
            keeping.keep(me.word(), registered, is_dead);
        }
        // One full fence for both: the unlock's read-modify-write is the one that the bell needs
        // between the publication and its look.
        drop(held);
        slots.bell(&opened.memory).ring_after_exchange();
        Ok(Some(number))
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
            let me = self.identity()?;
            let Self {
                address,
                opened,
                slots,
                keeping,
                ..
            } = self;
            let held = lock(address, opened, *slots, keeping, me, Patience::FOREVER)?;
            if held.is_some() {
                let new = replacement(address, opened, *slots, capacity)?;
                drop(held);
                // Those who are parked look at the state word.
                slots.bell(&opened.memory).ring();
                *self = Self::of(self.address.clone(), new)?;
                return Ok(());
            }
            drop(held);
            self.follow()?;
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

impl Drop for Writer {
    fn drop(&mut self) {
        // In a child that has it by a fork the seat is still the parent's.
        if self.me.is_some_and(Mine::is_mine) {
            self.keeping.leave();
        }
    }
}

/// Puts if the writer keeps the value, and answers the message's number and whether nothing is to be done then.
#[inline(always)]
fn put_alone<const FEW: bool>(
    keeping: &mut Keeping,
    words: Control<'_>,
    message: Message<'_, FEW>,
) -> Option<(u64, bool)> {
    let (number, registered) = keeping.go_in(words, Registered::light)?;
    value_slots::put(words, number, message);
    // [BELL_PARK] between the publication and the look for who is parked.
    registered.light();
    Some((number, value_slots::is_quiet(words)))
}

/// Where this is called the compiler expects to come seldom, and keeps the registers for the other way. As
/// `std::hint::cold_path`, which is younger than the oldest compiler that this is for.
#[cold]
#[inline]
fn cold_path() {}

fn is_dead(word: u64) -> bool {
    Identity::from_word(word).is_none_or(|who| matches!(who.is_alive(), Ok(false)))
}

/// The next generation, with the latest message in it. The caller holds the lock.
fn replacement(
    address: &Address,
    opened: &Opened<Region>,
    slots: Slots,
    capacity: usize,
) -> Result<Opened<Region>, PutError> {
    let status = Segment::from_id(opened.id)
        .status_any()
        .map_err(|_| PutError::Removed)?;
    let (uid, gid) = (status.perm.uid, status.perm.gid);
    let changed = (uid, gid) != (status.perm.cuid, status.perm.cgid);
    let options = Options {
        capacity,
        mode: status.perm.mode,
        lifetime: opened.header.lifetime,
    };
    let (larger, creation) = plan(address, &options)?;
    let creation = Creation {
        owner: changed.then_some((uid, gid)),
        ..creation
    };
    let mut latest = Vec::new();
    let read = slots.reading(&opened.memory).read(0, &mut latest);
    let new = open::replace(address, opened, &EXPECTED, &creation, &|new| {
        larger.format(new)?;
        let writing = larger.writing(new);
        // What was in the smaller one fits.
        if let (Read::Whole(number), Some(message)) = (read, writing.fit(&latest)) {
            value_slots::put(writing.words(), number, message);
        }
        Ok(())
    })?;
    Ok(new)
}

/// Takes the writers' lock and settles with who keeps the value; `None` if the channel has moved on
/// meanwhile.
#[inline(always)]
fn lock<'a>(
    address: &Address,
    opened: &'a Opened<Region>,
    slots: Slots,
    keeping: &mut Keeping,
    me: Mine,
    patience: Patience,
) -> Result<Option<Held<'a>>, PutError> {
    let region = &opened.memory;
    let busy = |word| {
        let pid = Identity::from_word(word).and_then(Identity::pid);
        PutError::Busy(pid.filter(|pid| *pid > 0))
    };
    let mut holder = 0;
    let held = slots.lock(region).take(me.word(), patience, |word| {
        holder = word;
        is_dead(word)
    });
    let held = held.ok_or_else(|| busy(holder))?;
    keeping.settle(patience, is_dead).map_err(busy)?;
    if held.taken == Taken::Inherited {
        finish_growing(address, opened);
    }
    Ok((!has_ended(region)).then_some(held))
}

/// The writer that died may have made the next generation and not ended this one.
#[cold]
fn finish_growing(address: &Address, opened: &Opened<Region>) {
    let newest = open::open_read_only(address, &EXPECTED);
    if newest.is_ok_and(|new| new.header.generation > opened.header.generation) {
        close::end(opened);
    }
}
