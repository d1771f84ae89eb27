//! Looking for a while before a call sleeps.
//!
//! A sleep and a wake-up take 5 to 50 µs; an answer from a process that runs on another processor
//! takes less than one, and one from a process that waits for this very processor little more than
//! it takes to let it run. So a call that would have to wait first looks at a word that changes
//! with what it waits for, without the lock, and tries again when it has changed: it *spins*, and
//! then it *yields* the processor.
//!
//! ```text
//!   spin for the budget ──► yield, if that is good for something ──► sleep
//!        │ changed: budget full     │ changed, others ran: so it runs here; budget halved
//!        │                          │ changed, nobody ran here: it is elsewhere; budget full
//!        ▼                          ▼
//!     try again                  try again
//! ```
//!
//! How long and whether, is a matter of experience, one for each kind of object in each process.
//! Success of spinning fills the *budget*, 20 µs; whatever else ends a wait halves it, down to
//! nothing. Yields are made by whose budget is not full, as long as more than two in three are
//! followed by the answer. One that lets somebody else compute for long is the last for a thousand
//! waits, then for twice as many: to yield is to be last in the queue of those who wait for the
//! processor, which a woken sleeper is not. Who does neither any more tries to yield, for 60 µs if
//! nobody else runs here, longer than a wake-up takes, each sixteenth time; if that is good for
//! nothing, half as often, down to each 1,024th. So two that answer each other come back to
//! looking, and who waits for something slow loses one part in a hundred.
//!
//! The caller takes no signals meanwhile, if it has handlers: what comes ends the sleep before it
//! begins.

use rustix::thread::sched_yield;
use shmem::sync::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Largest and smallest budget, in nanoseconds; what is less is nothing.
const LONGEST: u32 = 20_000;
const SHORTEST: u32 = 500;
/// How long they are made by who tries whether looking is good for something again.
const TRIAL: Duration = Duration::from_micros(60);
/// Sleeps between two trials.
const OFTEN: u32 = 16;
const RARELY: u32 = 1_024;
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;
/// Who was away for so long between two readings had its processor taken by others.
const AWAY: Duration = Duration::from_micros(100);

/// Yields in one call that let others run.
const YIELDS: u32 = 2;
/// A yield that takes less has let nobody run.
const ALONE: Duration = Duration::from_nanos(500);
/// How long such yields are made: who waits for this processor may have to do so until the other
/// has had its share.
const GLANCE: Duration = Duration::from_micros(5);
/// What yields are worth at most; what one more is worth that was good, and costs that was not.
const TRUST: u32 = 16;
const GOOD: u32 = 1;
const BAD: u32 = 2;
/// Waits without yields after one that let others compute for long, at first and at most.
const BAR: u32 = 1_024;
const LONGEST_BAR: u32 = 16_384;

/// What looking has been good for.
#[derive(Debug)]
pub(crate) struct Spin {
    /// Whether another processor may be at work meanwhile.
    several: bool,
    /// Nanoseconds to spin for.
    budget: AtomicU32,
    /// What yields are worth; 0: nothing.
    trust: AtomicU32,
    /// Waits in which there are no yields, and how many it will be next time.
    barred: AtomicU32,
    bar: AtomicU32,
    /// Sleeps until the next trial.
    until_trial: AtomicU32,
    /// Sleeps between the last trial and that.
    interval: AtomicU32,
}

impl Spin {
    /// For a process that has several processors or one.
    pub(crate) fn new(several: bool) -> Self {
        Self {
            several,
            budget: AtomicU32::new(if several { LONGEST } else { 0 }),
            trust: AtomicU32::new(TRUST),
            barred: AtomicU32::new(0),
            bar: AtomicU32::new(BAR),
            until_trial: AtomicU32::new(OFTEN),
            interval: AtomicU32::new(OFTEN),
        }
    }

