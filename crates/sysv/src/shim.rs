//! The control calls with types: which structure a command fills is decided here and nowhere
//! else, so that the modules above need no `unsafe`.

use crate::abi::*;
use crate::{Calls, Errno, Result};
use std::ffi::c_void;
use std::ptr;

/// Whose status is asked for, and how.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// The object with this id; needs read permission.
    Id(i32),
    /// The object at this index; needs read permission.
    Index(i32),
    /// The object at this index, whatever its mode.
    Any(i32),
}

impl Whose {
    /// The id argument, and one of three commands.
    fn split(self, id: i32, index: i32, any: i32) -> (i32, i32) {
        match self {
            Self::Id(n) => (n, id),
            Self::Index(n) => (n, index),
            Self::Any(n) => (n, any),
        }
    }

    /// The id of what answered: the index commands answer it, `IPC_STAT` answers 0.
    fn id(self, answer: i32) -> i32 {
        match self {
            Self::Id(id) => id,
            Self::Index(_) | Self::Any(_) => answer,
        }
    }
}

/// Asks for the status of `id` by its index, so that the mode does not matter, and makes sure
/// that the slot holds the object with this id and not a later one.
pub(crate) fn any<S>(id: i32, stat: impl FnOnce(Whose) -> Result<(i32, S)>) -> Result<S> {
    if id < 0 {
        return Err(Errno::INVAL);
    }
    let (found, status) = stat(Whose::Any(id % IPCMNI))?;
    if found == id {
        Ok(status)
    } else {
        Err(Errno::INVAL)
    }
}

