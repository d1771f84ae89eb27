//! Ids and keys, numbered as the kernel numbers them.
//!
//! An id is sequence × 32768 + index. Indices are handed out round robin among the first
//! max(64, 3/2 of those in use); the sequence grows when the search comes round, so an id comes
//! back only after some billions.

use crate::Whose;
use crate::caller::{self, Caller, join};
use crate::layout::{Facility, SLOTS, facility, slot};
use crate::space::now;
use shmem::journal::Tx;
use sysv::abi::{IPC_CREAT, IPC_EXCL, IPCMNI};
use sysv::{Errno, Result};

/// Slot states: nothing.
const FREE: u64 = 0;
/// An object.
const LIVE: u64 = 1;
/// Removed, and its pages or messages are being given back.
const DYING: u64 = 2;

/// Round robin never goes round fewer indices than these.
const SHORTEST_ROUND: usize = 64;
/// Sequence numbers end here.
const SEQUENCES: u64 = (i32::MAX / IPCMNI) as u64;

/// What a `*get` call is to do.
pub enum Found {
    /// An object has the key.
    Slot(usize),
    /// A new object is to be made.
    Create,
}

fn bucket(kind: Facility, key: i32) -> usize {
    // The bits of keys from `ftok` differ everywhere.
    let hash = (key as u32).wrapping_mul(0x9e37_79b1) >> 22;
    kind.at() + facility::BUCKETS + 8 * (hash as usize % facility::BUCKET_COUNT)
}

/// The index of the object with a key.
fn find_key(tx: &Tx, kind: Facility, key: i32) -> Result<Option<usize>> {
    let mut next = tx.get_at(bucket(kind, key))?;
    for _ in 0..=SLOTS {
        let Some(index) = next.checked_sub(1) else {
            return Ok(None);
        };
        let at = at(kind, index)?;
        if tx.get(at + slot::KEY)? as i32 == key {
            return Ok(Some(index));
        }
        next = tx.get_at(at + slot::NEXT)?;
    }
    Err(Errno::UCLEAN)
}

fn at(kind: Facility, index: usize) -> Result<usize> {
    if index < SLOTS {
        Ok(kind.slot(index))
    } else {
        Err(Errno::UCLEAN)
    }
}

/// What a `*get` call has to do: the kernel's order of checks. `suits` says whether an object
/// that exists is as large as asked for.
pub fn get(
    tx: &Tx,
    kind: Facility,
    key: i32,
    flags: i32,
    suits: impl FnOnce(&Tx, usize) -> Result<()>,
) -> Result<Found> {
    if key == sysv::abi::IPC_PRIVATE {
        return Ok(Found::Create);
    }
    let Some(index) = find_key(tx, kind, key)? else {
        return if flags & IPC_CREAT == 0 {
            Err(Errno::NOENT)
        } else {
            Ok(Found::Create)
        };
    };
    if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
        return Err(Errno::EXIST);
    }
    suits(tx, kind.slot(index))?;
    Ok(Found::Slot(index))
}

/// The id of an index.
#[inline]
pub fn id(tx: &Tx, kind: Facility, index: usize) -> Result<i32> {
    let sequence = tx.get(at(kind, index)? + slot::SEQUENCE)?;
    Ok((sequence % SEQUENCES) as i32 * IPCMNI + index as i32)
}

/// The index of the object with an id.
///
/// # Errors
/// `EINVAL` if there is none.
#[inline]
pub fn by_id(tx: &Tx, kind: Facility, id: i32) -> Result<usize> {
    let index = usize::try_from(id % IPCMNI).map_err(|_| Errno::INVAL)?;
    by_index(tx, kind, index)?;
    if self::id(tx, kind, index)? == id {
        Ok(index)
    } else {
        Err(Errno::INVAL)
    }
}

