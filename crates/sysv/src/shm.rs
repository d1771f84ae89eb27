//! Shared memory segments: making, finding, looking at, changing and removing them.
//!
//! Attaching them is in [`Attach`](crate::Attach).

use crate::abi::{
    IPC_CREAT, IPC_EXCL, SHM_DEST, SHM_HUGE_SHIFT, SHM_HUGETLB, SHM_LOCKED, SHM_NORESERVE,
    shmid_ds, shminfo,
};
use crate::shim::{self, ShmCommand, Whose};
use crate::{Calls, Change, Errno, Kernel, Key, Mode, Perm, Result};

/// A shared memory segment, by its id.
///
/// The handle owns nothing: the segment lives until it is [removed](Self::remove) and nobody has
/// it attached. Any peer with the right may remove it or change its mode at any time; its size
/// and its id never change.
///
/// # Examples
/// ```
/// use sysv::{Key, Mode, Segment};
///
/// let segment = Segment::create(Key::PRIVATE, 100, Mode::default())?;
/// let status = segment.status();
/// segment.remove()?;
/// assert_eq!(status?.size, 100);
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment<C: Calls + Copy = Kernel> {
    pub(crate) calls: C,
    pub(crate) id: i32,
}

impl Segment {
    /// Makes a segment of `size` bytes, zeroed, that must not exist. [`Options`] has more choice.
    ///
    /// # Errors
    /// As [`Options::create_in`].
    #[doc(alias = "shmget")]
    pub fn create(key: Key, size: usize, mode: Mode) -> Result<Self> {
        Options::new(size).mode(mode).create(key)
    }

    /// Finds the segment of a key, of whatever size and mode.
    ///
    /// # Errors
    /// [`Errno::NOENT`]: there is none; always so for [`Key::PRIVATE`].
    #[doc(alias = "shmget")]
    pub fn open(key: Key) -> Result<Self> {
        Self::open_in(Kernel, key)
    }

    /// Finds the segment of a key, or makes it.
    ///
    /// # Errors
    /// As [`Options::open_or_create_in`].
    #[doc(alias = "shmget")]
    pub fn open_or_create(key: Key, size: usize, mode: Mode) -> Result<Self> {
        Options::new(size).mode(mode).open_or_create(key)
    }

    /// The handle of a segment by its id. Nothing is asked: the first use tells whether it exists.
    pub fn from_id(id: i32) -> Self {
        Self::from_id_in(Kernel, id)
    }
}

impl<C: Calls + Copy> Segment<C> {
    /// [`open`](Segment::open) in other calls than the kernel's.
    ///
    /// # Errors
    /// As [`open`](Segment::open).
    pub fn open_in(calls: C, key: Key) -> Result<Self> {
        let id = calls.shmget(key.findable()?.raw(), 0, 0)?;
        Ok(Self { calls, id })
    }

    /// [`from_id`](Segment::from_id) in other calls than the kernel's.
    pub fn from_id_in(calls: C, id: i32) -> Self {
        Self { calls, id }
    }

    /// The id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The calls that this handle stands on.
    pub fn calls(&self) -> C {
        self.calls
    }

    /// Everything the kernel says about the segment.
    ///
    /// # Errors
    /// [`Errno::ACCESS`]: no read permission ([`status_any`](Self::status_any) needs none);
    /// [`Errno::INVAL`]: no such segment.
    #[doc(alias("shmctl", "IPC_STAT"))]
    pub fn status(&self) -> Result<Status> {
        shim::shm_stat(&self.calls, Whose::Id(self.id)).map(Status::from)
    }

    /// As [`status`](Self::status), whatever the mode.
    ///
    /// The segment is asked for by its index, which is taken to be the id modulo 32768; a kernel
    /// that was started with `ipcmni_extend` numbers differently and may answer `INVAL`.
    ///
    /// # Errors
    /// [`Errno::INVAL`]: no such segment.
    #[doc(alias("shmctl", "SHM_STAT_ANY"))]
    pub fn status_any(&self) -> Result<Status> {
        self.stat_any()
            .map(|status| Status::from((self.id, status)))
    }

    fn stat_any(&self) -> Result<shmid_ds> {
        shim::any(self.id, |whose| shim::shm_stat(&self.calls, whose))
    }

