//! Semaphore sets: counters that several operations change together, all or none.

use crate::abi::{IPC_CREAT, IPC_EXCL, IPC_NOWAIT, SEM_UNDO, sembuf, semid_ds, seminfo, timespec};
use crate::shim::{self, SemQuestion, Whose};
use crate::{Calls, Change, Errno, Kernel, Key, Mode, Perm, Result};
use std::time::{Duration, Instant};

/// A set of semaphores, by its id.
///
/// The handle owns nothing: the set lives until it is [removed](Self::remove). Any peer with the
/// right may operate on it, set values and mode, or remove it at any time. A new set holds
/// zeroes; between creation and the first [`set_values`](Self::set_values) others can already
/// find it.
///
/// # Examples
/// ```
/// use sysv::{Key, Mode, Operation, Set};
///
/// let set = Set::create(Key::PRIVATE, 2, Mode::default())?;
/// let story = || {
///     set.set_values(&[1, 0])?;
///     // Moves one from the first semaphore to the second, or waits until it can.
///     set.operate(&[Operation::add(0, -1), Operation::add(1, 1)])?;
///     set.values()
/// };
/// let values = story();
/// set.remove()?;
/// assert_eq!(values, Ok(vec![0, 1]));
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Set<C: Calls + Copy = Kernel> {
    calls: C,
    id: i32,
}

/// One operation on one semaphore of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "sembuf")]
pub struct Operation {
    /// Which semaphore, from 0.
    pub number: u16,
    /// Above 0: adds. Below 0: waits until the value is at least that much, and subtracts. 0:
    /// waits for the value to be 0.
    pub amount: i16,
    /// Does not wait (`IPC_NOWAIT`).
    pub no_wait: bool,
    /// Undoes the operation when the process ends, however it ends (`SEM_UNDO`).
    #[doc(alias = "SEM_UNDO")]
    pub undo: bool,
}

impl Operation {
    /// Adds `amount`, or waits for 0; waits where it must, and is not undone.
    pub const fn add(number: u16, amount: i16) -> Self {
        Self {
            number,
            amount,
            no_wait: false,
            undo: false,
        }
    }
}

impl From<Operation> for sembuf {
    fn from(operation: Operation) -> Self {
        let no_wait = if operation.no_wait {
            IPC_NOWAIT as i16
        } else {
            0
        };
        let undo = if operation.undo { SEM_UNDO } else { 0 };
        Self {
            sem_num: operation.number,
            sem_op: operation.amount,
            sem_flg: no_wait | undo,
        }
    }
}

impl Set {
    /// Makes a set of `count` semaphores, all 0, that must not exist.
    ///
    /// # Errors
    /// As [`create_in`](Self::create_in).
    #[doc(alias = "semget")]
    pub fn create(key: Key, count: usize, mode: Mode) -> Result<Self> {
        Self::create_in(Kernel, key, count, mode)
    }

    /// Finds the set of a key, of whatever count and mode.
    ///
    /// # Errors
    /// [`Errno::NOENT`]: there is none; always so for [`Key::PRIVATE`].
    #[doc(alias = "semget")]
    pub fn open(key: Key) -> Result<Self> {
        Self::open_in(Kernel, key)
    }

    /// Finds the set of a key, or makes it.
    ///
    /// # Errors
    /// As [`open_or_create_in`](Self::open_or_create_in).
    #[doc(alias = "semget")]
    pub fn open_or_create(key: Key, count: usize, mode: Mode) -> Result<Self> {
        Self::open_or_create_in(Kernel, key, count, mode)
    }

    /// The handle of a set by its id. Nothing is asked: the first use tells whether it exists.
    pub fn from_id(id: i32) -> Self {
        Self::from_id_in(Kernel, id)
    }
}

impl<C: Calls + Copy> Set<C> {
    /// Makes a set of `count` semaphores, all 0, that must not exist. The umask does not apply.
    ///
    /// # Errors
    /// [`Errno::EXIST`]: the key has a set; [`Errno::INVAL`]: `count` is 0 or above SEMMSL;
    /// [`Errno::NOSPC`]: SEMMNI sets or SEMMNS semaphores exist; [`Errno::NOMEM`].
    #[doc(alias("semget", "IPC_CREAT", "IPC_EXCL"))]
    pub fn create_in(calls: C, key: Key, count: usize, mode: Mode) -> Result<Self> {
        let flags = mode.bits().cast_signed() | IPC_CREAT | IPC_EXCL;
        Self::find(calls, key, count, flags)
    }

