//! The bodies: what the two ends do while they are measured. One for each topology, compiled for
//! each transport.
//!
//! **Stream.** The receiver takes time from the first message after it is warm (see `warm`) to the
//! last. The sender looks at the clock between chunks, and sends the end when the
//! time is over.
//!
//! Both mark where they are warm and where their time ends: see [`calls`](crate::calls).
//!
//! **With pauses** the sender of a stream waits before each message, and both note the time of each.
//!
//! **Round trip.** One asks and takes the time of each round by one reading of the counter; the
//! other answers with a message of the same number. Both check what they get.

use crate::calls::{SWITCHES, counted, mark};
use crate::clock;
use crate::content::{END, Payload, Verifier, end, first, sum_of};
use crate::stats::RoundTrips;
use crate::transport::{
    About, Caller, Job, Outcome, Receiver, Responder, Role, Runner, Seat, Sender, Service, Task,
    Topology, Transport, Wire,
};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// Sends messages until the time is over.
///
/// # Errors
/// What the transport says, or the verifier.
pub fn send_stream(sender: &mut impl Sender, task: &Task, place: usize) -> Result<Outcome> {
    let mut payload = Payload::new(task.length, task.thorough);
    let mut next = first(place);
    let warm = clock::now() + clock::ticks(warm(task));
    for over in [warm, warm + clock::ticks(task.duration)] {
        while clock::now() < over {
            sender.send_many(next..next + task.chunk(), &mut payload)?;
            next += task.chunk();
        }
        mark();
    }
    if task.consumers == 1 || task.broadcast {
        sender.send(end(next), &mut payload)?;
    }
    let messages = next - first(place);
    Ok(Outcome {
        messages,
        sum: sum_of(place, messages),
        ..Outcome::default()
    })
}

/// Bytes of a large ring of short messages, with their headers.
const RING: u64 = 4 << 20;
/// What a word or two before each message take, in bytes.
const HEADER: u64 = 8;

/// A fifth of the time, and long enough for a lap of each ring, whose pages come one by one: for one of long messages
/// 16 ms for 1 MiB, for one of short ones as many as it has room for, and where there are several producers, who take
/// turns, two turns of each. Not before, where nothing is timed.
fn warm(task: &Task) -> Duration {
    let length = task.length as u64;
    let each = match task.topology {
        Topology::RoundTrip => 200,
        Topology::Stream => 20,
    };
    let lap = Duration::from_nanos(RING / (length + HEADER) * each);
    let lap = lap.max(Duration::from_micros(length / 64));
    let turns = match task.producers {
        0 | 1 => Duration::ZERO,
        several => Duration::from_millis(8 * several as u64),
    };
    let least = if task.thorough {
        Duration::ZERO
    } else {
        lap.max(turns)
    };
    least.max(task.duration / 5)
}

/// Receives messages until all senders have ended.
///
/// # Errors
/// What the transport says, or the verifier.
pub fn recv_stream(receiver: &mut impl Receiver, task: &Task) -> Result<Outcome> {
    let mut verifier = Verifier::new(task.length, task.producers)
        .thorough(task.thorough)
        .shared(task.consumers > 1 && !task.broadcast);
    let mut goes_on = receiver.recv(&mut verifier)?;
    let warm = clock::now() + clock::ticks(warm(task));
    while goes_on && clock::now() < warm {
        goes_on = recv_chunk(receiver, &mut verifier, task.chunk())?;
    }
    mark();
    let (before, start) = (verifier.received(), clock::now());
    while goes_on {
        goes_on = recv_chunk(receiver, &mut verifier, u64::MAX)?;
    }
    let ticks = clock::now().wrapping_sub(start);
    mark();
    let timed = verifier.received() - before;
    Ok(Outcome {
        messages: verifier.received(),
        sum: verifier.sum(),
        timed,
        rate: (timed > 0).then(|| timed as f64 * 1e9 / clock::nanoseconds(ticks)),
        ..Outcome::default()
    })
}

/// Sends a message after each pause, and notes when.
///
/// # Errors
/// What the transport says.
pub fn send_with_pauses(sender: &mut impl Sender, task: &Task) -> Result<Outcome> {
    let mut payload = Payload::new(task.length, task.thorough);
    let mut stamps = Vec::new();
    let mut next = first(0);
    let over = clock::now() + clock::ticks(task.duration);
    loop {
        let end = clock::now() + clock::ticks(task.pause);
        while clock::now() < end {
            std::hint::spin_loop();
        }
        let now = clock::now();
        if now >= over {
            break;
        }
        sender.send(next, &mut payload)?;
        stamps.push(now);
        next += 1;
    }
    sender.send(end(next), &mut payload)?;
    let messages = next - first(0);
    Ok(Outcome {
        messages,
        sum: sum_of(0, messages),
        stamps,
        ..Outcome::default()
    })
}

