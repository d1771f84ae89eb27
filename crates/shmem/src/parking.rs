//! How long one that parks looks before it sleeps.
//!
//! A few times, as a rule: whoever chose to park gives its processor away. But two that answer each other
//! at once can get stuck in sleeping. Each is woken some 15 µs after the other fell asleep again, and so
//! it goes on, although neither would sleep if the other were awake. So a sleep that ended soon is
//! taken for a question: would the answer have come sooner to one that is awake? The next time the waiter looks
//! for as long as that sleep took, in which two were woken, one after the other. If the answer comes in
//! clearly less, both are awake, and stay so as long as answers come within [`USUAL`].
//!
//! ```text
//!                   a sleep shorter than SOON            comes in clearly less
//!   looks a few ────────────────────────────► looks as ────────────────────────► looks for
//!   times       ◄──────────────────────────── long     ◄ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ USUAL
//!                        in vain                               in vain: by way of a few
//! ```
//! After each time in vain, one of twice as many short sleeps is a question, up to one of
//! [`RARELY`]. So what comes seldom, or every so often whatever the waiter does, costs next to
//! nothing: at most [`SOON`] of looking for 64 sleeps.

use std::time::Duration;

/// A sleep of two who answer each other takes less than this: two wake-ups.
const SOON: Duration = Duration::from_micros(80);
/// How long one looks whose answers come at once: about what a sleep and a wake-up take.
const USUAL: Duration = Duration::from_micros(10);
/// Of so many sleeps in which no answer came sooner, one is a question.
const RARELY: u32 = 64;

/// What one that parks knows of how soon answers come.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    /// How long it looks; zero: a few times.
    time: Duration,
    /// Short sleeps that are no question.
    skips: u32,
    /// Times in vain, since one was not.
    failures: u32,
}

impl Parking {
    /// How long to look before the next sleep; none, if only a few times.
    pub(crate) fn time(&self) -> Option<Duration> {
        (!self.time.is_zero()).then_some(self.time)
    }

    /// It looked so long as it was told, and found something after some time, or nothing.
    pub(crate) fn looked(&mut self, found: Option<Duration>) {
        // One wake-up of two has been saved; what comes whatever this one does saves less.
        let enough = (self.time * 2 / 3).max(USUAL);
        if found.is_some_and(|took| took <= enough) {
            (self.time, self.failures) = (USUAL, 0);
        } else {
            self.time = Duration::ZERO;
            self.skips = RARELY.min(1 << self.failures.min(31));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// It slept so long until there was something, or was about to when it came.
    pub(crate) fn slept(&mut self, took: Duration) {
        if took >= SOON {
            self.time = Duration::ZERO;
        } else if self.skips > 0 {
            self.skips -= 1;
        } else {
            self.time = took.max(USUAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// One whose answers come after `awake` to one that looks, and after `asleep` to one that sleeps. Answers
    /// how often it slept, and how long it looked in vain.
    fn waits(parking: &mut Parking, count: u32, awake: u64, asleep: u64) -> (u32, Duration) {
        let (mut sleeps, mut vain) = (0, Duration::ZERO);
        for _ in 0..count {
            if let Some(time) = parking.time() {
                let found = (micros(awake) <= time).then_some(micros(awake));
                parking.looked(found);
                if found.is_some() {
                    continue;
                }
                vain += time;
            }
            sleeps += 1;
            parking.slept(micros(asleep));
        }
        (sleeps, vain)
    }

    #[test]
    fn who_is_answered_at_once_stays_awake() {
        let mut parking = Parking::default();
        // The first look finds the other one on its way, and from then on it is awake.
        assert_eq!(waits(&mut parking, 1, 15, 30).0, 1);
        assert_eq!(waits(&mut parking, 1, 15, 30).0, 0);
        assert_eq!(waits(&mut parking, 1000, 1, 30).0, 0);
        // Something came between.
        assert_eq!(waits(&mut parking, 1, 500, 500).0, 1);
        let (sleeps, _) = waits(&mut parking, 1000, 1, 30);
        assert!(sleeps < 4, "{sleeps}");
    }

    #[test]
    fn who_waits_for_something_rare_sleeps() {
        let mut parking = Parking::default();
        assert_eq!(waits(&mut parking, 1000, 200, 200), (1000, micros(0)));
        // What comes every 50 µs, however one waits.
        let (sleeps, vain) = waits(&mut parking, 10_000, 50, 50);
        assert!(sleeps > 9_800 && vain < micros(10_000), "{sleeps} {vain:?}");
        // One that is not there while this one looks, because it needs this processor.
        let mut parking = Parking::default();
        let (sleeps, vain) = waits(&mut parking, 10_000, 1_000, 8);
        assert!(sleeps == 10_000 && vain < micros(2_000), "{vain:?}");
    }
}
