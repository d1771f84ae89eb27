//! Adjustments (`SEM_UNDO`): what is given back when a process ends.

use crate::layout::{Facility, process, process_at, set, undo};
use crate::list::{nodes, push, remove};
use crate::sem::get_up;
use crate::sem_perform::{semaphore, word};
use crate::space::{Inside, Space, now};
use crate::table;
use shmem::journal::Tx;
use sysv::abi::{SEMVMX, sembuf};
use sysv::{Errno, Result};

const SEM: Facility = Facility::Sem;

/// The word that has an adjustment, and where in it: four to a word.
fn place(node: usize, number: usize) -> (usize, usize) {
    (node + undo::LAYOUT.size + number / 4 * 8, number % 4 * 16)
}

/// The adjustment for a semaphore.
pub(crate) fn adjustment(tx: &Tx, node: usize, number: usize) -> Result<i32> {
    let (at, shift) = place(node, number);
    Ok(i32::from((tx.get(at)? >> shift) as i16))
}

/// Changes the adjustment for a semaphore.
pub(crate) fn set_adjustment(tx: &mut Tx, node: usize, number: usize, value: i32) -> Result<()> {
    let (at, shift) = place(node, number);
    let others = tx.get(at)? & !(0xffff << shift);
    tx.set(at, others | u64::from(value as u16) << shift)
}

fn forget(tx: &mut Tx, node: usize) -> Result<()> {
    let of = tx.get_at(node + undo::PROCESS)? % crate::layout::PROCESSES;
    let index = tx.get_at(node + undo::SET)? % crate::layout::SLOTS;
    remove(tx, SEM.slot(index) + set::UNDOS, node, undo::OF_SET)?;
    let ends = process_at(of) + process::UNDOS;
    remove(tx, ends, node, undo::OF_PROCESS)?;
    SEM.heap().free(tx, node)
}

impl Space {
    /// The adjustments of a process for a set, made if there are none.
    pub(crate) fn undo_of(&self, tx: &mut Tx, index: usize, of: usize) -> Result<usize> {
        let ends = process_at(of) + process::UNDOS;
        let mut node = tx.get_at(ends)?;
        for _ in 0..crate::list::LONGEST {
            if node == 0 {
                return self.new_undo(tx, index, of);
            }
            if tx.get_at(node + undo::SET)? == index {
                return Ok(node);
            }
            node = tx.get_at(node + undo::OF_PROCESS)?;
        }
        Err(Errno::UCLEAN)
    }

    fn new_undo(&self, tx: &mut Tx, index: usize, of: usize) -> Result<usize> {
        let count = tx.get_at(SEM.slot(index) + set::COUNT)?;
        let words = count.div_ceil(4);
        let node = SEM.heap().allocate(tx, undo::LAYOUT.size + 8 * words)?;
        for number in 0..words {
            tx.set(node + undo::LAYOUT.size + 8 * number, 0)?;
        }
        tx.set(node + undo::PROCESS, of as u64)?;
        tx.set(node + undo::SET, index as u64)?;
        push(tx, SEM.slot(index) + set::UNDOS, node, undo::OF_SET)?;
        let ends = process_at(of) + process::UNDOS;
        push(tx, ends, node, undo::OF_PROCESS)?;
        Ok(node)
    }