    /// [`open`](Set::open) in other calls than the kernel's.
    ///
    /// # Errors
    /// As [`open`](Set::open).
    pub fn open_in(calls: C, key: Key) -> Result<Self> {
        Self::find(calls, key.findable()?, 0, 0)
    }

    /// Finds a set of at least `count` semaphores whose mode grants, to anyone at all, every bit
    /// of `mode`, or makes one like that. [`Key::PRIVATE`] always makes one.
    ///
    /// # Errors
    /// [`Errno::INVAL`]: what is there has fewer semaphores, or `count` is 0 and nothing is
    /// there, or above SEMMSL; [`Errno::ACCESS`]: its mode grants less; [`Errno::NOSPC`]: SEMMNI
    /// sets or SEMMNS semaphores exist; [`Errno::NOMEM`].
    #[doc(alias("semget", "IPC_CREAT"))]
    pub fn open_or_create_in(calls: C, key: Key, count: usize, mode: Mode) -> Result<Self> {
        Self::find(calls, key, count, mode.bits().cast_signed() | IPC_CREAT)
    }

    fn find(calls: C, key: Key, count: usize, flags: i32) -> Result<Self> {
        let count = i32::try_from(count).map_err(|_| Errno::INVAL)?;
        let id = calls.semget(key.raw(), count, flags)?;
        Ok(Self { calls, id })
    }

    /// [`from_id`](Set::from_id) in other calls than the kernel's.
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

    /// Performs all operations at once, in their order, or waits until it can; when a signal
    /// handler has run, or the process was stopped and goes on, it goes on waiting.
    ///
    /// # Errors
    /// Nothing has changed then. [`Errno::AGAIN`]: an operation that says
    /// [`no_wait`](Operation::no_wait) would have to wait; [`Errno::INVAL`]: no operations, or no
    /// such set; [`Errno::TOOBIG`]: more than SEMOPM operations; [`Errno::FBIG`]: no semaphore of
    /// that number; [`Errno::RANGE`]: a value would pass 32767, or an undo would leave 16 bits;
    /// [`Errno::ACCESS`]: no permission to alter, or to read where all only wait for 0;
    /// [`Errno::IDRM`]: the set was removed meanwhile; [`Errno::NOSPC`], [`Errno::NOMEM`]: no
    /// room for the undo.
    #[doc(alias = "semop")]
    pub fn operate(&self, operations: &[Operation]) -> Result<()> {
        self.go(operations, None, false)
    }

    /// As [`operate`](Self::operate), but waits no longer than `timeout`, signals or not.
    ///
    /// # Errors
    /// [`Errno::AGAIN`]: the time is up. Otherwise as [`operate`](Self::operate).
    #[doc(alias = "semtimedop")]
    pub fn operate_timeout(&self, operations: &[Operation], timeout: Duration) -> Result<()> {
        self.go(operations, Some(timeout), false)
    }

    /// As [`operate`](Self::operate), or with a timeout [`operate_timeout`](Self::operate_timeout),
    /// but ends when a signal handler has run.
    ///
    /// # Errors
    /// [`Errno::INTR`]: a signal handler ran, or the process was stopped and goes on. Otherwise
    /// as [`operate_timeout`](Self::operate_timeout).
    #[doc(alias("semop", "semtimedop"))]
    pub fn operate_interruptible(
        &self,
        operations: &[Operation],
        timeout: Option<Duration>,
    ) -> Result<()> {
        self.go(operations, timeout, true)
    }

