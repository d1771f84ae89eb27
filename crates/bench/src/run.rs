//! A run: samples of everything in turn, each between samples of the bare rings.
//!
//! For each shape and length, everything is first run thoroughly and not timed. Then come the
//! repetitions: the bare rings, a few transports, the bare rings, a few more, and so on, so that
//! every sample has a bare one that was taken within a second or two. Repetitions go on until every
//! transport has as many *pairs* as asked for (see `figures`), or three times as often.

use crate::conduct::{Taken, sample};
use crate::costs::Cost;
use crate::figures::pairs;
use crate::growth::Chart;
use crate::machine::Machine;
use crate::place::{Class, Placement};
use crate::stats::Latency;
use crate::transport::{About, Family, Runner, Task, Topology};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Transports between two rounds of the bare rings.
const BETWEEN: usize = 3;

/// A sample counts if something else ran on its processors no more than so many times.
pub const CALM: u64 = 3;

/// How a run is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// The shapes.
    pub topologies: Vec<Topology>,
    /// Bytes of messages.
    pub lengths: Vec<usize>,
    /// Pairs for each figure.
    pub repetitions: usize,
    /// How long time is taken for each sample.
    pub duration: Duration,
    /// Two processors.
    pub processors: [usize; 2],
    /// Only transports whose name contains one of these; all if empty. The bare ones always.
    pub only: Vec<String>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The transport's name.
    pub transport: String,
    /// The shape.
    pub topology: Topology,
    /// Bytes of a message.
    pub length: usize,
    /// Seconds since the run began.
    pub at: f64,
    /// The readings around it.
    pub placement: Placement,
    /// How far apart its processes were, if the readings agree and nothing [disturbed](CALM) them.
    pub class: Option<Class>,
    /// How many times something else took a processor of theirs.
    pub preemptions: u64,
    /// How many messages there were.
    pub messages: u64,
    /// Messages per second.
    pub rate: Option<f64>,
    /// One-way latency.
    pub latency: Option<Latency>,
    /// How many times its processes went to sleep.
    pub sleeps: u64,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// What.
    pub transport: String,
    /// In which shapes and for which lengths, in words.
    pub task: String,
    /// Why.
    pub reason: String,
}

/// All that a run brought.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Where it ran.
    pub machine: Machine,
    /// How it was to be.
    pub options: Options,
    /// What was measured.
    pub transports: Vec<About>,
    /// The measurements.
    pub samples: Vec<Sample>,
    /// What was not measured, and why.
    pub skipped: Vec<Skipped>,
    /// What becomes of it when there is more of something.
    #[serde(default)]
    pub growth: Vec<Chart>,
    /// What single operations cost.
    #[serde(default)]
    pub costs: Vec<Cost>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Runs everything; `progress` is told what is going on.
///
/// # Errors
/// Nothing of one transport's: what fails is skipped and said so.
pub fn run(
    runners: &[Box<dyn Runner>],
    options: &Options,
    mut progress: impl FnMut(&str),
) -> Result<Record> {
    let mut run = Run {
        options,
        start: Instant::now(),
        samples: Vec::new(),
        skipped: Vec::new(),
    };
    let wanted: Vec<&dyn Runner> = runners
        .iter()
        .map(|runner| &**runner)
        .filter(|runner| options.wants(&runner.about()))
        .collect();
    for topology in &options.topologies {
        for length in &options.lengths {
            run.cell(&wanted, *topology, *length, &mut progress);
        }
    }
    Ok(Record {
        machine: Machine::here(),
        options: options.clone(),
        transports: wanted.iter().map(|runner| runner.about()).collect(),
        samples: run.samples,
        skipped: run.skipped,
        growth: Vec::new(),
        costs: Vec::new(),
        seconds: run.start.elapsed().as_secs_f64(),
    })
}

impl Options {
    fn wants(&self, about: &About) -> bool {
        let named = || self.only.iter().any(|part| about.name.contains(part));
        about.family == Family::Bare || self.only.is_empty() || named()
    }
}

