//! Signals that end the program, kept from doing so until what was begun is cleaned up.
//!
//! The kernel hands them over as something to read, so whoever waits for the ends of a sample also
//! waits for them. A sample that is interrupted fails, which ends its processes and removes its
//! wires; the run then ends with [`Interrupted`], and the program by the signal that came.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

static SOURCE: OnceLock<SignalFd> = OnceLock::new();
static CAME: OnceLock<Signal> = OnceLock::new();

/// A signal came that ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted(Signal);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

impl Interrupted {
    /// Ends this process as the signal would have; answers only if that is impossible.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn follow(self) -> Result<()> {
        let ends: SigSet = ENDS.into_iter().collect();
        raise(self.0).context("can't end by a signal")?;
        ends.thread_unblock().context("can't unblock signals")
    }
}

/// From now on signals wait. Call it before any thread is started.
///
/// # Errors
/// What the kernel says.
pub fn hold() -> Result<()> {
    if SOURCE.get().is_none() {
        let ends: SigSet = ENDS.into_iter().collect();
        ends.thread_block().context("can't block signals")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let source = SignalFd::with_flags(&ends, flags).context("signalfd")?;
        let _ = SOURCE.set(source);
    }
    Ok(())
}

/// What is readable when a signal came; `None` if nobody holds them.
pub fn source() -> Option<BorrowedFd<'static>> {
    SOURCE.get().map(AsFd::as_fd)
}

/// Fails if a signal came.
///
/// # Errors
/// Which one, from then on always.
pub fn check() -> Result<(), Interrupted> {
    if CAME.get().is_none()
        && let Some(Ok(Some(signal))) = SOURCE.get().map(SignalFd::read_signal)
        && let Ok(signal) = Signal::try_from(signal.ssi_signo as i32)
    {
        let _ = CAME.set(signal);
    }
    CAME.get()
        .map_or(Ok(()), |signal| Err(Interrupted(*signal)))
}
