//! `semctl`, by command.

use crate::Whose;
use crate::caller::{self, Caller, READ, WRITE};
use crate::layout::{Facility, facility, operating, set, sleeper, slot};
use crate::list::nodes;
use crate::sem::operations;
use crate::sem_perform::{semaphore, word};
use crate::sleepers;
use crate::space::{Inside, Space, now};
use crate::table;
use shmem::journal::Tx;
use sysv::abi::*;
use sysv::{Errno, Result};

const SEM: Facility = Facility::Sem;

/// What can be asked about one semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Its value.
    Value,
    /// Who changed it last.
    Pid,
    /// How many calls wait until it grows.
    WaitingForIncrease,
    /// How many calls wait until it is zero.
    WaitingForZero,
}

impl Space {
    /// The set with an id, made true: who has died is settled.
    fn settled(&self, id: i32) -> Result<(Inside<'_>, usize)> {
        let mut inside = self.enter(SEM)?;
        let index = table::by_id(&inside.tx, SEM, id)?;
        self.settle_set(&mut inside, index)?;
        Ok((inside, index))
    }

    /// `IPC_STAT`, `SEM_STAT`, `SEM_STAT_ANY`: the id and the status.
    ///
    /// # Errors
    /// `EINVAL` if there is no such set, `EACCES` without read permission.
    pub fn sem_status(&self, caller: &dyn Caller, whose: Whose) -> Result<(i32, semid_ds)> {
        let mut inside = self.enter(SEM)?;
        let index = table::whose(&inside.tx, SEM, whose)?;
        self.settle_set(&mut inside, index)?;
        let tx = &inside.tx;
        let at = SEM.slot(index);
        if !matches!(whose, Whose::Any(_)) {
            caller::allow(tx, at, caller, READ, self.user_space)?;
        }
        let status = semid_ds {
            sem_perm: caller::perm(tx, at)?,
            sem_otime: tx.get(at + set::OPERATED)? as i64,
            sem_ctime: tx.get(at + slot::CHANGED)? as i64,
            sem_nsems: tx.get(at + set::COUNT)?,
            ..semid_ds::default()
        };
        let id = table::id(tx, SEM, index)?;
        inside.finish();
        Ok((id, status))
    }

