//! `msgctl`, by command.

use crate::Whose;
use crate::caller::{self, Caller, Capability, READ};
use crate::layout::{Facility, queue, slot};
use crate::msg::store;
use crate::space::{Space, now};
use crate::table;
use shmem::journal::Tx;
use sysv::abi::*;
use sysv::{Errno, Result};

const MSG: Facility = Facility::Msg;

impl Space {
    /// `IPC_STAT`, `MSG_STAT`, `MSG_STAT_ANY`: the id and the status.
    ///
    /// # Errors
    /// `EINVAL` if there is no such queue, `EACCES` without read permission.
    pub fn msg_status(&self, caller: &dyn Caller, whose: Whose) -> Result<(i32, msqid_ds)> {
        let mut inside = self.enter(MSG)?;
        let index = table::whose(&inside.tx, MSG, whose)?;
        self.close_lane(&mut inside, index)?;
        let tx = &inside.tx;
        if !matches!(whose, Whose::Any(_)) {
            caller::allow(tx, MSG.slot(index), caller, READ, self.user_space)?;
        }
        let answer = (table::id(tx, MSG, index)?, status(tx, index)?);
        inside.finish();
        Ok(answer)
    }

    /// `IPC_SET`: owner, group, mode and capacity from the structure.
    ///
    /// # Errors
    /// `EINVAL`; `EPERM`, also for a capacity above MSGMNB.
    pub fn msg_set(&self, caller: &dyn Caller, id: i32, new: &msqid_ds) -> Result<()> {
        let mut inside = self.enter(MSG)?;
        let at = MSG.slot(self.queue(&mut inside, id)?);
        let tx = &mut inside.tx;
        caller::allow_change(tx, at, caller, self.user_space)?;
        let above = new.msg_qbytes > self.limits().msgmnb;
        if above && !caller.is_capable(Capability::SysResource, self.user_space) {
            return Err(Errno::PERM);
        }
        caller::change(tx, at, &new.msg_perm)?;
        tx.set(at + queue::CAPACITY, new.msg_qbytes)?;
        tx.set(at + slot::CHANGED, now())?;
        self.have_checked(&mut inside, at)?;
        inside.finish();
        Ok(())
    }

    /// `IPC_RMID`: the messages go, and every wait ends with `EIDRM`.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn msg_remove(&self, caller: &dyn Caller, id: i32) -> Result<()> {
        let mut inside = self.enter(MSG)?;
        let index = self.queue(&mut inside, id)?;
        let at = MSG.slot(index);
        caller::allow_change(&inside.tx, at, caller, self.user_space)?;
        self.send_all_away(&mut inside, at)?;
        table::bury(&mut inside.tx, MSG, index)?;
        self.finish_dying_queues(&mut inside.tx)?;
        inside.finish();
        Ok(())
    }

    /// `IPC_INFO`: the highest index in use, and the limits.
    ///
    /// # Errors
    /// `EUCLEAN` if the registry is damaged.
    pub fn msg_limits(&self) -> Result<(i32, msginfo)> {
        let inside = self.enter(MSG)?;
        let info = msginfo {
            // Numbers of no meaning, as the kernel has them.
            msgpool: 32_000 * 16_384 / 1024,
            msgmap: 16_384,
            msgtql: 16_384,
            ..self.msg_numbers()
        };
        let highest = table::highest(&inside.tx, MSG)? as i32;
        inside.finish();
        Ok((highest, info))
    }

    fn msg_numbers(&self) -> msginfo {
        let limits = self.limits();
        let int = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
        msginfo {
            msgmax: int(limits.msgmax),
            msgmnb: int(limits.msgmnb),
            msgmni: int(limits.msgmni),
            msgssz: 16,
            msgseg: 0xffff,
            ..msginfo::default()
        }
    }

    /// `MSG_INFO`: the highest index in use, and the use.
    ///
    /// # Errors
    /// `EUCLEAN` if the registry is damaged.
    pub fn msg_usage(&self) -> Result<(i32, msginfo)> {
        let mut inside = self.enter(MSG)?;
        let (mut queues, mut messages, mut bytes) = (0, 0u64, 0u64);
        for index in table::in_use(&inside.tx, MSG)? {
            self.close_lane(&mut inside, index)?;
            let (count, length) = store(MSG.slot(index)).contents(&inside.tx)?;
            queues += 1;
            messages = messages.saturating_add(count);
            bytes = bytes.saturating_add(length);
        }
        let int = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
        let info = msginfo {
            msgpool: queues,
            msgmap: int(messages),
            msgtql: int(bytes),
            ..self.msg_numbers()
        };
        let highest = table::highest(&inside.tx, MSG)? as i32;
        inside.finish();
        Ok((highest, info))
    }
}

fn status(tx: &Tx, index: usize) -> Result<msqid_ds> {
    let at = MSG.slot(index);
    let (count, bytes) = store(at).contents(tx)?;
    let time = |field| tx.get(at + field).map(|seconds| seconds as i64);
    Ok(msqid_ds {
        msg_perm: caller::perm(tx, at)?,
        msg_stime: time(queue::SENT)?,
        msg_rtime: time(queue::RECEIVED)?,
        msg_ctime: time(slot::CHANGED)?,
        __msg_cbytes: bytes,
        msg_qnum: count,
        msg_qbytes: tx.get(at + queue::CAPACITY)?,
        msg_lspid: tx.get(at + queue::SENDER)? as i32,
        msg_lrpid: tx.get(at + queue::RECEIVER)? as i32,
        ..msqid_ds::default()
    })
}
