//! Who makes a call, and what he may do.

use crate::layout::slot;
use shmem::journal::Tx;
use sysv::abi::ipc_perm;
use sysv::{Errno, Result};

/// What stands in for a right that a caller has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// `CAP_IPC_LOCK`.
    IpcLock = 14,
    /// `CAP_IPC_OWNER`.
    IpcOwner = 15,
    /// `CAP_SYS_ADMIN`.
    SysAdmin = 21,
    /// `CAP_SYS_RESOURCE`.
    SysResource = 24,
}

/// The credentials of a caller, asked for only where they decide.
pub trait Caller {
    /// Effective user.
    fn uid(&self) -> u32;
    /// Effective group.
    fn gid(&self) -> u32;
    /// Whether the effective group or a supplementary one is this.
    fn is_in_group(&self, gid: u32) -> bool;
    /// Whether a capability is in effect, in the user name space with that inode (0: unknown).
    fn is_capable(&self, capability: Capability, user_space: u64) -> bool;
    /// `RLIMIT_MEMLOCK`, bytes.
    fn lockable(&self) -> u64;
    /// Whether the group is one that may have huge pages.
    fn is_in_huge_page_group(&self) -> bool;
}

/// Read permission, in all three classes.
pub const READ: u32 = 0o444;
/// Write permission, in all three classes.
pub const WRITE: u32 = 0o222;
/// Execute permission, in all three classes.
pub const EXECUTE: u32 = 0o111;

/// Splits a word into uid and gid.
pub fn pair(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// Joins uid and gid.
pub fn join(uid: u32, gid: u32) -> u64 {
    u64::from(uid) | u64::from(gid) << 32
}

/// The permissions of an object as the status structures have them.
pub fn perm(tx: &Tx, slot_at: usize) -> Result<ipc_perm> {
    let (uid, gid) = pair(tx.get(slot_at + slot::OWNER)?);
    let (cuid, cgid) = pair(tx.get(slot_at + slot::CREATOR)?);
    Ok(ipc_perm {
        __key: tx.get(slot_at + slot::KEY)? as i32,
        uid,
        gid,
        cuid,
        cgid,
        mode: tx.get(slot_at + slot::MODE)? as u32,
        __seq: tx.get(slot_at + slot::SEQUENCE)? as u16,
        ..ipc_perm::default()
    })
}

/// Fails with `EACCES` unless the caller's class has every permission in `wanted`, whose three
/// triads count as one.
#[inline]
pub fn allow(
    tx: &Tx,
    slot_at: usize,
    caller: &dyn Caller,
    wanted: u32,
    user_space: u64,
) -> Result<()> {
    let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
    let mode = tx.get(slot_at + slot::MODE)? as u32;
    // Nothing to ask for, or every class has it.
    if wanted & !(mode >> 6 & mode >> 3 & mode) == 0 {
        return Ok(());
    }
    let (uid, gid) = pair(tx.get(slot_at + slot::OWNER)?);
    let (cuid, cgid) = pair(tx.get(slot_at + slot::CREATOR)?);
    let me = caller.uid();
    let granted = if me == uid || me == cuid {
        mode >> 6
    } else if caller.is_in_group(gid) || caller.is_in_group(cgid) {
        mode >> 3
    } else {
        mode
    };
    if wanted & !granted == 0 || caller.is_capable(Capability::IpcOwner, user_space) {
        Ok(())
    } else {
        Err(Errno::ACCESS)
    }
}

/// Fails with `EPERM` unless the caller may change or remove the object.
pub fn allow_change(tx: &Tx, slot_at: usize, caller: &dyn Caller, user_space: u64) -> Result<()> {
    if is_owner(tx, slot_at, caller)? || caller.is_capable(Capability::SysAdmin, user_space) {
        Ok(())
    } else {
        Err(Errno::PERM)
    }
}

/// Whether the caller is owner or creator.
pub fn is_owner(tx: &Tx, slot_at: usize, caller: &dyn Caller) -> Result<bool> {
    let me = caller.uid();
    let owner = tx.get(slot_at + slot::OWNER)?;
    let creator = tx.get(slot_at + slot::CREATOR)?;
    Ok(me == pair(owner).0 || me == pair(creator).0)
}

/// Owner, group and mode from the structure that `IPC_SET` is given.
pub fn change(tx: &mut Tx, slot_at: usize, new: &ipc_perm) -> Result<()> {
    if new.uid == u32::MAX || new.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    tx.set(slot_at + slot::OWNER, join(new.uid, new.gid))?;
    let status = tx.get(slot_at + slot::MODE)? & !0o777;
    tx.set(slot_at + slot::MODE, status | u64::from(new.mode & 0o777))
}