    /// `IPC_SET`: owner, group and mode from the structure.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn sem_set(&self, caller: &dyn Caller, id: i32, new: &semid_ds) -> Result<()> {
        let mut inside = self.enter(SEM)?;
        let tx = &mut inside.tx;
        let at = SEM.slot(table::by_id(tx, SEM, id)?);
        caller::allow_change(tx, at, caller, self.user_space)?;
        caller::change(tx, at, &new.sem_perm)?;
        tx.set(at + slot::CHANGED, now())?;
        inside.finish();
        Ok(())
    }

    /// `IPC_RMID`: every wait ends with `EIDRM`, adjustments go.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`.
    pub fn sem_remove(&self, caller: &dyn Caller, id: i32) -> Result<()> {
        let mut inside = self.enter(SEM)?;
        let index = table::by_id(&inside.tx, SEM, id)?;
        let at = SEM.slot(index);
        caller::allow_change(&inside.tx, at, caller, self.user_space)?;
        let ends = at + set::SLEEPERS;
        for node in nodes(&inside.tx, ends, sleeper::OF_OBJECT)? {
            sleepers::serve(&mut inside, ends, node, Err(Errno::IDRM))?;
        }
        let tx = &mut inside.tx;
        self.forget_adjustments(tx, index)?;
        let values = tx.get_at(at + set::VALUES)?;
        SEM.heap().free(tx, values)?;
        let count = tx.get_at(at + set::COUNT)?;
        tx.add(SEM.at() + facility::TOTAL, -(count as i64))?;
        table::remove(tx, SEM, index)?;
        inside.finish();
        Ok(())
    }

    /// `GETVAL`, `GETPID`, `GETNCNT`, `GETZCNT`.
    ///
    /// # Errors
    /// `EINVAL` if there is no such set or semaphore, `EACCES`.
    pub fn sem_ask(
        &self,
        caller: &dyn Caller,
        id: i32,
        number: i32,
        question: Question,
    ) -> Result<i32> {
        let (inside, index) = self.settled(id)?;
        let tx = &inside.tx;
        caller::allow(tx, SEM.slot(index), caller, READ, self.user_space)?;
        let number = number_in(tx, index, number)?;
        let here = tx.get(semaphore(tx, index, number)?)?;
        let answer = match question {
            Question::Value => here as u32 as i32,
            Question::Pid => (here >> 32) as i32,
            Question::WaitingForIncrease => waiting(tx, index, number, false)?,
            Question::WaitingForZero => waiting(tx, index, number, true)?,
        };
        inside.finish();
        Ok(answer)
    }

    /// `GETALL`.
    ///
    /// # Errors
    /// `EINVAL`, `EACCES`.
    pub fn sem_values(&self, caller: &dyn Caller, id: i32) -> Result<Vec<u16>> {
        let (inside, index) = self.settled(id)?;
        let tx = &inside.tx;
        caller::allow(tx, SEM.slot(index), caller, READ, self.user_space)?;
        let values = (0..tx.get_at(SEM.slot(index) + set::COUNT)?)
            .map(|number| Ok(tx.get(semaphore(tx, index, number)?)? as u16))
            .collect::<Result<_>>()?;
        inside.finish();
        Ok(values)
    }

    /// How many values `SETALL` takes: what is to be found out before they are read.
    ///
    /// # Errors
    /// `EINVAL`, `EACCES`.
    pub fn sem_count(&self, caller: &dyn Caller, id: i32) -> Result<usize> {
        let inside = self.enter(SEM)?;
        let tx = &inside.tx;
        let at = SEM.slot(table::by_id(tx, SEM, id)?);
        caller::allow(tx, at, caller, WRITE, self.user_space)?;
        let count = tx.get_at(at + set::COUNT)?;
        inside.finish();
        Ok(count)
    }

    /// `SETALL`.
    ///
    /// # Errors
    /// `EINVAL`, `EACCES`, `ERANGE`.
    pub fn sem_set_values(&self, caller: &dyn Caller, id: i32, values: &[u16]) -> Result<()> {
        if values.iter().any(|value| *value > SEMVMX) {
            return Err(Errno::RANGE);
        }
        let (mut inside, index) = self.settled(id)?;
        let tx = &mut inside.tx;
        let at = SEM.slot(index);
        caller::allow(tx, at, caller, WRITE, self.user_space)?;
        if values.len() as u64 != tx.get(at + set::COUNT)? {
            return Err(Errno::INVAL);
        }
        for (number, value) in values.iter().enumerate() {
            let place = semaphore(tx, index, number)?;
            tx.set(place, word((*value).into(), self.pid()))?;
        }
        self.clear_adjustments(tx, index, None)?;
        tx.set(at + slot::CHANGED, now())?;
        self.serve_set(&mut inside, index)?;
        inside.finish();
        Ok(())
    }

    /// `SETVAL`.
    ///
    /// # Errors
    /// `ERANGE`, `EINVAL`, `EACCES`.
    pub fn sem_set_value(
        &self,
        caller: &dyn Caller,
        id: i32,
        number: i32,
        value: i32,
    ) -> Result<()> {
        let value = u16::try_from(value).ok().filter(|value| *value <= SEMVMX);
        let value = value.ok_or(Errno::RANGE)?;
        let (mut inside, index) = self.settled(id)?;
        let tx = &mut inside.tx;
        let at = SEM.slot(index);
        let number = number_in(tx, index, number)?;
        caller::allow(tx, at, caller, WRITE, self.user_space)?;
        let place = semaphore(tx, index, number)?;
        tx.set(place, word(value.into(), self.pid()))?;
        self.clear_adjustments(tx, index, Some(number))?;
        tx.set(at + slot::CHANGED, now())?;
        self.serve_set(&mut inside, index)?;
        inside.finish();
        Ok(())
    }

    /// `IPC_INFO`: the highest index in use, and the limits.
    ///
    /// # Errors
    /// `EUCLEAN` if the registry is damaged.
    pub fn sem_limits(&self) -> Result<(i32, seminfo)> {
        let inside = self.enter(SEM)?;
        let highest = table::highest(&inside.tx, SEM)? as i32;
        inside.finish();
        Ok((highest, self.sem_numbers()))
    }

    fn sem_numbers(&self) -> seminfo {
        let limits = self.limits();
        let int = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
        seminfo {
            semmni: int(limits.semmni),
            semmns: int(limits.semmns),
            semmsl: int(limits.semmsl),
            semopm: int(limits.semopm),
            semvmx: SEMVMX.into(),
            // Numbers of no meaning, as the kernel has them.
            semmap: 1_024_000_000,
            semmnu: 1_024_000_000,
            semume: 500,
            semusz: 20,
            semaem: SEMVMX.into(),
        }
    }

    /// `SEM_INFO`: the highest index in use, and the use.
    ///
    /// # Errors
    /// `EUCLEAN` if the registry is damaged.
    pub fn sem_usage(&self) -> Result<(i32, seminfo)> {
        let inside = self.enter(SEM)?;
        let tx = &inside.tx;
        let int = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
        let info = seminfo {
            semusz: int(tx.get(SEM.at() + facility::IN_USE)?),
            semaem: int(tx.get(SEM.at() + facility::TOTAL)?),
            ..self.sem_numbers()
        };
        let highest = table::highest(tx, SEM)? as i32;
        inside.finish();
        Ok((highest, info))
    }
}

/// A semaphore's number, if the set has it.
fn number_in(tx: &Tx, index: usize, number: i32) -> Result<usize> {
    let number = usize::try_from(number).map_err(|_| Errno::INVAL)?;
    if (number as u64) < tx.get(SEM.slot(index) + set::COUNT)? {
        Ok(number)
    } else {
        Err(Errno::INVAL)
    }
}

/// How many calls a semaphore keeps waiting: each waits for the first operation that can't be done.
fn waiting(tx: &Tx, index: usize, number: usize, for_zero: bool) -> Result<i32> {
    let mut count = 0;
    for node in nodes(tx, SEM.slot(index) + set::SLEEPERS, sleeper::OF_OBJECT)? {
        let blocking = tx.get_at(node + operating::BLOCKING)?;
        let list = operations(tx, node)?;
        let operation = list.get(blocking).ok_or(Errno::UCLEAN)?;
        let same = usize::from(operation.sem_num) == number;
        if same && (operation.sem_op == 0) == for_zero {
            count += 1;
        }
    }
    Ok(count)
}