    /// How long a call may look now.
    pub(crate) fn turn(&self) -> Turn<'_> {
        // Relaxed, here and below: experience, which several threads may spoil a little.
        let budget = self.budget.load(Ordering::Relaxed);
        let trust = self.trust.load(Ordering::Relaxed);
        let is_trial = budget == 0 && trust == 0 && self.until_trial.load(Ordering::Relaxed) == 0;
        let is_barred = self.barred.load(Ordering::Relaxed) > 0;
        // Who mostly gets its answer by spinning, and once did not, is better off asleep.
        let spins_in_vain = budget < LONGEST;
        let yields = match spins_in_vain && !is_barred && (is_trial || trust > 0) {
            true => YIELDS,
            false => 0,
        };
        let time = match is_trial && is_barred && self.several {
            true => TRIAL,
            false => Duration::from_nanos(budget.into()),
        };
        let glance = match self.several && is_trial {
            false => GLANCE,
            true => TRIAL,
        };
        Turn {
            spin: self,
            time,
            glance,
            start: None,
            yields,
            answer: Answer::None,
            is_trial,
            is_over: time.is_zero() && yields == 0,
        }
    }

    /// Half of the budget.
    fn spend(&self) {
        let half = self.budget.load(Ordering::Relaxed) / 2;
        let budget = if half < SHORTEST { 0 } else { half };
        self.budget.store(budget, Ordering::Relaxed);
    }

    /// No yields for a while, and for longer each time.
    fn bar(&self) {
        let waits = self.bar.load(Ordering::Relaxed);
        self.barred.store(waits, Ordering::Relaxed);
        self.bar
            .store(waits.saturating_mul(2).min(LONGEST_BAR), Ordering::Relaxed);
    }

    /// One more wait is over.
    fn count(&self) {
        let barred = self.barred.load(Ordering::Relaxed);
        if barred > 0 {
            self.barred.store(barred - 1, Ordering::Relaxed);
        }
    }

    /// What is good is tried soon again when it ceases to be.
    fn hope(&self) {
        self.interval.store(OFTEN, Ordering::Relaxed);
        self.until_trial.store(OFTEN, Ordering::Relaxed);
    }
}

/// What the word last changed after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    None,
    Spinning,
    Yielding,
}

/// One call's looking.
pub(crate) struct Turn<'a> {
    spin: &'a Spin,
    /// How long it may spin at first.
    time: Duration,
    /// How long its yields may be such that let nobody run.
    glance: Duration,
    /// When it began.
    start: Option<Instant>,
    /// Yields that may still let others run.
    yields: u32,
    answer: Answer,
    is_trial: bool,
    is_over: bool,
}

impl Turn<'_> {
    /// It is no longer than that.
    pub(crate) fn limit(&mut self, time: Duration) {
        self.time = self.time.min(time);
        self.glance = self.glance.min(time);
        if time < AWAY {
            self.yields = 0;
        }
    }

    /// Whether there is no more to look.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks until something has changed, or the time is over.
    pub(crate) fn look(&mut self, has_changed: impl Fn() -> bool) {
        let start = *self.start.get_or_insert_with(Instant::now);
        if spin(start, self.time, &has_changed) {
            self.answer = Answer::Spinning;
            return;
        }
        let mut before = start.elapsed();
        while self.yields > 0 {
            sched_yield();
            let after = start.elapsed();
            let away = after - before;
            before = after;
            if away < ALONE {
                self.glance = self.glance.saturating_sub(away);
                if has_changed() {
                    self.answer = Answer::Spinning;
                    return;
                }
                if self.glance.is_zero() {
                    break;
                }
                continue;
            }
            self.yields -= 1;
            if has_changed() {
                self.answer = Answer::Yielding;
                return;
            }
            if away > AWAY {
                // Others compute here.
                self.spin.bar();
                break;
            }
        }
        self.is_over = true;
    }

    /// The call got what it waited for without sleeping.
    pub(crate) fn succeed(&self) {
        let spin = self.spin;
        match self.answer {
            Answer::None => return,
            Answer::Spinning => spin.budget.store(LONGEST, Ordering::Relaxed),
            Answer::Yielding => {
                let trust = spin.trust.load(Ordering::Relaxed) + GOOD;
                spin.trust.store(trust.min(TRUST), Ordering::Relaxed);
                spin.spend();
            }
        }
        spin.hope();
        spin.count();
    }

    /// The call is about to sleep.
    pub(crate) fn fail(&self) {
        let spin = self.spin;
        spin.count();
        if self.is_trial {
            let interval = spin.interval.load(Ordering::Relaxed);
            let interval = interval.saturating_mul(2).min(RARELY);
            spin.interval.store(interval, Ordering::Relaxed);
            spin.until_trial.store(interval, Ordering::Relaxed);
            return;
        }
        spin.spend();
        let trust = spin.trust.load(Ordering::Relaxed);
        spin.trust
            .store(trust.saturating_sub(BAD), Ordering::Relaxed);
        let left = spin.until_trial.load(Ordering::Relaxed);
        spin.until_trial
            .store(left.saturating_sub(1), Ordering::Relaxed);
    }
}