struct Run<'a> {
    options: &'a Options,
    start: Instant,
    samples: Vec<Sample>,
    skipped: Vec<Skipped>,
}

impl Run<'_> {
    /// All transports at one shape and length.
    fn cell(
        &mut self,
        wanted: &[&dyn Runner],
        topology: Topology,
        length: usize,
        progress: &mut impl FnMut(&str),
    ) {
        let task = Task::pair(topology, length, self.options.duration);
        let thorough = Task {
            thorough: true,
            duration: Duration::from_millis(2),
            ..task.clone()
        };
        let mut able = Vec::new();
        for runner in wanted {
            if let Some(reason) = runner.refuses(&task) {
                self.skip(&runner.about(), &task, reason);
            } else if let Err(error) = sample(*runner, &thorough, self.options.processors) {
                self.skip(&runner.about(), &task, format!("{error:#}"));
            } else {
                able.push(*runner);
            }
        }
        let (bare, others): (Vec<_>, Vec<_>) = able
            .into_iter()
            .partition(|runner| runner.about().family == Family::Bare);
        for repetition in 1..=3 * self.options.repetitions {
            let lacking: Vec<_> = others
                .iter()
                .filter(|other| self.lacks(&other.about().name, &task, &bare, repetition))
                .collect();
            if lacking.is_empty() && repetition > 1 {
                break;
            }
            let (shape, of) = (name(topology), self.options.repetitions);
            progress(&format!(
                "{shape}, {length} bytes, round {repetition} of {of}"
            ));
            for few in lacking.chunks(BETWEEN) {
                bare.iter().for_each(|runner| self.take(*runner, &task));
                few.iter().for_each(|runner| self.take(**runner, &task));
            }
            bare.iter().for_each(|runner| self.take(*runner, &task));
        }
    }

    /// Whether a transport needs another sample.
    fn lacks(&self, name: &str, task: &Task, bare: &[&dyn Runner], repetition: usize) -> bool {
        // Any bare ring will do to tell whether it was a good moment.
        let bare: Vec<_> = bare.iter().map(|runner| runner.about()).collect();
        let samples = self
            .samples
            .iter()
            .filter(|sample| sample.topology == task.topology && sample.length == task.length);
        let samples: Vec<_> = samples.collect();
        repetition <= self.options.repetitions
            || pairs(&samples, name, &bare).count() < self.options.repetitions
    }

    fn take(&mut self, runner: &dyn Runner, task: &Task) {
        let about = runner.about();
        match sample(runner, task, self.options.processors) {
            Ok(taken) => {
                let at = self.start.elapsed().as_secs_f64();
                self.samples.push(Sample::of(about.name, task, at, &taken));
            }
            Err(error) => self.skip(&about, task, format!("{error:#}")),
        }
    }

    fn skip(&mut self, about: &About, task: &Task, reason: String) {
        let skipped = Skipped {
            transport: about.name.clone(),
            task: self::task(task.topology, task.length),
            reason,
        };
        if !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }
}

impl Sample {
    fn of(transport: String, task: &Task, at: f64, taken: &Taken) -> Self {
        let ends = || taken.senders.iter().chain(&taken.receivers);
        let preemptions = ends().map(|end| end.preemptions).sum();
        let calm = preemptions <= CALM;
        Self {
            transport,
            topology: task.topology,
            length: task.length,
            at,
            placement: taken.placement,
            class: taken.placement.class().filter(|_| calm),
            preemptions,
            messages: taken.receivers.iter().map(|end| end.messages).sum(),
            rate: ends().find_map(|end| end.rate),
            latency: ends().find_map(|end| end.latency),
            sleeps: ends().map(|end| end.sleeps).sum(),
        }
    }
}

/// A task in words.
pub fn task(topology: Topology, length: usize) -> String {
    format!("{}, {length} bytes", name(topology))
}

/// A shape in words.
pub fn name(topology: Topology) -> &'static str {
    match topology {
        Topology::RoundTrip => "round trip",
        Topology::Stream => "stream",
    }
}
