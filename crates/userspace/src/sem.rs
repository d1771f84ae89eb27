//! `semget`, `semop`, `semtimedop`.

use crate::caller::{self, Caller, READ, WRITE};
use crate::layout::{Facility, facility, header, operating, process, set, sleeper};
use crate::list::remove;
use crate::sem_perform::{Outcome, semaphore};
use crate::sleepers::{self, Woken};
use crate::space::{Inside, Space};
use crate::table::{self, Found};
use shmem::journal::Tx;
use shmem::wait::Patience;
use std::time::Duration;
use sysv::abi::*;
use sysv::{Errno, Result};

const SEM: Facility = Facility::Sem;

/// How long `semtimedop` waits.
fn patience(timeout: Option<timespec>) -> Result<Patience> {
    let Some(timeout) = timeout else {
        return Ok(Patience::FOREVER);
    };
    let seconds = u64::try_from(timeout.tv_sec).map_err(|_| Errno::INVAL)?;
    let nanoseconds = u32::try_from(timeout.tv_nsec).map_err(|_| Errno::INVAL)?;
    if nanoseconds >= 1_000_000_000 {
        return Err(Errno::INVAL);
    }
    Ok(Patience::from(Duration::new(seconds, nanoseconds)))
}

impl Space {
    /// Finds or makes a set of `count` semaphores.
    ///
    /// # Errors
    /// Those of `semget`; `EUCLEAN` if the registry is damaged.
    pub fn semget(&self, caller: &dyn Caller, key: i32, count: i32, flags: i32) -> Result<i32> {
        let limits = self.limits();
        let count = u64::try_from(count).map_err(|_| Errno::INVAL)?;
        if count > limits.semmsl {
            return Err(Errno::INVAL);
        }
        let mut inside = self.enter(SEM)?;
        let tx = &mut inside.tx;
        let suits = |tx: &Tx, at: usize| {
            if tx.get(at + set::COUNT)? < count {
                Err(Errno::INVAL)
            } else {
                Ok(())
            }
        };
        let id = match table::get(tx, SEM, key, flags, suits)? {
            Found::Slot(index) => table::found(tx, SEM, index, flags, caller, self.user_space)?,
            Found::Create => {
                if count == 0 {
                    return Err(Errno::INVAL);
                }
                let total = tx.get(SEM.at() + facility::TOTAL)?;
                if total.saturating_add(count) > limits.semmns {
                    return Err(Errno::NOSPC);
                }
                let values = SEM.heap().allocate(tx, count as usize * 8)?;
                for number in 0..count as usize {
                    tx.set(values + 8 * number, 0)?;
                }
                let index = table::add(tx, SEM, key, flags, caller, limits.semmni)?;
                tx.set(SEM.slot(index) + set::COUNT, count)?;
                tx.set(SEM.slot(index) + set::VALUES, values as u64)?;
                tx.set(SEM.at() + facility::TOTAL, total + count)?;
                table::id(tx, SEM, index)?
            }
        };
        inside.finish();
        Ok(id)
    }

