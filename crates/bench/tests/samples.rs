//! Samples of everything that is measured, between two processes, every byte of every message
//! checked; and of transports that lose, repeat and damage messages, which must not pass.

use anyhow::Result;
use bench::behaviour::behaviour;
use bench::body::OneWay;
use bench::conduct::{play_role, sample};
use bench::content::{Payload, Verifier};
use bench::fd::{Descriptor, End, Kind};
use bench::place::processors;
use bench::registry::{LENGTHS, runners};
use bench::transport::{
    About, Family, Link, Receiver, Runner, Sender, Task, Topology, Transport, Waits, Way, Wire,
};
use bench::woken::Woken;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::process::ExitCode;
use std::time::Duration;

/// What a liar does to the message of this number.
const VICTIM: u64 = 2;

#[derive(Clone, Copy)]
enum Lie {
    Nothing,
    Loses,
    Repeats,
    Damages,
    Swaps,
}

/// A pipe with a sender that does to one message what no transport should.
struct Liar {
    lie: Lie,
    pipe: Descriptor,
}

struct LyingSender {
    lie: Lie,
    end: End,
}

/// Changes a word of the last line of what arrives.
struct LyingReceiver {
    lie: Lie,
    end: End,
}

impl Sender for LyingSender {
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        match (self.lie, number) {
            (Lie::Loses, VICTIM) => return Ok(()),
            (Lie::Repeats, VICTIM) => self.end.send(number, payload)?,
            (Lie::Swaps, VICTIM) => return self.end.send(number + 1, payload),
            (Lie::Swaps, n) if n == VICTIM + 1 => return self.end.send(number - 1, payload),
            _ => {}
        }
        self.end.send(number, payload)
    }
}

impl Receiver for LyingReceiver {
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        if matches!(self.lie, Lie::Damages) && verifier.received() == VICTIM {
            let mut payload = Payload::new(verifier.length(), true);
            let mut message = payload.bytes(VICTIM).to_vec();
            let last = message.len() - 1;
            message[last] ^= 1;
            verifier.check(&message)?;
        }
        self.end.recv(verifier)
    }
}

impl Transport for Liar {
    type Sender = LyingSender;
    type Receiver = LyingReceiver;

    fn about(&self) -> About {
        let name = match self.lie {
            Lie::Nothing => "honest",
            Lie::Loses => "loses",
            Lie::Repeats => "repeats",
            Lie::Damages => "damages",
            Lie::Swaps => "swaps",
        };
        About::new(name, Family::Kernel, Waits::Block, Way::OneByOne)
    }

    fn wire(&self, task: &Task, unique: &str) -> Result<Wire> {
        self.pipe.wire(task, unique)
    }

    fn sender(&self, task: &Task, link: &Link) -> Result<LyingSender> {
        let (lie, end) = (self.lie, self.pipe.sender(task, link)?);
        Ok(LyingSender { lie, end })
    }

    fn receiver(&self, task: &Task, link: &Link) -> Result<LyingReceiver> {
        let (lie, end) = (self.lie, self.pipe.receiver(task, link)?);
        Ok(LyingReceiver { lie, end })
    }
}

const LIES: [Lie; 5] = [
    Lie::Nothing,
    Lie::Loses,
    Lie::Repeats,
    Lie::Damages,
    Lie::Swaps,
];

fn everything() -> Vec<Box<dyn Runner>> {
    let mut all = runners();
    let (kind, spin) = (Kind::Pipe, false);
    for lie in LIES {
        let pipe = Descriptor { kind, spin };
        all.push(Box::new(OneWay(Liar { lie, pipe })));
    }
    all
}

/// The processors of a pair, which may be one and the same.
fn pair() -> Result<[usize; 2]> {
    let processors = processors()?;
    Ok([processors[0], processors[1 % processors.len()]])
}

fn take(name: &str, task: &Task) -> Result<bool> {
    let all = everything();
    let runner = all.iter().find(|runner| runner.about().name == name);
    let runner = runner.expect("a runner");
    if runner.refuses(task).is_some() {
        return Ok(false);
    }
    let taken = sample(&**runner, task, pair()?)?;
    let messages: u64 = taken.receivers.iter().map(|end| end.messages).sum();
    anyhow::ensure!(messages > 0, "no message came");
    Ok(true)
}

