//! A name space: its file, its limits, and the way into its locks.

use crate::layout::{Facility, HASH, HEAD, MAGIC_WORD, PAGES, facility, header};
use crate::msg_hand::Handed;
use crate::msg_lane;
use crate::spin::Spin;
use rustix::thread::sched_getaffinity;
use rustix::time::{ClockId, clock_gettime};
use shmem::Region;
use shmem::anchor::ForkWord;
use shmem::arena::Arena;
use shmem::journal::Tx;
use shmem::lock::{Held, Lock, Taken};
use shmem::signals::Blocked;
use shmem::sync::{AtomicU32, Ordering};
use shmem::wait::Patience;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use sysv::{Errno, Result};

/// The registry's file within the folder of a name space.
pub const FILE: &str = "registry";

/// How long a caller waits for a lock whose holder lives: long enough for a holder that was
/// stopped for a moment, and an end for one that a lying peer names.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// The limits of a name space, by the names that the kernel has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest segment, bytes.
    pub shmmax: u64,
    /// Pages in all segments together.
    pub shmall: u64,
    /// Segments.
    pub shmmni: u64,
    /// Largest message, bytes.
    pub msgmax: u64,
    /// Bytes that a new queue may hold.
    pub msgmnb: u64,
    /// Queues.
    pub msgmni: u64,
    /// Semaphores in a set.
    pub semmsl: u64,
    /// Semaphores in all sets together.
    pub semmns: u64,
    /// Operations in a `semop`.
    pub semopm: u64,
    /// Sets.
    pub semmni: u64,
    /// Not 0: segments go at their last detach, without `IPC_RMID`.
    pub shm_rmid_forced: u64,
}

impl Limits {
    /// What the kernel starts with.
    pub const KERNEL: Self = Self {
        shmmax: u64::MAX - (1 << 24),
        shmall: u64::MAX - (1 << 24),
        shmmni: 4096,
        msgmax: 8192,
        msgmnb: 16384,
        msgmni: 32000,
        semmsl: 32000,
        semmns: 1_024_000_000,
        semopm: 500,
        semmni: 32000,
        shm_rmid_forced: 0,
    };

    /// The same, but for messages of up to 16 MiB in queues of up to 64 MiB.
    pub const WIDE: Self = Self {
        msgmax: 16 << 20,
        msgmnb: 64 << 20,
        ..Self::KERNEL
    };

    fn words(&self) -> [(usize, u64); 11] {
        [
            (header::SHMMAX, self.shmmax),
            (header::SHMALL, self.shmall),
            (header::SHMMNI, self.shmmni),
            (header::MSGMAX, self.msgmax),
            (header::MSGMNB, self.msgmnb),
            (header::MSGMNI, self.msgmni),
            (header::SEMMSL, self.semmsl),
            (header::SEMMNS, self.semmns),
            (header::SEMOPM, self.semopm),
            (header::SEMMNI, self.semmni),
            (header::FORCED, self.shm_rmid_forced),
        ]
    }
}

/// How often one who finds a lock taken waits before it looks again, at first and at most: it
/// doubles each time, which leaves the lock to its holder for some calls in a row. All together
/// takes some ten microseconds; then it sleeps.
const FIRST_PAUSE: u32 = 8;
const LONGEST_PAUSE: u32 = 256;

/// A name space of System V objects, open in this process.
#[derive(Debug)]
pub struct Space {
    pub(crate) arena: Arena,
    /// This process's identity in the table of processes; zero in a forked child.
    pub(crate) mine: ForkWord,
    /// Whether this image, or the one that it was forked from, has had an identity.
    pub(crate) had_identity: AtomicU32,
    /// Inode of the user name space in which privilege counts.
    pub(crate) user_space: u64,
    /// What looking has been good for, before calls slept on queues and on sets.
    pub(crate) spin: [Spin; 2],
    /// Whether the holder of a lock may run while this process looks whether it is free.
    pub(crate) several: bool,
}

