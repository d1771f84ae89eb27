//! What has to be done around `fork`, so that a child's attaches count from its first moment.

use std::cell::RefCell;
use std::sync::OnceLock;
use userspace::{Fork, Space};

static SPACE: OnceLock<&'static Space> = OnceLock::new();

thread_local! {
    /// Between the two halves of this thread's `fork`.
    static FORK: RefCell<Option<Fork<'static>>> = const { RefCell::new(None) };
}

/// Has every `fork` of libc's from here on tell the name space. The first name space stays.
pub fn watch(space: &'static Space) {
    if SPACE.set(space).is_ok() {
        // SAFETY: three functions that stay for good and touch nothing that `fork` holds.
        unsafe { libc::pthread_atfork(Some(before), Some(parent), Some(child)) };
    }
}

extern "C" fn before() {
    let fork = SPACE.get().and_then(|space| space.before_fork());
    FORK.with_borrow_mut(|slot| *slot = fork);
}

extern "C" fn parent() {
    if let Some(fork) = FORK.with_borrow_mut(Option::take) {
        fork.parent();
    }
}

extern "C" fn child() {
    if let Some(fork) = FORK.with_borrow_mut(Option::take) {
        fork.child();
    }
}
