//! What every transport offers, be it ours or a rival's, so that one body measures them all.
//!
//! A [`Transport`] makes a [`Wire`] in the process that conducts, before either end starts; each
//! end, in a process of its own, makes its side of it from the wire's [`Link`]. A wire carries
//! messages one way; a round trip needs two. What only answers requests is a [`Service`].
//!
//! A [`Runner`] is a transport that has forgotten its types; bodies are compiled for each.

use crate::calls::Calls;
use crate::content::{Payload, Verifier};
use crate::stats::Latency;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Whose a transport is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The machine itself: what the others are held against.
    Bare,
    /// A channel of Tombolo.
    Tombolo,
    /// A facility of the kernel.
    Kernel,
    /// Another project.
    Rival,
}

/// What an end does while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waits {
    /// It looks again and again.
    Spin,
    /// It looks for a while and then sleeps.
    Adaptive,
    /// It sleeps.
    Block,
}

/// How messages are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Each by a call of its own, copied in and out.
    OneByOne,
    /// Many by one call.
    Batch,
    /// Each by a call of its own, copied in, and read where it lies.
    ReadInPlace,
    /// Each by a call of its own, written and read where it lies.
    InPlace,
}

/// What a transport is called and how it works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name, one for each runner.
    pub name: String,
    /// Whose it is.
    pub family: Family,
    /// How its ends wait.
    pub waits: Waits,
    /// How messages are handed over.
    pub way: Way,
    /// Whether its processes have threads of its own, which take turns with those that are timed.
    #[serde(default)]
    pub threads: bool,
}

impl About {
    /// Of these parts.
    pub fn new(name: impl Into<String>, family: Family, waits: Waits, way: Way) -> Self {
        let name = name.into();
        Self {
            name,
            family,
            waits,
            way,
            threads: false,
        }
    }

    /// With threads of its own.
    #[must_use]
    pub fn with_threads(self) -> Self {
        let threads = true;
        Self { threads, ..self }
    }

    /// Whether it is a bare ring, which others are held against.
    pub fn is_ring(&self) -> bool {
        self.family == Family::Bare && self.waits == Waits::Spin
    }
}

/// The shape of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// A message there, an answer back.
    RoundTrip,
    /// As many messages as possible one way.
    Stream,
}

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The shape.
    pub topology: Topology,
    /// Bytes of a message.
    pub length: usize,
    /// How many send.
    pub producers: usize,
    /// How many receive.
    pub consumers: usize,
    /// Bytes that the channel holds, if not what suits the message.
    pub capacity: Option<usize>,
    /// How long time is taken.
    pub duration: Duration,
    /// How long the sender of a stream waits, awake, before each message; zero if it doesn't.
    #[serde(default)]
    pub pause: Duration,
    /// Whether every word of every message is written and compared.
    pub thorough: bool,
    /// Whether every receiver gets every message: as the transport has it.
    pub broadcast: bool,
}

impl Task {
    /// One sender, one receiver.
    pub fn pair(topology: Topology, length: usize, duration: Duration) -> Self {
        Self {
            topology,
            length,
            producers: 1,
            consumers: 1,
            capacity: None,
            duration,
            pause: Duration::ZERO,
            thorough: false,
            broadcast: false,
        }
    }

    /// Whether only one sends and one receives.
    pub fn is_pair(&self) -> bool {
        self.producers == 1 && self.consumers == 1
    }

    /// Whether the sender waits before each message.
    pub fn has_pauses(&self) -> bool {
        !self.pause.is_zero()
    }

    /// Messages between two looks at the clock.
    pub fn chunk(&self) -> u64 {
        match self.length {
            0..=1024 => 64,
            1025..=65_536 => 8,
            _ => 1,
        }
    }
}

/// One end's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sends, or asks: the how-manieth.
    Sender(usize),
    /// Receives, or answers: the how-manieth.
    Receiver(usize),
}

/// What an end needs to find its wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// A name, number or path.
    pub name: String,
    /// Descriptors that the end is born with.
    pub descriptors: Vec<i32>,
}

/// What an end is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seat {
    /// Its part.
    pub role: Role,
    /// Its wires.
    pub links: Vec<Link>,
    /// The two processors of the sample.
    pub processors: [usize; 2],
}

/// A way from one process to another, as the conductor holds it.
#[derive(Default)]
pub struct Wire {
    /// What the ends get.
    pub link: Link,
    kept: Vec<OwnedFd>,
    cleanup: Vec<Box<dyn FnOnce()>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.fmt(f)
    }
}

impl Wire {
    /// One that is found by a name.
    pub fn named(name: impl Into<String>) -> Self {
        let mut wire = Self::default();
        wire.link.name = name.into();
        wire
    }

    /// Hands a descriptor on to both ends.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hand_on(mut self, fd: OwnedFd) -> Result<Self> {
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())?;
        self.link.descriptors.push(fd.as_raw_fd());
        self.kept.push(fd);
        Ok(self)
    }

    /// What is to be done when both ends are gone.
    #[must_use]
    pub fn cleanup(mut self, action: impl FnOnce() + 'static) -> Self {
        self.cleanup.push(Box::new(action));
        self
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cleanup.drain(..).for_each(|action| action());
    }
}