impl Space {
    /// Makes a name space in a folder that has none. `mode` are the permissions of its file: who
    /// may open the name space at all. `user_space` is the inode of the user name space in which
    /// privilege counts, 0 for any.
    ///
    /// # Errors
    /// Those of `open`, `ftruncate` and `mmap`; `EEXIST` if the folder has a name space.
    pub fn create(folder: &Path, mode: u32, limits: &Limits, user_space: u64) -> Result<Self> {
        // Under another name first: whoever finds the file finds it complete.
        let mut name = OsString::from(FILE);
        name.push(format!(".{}", rustix::process::getpid().as_raw_nonzero()));
        let (draft, path) = (folder.join(name), folder.join(FILE));
        let mut arena = Arena::create(&draft, mode, HEAD, PAGES)?;
        let region = arena.region();
        region
            .u64(header::MAGIC)
            .store(MAGIC_WORD, Ordering::Relaxed);
        region.u64(header::HASH).store(HASH, Ordering::Relaxed);
        region
            .u64(header::USER_SPACE)
            .store(user_space, Ordering::Relaxed);
        set_limits(region, limits);
        let published = rustix::fs::link(&draft, &path);
        let _ = rustix::fs::unlink(&draft);
        published?;
        arena.moved_to(&path)?;
        Self::with(arena)
    }

    /// Opens the name space of a folder.
    ///
    /// # Errors
    /// Those of `open` and `mmap`; `EUCLEAN` if the file is no name space, or one of another
    /// layout.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::with(Arena::open(&folder.join(FILE), HEAD, PAGES)?)
    }

    fn with(arena: Arena) -> Result<Self> {
        let region = arena.region();
        let word = |offset| region.load_u64(offset, Ordering::Relaxed);
        if (word(header::MAGIC), word(header::HASH)) != (MAGIC_WORD, HASH) {
            return Err(Errno::UCLEAN);
        }
        let user_space = word(header::USER_SPACE);
        let several = sched_getaffinity(None).is_ok_and(|set| set.count() > 1);
        Ok(Self {
            arena,
            mine: ForkWord::new()?,
            had_identity: AtomicU32::new(0),
            user_space,
            spin: [Spin::new(several), Spin::new(several)],
            several,
        })
    }

    /// The limits now.
    pub fn limits(&self) -> Limits {
        let word = |offset| self.region().load_u64(offset, Ordering::Relaxed);
        Limits {
            shmmax: word(header::SHMMAX),
            shmall: word(header::SHMALL),
            shmmni: word(header::SHMMNI),
            msgmax: word(header::MSGMAX),
            msgmnb: word(header::MSGMNB),
            msgmni: word(header::MSGMNI),
            semmsl: word(header::SEMMSL),
            semmns: word(header::SEMMNS),
            semopm: word(header::SEMOPM),
            semmni: word(header::SEMMNI),
            shm_rmid_forced: word(header::FORCED),
        }
    }

    /// One of the limits now.
    #[inline]
    pub(crate) fn limit(&self, offset: usize) -> u64 {
        // Relaxed: it stands for itself.
        self.region().load_u64(offset, Ordering::Relaxed)
    }

    /// Changes the limits: at once, for everyone, and objects that exist stay as they are.
    pub fn set_limits(&self, limits: &Limits) {
        set_limits(self.region(), limits);
    }

    /// The id that the next new object of a kind is to have, if its index is free then; `None`
    /// for whatever comes next. It goes back to `None` with the next creation.
    pub fn set_next_id(&self, kind: Facility, id: Option<i32>) {
        let word = id
            .and_then(|id| u64::try_from(id).ok())
            .map_or(0, |id| id + 1);
        // Relaxed: a hint.
        self.region()
            .u64(kind.at() + facility::NEXT_ID)
            .store(word, Ordering::Relaxed);
    }

    /// What [`set_next_id`](Self::set_next_id) has set.
    pub fn next_id(&self, kind: Facility) -> Option<i32> {
        let word = self
            .region()
            .load_u64(kind.at() + facility::NEXT_ID, Ordering::Relaxed);
        i32::try_from(word.checked_sub(1)?).ok()
    }

    /// The memory in which pages of segments are.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(crate) fn region(&self) -> &Region {
        self.arena.region()
    }

    /// Takes the lock of a kind, and settles what its last holder left if it died.
    ///
    /// # Errors
    /// `EDEADLK` if a living holder does not give it back for very long. Those of
    /// [`identity`](Self::identity).
    #[inline]
    pub(crate) fn enter(&self, kind: Facility) -> Result<Inside<'_>> {
        // Before signals are blocked: it takes time, once.
        self.identity()?;
        self.enter_blocked(kind, Blocked::handlers())
    }

    /// [`enter`](Self::enter) for who takes no signals already.
    #[inline]
    pub(crate) fn enter_blocked(&self, kind: Facility, blocked: Blocked) -> Result<Inside<'_>> {
        let me = self.identity()?;
        let lock = Lock::new(self.region(), kind.at() + facility::LOCK);
        let held = match lock.take_if_free(me) {
            Some(held) => held,
            None => self.wait_for(lock, me)?,
        };
        // They move from the last holder together, and not one after the other.
        let journal = kind.journal().offset;
        for line in 0..3 {
            self.region().expect_write(journal + 64 * line);
        }
        let inherited = held.taken == Taken::Inherited;
        let inside = Inside {
            tx: kind.journal().begin(self.region()),
            wakes: Vec::new(),
            handed: None,
            queue: None,
            held,
            blocked,
        };
        if inherited {
            return self.inherit(kind, inside);
        }
        Ok(inside)
    }

    /// Waits until the lock is free, or its holder dead.
    #[cold]
    fn wait_for<'s>(&self, lock: Lock<'s>, me: u64) -> Result<Held<'s>> {
        let mut pauses = FIRST_PAUSE;
        while pauses <= LONGEST_PAUSE && self.several {
            for _ in 0..pauses {
                std::hint::spin_loop();
            }
            pauses *= 2;
            if lock.holder() == 0
                && let Some(held) = lock.take_if_free(me)
            {
                return Ok(held);
            }
        }
        let patience = Patience::from(LOCK_PATIENCE);
        lock.take(me, patience, |word| !self.image_lives(word))
            .ok_or(Errno::DEADLK)
    }

    /// Puts back what the last holder of the lock had begun when it died.
    #[cold]
    fn inherit<'s>(&self, kind: Facility, mut inside: Inside<'s>) -> Result<Inside<'s>> {
        kind.journal().recover(self.region());
        match kind {
            Facility::Shm => self.finish_dying(&mut inside.tx)?,
            Facility::Msg => self.finish_dying_queues(&mut inside.tx)?,
            Facility::Sem => {}
        }
        Ok(inside)
    }
}

