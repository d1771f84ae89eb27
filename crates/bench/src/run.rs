//! A run: samples of everything in turn, each between samples of the bare rings.
//!
//! ```text
//! round    every shape and length     at one of them, for each way of handing over
//! 1        ├─ 8 B ─ 64 B ─ … ─┤       rings │ a b c │ rings │ d e f │ rings
//! 2        ├─ 8 B ─ 64 B ─ … ─┤       only those that lack a pair
//! …        until none lacks one, or the time is over
//! ```
//!
//! First everything is run thoroughly and not timed. Then come rounds over all shapes and lengths.
//! At each of them a few transports are sampled between two samples of the bare rings that they are held
//! against, so that every sample has a bare one that was taken within a second. The repetitions of one figure are
//! a round apart, so a disturbance spoils one of them and not all (but for the last ones of those that are to have
//! more of them than others, whose rounds are short). Rounds go on until every transport has
//! as many *pairs* as asked for (see `figures`) at the most common distance, or until the time is over; then
//! some have fewer, which the tables say.

use crate::behaviour::Behaviour;
use crate::conduct::{Taken, sample};
use crate::costs::Cost;
use crate::figures::{bare_ring, pairs, way_of_rings};
use crate::growth::Chart;
use crate::interrupts;
use crate::machine::Machine;
use crate::place::{Distance, Placement};
use crate::stats::Latency;
use crate::summary::WAYS;
use crate::transport::{About, Family, Runner, Task, Topology, Waits, Way};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Transports between two rounds of the bare rings.
const BETWEEN: usize = 3;

/// Longest message that is short, in bytes.
pub(crate) const SHORT: usize = 64;

/// A sample counts if something else ran on its processors no more than so many times,
pub const CALM: u64 = 3;

/// or if that kept neither process off its processor for more than this share of the time. Both,
/// because the kernel's own threads run for a moment a hundred times a second and hurt nobody,
/// and because a process that is woken waits a little for its processor, as it should.
pub const DELAY: f64 = 0.02;

/// How a run is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// The shapes.
    pub topologies: Vec<Topology>,
    /// Bytes of messages.
    pub lengths: Vec<usize>,
    /// Pairs for each figure.
    pub repetitions: usize,
    /// Pairs for each latency of our own short messages whose receivers look for them: it goes by the nanosecond, and
    /// when a sample happens to look makes more of a difference than what its goals leave.
    #[serde(default)]
    pub close_ones: usize,
    /// How long time is taken for each sample.
    pub duration: Duration,
    /// No round begins after so long.
    #[serde(default)]
    pub patience: Duration,
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
    /// Whether it has a figure, and nothing [disturbed](DELAY) it.
    pub counts: bool,
    /// How many times something else took a processor of theirs.
    pub preemptions: u64,
    /// The largest share of the time in which a process of theirs could have run and did not.
    #[serde(default)]
    pub delayed: f64,
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
    /// What channels do beside moving messages.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// How far a run is.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is being done, in words.
    pub what: String,
    /// Pairs that there are.
    pub done: usize,
    /// Pairs that are wanted; 0 if that is not known yet.
    pub wanted: usize,
}

impl Step {
    /// Something that is not counted.
    pub fn of(what: impl Into<String>) -> Self {
        let what = what.into();
        Self {
            what,
            done: 0,
            wanted: 0,
        }
    }
}

/// Runs everything; `progress` is told what is going on.
///
/// # Errors
/// [`Interrupted`](interrupts::Interrupted) only: what fails of one transport is skipped and said
/// so.
pub fn run(
    runners: &[Box<dyn Runner>],
    options: &Options,
    mut progress: impl FnMut(&Step),
) -> Result<Record> {
    let wanted: Vec<&dyn Runner> = runners
        .iter()
        .map(|runner| &**runner)
        .filter(|runner| options.wants(&runner.about()))
        .collect();
    let mut run = Run {
        options,
        start: Instant::now(),
        transports: wanted.iter().map(|runner| runner.about()).collect(),
        samples: Vec::new(),
        skipped: Vec::new(),
    };
    let mut cells = Vec::new();
    for topology in &options.topologies {
        for length in &options.lengths {
            progress(&Step::of(format!("checking: {}", task(*topology, *length))));
            cells.push(run.check(&wanted, *topology, *length)?);
        }
    }
    run.rounds(&cells, &mut progress)?;
    Ok(Record {
        machine: Machine::here(),
        options: options.clone(),
        transports: run.transports,
        samples: run.samples,
        skipped: run.skipped,
        growth: Vec::new(),
        costs: Vec::new(),
        behaviour: Behaviour::default(),
        seconds: run.start.elapsed().as_secs_f64(),
    })
}

