//! What becomes of throughput and cost when there is more of something: producers, consumers,
//! subscribers, capacity, channels, queued messages.
//!
//! Crowds share the two processors. There is no bare ring to hold them against; each chart says how
//! its figures compare with those of the first number, taken in the same round at the same distance
//! between the processors: where the machine puts them matters more than the crowd.

use crate::conduct::sample;
use crate::costs;
use crate::interrupts;
use crate::place::{Distance, agree};
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
    /// As a multiple of that of the first number, of one round and at one distance.
    #[serde(default)]
    pub to_first: Option<Spread>,
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

/// Measures all of it, or only the charts that are named.
///
/// # Errors
/// If the channels of this process itself can't be made; what fails of a crowd is skipped.
pub fn growth(
    runners: &[Box<dyn Runner>],
    processors: [usize; 2],
    only: &[String],
    quick: bool,
    mut progress: impl FnMut(&Step),
) -> Result<Vec<Chart>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|it| it == name);
    let repetitions = if quick { 1 } else { 5 };
    // A crowd takes turns at the processors in slices of milliseconds: of these it needs a few.
    let duration = Duration::from_millis(if quick { 20 } else { 400 });
    let mut charts = Vec::new();
    let mut take = |chart: Chart, what: &str, series: &[&str], tasks: &[(u64, Task)]| {
        let mut rounds = Rounds::new(chart, runners, processors);
        for round in 1..=repetitions {
            for (x, task) in tasks {
                progress(&Step::of(format!("{x} {what}, round {round}")));
                for series in series {
                    rounds.take(round, series, *x, task)?;
                }
            }
        }
        Ok::<Chart, anyhow::Error>(rounds.chart())
    };
    for crowd in CROWDS.iter().filter(|crowd| wanted(crowd.name)) {
        let most = if quick { 8 } else { u64::MAX };
        let tasks = CROWD.into_iter().filter(|n| *n <= most).map(|n| {
            let task = (crowd.task)(n);
            (n, Task { duration, ..task })
        });
        let tasks: Vec<_> = tasks.collect();
        let chart = Chart::new(crowd.name, crowd.title, crowd.x);
        charts.push(take(chart, crowd.x, crowd.series, &tasks)?);
    }
    if wanted("capacity") {
        let tasks = CAPACITIES.map(|bytes| {
            let task = Task {
                duration,
                capacity: Some(bytes as usize),
                ..stream()
            };
            (bytes, task)
        });
        let title = "One producer, one consumer, by the capacity of the lane";
        let chart = Chart::new("capacity", title, "bytes of a lane");
        let series = ["queue", "queue, batches"];
        charts.push(take(chart, "bytes of a lane", &series, &tasks)?);
    }
    if only.is_empty() {
        progress(&Step::of("channels and messages of one process"));
        charts.extend(costs::by_number(quick)?);
    }
    Ok(charts)
}

impl Chart {
    fn new(name: &str, title: &str, x: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            x: x.to_owned(),
            y: "messages per second".to_owned(),
            points: Vec::new(),
            skipped: Vec::new(),
        }
    }
}

/// A rate, and when and at which distance it was taken.
struct Taking {
    round: usize,
    series: String,
    x: u64,
    rate: f64,
    distance: Option<Distance>,
}

/// Rounds over all numbers of a chart: what is compared is of one round and one distance.
struct Rounds<'a> {
    chart: Chart,
    runners: &'a [Box<dyn Runner>],
    processors: [usize; 2],
    takings: Vec<Taking>,
}

impl<'a> Rounds<'a> {
    fn new(chart: Chart, runners: &'a [Box<dyn Runner>], processors: [usize; 2]) -> Self {
        let takings = Vec::new();
        Self {
            chart,
            runners,
            processors,
            takings,
        }
    }

    fn take(&mut self, round: usize, series: &str, x: u64, task: &Task) -> Result<()> {
        let Some(runner) = self.runners.iter().find(|r| r.about().name == series) else {
            return Ok(());
        };
        let skipped = &mut self.chart.skipped;
        if let Some(reason) = runner.refuses(task) {
            let reason = format!("{series}, {x}: {reason}");
            if !skipped.contains(&reason) {
                skipped.push(reason);
            }
            return Ok(());
        }
        let taken = sample(&**runner, task, self.processors);
        interrupts::check()?;
        match taken {
            // Of a crowd of receivers each knows its own part; a broadcast reaches all.
            Ok(taken) => {
                let own = || taken.receivers.iter().filter_map(|end| end.rate);
                let rate = match Spread::of(own()) {
                    Some(spread) if runner.broadcasts() => spread.median,
                    _ => own().sum(),
                };
                if rate > 0.0 {
                    self.takings.push(Taking {
                        round,
                        series: series.to_owned(),
                        x,
                        rate,
                        distance: taken.placement.distance(),
                    });
                }
            }
            Err(error) => skipped.push(format!("{series}, {x}: {error:#}")),
        }
        Ok(())
    }

    /// The points: rates of the most common distance, unless few were taken there.
    fn chart(mut self) -> Chart {
        let takings = &self.takings;
        let most = Distance::most_common(takings.iter().filter_map(|taking| taking.distance));
        let mut seen: Vec<(&str, u64)> = Vec::new();
        for taking in takings {
            let key = (&*taking.series, taking.x);
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            let here = || takings.iter().filter(|it| (&*it.series, it.x) == key);
            let there = || here().filter(|it| agree(it.distance, most));
            let rates = Spread::of(there().map(|it| it.rate))
                .filter(|rates| 2 * rates.count > here().count());
            let first = takings.iter().find(|it| it.series == taking.series);
            let multiples = here().filter_map(|it| {
                let one = takings.iter().find(|one| {
                    let first = first.is_some_and(|first| first.x == one.x);
                    first && one.series == it.series && one.round == it.round
                })?;
                let comparable = agree(one.distance, it.distance);
                comparable.then_some(it.rate / one.rate)
            });
            if let Some(y) = rates.or_else(|| Spread::of(here().map(|it| it.rate))) {
                self.chart.points.push(Point {
                    series: taking.series.clone(),
                    x: taking.x,
                    y,
                    to_first: Spread::of(multiples),
                });
            }
        }
        self.chart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowds_are_compared_at_one_distance_and_in_one_round() {
        let mut rounds = Rounds::new(Chart::new("producers", "", ""), &[], [0, 1]);
        let mut add = |round, x, rate, distance| {
            rounds.takings.push(Taking {
                round,
                series: "queue".to_owned(),
                x,
                rate,
                distance,
            });
        };
        let (near, far) = (Some(Distance(30.0)), Some(Distance(200.0)));
        add(1, 1, 70.0, far);
        add(1, 8, 50.0, near);
        add(2, 1, 60.0, near);
        add(2, 8, 45.0, near);
        add(3, 1, 80.0, None);
        add(3, 8, 40.0, None);
        let chart = rounds.chart();
        let [one, eight] = &chart.points[..] else {
            panic!("{chart:?}");
        };
        // Of the first, only one was taken there.
        assert_eq!((one.y.median, eight.y.median), (70.0, 47.5));
        let ratio = eight.to_first.unwrap();
        assert_eq!((ratio.median, ratio.count), (0.75, 1));
    }
}
