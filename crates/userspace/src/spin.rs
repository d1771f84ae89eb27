//! Looking for a while before a call sleeps.
//!
//! A sleep and a wake-up take 5 to 50 µs; an answer from a process that runs on another processor
//! takes less than one. So a call that would have to wait first looks at a word that changes with
//! what it waits for, without the lock, and tries again when it has changed.
//!
//! How long, is a matter of experience, one for each kind of object in each process. Success
//! doubles the *budget*, up to 20 µs; a sleep that follows halves it, down to nothing. Who no longer
//! looks tries 60 µs, longer than a wake-up takes, each sixteenth time; if that is good for
//! nothing, half as often, down to each 1,024th. So two that answer each other come back to
//! looking, and two that share one processor lose one part in a hundred.
//!
//! The caller takes no signals meanwhile, if it has handlers: what comes ends the sleep before it
//! begins.

use shmem::Region;
use shmem::sync::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Largest and smallest budget, in nanoseconds; what is less is nothing.
const LONGEST: u32 = 20_000;
const SHORTEST: u32 = 500;
/// How long one looks that tries whether looking is good for something again, in nanoseconds.
const TRIAL: u32 = 60_000;
/// Sleeps between two trials.
const OFTEN: u32 = 16;
const RARELY: u32 = 1_024;
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;
/// Who was away for so long between two readings had its processor taken by others.
const AWAY: Duration = Duration::from_micros(100);

/// What looking has been good for.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Nanoseconds to look for.
    budget: AtomicU32,
    /// Sleeps until the next trial.
    until_trial: AtomicU32,
    /// Sleeps between the last trial and that.
    interval: AtomicU32,
}

impl Spin {
    /// For a process that has several processors or one.
    pub(crate) fn new(several: bool) -> Self {
        Self {
            budget: AtomicU32::new(if several { LONGEST } else { 0 }),
            until_trial: AtomicU32::new(OFTEN),
            interval: AtomicU32::new(OFTEN),
        }
    }

    /// How long a call may look now.
    pub(crate) fn turn(&self) -> Turn<'_> {
        // Relaxed, here and below: experience, which several threads may spoil a little.
        let budget = self.budget.load(Ordering::Relaxed);
        let is_trial = budget == 0 && self.until_trial.load(Ordering::Relaxed) == 0;
        let time = if is_trial { TRIAL } else { budget };
        Turn {
            spin: self,
            time: Duration::from_nanos(time.into()),
            start: None,
            is_trial,
            is_over: time == 0,
        }
    }
}

/// One call's looking.
pub(crate) struct Turn<'a> {
    spin: &'a Spin,
    time: Duration,
    /// When it began.
    start: Option<Instant>,
    is_trial: bool,
    is_over: bool,
}

impl Turn<'_> {
    /// It is no longer than that.
    pub(crate) fn limit(&mut self, time: Duration) {
        self.time = self.time.min(time);
    }

    /// Whether there is no more to look.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks until the word at an offset is no longer `seen`, or the time is over.
    pub(crate) fn look(&mut self, region: &Region, offset: usize, seen: u64) {
        let start = *self.start.get_or_insert_with(Instant::now);
        let mut last = start.elapsed();
        while last < self.time {
            for _ in 0..LOOKS {
                // Relaxed: whoever sees a change looks again under the lock.
                if region.load_u64(offset, Ordering::Relaxed) != seen {
                    return;
                }
                std::hint::spin_loop();
            }
            let now = start.elapsed();
            if now - last > AWAY {
                break;
            }
            last = now;
        }
        self.is_over = true;
    }

    /// The call got what it waited for without sleeping.
    pub(crate) fn succeed(&self) {
        if self.start.is_some() {
            let spin = self.spin;
            spin.budget.store(LONGEST, Ordering::Relaxed);
            spin.interval.store(OFTEN, Ordering::Relaxed);
            spin.until_trial.store(OFTEN, Ordering::Relaxed);
        }
    }

    /// The call is about to sleep.
    pub(crate) fn fail(&self) {
        let spin = self.spin;
        if self.is_trial {
            let interval = spin.interval.load(Ordering::Relaxed);
            let interval = interval.saturating_mul(2).min(RARELY);
            spin.interval.store(interval, Ordering::Relaxed);
            spin.until_trial.store(interval, Ordering::Relaxed);
            return;
        }
        let half = spin.budget.load(Ordering::Relaxed) / 2;
        let budget = if half < SHORTEST { 0 } else { half };
        spin.budget.store(budget, Ordering::Relaxed);
        let left = spin.until_trial.load(Ordering::Relaxed);
        spin.until_trial
            .store(left.saturating_sub(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_in_vain_looks_less_and_less() {
        let region = Region::heap(64);
        let spin = Spin {
            budget: AtomicU32::new(LONGEST),
            until_trial: AtomicU32::new(OFTEN),
            interval: AtomicU32::new(OFTEN),
        };
        let mut trials = Vec::new();
        for call in 0..5_000 {
            let mut turn = spin.turn();
            if turn.is_trial {
                trials.push(call);
            }
            // Not in real time.
            turn.limit(Duration::from_nanos(1));
            if !turn.is_over() {
                turn.look(&region, 0, 0);
            }
            assert!(turn.is_over());
            turn.fail();
        }
        let between: Vec<i32> = trials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(between[..6], [33, 65, 129, 257, 513, 1025]);
        // One success, and it is as it was.
        let mut turn = spin.turn();
        turn.time = Duration::from_secs(10);
        turn.look(&region, 0, 1);
        turn.succeed();
        assert_eq!(spin.turn().time, Duration::from_nanos(LONGEST.into()));
    }

    #[test]
    fn a_change_is_seen() {
        let region = Region::heap(64);
        let spin = Spin {
            budget: AtomicU32::new(LONGEST),
            until_trial: AtomicU32::new(OFTEN),
            interval: AtomicU32::new(OFTEN),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| region.u64(8).store(1, Ordering::Relaxed));
            while region.load_u64(8, Ordering::Relaxed) == 0 {
                spin.turn().look(&region, 8, 0);
            }
        });
    }
}