    /// Changes owner, group and mode; what `change` does not name stays as it was a moment ago,
    /// so of two that change one segment at once, one may undo what the other did.
    ///
    /// # Errors
    /// [`Errno::PERM`]: the caller is neither owner nor creator and lacks `CAP_SYS_ADMIN`;
    /// [`Errno::INVAL`]: no such segment, or no such user or group.
    #[doc(alias("shmctl", "IPC_SET"))]
    pub fn set(&self, change: &Change) -> Result<()> {
        let shm_perm = change.apply(|| self.stat_any().map(|status| status.shm_perm))?;
        let status = shmid_ds {
            shm_perm,
            ..shmid_ds::default()
        };
        shim::shm_set(&self.calls, self.id, status)
    }

    /// Removes the segment: at once if nobody has it attached, otherwise its key is free at once
    /// and the memory goes at the last detach. Until then it can still be attached by id.
    ///
    /// # Errors
    /// [`Errno::PERM`]: the caller is neither owner nor creator and lacks `CAP_SYS_ADMIN`;
    /// [`Errno::INVAL`]: no such segment.
    #[doc(alias("shmctl", "IPC_RMID"))]
    pub fn remove(&self) -> Result<()> {
        shim::shm_command(&self.calls, self.id, ShmCommand::Remove)
    }

    /// Keeps the segment's pages in memory from their first use on: they are not swapped.
    ///
    /// # Errors
    /// [`Errno::PERM`]: neither `CAP_IPC_LOCK` nor an owner or creator whose `RLIMIT_MEMLOCK` is
    /// above 0; [`Errno::NOMEM`]: the segment exceeds that limit; [`Errno::INVAL`]: no such
    /// segment.
    #[doc(alias("shmctl", "SHM_LOCK"))]
    pub fn lock(&self) -> Result<()> {
        shim::shm_command(&self.calls, self.id, ShmCommand::Lock)
    }

    /// Lets the segment's pages be swapped again.
    ///
    /// # Errors
    /// [`Errno::PERM`]: neither owner nor creator nor `CAP_IPC_LOCK`; [`Errno::INVAL`]: no such
    /// segment.
    #[doc(alias("shmctl", "SHM_UNLOCK"))]
    pub fn unlock(&self) -> Result<()> {
        shim::shm_command(&self.calls, self.id, ShmCommand::Unlock)
    }
}

/// Which size of huge pages a segment uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias("SHM_HUGETLB", "SHM_HUGE_2MB", "SHM_HUGE_1GB"))]
pub struct HugePages {
    /// Logarithm of the size in bytes; 0 for the machine's default.
    log2: u32,
}

impl HugePages {
    /// The machine's default huge page size.
    pub const DEFAULT: Self = Self { log2: 0 };
    /// Pages of 2 MiB.
    pub const MIB_2: Self = Self { log2: 21 };
    /// Pages of 1 GiB.
    pub const GIB_1: Self = Self { log2: 30 };

    /// Pages of this many bytes; nothing unless that is a power of two, at least 2.
    pub const fn of_size(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes > 1 {
            Some(Self {
                log2: bytes.trailing_zeros(),
            })
        } else {
            None
        }
    }

    /// Bytes in a page, unless it is the default size.
    pub const fn size(self) -> Option<u64> {
        if self.log2 == 0 {
            None
        } else {
            Some(1 << self.log2)
        }
    }

    const fn flags(self) -> i32 {
        // The six bits from SHM_HUGE_SHIFT on reach the sign bit: log2 is below 64.
        SHM_HUGETLB | (self.log2 << SHM_HUGE_SHIFT).cast_signed()
    }
}

/// How to make or find a segment: size, mode, kind of pages.
///
/// # Examples
/// ```
/// use sysv::shm::Options;
/// use sysv::{Key, Mode};
///
/// let segment = Options::new(1 << 20).mode(Mode::default()).no_reserve(true).create(Key::PRIVATE)?;
/// segment.remove()?;
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "shmget")]
pub struct Options {
    size: usize,
    mode: Mode,
    huge_pages: Option<HugePages>,
    no_reserve: bool,
}

impl Options {
    /// A segment of `size` bytes, mode `600`, of ordinary pages.
    pub const fn new(size: usize) -> Self {
        Self {
            size,
            mode: Mode::from_bits_truncate(0o600),
            huge_pages: None,
            no_reserve: false,
        }
    }

    /// The mode of a new segment. The umask does not apply.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Makes a new segment of huge pages. An attach is then aligned to, and its memory a multiple
    /// of, the huge page size.
    #[doc(alias = "SHM_HUGETLB")]
    pub const fn huge_pages(mut self, pages: HugePages) -> Self {
        self.huge_pages = Some(pages);
        self
    }