/// Fails with `EINVAL` unless an index is in use.
#[inline]
pub fn by_index(tx: &Tx, kind: Facility, index: usize) -> Result<()> {
    if index < SLOTS && tx.get(kind.slot(index) + slot::STATE)? == LIVE {
        Ok(())
    } else {
        Err(Errno::INVAL)
    }
}

/// The index of the object whose status is asked for.
///
/// # Errors
/// `EINVAL` if there is none.
pub fn whose(tx: &Tx, kind: Facility, whose: Whose) -> Result<usize> {
    match whose {
        Whose::Id(id) => by_id(tx, kind, id),
        Whose::Index(id) | Whose::Any(id) => {
            let index = usize::try_from(id % IPCMNI).map_err(|_| Errno::INVAL)?;
            by_index(tx, kind, index)?;
            Ok(index)
        }
    }
}

/// The highest index in use, or 0.
pub fn highest(tx: &Tx, kind: Facility) -> Result<usize> {
    Ok(tx.get_at(kind.at() + facility::HIGHEST)?.saturating_sub(1))
}

/// The indices in use.
pub fn in_use(tx: &Tx, kind: Facility) -> Result<Vec<usize>> {
    let end = tx.get_at(kind.at() + facility::HIGHEST)?.min(SLOTS);
    let mut all = Vec::new();
    for index in 0..end {
        if tx.get(kind.slot(index) + slot::STATE)? == LIVE {
            all.push(index);
        }
    }
    Ok(all)
}

/// Makes an object with everything that the three kinds have in common, and answers its index.
/// The rest of its slot is zero.
///
/// # Errors
/// `ENOSPC` if there are `limit` of them.
pub fn add(
    tx: &mut Tx,
    kind: Facility,
    key: i32,
    flags: i32,
    caller: &dyn Caller,
    limit: u64,
) -> Result<usize> {
    let block = kind.at();
    let used = tx.get(block + facility::IN_USE)?;
    if used >= limit.min(SLOTS as u64) {
        return Err(Errno::NOSPC);
    }
    let (index, sequence) = free_index(tx, kind, used as usize)?;
    let at = kind.slot(index);
    for word in (0..slot::LAYOUT.size).step_by(8) {
        tx.set(at + word, 0)?;
    }
    let owner = join(caller.uid(), caller.gid());
    tx.set(at + slot::STATE, LIVE)?;
    tx.set(at + slot::SEQUENCE, sequence)?;
    tx.set(at + slot::OWNER, owner)?;
    tx.set(at + slot::CREATOR, owner)?;
    tx.set(at + slot::MODE, (flags & 0o777) as u64)?;
    tx.set(at + slot::CHANGED, now())?;
    if key != sysv::abi::IPC_PRIVATE {
        let list = bucket(kind, key);
        tx.set(at + slot::KEY, u64::from(key as u32))?;
        let first = tx.get(list)?;
        tx.set(at + slot::NEXT, first)?;
        tx.set(list, index as u64 + 1)?;
    }
    tx.set(block + facility::IN_USE, used + 1)?;
    let highest = tx.get(block + facility::HIGHEST)?;
    tx.set(block + facility::HIGHEST, highest.max(index as u64 + 1))?;
    Ok(index)
}

/// A free index and its sequence number.
fn free_index(tx: &mut Tx, kind: Facility, used: usize) -> Result<(usize, u64)> {
    let block = kind.at();
    let wanted = tx.get(block + facility::NEXT_ID)?;
    tx.set(block + facility::NEXT_ID, 0)?;
    if let Some(id) = wanted.checked_sub(1) {
        let (index, sequence) = (id as usize % SLOTS, id / SLOTS as u64);
        if let Some(index) = first_free(tx, kind, index, SLOTS)? {
            return Ok((index, sequence % SEQUENCES));
        }
    }
    let last = tx.get_at(block + facility::LAST)?;
    let round = (used * 3 / 2).clamp(SHORTEST_ROUND, SLOTS);
    let index = match first_free(tx, kind, last, round)? {
        Some(index) => index,
        None => first_free(tx, kind, 0, round)?.ok_or(Errno::NOSPC)?,
    };
    let mut sequence = tx.get(block + facility::SEQUENCE)?;
    if index < last {
        sequence = (sequence + 1) % SEQUENCES;
        tx.set(block + facility::SEQUENCE, sequence)?;
    }
    tx.set(block + facility::LAST, index as u64 + 1)?;
    Ok((index, sequence))
}

