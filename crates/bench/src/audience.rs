//! What a further subscriber costs the publisher of a topic whose slow subscribers are overrun.
//!
//! The figure is the publisher's own rate, with one subscriber that keeps up as well as it can; then
//! with a second one that does nothing, or that takes a message a thousand times a second.

use crate::clock;
use crate::content::Payload;
use crate::transport::{
    About, Family, Job, Outcome, Role, Runner, Seat, Task, Topology, Waits, Way, Wire,
};
use anyhow::{Context, Result};
use std::thread;
use std::time::{Duration, Instant};
use tombolo::Name;
use tombolo::topic::{Options, Policy, Publisher, RecvError, Start, Subscriber};

/// What the second subscriber does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Further {
    /// There is none.
    Nobody,
    /// It sleeps all the time.
    Asleep,
    /// It takes a message, and sleeps for a millisecond.
    Slow,
}

/// A publisher, and who listens.
#[derive(Clone, Copy, Debug)]
pub struct Audience(pub Further);

/// All of them.
pub const ALL: [Audience; 3] = [
    Audience(Further::Nobody),
    Audience(Further::Asleep),
    Audience(Further::Slow),
];

const NAP: Duration = Duration::from_millis(1);

fn options() -> Options {
    Options {
        publishers: 1,
        policy: Policy::Overrun,
        ..Options::default()
    }
}

impl Audience {
    /// How many listen.
    pub fn subscribers(self) -> usize {
        match self.0 {
            Further::Nobody => 1,
            _ => 2,
        }
    }
}

fn publish(name: Name, task: &Task) -> Result<Job> {
    let mut publisher = Publisher::open_or_create(name, &options())?;
    let task = task.clone();
    Ok(Box::new(move || {
        let mut payload = Payload::new(task.length, false);
        let mut next = 0;
        let mut timed = 0;
        let mut start = clock::now();
        // First what is not timed, then what is.
        for duration in [task.duration / 5, task.duration] {
            (start, timed) = (clock::now(), next);
            let over = start + clock::ticks(duration);
            while clock::now() < over {
                for _ in 0..task.chunk() {
                    publisher.publish(payload.bytes(next))?;
                    next += 1;
                }
            }
        }
        let seconds = clock::nanoseconds(clock::now().wrapping_sub(start)) / 1e9;
        Ok(Outcome {
            rate: Some((next - timed) as f64 / seconds),
            ..Outcome::default()
        })
    }))
}

fn listen(name: Name, task: &Task, further: Option<Further>) -> Result<Job> {
    let mut subscriber = Subscriber::open_or_create(name, &options(), Start::Now)?;
    let duration = task.duration;
    Ok(Box::new(move || {
        let mut message = Vec::new();
        let over = Instant::now() + duration * 2;
        match further {
            Some(Further::Asleep) => thread::sleep(duration * 2),
            _ => loop {
                match subscriber.recv(&mut message) {
                    Ok(_) => {}
                    Err(RecvError::Closed) => break,
                    Err(error) => return Err(error.into()),
                }
                if further.is_some() {
                    thread::sleep(NAP);
                    if Instant::now() > over {
                        break;
                    }
                }
            },
        }
        // What came is not compared: that messages are lost is the point.
        Ok(Outcome::default())
    }))
}

impl Runner for Audience {
    fn about(&self) -> About {
        let name = match self.0 {
            Further::Nobody => "topic, one subscriber",
            Further::Asleep => "topic, a second one asleep",
            Further::Slow => "topic, a second one slow",
        };
        About::new(name, Family::Tombolo, Waits::Adaptive, Way::OneByOne)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        (task.topology != Topology::Stream).then(|| "nobody answers".to_owned())
    }

    fn wires(&self, _: &Task, unique: &str) -> Result<Vec<Wire>> {
        let name: Name = unique.parse()?;
        Ok(vec![Wire::named(unique).cleanup(move || {
            // Gone already, unless an end was killed.
            let _ = tombolo::topic::remove(name);
        })])
    }

    fn open(&self, task: &Task, seat: &Seat) -> Result<Job> {
        let name: Name = seat.links.first().context("a name")?.name.parse()?;
        match seat.role {
            Role::Sender(_) => publish(name, task),
            Role::Receiver(0) => listen(name, task, None),
            Role::Receiver(_) => listen(name, task, Some(self.0)),
        }
    }
}
