//! Who is alive, decided by the kernel.
//!
//! A process that takes part makes one private segment, attaches it, asks the kernel not to hand
//! it to children, removes it, and takes all permissions from it. From then on the segment exists
//! exactly as long as the process's image does: it goes with `kill -9`, before the parent has
//! reaped, and with `exec`; a stopped process keeps it, a forked child has none of it, and nobody
//! else can attach and keep it alive. Anyone who shares the IPC name space can look, whatever
//! their PID name space or their user, with one system call that changes nothing.
//!
//! An [`Identity`] is the segment's id and its size. Ids repeat after some four million creations;
//! the size is a random number of fourteen bits over a fixed mark of six, so that a successor is
//! not taken for the one that died.
//!
//! **Cost.** Nothing is touched in the segment, so it takes no memory. The first call in a process
//! costs some ten system calls; the later ones a load. A look costs one system call.
//!
//! **Crash.** Killed between making and removing, a process leaves an empty private segment that
//! `tombolo rm --orphans` sweeps (see [`is_orphan`]).
//!
//! **Limits.** A process that moves to another IPC name space can't see the others any more; it
//! is told so with an error rather than taking them for dead. The kernel frees a process's memory
//! before its segments, so a process of many GiB is dead some time before it is seen to be.

use crate::note::NOTES;
use crate::pulse;
use crate::sync::Ordering;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use sysv::shm;
use sysv::{AttachReadOnly, Errno, Key, Segment};

/// Sizes of presence segments: fourteen random bits, then this mark in the lowest six.
const MARK: u32 = 0x2b;
const MARK_BITS: u32 = 6;
const NONCE_BITS: u32 = 14;
/// How a presence segment is made: its owner may read, which an attach needs.
const MODE: u32 = 0o400;

/// A process as its peers know it: never zero, and not the magic word of any header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(u64);

impl Identity {
    fn new(id: i32, size: u32) -> Self {
        Self(u64::from(id as u32) << 32 | u64::from(size))
    }

    /// The word that stands for it in shared memory.
    pub fn word(self) -> u64 {
        self.0
    }

    /// The identity that a word from shared memory stands for, if it can be one.
    pub fn from_word(word: u64) -> Option<Self> {
        let (id, size) = ((word >> 32) as i32, word as u32);
        (id >= 0 && is_size(size.into())).then_some(Self(word))
    }

    /// Id of the presence segment, as `ipcs` shows it.
    pub fn id(self) -> i32 {
        (self.0 >> 32) as i32
    }

    /// Whether the process lives. One system call; changes nothing.
    ///
    /// A stopped process lives; one that has been replaced by `exec` does not.
    ///
    /// # Errors
    /// `ESTALE` if this process has moved to another IPC name space, where it can't tell.
    /// Otherwise those of `SHM_STAT_ANY` but `EINVAL` and `EIDRM`.
    pub fn is_alive(self) -> sysv::Result<bool> {
        if self.exists()? {
            return Ok(true);
        }
        // Not to be seen: dead, unless it is we who look in the wrong place.
        if mine()?.exists()? {
            Ok(false)
        } else {
            Err(Errno::STALE)
        }
    }

