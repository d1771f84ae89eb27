//! `msgget`, `msgsnd`, `msgrcv`.

use crate::caller::{self, Caller, READ, WRITE};
use crate::layout::{Facility, header, queue};
use crate::msg_hand::Ask;
use crate::msg_lane::{End, Quick};
use crate::msg_wait::Sleeper;
use crate::sleepers::Woken;
use crate::space::{Inside, Space, now};
use crate::table::{self, Found};
use shmem::Bytes;
use shmem::journal::Tx;
use shmem::signals::Blocked;
use shmem::sync::Ordering;
use shmem::wait::Patience;
use sysv::abi::*;
use sysv::{Errno, Result};
use tombolo::mailbox_store::{Message, Place, Store, Wanted};

const MSG: Facility = Facility::Msg;
/// Bytes of a message of the kind that is hurried for.
const SHORT: usize = 100;

/// What becomes of a text that is received: it is cut to what was asked for, and copied out at once,
/// because others may have its memory next. Called under the lock, so it must not fail or wait.
pub type Deliver<'a> = dyn FnMut(Bytes<'_>) + 'a;

/// The messages of the queue whose slot is at `at`.
pub(crate) fn store(at: usize) -> Store {
    Store {
        root: at + queue::STORE,
        heap: MSG.heap(),
    }
}

/// Whether a queue has room for a text of that length.
pub(crate) fn fits(tx: &Tx, at: usize, length: usize) -> Result<bool> {
    let (count, bytes) = store(at).contents(tx)?;
    let capacity = tx.get(at + queue::CAPACITY)?;
    Ok(bytes.saturating_add(length as u64) <= capacity && count < capacity)
}

/// What `msgtyp` and the flags ask for.
fn wanted(message_type: i64, flags: i32) -> Wanted {
    match message_type {
        0 => Wanted::Any,
        number if number < 0 => Wanted::UpTo(number.unsigned_abs().min(i64::MAX as u64)),
        number if flags & MSG_EXCEPT != 0 => Wanted::Except(number as u64),
        number => Wanted::Type(number as u64),
    }
}

impl Space {
    /// Finds or makes a queue.
    ///
    /// # Errors
    /// Those of `msgget`; `EUCLEAN` if the registry is damaged.
    pub fn msgget(&self, caller: &dyn Caller, key: i32, flags: i32) -> Result<i32> {
        let mut inside = self.enter(MSG)?;
        let tx = &mut inside.tx;
        let id = match table::get(tx, MSG, key, flags, |_, _| Ok(()))? {
            Found::Slot(index) => table::found(tx, MSG, index, flags, caller, self.user_space)?,
            Found::Create => {
                let limits = self.limits();
                let index = table::add(tx, MSG, key, flags, caller, limits.msgmni)?;
                tx.set(MSG.slot(index) + queue::CAPACITY, limits.msgmnb)?;
                table::id(tx, MSG, index)?
            }
        };
        inside.finish();
        Ok(id)
    }

