//! What a record says: medians, and ratios to the bare ring.
//!
//! A *pair* is a sample and, of the bare ring that it is held against, the samples next before and after it
//! that were taken at the same distance between the processors, within `NEAR` seconds: their geometric mean, as
//! the machine may have changed meanwhile, or the one that there is. Samples whose two probes disagree, or whose
//! processes were kept off their processors, make no pair. Of the bare rings that hand messages over in the same
//! way, it is the one that is faster at that shape and length. (The faster of the two at each moment would be the
//! one that luck favours then: neither is as fast.) Where no bare ring works in this way (short messages in
//! place), those that copy one by one count.
//!
//! Figures and ratios are of the samples of one distance, the most common one of a run. Where there is no such
//! sample, all count, and the cell is marked as *disturbed*.
//!
//! Two transports are held against each other in the same way, at whatever distance: each sample of the one against
//! that of the other which was taken in the same round at the same distance.

use crate::place::{Distance, agree};
use crate::run::{Record, Sample};
use crate::stats::Spread;
use crate::transport::{About, Topology, Way};
use std::collections::BTreeMap;

/// Seconds between the two samples of a pair, at most.
const NEAR: f64 = 3.0;

/// The same where two transports are held against each other: each has one sample in a round, and a round of one
/// shape and length takes less; the next is half a minute later as a rule. Of several the
/// nearest counts.
const ROUND: f64 = 10.0;

/// What a sample is about: the higher the better for streams, the lower for round trips.
pub fn value(sample: &Sample) -> Option<f64> {
    match sample.topology {
        Topology::RoundTrip => sample.latency.map(|latency| latency.p50),
        Topology::Stream => sample.rate,
    }
}

/// Whether a figure of a shape is better than another.
pub fn is_better(topology: Topology, a: f64, b: f64) -> bool {
    match topology {
        Topology::RoundTrip => a < b,
        Topology::Stream => a > b,
    }
}

/// The way of the bare rings that transports of a way are held against, of those that there are.
pub fn way_of_rings(mut rings: impl Iterator<Item = Way>, way: Way) -> Way {
    if rings.any(|ring| ring == way) {
        way
    } else {
        Way::OneByOne
    }
}

/// A sample and the bare figure it is held against.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The sample's figure.
    pub value: f64,
    /// That of the bare ring.
    pub bare: f64,
}

impl Pair {
    /// The figure as a multiple of the bare one.
    pub fn ratio(&self) -> f64 {
        self.value / self.bare
    }
}

/// The pairs of a transport among the samples of one shape and length, with this ring and at this distance.
pub fn pairs<'a>(
    samples: &'a [&'a Sample],
    transport: &'a str,
    ring: &'a str,
    at: Distance,
) -> impl Iterator<Item = Pair> + 'a {
    let own = samples.iter().filter(move |s| s.transport == transport);
    let own = own.filter(move |s| agree(s.distance(), Some(at)));
    own.filter_map(move |sample| {
        let value = value(sample)?;
        let bare = if transport == ring {
            value
        } else {
            around(samples, ring, sample)?
        };
        Some(Pair { value, bare })
    })
}

/// What a ring had about the time of a sample, and at its distance: the mean of before and after.
fn around(samples: &[&Sample], ring: &str, sample: &Sample) -> Option<f64> {
    let near = samples.iter().filter(|s| {
        s.transport == ring
            && (s.at - sample.at).abs() < NEAR
            && agree(s.distance(), sample.distance())
    });
    let (before, after): (Vec<_>, Vec<_>) = near.partition(|s| s.at <= sample.at);
    let by_time = |a: &&&Sample, b: &&&Sample| a.at.total_cmp(&b.at);
    let before = before.into_iter().max_by(|a, b| by_time(a, b));
    let after = after.into_iter().min_by(|a, b| by_time(a, b));
    let values = [before, after].map(|s| s.and_then(|s| value(s)));
    match values {
        [Some(before), Some(after)] => Some((before * after).sqrt()),
        [one, other] => one.or(other),
    }
}

