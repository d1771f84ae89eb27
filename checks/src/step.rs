//! Stopping a process after each instruction that changes what others share with it.
//!
//! The process is forked from this one, asks to be traced, prepares, stops at a marker, and then
//! does what is to be examined. From the marker on it is stepped instruction by instruction. After
//! each, the bytes of its attached segments are compared with what they were, and after system
//! calls the kernel's lists of segments and queues. Death loses everything else, so a process killed anywhere between two changes leaves the same behind as one
//! killed right after the first of them: to kill after each change is to kill everywhere.
//!
//! While the process has no segment attached for writing its plain instructions can't change
//! anything, and it runs from system call to system call.
//!
//! Nothing in the product knows of this. It needs `ptrace` and an x86-64 processor.

use crate::process::die_with;
use crate::processor::{self, Processor};
use std::ffi::c_void;
use std::io::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// A process that stands still until it is told to go on.
pub struct Stepped {
    pid: i32,
    reaped: bool,
    /// Where it is stepped.
    processor: Processor,
    watched: Vec<Watched>,
    /// A file that is mapped at its beginning, and the parts of it that are watched as well.
    file: Option<(String, Vec<(usize, usize)>)>,
    /// Bytes of the watched segments, and of the next instruction.
    before: Vec<u8>,
    now: Vec<u8>,
    objects: String,
    /// Steps so far.
    pub steps: u64,
    /// System V calls made so far. Other calls, those for memory above all, depend on what the
    /// process did before.
    pub calls: u64,
}

/// A segment that the process can write.
#[derive(Clone, Copy)]
struct Watched {
    id: u64,
    address: usize,
    length: usize,
}

/// What has just happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes of a segment changed.
    Bytes,
    /// A system call was made that may change what others see.
    Call(i64),
    /// The process ended by itself, with this status.
    Ended(i32),
}

/// How fine the steps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// To the next change.
    Change,
    /// To the next instruction, or system call where instructions can't change anything.
    Instruction,
}