    /// Whether a message can be sent at all: what is to be found out before its text is read.
    ///
    /// # Errors
    /// `EINVAL` if the id is negative, the text too long, or the type below 1.
    pub fn check_message(&self, id: i32, message_type: i64, size: usize) -> Result<()> {
        let most = self.limit(header::MSGMAX);
        if size as u64 > most || (size as isize) < 0 || id < 0 || message_type < 1 {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    /// Appends a message, waiting for room unless the flags have `IPC_NOWAIT`.
    ///
    /// # Errors
    /// Those of `msgsnd`; `EUCLEAN` if the registry is damaged.
    pub fn msgsnd(
        &self,
        caller: &dyn Caller,
        id: i32,
        message_type: i64,
        text: &[u8],
        flags: i32,
    ) -> Result<()> {
        self.check_message(id, message_type, text.len())?;
        let me = self.identity()?;
        let mut turn = self.spin[0].turn();
        let mut blocked = Blocked::handlers();
        loop {
            match self.send_by_lane(me, caller, id, message_type as u64, text)? {
                Quick::Done(()) => {
                    turn.succeed();
                    return Ok(());
                }
                Quick::Wait(_) if flags & IPC_NOWAIT != 0 => return Err(Errno::AGAIN),
                Quick::Wait(watch) if !turn.is_over() => {
                    self.look_at(&mut turn, &watch);
                    continue;
                }
                Quick::Full(watch) if self.look_for_room(&watch) => continue,
                Quick::Wait(_) | Quick::Full(_) | Quick::Closed => {}
            }
            let mut inside = self.enter_blocked(MSG, blocked)?;
            let index = self.queue(&mut inside, id)?;
            let (at, tx) = (MSG.slot(index), &mut inside.tx);
            caller::allow(tx, at, caller, WRITE, self.user_space)?;
            expect_writes(tx, at);
            let room = fits(tx, at, text.len())?;
            if !room && flags & IPC_NOWAIT != 0 {
                return Err(Errno::AGAIN);
            }
            if !room && !turn.is_over() {
                let watch = self.watch(index, End::Sending);
                blocked = inside.finish_blocked();
                self.look_at(&mut turn, &watch);
                continue;
            }
            let message = Message::new(tx, &MSG.heap(), message_type as u64, text)?;
            if room {
                turn.succeed();
                self.send(&mut inside, at, message, self.pid(), Ask::After)?;
                return self.wake_or_take_back(inside, id);
            }
            turn.fail();
            let node = Sleeper::Sender { message }.lie_down(tx, self.me(), index)?;
            return self.wait_for_room(inside, caller, (node, at), text.len());
        }
    }

    fn wait_for_room<'s>(
        &'s self,
        mut inside: Inside<'s>,
        caller: &dyn Caller,
        (node, at): (usize, usize),
        length: usize,
    ) -> Result<()> {
        loop {
            let woken;
            (inside, woken) = self.sleep(MSG, inside, node, Patience::FOREVER)?;
            let answer = match woken {
                Woken::Served => Some(Ok(())),
                Woken::Failed(error) => Some(Err(error)),
                Woken::Slice | Woken::Late => None,
                Woken::Interrupted => Some(Err(Errno::INTR)),
                Woken::Again => {
                    let tx = &inside.tx;
                    match caller::allow(tx, at, caller, WRITE, self.user_space) {
                        Err(error) => Some(Err(error)),
                        Ok(()) if fits(tx, at, length)? => {
                            let message = Sleeper::take_message(&mut inside.tx, node)?;
                            self.send(&mut inside, at, message, self.pid(), Ask::Before)?;
                            Some(Ok(()))
                        }
                        Ok(()) => {
                            Sleeper::lie_on(&mut inside.tx, node)?;
                            None
                        }
                    }
                }
            };
            if let Some(answer) = answer {
                Sleeper::get_up(&mut inside.tx, node)?;
                inside.finish();
                return answer;
            }
        }
    }

    /// Puts a message into a queue that has room, or straight into the hands of who waits for it.
    pub(crate) fn send(
        &self,
        inside: &mut Inside,
        at: usize,
        message: Message,
        sender: i32,
        ask: Ask,
    ) -> Result<()> {
        inside.tx.set(at + queue::SENDER, sender as u64)?;
        inside.tx.set(at + queue::SENT, now())?;
        if self.hand_over(inside, at, message, ask)? {
            return Ok(());
        }
        tell_of_move(&inside.tx, at);
        store(at).append(&mut inside.tx, message)
    }

    /// Takes a message of up to `size` bytes, waiting for one unless the flags have `IPC_NOWAIT`, and
    /// answers its type.
    ///
    /// # Errors
    /// Those of `msgrcv`; `EUCLEAN` if the registry is damaged.
    pub fn msgrcv(
        &self,
        caller: &dyn Caller,
        id: i32,
        size: usize,
        message_type: i64,
        flags: i32,
        deliver: &mut Deliver,
    ) -> Result<i64> {
        if id < 0 || (size as isize) < 0 {
            return Err(Errno::INVAL);
        }
        if flags & MSG_COPY != 0 {
            return self.copy(caller, id, size, message_type, flags, deliver);
        }
        let wanted = wanted(message_type, flags);
        let me = self.identity()?;
        let mut turn = self.spin[0].turn();
        let mut blocked = Blocked::handlers();
        let (mut inside, index, at) = loop {
            let quick = self.receive_by_lane(me, caller, id, wanted, (size, flags), deliver)?;
            match quick {
                Quick::Done(number) => {
                    turn.succeed();
                    return Ok(number);
                }
                Quick::Wait(_) if flags & IPC_NOWAIT != 0 => return Err(Errno::NOMSG),
                Quick::Wait(watch) if !turn.is_over() => {
                    self.look_at(&mut turn, &watch);
                    continue;
                }
                Quick::Wait(_) | Quick::Full(_) | Quick::Closed => {}
            }
            let mut inside = self.enter_blocked(MSG, blocked)?;
            let index = table::by_id(&inside.tx, MSG, id)?;
            let at = MSG.slot(index);
            caller::allow(&inside.tx, at, caller, READ, self.user_space)?;
            expect_writes(&inside.tx, at);
            if let Some(found) = self.find_oldest(&mut inside, index, wanted)? {
                turn.succeed();
                return self.receive(inside, at, found, size, flags, deliver);
            }
            if flags & IPC_NOWAIT != 0 {
                inside.finish();
                return Err(Errno::NOMSG);
            }
            if turn.is_over() {
                break (inside, index, at);
            }
            let watch = self.watch(index, End::Receiving);
            blocked = inside.finish_blocked();
            self.look_at(&mut turn, &watch);
        };
        turn.fail();
        let room = if flags & MSG_NOERROR != 0 {
            usize::MAX
        } else {
            size
        };
        let sleeper = Sleeper::Receiver { wanted, room };
        let node = sleeper.lie_down(&mut inside.tx, self.me(), index)?;
        loop {
            let woken;
            (inside, woken) = self.sleep(MSG, inside, node, Patience::FOREVER)?;
            inside.queue = Some(index);
            let tx = &mut inside.tx;
            let answer = match woken {
                Woken::Served => {
                    let message = Sleeper::take_message(tx, node)?;
                    Ok(open(tx, message, size, deliver)?)
                }
                Woken::Failed(error) => Err(error),
                Woken::Interrupted => Err(Errno::INTR),
                Woken::Again => match caller::allow(tx, at, caller, READ, self.user_space) {
                    Err(error) => Err(error),
                    Ok(()) => {
                        if let Some(found) = store(at).find(tx, wanted)? {
                            Sleeper::get_up(tx, node)?;
                            return self.receive(inside, at, found, size, flags, deliver);
                        }
                        Sleeper::lie_on(tx, node)?;
                        continue;
                    }
                },
                Woken::Slice | Woken::Late => continue,
            };
            Sleeper::get_up(tx, node)?;
            inside.finish();
            return answer;
        }
    }

    /// Takes a message that stands in the queue.
    fn receive(
        &self,
        mut inside: Inside,
        at: usize,
        found: Place,
        size: usize,
        flags: i32,
        deliver: &mut Deliver,
    ) -> Result<i64> {
        let tx = &mut inside.tx;
        let (_, length) = found.message().describe(tx, &MSG.heap())?;
        if length > size && flags & MSG_NOERROR == 0 {
            // What came before this, a sleeper that got up, stays.
            inside.finish();
            return Err(Errno::TOOBIG);
        }
        tell_of_move(tx, at);
        let message = store(at).take(tx, found)?;
        let received = open(tx, message, size, deliver)?;
        tx.set(at + queue::RECEIVER, self.pid() as u64)?;
        tx.set(at + queue::RECEIVED, now())?;
        self.let_senders_in(&mut inside, at)?;
        inside.finish();
        Ok(received)
    }

    /// `MSG_COPY`: the message at a position, which stays.
    fn copy(
        &self,
        caller: &dyn Caller,
        id: i32,
        size: usize,
        position: i64,
        flags: i32,
        deliver: &mut Deliver,
    ) -> Result<i64> {
        if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
            return Err(Errno::INVAL);
        }
        let mut inside = self.enter(MSG)?;
        let at = MSG.slot(self.queue(&mut inside, id)?);
        let tx = &inside.tx;
        caller::allow(tx, at, caller, READ, self.user_space)?;
        let position = u64::try_from(position).map_err(|_| Errno::NOMSG)?;
        let found = store(at).at(tx, position)?.ok_or(Errno::NOMSG)?.message();
        let (number, length) = found.describe(tx, &MSG.heap())?;
        if length > size {
            return Err(if flags & MSG_NOERROR == 0 {
                Errno::TOOBIG
            } else {
                Errno::INVAL
            });
        }
        deliver(text(tx, found, length)?);
        inside.finish();
        Ok(number as i64)
    }
}

