//! What a record says: medians, and ratios to the bare ring.
//!
//! A *pair* is a sample and, of each bare ring that hands messages over in the same way, the one
//! sample that was taken nearest in time at the same distance between the processors, within
//! `NEAR` seconds. Samples whose two probes disagree, or whose processes were kept off their
//! processors, make no pair. The ratio is that to the faster ring of the pair. Where no bare ring
//! works in this way (short messages in place), those that copy one by one count.
//!
//! Figures and ratios are of the samples of one distance, that at which most of a run was taken. Where
//! there is no such sample, all count, and the cell is marked as *disturbed*.
//!
//! Two transports are held against each other in the same way, at whatever distance: each sample of the one against
//! that of the other which was taken in the same round at the same distance.

use crate::place::Class;
use crate::run::{Record, Sample};
use crate::stats::Spread;
use crate::transport::{About, Topology, Way};
use std::collections::BTreeMap;

/// Seconds between the two samples of a pair, at most.
const NEAR: f64 = 3.0;

/// The same where two transports are held against each other: each has one sample in a round, and a round of one
/// shape and length takes less; the next is half a minute later.
const ROUND: f64 = 10.0;

/// What a sample is about: the higher the better for streams, the lower for round trips.
pub fn value(sample: &Sample) -> Option<f64> {
    match sample.topology {
        Topology::RoundTrip => sample.latency.map(|latency| latency.p50),
        Topology::Stream => sample.rate,
    }
}

/// A sample and the bare figure it is held against.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The sample.
    pub sample: &'a Sample,
    /// Its figure.
    pub value: f64,
    /// That of the faster bare ring.
    pub bare: f64,
}

impl Pair<'_> {
    /// The figure as a multiple of the bare one.
    pub fn ratio(&self) -> f64 {
        self.value / self.bare
    }
}

/// The pairs of a transport among the samples of one shape and length.
pub fn pairs<'a>(
    samples: &'a [&'a Sample],
    transport: &'a str,
    rings: &'a [About],
) -> impl Iterator<Item = Pair<'a>> + 'a {
    let own = samples.iter().filter(move |s| s.transport == transport);
    own.filter_map(move |sample| {
        let class = sample.class?;
        let nearest = |ring: &About| {
            let same = samples
                .iter()
                .filter(|s| s.transport == ring.name && s.class == Some(class));
            let distance = |s: &Sample| (s.at - sample.at).abs();
            let nearest = same.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
            value(nearest).filter(|_| distance(nearest) < NEAR)
        };
        let faster = |a: f64, b: f64| match sample.topology {
            Topology::RoundTrip => a.min(b),
            Topology::Stream => a.max(b),
        };
        let bare = rings.iter().filter_map(nearest).reduce(faster)?;
        let value = value(sample)?;
        Some(Pair {
            sample,
            value,
            bare,
        })
    })
}

/// The bare rings that a transport is held against.
pub fn rings(transports: &[About], samples: &[&Sample], way: Way) -> Vec<About> {
    let bare = |about: &&About| about.is_ring();
    let measured = |about: &&About| samples.iter().any(|s| s.transport == about.name);
    let of = |way| {
        let all = transports.iter().filter(bare).filter(measured);
        let wanted: Vec<_> = all.filter(|about| about.way == way).cloned().collect();
        (!wanted.is_empty()).then_some(wanted)
    };
    of(way).or_else(|| of(Way::OneByOne)).unwrap_or_default()
}

/// A transport at one shape and length.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its figure: nanoseconds one way, or messages per second, of the samples of one class.
    pub value: Spread,
    /// Whether no sample of that class was left in peace, so that all samples had to count.
    pub disturbed: bool,
    /// The multiples of the bare ring's, of the pairs of that class.
    pub ratio: Option<Spread>,
    /// The slowest tenth and so on, for round trips: medians of p90, p99, p99.9 and max.
    pub tail: Option<[f64; 4]>,
    /// How often its processes slept per message.
    pub sleeps: f64,
    /// Its samples that were left in peace, of all classes.
    taken: Vec<Taken>,
}

/// A sample that another's can be held against.
#[derive(Clone, Copy, Debug)]
struct Taken {
    at: f64,
    class: Class,
    value: f64,
}

