//! What channels do beside moving messages: the system calls that they make while everybody is
//! awake, what they cost while everybody sleeps, what it takes to wake them (see `woken`), and what a further subscriber
//! costs.

use crate::audience::{self, Further};
use crate::calls::name;
use crate::conduct::{Taken, sample, sample_counted};
use crate::idle::Idle;
use crate::interrupts;
use crate::place::agree;
use crate::run::Step;
use crate::stats::Spread;
use crate::transport::{Runner, Task, Topology};
use crate::woken::{Woken, woken};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// System calls of both processes of some samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// The transport.
    pub transport: String,
    /// The shape.
    pub topology: Topology,
    /// How many messages were received meanwhile.
    pub messages: u64,
    /// How many calls there were.
    pub calls: u64,
    /// How many of them while the other process had no processor.
    #[serde(default)]
    pub away: u64,
    /// How many times something else took the processor of one of them.
    #[serde(default)]
    pub preemptions: u64,
    /// How many times each was made, by its name.
    #[serde(default)]
    pub by_name: BTreeMap<String, u64>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Behaviour {
    /// System calls, of messages of 64 B.
    pub calls: Vec<Counted>,
    /// The share of a processor that a thousand parked consumers take together.
    pub idle: Option<Spread>,
    /// A publisher's rate with a second subscriber that sleeps, as a multiple of that without.
    pub asleep: Option<Spread>,
    /// The same with one that is slow.
    pub slow: Option<Spread>,
    /// What it takes to wake one who sleeps.
    #[serde(default)]
    pub woken: Vec<Woken>,
    /// What could not be found, and why.
    pub skipped: Vec<String>,
}

const TRACED: [&str; 7] = [
    "bare ring, in-band",
    "queue, spinning",
    "queue",
    "topic",
    "service",
    "pipe",
    "System V queue",
];

/// Of so many samples calls are counted.
const SAMPLES: usize = 5;

/// Finds all of it.
///
/// # Errors
/// [`Interrupted`](interrupts::Interrupted) only.
pub fn behaviour(
    runners: &[Box<dyn Runner>],
    processors: [usize; 2],
    quick: bool,
    mut progress: impl FnMut(&Step),
) -> Result<Behaviour> {
    let mut found = Behaviour::default();
    progress(&Step::of("system calls"));
    for traced in TRACED {
        for topology in [Topology::RoundTrip, Topology::Stream] {
            let runner = runners.iter().find(|runner| runner.about().name == traced);
            let task = Task::pair(topology, 64, Duration::from_millis(40));
            let Some(runner) = runner.filter(|runner| runner.refuses(&task).is_none()) else {
                continue;
            };
            match count(&**runner, &task, processors)? {
                Ok(counted) => found.calls.push(counted),
                Err(error) => found.skipped.push(format!("calls of {traced}: {error:#}")),
            }
        }
    }
    progress(&Step::of("a thousand sleepers"));
    let task = Task::pair(Topology::Stream, 64, Duration::from_secs(1));
    let mut shares = Vec::new();
    for _ in 0..if quick { 1 } else { 3 } {
        let taken = sample(&Idle, &task, processors);
        interrupts::check()?;
        match taken {
            Ok(taken) => shares.extend(taken.receivers.iter().filter_map(|end| end.rate)),
            Err(error) => found.skipped.push(format!("sleepers: {error:#}")),
        }
    }
    found.idle = Spread::of(shares);
    progress(&Step::of("waking"));
    let repetitions = if quick { 1 } else { 9 };
    found.woken = woken(runners, processors, repetitions, &mut found.skipped)?;
    progress(&Step::of("a further subscriber"));
    let [asleep, slow] = listeners(&mut found.skipped, processors, if quick { 1 } else { 33 })?;
    (found.asleep, found.slow) = (Spread::of(asleep), Spread::of(slow));
    Ok(found)
}

/// The calls of a few samples together.
///
/// # Errors
/// [`Interrupted`](interrupts::Interrupted); within, what went wrong with a sample.
fn count(runner: &dyn Runner, task: &Task, processors: [usize; 2]) -> Result<Result<Counted>> {
    let mut counted = Counted {
        transport: runner.about().name,
        topology: task.topology,
        messages: 0,
        calls: 0,
        away: 0,
        preemptions: 0,
        by_name: BTreeMap::new(),
    };
    for _ in 0..SAMPLES {
        let taken = sample_counted(runner, task, processors);
        interrupts::check()?;
        match taken {
            Ok(taken) => counted.add(&taken),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(counted))
}

impl Counted {
    fn add(&mut self, taken: &Taken) {
        self.messages += taken.receivers.iter().map(|end| end.timed).sum::<u64>();
        for end in taken.receivers.iter().chain(&taken.senders) {
            self.preemptions += end.preemptions;
            for (number, made) in &end.calls {
                self.calls += made.all;
                self.away += made.away;
                // Some numbers have one name.
                *self.by_name.entry(name(*number)).or_default() += made.all;
            }
        }
    }
}

/// Multiples of the rate without a second subscriber: with one asleep, and with a slow one. All
/// are taken in turn, the rate without before and after, and count only if they were taken at one distance.
fn listeners(
    skipped: &mut Vec<String>,
    processors: [usize; 2],
    repetitions: usize,
) -> Result<[Vec<f64>; 2]> {
    let (mut asleep, mut slow) = (Vec::new(), Vec::new());
    // Rates differ from sample to sample by a fifth, whoever listens, and what is looked for is a twentieth: many
    // short samples. Of 99 of 100 ms the median was off by as much as that.
    let pairs = 12 * repetitions;
    let duration = Duration::from_millis(20);
    for _ in 0..3 * pairs {
        if asleep.len() == pairs {
            break;
        }
        let mut taken = Vec::new();
        // The one that the others are held against before them and after: rates drift.
        let alone = audience::ALL[0];
        for audience in audience::ALL.into_iter().chain([alone]) {
            let task = Task {
                consumers: audience.subscribers(),
                ..Task::pair(Topology::Stream, 64, duration)
            };
            let one = sample(&audience, &task, processors);
            interrupts::check()?;
            match one {
                Ok(one) => taken.push((audience.0, one)),
                Err(error) => skipped.push(format!("a further subscriber: {error:#}")),
            }
        }
        let [
            (Further::Nobody, alone),
            (_, sleeping),
            (_, slowly),
            (_, again),
        ] = taken.as_slice()
        else {
            break;
        };
        let distance = alone.placement.distance();
        let same = |taken: &Taken| agree(distance, taken.placement.distance());
        let rate = |taken: &Taken| taken.senders.iter().find_map(|end| end.rate);
        let comparable = [sleeping, slowly, again].into_iter().all(same);
        if let (true, Some(before), Some(after)) = (comparable, rate(alone), rate(again)) {
            let alone = (before + after) / 2.0;
            asleep.extend(rate(sleeping).map(|rate| rate / alone));
            slow.extend(rate(slowly).map(|rate| rate / alone));
        }
    }
    Ok([asleep, slow])
}
