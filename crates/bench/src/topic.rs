//! Tombolo's `topic` as a transport, waiting for the slowest: nothing may be lost where everything
//! is checked.

use crate::bare::{no_batches, not_in_place};
use crate::content::{Payload, Verifier, array};
use crate::in_place;
use crate::queue::{suffix, waiting};
use crate::transport::{
    About, Family, Link, Receiver, Sender, Task, Topology, Transport, Waits, Way, Wire,
};
use anyhow::{Result, ensure};
use std::ops::Range;
use tombolo::Patience;
use tombolo::topic::{self, Options, Policy, Publisher, RecvError, Start, Subscriber};

/// A `topic`.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// How its ends wait.
    pub waits: Waits,
    /// How messages are handed over.
    pub way: Way,
}

/// Messages of one call where many go by one.
const BATCH: usize = 64;

/// The end that sends.
pub struct TopicSender {
    publisher: Publisher,
    way: Way,
}

/// The end that receives.
pub struct TopicReceiver {
    subscriber: Subscriber,
    way: Way,
    buffer: Vec<u8>,
}

impl Sender for TopicSender {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        if self.way != Way::InPlace {
            return Ok(self.publisher.publish(payload.bytes(number))?);
        }
        let length = payload.length();
        let mut loan = self.publisher.loan(length, Patience::FOREVER)?;
        in_place::write(number, length, loan.bytes())?;
        loan.publish();
        Ok(())
    }

    #[inline]
    fn send_many(&mut self, numbers: Range<u64>, payload: &mut Payload) -> Result<()> {
        if self.way != Way::Batch {
            return numbers.into_iter().try_for_each(|n| self.send(n, payload));
        }
        match payload.length() {
            8 => self.publisher.publish_batch(numbers.map(array::<8>))?,
            64 => self.publisher.publish_batch(numbers.map(array::<64>))?,
            _ => {
                let mut batch = self.publisher.batch();
                for number in numbers {
                    batch.publish(payload.bytes(number))?;
                }
                batch.finish()
            }
        };
        Ok(())
    }
}

impl Receiver for TopicReceiver {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self {
            subscriber, buffer, ..
        } = self;
        let result = match self.way {
            Way::Batch => {
                let mut fault = Ok(());
                let result = subscriber.recv_batch(BATCH, Patience::FOREVER, |message, _| {
                    fault = fault.and(verifier.check(message));
                });
                fault?;
                result.map(|_| ())
            }
            Way::ReadInPlace | Way::InPlace => match subscriber.receive(Patience::FOREVER) {
                Ok(Some(delivery)) => {
                    in_place::check(verifier, delivery.bytes())?;
                    return Ok(true);
                }
                Ok(None) => return Ok(true),
                Err(error) => Err(error),
            },
            Way::OneByOne => match subscriber.recv(buffer) {
                Ok(_) => Ok(verifier.check(buffer)?),
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(()) => {
                ensure!(subscriber.lost() == 0, "messages were lost");
                Ok(true)
            }
            Err(RecvError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Topic {
    fn options(task: &Task) -> Options {
        let default = Options::default();
        // A message may have a quarter.
        let suits = (8 * task.length).max(default.capacity);
        Options {
            capacity: task.capacity.unwrap_or(suits),
            publishers: task.producers,
            subscribers: task.consumers,
            policy: Policy::WaitForSlowest,
            ..default
        }
    }
}

impl Transport for Topic {
    type Sender = TopicSender;
    type Receiver = TopicReceiver;

    fn about(&self) -> About {
        let way = match self.way {
            Way::OneByOne => "",
            Way::Batch => ", batches",
            Way::ReadInPlace => ", read in place",
            Way::InPlace => ", in place",
        };
        let name = format!("topic{}{way}", suffix(self.waits));
        About::new(name, Family::Tombolo, self.waits, self.way)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        if task.topology == Topology::Stream && task.producers > 1 && task.consumers > 1 {
            return Some("one publisher or one subscriber".to_owned());
        }
        match self.way {
            Way::OneByOne => None,
            Way::Batch => no_batches(task),
            Way::ReadInPlace | Way::InPlace => not_in_place(task),
        }
    }

    fn broadcasts(&self) -> bool {
        true
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        Ok(Wire::named(unique).cleanup({
            let name: tombolo::Name = unique.parse()?;
            // Gone already, unless an end was killed.
            move || drop(topic::remove(name))
        }))
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<TopicSender> {
        let name: tombolo::Name = link.name.parse()?;
        Ok(TopicSender {
            publisher: Publisher::open_or_create(name, &Self::options(task))?
                .waiting(waiting(self.waits)),
            way: self.way,
        })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<TopicReceiver> {
        let name: tombolo::Name = link.name.parse()?;
        Ok(TopicReceiver {
            subscriber: Subscriber::open_or_create(name, &Self::options(task), Start::Oldest)?
                .waiting(waiting(self.waits)),
            way: self.way,
            buffer: Vec::with_capacity(task.length),
        })
    }
}
