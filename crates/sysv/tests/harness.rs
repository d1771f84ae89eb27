//! What the integration tests share: objects that go when the test ends, however it ends, other
//! users, other name spaces, signals, and calls that are watched.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::ffi::c_void;
use std::ops::Deref;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{env, thread};
use sysv::abi::{key_t, sembuf, shmid_ds, timespec};
use sysv::{Calls, Errno, Kernel, Key, Mode, Queue, Result, Segment, Set};

/// The user that tests become: nobody.
pub const OTHER: u32 = 65534;

/// The mode with these nine bits.
pub fn mode(bits: u32) -> Mode {
    Mode::new(bits).expect("nine bits")
}

/// An object that is removed at the end of its test.
pub struct Guard<T: Object>(pub T);

/// What a guard can remove.
pub trait Object {
    /// Removes it, if it is still there.
    fn discard(&self);
}

impl Object for Segment {
    fn discard(&self) {
        let _ = self.remove();
    }
}

impl Object for Queue {
    fn discard(&self) {
        let _ = self.remove();
    }
}

impl Object for Set {
    fn discard(&self) {
        let _ = self.remove();
    }
}

impl<T: Object> Drop for Guard<T> {
    fn drop(&mut self) {
        self.0.discard();
    }
}

impl<T: Object> Deref for Guard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A private segment.
pub fn segment(size: usize, bits: u32) -> Guard<Segment> {
    Guard(Segment::create(Key::PRIVATE, size, mode(bits)).expect("shmget"))
}

/// A private queue.
pub fn queue(bits: u32) -> Guard<Queue> {
    Guard(Queue::create(Key::PRIVATE, mode(bits)).expect("msgget"))
}

/// A private set.
pub fn set(count: usize, bits: u32) -> Guard<Set> {
    Guard(Set::create(Key::PRIVATE, count, mode(bits)).expect("semget"))
}

/// Makes an object with a key that had none.
pub fn keyed<T: Object>(create: impl Fn(Key) -> Result<T>) -> (Key, Guard<T>) {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    let pid = std::process::id().cast_signed();
    for _ in 0..1000 {
        let key = Key::new(0x5e00_0000 ^ pid << 8 ^ NEXT.fetch_add(1, SeqCst));
        match create(key) {
            Ok(object) => return (key, Guard(object)),
            Err(Errno::EXIST) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no free key");
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Runs `body` in a thread that is another, unprivileged user; says so and does not where it may
/// not. At system-call level, users belong to threads.
pub fn as_other_user(body: impl FnOnce() + Send) {
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            // SAFETY: no groups, so no array.
            let groups = unsafe { libc::syscall(libc::SYS_setgroups, 0, 0) };
            // SAFETY: numbers only.
            let group = unsafe { libc::syscall(libc::SYS_setresgid, OTHER, OTHER, OTHER) };
            // SAFETY: numbers only.
            let user = unsafe { libc::syscall(libc::SYS_setresuid, OTHER, OTHER, OTHER) };
            assert_eq!((groups, group, user), (0, 0, 0), "becoming another user");
            body();
        });
        if let Err(panic) = other.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

const INSIDE: &str = "SYSV_TEST_INSIDE";

/// Whether this process is one that [`alone`] or [`Command`] started for its test.
pub fn inside() -> Option<String> {
    env::var(INSIDE).ok()
}

/// This test program again, to run only the test `name`, which sees `word` as [`inside`].
pub fn again(name: &str, word: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("own path"));
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, word);
    command
}

/// Runs `body` in a process with an IPC name space of its own, as its root. `name` is the name
/// of the calling test. Says so and does not where name spaces are refused.
///
/// By the `unshare` program: a hook before exec would make the start a fork, which for a moment
/// doubles the attaches that other tests in this process count.
pub fn alone(name: &str, body: impl FnOnce()) {
    if inside().is_some() {
        return body();
    }
    let test = again(name, "alone");
    let mut command = Command::new("unshare");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--ipc").arg("--").arg(test.get_program());
    command.args(test.get_args()).env(INSIDE, "alone");
    let output = match command.output() {
        Err(error) => return eprintln!("skipped: cannot run unshare: {error}"),
        Ok(output) => output,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.starts_with("unshare: ") {
        return eprintln!("skipped: no IPC name space of its own: {errors}");
    }
    eprint!("{errors}");
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{name} did not run: {text}");
}

/// Waits until `ready`, or panics after ten seconds.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// The calling thread, to be interrupted by others.
#[derive(Clone, Copy)]
pub struct Thread(libc::pid_t);

impl Thread {
    /// The calling thread, with a handler that does nothing.
    pub fn current() -> Self {
        extern "C" fn nothing(_: libc::c_int) {}
        let handler = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGUSR1, handler) };
        // SAFETY: has no preconditions.
        Self(unsafe { libc::gettid() })
    }

    /// Waits until it sleeps in a call.
    pub fn wait_until_asleep(self) {
        let stat = format!("/proc/self/task/{}/stat", self.0);
        wait_until("a sleeping thread", || {
            let stat = std::fs::read_to_string(&stat).expect("a live thread");
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('S'))
        });
    }

    /// Runs a signal handler there.
    pub fn interrupt(self) {
        // SAFETY: numbers only; a handler is installed.
        unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), self.0, libc::SIGUSR1) };
    }
}

/// The kernel's calls, counted, and failing on demand.
#[derive(Default)]
pub struct Spy {
    /// How many calls answered `EINTR`.
    pub interrupted: AtomicUsize,
    /// Attaches less detaches.
    pub attached: AtomicI32,
    /// `shmctl` answers `EACCES`.
    pub refuse_shmctl: AtomicBool,
    /// How many calls there were.
    pub calls: AtomicUsize,
}

impl Spy {
    fn note<T>(&self, answer: Result<T>) -> Result<T> {
        self.calls.fetch_add(1, SeqCst);
        if matches!(answer, Err(Errno::INTR)) {
            self.interrupted.fetch_add(1, SeqCst);
        }
        answer
    }
}

// SAFETY: every call goes to the kernel, or does nothing and fails.
unsafe impl Calls for Spy {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        self.note(Kernel.shmget(key, size, flags))
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        // SAFETY: the caller's promise.
        let answer = unsafe { Kernel.shmat(id, address, flags) };
        self.attached.fetch_add(i32::from(answer.is_ok()), SeqCst);
        self.note(answer)
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        let answer = unsafe { Kernel.shmdt(address) };
        self.attached.fetch_sub(i32::from(answer.is_ok()), SeqCst);
        self.note(answer)
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        if self.refuse_shmctl.load(SeqCst) {
            return Err(Errno::ACCESS);
        }
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.shmctl(id, command, buf) })
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        self.note(Kernel.msgget(key, flags))
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.msgsnd(id, message, size, flags) })
    }

    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize> {
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.msgrcv(id, message, size, message_type, flags) })
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut sysv::abi::msqid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.msgctl(id, command, buf) })
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        self.note(Kernel.semget(key, count, flags))
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.semop(id, operations, count) })
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.semtimedop(id, operations, count, timeout) })
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        // SAFETY: the caller's promise.
        self.note(unsafe { Kernel.semctl(id, number, command, argument) })
    }
}

#[test]
fn a_guard_removes_its_object_also_when_its_test_fails() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let failed = thread::spawn(move || {
        let segment = segment(1, 0o600);
        sender.send(segment.id()).expect("listened to");
        std::panic::resume_unwind(Box::new("a test fails"));
    });
    let id = receiver.recv().expect("made");
    assert!(failed.join().is_err());
    assert_eq!(Segment::from_id(id).status(), Err(Errno::INVAL));
}
