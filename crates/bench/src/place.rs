//! Where two processes run: pinning, and the ping-pong that tells how far apart they are.
//!
//! One cache line goes to and fro. The two virtual processors of a machine can be near or far from each
//! other, from one second to the next; a sample counts only if the line took about as long after it as
//! before, and is held against samples of the same distance only. What the host gives a virtual machine is not
//! told, and there are no steps to tell it by: on the machines that this was written on a line took 25 to 35 ns,
//! 55 to 65 ns, or 130 to 290 ns, and on the next one anything from 30 to 55.

use crate::clock;
use crate::raw::Map;
use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hint::spin_loop;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Bytes that the probe needs.
pub const PROBE: usize = 4096;
/// Round trips of one reading, and readings of a probe.
const ROUNDS: u64 = 200;
const READINGS: u64 = 11;

/// Two distances are one if the larger is less than so many times the smaller: readings at one place differ by
/// as much.
const SAME: f64 = 1.2;

/// How far apart two processors are: nanoseconds that a cache line takes from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distance(pub f64);

impl Distance {
    /// Whether they are the same, as far as readings can tell.
    pub fn agrees(self, other: Self) -> bool {
        self.0.max(other.0) < SAME * self.0.min(other.0)
    }

    /// The one of some distances that most of them agree with; the middle one, if there are several.
    pub fn most_common(distances: impl Iterator<Item = Self>) -> Option<Self> {
        let mut sorted: Vec<_> = distances.collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let agreeing = |one: &Self| {
            let end = sorted.partition_point(|it| it <= one || it.agrees(*one));
            end - sorted.partition_point(|it| it < one && !it.agrees(*one))
        };
        let most = sorted.iter().map(agreeing).max()?;
        let most: Vec<_> = sorted.iter().filter(|it| agreeing(it) == most).collect();
        Some(*most[most.len() / 2])
    }
}

/// Whether both distances are known, and the same.
pub fn agree(one: Option<Distance>, other: Option<Distance>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.agrees(other))
}

impl fmt::Display for Distance {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:.0} ns", self.0)
    }
}

/// Readings before and after a sample.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// Before.
    pub before: Distance,
    /// After.
    pub after: Distance,
}

impl Placement {
    /// What lies between the two, if they agree.
    pub fn distance(&self) -> Option<Distance> {
        let between = Distance((self.before.0 * self.after.0).sqrt());
        self.before.agrees(self.after).then_some(between)
    }
}

/// Plays one side of the ping-pong; answers the median of some readings. Both sides must call it at about
/// the same time.
pub fn probe(map: &Map, first: bool) -> Distance {
    // Both words on one line: it is the only one that moves.
    let line = map.u64(0);
    let mut readings = Vec::new();
    // Values go on from where the last probe ended.
    let mut value = map.u64(if first { 64 } else { 128 }).load(Acquire);
    for _ in 0..READINGS {
        let start = clock::now();
        for _ in 0..ROUNDS {
            if first {
                line.store(value + 1, Release);
                wait_for(line, value + 2);
            } else {
                wait_for(line, value + 1);
                line.store(value + 2, Release);
            }
            value += 2;
        }
        let ticks = clock::now().wrapping_sub(start);
        readings.push(clock::nanoseconds(ticks) / (2 * ROUNDS) as f64);
    }
    map.u64(if first { 64 } else { 128 }).store(value, Release);
    readings.sort_by(f64::total_cmp);
    Distance(readings[readings.len() / 2])
}

fn wait_for(line: &std::sync::atomic::AtomicU64, value: u64) {
    let mut looks = 0u64;
    while line.load(Acquire) != value {
        looks += 1;
        // The other side may not have started yet, or share this processor.
        if looks > 100_000 {
            std::thread::yield_now();
        } else if looks > 64 {
            spin_loop();
        }
    }
}

/// The processors that this process may use.
///
/// # Errors
/// What the kernel says.
pub fn processors() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// Keeps this thread on some processors.
///
/// # Errors
/// What the kernel says.
pub fn pin(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).with_context(|| format!("can't run on processors {processors:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw;

    #[test]
    fn a_placement_has_a_distance_only_if_both_probes_agree() {
        let distance = |before, after| {
            let [before, after] = [before, after].map(Distance);
            Placement { before, after }.distance()
        };
        assert_eq!(distance(40.0, 40.0), Some(Distance(40.0)));
        assert!(distance(40.0, 44.0).is_some_and(|it| (41.0..43.0).contains(&it.0)));
        assert_eq!(distance(40.0, 50.0), None);
        assert_eq!(distance(250.0, 60.0), None);
    }

    #[test]
    fn the_most_common_distance_is_the_one_that_most_agree_with() {
        let common = |all: &[f64]| Distance::most_common(all.iter().copied().map(Distance));
        assert_eq!(common(&[]), None);
        assert_eq!(common(&[60.0]), Some(Distance(60.0)));
        assert_eq!(
            common(&[200.0, 30.0, 210.0, 33.0, 205.0]),
            Some(Distance(205.0))
        );
        // None equals another, and those in the middle have the most neighbours.
        let found = common(&[30.0, 34.0, 36.0, 38.0, 40.0, 43.0, 55.0, 180.0, 190.0]).unwrap();
        assert!((36.0..=38.0).contains(&found.0), "{found}");
    }

    #[test]
    fn both_sides_see_the_same_distance() {
        let fd = raw::memory(PROBE).unwrap();
        let maps = [Map::new(&fd).unwrap(), Map::new(&fd).unwrap()];
        let [first, second] = maps;
        let other = std::thread::spawn(move || [probe(&second, false), probe(&second, false)]);
        let mine = [probe(&first, true), probe(&first, true)];
        let theirs = other.join().unwrap();
        for distance in mine.into_iter().chain(theirs) {
            assert!(distance.0 > 1.0, "{distance}");
        }
    }
}
