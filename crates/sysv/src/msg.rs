//! Message queues: typed messages that the kernel keeps, in order, until somebody takes them.

use crate::abi::{
    IPC_CREAT, IPC_EXCL, IPC_NOWAIT, MSG_COPY, MSG_EXCEPT, MSG_NOERROR, msginfo, msqid_ds,
};
use crate::shim::{self, TYPE_BYTES, Whose};
use crate::{Calls, Errno, Kernel, Key, Mode, Perm, Result, perm};

/// A message queue, by its id.
///
/// The handle owns nothing: the queue and its messages live until it is [removed](Self::remove).
/// Any peer with the right may take messages, change the capacity or the mode, or remove the
/// queue at any time.
///
/// # Examples
/// ```
/// use sysv::{Key, Mode, Queue, Select, Wait};
///
/// let queue = Queue::create(Key::PRIVATE, Mode::default())?;
/// let story = || {
///     queue.send(7, b"seven", Wait::Block)?;
///     queue.send(3, b"three", Wait::Block)?;
///     let mut text = Vec::new();
///     let received = queue.receive(Select::UpTo(9), &mut text, Wait::Block)?;
///     Ok::<_, sysv::Errno>((received.message_type, text))
/// };
/// let received = story();
/// queue.remove()?;
/// assert_eq!(received, Ok((3, b"three".to_vec())));
/// # Ok::<(), sysv::Errno>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue<C: Calls + Copy = Kernel> {
    calls: C,
    id: i32,
}

/// What a call does when it cannot go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Waits, and goes on waiting when a signal handler has run.
    Block,
    /// Waits, and answers [`Errno::INTR`] when a signal handler has run.
    Interruptible,
    /// Does not wait (`IPC_NOWAIT`).
    Never,
}

impl Wait {
    const fn flags(self) -> i32 {
        match self {
            Self::Never => IPC_NOWAIT,
            Self::Block | Self::Interruptible => 0,
        }
    }

    /// Calls until the answer is one that this caller wants to hear.
    fn retry<T>(self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match call() {
                Err(Errno::INTR) if self == Self::Block => {}
                answer => return answer,
            }
        }
    }
}

/// Which message is wanted. Types are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// The oldest.
    Any,
    /// The oldest of this type.
    Type(i64),
    /// The oldest of the lowest type that is no higher than this one.
    UpTo(i64),
    /// The oldest of any type but this one.
    #[doc(alias = "MSG_EXCEPT")]
    Except(i64),
    /// A copy of the message at this position, counted from 0, the oldest. It stays in the
    /// queue, nothing about the queue changes, and the call never waits. Needs a kernel with
    /// checkpoint and restore; [`Errno::NOSYS`] otherwise.
    #[doc(alias = "MSG_COPY")]
    At(usize),
}

impl Select {
    /// The type argument of `msgrcv`, and flags.
    fn arguments(self) -> Result<(i64, i32)> {
        match self {
            Self::Any => Ok((0, 0)),
            Self::Type(t) if t > 0 => Ok((t, 0)),
            Self::UpTo(t) if t > 0 => Ok((-t, 0)),
            Self::Except(t) if t > 0 => Ok((t, MSG_EXCEPT)),
            Self::At(n) => i64::try_from(n)
                .map(|n| (n, MSG_COPY | IPC_NOWAIT))
                .map_err(|_| Errno::NOMSG),
            Self::Type(_) | Self::UpTo(_) | Self::Except(_) => Err(Errno::INVAL),
        }
    }
}

/// What came with a message's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    /// The type.
    pub message_type: i64,
    /// Bytes of text that were handed over.
    pub length: usize,
    /// Whether the message was longer than that and its rest is lost.
    pub truncated: bool,
}

impl Queue {
    /// Makes a queue that must not exist.
    ///
    /// # Errors
    /// As [`create_in`](Self::create_in).
    #[doc(alias = "msgget")]
    pub fn create(key: Key, mode: Mode) -> Result<Self> {
        Self::create_in(Kernel, key, mode)
    }

    /// Finds the queue of a key, of whatever mode.
    ///
    /// # Errors
    /// [`Errno::NOENT`]: there is none; always so for [`Key::PRIVATE`].
    #[doc(alias = "msgget")]
    pub fn open(key: Key) -> Result<Self> {
        Self::open_in(Kernel, key)
    }

    /// Finds the queue of a key, or makes it.
    ///
    /// # Errors
    /// As [`open_or_create_in`](Self::open_or_create_in).
    #[doc(alias = "msgget")]
    pub fn open_or_create(key: Key, mode: Mode) -> Result<Self> {
        Self::open_or_create_in(Kernel, key, mode)
    }

    /// The handle of a queue by its id. Nothing is asked: the first use tells whether it exists.
    pub fn from_id(id: i32) -> Self {
        Self::from_id_in(Kernel, id)
    }
}

