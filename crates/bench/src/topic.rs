//! Tombolo's `topic` as a transport: one publisher, one subscriber that is waited for.

use crate::bare::no_batches;
use crate::content::{Payload, Verifier, array};
use crate::queue::{suffix, waiting};
use crate::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use anyhow::{Result, ensure};
use std::ops::Range;
use tombolo::Patience;
use tombolo::topic::{self, Options, Policy, Publisher, RecvError, Start, Subscriber};

/// A `topic`.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// How its ends wait.
    pub waits: Waits,
    /// How messages are handed over: one by one, or in batches.
    pub way: Way,
}

/// Messages of one call where many go by one.
const BATCH: usize = 64;

impl Topic {
    fn options(task: &Task) -> Options {
        let default = Options::default();
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

/// The end that publishes.
pub struct TopicSender {
    publisher: Publisher,
    way: Way,
}

impl Sender for TopicSender {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.publisher.publish(payload.bytes(number))?;
        Ok(())
    }

    #[inline]
    fn send_many(&mut self, numbers: Range<u64>, payload: &mut Payload) -> Result<()> {
        if self.way != Way::Batch {
            return numbers.into_iter().try_for_each(|n| self.send(n, payload));
        }
        let publisher = &mut self.publisher;
        match payload.length() {
            8 => publisher.publish_batch(numbers.map(array::<8>))?,
            64 => publisher.publish_batch(numbers.map(array::<64>))?,
            _ => publisher.publish_batch(numbers.map(array::<1024>))?,
        };
        Ok(())
    }
}

/// The end that subscribes.
pub struct TopicReceiver {
    subscriber: Subscriber,
    way: Way,
    buffer: Vec<u8>,
}

impl Receiver for TopicReceiver {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self {
            subscriber, buffer, ..
        } = self;
        let result = if self.way == Way::Batch {
            let mut fault = Ok(());
            let result = subscriber.recv_batch(BATCH, Patience::FOREVER, |bytes, _| {
                if let Err(error) = verifier.check(bytes) {
                    fault = Err(error);
                }
            });
            fault?;
            result.map(|_| ())
        } else {
            let result = subscriber.recv(buffer);
            if let Ok(received) = &result {
                ensure!(received.lost == 0, "a message was lost");
                verifier.check(buffer)?;
            }
            result.map(|_| ())
        };
        match result {
            Ok(()) => Ok(true),
            Err(RecvError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Transport for Topic {
    type Sender = TopicSender;
    type Receiver = TopicReceiver;

    fn about(&self) -> About {
        let way = match self.way {
            Way::Batch => ", batches",
            _ => "",
        };
        let name = format!("topic{}{way}", suffix(self.waits));
        About::new(name, Family::Tombolo, self.waits, self.way)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        match self.way {
            Way::Batch => no_batches(task),
            _ => None,
        }
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
        let publisher = Publisher::open_or_create(name, &Self::options(task))?;
        Ok(TopicSender {
            publisher: publisher.waiting(waiting(self.waits)),
            way: self.way,
        })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<TopicReceiver> {
        let name: tombolo::Name = link.name.parse()?;
        let subscriber = Subscriber::open_or_create(name, &Self::options(task), Start::Oldest)?;
        Ok(TopicReceiver {
            subscriber: subscriber.waiting(waiting(self.waits)),
            way: self.way,
            buffer: Vec::with_capacity(task.length),
        })
    }
}
