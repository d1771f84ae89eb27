//! Calls that sleep on queues.

use crate::layout::{Facility, process, process_at, queue, sleeper, waiting};
use crate::list::{nodes, remove};
use crate::msg::{fits, store};
use crate::msg_hand::Ask;
use crate::sleepers::{self, AGAIN, WAITS};
use crate::space::{Inside, Space};
use crate::table;
use shmem::journal::Tx;
use sysv::{Errno, Result};
use tombolo::mailbox_store::{Message, Wanted};

const MSG: Facility = Facility::Msg;

/// What a call sleeps for.
pub(crate) enum Sleeper {
    /// For room for a message.
    Sender {
        /// The message.
        message: Message,
    },
    /// For a message.
    Receiver {
        /// Which one.
        wanted: Wanted,
        /// How long its text may be.
        room: usize,
    },
}

/// Which of a queue's lists a sleeper is in.
fn list(tx: &Tx, node: usize) -> Result<usize> {
    let index = tx.get_at(node + sleeper::OBJECT)? % crate::layout::SLOTS;
    let sends = tx.get(node + waiting::SENDS)? != 0;
    let list = if sends {
        queue::SENDERS
    } else {
        queue::RECEIVERS
    };
    Ok(MSG.slot(index) + list)
}

impl Sleeper {
    /// Notes what is waited for, in the queue with an index, for a process.
    pub(crate) fn lie_down(&self, tx: &mut Tx, of: usize, index: usize) -> Result<usize> {
        let node = MSG.heap().allocate(tx, waiting::LAYOUT.size)?;
        let (sends, wanted, number, room, message) = match *self {
            Self::Sender { message } => (1, 0, 0, 0, message.offset()),
            Self::Receiver { wanted, room } => {
                let (wanted, number) = match wanted {
                    Wanted::Any => (0, 0),
                    Wanted::Type(number) => (1, number),
                    Wanted::UpTo(number) => (2, number),
                    Wanted::Except(number) => (3, number),
                };
                (0, wanted, number, room, 0)
            }
        };
        tx.set(node + waiting::SENDS, sends)?;
        tx.set(node + waiting::WANTED, wanted)?;
        tx.set(node + waiting::NUMBER, number)?;
        tx.set(node + waiting::ROOM, room as u64)?;
        tx.set(node + waiting::MESSAGE, message as u64)?;
        tx.set(node + waiting::CHECK, 0)?;
        tx.set(node + sleeper::OBJECT, index as u64)?;
        let ends = list(tx, node)?;
        sleepers::lie_down(tx, node, of, (index, ends), process::SENDERS)?;
        Ok(node)
    }

    /// Goes on waiting.
    pub(crate) fn lie_on(tx: &mut Tx, node: usize) -> Result<()> {
        tx.set(node + waiting::CHECK, 0)?;
        tx.set(node + sleeper::STATE, WAITS)
    }

    /// The message that a sleeper got, or has not come to send.
    pub(crate) fn take_message(tx: &mut Tx, node: usize) -> Result<Message> {
        let message = tx.get_at(node + waiting::MESSAGE)?;
        tx.set(node + waiting::MESSAGE, 0)?;
        Ok(Message::from_offset(message))
    }

    pub(crate) fn wanted(tx: &Tx, node: usize) -> Result<Wanted> {
        let number = tx.get(node + waiting::NUMBER)?;
        Ok(match tx.get(node + waiting::WANTED)? {
            0 => Wanted::Any,
            1 => Wanted::Type(number),
            2 => Wanted::UpTo(number),
            _ => Wanted::Except(number),
        })
    }

    /// Forgets a sleeper, whether or not it was served, and what it holds.
    pub(crate) fn get_up(tx: &mut Tx, node: usize) -> Result<()> {
        if sleepers::is_waiting(tx, node)? {
            let ends = list(tx, node)?;
            remove(tx, ends, node, sleeper::OF_OBJECT)?;
        }
        let message = Self::take_message(tx, node)?;
        if message.offset() != 0 {
            message.free(tx, &MSG.heap())?;
        }
        sleepers::get_up(tx, MSG, node, process::SENDERS)
    }
}

impl Space {
    /// Sends for those who waited for room and have it now.
    pub(crate) fn let_senders_in(&self, inside: &mut Inside, at: usize) -> Result<()> {
        let ends = at + queue::SENDERS;
        if inside.tx.get(ends)? == 0 {
            return Ok(());
        }
        for node in nodes(&inside.tx, ends, sleeper::OF_OBJECT)? {
            let tx = &mut inside.tx;
            if tx.get(node + sleeper::STATE)? == AGAIN {
                continue;
            }
            let message = Message::from_offset(tx.get_at(node + waiting::MESSAGE)?);
            let (_, length) = message.describe(tx, &MSG.heap())?;
            if !fits(tx, at, length)? {
                continue;
            }
            if self.sleeper_is_gone(tx, node)? {
                Sleeper::get_up(tx, node)?;
                continue;
            }
            if tx.get(node + waiting::CHECK)? != 0 {
                sleepers::rouse(inside, node)?;
                continue;
            }
            let sender = tx.get_at(node + sleeper::PROCESS)?;
            tx.set(node + waiting::MESSAGE, 0)?;
            sleepers::serve(inside, ends, node, Ok(()))?;
            self.send(inside, at, message, self.pid_of(sender), Ask::Before)?;
        }
        Ok(())
    }

    /// After a change of permissions: receivers look again at once, senders when there is room.
    pub(crate) fn have_checked(&self, inside: &mut Inside, at: usize) -> Result<()> {
        for node in nodes(&inside.tx, at + queue::RECEIVERS, sleeper::OF_OBJECT)? {
            sleepers::rouse(inside, node)?;
        }
        for node in nodes(&inside.tx, at + queue::SENDERS, sleeper::OF_OBJECT)? {
            inside.tx.set(node + waiting::CHECK, 1)?;
        }
        self.let_senders_in(inside, at)
    }

    /// Ends every wait on a queue that is removed.
    pub(crate) fn send_all_away(&self, inside: &mut Inside, at: usize) -> Result<()> {
        for list in [queue::RECEIVERS, queue::SENDERS] {
            for node in nodes(&inside.tx, at + list, sleeper::OF_OBJECT)? {
                sleepers::serve(inside, at + list, node, Err(Errno::IDRM))?;
            }
        }
        Ok(())
    }

    /// Forgets the calls of a dead process that slept on queues.
    pub(crate) fn settle_senders(&self, inside: &mut Inside, index: usize) -> Result<()> {
        let ends = process_at(index) + process::SENDERS;
        for node in nodes(&inside.tx, ends, sleeper::OF_PROCESS)? {
            Sleeper::get_up(&mut inside.tx, node)?;
            inside.tx.commit();
        }
        Ok(())
    }

    /// Gives back the messages of removed queues. Makes everything before final, and goes on in
    /// small transactions, since there may be more messages than a journal has room for.
    pub(crate) fn finish_dying_queues(&self, tx: &mut Tx) -> Result<()> {
        if table::first_buried(tx, MSG)?.is_none() {
            return Ok(());
        }
        tx.commit();
        while let Some(index) = table::first_buried(tx, MSG)? {
            let store = store(MSG.slot(index));
            let (count, _) = store.contents(tx)?;
            for _ in 0..count {
                let Some(found) = store.find(tx, Wanted::Any)? else {
                    break;
                };
                store.take(tx, found)?.free(tx, &MSG.heap())?;
                tx.commit();
            }
            store.clear(tx)?;
            table::set_free(tx, MSG, index)?;
            tx.commit();
        }
        Ok(())
    }
}