/// Delivers a message that stands in no queue any more, and gives its block back.
fn open(tx: &mut Tx, message: Message, size: usize, deliver: &mut Deliver) -> Result<i64> {
    let (number, length) = message.describe(tx, &MSG.heap())?;
    deliver(text(tx, message, length.min(size))?);
    message.free(tx, &MSG.heap())?;
    Ok(number as i64)
}

/// The first bytes of a message's text.
fn text<'a>(tx: &Tx<'a>, message: Message, length: usize) -> Result<Bytes<'a>> {
    Bytes::new(tx.region(), message.text(), length).map_err(|_| Errno::UCLEAN)
}

/// Has the processor fetch what every call on a queue writes.
#[inline]
fn expect_writes(tx: &Tx, at: usize) {
    for line in [64, 128] {
        tx.region().expect_write(at + line);
    }
    tx.region().expect_write(MSG.heap().free_list(SHORT));
}

/// Has those look again who look without the lock: before the move, so that they come for the lock
/// while it is made. Not by journal: they only look once too often if nothing comes of it.
#[inline]
fn tell_of_move(tx: &Tx, at: usize) {
    let word = tx.region().u64(at + queue::MOVES);
    // Relaxed, both: the lock's holder alone writes it, and whoever sees it takes the lock.
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}