/// Receives what is [sent with pauses](send_with_pauses), and notes when.
///
/// # Errors
/// What the transport says, or the verifier.
pub fn recv_with_pauses(receiver: &mut impl Receiver, task: &Task) -> Result<Outcome> {
    let mut verifier = Verifier::new(task.length, task.producers).thorough(task.thorough);
    let mut stamps = Vec::new();
    while receiver.recv(&mut verifier)? && !verifier.is_over() {
        stamps.push(clock::now());
    }
    Ok(Outcome {
        messages: verifier.received(),
        sum: verifier.sum(),
        stamps,
        ..Outcome::default()
    })
}

#[inline]
fn recv_chunk(receiver: &mut impl Receiver, verifier: &mut Verifier, chunk: u64) -> Result<bool> {
    for _ in 0..chunk {
        if verifier.is_over() || !receiver.recv(verifier)? {
            return Ok(false);
        }
    }
    Ok(!verifier.is_over())
}

/// Asks until the time is over, and takes the time of each round.
///
/// # Errors
/// What the transport says, or the verifier.
pub fn ask(caller: &mut impl Caller, task: &Task) -> Result<Outcome> {
    let mut payload = Payload::new(task.length, task.thorough);
    let mut verifier = Verifier::new(task.length, 1).thorough(task.thorough);
    let mut next = 0;
    let mut trips = RoundTrips::default();
    let mut before = clock::now();
    let warm = before + clock::ticks(warm(task));
    while before < warm {
        caller.call(next, &mut payload, &mut verifier)?;
        next += 1;
        before = clock::now();
    }
    mark();
    before = clock::now();
    let over = before + clock::ticks(task.duration);
    while before < over {
        caller.call(next, &mut payload, &mut verifier)?;
        next += 1;
        let after = clock::now();
        trips.record(after.wrapping_sub(before));
        before = after;
    }
    mark();
    caller.call(end(next), &mut payload, &mut verifier)?;
    ensure!(
        verifier.received() == next,
        "not every question was answered"
    );
    Ok(Outcome {
        messages: next,
        sum: verifier.sum(),
        latency: (trips.count() > 0).then(|| trips.latency()),
        ..Outcome::default()
    })
}

/// Answers until there are no more questions.
///
/// # Errors
/// What the transport says, or the verifier.
pub fn answer(responder: &mut impl Responder, task: &Task) -> Result<Outcome> {
    let mut payload = Payload::new(task.length, task.thorough);
    let mut verifier = Verifier::new(task.length, 1).thorough(task.thorough);
    let warm = clock::now() + clock::ticks(warm(task));
    while !verifier.is_over() && clock::now() < warm {
        responder.respond(&mut payload, &mut verifier)?;
    }
    mark();
    let before = verifier.received();
    while !verifier.is_over() {
        responder.respond(&mut payload, &mut verifier)?;
    }
    mark();
    Ok(Outcome {
        messages: verifier.received(),
        timed: verifier.received() - before,
        sum: verifier.sum(),
        ..Outcome::default()
    })
}

/// Two wires make a service.
#[derive(Debug)]
pub struct Both<S, R> {
    /// What goes out.
    pub sender: S,
    /// What comes in.
    pub receiver: R,
}

impl<S: Sender, R: Receiver> Caller for Both<S, R> {
    #[inline]
    fn call(&mut self, number: u64, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        self.sender.send(number, payload)?;
        ensure!(self.receiver.recv(verifier)?, "the other end has left");
        Ok(())
    }
}

impl<S: Sender, R: Receiver> Responder for Both<S, R> {
    #[inline]
    fn respond(&mut self, payload: &mut Payload, verifier: &mut Verifier) -> Result<()> {
        ensure!(self.receiver.recv(verifier)?, "the other end has left");
        self.sender.send(verifier.latest(), payload)
    }
}

/// How many times this thread went to sleep so far, and how many times it was preempted.
fn switches() -> [u64; 2] {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    SWITCHES.map(|name| {
        let count = status.lines().find_map(|line| line.strip_prefix(name));
        count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    })
}

