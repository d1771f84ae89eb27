//! Figures: percentiles, medians, and ratios with their spread.

use crate::clock;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One-way latency in nanoseconds: half of round trips.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Half of them take no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p99_9: f64,
    /// The slowest.
    pub max: f64,
}

/// Takes round trips down.
///
/// Where the counter moves in steps, a difference of two readings is a multiple of the step, and
/// on average what it should be. A quantile is therefore searched within the step that it falls
/// into, as if the values that read alike were spread evenly over it.
#[derive(Debug)]
pub struct RoundTrips {
    histogram: Histogram<u64>,
}

impl Default for RoundTrips {
    fn default() -> Self {
        let highest = clock::ticks(std::time::Duration::from_secs(60)).max(2);
        let histogram = Histogram::new_with_max(highest, 3).expect("three digits are possible");
        Self { histogram }
    }
}

impl RoundTrips {
    /// One more, in ticks.
    #[inline]
    pub fn record(&mut self, ticks: u64) {
        self.histogram.saturating_record(ticks);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The ticks that a share of the round trips did not exceed.
    fn quantile(&self, share: f64, step: u64) -> f64 {
        let wanted = share * self.count() as f64;
        let mut below = 0.0;
        for value in self.histogram.iter_recorded() {
            let (ticks, here) = (value.value_iterated_to(), value.count_at_value() as f64);
            if below + here >= wanted {
                let width = step.max(self.histogram.equivalent_range(ticks)) as f64;
                let low = ticks as f64 - width / 2.0;
                return (low + width * (wanted - below) / here).max(0.0);
            }
            below += here;
        }
        self.histogram.max() as f64
    }

    /// What they say.
    pub fn latency(&self) -> Latency {
        let at = |quantile| self.quantile(quantile, clock::step()) * clock::tick() / 2.0;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: clock::nanoseconds(self.histogram.max()) / 2.0,
        }
    }
}

/// Smallest, middle and largest of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of some figures; `None` of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let count = figures.len();
        let median = if count.is_multiple_of(2) {
            f64::midpoint(figures[count / 2 - 1], figures[count / 2])
        } else {
            figures[count / 2]
        };
        Some(Self {
            min,
            median,
            max,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_counter_that_moves_in_steps_is_read_between_them() {
        let step = 26;
        for truth in [230.0, 236.5, 247.0, 259.9] {
            let mut trips = RoundTrips::default();
            for phase in 0..1000 {
                let start = f64::from(phase) * step as f64 / 1000.0;
                let read = |at: f64| (at / step as f64).floor() as u64 * step;
                trips.record(read(start + truth) - read(start));
            }
            let found = trips.quantile(0.5, step);
            assert!((found - truth).abs() < 3.0, "{found} instead of {truth}");
        }
    }

    #[test]
    fn one_way_is_half_of_a_round_trip() {
        let mut trips = RoundTrips::default();
        (1..=1000).for_each(|n| trips.record(clock::ticks(std::time::Duration::from_micros(n))));
        let latency = trips.latency();
        assert!((latency.p50 / 250_000.0 - 1.0).abs() < 0.01, "{latency:?}");
        assert!((latency.p99 / 495_000.0 - 1.0).abs() < 0.01, "{latency:?}");
        assert!((latency.max / 500_000.0 - 1.0).abs() < 0.01, "{latency:?}");
    }
}
