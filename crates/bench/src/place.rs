//! Where two processes run: pinning, and the ping-pong that tells how far apart they are.
//!
//! One cache line goes to and fro. The two virtual processors of a machine can be near or far from each
//! other, from one second to the next; a sample counts only if the line took about as long after it as
//! before. On the machines that this was written on it took 25 to 35 ns, 55 to 65 ns, or 130 to 290 ns; the
//! classes meet where nothing was seen. What the host gives a virtual machine is not told: a line takes 30 ns
//! between hyper-threads of one core, but cores that share none were as near.

use crate::clock;
use crate::raw::Map;
use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::hint::spin_loop;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Bytes that the probe needs.
pub const PROBE: usize = 4096;
/// Round trips of one reading, and readings of a probe.
const ROUNDS: u64 = 200;
const READINGS: u64 = 11;

/// How far apart two processors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// As hyper-threads of one core.
    Near,
    /// As cores on one cache.
    Middle,
    /// As cores of different caches or sockets.
    Far,
}

impl Class {
    /// By the nanoseconds that a line takes one way.
    pub fn of(nanoseconds: f64) -> Self {
        match nanoseconds {
            ..42.0 => Self::Near,
            42.0..100.0 => Self::Middle,
            _ => Self::Far,
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "as near as hyper-threads of one core",
            Self::Middle => "as near as cores on one cache",
            Self::Far => "far apart",
        }
    }
}

/// Readings before and after a sample.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Placement {
    /// Nanoseconds one way, before.
    pub before: f64,
    /// Nanoseconds one way, after.
    pub after: f64,
}

impl Placement {
    /// Their class, if both say the same: of one class and no more than a half apart.
    pub fn class(&self) -> Option<Class> {
        let (low, high) = (self.before.min(self.after), self.before.max(self.after));
        let class = Class::of(self.before);
        (class == Class::of(self.after) && high < low * 1.5).then_some(class)
    }
}

/// Plays one side of the ping-pong; answers nanoseconds one way, the median of some readings. Both
/// sides must call it at about the same time.
pub fn probe(map: &Map, first: bool) -> f64 {
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
    readings[readings.len() / 2]
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
    fn samples_count_only_if_both_probes_agree() {
        let class = |before, after| Placement { before, after }.class();
        assert_eq!(class(30.0, 34.0), Some(Class::Near));
        assert_eq!(class(58.0, 64.0), Some(Class::Middle));
        assert_eq!(class(255.0, 280.0), Some(Class::Far));
        assert_eq!(class(30.0, 60.0), None);
        assert_eq!(class(58.0, 260.0), None);
        assert_eq!(class(60.0, 98.0), None);
        assert_eq!(class(60.0, 120.0), None);
        assert_eq!(class(140.0, 190.0), Some(Class::Far));
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
            assert!(distance > 1.0, "{distance} ns");
        }
    }
}
