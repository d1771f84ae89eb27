//! Time stamps that cost less than what is measured.
//!
//! `clock_gettime` takes about as long as a message through shared memory; the processor's time
//! stamp counter takes a third of that. Its rate is measured against the clock once per process, or
//! told by the process that conducts. Some processors count in large steps: see [`step`].

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A reading of the counter.
#[inline]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction; Linux lets programs use it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Clock and counter at one moment: of some readings the one that was least disturbed.
fn both() -> (Instant, u64) {
    let reading = |_| {
        let before = now();
        let clock = Instant::now();
        let took = now().wrapping_sub(before);
        (took, clock, before.wrapping_add(took / 2))
    };
    let (_, clock, counter) = (0..50)
        .map(reading)
        .min_by_key(|(took, ..)| *took)
        .expect("there are readings");
    (clock, counter)
}

static TICK: OnceLock<f64> = OnceLock::new();

/// Takes the length of a tick from a process that has measured it; nothing if it is known already.
pub fn take_tick(nanoseconds: f64) {
    let _ = TICK.set(nanoseconds);
}

/// Ticks by which the counter moves at once, at least: on some processors ten nanoseconds' worth.
pub fn step() -> u64 {
    static STEP: OnceLock<u64> = OnceLock::new();
    *STEP.get_or_init(|| {
        let difference = |_| {
            let before = now();
            now().wrapping_sub(before)
        };
        let seen = (0..10_000).map(difference);
        seen.filter(|ticks| *ticks > 1).min().unwrap_or(1)
    })
}

/// Nanoseconds of a tick.
pub fn tick() -> f64 {
    *TICK.get_or_init(|| {
        let (clock, counter) = both();
        while clock.elapsed() < Duration::from_millis(10) {
            std::hint::spin_loop();
        }
        let (end, last) = both();
        (end - clock).as_nanos() as f64 / last.wrapping_sub(counter) as f64
    })
}

/// The ticks of a duration.
pub fn ticks(duration: Duration) -> u64 {
    (duration.as_nanos() as f64 / tick()) as u64
}

/// Nanoseconds of so many ticks.
pub fn nanoseconds(ticks: u64) -> f64 {
    ticks as f64 * tick()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_time() {
        let (clock, counter) = both();
        while clock.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (end, last) = both();
        let measured = nanoseconds(last - counter);
        let truth = (end - clock).as_nanos() as f64;
        assert!((measured / truth - 1.0).abs() < 0.01, "{measured} {truth}");
    }
}
