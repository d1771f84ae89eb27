//! Goals that hold one transport's figure against another's, or the bare ring's.

use crate::figures::Figures;
use crate::reach::Line;
use crate::table::{bytes, multiple};
use crate::transport::{Family, Topology};

/// A transport's figure, held against another's or the bare ring's.
pub struct Target {
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

const fn stream(
    transport: &'static str,
    against: Option<&'static str>,
    lengths: &'static [usize],
    bound: f64,
) -> Target {
    let topology = Topology::Stream;
    Target {
        transport,
        against,
        topology,
        lengths,
        bound,
    }
}

const ICEORYX: Option<&str> = Some("iceoryx2 publish-subscribe");
const LONG: &[usize] = &[65_536, 1_048_576];

/// All of them. "No more than" is five per cent more at most, which is what two medians of the same
/// thing differ by.
pub const TARGETS: &[Target] = &[
    latency("queue, spinning", None, &[8, 64], 1.2),
    latency("queue", Some("queue, spinning"), &[8, 64], 1.05),
    stream("queue", None, &[64], 0.85),
    stream("queue, batches", None, &[64], 0.65),
    stream("queue, batches", None, &[8], 0.45),
    stream("queue", None, &[1024], 0.95),
    stream("queue, batches", None, &[1024], 0.95),
    stream("queue, read in place", None, LONG, 0.95),
    stream("queue", None, LONG, 0.95),
    stream("queue, in place", None, LONG, 0.95),
    latency("topic", Some("queue"), &[64], 1.3),
    stream("topic", Some("queue"), &[64], 1.0 / 1.3),
    // Half of a round trip on both sides: two hops against two hops.
    latency("service", Some("queue"), &[64], 1.3),
    latency("queue", ICEORYX, &[8, 64], 0.2),
    stream("queue", ICEORYX, &[8, 64], 20.0),
];

/// What the figures say of a goal, for each of its lengths that was measured.
pub fn lines(target: &Target, figures: &Figures) -> Vec<Line> {
    let line = |length: &usize| {
        let cell = |name| figures.cell(name, target.topology, *length);
        let own = cell(target.transport)?;
        let here = match target.against {
            None => own.ratio?.median,
            Some(other) => own.against(cell(other)?)?.median,
        };
        let (sign, met, shape) = match target.topology {
            Topology::RoundTrip => ("≤", here <= target.bound, "one way"),
            Topology::Stream => ("≥", here >= target.bound, "stream"),
        };
        Some(Line {
            what: format!(
                "`{}`, {shape}, {}, against {}",
                target.transport,
                bytes(*length),
                target.against.unwrap_or("the bare ring")
            ),
            goal: format!("{sign} {}", multiple(target.bound)),
            here: multiple(here),
            met,
        })
    };
    target.lengths.iter().filter_map(line).collect()
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