/// All objects of a kind, lowest index first: `stat` is asked for each index up to `highest`.
pub(crate) fn list<S>(highest: i32, stat: impl Fn(Whose) -> Result<S>) -> Result<Vec<S>> {
    let mut found = Vec::new();
    for index in 0..=highest {
        match stat(Whose::Any(index)) {
            Ok(status) => found.push(status),
            // An empty slot, or one that was emptied while we looked.
            Err(Errno::INVAL | Errno::IDRM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// A command of `shmctl` that takes no buffer.
#[derive(Clone, Copy)]
pub(crate) enum ShmCommand {
    Remove = IPC_RMID as isize,
    Lock = SHM_LOCK as isize,
    Unlock = SHM_UNLOCK as isize,
}

pub(crate) fn shm_command(calls: &impl Calls, id: i32, command: ShmCommand) -> Result<()> {
    // SAFETY: the three commands ignore the buffer.
    unsafe { calls.shmctl(id, command as i32, ptr::null_mut()) }.map(drop)
}

pub(crate) fn shm_stat(calls: &impl Calls, whose: Whose) -> Result<(i32, shmid_ds)> {
    let (id, command) = whose.split(IPC_STAT, SHM_STAT, SHM_STAT_ANY);
    let mut status = shmid_ds::default();
    // SAFETY: the three commands write one shmid_ds.
    let answer = unsafe { calls.shmctl(id, command, &raw mut status) }?;
    Ok((whose.id(answer), status))
}

pub(crate) fn shm_set(calls: &impl Calls, id: i32, mut status: shmid_ds) -> Result<()> {
    // SAFETY: IPC_SET reads one shmid_ds.
    unsafe { calls.shmctl(id, IPC_SET, &raw mut status) }.map(drop)
}

/// Highest index in use, and the limits.
pub(crate) fn shm_limits(calls: &impl Calls) -> Result<(i32, shminfo)> {
    let mut limits = shminfo::default();
    // SAFETY: IPC_INFO writes one shminfo.
    let highest = unsafe { calls.shmctl(0, IPC_INFO, (&raw mut limits).cast()) }?;
    Ok((highest, limits))
}

/// Highest index in use, and the use.
pub(crate) fn shm_usage(calls: &impl Calls) -> Result<(i32, shm_info)> {
    let mut usage = shm_info::default();
    // SAFETY: SHM_INFO writes one shm_info.
    let highest = unsafe { calls.shmctl(0, SHM_INFO, (&raw mut usage).cast()) }?;
    Ok((highest, usage))
}

pub(crate) fn msg_remove(calls: &impl Calls, id: i32) -> Result<()> {
    // SAFETY: IPC_RMID ignores the buffer.
    unsafe { calls.msgctl(id, IPC_RMID, ptr::null_mut()) }.map(drop)
}

pub(crate) fn msg_stat(calls: &impl Calls, whose: Whose) -> Result<(i32, msqid_ds)> {
    let (id, command) = whose.split(IPC_STAT, MSG_STAT, MSG_STAT_ANY);
    let mut status = msqid_ds::default();
    // SAFETY: the three commands write one msqid_ds.
    let answer = unsafe { calls.msgctl(id, command, &raw mut status) }?;
    Ok((whose.id(answer), status))
}

pub(crate) fn msg_set(calls: &impl Calls, id: i32, mut status: msqid_ds) -> Result<()> {
    // SAFETY: IPC_SET reads one msqid_ds.
    unsafe { calls.msgctl(id, IPC_SET, &raw mut status) }.map(drop)
}

/// Highest index in use, and the limits or (`use_of_queues`) the use.
pub(crate) fn msg_info(calls: &impl Calls, use_of_queues: bool) -> Result<(i32, msginfo)> {
    let command = if use_of_queues { MSG_INFO } else { IPC_INFO };
    let mut info = msginfo::default();
    // SAFETY: both commands write one msginfo.
    let highest = unsafe { calls.msgctl(0, command, (&raw mut info).cast()) }?;
    Ok((highest, info))
}

/// How many bytes of a message stand before its text: C's `long mtype`.
pub(crate) const TYPE_BYTES: usize = size_of::<i64>();

/// Sends a message that stands in `message` as its type and then its text.
pub(crate) fn msg_send(calls: &impl Calls, id: i32, message: &[u8], flags: i32) -> Result<()> {
    let size = message
        .len()
        .checked_sub(TYPE_BYTES)
        .expect("a message starts with its type");
    // SAFETY: `message` is a long and `size` bytes, and calls take it at any alignment.
    unsafe { calls.msgsnd(id, message.as_ptr().cast::<c_void>(), size, flags) }
}

/// Receives a message of up to `size` bytes into `message`, as its type and then its text;
/// replaces what stood there.
pub(crate) fn msg_receive(
    calls: &impl Calls,
    id: i32,
    message: &mut Vec<u8>,
    size: usize,
    message_type: i64,
    flags: i32,
) -> Result<()> {
    message.clear();
    let room = size.checked_add(TYPE_BYTES).ok_or(Errno::INVAL)?;
    message.try_reserve_exact(room).map_err(|_| Errno::NOMEM)?;
    let start = message.as_mut_ptr().cast::<c_void>();
    // SAFETY: the vector has room for a long and `size` bytes, and calls take it at any alignment.
    let length = unsafe { calls.msgrcv(id, start, size, message_type, flags) }?;
    assert!(length <= size, "msgrcv answered more than it was given");
    // SAFETY: there is room (above), and the call has written the type and `length` bytes.
    unsafe { message.set_len(TYPE_BYTES + length) };
    Ok(())
}

/// A question about one semaphore that `semctl` answers with a number.
#[derive(Clone, Copy)]
pub(crate) enum SemQuestion {
    Value = GETVAL as isize,
    Pid = GETPID as isize,
    WaitingForIncrease = GETNCNT as isize,
    WaitingForZero = GETZCNT as isize,
}

pub(crate) fn sem_ask(calls: &impl Calls, id: i32, number: u16, what: SemQuestion) -> Result<i32> {
    // SAFETY: the four commands ignore the argument.
    unsafe { calls.semctl(id, i32::from(number), what as i32, 0) }
}

pub(crate) fn sem_set_value(calls: &impl Calls, id: i32, number: u16, value: i32) -> Result<()> {
    let word = value as isize as usize;
    // SAFETY: SETVAL takes a number, not an address.
    unsafe { calls.semctl(id, i32::from(number), SETVAL, word) }.map(drop)
}

pub(crate) fn sem_remove(calls: &impl Calls, id: i32) -> Result<()> {
    // SAFETY: IPC_RMID ignores the argument.
    unsafe { calls.semctl(id, 0, IPC_RMID, 0) }.map(drop)
}

pub(crate) fn sem_stat(calls: &impl Calls, whose: Whose) -> Result<(i32, semid_ds)> {
    let (id, command) = whose.split(IPC_STAT, SEM_STAT, SEM_STAT_ANY);
    let mut status = semid_ds::default();
    let word = (&raw mut status).expose_provenance();
    // SAFETY: the three commands write one semid_ds.
    let answer = unsafe { calls.semctl(id, 0, command, word) }?;
    Ok((whose.id(answer), status))
}

pub(crate) fn sem_set(calls: &impl Calls, id: i32, mut status: semid_ds) -> Result<()> {
    let word = (&raw mut status).expose_provenance();
    // SAFETY: IPC_SET reads one semid_ds.
    unsafe { calls.semctl(id, 0, IPC_SET, word) }.map(drop)
}

/// Highest index in use, and the limits or (`use_of_sets`) the use.
pub(crate) fn sem_info(calls: &impl Calls, use_of_sets: bool) -> Result<(i32, seminfo)> {
    let command = if use_of_sets { SEM_INFO } else { IPC_INFO };
    let mut info = seminfo::default();
    let word = (&raw mut info).expose_provenance();
    // SAFETY: both commands write one seminfo.
    let highest = unsafe { calls.semctl(0, 0, command, word) }?;
    Ok((highest, info))
}

/// Room for the values of any set that can have this id, zeroed, and how many values the set has.
///
/// `GETALL` and `SETALL` are not told how long their array is. A set never changes its size, but
/// an id can come back for another, larger set between the question and the call. No set is
/// larger than SEMMSL was when it was made, so that much room is enough for what comes later.
fn sem_array(calls: &impl Calls, id: i32) -> Result<(Vec<u16>, usize)> {
    let status = any(id, |whose| sem_stat(calls, whose))?;
    let count = usize::try_from(status.sem_nsems).map_err(|_| Errno::OVERFLOW)?;
    let (_, limits) = sem_info(calls, false)?;
    let room = count.max(usize::try_from(limits.semmsl).unwrap_or(0));
    // SEMMSL may have been set to billions: ask before vec! would abort. The allocator has the
    // zeroes, so that room which is never touched costs nothing.
    Vec::<u16>::new()
        .try_reserve_exact(room)
        .map_err(|_| Errno::NOMEM)?;
    Ok((vec![0; room], count))
}

pub(crate) fn sem_values(calls: &impl Calls, id: i32) -> Result<Vec<u16>> {
    let (mut values, count) = sem_array(calls, id)?;
    let word = values.as_mut_ptr().expose_provenance();
    // SAFETY: GETALL writes as many values as the set has, for which `sem_array` made room.
    unsafe { calls.semctl(id, 0, GETALL, word) }?;
    values.truncate(count);
    values.shrink_to_fit();
    Ok(values)
}

pub(crate) fn sem_set_values(calls: &impl Calls, id: i32, new: &[u16]) -> Result<()> {
    let (mut values, count) = sem_array(calls, id)?;
    if new.len() != count {
        return Err(Errno::INVAL);
    }
    values[..count].copy_from_slice(new);
    let word = values.as_mut_ptr().expose_provenance();
    // SAFETY: SETALL reads as many values as the set has; `sem_array` made that many.
    unsafe { calls.semctl(id, 0, SETALL, word) }.map(drop)
}

/// `semop`, or `semtimedop` where there is a timeout.
pub(crate) fn sem_operate(
    calls: &impl Calls,
    id: i32,
    operations: &[sembuf],
    timeout: Option<timespec>,
) -> Result<()> {
    let (start, count) = (operations.as_ptr(), operations.len());
    match timeout {
        // SAFETY: `start` points to `count` operations.
        None => unsafe { calls.semop(id, start, count) },
        // SAFETY: as above, and the timeout is a live timespec.
        Some(timeout) => unsafe { calls.semtimedop(id, start, count, &raw const timeout) },
    }
}
