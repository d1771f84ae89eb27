//! Which processor a process runs on.
//!
//! A process that is stepped and the one that steps it run by turns. On two processors each turn wakes one that
//! sleeps, which takes longer than the turn; on one the kernel goes from one to the other.

use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// This process, and so the calling thread of it.
const SELF: i32 = 0;

/// The processors that this process could use when it was asked first.
fn all() -> &'static libc::cpu_set_t {
    static ALL: OnceLock<libc::cpu_set_t> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = MaybeUninit::zeroed();
        // SAFETY: valid for writing so many bytes.
        let got = unsafe { libc::sched_getaffinity(SELF, size_of_val(&all), all.as_mut_ptr()) };
        assert!(got >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: all bytes are set; any are a set of processors.
        unsafe { all.assume_init() }
    })
}

/// Lets a process run on some processors. One that is gone stays so.
fn set(pid: i32, processors: &libc::cpu_set_t) {
    // SAFETY: valid for reading so many bytes.
    unsafe { libc::sched_setaffinity(pid, size_of_val(processors), processors) };
}

/// One processor, at which processes can be kept.
#[derive(Clone, Copy)]
pub struct Processor(libc::cpu_set_t);

impl Processor {
    /// The one that this process runs on, for the moment.
    pub fn here() -> Self {
        all();
        // SAFETY: takes nothing.
        let here = unsafe { libc::sched_getcpu() };
        // SAFETY: any bytes are a set of processors; zero is an empty one.
        let mut one = unsafe { MaybeUninit::<libc::cpu_set_t>::zeroed().assume_init() };
        // SAFETY: `one` is valid for writing; a number beyond it is refused by a panic.
        unsafe { libc::CPU_SET(here as usize, &mut one) };
        Self(one)
    }

    /// Keeps a process there.
    pub fn keep(&self, pid: i32) {
        set(pid, &self.0);
    }

    /// Keeps this process there until the answer is dropped.
    pub fn visit(&self) -> Visit {
        set(SELF, &self.0);
        Visit
    }
}

/// Lets a process run everywhere again.
pub fn free(pid: i32) {
    set(pid, all());
}

/// See [`Processor::visit`].
pub struct Visit;

impl Drop for Visit {
    fn drop(&mut self) {
        free(SELF);
    }
}
