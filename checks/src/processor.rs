//! Which processor a process runs on.
//!
//! A process that is stepped and the one that steps it run by turns. On two processors each turn wakes one that
//! sleeps, which takes longer than the turn; on one the kernel goes from one to the other.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::sync::OnceLock;

/// The processors that this process could use when it was asked first.
fn all() -> &'static CpuSet {
    static ALL: OnceLock<CpuSet> = OnceLock::new();
    ALL.get_or_init(|| sched_getaffinity(None).expect("the processors of this process"))
}

/// One processor, at which processes can be kept.
#[derive(Clone, Copy)]
pub struct Processor(CpuSet);

impl Processor {
    /// The one that this process runs on, for the moment.
    pub fn here() -> Self {
        all();
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        Self(one)
    }

    /// Keeps a process there; one that is gone stays so.
    pub fn keep(&self, pid: i32) {
        let _ = sched_setaffinity(Pid::from_raw(pid), &self.0);
    }

    /// Keeps this process there until the answer is dropped.
    pub fn visit(&self) -> Visit {
        sched_setaffinity(None, &self.0).expect("a processor of this process");
        Visit
    }
}

/// Lets a process run everywhere again; one that is gone stays so.
pub fn free(pid: i32) {
    let _ = sched_setaffinity(Pid::from_raw(pid), all());
}

/// See [`Processor::visit`].
pub struct Visit;

impl Drop for Visit {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, all());
    }
}