    fn exists(self) -> sysv::Result<bool> {
        match Segment::from_id(self.id()).status_any() {
            Ok(status) => Ok(status.size == self.0 as u32 as u64),
            // Gone, or just going.
            Err(Errno::INVAL | Errno::IDRM) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Who made the presence segment: the pid as this process's PID name space has it, 0 if it
    /// is not in it, `None` if it is gone.
    pub fn pid(self) -> Option<i32> {
        self.status().map(|status| status.creator_pid)
    }

    /// The presence segment's status, `None` if it is gone.
    pub(crate) fn status(self) -> Option<shm::Status> {
        let status = Segment::from_id(self.id()).status_any().ok()?;
        (status.size == self.0 as u32 as u64).then_some(status)
    }
}

fn is_size(size: u64) -> bool {
    size >> (MARK_BITS + NONCE_BITS) == 0 && size & ((1 << MARK_BITS) - 1) == u64::from(MARK)
}

/// Whether a segment is the presence of a process, or its [pulse].
pub fn is_presence(status: &shm::Status) -> bool {
    let is_presence = status.perm.key == Key::PRIVATE && status.marked && is_size(status.size);
    is_presence || pulse::is_pulse(status)
}

/// Whether a segment is what a process left that died while it made its presence or its
/// [pulse]: nothing is in it, and nobody can get at it.
pub fn is_orphan(status: &shm::Status) -> bool {
    pulse::is_orphan(status) || is_orphaned_presence(status)
}

fn is_orphaned_presence(status: &shm::Status) -> bool {
    status.perm.key == Key::PRIVATE
        && !status.marked
        && status.attaches == 0
        && status.perm.mode.bits() == MODE
        && is_size(status.size)
}

/// Words of this process alone, zero where it has none yet. Their page is made so that the kernel
/// hands it to children zeroed, which is how a forked child knows that it is somebody else.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Own {
    /// The identity.
    identity: AtomicU64,
    /// The identity again, once the process is registered: see `barrier`.
    registered: AtomicU64,
    /// What `pulse::mine` answers.
    pub(crate) pulse: AtomicU64,
    /// Where the pulse is mapped.
    pub(crate) pulse_base: AtomicUsize,
    /// The thread that keeps the pulse, by its number.
    pub(crate) pulse_keeper: AtomicU64,
    /// The reactor; null until a task waits.
    #[cfg(not(loom))]
    pub(crate) reactor: AtomicPtr<crate::reactor::Reactor>,
    /// What it has noted: see `note`.
    pub(crate) notes: [AtomicU64; NOTES],
}

// In the smallest page there is.
const _: () = assert!(size_of::<Own>() <= 4096);

/// Null until somebody asks.
static MINE: AtomicPtr<Own> = AtomicPtr::new(ptr::null_mut());

/// This process's identity, made when first asked for.
///
/// # Errors
/// `ENOSPC` if the name space has as many segments as it may (`shmmni`, `shmall`), `ENOMEM`.
pub fn mine() -> sysv::Result<Identity> {
    let word = &own()?.identity;
    // Acquire: a thread that sees the identity sees a presence that is complete. [PRESENCE]
    if let Some(mine) = Identity::from_word(word.load(Ordering::Acquire)) {
        return Ok(mine);
    }
    let (made, attach) = make()?;
    // Release on success: [PRESENCE]. Acquire on failure: as above.
    match word.compare_exchange(0, made.word(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            // It lives as long as the image does. A forked child, which inherits these variables
            // but not the attach, must not detach it either.
            std::mem::forget(attach);
            #[cfg(not(loom))]
            {
                crate::barrier::register_if_cheap();
                // By a fork.
                if crate::barrier::registered().is_some() {
                    set_registered();
                }
            }
            Ok(made)
        }
        // Another thread was faster; ours goes with `attach`.
        Err(theirs) => Identity::from_word(theirs).ok_or(Errno::STALE),
    }
}

/// Remembers that this process is registered: see `barrier`.
#[cfg(not(loom))]
pub(crate) fn set_registered() {
    if let Some(own) = own_if_any() {
        // Relaxed: nothing but the number is used.
        let identity = own.identity.load(Ordering::Relaxed);
        own.registered.store(identity, Ordering::Relaxed);
    }
}

/// A process's identity as that process itself keeps it: it can tell whether it still is that
/// process, and not a child that has this by a fork.
#[derive(Clone, Copy, Debug)]
pub struct Mine {
    own: &'static Own,
    word: u64,
}

impl Mine {
    /// Of this process.
    ///
    /// # Errors
    /// As [`mine`].
    pub fn new() -> sysv::Result<Self> {
        let word = mine()?.word();
        Ok(Self { own: own()?, word })
    }

    /// The identity.
    #[inline(always)]
    pub fn word(self) -> u64 {
        self.word
    }

