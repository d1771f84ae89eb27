//! Shared memory with a signal of the kernel's around it: the textbook's way.
//!
//! ```text
//! sender     down(FREE)  write the slot  up(FULL)
//! receiver   down(FULL)  read the slot   up(FREE)
//! ```
//!
//! With one slot the two take turns; with more of them the sender runs ahead. The signals are
//! counters that sleep at zero: System V semaphores, event descriptors, or a bare futex, which is
//! the limit of what sleeps.

use crate::bare::slots;
use crate::content::{Payload, Verifier};
use crate::raw::{self, Map, inherited};
use crate::transport::{About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire};
use anyhow::{Context, Result, ensure};
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::futex;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use sysv::{Key, Mode, Operation, Set};

/// The two counters.
const FREE: usize = 0;
const FULL: usize = 1;
/// Where slots begin; futex words are on lines of their own before.
const SLOTS: usize = 4096;
const LINE: usize = 64;

/// What wakes the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A set of two System V semaphores.
    Semaphores,
    /// Two event descriptors.
    Events,
    /// Two futex words, without spinning.
    Futex,
}

/// Shared memory with signals around it.
#[derive(Clone, Copy, Debug)]
pub struct Signalled {
    /// What wakes the other side.
    pub signal: Signal,
    /// Whether there is more than one slot.
    pub ring: bool,
}

enum Counters {
    Semaphores(Set),
    Events([OwnedFd; 2]),
    Futex,
}

/// One end.
pub struct End {
    counters: Counters,
    map: Map,
    slots: u64,
    length: usize,
    position: u64,
    buffer: Vec<u8>,
}

impl End {
    /// Takes one, or sleeps until there is one.
    fn down(&self, which: usize) -> Result<()> {
        match &self.counters {
            Counters::Semaphores(set) => set.operate(&[Operation::add(which as u16, -1)])?,
            Counters::Events(events) => {
                let read = rustix::io::read(&events[which], &mut [0; 8])?;
                ensure!(read == 8, "an event has eight bytes");
            }
            Counters::Futex => {
                let word = self.map.u32(which * LINE);
                loop {
                    // Relaxed: the exchange decides.
                    let count = word.load(Relaxed);
                    if count == 0 {
                        // Woken, changed, or interrupted: looks again.
                        let _ = futex::wait(word, futex::Flags::empty(), 0, None);
                        continue;
                    }
                    // Acquire: pairs with `up`. Relaxed on failure: nothing was taken.
                    let taken = word.compare_exchange(count, count - 1, Acquire, Relaxed);
                    if taken.is_ok() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds one, and wakes whoever sleeps.
    fn up(&self, which: usize) -> Result<()> {
        match &self.counters {
            Counters::Semaphores(set) => set.operate(&[Operation::add(which as u16, 1)])?,
            Counters::Events(events) => {
                rustix::io::write(&events[which], &1u64.to_ne_bytes())?;
            }
            Counters::Futex => {
                let word = self.map.u32(which * LINE);
                // Release: the slot's bytes, written or read, before its count.
                word.fetch_add(1, Release);
                futex::wake(word, futex::Flags::empty(), 1)?;
            }
        }
        Ok(())
    }

    /// Where the next message's slot is.
    fn next(&mut self) -> usize {
        let slot = (self.position % self.slots) as usize;
        self.position += 1;
        SLOTS + slot * self.length
    }
}

impl Sender for End {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.down(FREE)?;
        let slot = self.next();
        self.map.copy_in(slot, payload.bytes(number));
        self.up(FULL)
    }
}

impl Receiver for End {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        self.down(FULL)?;
        let slot = self.next();
        self.map.copy_out(slot, &mut self.buffer);
        self.up(FREE)?;
        verifier.check(&self.buffer)?;
        Ok(true)
    }
}

impl Signalled {
    fn slots(self, task: &Task) -> u64 {
        // A semaphore counts to 32767.
        if self.ring { slots(task.length) } else { 1 }
    }

    fn end(self, task: &Task, link: &Link) -> Result<End> {
        let (memory, events) = link.descriptors.split_first().context("no memory")?;
        let counters = match (self.signal, events) {
            (Signal::Semaphores, _) => Counters::Semaphores(Set::from_id(link.name.parse()?)),
            (Signal::Events, [free, full]) => {
                Counters::Events([inherited(*free)?, inherited(*full)?])
            }
            _ => Counters::Futex,
        };
        Ok(End {
            counters,
            map: Map::new(&inherited(*memory)?)?,
            slots: self.slots(task),
            length: task.length,
            position: 0,
            buffer: vec![0; task.length],
        })
    }
}

impl Transport for Signalled {
    type Sender = End;
    type Receiver = End;

    fn about(&self) -> About {
        let (name, family) = match (self.signal, self.ring) {
            (Signal::Semaphores, false) => ("System V semaphores, one slot", Family::Kernel),
            (Signal::Semaphores, true) => ("System V semaphores, ring", Family::Kernel),
            (Signal::Events, false) => ("eventfd, one slot", Family::Kernel),
            (Signal::Events, true) => ("eventfd, ring", Family::Kernel),
            (Signal::Futex, false) => ("bare futex, one slot", Family::Bare),
            (Signal::Futex, true) => ("bare futex, with slots", Family::Bare),
        };
        About::new(name, family, Waits::Block, Way::OneByOne)
    }

    fn wire(&self, task: &Task, _: &str) -> Result<Wire> {
        let slots = self.slots(task);
        let memory = raw::memory(SLOTS + slots as usize * task.length)?;
        if self.signal == Signal::Futex {
            // Relaxed: the ends are not born yet.
            Map::new(&memory)?
                .u32(FREE * LINE)
                .store(slots as u32, Relaxed);
        }
        let mut wire = Wire::default().hand_on(memory)?;
        match self.signal {
            Signal::Semaphores => {
                let set = Set::create(Key::PRIVATE, 2, Mode::default())
                    .context("no semaphore set can be made (see kernel.sem in: tombolo limits)")?;
                wire = wire.cleanup(move || {
                    let _ = set.remove();
                });
                set.set_values(&[slots as u16, 0])?;
                wire.link.name = set.id().to_string();
            }
            Signal::Events => {
                for count in [slots as u32, 0] {
                    let flags = EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE;
                    wire = wire.hand_on(eventfd(count, flags)?)?;
                }
            }
            Signal::Futex => {}
        }
        Ok(wire)
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<End> {
        self.end(task, link)
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<End> {
        self.end(task, link)
    }
}