impl Options {
    /// Pairs for the figure of a transport.
    pub(crate) fn pairs(&self, about: &About, topology: Topology, length: usize) -> usize {
        let ours = about.family == Family::Tombolo && about.waits != Waits::Block;
        if ours && topology == Topology::RoundTrip && length <= SHORT {
            self.close_ones.max(self.repetitions)
        } else {
            self.repetitions
        }
    }

    fn pairs_of(&self, about: &About, task: &Task) -> usize {
        self.pairs(about, task.topology, task.length)
    }

    fn wants(&self, about: &About) -> bool {
        let named = || self.only.iter().any(|part| about.name.contains(part));
        about.family == Family::Bare || self.only.is_empty() || named()
    }
}

/// A shape and a length, and what can do it.
struct Cell<'a> {
    task: Task,
    rings: Vec<&'a dyn Runner>,
    others: Vec<&'a dyn Runner>,
}

impl<'a> Cell<'a> {
    /// The rings that transports of this way are held against.
    fn rings_of(&self, way: Way) -> Vec<&'a dyn Runner> {
        let rings = || self.rings.iter().copied();
        let way = way_of_rings(rings().map(|ring| ring.about().way), way);
        rings().filter(|ring| ring.about().way == way).collect()
    }
}

struct Run<'a> {
    options: &'a Options,
    start: Instant,
    transports: Vec<About>,
    samples: Vec<Sample>,
    skipped: Vec<Skipped>,
}