impl<C: Calls + Copy> Queue<C> {
    /// Makes a queue that must not exist. It may hold MSGMNB bytes. The umask does not apply.
    ///
    /// # Errors
    /// [`Errno::EXIST`]: the key has a queue; [`Errno::NOSPC`]: MSGMNI queues exist;
    /// [`Errno::NOMEM`].
    #[doc(alias("msgget", "IPC_CREAT", "IPC_EXCL"))]
    pub fn create_in(calls: C, key: Key, mode: Mode) -> Result<Self> {
        Self::find(calls, key, mode.bits().cast_signed() | IPC_CREAT | IPC_EXCL)
    }

    /// [`open`](Queue::open) in other calls than the kernel's.
    ///
    /// # Errors
    /// As [`open`](Queue::open).
    pub fn open_in(calls: C, key: Key) -> Result<Self> {
        Self::find(calls, key.findable()?, 0)
    }

    /// Finds a queue whose mode grants, to anyone at all, every bit of `mode`, or makes one of
    /// that mode. [`Key::PRIVATE`] always makes one.
    ///
    /// # Errors
    /// [`Errno::ACCESS`]: the mode of what is there grants less; [`Errno::NOSPC`]: MSGMNI queues
    /// exist; [`Errno::NOMEM`].
    #[doc(alias("msgget", "IPC_CREAT"))]
    pub fn open_or_create_in(calls: C, key: Key, mode: Mode) -> Result<Self> {
        Self::find(calls, key, mode.bits().cast_signed() | IPC_CREAT)
    }

    fn find(calls: C, key: Key, flags: i32) -> Result<Self> {
        let id = calls.msgget(key.raw(), flags)?;
        Ok(Self { calls, id })
    }

    /// [`from_id`](Queue::from_id) in other calls than the kernel's.
    pub fn from_id_in(calls: C, id: i32) -> Self {
        Self { calls, id }
    }

    /// The id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The calls that this handle stands on.
    pub fn calls(&self) -> C {
        self.calls
    }

    /// Appends a message: its type, at least 1, and its text, which may be empty.
    ///
    /// A text that is longer than the queue's capacity never fits: such a call waits for the
    /// capacity to be raised.
    ///
    /// # Errors
    /// [`Errno::AGAIN`]: the queue is full, and [`Wait::Never`]; [`Errno::INVAL`]: no such queue,
    /// a type below 1, or a text of more than MSGMAX bytes; [`Errno::ACCESS`]: no write
    /// permission; [`Errno::IDRM`]: the queue was removed meanwhile; [`Errno::INTR`]: a signal
    /// handler ran, and [`Wait::Interruptible`]; [`Errno::NOMEM`].
    #[doc(alias = "msgsnd")]
    pub fn send(&self, message_type: i64, text: &[u8], wait: Wait) -> Result<()> {
        let mut message = Vec::new();
        message
            .try_reserve_exact(text.len().saturating_add(TYPE_BYTES))
            .map_err(|_| Errno::NOMEM)?;
        message.extend_from_slice(&message_type.to_ne_bytes());
        message.extend_from_slice(text);
        wait.retry(|| shim::msg_send(&self.calls, self.id, &message, wait.flags()))
    }

    /// Takes a message of any length. Its text replaces what stands in `text`, also on an error.
    ///
    /// Room is made for what the queue holds, which the queue's capacity bounds.
    ///
    /// # Errors
    /// [`Errno::NOMSG`]: there is none, and [`Wait::Never`] or [`Select::At`]; [`Errno::INVAL`]:
    /// no such queue, or a type below 1; [`Errno::ACCESS`]: no read permission;
    /// [`Errno::IDRM`]: the queue was removed meanwhile; [`Errno::INTR`]: a signal handler ran,
    /// and [`Wait::Interruptible`]; [`Errno::NOMEM`].
    #[doc(alias = "msgrcv")]
    pub fn receive(&self, select: Select, text: &mut Vec<u8>, wait: Wait) -> Result<Received> {
        let mut size = text.capacity().saturating_sub(TYPE_BYTES).max(256);
        let message_type = loop {
            match self.take(select, text, size, wait, 0) {
                // The message stays. It is no longer than all that are there; if another
                // receiver has taken it meanwhile, the same size does for the next.
                Err(Errno::TOOBIG) => {
                    let held = self.status()?.bytes;
                    size = size.max(usize::try_from(held).map_err(|_| Errno::NOMEM)?);
                }
                answer => break answer?,
            }
        };
        Ok(Received {
            message_type,
            length: text.len(),
            truncated: false,
        })
    }

