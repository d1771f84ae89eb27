//! `shmctl`, by command.

use crate::attaches::extent;
use crate::caller::{self, Caller, Capability, READ};
use crate::layout::{Facility, PROCESSES, attach, facility, segment, slot};
use crate::shm::PAGE;
use crate::space::{Space, now};
use crate::{Whose, list, table};
use shmem::journal::Tx;
use sysv::abi::*;
use sysv::{Errno, Result};

const SHM: Facility = Facility::Shm;

/// A segment's memory in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The process; 0 if it is being forked.
    pub pid: i32,
    /// Where the attach begins.
    pub address: u64,
    /// Bytes from there on.
    pub length: u64,
}

impl Space {
    /// `IPC_STAT`, `SHM_STAT`, `SHM_STAT_ANY`: the id and the status.
    ///
    /// # Errors
    /// `EINVAL` if there is no such segment, `EACCES` without read permission.
    pub fn shm_status(&self, caller: &dyn Caller, whose: Whose) -> Result<(i32, shmid_ds)> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let index = table::whose(tx, SHM, whose)?;
        self.refresh(tx, index)?;
        if !matches!(whose, Whose::Any(_)) {
            caller::allow(tx, SHM.slot(index), caller, READ, self.user_space)?;
        }
        let answer = (table::id(tx, SHM, index)?, status(tx, index)?);
        inside.finish();
        Ok(answer)
    }

    /// Bytes of a segment that are in memory.
    ///
    /// # Errors
    /// `EINVAL` if there is no such segment.
    pub fn shm_resident(&self, id: i32) -> Result<usize> {
        let inside = self.enter(SHM)?;
        let (offset, length) = extent(&inside.tx, table::by_id(&inside.tx, SHM, id)?)?;
        let resident = self.arena.resident(offset, length);
        inside.finish();
        resident
    }

    /// Who has a segment attached, and where.
    ///
    /// # Errors
    /// `EINVAL` if there is no such segment.
    pub fn shm_attaches(&self, id: i32) -> Result<Vec<Attached>> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let index = table::by_id(tx, SHM, id)?;
        self.refresh(tx, index)?;
        let ends = SHM.slot(index) + segment::ATTACHES;
        let mut all = Vec::new();
        for node in list::nodes(tx, ends, attach::OF_SEGMENT)? {
            let process = tx.get_at(node + attach::PROCESS)? % PROCESSES;
            all.push(Attached {
                pid: self.pid_of(process),
                address: tx.get(node + attach::ADDRESS)?,
                length: tx.get(node + attach::LENGTH)?,
            });
        }
        inside.finish();
        Ok(all)
    }

    /// `IPC_SET`: owner, group and mode from the structure.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn shm_set(&self, caller: &dyn Caller, id: i32, new: &shmid_ds) -> Result<()> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let at = SHM.slot(table::by_id(tx, SHM, id)?);
        caller::allow_change(tx, at, caller, self.user_space)?;
        caller::change(tx, at, &new.shm_perm)?;
        tx.set(at + slot::CHANGED, now())?;
        inside.finish();
        Ok(())
    }

    /// `IPC_RMID`: marks a segment, which goes with its last attach.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn shm_remove(&self, caller: &dyn Caller, id: i32) -> Result<()> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let index = table::by_id(tx, SHM, id)?;
        let at = SHM.slot(index);
        caller::allow_change(tx, at, caller, self.user_space)?;
        self.refresh(tx, index)?;
        if tx.get(at + segment::COUNT)? == 0 {
            self.destroy(tx, index)?;
            self.finish_dying(tx)?;
        } else {
            table::forget_key(tx, SHM, index)?;
            let mode = tx.get(at + slot::MODE)? | u64::from(SHM_DEST);
            tx.set(at + slot::MODE, mode)?;
        }
        inside.finish();
        Ok(())
    }

    /// `SHM_LOCK` and `SHM_UNLOCK`: sets and clears the bit, by the kernel's rules. The pages
    /// themselves stay as they are.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`, `ENOMEM` if the segment is larger than the caller may lock.
    pub fn shm_lock(&self, caller: &dyn Caller, id: i32, lock: bool) -> Result<()> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        let at = SHM.slot(table::by_id(tx, SHM, id)?);
        let capable = caller.is_capable(Capability::IpcLock, self.user_space);
        let lockable = caller.lockable();
        if !capable && (!caller::is_owner(tx, at, caller)? || lock && lockable == 0) {
            return Err(Errno::PERM);
        }
        let bit = u64::from(SHM_LOCKED);
        let mode = tx.get(at + slot::MODE)?;
        if lock && mode & bit == 0 && !capable {
            let size = tx.get(at + segment::SIZE)?;
            if size.div_ceil(PAGE as u64) > lockable / PAGE as u64 {
                return Err(Errno::NOMEM);
            }
        }
        tx.set(at + slot::MODE, if lock { mode | bit } else { mode & !bit })?;
        inside.finish();
        Ok(())
    }

    /// `IPC_INFO`: the highest index in use, and the limits.
    ///
    /// # Errors
    /// `EUCLEAN` if the registry is damaged.
    pub fn shm_limits(&self) -> Result<(i32, shminfo)> {
        let mut inside = self.enter(SHM)?;
        self.refresh_marked(&mut inside.tx)?;
        let limits = self.limits();
        let info = shminfo {
            shmmax: limits.shmmax,
            shmmin: 1,
            shmmni: limits.shmmni,
            shmseg: limits.shmmni,
            shmall: limits.shmall,
            ..shminfo::default()
        };
        let highest = table::highest(&inside.tx, SHM)? as i32;
        inside.finish();
        Ok((highest, info))
    }

    /// `SHM_INFO`: the highest index in use, and the use. Pages in swap count as resident.
    ///
    /// # Errors
    /// `EUCLEAN` if the registry is damaged.
    pub fn shm_usage(&self) -> Result<(i32, shm_info)> {
        let mut inside = self.enter(SHM)?;
        let tx = &mut inside.tx;
        self.refresh_marked(tx)?;
        let mut info = shm_info {
            shm_tot: tx.get(SHM.at() + facility::TOTAL)?,
            ..shm_info::default()
        };
        for index in table::in_use(tx, SHM)? {
            info.used_ids += 1;
            let (offset, length) = extent(tx, index)?;
            info.shm_rss += (self.arena.resident(offset, length)? / PAGE) as u64;
        }
        let highest = table::highest(tx, SHM)? as i32;
        inside.finish();
        Ok((highest, info))
    }
}

fn status(tx: &Tx, index: usize) -> Result<shmid_ds> {
    let at = SHM.slot(index);
    let time = |field| tx.get(at + field).map(|seconds| seconds as i64);
    Ok(shmid_ds {
        shm_perm: caller::perm(tx, at)?,
        shm_segsz: tx.get(at + segment::SIZE)?,
        shm_atime: time(segment::ATTACHED)?,
        shm_dtime: time(segment::DETACHED)?,
        shm_ctime: time(slot::CHANGED)?,
        shm_cpid: tx.get(at + segment::CREATOR_PID)? as i32,
        shm_lpid: tx.get(at + segment::LAST_PID)? as i32,
        shm_nattch: tx.get(at + segment::COUNT)?,
        ..shmid_ds::default()
    })
}
