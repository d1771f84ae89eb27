//! Keeping signals away while something shared is half done.
//!
//! A handler may call anything, and so may ask for the lock that the code it interrupts holds.
//! Nobody could give it to it: the holder goes on only when the handler has returned. So a thread
//! that holds a lock which a handler might want takes no signals meanwhile.

use crate::direct::{RT_SIGACTION, RT_SIGPENDING, RT_SIGPROCMASK, syscall};
use std::marker::PhantomData;

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;

/// Signals that the thread was ready to take before they were blocked.
#[derive(Clone, Copy, Debug)]
pub struct Mask(u64);

/// All signals are blocked in this thread until this is dropped.
#[derive(Debug)]
pub struct Blocked {
    before: Mask,
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
            before: Mask(before),
            _thread: PhantomData,
        }
    }

    /// Whether a handler will run as soon as signals are taken again: who is about to sleep should
    /// not, because the handler is to interrupt him. A system call.
    ///
    /// A signal that arrives between this and the sleep is handled without being noticed; only a
    /// system call that takes signals and sleeps in one step could do better, and the futex has
    /// none.
    pub fn is_handler_due(&self) -> bool {
        let mut pending = 0u64;
        let at = &raw mut pending as usize;
        // SAFETY: valid for eight bytes, the size that the kernel is told.
        let _ = unsafe { syscall(RT_SIGPENDING, [at, 8, 0, 0, 0, 0]) };
        let due = pending & !self.before.0;
        (1..=64u32).any(|signal| due >> (signal - 1) & 1 == 1 && has_handler(signal))
    }

    /// Leaves the signals blocked, and hands out what [`Mask::restore`] needs.
    pub fn keep(self) -> Mask {
        let before = self.before;
        std::mem::forget(self);
        before
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
    pub fn restore(self) {
        let set = &raw const self.0;
        // SAFETY: valid for eight bytes, the size that the kernel is told.
        let _ = unsafe { syscall(RT_SIGPROCMASK, [SIG_SETMASK, set as usize, 0, 8, 0, 0]) };
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.before.restore();
    }
}
