//! What Tombolo's channels are meant to reach, row by row, and what a record says of it.
//!
//! Rows that compare transports at one shape and length stand in `targets`; here are those that
//! come from growth, single operations and behaviour, and the section of the page with all of them.

use crate::behaviour::Counted;
use crate::calls::YIELD;
use crate::costs::BARE;
use crate::figures::Figures;
use crate::growth::Chart;
use crate::rivalry::{self, Lead, Standing};
use crate::run::{Record, name};
use crate::table::{bytes, multiple, time};
use crate::targets::{self, TARGETS};
use crate::transport::{Family, Topology};
use crate::woken::FUTEX;
use std::fmt::Write;

/// A goal, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is measured, and against what.
    pub what: String,
    /// What it should be.
    pub goal: String,
    /// What it is.
    pub here: String,
    /// Whether that is enough.
    pub met: bool,
}

impl Line {
    fn new(what: impl Into<String>, goal: &str, here: impl Into<String>, met: bool) -> Self {
        Self {
            what: what.into(),
            goal: goal.to_owned(),
            here: here.into(),
            met,
        }
    }
}

/// All goals of which the record says something.
pub fn lines(record: &Record) -> Vec<Line> {
    let figures = Figures::of(record);
    let mut all: Vec<Line> = TARGETS
        .iter()
        .flat_map(|target| targets::lines(target, &figures))
        .collect();
    all.extend(ahead(record, &figures));
    all.extend(calls(record));
    all.extend(record.growth.iter().flat_map(crowd));
    all.extend(listeners(record));
    all.extend(costs(record));
    all.extend(idle(record));
    all.extend(woken(record));
    all
}

/// The section of the page.
pub fn section(record: &Record) -> String {
    let lines = lines(record);
    if lines.is_empty() {
        return String::new();
    }
    let met = lines.iter().filter(|line| line.met).count();
    let mut text = format!(
        "\n## Reach\n\n{met} of {} goals are met. *Bare ring* is the faster bare ring of that cell \
         that hands messages over in the same way.\n\n\
         | what | goal | here | |\n| --- | ---: | ---: | --- |\n",
        lines.len()
    );
    for line in lines {
        let met = if line.met { "met" } else { "**not met**" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {met} |",
            line.what, line.goal, line.here
        );
    }
    text
}

/// Ahead of each project, and of the kernel, in every cell, with what is the default of ours: see
/// `rivalry`.
fn ahead(record: &Record, figures: &Figures) -> Vec<Line> {
    let groups: [(&str, &str); 5] = [
        ("iceoryx2", "iceoryx2"),
        ("Boost.Interprocess", "Boost"),
        ("ZeroMQ", "ZeroMQ"),
        ("`ipc-channel`", "ipc-channel"),
        ("the kernel's own ways", ""),
    ];
    let all = rivalry::leads(record, figures);
    let kernel = |lead: &Lead| {
        let mut some = record.transports.iter();
        some.any(|about| about.name == lead.other.0 && about.family == Family::Kernel)
    };
    let line = |(title, part): &(&str, &str)| {
        let mut leads: Vec<_> = all.iter().filter(|lead| !lead.parked).collect();
        leads.retain(|lead| match part.is_empty() {
            true => kernel(lead),
            false => lead.other.0.starts_with(part),
        });
        let least = leads.iter().min_by(|a, b| a.by.total_cmp(&b.by))?;
        let count = |wanted| {
            let some = leads.iter().filter(|lead| lead.standing() == wanted);
            some.count()
        };
        let (level, behind) = (count(Standing::Level), count(Standing::Behind));
        let mut here = format!("{} of {}", count(Standing::Ahead), leads.len());
        for (number, how) in [(level, "level"), (behind, "behind")] {
            if number > 0 {
                let _ = write!(here, ", {number} {how}");
            }
        }
        let (shape, length) = (name(least.topology), bytes(least.length));
        let _ = write!(
            here,
            "; least: {} against {}, {shape}, {length}: {}",
            least.ours.0,
            least.other.0,
            multiple(least.by)
        );
        Some(Line::new(
            format!("same job, same way, against {title}, every shape and length"),
            "ahead",
            here,
            level + behind == 0,
        ))
    };
    groups.iter().filter_map(line).collect()
}