fn set_limits(region: &Region, limits: &Limits) {
    for (offset, value) in limits.words() {
        // Relaxed: each limit stands for itself.
        region.u64(offset).store(value, Ordering::Relaxed);
    }
}

/// The lock of a kind, held, and a transaction under it. Dropped without
/// [`finish`](Self::finish), nothing has happened.
///
/// The order of the fields is that of the end: put back, unlock, take signals again.
#[derive(Debug)]
pub(crate) struct Inside<'s> {
    pub(crate) tx: Tx<'s>,
    /// Futex words of those who are to be woken when everything is done.
    pub(crate) wakes: Vec<usize>,
    /// Who is to be woken beside by who asks then whether he lives.
    pub(crate) handed: Option<Handed>,
    /// The index of a queue whose lane may be opened when everything is done.
    pub(crate) queue: Option<usize>,
    held: Held<'s>,
    blocked: Blocked,
}

impl<'s> Inside<'s> {
    /// Taken apart.
    pub(crate) fn into_parts(self) -> (Tx<'s>, Held<'s>, Blocked) {
        (self.tx, self.held, self.blocked)
    }

    /// Makes the changes final, lets the lock go, and wakes whom they concern.
    pub(crate) fn finish(self) {
        drop(self.finish_blocked());
    }

    /// [`finish`](Self::finish) without taking signals again.
    #[inline]
    pub(crate) fn finish_blocked(self) -> Blocked {
        let Self {
            mut tx,
            wakes,
            queue,
            held,
            blocked,
            ..
        } = self;
        let region = tx.region();
        // A damaged queue stays as it is.
        let opens = queue.map(|index| msg_lane::may_open(&mut tx, index));
        tx.commit();
        if let Some(Ok(Some(opening))) = opens {
            opening.open(region);
        }
        drop(held);
        for word in wakes {
            shmem::sleep::wake(region, word);
        }
        blocked
    }
}

/// Whole seconds since the epoch, by the clock that the kernel itself uses for this.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    time.tv_sec as u64
}

/// So that the compiler sees that the tables fit together.
const _: () = assert!(HEAD.is_multiple_of(4096));