    /// Sets the adjustments of all processes to 0, for one semaphore or for the whole set.
    pub(crate) fn clear_adjustments(
        &self,
        tx: &mut Tx,
        index: usize,
        number: Option<usize>,
    ) -> Result<()> {
        let words = tx.get_at(SEM.slot(index) + set::COUNT)?.div_ceil(4);
        for node in nodes(tx, SEM.slot(index) + set::UNDOS, undo::OF_SET)? {
            match number {
                Some(number) => set_adjustment(tx, node, number, 0)?,
                None => {
                    for word in 0..words {
                        tx.set(node + undo::LAYOUT.size + 8 * word, 0)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets that processes have adjustments for a set.
    pub(crate) fn forget_adjustments(&self, tx: &mut Tx, index: usize) -> Result<()> {
        for node in nodes(tx, SEM.slot(index) + set::UNDOS, undo::OF_SET)? {
            forget(tx, node)?;
        }
        Ok(())
    }

    /// Whether an operation that tests for zero may succeed only because a process that has died
    /// has not given back what it took: nothing else would make anybody look.
    pub(crate) fn someone_may_forbid_zero(
        &self,
        tx: &Tx,
        index: usize,
        operations: &[sembuf],
    ) -> Result<bool> {
        let ends = SEM.slot(index) + set::UNDOS;
        if tx.get(ends)? == 0 || operations.iter().all(|operation| operation.sem_op != 0) {
            return Ok(false);
        }
        for node in nodes(tx, ends, undo::OF_SET)? {
            let of = tx.get_at(node + undo::PROCESS)?;
            for operation in operations {
                let tests = operation.sem_op == 0 && of != self.me();
                if tests && adjustment(tx, node, operation.sem_num.into())? != 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Settles those who have died among a set's users, and serves who can go on then.
    pub(crate) fn settle_set(&self, inside: &mut Inside, index: usize) -> Result<()> {
        let at = SEM.slot(index);
        let tx = &inside.tx;
        let mut users = Self::owners(tx, at + set::UNDOS, undo::OF_SET, undo::PROCESS)?;
        let links = crate::layout::sleeper::OF_OBJECT;
        let owner = crate::layout::sleeper::PROCESS;
        users.extend(Self::owners(tx, at + set::SLEEPERS, links, owner)?);
        users.sort_unstable();
        users.dedup();
        for user in users {
            if user != self.me() && self.is_gone(user) {
                self.settle_sem(inside, user)?;
                self.release(user);
            }
        }
        Ok(())
    }

    /// What happens to a dead process's part in sets: its calls that slept are forgotten, its
    /// adjustments are applied if the process has ended, and not only its image.
    pub(crate) fn settle_sem(&self, inside: &mut Inside, index: usize) -> Result<()> {
        let ends = process_at(index) + process::SLEEPERS;
        for node in nodes(&inside.tx, ends, crate::layout::sleeper::OF_PROCESS)? {
            get_up(&mut inside.tx, node)?;
            inside.tx.commit();
        }
        if !self.has_ended(index) {
            return Ok(());
        }
        let pid = self.pid_of(index);
        let ends = process_at(index) + process::UNDOS;
        for node in nodes(&inside.tx, ends, undo::OF_PROCESS)? {
            self.apply(inside, node, pid)?;
            inside.tx.commit();
        }
        Ok(())
    }

    fn apply(&self, inside: &mut Inside, node: usize, pid: i32) -> Result<()> {
        let tx = &mut inside.tx;
        let index = tx.get_at(node + undo::SET)? % crate::layout::SLOTS;
        table::by_index(tx, SEM, index).map_err(|_| Errno::UCLEAN)?;
        let count = tx.get_at(SEM.slot(index) + set::COUNT)?;
        for number in 0..count {
            let amount = adjustment(tx, node, number)?;
            if amount == 0 {
                continue;
            }
            let at = semaphore(tx, index, number)?;
            let value = (tx.get(at)? as u32 as i32).wrapping_add(amount);
            let value = value.clamp(0, SEMVMX.into());
            tx.set(at, word(value as u32, pid))?;
        }
        tx.set(SEM.slot(index) + set::OPERATED, now())?;
        forget(tx, node)?;
        self.serve_set(inside, index)
    }

    /// Takes over the adjustments that this process had before `exec`.
    pub(crate) fn inherit_adjustments(&self) -> Result<()> {
        let me = self.me();
        for earlier in self.earlier_images(me) {
            let mut inside = self.enter(SEM)?;
            let tx = &mut inside.tx;
            let ends = process_at(earlier) + process::UNDOS;
            for node in nodes(tx, ends, undo::OF_PROCESS)? {
                remove(tx, ends, node, undo::OF_PROCESS)?;
                tx.set(node + undo::PROCESS, me as u64)?;
                let mine = process_at(me) + process::UNDOS;
                push(tx, mine, node, undo::OF_PROCESS)?;
                tx.commit();
            }
            inside.finish();
        }
        Ok(())
    }
}