/// No system calls while nobody is parked, as nobody ever is who spins. Who waits for 50 µs, because
/// the other was put off its processor, lets others have its own: that is shown, and no fault.
fn calls(record: &Record) -> Vec<Line> {
    let calls = &record.behaviour.calls;
    let of = |name: &str, topology| {
        let mut all = calls.iter();
        all.find(|it| it.transport == name && it.topology == topology)
    };
    let mut lines = Vec::new();
    for topology in [Topology::RoundTrip, Topology::Stream] {
        if let Some(counted) = of("queue, spinning", topology) {
            let made = match counted.calls {
                0 => "none".to_owned(),
                _ => format!(
                    "{}, {} of them while the other was away,",
                    by_name(counted, usize::MAX),
                    counted.away
                ),
            };
            let yields = counted.by_name.get(YIELD).copied().unwrap_or_default();
            lines.push(Line::new(
                format!("`queue`, nobody parked: system calls, {}", name(topology)),
                "none",
                format!("{made} for {} messages", counted.messages),
                counted.calls == yields,
            ));
        }
    }
    lines
}

/// The most frequent calls of a sample, with their numbers.
pub fn by_name(counted: &Counted, most: usize) -> String {
    let mut calls: Vec<_> = counted.by_name.iter().collect();
    calls.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let calls = calls.iter().take(most);
    let calls = calls.map(|(name, count)| format!("{count} {name}"));
    calls.collect::<Vec<_>>().join(", ")
}

/// Producers that share what one has.
fn crowd(chart: &Chart) -> Vec<Line> {
    if chart.name != "producers" {
        return Vec::new();
    }
    let line = |x: u64| {
        let mut points = chart.points.iter();
        let point = points.find(|point| point.series == "queue" && point.x == x)?;
        let ratio = point.to_first?.median;
        let what = format!("`queue`, {x} producers, one consumer, 64 B: all against one producer");
        Some(Line::new(what, "≥ 0.7 ×", multiple(ratio), ratio >= 0.7))
    };
    [2, 8, 64].into_iter().filter_map(line).collect()
}

fn listeners(record: &Record) -> Vec<Line> {
    let found = &record.behaviour;
    let both = [("asleep", found.asleep), ("slow", found.slow)];
    let line = |(how, ratio): (&str, Option<crate::stats::Spread>)| {
        let ratio = ratio?;
        // Rounded before it is shown: nothing is no negative number.
        let percent = |share: f64| ((1.0 - share) * 1000.0).round() / 10.0 + 0.0;
        let [least, cost, most] = [ratio.max, ratio.median, ratio.min].map(percent);
        Some(Line::new(
            format!("`topic`, overrun: what a second subscriber that is {how} costs the publisher"),
            "≤ 5 %",
            format!("{cost:.1} % (from {least:.1} to {most:.1})"),
            cost <= 5.0,
        ))
    };
    both.into_iter().filter_map(line).collect()
}

fn costs(record: &Record) -> Vec<Line> {
    let mut lines = Vec::new();
    for cost in &record.costs {
        let here = cost.nanoseconds.median;
        match (cost.length, cost.copy) {
            (Some(length), Some(copy)) => {
                let ratio = here / copy.median;
                let what = format!(
                    "{}, {}, against copying the bytes",
                    cost.what,
                    bytes(length)
                );
                lines.push(Line::new(what, "≤ 1.3 ×", multiple(ratio), ratio <= 1.3));
                if length == 64 && cost.what.contains("get") {
                    let what = format!("{}, 64 B", cost.what);
                    lines.push(Line::new(what, "< 30 ns", time(here), here < 30.0));
                }
            }
            _ if cost.what.starts_with(BARE) => {}
            _ => lines.push(Line::new(
                cost.what.clone(),
                "< 100 µs",
                time(here),
                here < 100_000.0,
            )),
        }
    }
    lines
}

fn woken(record: &Record) -> Option<Line> {
    let mut all = record.behaviour.woken.iter();
    let ratio = all
        .find(|woken| woken.transport == "queue, parking")?
        .to_futex?
        .median;
    let what = format!("`queue, parking`, waking who sleeps, 64 B, against {FUTEX}");
    Some(Line::new(what, "≤ 1.1 ×", multiple(ratio), ratio <= 1.1))
}

fn idle(record: &Record) -> Option<Line> {
    let share = record.behaviour.idle?.median;
    let here = format!("{:.1} %", share * 100.0);
    let what = "1,000 parked consumers together, of one processor";
    Some(Line::new(what, "< 5 %", here, share < 0.05))
}
