//! Threads that are cancelled while they sleep in a call.
//!
//! `msgsnd` and `msgrcv` are cancellation points, and a thread is cancelled by unwinding its stack,
//! which must not happen to frames of ours. So who sees the requests says [`requested`] after each,
//! and a thread whose call is to heed them says [`heed`] before it looks whether it is cancelled
//! already. If there has been a request since, the call ends at its next slice with `ERESTART`: its
//! caller looks again whether it is meant, and if not repeats the call.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// No request is heeded.
const NONE: u64 = 0;

thread_local! {
    /// The requests that this thread knew of when its call began.
    static KNOWN: Cell<u64> = const { Cell::new(NONE) };
}

/// A thread, whichever, has been asked to end.
pub fn requested() {
    // Release: the request itself is seen by who sees the number.
    REQUESTS.fetch_add(1, Ordering::Release);
}

/// This thread's next call on a queue ends if there is a request from here on.
pub fn heed() {
    // Acquire: as above.
    KNOWN.set(REQUESTS.load(Ordering::Acquire));
}

/// This thread's calls don't end for that any more.
pub fn ignore() {
    KNOWN.set(NONE);
}

/// Whether this thread's call has to end.
pub(crate) fn is_asked() -> bool {
    let known = KNOWN.get();
    // Acquire: as above.
    known != NONE && known != REQUESTS.load(Ordering::Acquire)
}