/// The bare ring that a transport of this way is held against, among the samples of one shape and length: the one
/// whose median at this distance is better.
pub fn bare_ring<'a>(
    transports: &'a [About],
    samples: &[&Sample],
    way: Way,
    at: Distance,
) -> Option<&'a str> {
    let shape = samples.first()?.topology;
    let of = |about: &About| {
        let name = about.name.clone();
        samples.iter().filter(move |s| s.transport == name)
    };
    let rings = transports.iter().filter(|about| about.is_ring());
    let sampled = rings.filter(|about| of(about).next().is_some());
    let way = way_of_rings(sampled.clone().map(|about| about.way), way);
    let median = |about: &'a About| {
        let here = of(about).filter(|s| agree(s.distance(), Some(at)));
        let median = Spread::of(here.filter_map(|s| value(s)))?.median;
        Some((about, median))
    };
    let measured = sampled.filter(|about| about.way == way).filter_map(median);
    let best = measured.reduce(|a, b| if is_better(shape, b.1, a.1) { b } else { a });
    best.map(|(about, _)| &*about.name)
}

/// A transport at one shape and length.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its figure: nanoseconds one way, or messages per second, of the samples of one distance.
    pub value: Spread,
    /// Whether no sample of that distance was left in peace, so that all samples had to count.
    pub disturbed: bool,
    /// The multiples of the bare ring's, of the pairs of that distance.
    pub ratio: Option<Spread>,
    /// The slowest tenth and so on, for round trips: medians of p90, p99, p99.9 and max.
    pub tail: Option<[f64; 4]>,
    /// How often its processes slept per message.
    pub sleeps: f64,
    /// Its samples that were left in peace, of all distances.
    taken: Vec<Taken>,
}

/// A sample that another's can be held against.
#[derive(Clone, Copy, Debug)]
struct Taken {
    at: f64,
    distance: Distance,
    value: f64,
}

impl Cell {
    /// Its figure as a multiple of another's, of samples that were taken in the same round and at the same
    /// distance; `None` if there are none.
    pub fn against(&self, other: &Self) -> Option<Spread> {
        let ratio = |own: &Taken| {
            let apart = |taken: &&Taken| (taken.at - own.at).abs();
            let same = other
                .taken
                .iter()
                .filter(|taken| taken.distance.agrees(own.distance));
            let same = same.filter(|taken| apart(taken) < ROUND);
            let nearest = same.min_by(|a, b| apart(a).total_cmp(&apart(b)))?;
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
    /// The most common distance between the processors; values are of samples that were taken there.
    pub distance: Option<Distance>,
    /// By transport, shape and length.
    cells: BTreeMap<(String, &'static str, usize), Cell>,
}

impl Figures {
    /// Of a record.
    pub fn of(record: &Record) -> Self {
        let distance = Distance::most_common(record.samples.iter().filter_map(Sample::distance));
        let mut cells = BTreeMap::new();
        for topology in [Topology::RoundTrip, Topology::Stream] {
            for length in &record.options.lengths {
                let here = |s: &&Sample| s.topology == topology && s.length == *length;
                let samples: Vec<_> = record.samples.iter().filter(here).collect();
                for about in &record.transports {
                    if let Some(cell) = cell(&samples, about, &record.transports, distance) {
                        let shape = crate::run::name(topology);
                        cells.insert((about.name.clone(), shape, *length), cell);
                    }
                }
            }
        }
        Self { distance, cells }
    }

    /// How far apart the processors were, to follow "they are" or "they were".
    pub fn distance_in_words(&self) -> String {
        self.distance
            .map_or("at changing distances".to_owned(), |distance| {
                format!("{distance} apart (a cache line, one way)")
            })
    }

    /// One of them.
    pub fn cell(&self, transport: &str, topology: Topology, length: usize) -> Option<&Cell> {
        let key = (transport.to_owned(), crate::run::name(topology), length);
        self.cells.get(&key)
    }
}

fn cell(
    samples: &[&Sample],
    about: &About,
    transports: &[About],
    distance: Option<Distance>,
) -> Option<Cell> {
    // One that ended before time was taken has no figure.
    let all = || {
        let own = samples.iter().filter(|s| s.transport == about.name);
        own.filter(|s| value(s).is_some())
    };
    let counts = |s: &&&Sample| agree(s.distance(), distance);
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
        ratio: distance.and_then(|at| {
            let ring = bare_ring(transports, samples, about.way, at)?;
            Spread::of(pairs(samples, &about.name, ring, at).map(|pair| pair.ratio()))
        }),
        tail: match tail {
            [Some(a), Some(b), Some(c), Some(d)] => Some([a, b, c, d]),
            _ => None,
        },
        sleeps: median(|s| Some(s.sleeps as f64 / s.messages.max(1) as f64)).unwrap_or(0.0),
        taken: all()
            .filter_map(|s| {
                Some(Taken {
                    at: s.at,
                    distance: s.distance()?,
                    value: value(s)?,
                })
            })
            .collect(),
    })
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
