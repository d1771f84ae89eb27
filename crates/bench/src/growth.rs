//! What becomes of throughput and cost when there is more of something: producers, consumers,
//! subscribers, capacity, channels, queued messages.
//!
//! Crowds share the two processors. There is no bare ring to hold them against; each chart says how
//! its figures compare with those of one.

use crate::conduct::sample;
use crate::costs;
use crate::interrupts;
use crate::run::Step;
use crate::stats::Spread;
use crate::transport::{Runner, Task, Topology};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A figure that depends on a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Of which transport.
    pub series: String,
    /// The number.
    pub x: u64,
    /// The figure.
    pub y: Spread,
}

/// Figures that depend on one number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chart {
    /// A short name, for its file.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// What the number counts.
    pub x: String,
    /// What the figure is.
    pub y: String,
    /// The figures.
    pub points: Vec<Point>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

/// How a crowd grows.
struct Crowd {
    name: &'static str,
    title: &'static str,
    x: &'static str,
    series: &'static [&'static str],
    task: fn(u64) -> Task,
}

const CROWD: [u64; 6] = [1, 2, 4, 8, 16, 64];

fn stream() -> Task {
    Task::pair(Topology::Stream, 64, Duration::ZERO)
}

const CROWDS: [Crowd; 3] = [
    Crowd {
        name: "producers",
        title: "Many producers, one consumer, 64 B",
        x: "producers",
        series: &["queue", "topic", "pipe", "System V queue", "POSIX queue"],
        task: |n| Task {
            producers: n as usize,
            ..stream()
        },
    },
    Crowd {
        name: "consumers",
        title: "One producer, many consumers, 64 B",
        x: "consumers",
        series: &["queue"],
        task: |n| Task {
            consumers: n as usize,
            ..stream()
        },
    },
    Crowd {
        name: "subscribers",
        title: "One publisher, many subscribers that are waited for, 64 B",
        x: "subscribers",
        series: &["topic"],
        task: |n| Task {
            consumers: n as usize,
            ..stream()
        },
    },
];

/// Capacities of a lane, in bytes.
const CAPACITIES: [u64; 5] = [1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26];

/// Measures all of it.
///
/// # Errors
/// If the channels of this process itself can't be made; what fails of a crowd is skipped.
pub fn growth(
    runners: &[Box<dyn Runner>],
    processors: [usize; 2],
    quick: bool,
    mut progress: impl FnMut(&Step),
) -> Result<Vec<Chart>> {
    let repetitions = if quick { 1 } else { 5 };
    let duration = Duration::from_millis(if quick { 20 } else { 100 });
    let mut charts = Vec::new();
    for crowd in CROWDS {
        let mut chart = Chart {
            name: crowd.name.to_owned(),
            title: crowd.title.to_owned(),
            x: crowd.x.to_owned(),
            y: "messages per second".to_owned(),
            points: Vec::new(),
            skipped: Vec::new(),
        };
        let most = if quick { 8 } else { u64::MAX };
        for n in CROWD.into_iter().filter(|n| *n <= most) {
            progress(&Step::of(format!("{n} {}", crowd.x)));
            let task = Task {
                duration,
                ..(crowd.task)(n)
            };
            for series in crowd.series {
                chart.take(runners, series, n, &task, processors, repetitions)?;
            }
        }
        charts.push(chart);
    }
    let mut chart = Chart {
        name: "capacity".to_owned(),
        title: "One producer, one consumer, by the capacity of the lane".to_owned(),
        x: "bytes of a lane".to_owned(),
        y: "messages per second".to_owned(),
        points: Vec::new(),
        skipped: Vec::new(),
    };
    for capacity in CAPACITIES {
        progress(&Step::of(format!("a capacity of {capacity} bytes")));
        let task = Task {
            duration,
            capacity: Some(capacity as usize),
            ..stream()
        };
        chart.take(runners, "queue", capacity, &task, processors, repetitions)?;
        chart.take(
            runners,
            "queue, batches",
            capacity,
            &task,
            processors,
            repetitions,
        )?;
    }
    charts.push(chart);
    progress(&Step::of("channels and messages of one process"));
    charts.extend(costs::by_number(quick)?);
    Ok(charts)
}

impl Chart {
    fn take(
        &mut self,
        runners: &[Box<dyn Runner>],
        series: &str,
        x: u64,
        task: &Task,
        processors: [usize; 2],
        repetitions: usize,
    ) -> Result<()> {
        let Some(runner) = runners.iter().find(|r| r.about().name == series) else {
            return Ok(());
        };
        if let Some(reason) = runner.refuses(task) {
            self.skipped.push(format!("{series}, {x}: {reason}"));
            return Ok(());
        }
        let mut rates = Vec::new();
        for _ in 0..repetitions {
            let taken = sample(&**runner, task, processors);
            interrupts::check()?;
            match taken {
                // Of a crowd of receivers each knows its own part; a broadcast reaches all.
                Ok(taken) => {
                    let own = taken.receivers.iter().filter_map(|end| end.rate);
                    let spread = Spread::of(own.clone());
                    rates.extend(match spread {
                        Some(spread) if runner.broadcasts() => Some(spread.median),
                        Some(_) => Some(own.sum()),
                        None => None,
                    });
                }
                Err(error) => self.skipped.push(format!("{series}, {x}: {error:#}")),
            }
        }
        if let Some(y) = Spread::of(rates) {
            let series = series.to_owned();
            self.points.push(Point { series, x, y });
        }
        Ok(())
    }
}
