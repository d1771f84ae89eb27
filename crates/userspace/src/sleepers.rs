//! Calls that sleep until somebody serves them.
//!
//! A call that has to wait leaves a block that says what it wants, in the list of the object and in
//! that of its process, and sleeps on the block's first word. Whoever makes the wait come to its
//! end does what is to be done *for* the sleeper, in the order in which they came, as the kernel
//! does: hands it the message, applies its operations. Then it takes it off the object's list and
//! changes the word. The sleeper believes the word only under the lock, because a transaction that
//! has changed it may still come to nothing.
//!
//! **Crash.** A sleeper that died is found dead before anything is done for it; or right after, by
//! `msgsnd`, which asks only if nobody was there to be woken ([`crate::msg_hand`]). Whoever serves and
//! dies after its commit has not woken anybody; a sleep ends after [`SLICE`] at the latest.

use crate::layout::{Facility, process_at, sleeper};
use crate::list::{push, remove};
use crate::process::index_of;
use crate::space::{Inside, Space};
use crate::spin::Turn;
use crate::{cancel, left, under_way};
use shmem::journal::Tx;
use shmem::sleep;
use shmem::sync::Ordering;
use shmem::wait::Patience;
use std::time::Duration;
use sysv::{Errno, Result};

/// It waits.
pub(crate) const WAITS: u64 = 1;
/// What it wanted has been done.
pub(crate) const SERVED: u64 = 2;
/// It has failed, with the error in `RESULT`.
pub(crate) const FAILED: u64 = 3;
/// It is to look again itself.
pub(crate) const AGAIN: u64 = 4;

/// The longest sleep.
const SLICE: Duration = Duration::from_millis(100);

/// How a sleep has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// With what was wanted.
    Served,
    /// With an error.
    Failed(Errno),
    /// It is to look again; it still stands in the object's list.
    Again,
    /// A slice is over; it still stands in the object's list.
    Slice,
    /// A signal handler has run; it still stands in the object's list.
    Interrupted,
    /// Patience has ended; it still stands in the object's list.
    Late,
}

/// Puts a sleeper into the lists of its object and of its process.
pub(crate) fn lie_down(
    tx: &mut Tx,
    node: usize,
    of: usize,
    (object, ends): (usize, usize),
    of_process: usize,
) -> Result<()> {
    tx.set(node + sleeper::STATE, WAITS)?;
    tx.set(node + sleeper::PROCESS, of as u64)?;
    tx.set(node + sleeper::OBJECT, object as u64)?;
    tx.set(node + sleeper::RESULT, 0)?;
    push(tx, ends, node, sleeper::OF_OBJECT)?;
    push(tx, process_at(of) + of_process, node, sleeper::OF_PROCESS)
}

/// What a sleeper's word says.
pub(crate) fn state(tx: &Tx, node: usize) -> Result<Woken> {
    Ok(match tx.get(node + sleeper::STATE)? {
        SERVED => Woken::Served,
        FAILED => {
            let error = tx.get(node + sleeper::RESULT)? as i32;
            Woken::Failed(Errno::from_raw_os_error(error.clamp(1, 4095)))
        }
        AGAIN => Woken::Again,
        _ => Woken::Slice,
    })
}

/// Whether a sleeper stands in its object's list.
pub(crate) fn is_waiting(tx: &Tx, node: usize) -> Result<bool> {
    Ok(matches!(tx.get(node + sleeper::STATE)?, WAITS | AGAIN))
}

/// Ends a sleeper's wait: takes it off the object's list and has it woken.
pub(crate) fn serve(
    inside: &mut Inside,
    ends: usize,
    node: usize,
    answer: Result<()>,
) -> Result<()> {
    end_wait(&mut inside.tx, ends, node, answer)?;
    inside.wakes.push(node);
    Ok(())
}

/// Ends a sleeper's wait for who wakes it himself.
pub(crate) fn end_wait(tx: &mut Tx, ends: usize, node: usize, answer: Result<()>) -> Result<()> {
    remove(tx, ends, node, sleeper::OF_OBJECT)?;
    let state = match answer {
        Ok(()) => SERVED,
        Err(error) => {
            tx.set(node + sleeper::RESULT, error.raw_os_error() as u64)?;
            FAILED
        }
    };
    tx.set(node + sleeper::STATE, state)
}

/// Has a sleeper look again.
pub(crate) fn rouse(inside: &mut Inside, node: usize) -> Result<()> {
    inside.tx.set(node + sleeper::STATE, AGAIN)?;
    inside.wakes.push(node);
    Ok(())
}

/// Takes a sleeper out of its process's list and gives its block back. It stands in no object's
/// list any more.
pub(crate) fn get_up(tx: &mut Tx, kind: Facility, node: usize, of_process: usize) -> Result<()> {
    let of = tx.get_at(node + sleeper::PROCESS)? % crate::layout::PROCESSES;
    remove(tx, process_at(of) + of_process, node, sleeper::OF_PROCESS)?;
    kind.heap().free(tx, node)
}

impl Space {
    /// Lets the lock go and looks until a word has changed, or the turn is over; answers under the
    /// lock.
    pub(crate) fn look<'s>(
        &'s self,
        before: Inside<'s>,
        turn: &mut Turn<'_>,
        kind: Facility,
        word: usize,
    ) -> Result<Inside<'s>> {
        let seen = before.tx.get(word)?;
        let blocked = before.finish_blocked();
        // Relaxed: whoever sees a change looks again under the lock.
        turn.look(|| self.region().load_u64(word, Ordering::Relaxed) != seen);
        self.enter_blocked(kind, blocked)
    }

    /// Lets the lock go and sleeps until something is to be done; answers under the lock what.
    pub(crate) fn sleep<'s>(
        &'s self,
        kind: Facility,
        before: Inside<'s>,
        node: usize,
        patience: Patience,
    ) -> Result<(Inside<'s>, Woken)> {
        let _asleep = left::note(kind, node, self.mine.load());
        let blocked = before.finish_blocked();
        under_way::sleeps();
        let slice = patience.slice(SLICE);
        let slept = sleep::sleep_taking_signals(self.region(), node, WAITS as u32, slice, &blocked);
        let inside = self.enter_blocked(kind, blocked)?;
        let tx = &inside.tx;
        let woken = match state(tx, node)? {
            Woken::Slice if slept == Err(Errno::INTR) => Woken::Interrupted,
            Woken::Slice if patience.is_over() => Woken::Late,
            Woken::Slice if kind == Facility::Msg && cancel::is_asked() => {
                Woken::Failed(Errno::RESTART)
            }
            woken => woken,
        };
        Ok((inside, woken))
    }

    /// The index of this process.
    pub(crate) fn me(&self) -> usize {
        index_of(self.mine.load())
    }

    /// Whether the process of a sleeper has died.
    pub(crate) fn sleeper_is_gone(&self, tx: &Tx, node: usize) -> Result<bool> {
        let of = tx.get_at(node + sleeper::PROCESS)? % crate::layout::PROCESSES;
        // Who sleeps lives, whatever else is known of him: far cheaper to ask for.
        let lives = of == self.me() || sleep::has_sleeper(self.region(), node, WAITS as u32);
        Ok(!lives && self.is_gone(of))
    }
}