    /// Reserves no swap for a new segment: a write may fail for want of memory later.
    #[doc(alias = "SHM_NORESERVE")]
    pub const fn no_reserve(mut self, yes: bool) -> Self {
        self.no_reserve = yes;
        self
    }

    /// [`create_in`](Self::create_in) the kernel.
    ///
    /// # Errors
    /// As [`create_in`](Self::create_in).
    pub fn create(&self, key: Key) -> Result<Segment> {
        self.create_in(Kernel, key)
    }

    /// Makes a segment that must not exist.
    ///
    /// # Errors
    /// [`Errno::EXIST`]: the key has a segment; [`Errno::INVAL`]: size 0, above SHMMAX, or huge
    /// pages that the machine lacks; [`Errno::NOSPC`]: SHMMNI segments or SHMALL pages exist;
    /// [`Errno::NOMEM`]: no memory, or no huge pages in the pool; [`Errno::PERM`]: huge pages
    /// without `CAP_IPC_LOCK` or the group that may.
    #[doc(alias("shmget", "IPC_CREAT", "IPC_EXCL"))]
    pub fn create_in<C: Calls + Copy>(&self, calls: C, key: Key) -> Result<Segment<C>> {
        self.get(calls, key, IPC_CREAT | IPC_EXCL)
    }

    /// [`open_in`](Self::open_in) the kernel.
    ///
    /// # Errors
    /// As [`open_in`](Self::open_in).
    pub fn open(&self, key: Key) -> Result<Segment> {
        self.open_in(Kernel, key)
    }

    /// Finds a segment that has at least the size asked for, and whose mode grants, to anyone at
    /// all, every bit of the mode asked for. [`Segment::open`] asks for neither.
    ///
    /// # Errors
    /// [`Errno::NOENT`]: there is none; [`Errno::INVAL`]: it is smaller; [`Errno::ACCESS`]: its
    /// mode grants less.
    #[doc(alias = "shmget")]
    pub fn open_in<C: Calls + Copy>(&self, calls: C, key: Key) -> Result<Segment<C>> {
        self.get(calls, key.findable()?, 0)
    }

    /// [`open_or_create_in`](Self::open_or_create_in) the kernel.
    ///
    /// # Errors
    /// As [`open_or_create_in`](Self::open_or_create_in).
    pub fn open_or_create(&self, key: Key) -> Result<Segment> {
        self.open_or_create_in(Kernel, key)
    }

    /// Finds a segment as [`open_in`](Self::open_in) does, or makes it. [`Key::PRIVATE`] always
    /// makes one.
    ///
    /// # Errors
    /// As [`create_in`](Self::create_in) and [`open_in`](Self::open_in), but for
    /// [`Errno::EXIST`] and [`Errno::NOENT`].
    #[doc(alias("shmget", "IPC_CREAT"))]
    pub fn open_or_create_in<C: Calls + Copy>(&self, calls: C, key: Key) -> Result<Segment<C>> {
        self.get(calls, key, IPC_CREAT)
    }

    fn get<C: Calls + Copy>(&self, calls: C, key: Key, flags: i32) -> Result<Segment<C>> {
        let mode = self.mode.bits().cast_signed();
        let pages = self.huge_pages.map_or(0, HugePages::flags);
        let reserve = if self.no_reserve { SHM_NORESERVE } else { 0 };
        let id = calls.shmget(key.raw(), self.size, flags | mode | pages | reserve)?;
        Ok(Segment { calls, id })
    }
}

/// What the kernel says about a segment, as it was when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "shmid_ds")]
pub struct Status {
    /// The id.
    pub id: i32,
    /// Owner, creator, mode and key.
    pub perm: Perm,
    /// Bytes that were asked for; the memory is whole pages.
    pub size: u64,
    /// Pid of who made it, as the caller's PID name space has it; 0 if it is not in there.
    pub creator_pid: i32,
    /// Pid of who attached or detached last; 0 if nobody has.
    pub last_pid: i32,
    /// How many attaches there are, of all processes.
    pub attaches: u64,
    /// Time of the last attach, seconds since the epoch; 0 for never.
    pub attached: i64,
    /// Time of the last detach, seconds since the epoch; 0 for never.
    pub detached: i64,
    /// Time of creation or of the last change, seconds since the epoch.
    pub changed: i64,
    /// Whether it is removed and goes at its last detach (`SHM_DEST`).
    pub marked: bool,
    /// Whether it is kept in memory (`SHM_LOCKED`).
    pub locked: bool,
}

