//! Tombolo's `queue` as a transport.

use crate::bare::{no_batches, not_in_place};
use crate::content::{Payload, Verifier, array};
use crate::in_place;
use crate::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use anyhow::{Result, ensure};
use std::ops::Range;
use tombolo::Patience;
use tombolo::queue::{self, Consumer, Options, Producer, RecvError};
use tombolo::shmem::Waiting;

/// A `queue`.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// How its ends wait.
    pub waits: Waits,
    /// How messages are handed over.
    pub way: Way,
}

/// Tombolo's name for it.
pub fn waiting(waits: Waits) -> Waiting {
    match waits {
        Waits::Spin => Waiting::Spin,
        Waits::Adaptive => Waiting::Adaptive,
        Waits::Block => Waiting::Park,
    }
}

/// What is added to a channel's name.
pub fn suffix(waits: Waits) -> &'static str {
    match waits {
        Waits::Spin => ", spinning",
        Waits::Adaptive => "",
        Waits::Block => ", parking",
    }
}

/// Messages of one call where many go by one.
const BATCH: usize = 64;

/// Longest message of a batch that is checked where it lies, in bytes. Of longer ones the receiver makes
/// room by a copy, as the bare ring's does: its sender writes the next lines while these are checked.
const IN_PLACE: usize = 256;

impl Queue {
    fn options(task: &Task) -> Options {
        let default = Options::default();
        let suits = (8 * task.length).max(default.capacity);
        Options {
            capacity: task.capacity.unwrap_or(suits),
            producers: task.producers,
            consumers: task.consumers,
            ..default
        }
    }
}

/// The end that sends.
pub struct QueueSender {
    producer: Producer,
    transport: Queue,
}

impl Sender for QueueSender {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        let producer = &mut self.producer;
        match self.transport.way {
            Way::InPlace => {
                let length = payload.length();
                let mut loan = producer.loan(length, Patience::FOREVER)?;
                in_place::write(number, length, loan.bytes())?;
                loan.publish();
            }
            _ => producer.send(payload.bytes(number))?,
        }
        Ok(())
    }

    #[inline]
    fn send_many(&mut self, numbers: Range<u64>, payload: &mut Payload) -> Result<()> {
        if self.transport.way != Way::Batch {
            return numbers.into_iter().try_for_each(|n| self.send(n, payload));
        }
        match payload.length() {
            8 => self.producer.send_batch(numbers.map(array::<8>))?,
            64 => self.producer.send_batch(numbers.map(array::<64>))?,
            _ => {
                let mut batch = self.producer.batch();
                for number in numbers {
                    batch.send(payload.bytes(number))?;
                }
                batch.finish()
            }
        };
        Ok(())
    }
}

/// The end that receives.
pub struct QueueReceiver {
    consumer: Consumer,
    transport: Queue,
    buffer: Vec<u8>,
}

impl QueueReceiver {
    // Not inlined, these two, and so no price for what is received in the other ways.
    #[inline(never)]
    fn recv_batch(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self {
            consumer, buffer, ..
        } = self;
        let mut fault = Ok(());
        let check = |message: queue::Message<'_>| {
            let result = if message.len() > IN_PLACE {
                buffer.clear();
                message.append_to(buffer);
                verifier.check(buffer)
            } else {
                verifier.check_words(message.len(), |offset| word(&message, offset))
            };
            fault = fault.and(result);
        };
        let result = consumer.recv_batch(BATCH, Patience::FOREVER, check);
        fault?;
        goes_on(result)
    }

    #[inline(never)]
    fn recv_in_place(&mut self, verifier: &mut Verifier) -> Result<bool> {
        match self.consumer.receive(Patience::FOREVER) {
            Ok(Some(delivery)) => {
                in_place::check(verifier, delivery.bytes())?;
                Ok(true)
            }
            result => goes_on(result),
        }
    }
}

impl Receiver for QueueReceiver {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        match self.transport.way {
            Way::OneByOne => {}
            Way::Batch => return self.recv_batch(verifier),
            Way::ReadInPlace | Way::InPlace => return self.recv_in_place(verifier),
        }
        match self.consumer.recv(&mut self.buffer) {
            Ok(received) => {
                ensure!(!received.redelivered, "a message came twice");
                verifier.check(&self.buffer)?;
                Ok(true)
            }
            end => goes_on(end),
        }
    }
}

/// Whether more messages may come.
fn goes_on<T>(result: Result<T, RecvError>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(RecvError::Closed) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A word of a message, read where it lies.
#[inline]
fn word(message: &queue::Message<'_>, offset: usize) -> u64 {
    let mut word = [0; 8];
    // Inside: the verifier asks for words of a message whose length it knows. If not, the word is
    // wrong, which it notices.
    let _ = message.copy_out(offset, &mut word);
    u64::from_ne_bytes(word)
}

impl Transport for Queue {
    type Sender = QueueSender;
    type Receiver = QueueReceiver;

    fn about(&self) -> About {
        let waits = suffix(self.waits);
        let way = match self.way {
            Way::OneByOne => "",
            Way::Batch => ", batches",
            Way::ReadInPlace => ", read in place",
            Way::InPlace => ", in place",
        };
        let name = format!("queue{waits}{way}");
        About::new(name, Family::Tombolo, self.waits, self.way)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        match self.way {
            Way::OneByOne => None,
            Way::Batch => no_batches(task),
            Way::ReadInPlace | Way::InPlace => not_in_place(task),
        }
    }

    fn wire(&self, _: &Task, unique: &str) -> Result<Wire> {
        Ok(Wire::named(unique).cleanup({
            let name: tombolo::Name = unique.parse()?;
            // Gone already, unless an end was killed.
            move || drop(queue::remove(name))
        }))
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<QueueSender> {
        let name: tombolo::Name = link.name.parse()?;
        Ok(QueueSender {
            producer: Producer::open_or_create(name, &Self::options(task))?
                .waiting(waiting(self.waits)),
            transport: *self,
        })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<QueueReceiver> {
        let name: tombolo::Name = link.name.parse()?;
        Ok(QueueReceiver {
            consumer: Consumer::open_or_create(name, &Self::options(task))?
                .waiting(waiting(self.waits)),
            transport: *self,
            buffer: Vec::with_capacity(task.length),
        })
    }
}