impl Stepped {
    /// Forks a process that runs `prepare`, stands still, and would then do `act` with what
    /// `prepare` answered. `Err` says why that is impossible here.
    pub fn new<T>(prepare: impl FnOnce() -> T, act: impl FnOnce(T)) -> Result<Self, String> {
        if !cfg!(target_arch = "x86_64") {
            return Err("the stepper knows the instructions of x86-64 only".into());
        }
        let parent = std::process::id() as i32;
        // SAFETY: the calling process has one thread.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", Error::last_os_error());
        if pid == 0 {
            let status = match catch_unwind(AssertUnwindSafe(|| {
                die_with(parent);
                let prepared = prepare();
                trace_me();
                act(prepared);
            })) {
                Ok(()) => 0,
                Err(_) => 101,
            };
            // SAFETY: ends the process without running what the parent has registered.
            unsafe { libc::_exit(status) };
        }
        let mut stepped = Self {
            pid,
            reaped: false,
            processor: Processor::here(),
            watched: Vec::new(),
            file: None,
            before: Vec::new(),
            now: Vec::new(),
            objects: objects(),
            steps: 0,
            calls: 0,
        };
        match stepped.wait() {
            Stop::Signal(libc::SIGSTOP) => {}
            Stop::Ended(REFUSED) => return Err("ptrace is refused here".into()),
            other => panic!("the process did not come to its marker: {other:?}"),
        }
        stepped.options();
        stepped.processor.keep(pid);
        stepped.look_at_mappings();
        Ok(stepped)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Watches parts, by offset and length, of a mapped file as well: the first writable mapping
    /// whose path contains `path`, which maps it from the beginning.
    pub fn watch_file(&mut self, path: &str, parts: &[(usize, usize)]) {
        self.file = Some((path.to_owned(), parts.to_vec()));
        self.look_at_mappings();
    }

    /// Goes on to the next change; `None` after a step without one, which only
    /// [`Grain::Instruction`] has.
    pub fn step(&mut self, grain: Grain) -> Option<Change> {
        let _visit = self.processor.visit();
        loop {
            let change = self.one_step();
            if change.is_some() || grain == Grain::Instruction {
                return change;
            }
        }
    }

    /// Whether the next instruction makes that system call. Known only while something is watched.
    pub fn is_about_to_call(&self, number: i64) -> bool {
        self.next_call() == Some(number)
    }

    /// Goes on, without looking, until it has made `calls` System V calls; false if it ended before.
    pub fn skip_calls(&mut self, calls: u64) -> bool {
        let _visit = self.processor.visit();
        while self.calls < calls {
            // To its entry, and to its exit.
            for _ in 0..2 {
                if self.resume(libc::PTRACE_SYSCALL).is_some() {
                    return false;
                }
            }
            let number = self.user_word(std::mem::offset_of!(libc::user_regs_struct, orig_rax));
            self.calls += u64::from(is_system_v(number as i64));
        }
        self.objects = objects();
        self.look_at_mappings();
        true
    }

    /// Kills it where it stands and waits until it is gone.
    pub fn kill(mut self) {
        self.kill_and_reap();
    }

    /// Lets it stand where it is, untraced and stopped by `SIGSTOP`.
    pub fn leave_stopped(&mut self) {
        self.detach(libc::SIGSTOP);
        crate::process::wait_until(crate::process::BOUND, || {
            crate::process::task_state(self.pid) == Some('T')
        });
    }

    /// Lets it run to its end, and says with which status it ended.
    pub fn finish(mut self) -> i32 {
        self.detach(0);
        self.wait_end()
    }

    /// Lets it run on without looking; [`join`](Self::join) waits for it.
    pub fn release(&mut self) {
        self.detach(0);
    }

    /// Waits for the end of a released process, and says with which status it ended.
    pub fn join(mut self) -> i32 {
        self.wait_end()
    }

    /// Traces it no more, and sends it a signal if that is not 0.
    fn detach(&self, signal: i32) {
        processor::free(self.pid);
        request(libc::PTRACE_DETACH, self.pid, 0, signal as usize).expect("detach");
    }

    fn wait_end(&mut self) -> i32 {
        match self.wait() {
            Stop::Ended(status) => status,
            other => panic!("expected its end, not {other:?}"),
        }
    }

    fn one_step(&mut self) -> Option<Change> {
        let call = self.next_call();
        if call.is_none() && self.watched.is_empty() {
            // To the entry of the next system call, and no further: it is looked at next time.
            return self.run_to_call();
        }
        self.steps += 1;
        if let Some(status) = self.resume(libc::PTRACE_SINGLESTEP) {
            return Some(Change::Ended(status));
        }
        if let Some(number) = call {
            return self.after_call(number);
        }
        self.compare()
    }

    fn after_call(&mut self, number: i64) -> Option<Change> {
        self.calls += u64::from(is_system_v(number));
        let bytes = if matches!(number, libc::SYS_shmat | libc::SYS_shmdt) {
            self.look_at_mappings();
            None
        } else {
            self.compare()
        };
        let objects = objects();
        if number == libc::SYS_futex || objects != self.objects {
            self.objects = objects;
            return Some(Change::Call(number));
        }
        bytes
    }

    /// Runs until a system call is about to be made, makes it, and answers what it changed.
    fn run_to_call(&mut self) -> Option<Change> {
        self.steps += 1;
        if let Some(status) = self.resume(libc::PTRACE_SYSCALL) {
            return Some(Change::Ended(status));
        }
        let number = self.user_word(std::mem::offset_of!(libc::user_regs_struct, orig_rax)) as i64;
        if let Some(status) = self.resume(libc::PTRACE_SYSCALL) {
            return Some(Change::Ended(status));
        }
        self.after_call(number)
    }

    /// The number of the system call that the next instruction makes, if it is one.
    fn next_call(&self) -> Option<i64> {
        if !self.before.ends_with(&SYSCALL) {
            return None;
        }
        Some(self.user_word(std::mem::offset_of!(libc::user_regs_struct, rax)) as i64)
    }

    /// Reads what the watched segments hold now, and the next instruction.
    fn read(&mut self) {
        if self.watched.is_empty() {
            self.now.clear();
            return;
        }
        let at = self.user_word(std::mem::offset_of!(libc::user_regs_struct, rip));
        let segments = self.watched.iter().map(|w| (w.address, w.length));
        let ranges: Vec<_> = segments.chain([(at, SYSCALL.len())]).collect();
        let length = ranges.iter().map(|range| range.1).sum();
        self.now.resize(length, 0);
        read_memory(self.pid, &ranges, &mut self.now);
    }

    fn compare(&mut self) -> Option<Change> {
        self.read();
        let end = self.now.len().saturating_sub(SYSCALL.len());
        let changed = self.now[..end] != self.before[..end];
        std::mem::swap(&mut self.now, &mut self.before);
        changed.then_some(Change::Bytes)
    }

    /// Which segments it can write now, presences apart, which nobody writes.
    fn look_at_mappings(&mut self) {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid)).expect("maps");
        self.watched.clear();
        for line in maps.lines().filter(|line| line.contains("/SYSV")) {
            let mut words = line.split_whitespace();
            let range = words.next().expect("a range");
            let writable = words.next().is_some_and(|bits| bits.contains('w'));
            let id = words
                .nth(2)
                .and_then(|word| word.parse().ok())
                .expect("an id");
            let (from, to) = range.split_once('-').expect("a range");
            let [from, to] = [from, to].map(|hex| usize::from_str_radix(hex, 16).expect("hex"));
            if writable && self.watched.iter().all(|watched| watched.id != id) {
                let (address, length) = (from, to - from);
                self.watched.push(Watched {
                    id,
                    address,
                    length,
                });
            }
        }
        if let Some((path, parts)) = &self.file {
            let mapped = maps.lines().find(|line| {
                line.contains(path.as_str())
                    && line.split(' ').nth(1).is_some_and(|b| b.contains('w'))
            });
            let start = mapped
                .and_then(|line| line.split('-').next())
                .expect("the file's mapping");
            let start = usize::from_str_radix(start, 16).expect("hex");
            self.watched
                .extend(parts.iter().map(|&(offset, length)| Watched {
                    id: u64::MAX,
                    address: start + offset,
                    length,
                }));
        }
        self.read();
        std::mem::swap(&mut self.now, &mut self.before);
    }

    /// Resumes until the next stop that is the tracer's; the status if it ended instead.
    fn resume(&mut self, how: libc::c_uint) -> Option<i32> {
        let mut signal = 0;
        loop {
            request(how, self.pid, 0, signal).expect("resume");
            match self.wait() {
                Stop::Signal(number) if number & 0x7f == libc::SIGTRAP => return None,
                // A signal of its own is delivered.
                Stop::Signal(number) => signal = number as usize,
                Stop::Ended(status) => return Some(status),
            }
        }
    }

    fn wait(&mut self) -> Stop {
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        let got = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        assert_eq!(got, self.pid, "waitpid: {}", Error::last_os_error());
        if libc::WIFSTOPPED(status) {
            return Stop::Signal(libc::WSTOPSIG(status));
        }
        self.reaped = true;
        Stop::Ended(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }

    fn options(&self) {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SETOPTIONS, self.pid, 0, options as usize).expect("options");
    }

    fn user_word(&self, offset: usize) -> usize {
        let mut word = 0usize;
        let to = ptr::from_mut(&mut word) as usize;
        // The system call itself, unlike libc's function, stores the word where it is told.
        // SAFETY: `word` is valid for writing.
        let got = unsafe {
            libc::syscall(
                libc::SYS_ptrace,
                i64::from(libc::PTRACE_PEEKUSER),
                i64::from(self.pid),
                offset,
                to,
            )
        };
        assert!(got >= 0, "peek: {}", Error::last_os_error());
        word
    }

    fn kill_and_reap(&mut self) {
        // SAFETY: takes numbers; the process is not reaped yet, so the pid is its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        while !self.reaped {
            self.wait();
        }
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_and_reap();
        }
    }
}

