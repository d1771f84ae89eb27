//! ZeroMQ over `ipc://`: push and pull sockets.
//!
//! Its thread for input and output stands on the processor of the end that it belongs to: two
//! processors for all, as for everybody.

use anyhow::{Context, Result};
use bench::content::{Payload, Verifier};
use bench::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use std::mem::ManuallyDrop;

/// Push and pull.
#[derive(Clone, Copy, Debug)]
pub struct ZeroMq;

/// One end. Its socket stays open until the process ends: what a peer that closes has sent, and what
/// was not read yet, is lost at times.
pub struct End {
    socket: ManuallyDrop<zmq::Socket>,
    message: zmq::Message,
}

impl End {
    fn new(kind: zmq::SocketType) -> Result<Self> {
        Ok(Self {
            socket: ManuallyDrop::new(zmq::Context::new().socket(kind)?),
            message: zmq::Message::new(),
        })
    }
}

impl Sender for End {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.socket.send(payload.bytes(number), 0).context("send")
    }
}

impl Receiver for End {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        self.socket.recv(&mut self.message, 0).context("recv")?;
        verifier.check(&self.message)?;
        Ok(true)
    }
}

impl Transport for ZeroMq {
    type Sender = End;
    type Receiver = End;

    fn about(&self) -> About {
        About::new("ZeroMQ ipc", Family::Rival, Waits::Block, Way::OneByOne).with_threads()
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        let path = std::env::temp_dir().join(unique);
        let name = format!("ipc://{}", path.display());
        Ok(Wire::named(name).cleanup(move || drop(std::fs::remove_file(path))))
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<End> {
        let end = End::new(zmq::PUSH)?;
        end.socket.connect(&link.name).context("connect")?;
        Ok(end)
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<End> {
        let end = End::new(zmq::PULL)?;
        end.socket.bind(&link.name).context("bind")?;
        Ok(end)
    }
}
