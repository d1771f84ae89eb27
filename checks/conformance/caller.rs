//! What the statements about blocking calls need of the processes that call: sleepers, signal
//! counts, lost privilege, memory that ends at a fault, and times.

use crate::harness::now;
pub use crate::process::has_capability;
use crate::process::{BOUND, Child, child, is_asleep, keep_capabilities, on_signal, task_state};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// This process.
pub fn my_pid() -> i32 {
    std::process::id() as i32
}

/// The calling thread.
pub fn my_tid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::gettid() }
}

/// The effective user and group of this process.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    let gid = unsafe { libc::getegid() };
    (uid, gid)
}

/// Forks a process that runs `body` and waits until it sleeps there.
#[track_caller]
pub fn asleep(body: impl FnOnce()) -> Child {
    let sleeper = child(body);
    still_asleep(&sleeper);
    sleeper
}

/// Waits until a process sleeps, and fails the test if it ends instead.
#[track_caller]
pub fn still_asleep(sleeper: &Child) {
    wait_task_asleep(sleeper.pid());
}

/// Whether a process has ended and waits to be reaped.
pub fn has_ended(process: &Child) -> bool {
    matches!(task_state(process.pid()), Some('Z' | 'X') | None)
}

/// Waits until a process or thread sleeps and is not about to wake: it neither runs nor is
/// scheduled between two looks. Fails the test if it ends instead.
#[track_caller]
pub fn wait_task_asleep(tid: i32) {
    let start = Instant::now();
    loop {
        let switches = context_switches(tid);
        if is_asleep(tid) {
            std::thread::sleep(Duration::from_millis(1));
            if is_asleep(tid) && switches.is_some() && context_switches(tid) == switches {
                return;
            }
        }
        let state = task_state(tid);
        assert!(
            !matches!(state, Some('Z' | 'X') | None),
            "it ended instead of sleeping"
        );
        assert!(
            start.elapsed() < BOUND,
            "it does not sleep within {BOUND:?}, state {state:?}"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// How often a task gave up the processor or lost it.
fn context_switches(tid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let lines = status
        .lines()
        .filter(|line| line.contains("ctxt_switches:"));
    Some(
        lines
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum(),
    )
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// Counts the arrivals of a signal in this process; `flags` as for `sigaction`.
pub fn count_signals(signal: i32, flags: i32) {
    on_signal(signal, flags, count);
}

/// How many counted signals have been handled in this process.
pub fn signals_seen() -> u32 {
    SIGNALS.load(Ordering::Relaxed)
}

/// Runs `body` in a process without any capability, and asserts that it comes through.
#[track_caller]
pub fn without_capabilities(body: impl FnOnce()) {
    with_capabilities(&[], body);
}

/// Runs `body` in a process with these capabilities only, and asserts that it comes through.
#[track_caller]
pub fn with_capabilities(kept: &[u32], body: impl FnOnce()) {
    child(|| {
        keep_capabilities(kept);
        body();
    })
    .join();
}

/// For tests of what a capability allows.
pub fn needs_capability(capability: u32) -> Result<(), &'static str> {
    if has_capability(capability) {
        Ok(())
    } else {
        Err("needs a capability that this process lacks")
    }
}

/// Whether this process is in the user name space that the system started with: the one whose
/// users are numbered as everywhere.
pub fn in_first_user_name_space() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Another user and group than the caller's, if this user name space has any.
pub fn other_ids() -> Option<(u32, u32)> {
    let maps =
        ["/proc/self/uid_map", "/proc/self/gid_map"].map(|file| {
            let map = std::fs::read_to_string(file).unwrap_or_default();
            map.lines().any(|line| {
            let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
            let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
            matches!((first, count), (Some(first), Some(count)) if first <= 1 && first + count > 3)
        })
        });
    (maps == [true, true]).then_some((2, 3))
}

/// A moment, to check recorded times against.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(i64);

impl Stamp {
    /// This moment, in whole seconds.
    pub fn now() -> Self {
        Self(now())
    }

    /// Asserts that `time` lies between this stamp and now. An implementation may read either
    /// the exact clock or, as the kernel does, the one that moves with the timer's tick.
    #[track_caller]
    pub fn covers(self, time: i64) {
        let exact = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        let latest = exact.as_secs() as i64;
        assert!(
            (self.0..=latest).contains(&time),
            "{time} is not in {}..={latest}",
            self.0
        );
    }
}

const PAGE: usize = 4096;

/// Memory that ends where the next page faults.
pub struct Fenced {
    base: *mut u8,
    pages: usize,
    size: usize,
}

impl Fenced {
    /// `size` bytes of memory, zero at first, followed by an inaccessible page.
    pub fn new(size: usize) -> Self {
        let pages = size.div_ceil(PAGE) + 1;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where there is none.
        let base = unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, -1, 0) };
        assert_ne!(
            base,
            libc::MAP_FAILED,
            "mmap: {}",
            std::io::Error::last_os_error()
        );
        let fenced = Self {
            base: base.cast(),
            pages,
            size,
        };
        fenced.set_protection((pages - 1) * PAGE, PAGE, libc::PROT_NONE);
        fenced
    }

    /// Where the bytes begin; they may be less aligned than their type wants.
    pub fn address(&self) -> *mut u8 {
        self.base.wrapping_add((self.pages - 1) * PAGE - self.size)
    }

    /// Writes bytes from `offset` on.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.size);
        let to = self.address().wrapping_add(offset);
        // SAFETY: the range lies in this mapping, which nobody else uses.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// A copy of the bytes.
    pub fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; self.size];
        // SAFETY: the range lies in this mapping, which nobody else uses.
        unsafe { ptr::copy_nonoverlapping(self.address(), bytes.as_mut_ptr(), self.size) };
        bytes
    }

    /// Changes the protection of the bytes.
    pub fn protect(&self, protection: i32) {
        self.set_protection(0, (self.pages - 1) * PAGE, protection);
    }

    fn set_protection(&self, offset: usize, length: usize, protection: i32) {
        let from = self.base.wrapping_add(offset).cast::<c_void>();
        // SAFETY: the range is part of this mapping, into which no references exist.
        let set = unsafe { libc::mprotect(from, length, protection) };
        assert_eq!(set, 0, "mprotect: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no references into it exist.
        unsafe { libc::munmap(self.base.cast(), self.pages * PAGE) };
    }
}