fn first_free(tx: &Tx, kind: Facility, from: usize, until: usize) -> Result<Option<usize>> {
    for index in from..until {
        if tx.get(kind.slot(index) + slot::STATE)? == FREE {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Takes an object's key from it: it is found by id only from here on.
pub fn forget_key(tx: &mut Tx, kind: Facility, index: usize) -> Result<()> {
    let at = at(kind, index)?;
    let key = tx.get(at + slot::KEY)? as i32;
    if key == sysv::abi::IPC_PRIVATE {
        return Ok(());
    }
    let next = tx.get(at + slot::NEXT)?;
    let mut word = bucket(kind, key);
    for _ in 0..=SLOTS {
        let entry = tx.get_at(word)?;
        if entry == index + 1 {
            tx.set(word, next)?;
            return tx.set(at + slot::KEY, 0);
        }
        let entry = entry.checked_sub(1).ok_or(Errno::UCLEAN)?;
        word = self::at(kind, entry)? + slot::NEXT;
    }
    Err(Errno::UCLEAN)
}

/// Takes an object out of the table; its slot is left in `state`.
fn take_out(tx: &mut Tx, kind: Facility, index: usize, state: u64) -> Result<()> {
    forget_key(tx, kind, index)?;
    let block = kind.at();
    tx.set(at(kind, index)? + slot::STATE, state)?;
    tx.add(block + facility::IN_USE, -1)?;
    let mut highest = tx.get_at(block + facility::HIGHEST)?.min(SLOTS);
    while highest > 0 && tx.get(kind.slot(highest - 1) + slot::STATE)? != LIVE {
        highest -= 1;
    }
    tx.set(block + facility::HIGHEST, highest as u64)
}

/// Takes an object out of the table, and its slot is free.
pub fn remove(tx: &mut Tx, kind: Facility, index: usize) -> Result<()> {
    take_out(tx, kind, index, FREE)
}

/// Takes an object out of the table; its slot is kept until what it has is given back
/// ([`first_buried`], [`set_free`]).
pub fn bury(tx: &mut Tx, kind: Facility, index: usize) -> Result<()> {
    take_out(tx, kind, index, DYING)?;
    let list = kind.at() + facility::DYING;
    let first = tx.get(list)?;
    tx.set(kind.slot(index) + slot::NEXT, first)?;
    tx.set(list, index as u64 + 1)
}

/// The slot of an object that is gone, but not what it had.
pub fn first_buried(tx: &Tx, kind: Facility) -> Result<Option<usize>> {
    match tx.get_at(kind.at() + facility::DYING)?.checked_sub(1) {
        Some(index) if tx.get(at(kind, index)? + slot::STATE)? != DYING => Err(Errno::UCLEAN),
        index => Ok(index),
    }
}

/// Frees the slot that [`first_buried`] has answered.
pub fn set_free(tx: &mut Tx, kind: Facility, index: usize) -> Result<()> {
    let next = tx.get(at(kind, index)? + slot::NEXT)?;
    tx.set(kind.at() + facility::DYING, next)?;
    tx.set(kind.slot(index) + slot::STATE, FREE)
}

/// Checks what a `*get` call asks of an object that exists, and answers its id.
pub fn found(
    tx: &Tx,
    kind: Facility,
    index: usize,
    flags: i32,
    caller: &dyn Caller,
    user_space: u64,
) -> Result<i32> {
    let wanted = flags as u32 & 0o777;
    caller::allow(tx, kind.slot(index), caller, wanted, user_space)?;
    id(tx, kind, index)
}