    fn go(&self, list: &[Operation], timeout: Option<Duration>, interruptible: bool) -> Result<()> {
        // Most lists are short: they do without the allocator.
        let mut few = [sembuf::default(); 8];
        let many: Vec<sembuf>;
        let operations = if let Some(few) = few.get_mut(..list.len()) {
            for (slot, operation) in few.iter_mut().zip(list) {
                *slot = sembuf::from(*operation);
            }
            &*few
        } else {
            many = list.iter().copied().map(sembuf::from).collect();
            &many
        };
        let mut rest = timeout;
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match shim::sem_operate(&self.calls, self.id, operations, rest.map(relative)) {
                Err(Errno::INTR) if !interruptible => {
                    // An end that no clock can show is none.
                    rest = end.map(|end| end.saturating_duration_since(Instant::now()));
                }
                answer => return answer,
            }
        }
    }

    /// The value of one semaphore, 0 to 32767.
    ///
    /// # Errors
    /// [`Errno::INVAL`]: no such set or semaphore; [`Errno::ACCESS`]: no read permission.
    #[doc(alias("semctl", "GETVAL"))]
    pub fn value(&self, number: u16) -> Result<u16> {
        let value = shim::sem_ask(&self.calls, self.id, number, SemQuestion::Value)?;
        u16::try_from(value).map_err(|_| Errno::OVERFLOW)
    }

    /// Sets one semaphore, forgets every process's undo for it, and wakes who can go on.
    ///
    /// # Errors
    /// [`Errno::RANGE`]: above 32767; [`Errno::INVAL`]: no such set or semaphore;
    /// [`Errno::ACCESS`]: no permission to alter.
    #[doc(alias("semctl", "SETVAL"))]
    pub fn set_value(&self, number: u16, value: u16) -> Result<()> {
        shim::sem_set_value(&self.calls, self.id, number, i32::from(value))
    }

    /// All values, of one moment.
    ///
    /// # Errors
    /// [`Errno::INVAL`]: no such set; [`Errno::ACCESS`]: no read permission.
    #[doc(alias("semctl", "GETALL"))]
    pub fn values(&self) -> Result<Vec<u16>> {
        shim::sem_values(&self.calls, self.id)
    }

    /// Sets all semaphores at once, forgets every process's undo for them, and wakes who can go
    /// on.
    ///
    /// # Errors
    /// Nothing has changed then. [`Errno::RANGE`]: a value above 32767; [`Errno::INVAL`]: no such
    /// set, or not exactly as many values as it has semaphores; [`Errno::ACCESS`]: no permission
    /// to alter.
    #[doc(alias("semctl", "SETALL"))]
    pub fn set_values(&self, values: &[u16]) -> Result<()> {
        shim::sem_set_values(&self.calls, self.id, values)
    }

    /// Pid of who operated on or set the semaphore last, as the caller's PID name space has it;
    /// 0 if nobody has, or it is not in there.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    #[doc(alias("semctl", "GETPID"))]
    pub fn pid(&self, number: u16) -> Result<i32> {
        shim::sem_ask(&self.calls, self.id, number, SemQuestion::Pid)
    }

    /// How many calls wait for the value to increase.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    #[doc(alias("semctl", "GETNCNT"))]
    pub fn waiting_for_increase(&self, number: u16) -> Result<usize> {
        self.count(number, SemQuestion::WaitingForIncrease)
    }

    /// How many calls wait for the value to be 0.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    #[doc(alias("semctl", "GETZCNT"))]
    pub fn waiting_for_zero(&self, number: u16) -> Result<usize> {
        self.count(number, SemQuestion::WaitingForZero)
    }

    fn count(&self, number: u16, what: SemQuestion) -> Result<usize> {
        let count = shim::sem_ask(&self.calls, self.id, number, what)?;
        usize::try_from(count).map_err(|_| Errno::OVERFLOW)
    }

    /// Everything the kernel says about the set.
    ///
    /// # Errors
    /// [`Errno::ACCESS`]: no read permission ([`status_any`](Self::status_any) needs none);
    /// [`Errno::INVAL`]: no such set.
    #[doc(alias("semctl", "IPC_STAT"))]
    pub fn status(&self) -> Result<Status> {
        shim::sem_stat(&self.calls, Whose::Id(self.id)).map(Status::from)
    }

    /// As [`status`](Self::status), whatever the mode.
    ///
    /// The set is asked for by its index, which is taken to be the id modulo 32768; a kernel that
    /// was started with `ipcmni_extend` numbers differently and may answer `INVAL`.
    ///
    /// # Errors
    /// [`Errno::INVAL`]: no such set.
    #[doc(alias("semctl", "SEM_STAT_ANY"))]
    pub fn status_any(&self) -> Result<Status> {
        self.stat_any()
            .map(|status| Status::from((self.id, status)))
    }

    fn stat_any(&self) -> Result<semid_ds> {
        shim::any(self.id, |whose| shim::sem_stat(&self.calls, whose))
    }

    /// Changes owner, group and mode; what `change` does not name stays as it was a moment ago,
    /// so of two that change one set at once, one may undo what the other did.
    ///
    /// # Errors
    /// [`Errno::PERM`]: the caller is neither owner nor creator and lacks `CAP_SYS_ADMIN`;
    /// [`Errno::INVAL`]: no such set, or no such user or group.
    #[doc(alias("semctl", "IPC_SET"))]
    pub fn set(&self, change: &Change) -> Result<()> {
        let sem_perm = change.apply(|| self.stat_any().map(|status| status.sem_perm))?;
        let status = semid_ds {
            sem_perm,
            ..semid_ds::default()
        };
        shim::sem_set(&self.calls, self.id, status)
    }

    /// Removes the set, at once, with every process's undo for it. Who waits on it gets
    /// [`Errno::IDRM`].
    ///
    /// # Errors
    /// [`Errno::PERM`]: the caller is neither owner nor creator and lacks `CAP_SYS_ADMIN`;
    /// [`Errno::INVAL`]: no such set.
    #[doc(alias("semctl", "IPC_RMID"))]
    pub fn remove(&self) -> Result<()> {
        shim::sem_remove(&self.calls, self.id)
    }
}

