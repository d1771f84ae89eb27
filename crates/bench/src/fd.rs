//! Transports that go through a descriptor: pipe, FIFO, and Unix sockets.
//!
//! Where the descriptor is a stream of bytes, messages of one known length follow each other; a
//! protocol of its own, which a real program would need, costs nothing here.

use crate::bare::look;
use crate::content::{Payload, Verifier};
use crate::raw::inherited;
use crate::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What is behind the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An unnamed pipe.
    Pipe,
    /// A pipe with a name in the file system.
    Fifo,
    /// A pair of sockets without message boundaries.
    Stream,
    /// A pair of sockets with message boundaries.
    Seqpacket,
}

/// A transport through a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// What is behind it.
    pub kind: Kind,
    /// Whether its ends ask again and again instead of sleeping.
    pub spin: bool,
}

impl Descriptor {
    fn name(self) -> &'static str {
        match (self.kind, self.spin) {
            (Kind::Pipe, false) => "pipe",
            (Kind::Pipe, true) => "pipe, spinning",
            (Kind::Fifo, _) => "FIFO",
            (Kind::Stream, _) => "Unix socket, stream",
            (Kind::Seqpacket, _) => "Unix socket, seqpacket",
        }
    }

    fn end(self, fd: OwnedFd) -> Result<OwnedFd> {
        if self.spin {
            fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        }
        Ok(fd)
    }
}

/// One end.
pub struct End {
    fd: OwnedFd,
    /// What came and was not checked yet.
    buffer: Vec<u8>,
}

impl End {
    /// Writes all; a descriptor that does not block is asked again and again.
    fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let written = look(|| match rustix::io::write(&self.fd, bytes) {
                Err(Errno::AGAIN | Errno::INTR) => None,
                result => Some(result),
            })?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl Sender for End {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.write_all(payload.bytes(number))
    }
}

impl Receiver for End {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self { fd, buffer } = self;
        let mut came = 0;
        while came < buffer.len() {
            let count = look(|| match rustix::io::read(&*fd, &mut buffer[came..]) {
                Err(Errno::AGAIN | Errno::INTR) => None,
                result => Some(result),
            })?;
            match (count, came) {
                (0, 0) => return Ok(false),
                (0, _) => bail!("the other end has left in the middle of a message"),
                _ => came += count,
            }
        }
        verifier.check(buffer)?;
        Ok(true)
    }
}

impl Transport for Descriptor {
    type Sender = End;
    type Receiver = End;

    fn about(&self) -> About {
        let waits = if self.spin { Waits::Spin } else { Waits::Block };
        About::new(self.name(), Family::Kernel, waits, Way::OneByOne)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        let seqpacket = self.kind == Kind::Seqpacket;
        if seqpacket && task.length > 65_536 {
            return Some("a packet must fit the socket's buffer".to_owned());
        }
        // Short writes to a pipe are whole; so any number may write.
        let many = matches!(self.kind, Kind::Pipe | Kind::Fifo) && task.length <= 4096;
        let possible = task.consumers == 1 && (task.producers == 1 || many);
        (!possible).then(|| "one sender and one receiver only".to_owned())
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
        let (read, write) = match self.kind {
            Kind::Pipe => pipe_with(PipeFlags::CLOEXEC)?,
            Kind::Stream => pair(SocketType::STREAM)?,
            Kind::Seqpacket => pair(SocketType::SEQPACKET)?,
            Kind::Fifo => fifo(&std::env::temp_dir().join(unique))?,
        };
        Wire::default().hand_on(read)?.hand_on(write)
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<End> {
        let [_, write] = link.descriptors.as_slice() else {
            bail!("no descriptors were handed on");
        };
        Ok(End {
            fd: self.end(inherited(*write)?)?,
            buffer: Vec::new(),
        })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<End> {
        let [read, _] = link.descriptors.as_slice() else {
            bail!("no descriptors were handed on");
        };
        Ok(End {
            fd: self.end(inherited(*read)?)?,
            buffer: vec![0; task.length],
        })
    }
}

/// Both ends of a pipe that has a name for as long as it takes to open them: what has none is not
/// left behind, however this ends.
fn fifo(path: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    nix::unistd::mkfifo(path, mode).with_context(|| format!("mkfifo {}", path.display()))?;
    let open = |flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
    // Either would wait for the other.
    let both = open(OFlags::RDONLY | OFlags::NONBLOCK).and_then(|read| {
        let write = open(OFlags::WRONLY)?;
        fcntl_setfl(&read, fcntl_getfl(&read)? - OFlags::NONBLOCK)?;
        Ok((read, write))
    });
    std::fs::remove_file(path)?;
    both.context("the FIFO")
}