fn run(name: &str) -> Result<Completion, Failed> {
    for topology in [Topology::RoundTrip, Topology::Stream] {
        for length in LENGTHS {
            let task = Task {
                thorough: true,
                ..Task::pair(topology, length, Duration::from_millis(5))
            };
            take(name, &task).map_err(|error| format!("{topology:?} of {length}: {error:#}"))?;
        }
    }
    for (producers, consumers) in [(3, 1), (1, 3), (3, 3)] {
        let task = Task {
            producers,
            consumers,
            thorough: true,
            ..Task::pair(Topology::Stream, 64, Duration::from_millis(5))
        };
        take(name, &task).map_err(|error| format!("{producers} to {consumers}: {error:#}"))?;
    }
    Ok(Completion::Completed)
}

fn refused(name: &str, expected: &str) -> Result<Completion, Failed> {
    // Who asks and gets no answer waits: that is noticed by the time it takes.
    let topologies: &[Topology] = match name {
        "loses" => &[Topology::Stream],
        _ => &[Topology::RoundTrip, Topology::Stream],
    };
    for topology in topologies.iter().copied() {
        let task = Task::pair(topology, 72, Duration::from_millis(100));
        match take(name, &task) {
            Ok(_) => return Err(format!("{topology:?}: nobody noticed").into()),
            Err(error) if format!("{error:#}").contains(expected) => {}
            Err(error) => return Err(format!("{topology:?}: {error:#}").into()),
        }
    }
    Ok(Completion::Completed)
}

/// What is counted is what there is: two calls for each message through a pipe, none through a ring,
/// and for a queue that spins no more than what they do who wait long.
fn behaves() -> Result<Completion, Failed> {
    let found = behaviour(&runners(), pair()?, true, |_| {})?;
    // On a busy machine one that should sleep may never come to it, and processors change places.
    let unlucky = |why: &String| why.ends_with("or it was awake") || why.ends_with("no pair");
    let parks = |woken: &Woken| woken.transport == "queue, parking";
    if !found.woken.iter().any(parks) || !found.skipped.iter().all(unlucky) {
        return Err(format!("{:?}, {:?}", found.woken, found.skipped).into());
    }
    for topology in [Topology::RoundTrip, Topology::Stream] {
        let of = |name: &str| {
            let mut all = found.calls.iter();
            let counted = all.find(|it| it.transport == name && it.topology == topology);
            counted.ok_or(format!("{name} was not counted"))
        };
        let (ring, pipe) = (of("bare ring, in-band")?, of("pipe")?);
        let queue = of("queue, spinning")?;
        let barriers = queue.by_name.contains_key("membarrier");
        if ring.calls > 0 || pipe.calls < pipe.messages || barriers {
            return Err(format!("{ring:?}, {queue:?}, {pipe:?}").into());
        }
    }
    let idle = found.idle.ok_or("no sleepers")?;
    if !(0.0..2.0).contains(&idle.median) {
        return Err(format!("{idle:?}").into());
    }
    Ok(Completion::Completed)
}

fn main() -> ExitCode {
    play_role(&everything());
    let mut options = Arguments::from_args();
    // A pair keeps two processors busy.
    options.test_threads = Some(1);
    let mut trials: Vec<Trial> = runners()
        .into_iter()
        .map(|runner| runner.about().name)
        .chain(["honest".to_owned()])
        .map(|name| Trial::ignorable_test(name.clone(), move || run(&name)))
        .collect();
    trials.push(Trial::ignorable_test("behaviour", behaves));
    for (name, expected) in [
        ("loses", "is missing"),
        ("repeats", "came again"),
        ("damages", "is damaged"),
        ("swaps", "is missing"),
    ] {
        let test = move || refused(name, expected);
        trials.push(Trial::ignorable_test(name, test));
    }
    libtest_mimic::run(&options, trials).exit_code()
}
