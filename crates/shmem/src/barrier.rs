//! A full fence whose cost is on the side that parks.
//!
//! `[BELL_PARK]` (see `wait`) asks for a full fence on both sides: the publisher's between its
//! publication and its look at `parked`, the waiter's between registering and its look at what was
//! published. Publications are many and waits are few, so the waiter can carry both: the system
//! call `membarrier(GLOBAL_EXPEDITED)` makes every running thread of every *registered* process
//! pass a full fence before it returns. The publisher then needs a plain load, which only the
//! compiler must leave in its place: either it came before the fence that the waiter forced, then
//! so did the publication, which the waiter sees; or it came after, and sees `parked`.
//!
//! Registering takes 2 µs in a process of one thread: such a process does it when it gets its
//! identity. In a process with threads it takes some 10 ms, so it is not done when a channel is opened
//! but after some thousand publications, and until then the publisher fences. A registration
//! belongs to the memory of a process: a fork inherits it together with the word here that tells of
//! it, `exec` loses both (seen on Linux 6.18 by `MEMBARRIER_CMD_GET_REGISTRATIONS`).
//!
//! Under loom there are fences on both sides.
//!
//! **Limits.** A waiter to which the system call is refused (a seccomp filter) while the publisher
//! is registered may miss a ring; it notices at the end of its slice.

use crate::sync::{Ordering, fence};
#[cfg(not(loom))]
use std::sync::OnceLock;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, compiler_fence};

/// What registering has come to: [`FENCE`], [`REGISTERED`] or [`REFUSED`].
#[cfg(not(loom))]
static STATE: AtomicU32 = AtomicU32::new(FENCE);
#[cfg(not(loom))]
const FENCE: u32 = 0;
#[cfg(not(loom))]
const REGISTERED: u32 = 1;
#[cfg(not(loom))]
const REFUSED: u32 = 2;

/// The side that passes often: a full fence, or what the other side makes one of.
#[inline]
pub fn light() {
    #[cfg(not(loom))]
    // Relaxed: the kernel knows of the registration since before the word was stored.
    if STATE.load(Ordering::Relaxed) == REGISTERED {
        // [BELL_PARK] the processor's part is the waiter's to force.
        compiler_fence(Ordering::SeqCst);
        return;
    }
    // [BELL_PARK]
    fence(Ordering::SeqCst);
}

/// Says that this process is registered, so that a [`light`] fence needs no look at that.
#[derive(Clone, Copy, Debug)]
pub struct Registered(());

/// Whether this process is registered.
#[inline(always)]
pub fn registered() -> Option<Registered> {
    #[cfg(not(loom))]
    // Relaxed: as in `light`.
    let is_registered = STATE.load(Ordering::Relaxed) == REGISTERED;
    #[cfg(loom)]
    let is_registered = true;
    is_registered.then_some(Registered(()))
}

impl Registered {
    /// For who knows it already.
    #[inline(always)]
    pub(crate) fn known() -> Self {
        Self(())
    }

    /// [`light`].
    #[inline(always)]
    pub fn light(self) {
        // [BELL_PARK] the processor's part is the waiter's to force.
        #[cfg(not(loom))]
        compiler_fence(Ordering::SeqCst);
        // [BELL_PARK]
        #[cfg(loom)]
        fence(Ordering::SeqCst);
    }
}

/// The side that passes seldom: a full fence here and in every process that passes [`light`]. A
/// system call; false if it is refused, and then only the fence here is sure.
pub fn heavy() -> bool {
    // [BELL_PARK] for who is not registered.
    fence(Ordering::SeqCst);
    #[cfg(not(loom))]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        // [BELL_PARK] for who is.
        membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    }
    #[cfg(loom)]
    true
}

/// Whether [`heavy`] is to be had on this machine. A system call the first time.
pub fn is_available() -> bool {
    #[cfg(not(loom))]
    {
        use rustix::thread::{MembarrierQuery, membarrier_query};
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| membarrier_query().contains(MembarrierQuery::GLOBAL_EXPEDITED))
    }
    #[cfg(loom)]
    true
}

/// [`register`]s a process of one thread.
#[cfg(not(loom))]
pub(crate) fn register_if_cheap() {
    // A folder has a link for itself, one from above, and one from each folder in it: of each thread.
    const OF_ONE_THREAD: u64 = 3;
    let threads = rustix::fs::stat("/proc/self/task");
    // What can't be told is taken for dear.
    if threads.is_ok_and(|threads| threads.st_nlink == OF_ONE_THREAD) {
        register();
    }
}

/// Makes this process's publications cheap from here on; see the module for the price.
#[cold]
pub fn register() {
    #[cfg(not(loom))]
    {
        use rustix::thread::{MembarrierCommand, membarrier};
        // Relaxed: registering twice does no harm.
        if STATE.load(Ordering::Relaxed) == FENCE {
            let registered = membarrier(MembarrierCommand::RegisterGlobalExpedited);
            let state = if registered.is_ok() {
                REGISTERED
            } else {
                REFUSED
            };
            // Relaxed: as in `light`.
            STATE.store(state, Ordering::Relaxed);
            if state == REGISTERED {
                crate::presence::set_registered();
            }
        }
    }
}
