//! Tombolo's `mailbox` as a transport.

use crate::content::{Payload, Verifier};
use crate::queue::{suffix, waiting};
use crate::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use anyhow::{Result, ensure};
use tombolo::mailbox::{self, Options, Poster, TakeError, Taker, Wanted};

/// A `mailbox`, whose messages are all of one type and taken by it.
#[derive(Clone, Copy, Debug)]
pub struct Mailbox {
    /// How its ends wait.
    pub waits: Waits,
}

/// The type of the messages.
const KIND: u64 = 7;

impl Mailbox {
    fn options(task: &Task) -> Options {
        let default = Options::default();
        let suits = (8 * task.length).max(default.capacity);
        Options {
            capacity: task.capacity.unwrap_or(suits),
            ..default
        }
    }
}

/// The end that sends.
pub struct MailboxSender {
    poster: Poster,
}

impl Sender for MailboxSender {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        Ok(self.poster.post(KIND, payload.bytes(number))?)
    }
}

/// The end that receives.
pub struct MailboxReceiver {
    taker: Taker,
    buffer: Vec<u8>,
}

impl Receiver for MailboxReceiver {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        match self.taker.take(Wanted::Type(KIND), &mut self.buffer) {
            Ok(taken) => {
                ensure!(!taken.redelivered, "a message came twice");
                verifier.check(&self.buffer)?;
                Ok(true)
            }
            Err(TakeError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Transport for Mailbox {
    type Sender = MailboxSender;
    type Receiver = MailboxReceiver;

    fn about(&self) -> About {
        let name = format!("mailbox{}", suffix(self.waits));
        About::new(name, Family::Tombolo, self.waits, Way::OneByOne)
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        Ok(Wire::named(unique).cleanup({
            let name: tombolo::Name = unique.parse()?;
            // Gone already, unless an end was killed.
            move || drop(mailbox::remove(name))
        }))
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<MailboxSender> {
        let name: tombolo::Name = link.name.parse()?;
        let poster = Poster::open_or_create(name, &Self::options(task))?;
        Ok(MailboxSender {
            poster: poster.waiting(waiting(self.waits)),
        })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<MailboxReceiver> {
        let name: tombolo::Name = link.name.parse()?;
        let taker = Taker::open_or_create(name, &Self::options(task))?;
        Ok(MailboxReceiver {
            taker: taker.waiting(waiting(self.waits)),
            buffer: Vec::with_capacity(task.length),
        })
    }
}