#[derive(Debug)]
enum Stop {
    Signal(i32),
    Ended(i32),
}

/// The status of a process that may not be traced.
const REFUSED: i32 = 99;

fn trace_me() {
    if request(libc::PTRACE_TRACEME, 0, 0, 0).is_err() {
        // SAFETY: ends the process.
        unsafe { libc::_exit(REFUSED) };
    }
    // SAFETY: takes a number.
    unsafe { libc::raise(libc::SIGSTOP) };
}

fn request(what: libc::c_uint, pid: i32, address: usize, data: usize) -> Result<(), Error> {
    // SAFETY: the requests used here take numbers, or the address of a structure that the caller
    // lends for writing.
    let got = unsafe { libc::ptrace(what, pid, address as *mut c_void, data as *mut c_void) };
    if got < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

fn read_memory(pid: i32, ranges: &[(usize, usize)], to: &mut [u8]) {
    if ranges.is_empty() {
        return;
    }
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    let remote: Vec<_> = ranges
        .iter()
        .map(|(address, length)| libc::iovec {
            iov_base: *address as *mut c_void,
            iov_len: *length,
        })
        .collect();
    let count = remote.len() as u64;
    // SAFETY: one local buffer valid for writing; the other side's addresses are the kernel's to
    // check.
    let got = unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), count, 0) };
    // The last instruction of a mapping may have one byte only.
    to[got.max(0) as usize..].fill(0);
    assert!(
        got + 1 >= to.len() as isize,
        "process_vm_readv: {}",
        Error::last_os_error()
    );
}

fn is_system_v(number: i64) -> bool {
    matches!(
        number,
        libc::SYS_shmget
            | libc::SYS_shmat
            | libc::SYS_shmdt
            | libc::SYS_shmctl
            | libc::SYS_msgget
            | libc::SYS_msgsnd
            | libc::SYS_msgrcv
            | libc::SYS_msgctl
    )
}

/// The instruction that makes a system call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The kernel's lists of segments and queues, without their times.
fn objects() -> String {
    let mut all = String::new();
    for file in ["/proc/sysvipc/shm", "/proc/sysvipc/msg"] {
        let list = std::fs::read_to_string(file).expect("a list of objects");
        for line in list.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().take(11).collect();
            all.push_str(&words.join(" "));
            all.push('\n');
        }
    }
    all
}
