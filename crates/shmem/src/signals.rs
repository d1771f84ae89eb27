//! Keeping signals away while something shared is half done.
//!
//! A handler may call anything, and so may ask for the lock that the code it interrupts holds.
//! Nobody could give it to it: the holder goes on only when the handler has returned. So a thread
//! that holds a lock which a handler might want takes no signals meanwhile.
//!
//! That takes two system calls, which is more than everything else under such a lock. Where it is
//! known that the process has no handler that might run, it is not done: whoever can see all
//! handlers being installed says [`watch`] once, and [`handled`] before each. Handlers of signals
//! that an instruction raises don't count, since none of ours raises one.
//!
//! **Limits.** It is never forgotten that there was a handler. A thread that is inside while
//! another one installs the first handler, and takes its signal in that moment, might ask for its
//! own lock; it fails with `EDEADLK` when the lock's patience ends.

use crate::direct::{RT_SIGACTION, RT_SIGPENDING, RT_SIGPROCMASK, syscall};
use std::marker::PhantomData;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Nobody says when handlers are installed: there may be some.
const UNWATCHED: u32 = 0;
/// There is no handler.
const NONE: u32 = 1;
/// There is one, or was.
const SOME: u32 = 2;

static HANDLERS: AtomicU32 = AtomicU32::new(UNWATCHED);

/// `SIGILL`, `SIGTRAP`, `SIGBUS`, `SIGFPE`, `SIGSEGV`, `SIGSYS`.
const RAISED_BY_INSTRUCTIONS: [u32; 6] = [4, 5, 7, 8, 11, 31];

/// From here on [`handled`] is called before any signal handler is installed. Those that there are
/// now are found.
pub fn watch() {
    let any = (1..=64).any(|signal| !is_raised_by_instructions(signal) && has_handler(signal));
    let now = if any { SOME } else { NONE };
    // Relaxed: it stands for itself. If one was installed meanwhile, it stays known.
    let _ = HANDLERS.compare_exchange(UNWATCHED, now, Ordering::Relaxed, Ordering::Relaxed);
}

/// To be called before a handler for a signal is installed.
pub fn handled(signal: i32) {
    if u32::try_from(signal).is_ok_and(|signal| !is_raised_by_instructions(signal)) {
        // Relaxed: as in `watch`.
        HANDLERS.store(SOME, Ordering::Relaxed);
    }
}

fn is_raised_by_instructions(signal: u32) -> bool {
    RAISED_BY_INSTRUCTIONS.contains(&signal)
}

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;

/// Signals that the thread did not take before all were blocked.
#[derive(Clone, Copy, Debug)]
struct Mask(u64);

/// All signals are blocked in this thread until this is dropped; or nothing is, because no handler
/// can run.
#[derive(Debug)]
pub struct Blocked {
    before: Option<Mask>,
    /// It belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

impl Blocked {
    /// Blocks all signals that can be blocked. A system call.
    pub fn new() -> Self {
        let all = !0u64;
        let mut before = 0u64;
        let (set, old) = (&raw const all, &raw mut before);
        let arguments = [SIG_BLOCK, set as usize, old as usize, 8, 0, 0];
        // SAFETY: both are valid for eight bytes, the size that the kernel is told. It can't
        // fail: the operation and the size are right.
        let _ = unsafe { syscall(RT_SIGPROCMASK, arguments) };
        Self {
            before: Some(Mask(before)),
            _thread: PhantomData,
        }
    }

    /// Keeps handlers from running: blocks all signals, if the process may have a handler.
    #[inline]
    pub fn handlers() -> Self {
        // Relaxed: as in `watch`.
        if HANDLERS.load(Ordering::Relaxed) != NONE {
            return Self::new();
        }
        Self {
            before: None,
            _thread: PhantomData,
        }
    }

    /// Leaves the signals blocked in this thread, and has a command take those that were taken
    /// before.
    pub fn hand_to(self, command: &mut Command) {
        if let Some(before) = self.before {
            let restore = move || {
                before.restore();
                Ok(())
            };
            // SAFETY: between `fork` and `exec` it makes one system call and touches no memory but
            // the copy of the mask.
            unsafe { command.pre_exec(restore) };
        }
        std::mem::forget(self);
    }

    /// The mask that was there before, if any signals are blocked.
    pub(crate) fn before(&self) -> Option<u64> {
        self.before.map(|mask| mask.0)
    }

    /// Whether a handler will run as soon as signals are taken again: who is about to sleep should
    /// not, because the handler is to interrupt him. A system call.
    pub fn is_handler_due(&self) -> bool {
        let Some(before) = self.before else {
            return false;
        };
        let mut pending = 0u64;
        let at = &raw mut pending as usize;
        // SAFETY: valid for eight bytes, the size that the kernel is told.
        let _ = unsafe { syscall(RT_SIGPENDING, [at, 8, 0, 0, 0, 0]) };
        let due = pending & !before.0;
        (1..=64u32).any(|signal| due >> (signal - 1) & 1 == 1 && has_handler(signal))
    }
}

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Whether a signal is handled, and neither ignored nor left to the kernel.
fn has_handler(signal: u32) -> bool {
    let mut action = Action::default();
    let at = &raw mut action as usize;
    // SAFETY: no new action, and room for the old one, with a mask of the size that is told.
    let asked = unsafe { syscall(RT_SIGACTION, [signal as usize, 0, at, 8, 0, 0]) };
    asked.is_ok() && action.handler > 1
}

impl Default for Blocked {
    fn default() -> Self {
        Self::new()
    }
}

impl Mask {
    /// Lets the thread take the signals again that it took before.
    fn restore(self) {
        let set = &raw const self.0;
        // SAFETY: valid for eight bytes, the size that the kernel is told.
        let _ = unsafe { syscall(RT_SIGPROCMASK, [SIG_SETMASK, set as usize, 0, 8, 0, 0]) };
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            before.restore();
        }
    }
}