impl Run<'_> {
    /// Runs all transports thoroughly at one shape and length, and keeps those that can.
    fn check<'a>(
        &mut self,
        wanted: &[&'a dyn Runner],
        topology: Topology,
        length: usize,
    ) -> Result<Cell<'a>> {
        let task = Task::pair(topology, length, self.options.duration);
        let thorough = Task {
            thorough: true,
            duration: Duration::from_millis(2),
            ..task.clone()
        };
        let mut able = Vec::new();
        for runner in wanted {
            interrupts::check()?;
            if let Some(reason) = runner.refuses(&task) {
                self.skip(&runner.about(), &task, reason);
            } else if let Err(error) = sample(*runner, &thorough, self.options.processors) {
                self.skip(&runner.about(), &task, format!("{error:#}"));
            } else {
                able.push(*runner);
            }
        }
        let (rings, others) = able
            .into_iter()
            .partition(|runner| runner.about().is_ring());
        Ok(Cell {
            task,
            rings,
            others,
        })
    }

    /// Samples until nothing lacks a pair, or the time is over.
    fn rounds(&mut self, cells: &[Cell<'_>], progress: &mut impl FnMut(&Step)) -> Result<()> {
        let pairs = |cell: &Cell<'_>| {
            let others = cell.others.iter();
            let pairs = others.map(|other| self.options.pairs_of(&other.about(), &cell.task));
            pairs.sum::<usize>()
        };
        let wanted: usize = cells.iter().map(pairs).sum();
        let mut failed = Vec::new();
        for round in 1.. {
            let mut complete = true;
            for cell in cells {
                if round > 1 && self.start.elapsed() > self.options.patience {
                    return Ok(());
                }
                let at = Distance::most_common(self.samples.iter().filter_map(Sample::distance));
                let lacking: Vec<_> = cell
                    .others
                    .iter()
                    .filter(|other| self.lacks(&other.about(), &cell.task, at) > 0)
                    .filter(|other| !failed.contains(&(other.about().name, cell.task.clone())))
                    .collect();
                // Where nothing but the rings is wanted, they are sampled as often.
                let rings_only = cell.others.is_empty() && round <= self.options.repetitions;
                if lacking.is_empty() && !rings_only {
                    continue;
                }
                complete = false;
                let others = cells.iter().flat_map(|cell| {
                    let task = &cell.task;
                    cell.others.iter().map(move |other| (other, task))
                });
                let lacks = others.map(|(other, task)| self.lacks(&other.about(), task, at));
                progress(&Step {
                    what: format!(
                        "round {round}: {}",
                        task(cell.task.topology, cell.task.length)
                    ),
                    done: wanted - lacks.sum::<usize>(),
                    wanted,
                });
                if rings_only {
                    for ring in &cell.rings {
                        self.take(*ring, &cell.task)?;
                    }
                }
                for way in WAYS {
                    let rings = cell.rings_of(way);
                    let fits = |other: &&&dyn Runner| other.about().way == way;
                    let others: Vec<_> = lacking.iter().copied().filter(fits).collect();
                    if others.is_empty() {
                        continue;
                    }
                    for few in others.chunks(BETWEEN) {
                        for ring in &rings {
                            self.take(*ring, &cell.task)?;
                        }
                        for runner in few {
                            if !self.take(**runner, &cell.task)? {
                                failed.push((runner.about().name, cell.task.clone()));
                            }
                        }
                    }
                    for ring in &rings {
                        self.take(*ring, &cell.task)?;
                    }
                }
            }
            if complete {
                break;
            }
        }
        Ok(())
    }

    /// How many more pairs a transport needs at this distance.
    fn lacks(&self, about: &About, task: &Task, at: Option<Distance>) -> usize {
        let here = |s: &&Sample| s.topology == task.topology && s.length == task.length;
        let samples: Vec<_> = self.samples.iter().filter(here).collect();
        let found = at.and_then(|at| {
            let ring = bare_ring(&self.transports, &samples, about.way, at)?;
            Some(pairs(&samples, &about.name, ring, at).count())
        });
        let wanted = self.options.pairs_of(about, task);
        wanted.saturating_sub(found.unwrap_or(0))
    }

    /// Takes a sample; answers whether there is one.
    fn take(&mut self, runner: &dyn Runner, task: &Task) -> Result<bool> {
        let about = runner.about();
        let taken = sample(runner, task, self.options.processors);
        // What fails because of a signal is not the transport's fault.
        interrupts::check()?;
        Ok(match taken {
            Ok(taken) => {
                let at = self.start.elapsed().as_secs_f64();
                self.samples.push(Sample::of(&about, task, at, &taken));
                true
            }
            Err(error) => {
                self.skip(&about, task, format!("{error:#}"));
                false
            }
        })
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
    /// How far apart its processes were; `None` if the readings don't agree, or it does not count.
    pub fn distance(&self) -> Option<Distance> {
        self.placement.distance().filter(|_| self.counts)
    }

    fn of(about: &About, task: &Task, at: f64, taken: &Taken) -> Self {
        let ends = || taken.senders.iter().chain(&taken.receivers);
        let rate = ends().find_map(|end| end.rate);
        let latency = ends().find_map(|end| end.latency);
        let preemptions = ends().map(|end| end.preemptions).sum();
        let delayed = ends().map(|end| end.delayed).fold(0.0, f64::max);
        // A transport's own threads are part of it: that they put its ends off is no disturbance.
        let calm = about.threads || preemptions <= CALM || delayed < DELAY;
        let measured = rate.is_some() || latency.is_some();
        Self {
            transport: about.name.clone(),
            topology: task.topology,
            length: task.length,
            at,
            placement: taken.placement,
            counts: calm && measured,
            preemptions,
            delayed,
            messages: taken.receivers.iter().map(|end| end.messages).sum(),
            rate,
            latency,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Outcome, Waits};

    #[test]
    fn samples_count_that_were_left_in_peace_and_have_a_figure() {
        let counts = |about: &About, delayed, rate| {
            let end = Outcome {
                rate,
                delayed,
                preemptions: 100,
                ..Outcome::default()
            };
            let taken = Taken {
                placement: Placement {
                    before: Distance(60.0),
                    after: Distance(61.0),
                },
                senders: vec![Outcome::default()],
                receivers: vec![end],
            };
            let task = Task::pair(Topology::Stream, 64, Duration::from_millis(1));
            Sample::of(about, &task, 1.0, &taken).counts
        };
        let plain = About::new("pipe", Family::Kernel, Waits::Block, Way::OneByOne);
        let threads = plain.clone().with_threads();
        assert!(counts(&plain, 0.01, Some(1e6)));
        assert!(!counts(&plain, 0.1, Some(1e6)));
        // It is its own threads that take turns.
        assert!(counts(&threads, 0.1, Some(1e6)));
        // It was over before time was taken.
        assert!(!counts(&plain, 0.01, None) && !counts(&threads, 0.01, None));
    }
}