    /// Whether so many operations can be done at all: what is to be found out before they are
    /// read.
    ///
    /// # Errors
    /// `E2BIG` if there are more than SEMOPM, `EINVAL` if there is none.
    pub fn check_operations(&self, count: usize) -> Result<()> {
        if count as u64 > self.limit(header::SEMOPM) {
            return Err(Errno::TOOBIG);
        }
        if count == 0 {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    /// Does all operations or none, waiting until that is possible, or as long as `timeout` says.
    ///
    /// # Errors
    /// Those of `semtimedop`; `EUCLEAN` if the registry is damaged.
    pub fn semtimedop(
        &self,
        caller: &dyn Caller,
        id: i32,
        operations: &[sembuf],
        timeout: Option<timespec>,
    ) -> Result<()> {
        self.check_operations(operations.len())?;
        if id < 0 {
            return Err(Errno::INVAL);
        }
        let patience = patience(timeout)?;
        let alters = operations.iter().any(|operation| operation.sem_op != 0);
        let mut turn = self.spin[1].turn();
        if let Some(left) = patience.left() {
            turn.limit(left);
        }
        let mut inside = self.enter(SEM)?;
        loop {
            let index = table::by_id(&inside.tx, SEM, id)?;
            let at = SEM.slot(index);
            let me = self.me();
            if operations
                .iter()
                .any(|operation| operation.sem_flg & SEM_UNDO != 0)
            {
                // As the kernel does, before anything is refused: at the end of a process that has
                // adjustments, if only of 0, the set's time moves.
                self.undo_of(&mut inside.tx, index, me)?;
            }
            let refused = self.refuse(&inside.tx, caller, at, operations, alters);
            if let Err(error) = refused {
                inside.finish();
                return Err(error);
            }
            if self.someone_may_forbid_zero(&inside.tx, index, operations)? {
                self.settle_set(&mut inside, index)?;
            }
            let mut outcome = self.perform(&mut inside.tx, index, operations, me, self.pid());
            if let Ok(Outcome::Blocks(blocking)) = outcome
                && !turn.is_over()
                && is_patient(&operations[blocking])
            {
                let number = operations[blocking].sem_num.into();
                let word = semaphore(&inside.tx, index, number)?;
                inside = self.look(inside, &mut turn, SEM, word)?;
                continue;
            }
            if !matches!(outcome, Ok(Outcome::Done)) {
                // What the dead give back may make it possible, or impossible in another way.
                self.settle_set(&mut inside, index)?;
                outcome = self.perform(&mut inside.tx, index, operations, me, self.pid());
            }
            let blocking = match outcome {
                Ok(Outcome::Done) => {
                    turn.succeed();
                    if alters {
                        self.serve_set(&mut inside, index)?;
                    }
                    inside.finish();
                    return Ok(());
                }
                Ok(Outcome::Blocks(blocking)) => blocking,
                Err(error) => {
                    // Settling has happened, whatever comes of this call.
                    inside.finish();
                    return Err(error);
                }
            };
            if !is_patient(&operations[blocking]) || patience.is_over() {
                inside.finish();
                return Err(Errno::AGAIN);
            }
            turn.fail();
            let node = lie_down(&mut inside.tx, me, index, operations, blocking)?;
            return self.wait_for_set(inside, node, index, patience);
        }
    }

    /// Fails if a semaphore is none of the set's, or the caller may not do that.
    fn refuse(
        &self,
        tx: &Tx,
        caller: &dyn Caller,
        at: usize,
        operations: &[sembuf],
        alters: bool,
    ) -> Result<()> {
        let count = tx.get(at + set::COUNT)?;
        if operations
            .iter()
            .any(|operation| u64::from(operation.sem_num) >= count)
        {
            return Err(Errno::FBIG);
        }
        let wanted = if alters { WRITE } else { READ };
        caller::allow(tx, at, caller, wanted, self.user_space)
    }

    fn wait_for_set<'s>(
        &'s self,
        mut inside: Inside<'s>,
        node: usize,
        index: usize,
        patience: Patience,
    ) -> Result<()> {
        loop {
            let mut woken;
            (inside, woken) = self.sleep(SEM, inside, node, patience)?;
            if matches!(woken, Woken::Slice | Woken::Again) {
                // Nobody tells when a holder dies.
                self.settle_set(&mut inside, index)?;
                woken = sleepers::state(&inside.tx, node)?;
            }
            let answer = match woken {
                Woken::Served => Ok(()),
                Woken::Failed(error) => Err(error),
                Woken::Interrupted => Err(Errno::INTR),
                Woken::Late => Err(Errno::AGAIN),
                Woken::Slice | Woken::Again => continue,
            };
            get_up(&mut inside.tx, node)?;
            inside.finish();
            return answer;
        }
    }
}

/// Whether an operation that can't be done waits.
fn is_patient(operation: &sembuf) -> bool {
    operation.sem_flg & IPC_NOWAIT as i16 == 0
}

/// Notes what is waited for.
fn lie_down(
    tx: &mut Tx,
    of: usize,
    index: usize,
    operations: &[sembuf],
    blocking: usize,
) -> Result<usize> {
    let size = operating::LAYOUT.size + 8 * operations.len();
    let node = SEM.heap().allocate(tx, size)?;
    let alters = operations.iter().any(|operation| operation.sem_op != 0);
    tx.set(node + operating::COUNT, operations.len() as u64)?;
    tx.set(node + operating::BLOCKING, blocking as u64)?;
    tx.set(node + operating::ALTERS, u64::from(alters))?;
    for (place, operation) in operations.iter().enumerate() {
        let word = u64::from(operation.sem_num)
            | u64::from(operation.sem_op as u16) << 16
            | u64::from(operation.sem_flg as u16) << 32;
        tx.set(node + operating::LAYOUT.size + 8 * place, word)?;
    }
    let ends = SEM.slot(index) + set::SLEEPERS;
    sleepers::lie_down(tx, node, of, (index, ends), process::SLEEPERS)?;
    Ok(node)
}

/// The operations that a sleeper waits to do.
pub(crate) fn operations(tx: &Tx, node: usize) -> Result<Vec<sembuf>> {
    let count = tx.get_at(node + operating::COUNT)?;
    let size = count
        .checked_mul(8)
        .and_then(|size| size.checked_add(operating::LAYOUT.size));
    SEM.heap().holds(tx, node, size.ok_or(Errno::UCLEAN)?)?;
    (0..count)
        .map(|place| {
            let word = tx.get(node + operating::LAYOUT.size + 8 * place)?;
            Ok(sembuf {
                sem_num: word as u16,
                sem_op: (word >> 16) as i16,
                sem_flg: (word >> 32) as i16,
            })
        })
        .collect()
}

/// Forgets a sleeper, whether or not it was served.
pub(crate) fn get_up(tx: &mut Tx, node: usize) -> Result<()> {
    if sleepers::is_waiting(tx, node)? {
        let index = tx.get_at(node + sleeper::OBJECT)? % crate::layout::SLOTS;
        let ends = SEM.slot(index) + set::SLEEPERS;
        remove(tx, ends, node, sleeper::OF_OBJECT)?;
    }
    sleepers::get_up(tx, SEM, node, process::SLEEPERS)
}
