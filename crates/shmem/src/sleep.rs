//! Sleeping on a word until somebody changes it, and saying how the sleep ended.
//!
//! Unlike a bell, which many may hear, such a word belongs to one sleeper: whoever changes it
//! knows that there is somebody to be woken. And the sleeper is told if a signal handler has run,
//! because the calls of System V end then.

use crate::region::Region;
use rustix::thread::futex;
use std::time::Duration;
use sysv::{Errno, Result};

/// Sleeps while the 32-bit word is `expected`, no longer than `slice`. May also end for no reason.
///
/// # Errors
/// `EINTR` if a signal handler has run.
pub fn sleep(region: &Region, offset: usize, expected: u32, slice: Duration) -> Result<()> {
    let slice = futex::Timespec {
        tv_sec: slice.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: slice.subsec_nanos().into(),
    };
    // Always with a time-out: a wait without one would be restarted after a handler that was
    // installed with SA_RESTART.
    let flags = futex::Flags::empty();
    match futex::wait(region.word(offset), flags, expected, Some(&slice)) {
        Err(Errno::INTR) => Err(Errno::INTR),
        // Woken, changed already, or time is up: the caller looks.
        _ => Ok(()),
    }
}

/// Wakes the sleeper on a word. Call it after changing the word. Nobody sleeps where no word can
/// be.
pub fn wake(region: &Region, offset: usize) {
    let fits = offset.checked_add(4).is_some_and(|end| end <= region.len());
    if !fits || !offset.is_multiple_of(4) {
        return;
    }
    let _ = futex::wake(region.word(offset), futex::Flags::empty(), 1);
}
