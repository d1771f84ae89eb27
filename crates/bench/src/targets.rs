//! What Tombolo's channels are meant to reach beside the bare ring and the others, and whether a
//! record shows it.

use crate::figures::Figures;
use crate::run::Record;
use crate::table::{bytes, multiple};
use crate::transport::{Family, Topology};
use std::fmt::Write;

/// A transport's figure, held against another's or the bare ring's.
struct Target {
    transport: &'static str,
    /// `None` is the bare ring.
    against: Option<&'static str>,
    topology: Topology,
    lengths: &'static [usize],
    /// For round trips the most that the multiple may be, for streams the least.
    bound: f64,
}

const fn latency(
    transport: &'static str,
    against: Option<&'static str>,
    lengths: &'static [usize],
    bound: f64,
) -> Target {
    let topology = Topology::RoundTrip;
    Target {
        transport,
        against,
        topology,
        lengths,
        bound,
    }
}

const fn stream(transport: &'static str, lengths: &'static [usize], bound: f64) -> Target {
    Target {
        transport,
        against: None,
        topology: Topology::Stream,
        lengths,
        bound,
    }
}

const TARGETS: [Target; 15] = [
    latency("queue, spinning", None, &[8, 64], 1.2),
    latency("queue", Some("queue, spinning"), &[8, 64], 1.1),
    stream("queue", &[64], 0.85),
    stream("queue, batches", &[64], 0.65),
    stream("queue, batches", &[8], 0.45),
    stream("queue", &[1024], 0.95),
    stream("queue, batches", &[1024], 0.95),
    stream("queue", &[65_536, 1_048_576], 0.95),
    stream("queue, in place", &[65_536, 1_048_576], 0.95),
    latency("queue, parking", Some("bare futex, one slot"), &[64], 1.1),
    latency("topic", Some("queue"), &[64], 1.3),
    Target {
        transport: "topic",
        against: Some("queue"),
        topology: Topology::Stream,
        lengths: &[64],
        bound: 1.0 / 1.3,
    },
    // Half of a round trip on both sides: two hops against two hops.
    latency("service", Some("queue"), &[64], 1.3),
    latency("queue", Some("iceoryx2 publish-subscribe"), &[8, 64], 0.2),
    Target {
        transport: "queue",
        against: Some("iceoryx2 publish-subscribe"),
        topology: Topology::Stream,
        lengths: &[8, 64],
        bound: 20.0,
    },
];

/// The section of the page.
pub fn section(record: &Record) -> String {
    let figures = Figures::of(record);
    let mut text = "\n## Goals\n\n\
         | | against | message | goal | here | |\n\
         | --- | --- | ---: | ---: | ---: | --- |\n"
        .to_owned();
    let mut any = false;
    for target in &TARGETS {
        for length in target.lengths {
            let cell = |name| figures.cell(name, target.topology, *length);
            let Some(own) = cell(target.transport) else {
                continue;
            };
            let here = match target.against {
                None => own.ratio.map(|ratio| ratio.median),
                Some(other) => cell(other).map(|other| own.value.median / other.value.median),
            };
            let Some(here) = here else { continue };
            let (sign, holds, shape) = match target.topology {
                Topology::RoundTrip => ("≤", here <= target.bound, "latency"),
                Topology::Stream => ("≥", here >= target.bound, "stream"),
            };
            any = true;
            let _ = writeln!(
                text,
                "| {}, {shape} | {} | {} | {sign} {} | {} | {} |",
                target.transport,
                target.against.unwrap_or("bare ring"),
                bytes(*length),
                multiple(target.bound),
                multiple(here),
                if holds { "reached" } else { "**missed**" }
            );
        }
    }
    if any { text } else { String::new() }
}

/// Names that targets speak of and that no transport has; rivals may be absent.
pub fn unknown(names: &[(String, Family)]) -> Vec<&'static str> {
    let known = |name: &str| names.iter().any(|(other, _)| other == name);
    let named = TARGETS
        .iter()
        .flat_map(|target| [Some(target.transport), target.against])
        .flatten();
    named
        .filter(|name| !known(name) && !name.starts_with("iceoryx2"))
        .collect()
}
