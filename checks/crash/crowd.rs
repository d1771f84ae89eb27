//! A crowd of processes, killed one after the other at random moments and replaced; and what was
//! received of what they sent.

use checks::process::Child;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// One receipt that is marked as a second one; receipts that are not count by one.
pub const MARKED: i64 = 1 << 32;

/// Numbers, the same in each run.
pub fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Starts so many processes, numbered from 0, kills them at random moments, so many times in all, and
/// starts another for each. Those that live at the end, in the order of their numbers.
pub fn killed_at_random(kills: usize, count: usize, spawn: impl Fn(usize) -> Child) -> Vec<Child> {
    let mut children: Vec<_> = (0..count).map(|who| Some(spawn(who))).collect();
    let mut state = 99;
    for _ in 0..kills {
        let who = random(&mut state) as usize % count;
        std::thread::sleep(Duration::from_micros(random(&mut state) % 2000));
        children[who].take().expect("there").kill();
        children[who] = Some(spawn(who));
    }
    children.into_iter().flatten().collect()
}

/// Of each number whether it was received once unmarked at most, and at all if its sender tells that it
/// sent it. How many were sent, and how many receipts were marked.
pub fn accounted_for(receipts: &[AtomicI64], told: &[AtomicI64]) -> (i64, i64) {
    let (mut sent, mut again) = (0, 0);
    for (number, (receipts, told)) in receipts.iter().zip(told).enumerate() {
        let receipts = receipts.load(Ordering::SeqCst);
        let (marked, unmarked) = (receipts / MARKED, receipts % MARKED);
        assert!(
            unmarked <= 1,
            "{number} was received {unmarked} times unmarked"
        );
        let told = told.load(Ordering::SeqCst);
        assert!(
            told == 0 || marked + unmarked > 0,
            "{number} was sent and never received"
        );
        sent += told;
        again += marked;
    }
    assert!(sent > 0, "nothing was sent");
    (sent, again)
}
