//! System calls, counted by the kernel's own tracing interface while messages move.
//!
//! A tracer stops a process at each system call and nowhere else, so a process that makes none runs
//! as fast as ever. Each end [marks](mark) where its timed messages begin and where they end: opening,
//! warming up, closing and reading counters are not counted.

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

/// The call that marks, which no transport makes.
const MARK: u64 = 110;

/// Where the messages begin whose calls are counted, and again where they end. A system call.
pub fn mark() {
    let _ = rustix::process::getppid();
}

/// Stops the tracer: nobody else sends it, and who is not traced ignores it.
const ENOUGH: Signal = Signal::SIGURG;

/// How many times each call was made, by its number.
pub type Calls = BTreeMap<u64, u64>;

/// The name of the call by which one who spins lets others have the processor.
pub const YIELD: &str = "sched_yield";

/// What a call is called, if it is one that is to be expected here.
pub fn name(number: u64) -> String {
    let known = match number {
        0 => "read",
        1 => "write",
        3 => "close",
        9 => "mmap",
        11 => "munmap",
        24 => YIELD,
        28 => "madvise",
        31 => "shmctl",
        35 | 230 => "nanosleep",
        69 => "msgsnd",
        70 => "msgrcv",
        202 => "futex",
        228 => "clock_gettime",
        257 => "openat",
        324 => "membarrier",
        449 => "futex_waitv",
        _ => return format!("call {number}"),
    };
    known.to_owned()
}

/// Counts the system calls of one process, of its first thread, from its first [`mark`] to its second.
#[derive(Debug)]
pub struct Tracer {
    pid: Pid,
    thread: JoinHandle<Result<Calls>>,
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

    /// Lets the process go, and answers which calls there were.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn finish(self) -> Result<Calls> {
        kill(self.pid, ENOUGH).context("the traced process has ended")?;
        let calls = self.thread.join();
        calls.unwrap_or_else(|_| bail!("the tracer panicked"))
    }
}

fn count(pid: Pid, ready: &Sender<()>) -> Result<Calls> {
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(pid, options).context("can't trace a process of the sample")?;
    ptrace::interrupt(pid)?;
    let mut calls = Calls::new();
    let mut marks = 0;
    let mut begun = false;
    let mut within = false;
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::PtraceSyscall(_) => {
                // It stops when a call begins and when it ends.
                within = !within;
                match within.then(|| number(pid)).transpose()? {
                    Some(MARK) => marks += 1,
                    Some(number) if marks == 1 => *calls.entry(number).or_default() += 1,
                    _ => {}
                }
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
                ensure!(
                    marks == 2,
                    "its messages were marked {marks} times, not twice"
                );
                return Ok(calls);
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(pid, Some(signal))?,
            other => bail!("a traced process has ended: {other:?}"),
        }
    }
}

/// The number of the call that a stopped process is in.
fn number(pid: Pid) -> Result<u64> {
    #[cfg(target_arch = "x86_64")]
    return Ok(ptrace::getregs(pid)?.orig_rax);
    #[cfg(not(target_arch = "x86_64"))]
    bail!("calls are counted on x86-64 only, not of {pid}");
}
