//! The moment between a peer's death and the end of its attaches.
//!
//! A death is known as soon as the peer will never run again, and the kernel takes its segments only
//! then. Who learns of it and leaves at once still counts the dead among a channel's users: nobody
//! would be the last, and the channel would stay behind. So who leaves soon after a death waits a
//! little for the count to go down: all of that little if others live and stay, since the count does
//! not tell whose attaches it counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long after a death the kernel may need to take the dead process's attaches; for a larger
/// process it takes longer, and what stays then is reclaimed by the next opener.
const MOURNING: Duration = Duration::from_millis(100);

/// Between two looks at the count.
const LOOK: Duration = Duration::from_micros(500);

// Relaxed, both: hints of this process to itself.
static WHO: AtomicU64 = AtomicU64::new(0);
static UNTIL: AtomicU64 = AtomicU64::new(0);

/// Notes that the process with an identity has been found dead. Once for each: the dead stand in
/// tables for long.
pub(crate) fn begin(identity: u64) {
    if WHO.swap(identity, Ordering::Relaxed) != identity {
        let until = now() + MOURNING.as_nanos() as u64;
        UNTIL.store(until, Ordering::Relaxed);
    }
}

/// Waits until `others` says that there is nobody else, but not beyond the time that the dead may
/// need. Returns at once if nobody has died lately.
pub(crate) fn wait(mut others: impl FnMut() -> bool) {
    let until = UNTIL.load(Ordering::Relaxed);
    while now() < until && others() {
        std::thread::sleep(LOOK);
    }
}

/// Nanoseconds on a clock of this process's.
fn now() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
