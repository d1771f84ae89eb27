//! The kernel's message queues: System V's and POSIX's.
//!
//! The System V calls are made directly, with a buffer that begins with the type, as a C program
//! has it: the safe interface of `sysv` copies once more.

use crate::content::{Payload, Verifier};
use crate::raw::inherited;
use crate::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use anyhow::{Context, Result, bail};
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode as FileMode;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use sysv::{Calls, Errno, Kernel, Key, Mode, Queue};

/// Bytes of a message's type.
const TYPE: usize = 8;
/// Longest message of a POSIX queue, and how many it holds, where nobody has raised the limits.
const LONGEST: usize = 8192;
const DEPTH: i64 = 10;

/// System V's.
#[derive(Clone, Copy, Debug)]
pub struct SystemV;

/// One end of a System V queue.
pub struct SystemVEnd {
    id: i32,
    /// The type, and the text.
    message: Vec<u8>,
}

impl SystemVEnd {
    fn new(task: &Task, link: &Link) -> Result<Self> {
        let mut message = vec![0; TYPE + task.length];
        message[..TYPE].copy_from_slice(&1i64.to_ne_bytes());
        let id = link.name.parse()?;
        Ok(Self { id, message })
    }
}

impl Sender for SystemVEnd {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        let length = payload.length();
        self.message[TYPE..].copy_from_slice(payload.bytes(number));
        loop {
            // SAFETY: a type and `length` bytes are there to be read.
            let sent = unsafe { Kernel.msgsnd(self.id, self.message.as_ptr().cast(), length, 0) };
            match sent {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Receiver for SystemVEnd {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let room = self.message.len() - TYPE;
        let came = loop {
            let to = self.message.as_mut_ptr().cast();
            // SAFETY: there is room for a type and `room` bytes.
            let came = unsafe { Kernel.msgrcv(self.id, to, room, 0, 0) };
            match came {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        verifier.check(&self.message[TYPE..TYPE + came])?;
        Ok(true)
    }
}

impl Transport for SystemV {
    type Sender = SystemVEnd;
    type Receiver = SystemVEnd;

    fn about(&self) -> About {
        About::new(
            "System V queue",
            Family::Kernel,
            Waits::Block,
            Way::OneByOne,
        )
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        if task.consumers > 1 {
            return Some("does not say when senders have left".to_owned());
        }
        let limits = sysv::Limits::read().ok();
        let limits = limits.map_or([LONGEST as u64; 2], |limits| [limits.msgmax, limits.msgmnb]);
        let named = limits.into_iter().zip(["msgmax", "msgmnb"]);
        let (longest, name) = named.min_by_key(|(limit, _)| *limit)?;
        (task.length as u64 > longest).then(|| format!("messages end at {longest} bytes ({name})"))
    }

    fn wire(&self, _: &Task, _: &str) -> Result<Wire> {
        let queue = Queue::create(Key::PRIVATE, Mode::default())
            .context("no message queue can be made (see kernel.msgmni in: tombolo limits)")?;
        Ok(Wire::named(queue.id().to_string()).cleanup(move || {
            let _ = queue.remove();
        }))
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<SystemVEnd> {
        SystemVEnd::new(task, link)
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<SystemVEnd> {
        SystemVEnd::new(task, link)
    }
}

/// POSIX's.
#[derive(Clone, Copy, Debug)]
pub struct Posix;

/// One end of a POSIX queue.
pub struct PosixEnd {
    queue: MqdT,
    buffer: Vec<u8>,
}

impl PosixEnd {
    fn open(link: &Link) -> Result<Self> {
        let number = link.descriptors.first().context("no queue was handed on")?;
        let fd = inherited(*number)?.into_raw_fd();
        Ok(Self {
            // SAFETY: a descriptor of a message queue, which nothing else here owns.
            queue: unsafe { MqdT::from_raw_fd(fd) },
            buffer: vec![0; LONGEST],
        })
    }
}

impl Sender for PosixEnd {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        loop {
            match mq_send(&self.queue, payload.bytes(number), 0) {
                Err(nix::Error::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Receiver for PosixEnd {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let came = loop {
            match mq_receive(&self.queue, &mut self.buffer, &mut 0) {
                Err(nix::Error::EINTR) => {}
                result => break result?,
            }
        };
        verifier.check(&self.buffer[..came])?;
        Ok(true)
    }
}

impl Transport for Posix {
    type Sender = PosixEnd;
    type Receiver = PosixEnd;

    fn about(&self) -> About {
        About::new("POSIX queue", Family::Kernel, Waits::Block, Way::OneByOne)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        if task.consumers > 1 {
            return Some("does not say when senders have left".to_owned());
        }
        let long = task.length > LONGEST;
        long.then(|| format!("messages end at {LONGEST} bytes (msgsize_max)"))
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        let name = format!("/{unique}");
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
        let mode = FileMode::S_IRUSR | FileMode::S_IWUSR;
        let shape = MqAttr::new(0, DEPTH, LONGEST as i64, 0);
        let queue = match mq_open(&*name, flags, mode, Some(&shape)) {
            Ok(queue) => queue.into_raw_fd(),
            Err(nix::Error::ENOSYS) => bail!("this kernel has no POSIX queues"),
            Err(error) => return Err(error).context("mq_open"),
        };
        // SAFETY: just opened, and owned by nothing else.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        // What has no name is not left behind, however this ends.
        mq_unlink(&*name).context("mq_unlink")?;
        Wire::default().hand_on(queue)
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<PosixEnd> {
        PosixEnd::open(link)
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<PosixEnd> {
        PosixEnd::open(link)
    }
}