    /// Takes a message that fits in `text`, and leaves what stands behind it in `text` alone.
    ///
    /// # Errors
    /// [`Errno::TOOBIG`]: the message is longer than `text`; it stays. Otherwise as
    /// [`receive`](Self::receive).
    #[doc(alias = "msgrcv")]
    pub fn receive_into(&self, select: Select, text: &mut [u8], wait: Wait) -> Result<Received> {
        let mut message = Vec::new();
        let message_type = self.take(select, &mut message, text.len(), wait, 0)?;
        text[..message.len()].copy_from_slice(&message);
        Ok(Received {
            message_type,
            length: message.len(),
            truncated: false,
        })
    }

    /// Takes a message and cuts it to the length of `text`: the rest of it is lost.
    ///
    /// # Errors
    /// As [`receive`](Self::receive); with [`Select::At`] a message that is too long answers
    /// [`Errno::INVAL`].
    #[doc(alias("msgrcv", "MSG_NOERROR"))]
    pub fn receive_truncated(
        &self,
        select: Select,
        text: &mut [u8],
        wait: Wait,
    ) -> Result<Received> {
        // One byte more than wanted: if it comes, the message is longer.
        let size = text.len().checked_add(1).ok_or(Errno::INVAL)?;
        let mut message = Vec::new();
        let answer = self.take(select, &mut message, size, wait, MSG_NOERROR);
        let message_type = answer?;
        let length = message.len().min(text.len());
        text[..length].copy_from_slice(&message[..length]);
        Ok(Received {
            message_type,
            length,
            truncated: message.len() > length,
        })
    }

    /// Receives up to `size` bytes of text in `text`, and answers the type.
    fn take(
        &self,
        select: Select,
        text: &mut Vec<u8>,
        size: usize,
        wait: Wait,
        flags: i32,
    ) -> Result<i64> {
        let (wanted, select_flags) = select.arguments()?;
        let flags = flags | select_flags | wait.flags();
        wait.retry(|| shim::msg_receive(&self.calls, self.id, text, size, wanted, flags))?;
        let mut message_type = [0; TYPE_BYTES];
        message_type.copy_from_slice(&text[..TYPE_BYTES]);
        text.drain(..TYPE_BYTES);
        Ok(i64::from_ne_bytes(message_type))
    }

    /// Everything the kernel says about the queue.
    ///
    /// # Errors
    /// [`Errno::ACCESS`]: no read permission ([`status_any`](Self::status_any) needs none);
    /// [`Errno::INVAL`]: no such queue.
    #[doc(alias("msgctl", "IPC_STAT"))]
    pub fn status(&self) -> Result<Status> {
        shim::msg_stat(&self.calls, Whose::Id(self.id)).map(Status::from)
    }

    /// As [`status`](Self::status), whatever the mode.
    ///
    /// The queue is asked for by its index, which is taken to be the id modulo 32768; a kernel
    /// that was started with `ipcmni_extend` numbers differently and may answer `INVAL`.
    ///
    /// # Errors
    /// [`Errno::INVAL`]: no such queue.
    #[doc(alias("msgctl", "MSG_STAT_ANY"))]
    pub fn status_any(&self) -> Result<Status> {
        self.stat_any()
            .map(|status| Status::from((self.id, status)))
    }

    fn stat_any(&self) -> Result<msqid_ds> {
        shim::any(self.id, |whose| shim::msg_stat(&self.calls, whose))
    }

    /// Changes owner, group, mode and capacity; what `change` does not name stays as it was a
    /// moment ago, so of two that change one queue at once, one may undo what the other did.
    ///
    /// Senders and receivers that wait look again at their permission and at the room.
    ///
    /// # Errors
    /// [`Errno::PERM`]: the caller is neither owner nor creator and lacks `CAP_SYS_ADMIN`, or the
    /// queue is to have (or keep) a capacity above MSGMNB and the caller lacks
    /// `CAP_SYS_RESOURCE`; [`Errno::INVAL`]: no such queue, or no such user or group.
    #[doc(alias("msgctl", "IPC_SET"))]
    pub fn set(&self, change: &Change) -> Result<()> {
        let now = if change.capacity.is_some() {
            None
        } else {
            Some(self.stat_any()?)
        };
        let msg_perm = change.perm.apply(|| match now {
            Some(now) => Ok(now.msg_perm),
            None => self.stat_any().map(|now| now.msg_perm),
        })?;
        let status = msqid_ds {
            msg_perm,
            msg_qbytes: change
                .capacity
                .or(now.map(|now| now.msg_qbytes))
                .unwrap_or_default(),
            ..msqid_ds::default()
        };
        shim::msg_set(&self.calls, self.id, status)
    }

    /// Removes the queue and its messages, at once. Who waits on it gets [`Errno::IDRM`].
    ///
    /// # Errors
    /// [`Errno::PERM`]: the caller is neither owner nor creator and lacks `CAP_SYS_ADMIN`;
    /// [`Errno::INVAL`]: no such queue.
    #[doc(alias("msgctl", "IPC_RMID"))]
    pub fn remove(&self) -> Result<()> {
        shim::msg_remove(&self.calls, self.id)
    }
}