/// Nanoseconds in which this thread could have run and did not; zero if the kernel does not count.
fn delay() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let delay = counts.split(' ').nth(1);
    delay.and_then(|delay| delay.parse().ok()).unwrap_or(0)
}

fn job(run: impl FnOnce() -> Result<Outcome> + 'static) -> Job {
    Box::new(move || {
        let ([slept, preempted], delayed) = (switches(), delay());
        let start = Instant::now();
        let mut outcome = run()?;
        let took = start.elapsed().as_nanos() as f64;
        outcome.delayed = (delay() - delayed) as f64 / took;
        let now = switches();
        outcome.sleeps = now[0] - slept;
        outcome.preemptions = now[1] - preempted;
        outcome.calls = counted()?;
        Ok(outcome)
    })
}

/// A transport as a runner: streams over one wire, round trips over two.
#[derive(Debug)]
pub struct OneWay<T>(pub T);

impl<T: Transport> Runner for OneWay<T>
where
    T::Sender: 'static,
    T::Receiver: 'static,
{
    fn about(&self) -> About {
        self.0.about()
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        if task.topology == Topology::RoundTrip && !task.is_pair() {
            return Some("round trips are between two".to_owned());
        }
        self.0.refuses(task)
    }

    fn broadcasts(&self) -> bool {
        self.0.broadcasts()
    }

    fn wires(&self, task: &Task, unique: &str) -> Result<Vec<Wire>> {
        let there = self.0.wire(task, &format!("{unique}-there"))?;
        Ok(match task.topology {
            Topology::Stream => vec![there],
            Topology::RoundTrip => vec![there, self.0.wire(task, &format!("{unique}-back"))?],
        })
    }

    fn open(&self, task: &Task, seat: &Seat) -> Result<Job> {
        let task = task.clone();
        Ok(match (seat.role, &*seat.links) {
            (Role::Sender(_), [there]) if task.has_pauses() => {
                let mut sender = self.0.sender(&task, there)?;
                job(move || send_with_pauses(&mut sender, &task))
            }
            (Role::Receiver(_), [there]) if task.has_pauses() => {
                let mut receiver = self.0.receiver(&task, there)?;
                job(move || recv_with_pauses(&mut receiver, &task))
            }
            (Role::Sender(place), [there]) => {
                let mut sender = self.0.sender(&task, there)?;
                job(move || send_stream(&mut sender, &task, place))
            }
            (Role::Receiver(_), [there]) => {
                let mut receiver = self.0.receiver(&task, there)?;
                job(move || recv_stream(&mut receiver, &task))
            }
            // Both ends open in one order: opening may wait for the other end.
            (Role::Sender(_), [there, back]) => {
                let sender = self.0.sender(&task, there)?;
                let receiver = self.0.receiver(&task, back)?;
                let mut both = Both { sender, receiver };
                job(move || ask(&mut both, &task))
            }
            (Role::Receiver(_), [there, back]) => {
                let receiver = self.0.receiver(&task, there)?;
                let sender = self.0.sender(&task, back)?;
                let mut both = Both { sender, receiver };
                job(move || answer(&mut both, &task))
            }
            (_, links) => bail!("{} wires instead of one or two", links.len()),
        })
    }
}

/// A service as a runner: round trips only.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: Service> Runner for Asked<T>
where
    T::Caller: 'static,
    T::Responder: 'static,
{
    fn about(&self) -> About {
        self.0.about()
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        let round_trip = task.topology == Topology::RoundTrip && task.is_pair();
        let other = (!round_trip).then(|| "answers requests, and does nothing else".to_owned());
        other.or_else(|| self.0.refuses(task))
    }

    fn wires(&self, task: &Task, unique: &str) -> Result<Vec<Wire>> {
        Ok(vec![self.0.wire(task, unique)?])
    }

    fn open(&self, task: &Task, seat: &Seat) -> Result<Job> {
        let task = task.clone();
        let [link] = &*seat.links else {
            bail!("{} wires instead of one", seat.links.len());
        };
        Ok(match seat.role {
            Role::Sender(_) => {
                let mut caller = self.0.caller(&task, link)?;
                job(move || ask(&mut caller, &task))
            }
            Role::Receiver(_) => {
                let mut responder = self.0.responder(&task, link)?;
                job(move || answer(&mut responder, &task))
            }
        })
    }
}

/// Whether a number ends a stream.
pub fn is_end(number: u64) -> bool {
    number & END != 0
}
