//! What many cost that sleep and watch each other.

use crate::board::now;
use checks::process::{BOUND, Gate, child, shared_words, wait_until};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::wait::{BELL_SIZE, Bell, Moment, Patience};
use shmem::{Region, Waiter, presence, pulse};
use std::sync::atomic::Ordering;
use std::time::Duration;
use sysv::{Key, Mode, Segment};

pub const CASES: &[Case] = &[case("parked::cost_little", cost_little)];

/// How many peers each one watches.
const WATCHED: usize = 16;

/// Nanoseconds that a process was on a processor, as its scheduler counts.
fn run_time(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("schedstat");
    let first = stat.split(' ').next().expect("a field");
    first.parse().expect("nanoseconds")
}

/// A thousand parked processes together take less than 5 % of one processor; so many of them as
/// there are here, their share of it.
fn cost_little() -> Outcome {
    let count = quick_or_long(200, 1000);
    let segment = Segment::create(Key::PRIVATE, BELL_SIZE, Mode::default()).expect("a segment");
    let bell = Region::attach(segment.id()).expect("attach");
    segment.remove().expect("remove");
    let words = shared_words(2 * count);
    let all_told = Gate::new();
    let park = |number: usize| {
        let me = presence::mine().expect("presence");
        words[2 * number + 1].store(pulse::mine().into(), Ordering::SeqCst);
        words[2 * number].store(me.word() as i64, Ordering::SeqCst);
        all_told.wait();
        let bell = Bell::new(&bell, 0);
        Waiter::new().wait(bell, Patience::FOREVER, |moment, peers| {
            if moment == Moment::Spinning {
                return None;
            }
            let mut is_dead = |peer: usize| {
                let word = |at: usize| words[2 * peer + at].load(Ordering::SeqCst);
                peers.watch(word(0) as u64, word(1) as u32);
                peers.is_dead(word(0) as u64)
            };
            let next = (1..=WATCHED).map(|i| (number + i) % count);
            (next.filter(|peer| is_dead(*peer)).count() != 0).then_some(())
        });
    };
    let processes: Vec<_> = (0..count).map(|number| child(|| park(number))).collect();
    let is_told = || words.iter().all(|word| word.load(Ordering::SeqCst) != 0);
    wait_until(BOUND * 3, is_told);
    processes.iter().for_each(|_| all_told.open());
    processes.iter().for_each(|process| process.wait_asleep());
    let total = || {
        processes
            .iter()
            .map(|process| run_time(process.pid()))
            .sum::<u64>()
    };
    // The least of some times: what else runs only adds to it.
    let mut percent = f64::INFINITY;
    for _ in 0..4 {
        let (start, before) = (now(), total());
        // What is to be measured, not a state to wait for.
        std::thread::sleep(Duration::from_secs(5));
        let share = (total() - before) as f64 / (now() - start) as f64;
        percent = percent.min(share * 100.0 / count as f64 * 1000.0);
        if percent < 5.0 {
            break;
        }
    }
    assert!(percent < 5.0, "{percent:.2} % of a processor for 1,000");
    Outcome::Pass(format!(
        "{count} processes, each watching {WATCHED}: {percent:.2} % of a processor for 1,000"
    ))
}