impl From<(i32, shmid_ds)> for Status {
    fn from((id, status): (i32, shmid_ds)) -> Self {
        Self {
            id,
            perm: Perm::from(status.shm_perm),
            size: status.shm_segsz,
            creator_pid: status.shm_cpid,
            last_pid: status.shm_lpid,
            attaches: status.shm_nattch,
            attached: status.shm_atime,
            detached: status.shm_dtime,
            changed: status.shm_ctime,
            marked: status.shm_perm.mode & SHM_DEST != 0,
            locked: status.shm_perm.mode & SHM_LOCKED != 0,
        }
    }
}

/// All segments of the IPC name space, by the `SHM_STAT_ANY` call, lowest index first.
///
/// Needs no permission and changes nothing. Segments that come or go meanwhile may be missing.
///
/// # Errors
/// [`Errno::INVAL`] is taken for an empty slot: a kernel before 4.17, which lacks the call, lists
/// nothing.
///
/// # Examples
/// ```
/// for status in sysv::shm::list(sysv::Kernel)? {
///     println!("{} {} {}", status.id, status.perm.key, status.size);
/// }
/// # Ok::<(), sysv::Errno>(())
/// ```
#[doc(alias = "SHM_STAT_ANY")]
pub fn list(calls: impl Calls) -> Result<Vec<Status>> {
    let (highest, _) = shim::shm_usage(&calls)?;
    shim::list(highest, |whose| {
        shim::shm_stat(&calls, whose).map(Status::from)
    })
}

/// The segment at an index of the kernel's table, by `SHM_STAT`.
///
/// # Errors
/// [`Errno::INVAL`]: the slot is empty; [`Errno::ACCESS`]: no read permission.
#[doc(alias = "SHM_STAT")]
pub fn at_index(calls: impl Calls, index: i32) -> Result<Status> {
    shim::shm_stat(&calls, Whose::Index(index)).map(Status::from)
}

/// The segment at an index of the kernel's table, by `SHM_STAT_ANY`: whatever its mode.
///
/// # Errors
/// [`Errno::INVAL`]: the slot is empty.
#[doc(alias = "SHM_STAT_ANY")]
pub fn at_index_any(calls: impl Calls, index: i32) -> Result<Status> {
    shim::shm_stat(&calls, Whose::Any(index)).map(Status::from)
}

/// The limits of segments, by `IPC_INFO`. [`Limits`](crate::Limits) has those of all kinds.
///
/// # Errors
/// None from the kernel.
#[doc(alias = "IPC_INFO")]
pub fn limits(calls: impl Calls) -> Result<shminfo> {
    shim::shm_limits(&calls).map(|(_, limits)| limits)
}

/// What all segments use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "shm_info")]
pub struct Usage {
    /// Segments that exist.
    pub segments: u64,
    /// Pages of 4096 bytes that they were given.
    pub pages: u64,
    /// Pages in memory.
    pub resident_pages: u64,
    /// Pages in swap.
    pub swapped_pages: u64,
    /// Attempts to swap; 0 since Linux 2.4.
    pub swap_attempts: u64,
    /// Attempts that succeeded; 0 since Linux 2.4.
    pub swap_successes: u64,
    /// The highest index in use; 0 also if there is none.
    pub highest_index: i32,
}

/// What all segments use together, by `SHM_INFO`.
///
/// # Errors
/// None from the kernel.
#[doc(alias = "SHM_INFO")]
pub fn usage(calls: impl Calls) -> Result<Usage> {
    let (highest_index, usage) = shim::shm_usage(&calls)?;
    Ok(Usage {
        segments: u64::try_from(usage.used_ids).map_err(|_| Errno::OVERFLOW)?,
        pages: usage.shm_tot,
        resident_pages: usage.shm_rss,
        swapped_pages: usage.shm_swp,
        swap_attempts: usage.swap_attempts,
        swap_successes: usage.swap_successes,
        highest_index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_page_sizes_reach_their_bits() {
        assert_eq!(HugePages::of_size(2 << 20), Some(HugePages::MIB_2));
        assert_eq!(HugePages::of_size(1 << 30), Some(HugePages::GIB_1));
        assert_eq!(HugePages::of_size(3), None);
        assert_eq!(HugePages::of_size(1), None);
        assert_eq!(HugePages::of_size(0), None);
        assert_eq!(HugePages::MIB_2.size(), Some(2 << 20));
        assert_eq!(HugePages::DEFAULT.size(), None);
        assert_eq!(HugePages::DEFAULT.flags(), SHM_HUGETLB);
        let largest = HugePages::of_size(1 << 63).expect("a power of two");
        assert_eq!(largest.flags().cast_unsigned() >> SHM_HUGE_SHIFT, 63);
    }
}