/// Looks until something has changed, and answers yes, or until so long after the start.
fn spin(start: Instant, until: Duration, has_changed: impl Fn() -> bool) -> bool {
    let mut last = start.elapsed();
    while last < until {
        for _ in 0..LOOKS {
            if has_changed() {
                return true;
            }
            std::hint::spin_loop();
        }
        let now = start.elapsed();
        if now - last > AWAY {
            break;
        }
        last = now;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use shmem::Region;

    /// A call that looks and sees nothing. Not in real time.
    fn look_in_vain(spin: &Spin, region: &Region) -> bool {
        let mut turn = spin.turn();
        let is_trial = turn.is_trial;
        turn.limit(Duration::from_nanos(1));
        if !turn.is_over() {
            turn.look(|| region.load_u64(0, Ordering::Relaxed) != 0);
        }
        assert!(turn.is_over());
        turn.fail();
        is_trial
    }

    #[test]
    fn who_looks_in_vain_looks_less_and_less() {
        let region = Region::heap(64);
        let spin = Spin::new(true);
        let calls = 0..5_000;
        let trials: Vec<i32> = calls.filter(|_| look_in_vain(&spin, &region)).collect();
        let between: Vec<i32> = trials.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(between[..6], [33, 65, 129, 257, 513, 1025]);
        // One success, and it is as it was.
        let mut turn = spin.turn();
        turn.time = Duration::from_secs(10);
        turn.look(|| region.load_u64(0, Ordering::Relaxed) != 1);
        turn.succeed();
        assert_eq!(spin.turn().time, Duration::from_nanos(LONGEST.into()));
    }

    #[test]
    fn who_gets_the_answer_by_yielding_does_not_spin() {
        let region = Region::heap(64);
        let spin = Spin::new(true);
        for _ in 0..50 {
            let mut turn = spin.turn();
            turn.start = Some(Instant::now());
            turn.answer = Answer::Yielding;
            turn.succeed();
        }
        let turn = spin.turn();
        assert_eq!((turn.time, turn.yields), (Duration::ZERO, YIELDS));
        // In vain often enough, and it is over.
        for _ in 0..TRUST / BAD {
            look_in_vain(&spin, &region);
        }
        assert!(spin.turn().is_over());
    }

    #[test]
    fn a_turn_has_an_end_whatever_happens_to_the_word() {
        let region = Region::heap(64);
        let spin = Spin::new(false);
        let mut turn = spin.turn();
        let mut looks = 0;
        while !turn.is_over() {
            turn.look(|| region.load_u64(0, Ordering::Relaxed) != 1);
            looks += 1;
        }
        // How many depends on what else runs; that there is an end is the point.
        assert!(looks > 1, "{looks}");
    }

    #[test]
    fn a_change_is_seen() {
        let region = Region::heap(64);
        let spin = Spin::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| region.u64(8).store(1, Ordering::Relaxed));
            while region.load_u64(8, Ordering::Relaxed) == 0 {
                spin.turn()
                    .look(|| region.load_u64(8, Ordering::Relaxed) != 0);
            }
        });
    }
}