/// What `IPC_SET` is to change of a queue; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Owner, group and mode.
    pub perm: perm::Change,
    /// How many bytes the queue may hold (`msg_qbytes`). What is there already stays.
    pub capacity: Option<u64>,
}

impl From<perm::Change> for Change {
    fn from(perm: perm::Change) -> Self {
        Self {
            perm,
            capacity: None,
        }
    }
}

/// What the kernel says about a queue, as it was when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "msqid_ds")]
pub struct Status {
    /// The id.
    pub id: i32,
    /// Owner, creator, mode and key.
    pub perm: Perm,
    /// Bytes of text that are queued.
    pub bytes: u64,
    /// Messages that are queued.
    pub messages: u64,
    /// Bytes that may be queued (`msg_qbytes`); there may also be no more messages than this.
    pub capacity: u64,
    /// Pid of who sent last, as the caller's PID name space has it; 0 if nobody has, or it is not
    /// in there.
    pub last_send_pid: i32,
    /// Pid of who received last, in the same way.
    pub last_receive_pid: i32,
    /// Time of the last send, seconds since the epoch; 0 for never.
    pub sent: i64,
    /// Time of the last receipt, seconds since the epoch; 0 for never.
    pub received: i64,
    /// Time of creation or of the last change, seconds since the epoch.
    pub changed: i64,
}

impl From<(i32, msqid_ds)> for Status {
    fn from((id, status): (i32, msqid_ds)) -> Self {
        Self {
            id,
            perm: Perm::from(status.msg_perm),
            bytes: status.__msg_cbytes,
            messages: status.msg_qnum,
            capacity: status.msg_qbytes,
            last_send_pid: status.msg_lspid,
            last_receive_pid: status.msg_lrpid,
            sent: status.msg_stime,
            received: status.msg_rtime,
            changed: status.msg_ctime,
        }
    }
}

/// All queues of the IPC name space, by the `MSG_STAT_ANY` call, lowest index first.
///
/// Needs no permission and changes nothing. Queues that come or go meanwhile may be missing.
///
/// # Errors
/// [`Errno::INVAL`] is taken for an empty slot: a kernel before 4.17, which lacks the call, lists
/// nothing.
#[doc(alias = "MSG_STAT_ANY")]
pub fn list(calls: impl Calls) -> Result<Vec<Status>> {
    let (highest, _) = shim::msg_info(&calls, true)?;
    shim::list(highest, |whose| {
        shim::msg_stat(&calls, whose).map(Status::from)
    })
}

/// The queue at an index of the kernel's table, by `MSG_STAT`.
///
/// # Errors
/// [`Errno::INVAL`]: the slot is empty; [`Errno::ACCESS`]: no read permission.
#[doc(alias = "MSG_STAT")]
pub fn at_index(calls: impl Calls, index: i32) -> Result<Status> {
    shim::msg_stat(&calls, Whose::Index(index)).map(Status::from)
}

/// The queue at an index of the kernel's table, by `MSG_STAT_ANY`: whatever its mode.
///
/// # Errors
/// [`Errno::INVAL`]: the slot is empty.
#[doc(alias = "MSG_STAT_ANY")]
pub fn at_index_any(calls: impl Calls, index: i32) -> Result<Status> {
    shim::msg_stat(&calls, Whose::Any(index)).map(Status::from)
}

/// The limits of queues, by `IPC_INFO`. [`Limits`](crate::Limits) has those of all kinds.
///
/// # Errors
/// None from the kernel.
#[doc(alias = "IPC_INFO")]
pub fn limits(calls: impl Calls) -> Result<msginfo> {
    shim::msg_info(&calls, false).map(|(_, limits)| limits)
}

/// What all queues use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Queues that exist.
    pub queues: u64,
    /// Messages in all queues; the kernel counts no further than 2147483647.
    pub messages: u64,
    /// Bytes of text in all queues; the kernel counts no further than 2147483647.
    pub bytes: u64,
    /// The highest index in use; 0 also if there is none.
    pub highest_index: i32,
}

/// What all queues use together, by `MSG_INFO`.
///
/// # Errors
/// None from the kernel.
#[doc(alias = "MSG_INFO")]
pub fn usage(calls: impl Calls) -> Result<Usage> {
    let (highest_index, info) = shim::msg_info(&calls, true)?;
    let count = |n: i32| u64::try_from(n).map_err(|_| Errno::OVERFLOW);
    Ok(Usage {
        queues: count(info.msgpool)?,
        messages: count(info.msgmap)?,
        bytes: count(info.msgtql)?,
        highest_index,
    })
}
