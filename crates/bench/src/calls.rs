//! System calls, counted in the process that makes them while messages move.
//!
//! The kernel hands each call of a thread back to it as a signal, whose handler counts it and makes it
//! (`PR_SET_SYSCALL_USER_DISPATCH`). A process that makes none runs as fast as ever, and a call takes
//! some 10 µs more: a tracer, which stops a process for several times as long, keeps the other end
//! waiting so long that it makes calls of its own. Each end [marks](mark) where its timed messages begin and where
//! they end: opening, warming up, closing and reading counters are not counted.
//!
//! **Who was away.** Who waits for one that lost its processor may have to make calls, and no transport can
//! help it. So with each call the handler looks whether the other process has a processor, by how often the
//! kernel says that it got one and that it left one. One that came back meanwhile counts as having been there.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::thread::{SysCallUserDispatchFastSwitch, enable_syscall_user_dispatch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// How many times a call was made.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Made {
    /// In all.
    pub all: u64,
    /// While the other process had no processor.
    pub away: u64,
}

/// How many times each call was made, by its number.
pub type Calls = BTreeMap<u64, Made>;

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
        30 => "shmat",
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

/// Numbers below this one are counted each for itself.
const END: usize = 512;

/// What the kernel looks at before each call of this thread.
static SWITCH: AtomicU8 = AtomicU8::new(ALLOW);
const ALLOW: u8 = SysCallUserDispatchFastSwitch::Allow as u8;
const BLOCK: u8 = SysCallUserDispatchFastSwitch::Block as u8;
/// How many times this process marked.
static MARKS: AtomicU32 = AtomicU32::new(0);
static ALL: [AtomicU64; END] = [const { AtomicU64::new(0) }; END];
static AWAY: [AtomicU64; END] = [const { AtomicU64::new(0) }; END];
/// Where the kernel tells of the other process; set once calls are to be counted.
static OTHER: OnceLock<Other> = OnceLock::new();

/// The process at the other end.
#[derive(Debug)]
struct Other {
    status: File,
    schedule: File,
}

/// From the next [`mark`] to the one after, counts this thread's calls, and how many of them are made while
/// the other process is away.
///
/// # Errors
/// If this kernel can't, or there is no such process.
pub fn count(other: u32) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "calls are counted on x86-64 only"
    );
    let open = |name: &str| File::open(format!("/proc/{other}/{name}"));
    let (status, schedule) = (open("status")?, open("schedstat")?);
    let handler = SigHandler::SigAction(take);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler is for the one thread that counts, and calls nothing but what it may: see there.
    unsafe { sigaction(Signal::SIGSYS, &action) }?;
    let back = way_back()? as *const u8;
    // SAFETY: code of the C library, which stays.
    let back = unsafe { std::slice::from_raw_parts(back, WAY_BACK) };
    // SAFETY: the switch is there as long as the process, and allows all calls until the handler is there.
    unsafe { enable_syscall_user_dispatch(back, &SWITCH) }?;
    ensure!(
        OTHER.set(Other { status, schedule }).is_ok(),
        "calls are counted once"
    );
    Ok(())
}

/// Bytes of the code by which a handler returns: the number of the call, and the call.
const WAY_BACK: usize = 16;

/// Where the code is by which a handler returns, whose call must go through.
fn way_back() -> Result<usize> {
    // As the kernel has it: handler, flags, the way back, blocked signals.
    let mut action = [0usize; 4];
    let (number, none) = (libc::SIGSYS, std::ptr::null::<c_void>());
    // SAFETY: reads no new action and writes the old one, which has this form and size.
    let read = unsafe { libc::syscall(libc::SYS_rt_sigaction, number, none, &mut action, 8) };
    Errno::result(read)?;
    Ok(action[2])
}

/// Where the messages begin whose calls are counted, and again where they end.
pub fn mark() {
    if OTHER.get().is_none() {
        return;
    }
    // Relaxed: only this thread counts.
    let begins = MARKS.fetch_add(1, Ordering::Relaxed) == 0;
    switch(if begins { BLOCK } else { ALLOW });
}

