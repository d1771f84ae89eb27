//! What is in this name space, and what a suite may leave there.

use shmem::presence::{is_orphan, is_presence};
use std::time::{Duration, Instant};
use sysv::{Kernel, msg, shm};

/// The segments of this name space but the presences of the living, and the queues.
#[derive(Debug, Default)]
pub struct Left {
    /// What processes left that were killed while they made their presence.
    pub orphans: Vec<i32>,
    /// All other segments.
    pub segments: Vec<shm::Status>,
    /// Queues.
    pub queues: Vec<msg::Status>,
}

/// Looks what is there.
pub fn left() -> Left {
    let mut left = Left::default();
    for status in shm::list(Kernel).expect("segments") {
        if is_orphan(&status) {
            left.orphans.push(status.id);
        } else if !is_presence(&status) {
            left.segments.push(status);
        }
    }
    left.queues = msg::list(Kernel).expect("queues");
    left
}

/// Asserts that there is nothing but orphans, removes those and answers how many there were.
#[track_caller]
pub fn assert_nothing_left(context: &str) -> usize {
    let left = left();
    assert!(
        left.segments.is_empty() && left.queues.is_empty(),
        "{context}: left behind: {left:#?}"
    );
    for id in &left.orphans {
        sysv::Segment::from_id(*id).remove().expect("an orphan");
    }
    left.orphans.len()
}

/// How long an operation may take after a death.
pub const PROMPT: Duration = Duration::from_millis(200);

/// Times operations that must be prompt. A machine that is busy with something else may delay a
/// few; a wait for a time-out would delay all of its kind, and none is so short that it passes.
#[derive(Debug, Default)]
pub struct Prompt {
    /// How many operations were timed.
    pub count: usize,
    /// The slowest.
    pub slowest: Duration,
    late: usize,
}

impl Prompt {
    /// Runs and times an operation.
    #[track_caller]
    pub fn time<T>(&mut self, what: &str, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = operation();
        self.add(what, start.elapsed());
        answer
    }

    /// Counts an operation that was timed.
    #[track_caller]
    pub fn add(&mut self, what: &str, took: Duration) {
        self.count += 1;
        self.slowest = self.slowest.max(took);
        self.late += usize::from(took > PROMPT);
        assert!(took < PROMPT * 10, "{what} took {took:?}");
        assert!(
            self.late * 50 <= self.count + 100,
            "{what} took {took:?}, as did others: {self:?}"
        );
    }
}
