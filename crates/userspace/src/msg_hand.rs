//! Handing a message to who waits for it.
//!
//! ```text
//!   msgsnd        under the lock: the message into the receiver's block, its wait is over
//!                 without it:     wake the receiver
//!                                 nobody slept there? is it dead? ──► under the lock: take the
//!                                                                     message back, send it again
//! ```
//!
//! A receiver may have been killed while it slept, and then must get nothing. To ask before takes a
//! system call. So `msgsnd` hands over first: whoever is woken afterwards lived. Only if nobody was
//! (who is about to sleep, or was interrupted, sleeps not) does it ask, and makes good. Its call has
//! not returned then, so for everybody it happens when the message is sent again.
//!
//! **Crash.** If the sender dies in between, the message is the dead receiver's, and goes with it:
//! neither call has returned.
//!
//! **Limits.** If in between another process settles all dead ones, because the table of processes is
//! full, the message goes with the receiver, too.

use crate::layout::{Facility, PROCESSES, process, process_at, queue, sleeper, waiting};
use crate::list::nodes;
use crate::msg_wait::Sleeper;
use crate::sleepers::{self, AGAIN, SERVED};
use crate::space::{Inside, Space, now};
use shmem::journal::Tx;
use shmem::sleep;
use sysv::{Errno, Result};
use tombolo::mailbox_store::Message;

const MSG: Facility = Facility::Msg;

/// When it is asked whether a receiver lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Before it gets the message.
    Before,
    /// Afterwards, by [`Space::wake_or_take_back`].
    After,
}

/// Who got a message and was not asked whether he lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handed {
    node: usize,
    receiver: usize,
    identity: u64,
    /// Who received last before, and when.
    before: (u64, u64),
}

impl Space {
    /// Hands a message to the first who waits for one like it, if anybody does.
    pub(crate) fn hand_over(
        &self,
        inside: &mut Inside,
        at: usize,
        message: Message,
        ask: Ask,
    ) -> Result<bool> {
        let ends = at + queue::RECEIVERS;
        if inside.tx.get(ends)? == 0 {
            return Ok(false);
        }
        let (number, length) = message.describe(&inside.tx, &MSG.heap())?;
        for node in nodes(&inside.tx, ends, sleeper::OF_OBJECT)? {
            let tx = &mut inside.tx;
            // Who is to look again finds the message itself.
            let looks = tx.get(node + sleeper::STATE)? == AGAIN;
            if looks || !Sleeper::wanted(tx, node)?.suits(number) {
                continue;
            }
            let fits = tx.get(node + waiting::ROOM)? >= length as u64;
            if (ask == Ask::Before || !fits) && self.sleeper_is_gone(tx, node)? {
                Sleeper::get_up(tx, node)?;
                continue;
            }
            if !fits {
                sleepers::serve(inside, ends, node, Err(Errno::TOOBIG))?;
                continue;
            }
            let receiver = tx.get_at(node + sleeper::PROCESS)? % PROCESSES;
            tx.set(node + waiting::MESSAGE, message.offset() as u64)?;
            let before = (tx.get(at + queue::RECEIVER)?, tx.get(at + queue::RECEIVED)?);
            tx.set(at + queue::RECEIVER, self.pid_of(receiver) as u64)?;
            tx.set(at + queue::RECEIVED, now())?;
            sleepers::end_wait(tx, ends, node, Ok(()))?;
            match ask {
                Ask::Before => inside.wakes.push(node),
                Ask::After => {
                    inside.handed = Some(Handed {
                        node,
                        receiver,
                        identity: self.identity_of(receiver),
                        before,
                    });
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes the changes final and wakes those whom they concern, among them who was handed a
    /// message to the queue with an id; if he is dead, sends it again.
    pub(crate) fn wake_or_take_back(&self, inside: Inside, id: i32) -> Result<()> {
        let handed = inside.handed;
        let blocked = inside.finish_blocked();
        let Some(handed) = handed else {
            return Ok(());
        };
        if sleep::wake(self.region(), handed.node) || self.image_lives(handed.identity) {
            return Ok(());
        }
        let mut inside = self.enter_blocked(MSG, blocked)?;
        // Before anything else: it makes final what was done.
        let queue = self.queue(&mut inside, id);
        let Some(message) = self.take_back(&mut inside, handed)? else {
            inside.finish();
            return Ok(());
        };
        match queue {
            // It would have gone with the queue.
            Err(_) => message.free(&mut inside.tx, &MSG.heap())?,
            Ok(index) => {
                self.forget_receipt(&mut inside.tx, MSG.slot(index), handed)?;
                self.send(
                    &mut inside,
                    MSG.slot(index),
                    message,
                    self.pid(),
                    Ask::Before,
                )?;
            }
        }
        inside.finish();
        Ok(())
    }

    /// Nobody has received that, so the queue's status is as it was; unless another has received
    /// since.
    fn forget_receipt(&self, tx: &mut Tx, at: usize, handed: Handed) -> Result<()> {
        if tx.get(at + queue::RECEIVER)? == self.pid_of(handed.receiver) as u64 {
            tx.set(at + queue::RECEIVER, handed.before.0)?;
            tx.set(at + queue::RECEIVED, handed.before.1)?;
        }
        Ok(())
    }

    /// The message that a dead process was handed, if it still has it.
    fn take_back(&self, inside: &mut Inside, handed: Handed) -> Result<Option<Message>> {
        let tx = &mut inside.tx;
        if self.identity_of(handed.receiver) != handed.identity {
            return Ok(None);
        }
        let ends = process_at(handed.receiver) + process::SENDERS;
        let has_it = nodes(tx, ends, sleeper::OF_PROCESS)?.contains(&handed.node)
            && tx.get(handed.node + sleeper::STATE)? == SERVED
            && tx.get(handed.node + waiting::SENDS)? == 0;
        if !has_it {
            return Ok(None);
        }
        let message = Sleeper::take_message(tx, handed.node)?;
        Sleeper::get_up(tx, handed.node)?;
        Ok((message.offset() != 0).then_some(message))
    }
}