fn switch(to: u8) {
    // Release: of two stores of one thread, to the kernel on its processor, none is moved by the compiler.
    SWITCH.store(to, Ordering::Release);
}

/// What was counted. Nothing, if nothing was to be.
///
/// # Errors
/// If there were not two marks.
pub fn counted() -> Result<Calls> {
    // Relaxed, all: this thread stored them.
    let marks = MARKS.load(Ordering::Relaxed);
    ensure!(
        OTHER.get().is_none() || marks == 2,
        "its messages were marked {marks} times, not twice"
    );
    let counts = ALL.iter().zip(&AWAY).zip(0..);
    let made = counts.map(|((all, away), number)| {
        let [all, away] = [all, away].map(|count| count.load(Ordering::Relaxed));
        (number, Made { all, away })
    });
    Ok(made.filter(|(_, made)| made.all > 0).collect())
}

/// The handler: counts a call and makes it. It allocates nothing and takes no lock.
#[cfg(target_arch = "x86_64")]
extern "C" fn take(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    use libc::{REG_R8, REG_R9, REG_R10, REG_RAX, REG_RDI, REG_RDX, REG_RSI};
    switch(ALLOW);
    let errno = Errno::last_raw();
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler of this kind the registers of the thread, for it alone.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    let number = registers[REG_RAX as usize];
    let at = (number as usize).min(END - 1);
    // Relaxed, both: only this thread counts.
    ALL[at].fetch_add(1, Ordering::Relaxed);
    if OTHER.get().is_some_and(Other::is_away) {
        AWAY[at].fetch_add(1, Ordering::Relaxed);
    }
    let [a, b, c, d, e, f] = [REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9]
        .map(|register| registers[register as usize]);
    // SAFETY: what the thread was about to do.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    registers[REG_RAX as usize] = match answer {
        -1 => -i64::from(Errno::last_raw()),
        answer => answer,
    };
    Errno::set_raw(errno);
    switch(BLOCK);
}

#[cfg(not(target_arch = "x86_64"))]
extern "C" fn take(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// The names under which the kernel tells how often a thread left its processor: to sleep, and because it
/// had to.
pub const SWITCHES: [&str; 2] = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];

impl Other {
    /// Whether it has no processor now; false if the kernel does not say.
    fn is_away(&self) -> bool {
        // In this order: it was away at the first look and has not come back until the second.
        let (left, got) = (self.left(), self.got());
        left.zip(got).is_some_and(|(left, got)| got <= left)
    }

    /// How often its first thread left a processor, of its own accord or not.
    fn left(&self) -> Option<u64> {
        let mut buffer = [0; 4096];
        let text = read(&self.status, &mut buffer)?;
        let mut sum = 0u64;
        for name in SWITCHES {
            let (_, count) = text.split_once(name)?;
            sum += count.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(sum)
    }

    /// How often it got one.
    fn got(&self) -> Option<u64> {
        let mut buffer = [0; 256];
        let text = read(&self.schedule, &mut buffer)?;
        text.split_whitespace().nth(2)?.parse().ok()
    }
}

fn read<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let length = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(buffer.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process is there while it runs and away while it sleeps.
    #[test]
    fn who_sleeps_is_away() {
        let sleeper = std::process::Command::new("sleep").arg("60").spawn();
        let mut sleeper = sleeper.unwrap();
        let open = |process: &str, name: &str| File::open(format!("/proc/{process}/{name}"));
        let other = |process: &str| Other {
            status: open(process, "status").unwrap(),
            schedule: open(process, "schedstat").unwrap(),
        };
        let (process, over) = (sleeper.id().to_string(), std::time::Instant::now());
        let sleeping = other(&process);
        while !sleeping.is_away() {
            assert!(over.elapsed().as_secs() < 20, "it does not sleep");
            std::thread::yield_now();
        }
        assert!(!other("thread-self").is_away());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
