//! System calls, counted by the kernel's own tracing interface while a sample is taken.
//!
//! A tracer stops a process at each system call and nowhere else, so a process that makes none runs
//! as fast as ever. What a sample needs besides its transport (reading counters, saying what came
//! out) is the same for all transports; the bare ring makes no call, so what it is charged with is
//! that.

use anyhow::{Context, Result, bail};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// Stops the tracer: nobody else sends it, and who is not traced ignores it.
const ENOUGH: Signal = Signal::SIGURG;

/// Counts the system calls of one process, of its first thread.
#[derive(Debug)]
pub struct Tracer {
    pid: Pid,
    thread: JoinHandle<Result<u64>>,
}

impl Tracer {
    /// Begins to count.
    ///
    /// # Errors
    /// If this process may not trace that one.
    pub fn start(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed());
        let (ready, begun) = channel();
        // Only the thread that attaches may ask for more.
        let thread = thread::spawn(move || count(pid, &ready));
        if begun.recv().is_err() {
            let error = thread.join().map(|count| count.err());
            match error {
                Ok(Some(error)) => return Err(error),
                _ => bail!("the tracer ended early"),
            }
        }
        Ok(Self { pid, thread })
    }

    /// Lets the process go, and answers how many there were.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn finish(self) -> Result<u64> {
        kill(self.pid, ENOUGH).context("the traced process has ended")?;
        let count = self.thread.join();
        count.unwrap_or_else(|_| bail!("the tracer panicked"))
    }
}

fn count(pid: Pid, ready: &Sender<()>) -> Result<u64> {
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(pid, options).context("can't trace a process of the sample")?;
    ptrace::interrupt(pid)?;
    let mut stops = 0u64;
    let mut begun = false;
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceSyscall(_) => {
                stops += 1;
                ptrace::syscall(pid, None)?;
            }
            WaitStatus::PtraceEvent(..) => {
                ptrace::syscall(pid, None)?;
                if !begun {
                    begun = true;
                    // Whoever started this waits for it.
                    let _ = ready.send(());
                }
            }
            WaitStatus::Stopped(_, ENOUGH) => {
                ptrace::detach(pid, None)?;
                // It stops when a call begins and when it ends.
                return Ok(stops.div_ceil(2));
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(pid, Some(signal))?,
            other => bail!("a traced process has ended: {other:?}"),
        }
    }
}
