//! Tombolo's `service` as a transport.

use crate::bare::not_in_place;
use crate::content::{Payload, Verifier};
use crate::in_place;
use crate::queue::{suffix, waiting};
use crate::transport::{
    About, Caller, Family, Link, Responder, Service as Asked, Task, Waits, Way, Wire,
};
use anyhow::{Result, bail, ensure};
use tombolo::Patience;
use tombolo::service::{Client, Options, Server};

/// A `service`.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// How its ends wait.
    pub waits: Waits,
    /// How requests and replies are handed over.
    pub way: Way,
}

/// The end that asks.
pub struct ServiceCaller {
    client: Client,
    way: Way,
    buffer: Vec<u8>,
}

/// The end that answers.
pub struct ServiceResponder {
    server: Server,
    way: Way,
    buffer: Vec<u8>,
}

impl Caller for ServiceCaller {
    #[inline]
    fn call(&mut self, number: u64, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        if self.way == Way::InPlace {
            return self.call_in_place(number, payload, verifier);
        }
        self.client.call(payload.bytes(number), &mut self.buffer)?;
        verifier.check(&self.buffer)?;
        Ok(())
    }
}

impl Responder for ServiceResponder {
    #[inline]
    fn respond(&mut self, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        if self.way == Way::InPlace {
            return self.respond_in_place(payload, verifier);
        }
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

// Not inlined, these two, and so no price for what is handed over by copies.
impl ServiceCaller {
    #[inline(never)]
    fn call_in_place(
        &mut self,
        number: u64,
        payload: &Payload,
        verifier: &mut Verifier,
    ) -> Result<()> {
        let mut request = self.client.loan(payload.length())?;
        in_place::write(number, payload.length(), request.bytes())?;
        let answer = request.call(Patience::FOREVER)?;
        ensure!(!answer.has_failed(), "an error instead of a reply");
        in_place::check(verifier, answer.bytes())?;
        Ok(())
    }
}

impl ServiceResponder {
    #[inline(never)]
    fn respond_in_place(&mut self, payload: &Payload, verifier: &mut Verifier) -> Result<()> {
        let request = self.server.next()?;
        in_place::check(verifier, request.bytes())?;
        let Ok(mut reply) = request.loan(payload.length()) else {
            bail!("the reply is too long");
        };
        in_place::write(verifier.latest(), payload.length(), reply.bytes())?;
        reply.send();
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
        let way = match self.way {
            Way::InPlace => ", in place",
            _ => "",
        };
        let name = format!("service{}{way}", suffix(self.waits));
        About::new(name, Family::Tombolo, self.waits, self.way)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        let in_place = self.way == Way::InPlace;
        in_place.then(|| not_in_place(task)).flatten()
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
            way: self.way,
            buffer: Vec::with_capacity(task.length),
        })
    }

    fn responder(&self, task: &Task, link: &Link) -> Result<ServiceResponder> {
        let name: tombolo::Name = link.name.parse()?;
        let server = Server::open_or_create(name, &Self::options(task))?;
        Ok(ServiceResponder {
            server: server.waiting(waiting(self.waits)),
            way: self.way,
            buffer: Vec::with_capacity(task.length),
        })
    }
}