/// An end that sends.
pub trait Sender {
    /// Sends the message of a number; waits for room as long as it takes.
    ///
    /// # Errors
    /// What the transport says.
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()>;

    /// Sends messages one after the other.
    ///
    /// # Errors
    /// What the transport says.
    fn send_many(&mut self, numbers: Range<u64>, payload: &mut Payload) -> Result<()> {
        for number in numbers {
            self.send(number, payload)?;
        }
        Ok(())
    }
}

/// An end that receives.
pub trait Receiver {
    /// Receives at least one message and has it checked; waits as long as it takes. False if
    /// senders have left and there is nothing more.
    ///
    /// # Errors
    /// What the transport says, or the verifier.
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool>;
}

/// Why a transport for one sender and one receiver can't do a task.
pub fn only_pairs(task: &Task) -> Option<String> {
    (!task.is_pair()).then(|| "one sender and one receiver only".to_owned())
}

/// A way to move messages from one process to another.
pub trait Transport: Sync {
    /// The end that sends.
    type Sender: Sender;
    /// The end that receives.
    type Receiver: Receiver;

    /// What it is.
    fn about(&self) -> About;

    /// Why it can't do a task, if it can't.
    fn refuses(&self, task: &Task) -> Option<String> {
        only_pairs(task)
    }

    /// Whether every receiver gets every message, and not just one of them.
    fn broadcasts(&self) -> bool {
        false
    }

    /// Prepares a wire. `unique` is a name that no other has.
    ///
    /// # Errors
    /// What is missing.
    fn wire(&self, task: &Task, unique: &str) -> Result<Wire>;

    /// Opens the end that sends.
    ///
    /// # Errors
    /// What is missing.
    fn sender(&self, task: &Task, link: &Link) -> Result<Self::Sender>;

    /// Opens the end that receives.
    ///
    /// # Errors
    /// What is missing.
    fn receiver(&self, task: &Task, link: &Link) -> Result<Self::Receiver>;
}

/// Asks, and has the answer checked.
pub trait Caller {
    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// What the transport says, or the verifier.
    fn call(&mut self, number: u64, payload: &mut Payload, verifier: &mut Verifier) -> Result<()>;
}

/// Answers what it is asked, with a message of the same number.
pub trait Responder {
    /// Waits for a request, has it checked, and answers it.
    ///
    /// # Errors
    /// What the transport says, or the verifier.
    fn respond(&mut self, payload: &mut Payload, verifier: &mut Verifier) -> Result<()>;
}

/// A way to ask another process.
pub trait Service: Sync {
    /// The end that asks.
    type Caller: Caller;
    /// The end that answers.
    type Responder: Responder;

    /// What it is.
    fn about(&self) -> About;

    /// Why it can't do a round trip between two, if it can't.
    fn refuses(&self, _: &Task) -> Option<String> {
        None
    }

    /// Prepares a wire. `unique` is a name that no other has.
    ///
    /// # Errors
    /// What is missing.
    fn wire(&self, task: &Task, unique: &str) -> Result<Wire>;

    /// Opens the end that asks.
    ///
    /// # Errors
    /// What is missing.
    fn caller(&self, task: &Task, link: &Link) -> Result<Self::Caller>;

    /// Opens the end that answers.
    ///
    /// # Errors
    /// What is missing.
    fn responder(&self, task: &Task, link: &Link) -> Result<Self::Responder>;
}

/// What one end has to say after a sample.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages sent or received in all, ends not counted.
    pub messages: u64,
    /// The sum of their numbers.
    pub sum: u64,
    /// Messages per second of a stream, by its receiver.
    pub rate: Option<f64>,
    /// One-way latency, by who asks.
    pub latency: Option<Latency>,
    /// How many times the process went to sleep.
    pub sleeps: u64,
    /// How many times something else took its processor.
    pub preemptions: u64,
    /// The share of the time in which it could have run and did not.
    #[serde(default)]
    pub delayed: f64,
    /// Messages of those while time was taken, by who receives or answers.
    #[serde(default)]
    pub timed: u64,
    /// The system calls that it made meanwhile, if they were to be counted.
    #[serde(default)]
    pub calls: Calls,
    /// What the clock said before each message was sent, and when it had been received, if there are pauses.
    #[serde(default)]
    pub stamps: Vec<u64>,
}

/// An end that is open and ready to run.
pub type Job = Box<dyn FnOnce() -> Result<Outcome>>;

/// A transport or service that has forgotten its types.
pub trait Runner: Sync {
    /// What it is.
    fn about(&self) -> About;

    /// Why it can't do a task, if it can't.
    fn refuses(&self, task: &Task) -> Option<String>;

    /// Whether every receiver gets every message, and not just one of them.
    fn broadcasts(&self) -> bool {
        false
    }

    /// Prepares what its ends need.
    ///
    /// # Errors
    /// What is missing.
    fn wires(&self, task: &Task, unique: &str) -> Result<Vec<Wire>>;

    /// Opens one end.
    ///
    /// # Errors
    /// What is missing.
    fn open(&self, task: &Task, seat: &Seat) -> Result<Job>;
}
