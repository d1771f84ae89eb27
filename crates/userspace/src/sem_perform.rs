//! Doing operations: all or none, and for those who wait.

use crate::layout::{Facility, operating, set, sleeper};
use crate::list::nodes;
use crate::sem::{get_up, operations};
use crate::sem_undo::{adjustment, set_adjustment};
use crate::sleepers;
use crate::space::{Inside, Space, now};
use shmem::journal::Tx;
use sysv::abi::*;
use sysv::{Errno, Result};

const SEM: Facility = Facility::Sem;
/// Adjustments are 16-bit numbers.
const ADJUSTMENTS: std::ops::RangeInclusive<i32> = -32768..=32767;

/// What comes of operations.
pub(crate) enum Outcome {
    /// They are done.
    Done,
    /// This one can't be done now; nothing has changed.
    Blocks(usize),
}

/// Where a semaphore's word is.
pub(crate) fn semaphore(tx: &Tx, index: usize, number: usize) -> Result<usize> {
    let at = SEM.slot(index);
    if number as u64 >= tx.get(at + set::COUNT)? {
        return Err(Errno::UCLEAN);
    }
    Ok(tx.get_at(at + set::VALUES)? + 8 * number)
}

/// A semaphore's word: the value, and who changed it last.
pub(crate) fn word(value: u32, pid: i32) -> u64 {
    u64::from(value) | u64::from(pid as u32) << 32
}

/// What operations have come to so far for one semaphore.
#[derive(Clone, Copy)]
struct Change {
    number: u16,
    value: i32,
    adjustment: i32,
}

/// What they have come to for all of them. Most are of one semaphore, which takes no memory from the
/// allocator.
#[derive(Default)]
struct Changes {
    first: Option<Change>,
    more: Vec<Change>,
}

impl Changes {
    /// That of a semaphore, which `begin` answers at first.
    fn of(
        &mut self,
        number: u16,
        begin: impl FnOnce() -> Result<(i32, i32)>,
    ) -> Result<&mut Change> {
        let is_known = |change: &Change| change.number == number;
        let known = self.more.iter().position(is_known);
        if !self.first.as_ref().is_some_and(is_known) && known.is_none() {
            let (value, adjustment) = begin()?;
            let new = Change {
                number,
                value,
                adjustment,
            };
            if self.first.is_some() {
                self.more.push(new);
                return self.more.last_mut().ok_or(Errno::UCLEAN);
            }
            self.first = Some(new);
        }
        match known {
            Some(place) => Ok(&mut self.more[place]),
            None => self.first.as_mut().ok_or(Errno::UCLEAN),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Change> {
        self.first.iter().chain(&self.more)
    }
}

impl Space {
    /// Does operations for a process if they can be done now.
    ///
    /// # Errors
    /// `ERANGE` if a value or an adjustment would be too large. Nothing has changed then.
    pub(crate) fn perform(
        &self,
        tx: &mut Tx,
        index: usize,
        operations: &[sembuf],
        of: usize,
        pid: i32,
    ) -> Result<Outcome> {
        let undoes = operations
            .iter()
            .any(|operation| operation.sem_flg & SEM_UNDO != 0);
        let undo = if undoes {
            Some(self.undo_of(tx, index, of)?)
        } else {
            None
        };
        let mut changes = Changes::default();
        for (place, operation) in operations.iter().enumerate() {
            let number = operation.sem_num;
            let change = changes.of(number, || {
                let value = tx.get(semaphore(tx, index, number.into())?)? as u32;
                let adjustment = match undo {
                    Some(undo) => adjustment(tx, undo, number.into())?,
                    None => 0,
                };
                Ok((value as i32, adjustment))
            })?;
            let amount = i32::from(operation.sem_op);
            let value = change.value.wrapping_add(amount);
            if amount == 0 && change.value != 0 || value < 0 {
                return Ok(Outcome::Blocks(place));
            }
            if value > i32::from(SEMVMX) {
                return Err(Errno::RANGE);
            }
            if operation.sem_flg & SEM_UNDO != 0 {
                change.adjustment -= amount;
                if !ADJUSTMENTS.contains(&change.adjustment) {
                    return Err(Errno::RANGE);
                }
            }
            change.value = value;
        }
        for change in changes.iter() {
            let at = semaphore(tx, index, change.number.into())?;
            tx.set(at, word(change.value as u32, pid))?;
            if let Some(undo) = undo {
                set_adjustment(tx, undo, change.number.into(), change.adjustment)?;
            }
        }
        tx.set(SEM.slot(index) + set::OPERATED, now())?;
        Ok(Outcome::Done)
    }

    /// Does what sleepers wait to do, after values have changed: first the tests for zero, then
    /// the others, each in the order of their arrival, and again from the start after each that
    /// changes values.
    pub(crate) fn serve_set(&self, inside: &mut Inside, index: usize) -> Result<()> {
        let ends = SEM.slot(index) + set::SLEEPERS;
        while inside.tx.get(ends)? != 0 {
            if !self.serve_one_that_alters(inside, index, ends)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn serve_one_that_alters(
        &self,
        inside: &mut Inside,
        index: usize,
        ends: usize,
    ) -> Result<bool> {
        let all = nodes(&inside.tx, ends, sleeper::OF_OBJECT)?;
        for alters in [0, 1] {
            for &node in &all {
                if inside.tx.get(node + operating::ALTERS)? != alters {
                    continue;
                }
                if self.try_for(inside, index, ends, node)? && alters == 1 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Tries a sleeper's operations, and answers whether they are done.
    fn try_for(&self, inside: &mut Inside, index: usize, ends: usize, node: usize) -> Result<bool> {
        let tx = &mut inside.tx;
        let of = tx.get_at(node + sleeper::PROCESS)? % crate::layout::PROCESSES;
        let list = operations(tx, node)?;
        let dry = self.blocks(tx, index, &list)?;
        if let Some(blocking) = dry
            && list[blocking].sem_flg & IPC_NOWAIT as i16 == 0
        {
            tx.set(node + operating::BLOCKING, blocking as u64)?;
            return Ok(false);
        }
        // Something is to happen: not for the dead.
        if self.sleeper_is_gone(tx, node)? {
            get_up(tx, node)?;
            return Ok(false);
        }
        let outcome = match dry {
            Some(_) => Err(Errno::AGAIN),
            None => self.perform(tx, index, &list, of, self.pid_of(of)),
        };
        let done = matches!(outcome, Ok(Outcome::Done));
        let answer = match outcome {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Blocks(_)) => Err(Errno::UCLEAN),
            Err(error) => Err(error),
        };
        sleepers::serve(inside, ends, node, answer)?;
        Ok(done)
    }

    /// Which operation can't be done now for want of a value; an error is found later.
    fn blocks(&self, tx: &Tx, index: usize, operations: &[sembuf]) -> Result<Option<usize>> {
        let mut changes = Changes::default();
        for (place, operation) in operations.iter().enumerate() {
            let number = operation.sem_num;
            let change = changes.of(number, || {
                let value = tx.get(semaphore(tx, index, number.into())?)? as u32;
                Ok((value as i32, 0))
            })?;
            let value = change.value.wrapping_add(operation.sem_op.into());
            if operation.sem_op == 0 && value != 0 || value < 0 {
                return Ok(Some(place));
            }
            if value > i32::from(SEMVMX) {
                return Ok(None);
            }
            change.value = value;
        }
        Ok(None)
    }
}