/// A duration as `semtimedop` takes it; one beyond its range is as good as for ever.
fn relative(duration: Duration) -> timespec {
    timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// What the kernel says about a set, as it was when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "semid_ds")]
pub struct Status {
    /// The id.
    pub id: i32,
    /// Owner, creator, mode and key.
    pub perm: Perm,
    /// How many semaphores it has.
    pub count: u64,
    /// Time of the last operation, undo included, seconds since the epoch; 0 for never.
    pub operated: i64,
    /// Time of creation or of the last change, values that were set included, seconds since the
    /// epoch.
    pub changed: i64,
}

impl From<(i32, semid_ds)> for Status {
    fn from((id, status): (i32, semid_ds)) -> Self {
        Self {
            id,
            perm: Perm::from(status.sem_perm),
            count: status.sem_nsems,
            operated: status.sem_otime,
            changed: status.sem_ctime,
        }
    }
}

/// All sets of the IPC name space, by the `SEM_STAT_ANY` call, lowest index first.
///
/// Needs no permission and changes nothing. Sets that come or go meanwhile may be missing.
///
/// # Errors
/// [`Errno::INVAL`] is taken for an empty slot: a kernel before 4.17, which lacks the call, lists
/// nothing.
#[doc(alias = "SEM_STAT_ANY")]
pub fn list(calls: impl Calls) -> Result<Vec<Status>> {
    let (highest, _) = shim::sem_info(&calls, true)?;
    shim::list(highest, |whose| {
        shim::sem_stat(&calls, whose).map(Status::from)
    })
}

/// The set at an index of the kernel's table, by `SEM_STAT`.
///
/// # Errors
/// [`Errno::INVAL`]: the slot is empty; [`Errno::ACCESS`]: no read permission.
#[doc(alias = "SEM_STAT")]
pub fn at_index(calls: impl Calls, index: i32) -> Result<Status> {
    shim::sem_stat(&calls, Whose::Index(index)).map(Status::from)
}

/// The set at an index of the kernel's table, by `SEM_STAT_ANY`: whatever its mode.
///
/// # Errors
/// [`Errno::INVAL`]: the slot is empty.
#[doc(alias = "SEM_STAT_ANY")]
pub fn at_index_any(calls: impl Calls, index: i32) -> Result<Status> {
    shim::sem_stat(&calls, Whose::Any(index)).map(Status::from)
}

/// The limits of sets, by `IPC_INFO`. [`Limits`](crate::Limits) has those of all kinds.
///
/// # Errors
/// None from the kernel.
#[doc(alias = "IPC_INFO")]
pub fn limits(calls: impl Calls) -> Result<seminfo> {
    shim::sem_info(&calls, false).map(|(_, limits)| limits)
}

/// What all sets use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sets that exist.
    pub sets: u64,
    /// Semaphores in all sets.
    pub semaphores: u64,
    /// The highest index in use; 0 also if there is none.
    pub highest_index: i32,
}

/// What all sets use together, by `SEM_INFO`.
///
/// # Errors
/// None from the kernel.
#[doc(alias = "SEM_INFO")]
pub fn usage(calls: impl Calls) -> Result<Usage> {
    let (highest_index, info) = shim::sem_info(&calls, true)?;
    let count = |n: i32| u64::try_from(n).map_err(|_| Errno::OVERFLOW);
    Ok(Usage {
        sets: count(info.semusz)?,
        semaphores: count(info.semaem)?,
        highest_index,
    })
}
