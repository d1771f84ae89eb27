//! Tombolo's `service` as a transport.

use crate::content::{Payload, Verifier};
use crate::queue::{suffix, waiting};
use crate::transport::{
    About, Caller, Family, Link, Responder, Service as Asked, Task, Waits, Way, Wire,
};
use anyhow::{Result, bail};
use tombolo::service::{Client, Options, Server};

/// A `service`.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// How its ends wait.
    pub waits: Waits,
}

/// The end that asks.
pub struct ServiceCaller {
    client: Client,
    buffer: Vec<u8>,
}

/// The end that answers.
pub struct ServiceResponder {
    server: Server,
    buffer: Vec<u8>,
}

impl Caller for ServiceCaller {
    #[inline]
    fn call(&mut self, number: u64, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        self.client.call(payload.bytes(number), &mut self.buffer)?;
        verifier.check(&self.buffer)?;
        Ok(())
    }
}

impl Responder for ServiceResponder {
    #[inline]
    fn respond(&mut self, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        let request = self.server.next()?;
        self.buffer.clear();
        request.append_to(&mut self.buffer);
        verifier.check(&self.buffer)?;
        if request.reply(payload.bytes(verifier.latest())).is_err() {
            bail!("the reply is too long");
        }
        Ok(())
    }
}

impl Service {
    fn options(task: &Task) -> Options {
        let default = Options::default();
        Options {
            request: default.request.max(task.length),
            reply: default.reply.max(task.length),
            ..default
        }
    }
}

impl Asked for Service {
    type Caller = ServiceCaller;
    type Responder = ServiceResponder;

    fn about(&self) -> About {
        let name = format!("service{}", suffix(self.waits));
        About::new(name, Family::Tombolo, self.waits, Way::OneByOne)
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        Ok(Wire::named(unique).cleanup({
            let name: tombolo::Name = unique.parse()?;
            // Gone already, unless an end was killed.
            move || drop(tombolo::service::remove(name))
        }))
    }

    fn caller(&self, task: &Task, link: &Link) -> Result<ServiceCaller> {
        let name: tombolo::Name = link.name.parse()?;
        let client = Client::open_or_create(name, &Self::options(task))?;
        Ok(ServiceCaller {
            client: client.waiting(waiting(self.waits)),
            buffer: Vec::with_capacity(task.length),
        })
    }

    fn responder(&self, task: &Task, link: &Link) -> Result<ServiceResponder> {
        let name: tombolo::Name = link.name.parse()?;
        let server = Server::open_or_create(name, &Self::options(task))?;
        Ok(ServiceResponder {
            server: server.waiting(waiting(self.waits)),
            buffer: Vec::with_capacity(task.length),
        })
    }
}