    /// Whether this is still the process. One load.
    #[inline(always)]
    pub fn is_mine(self) -> bool {
        // Relaxed: nothing but the number is used.
        self.own.identity.load(Ordering::Relaxed) == self.word
    }

    /// Whether it is, and [registered](crate::barrier::registered). One load.
    #[cfg(not(loom))]
    #[inline(always)]
    pub fn registered(self) -> Option<crate::barrier::Registered> {
        // Relaxed: nothing but the number is used.
        let is_registered = self.own.registered.load(Ordering::Relaxed) == self.word;
        is_registered.then(crate::barrier::Registered::known)
    }
}

/// Whether a word is this process's identity: not so in a child that has the word by a fork.
/// Two loads.
#[inline]
pub fn is_mine(word: u64) -> bool {
    // Relaxed: nothing but the number is used.
    own_if_any().is_some_and(|own| own.identity.load(Ordering::Relaxed) == word)
}

/// This process's own words, if it has any.
#[inline]
pub(crate) fn own_if_any() -> Option<&'static Own> {
    // Acquire: the page is mapped and advised before its address is published. [PRESENCE]
    let page = MINE.load(Ordering::Acquire);
    // SAFETY: MINE is null or holds a page made by `map_own`, never unmapped once published,
    // aligned, and zero or what was stored since: values of atomic words.
    unsafe { page.as_ref() }
}

/// This process's own words.
pub(crate) fn own() -> sysv::Result<&'static Own> {
    match own_if_any() {
        Some(own) => Ok(own),
        None => map_own(),
    }
}

fn map_own() -> sysv::Result<&'static Own> {
    let length = rustix::param::page_size();
    // SAFETY: a new private mapping at an address of the kernel's choice replaces nothing.
    let page = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }?;
    // SAFETY: the page was just made, and only a fork changes it, which is the purpose.
    unsafe { rustix::mm::madvise(page, length, Advice::LinuxWipeOnFork) }?;
    // Release on success, Acquire on failure: [PRESENCE].
    let published = MINE.compare_exchange(
        ptr::null_mut(),
        page.cast(),
        Ordering::AcqRel,
        Ordering::Acquire,
    );
    if published.is_err() {
        // SAFETY: our page was not published, nobody has its address.
        unsafe { rustix::mm::munmap(page, length) }?;
    }
    own_if_any().ok_or(Errno::NOMEM)
}

/// Makes a presence segment, already removed and closed to everyone.
fn make() -> sysv::Result<(Identity, AttachReadOnly)> {
    loop {
        let size = nonce()? << MARK_BITS | MARK;
        let mode = sysv::Mode::from_bits_truncate(MODE);
        let segment = shm::Options::new(size as usize)
            .mode(mode)
            .no_reserve(true)
            .create(Key::PRIVATE)?;
        let made = attach_and_close(&segment, size);
        if let Ok(Some(_)) | Err(_) = made {
            return made.map(|attach| {
                (
                    Identity::new(segment.id(), size),
                    attach.expect("matched above"),
                )
            });
        }
    }
}

/// `None` if another thread forked meanwhile and the child has the attach too: it would keep us
/// looking alive.
fn attach_and_close(segment: &Segment, size: u32) -> sysv::Result<Option<AttachReadOnly>> {
    let attach = segment.attach_read_only();
    let removed = segment.remove();
    let attach = attach?;
    removed?;
    let base = attach.as_ptr().cast_mut().cast();
    // SAFETY: the mapping is ours, and the advice changes only what a fork does.
    unsafe { rustix::mm::madvise(base, size as usize, Advice::LinuxDontFork) }?;
    let attaches = segment.status()?.attaches;
    segment.set(&sysv::Change {
        mode: Some(sysv::Mode::from_bits_truncate(0)),
        ..sysv::Change::default()
    })?;
    Ok((attaches == 1).then_some(attach))
}

fn nonce() -> sysv::Result<u32> {
    let mut bytes = [0u8; 4];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(u32::from_ne_bytes(bytes) >> (32 - NONCE_BITS))
}
