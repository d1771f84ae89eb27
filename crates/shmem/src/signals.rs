//! Keeping signals away while something shared is half done.
//!
//! A handler may call anything, and so may ask for the lock that the code it interrupts holds.
//! Nobody could give it to it: the holder goes on only when the handler has returned. So a thread
//! that holds a lock which a handler might want takes no signals meanwhile.

use crate::direct::{RT_SIGPROCMASK, syscall};
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

    /// Leaves the signals blocked, and hands out what [`Mask::restore`] needs.
    pub fn keep(self) -> Mask {
        let before = self.before;
        std::mem::forget(self);
        before
    }
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