impl Cell {
    /// Its figure as a multiple of another's, of samples that were taken in the same round and of the same
    /// class; `None` if there are none.
    pub fn against(&self, other: &Self) -> Option<Spread> {
        let ratio = |own: &Taken| {
            let distance = |taken: &&Taken| (taken.at - own.at).abs();
            let same = other.taken.iter().filter(|taken| taken.class == own.class);
            let same = same.filter(|taken| distance(taken) < ROUND);
            let nearest = same.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
            Some(own.value / nearest.value)
        };
        Spread::of(self.taken.iter().filter_map(ratio))
    }

    /// Whether it stands on fewer pairs than it should, or on disturbed samples.
    pub fn is_poor(&self, pairs: usize) -> bool {
        self.disturbed || self.ratio.is_none_or(|ratio| ratio.count < pairs)
    }
}

/// All cells of a record.
#[derive(Debug)]
pub struct Figures {
    /// The distance at which most samples were taken; values are of these.
    pub class: Option<Class>,
    /// By transport, shape and length.
    cells: BTreeMap<(String, &'static str, usize), Cell>,
}

impl Figures {
    /// Of a record.
    pub fn of(record: &Record) -> Self {
        let class = most_common(record.samples.iter().filter_map(|sample| sample.class));
        let mut cells = BTreeMap::new();
        for topology in [Topology::RoundTrip, Topology::Stream] {
            for length in &record.options.lengths {
                let here = |s: &&Sample| s.topology == topology && s.length == *length;
                let samples: Vec<_> = record.samples.iter().filter(here).collect();
                for about in &record.transports {
                    let rings = rings(&record.transports, &samples, about.way);
                    if let Some(cell) = cell(&samples, about, &rings, class) {
                        let shape = crate::run::name(topology);
                        cells.insert((about.name.clone(), shape, *length), cell);
                    }
                }
            }
        }
        Self { class, cells }
    }

    /// One of them.
    pub fn cell(&self, transport: &str, topology: Topology, length: usize) -> Option<&Cell> {
        let key = (transport.to_owned(), crate::run::name(topology), length);
        self.cells.get(&key)
    }
}

fn cell(samples: &[&Sample], about: &About, rings: &[About], class: Option<Class>) -> Option<Cell> {
    // One that ended before time was taken has no figure.
    let all = || {
        let own = samples.iter().filter(|s| s.transport == about.name);
        own.filter(|s| value(s).is_some())
    };
    let counts = |s: &&&Sample| s.class.is_some() && s.class == class;
    let disturbed = !all().any(|s| counts(&s));
    let own = || all().filter(|s| disturbed || counts(s));
    let median = |figure: fn(&Sample) -> Option<f64>| {
        Spread::of(own().filter_map(|s| figure(s))).map(|spread| spread.median)
    };
    let tail = [
        median(|s| s.latency.map(|l| l.p90)),
        median(|s| s.latency.map(|l| l.p99)),
        median(|s| s.latency.map(|l| l.p99_9)),
        median(|s| s.latency.map(|l| l.max)),
    ];
    Some(Cell {
        value: Spread::of(own().filter_map(|s| value(s)))?,
        disturbed,
        ratio: Spread::of(
            pairs(samples, &about.name, rings)
                .filter(|pair| pair.sample.class == class)
                .map(|pair| pair.ratio()),
        ),
        tail: match tail {
            [Some(a), Some(b), Some(c), Some(d)] => Some([a, b, c, d]),
            _ => None,
        },
        sleeps: median(|s| Some(s.sleeps as f64 / s.messages.max(1) as f64)).unwrap_or(0.0),
        taken: all()
            .filter_map(|s| {
                Some(Taken {
                    at: s.at,
                    class: s.class?,
                    value: value(s)?,
                })
            })
            .collect(),
    })
}

/// The class that most samples are of.
pub fn most_common(classes: impl Iterator<Item = Class>) -> Option<Class> {
    let mut counts = BTreeMap::new();
    classes.for_each(|class| *counts.entry(class).or_insert(0) += 1);
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(class, _)| class)
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
