//! Processes for the tests: children with a closure, other credentials, waiting for a state.

use std::ffi::{CStr, c_void};
use std::mem::size_of;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

/// How long a test waits for a state that must come.
pub const BOUND: Duration = Duration::from_secs(10);

/// A forked process. Dropping it kills it.
pub struct Child {
    pid: i32,
    reaped: bool,
}

/// Forks a process that runs `body` and exits: 0, or 101 if `body` panics. It dies with its
/// parent thread.
pub fn child(body: impl FnOnce()) -> Child {
    let parent = std::process::id() as i32;
    // SAFETY: the calling process has one thread, or the child keeps to what the test knows to be
    // safe then.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let status = match catch_unwind(AssertUnwindSafe(|| {
            die_with(parent);
            body();
        })) {
            Ok(()) => 0,
            Err(_) => 101,
        };
        // SAFETY: ends the process without running what the parent has registered.
        unsafe { libc::_exit(status) };
    }
    Child { pid, reaped: false }
}

/// Has the kernel kill this process when its parent ends.
pub fn die_with(parent: i32) {
    // SAFETY: takes a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: no arguments.
    if unsafe { libc::getppid() } != parent {
        std::process::abort();
    }
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end and asserts that the closure came through.
    #[track_caller]
    pub fn join(self) {
        let status = self.join_status();
        assert!(status.success(), "the child ended with {status}");
    }

    /// Waits for its end.
    pub fn join_status(mut self) -> ExitStatus {
        self.reap()
    }

    /// Kills it and waits until it is gone.
    pub fn kill(mut self) -> ExitStatus {
        self.signal(libc::SIGKILL);
        self.reap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: takes numbers; the process is not reaped yet, so the pid is its own.
        let sent = unsafe { libc::kill(self.pid, signal) };
        assert_eq!(sent, 0, "kill: {}", std::io::Error::last_os_error());
    }

    /// Waits until it sleeps in a blocking call.
    #[track_caller]
    pub fn wait_asleep(&self) {
        wait_until(BOUND, || is_asleep(self.pid));
    }

    /// Waits until it has ended, without reaping it.
    pub fn wait_zombie(&self) {
        // SAFETY: every bit pattern is a siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let how = libc::WEXITED | libc::WNOWAIT;
        loop {
            // SAFETY: `info` is valid for writing.
            let got = unsafe { libc::waitid(libc::P_PID, self.pid as u32, &mut info, how) };
            if got == 0 {
                return;
            }
            assert_interrupted();
        }
    }

    fn reap(&mut self) -> ExitStatus {
        let mut status = 0;
        loop {
            // SAFETY: `status` is valid for writing.
            let got = unsafe { libc::waitpid(self.pid, &mut status, 0) };
            if got == self.pid {
                self.reaped = true;
                return ExitStatus::from_raw(status);
            }
            assert_interrupted();
        }
    }
}

#[track_caller]
fn assert_interrupted() {
    let error = std::io::Error::last_os_error();
    assert_eq!(error.raw_os_error(), Some(libc::EINTR), "{error}");
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: takes numbers; the process is not reaped yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.reap();
        }
    }
}

/// Runs `body` in a child under other credentials, without capabilities unless `uid` is 0, and
/// asserts that it comes through. `Err` says why that is impossible here.
#[track_caller]
pub fn as_user(
    uid: u32,
    gid: u32,
    groups: &[u32],
    body: impl FnOnce(),
) -> Result<(), &'static str> {
    child_as(uid, gid, groups, body).map(Child::join)
}

/// As [`child`], under other credentials. `Err` says why that is impossible here.
pub fn child_as(
    uid: u32,
    gid: u32,
    groups: &[u32],
    body: impl FnOnce(),
) -> Result<Child, &'static str> {
    if !can_switch_users() {
        return Err("needs root, to switch to other users");
    }
    let groups = groups.to_vec();
    Ok(child(move || {
        become_user(uid, gid, &groups);
        body();
    }))
}

/// Switches this process to other credentials for good.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) {
    // SAFETY: no arguments.
    let parent = unsafe { libc::getppid() };
    // SAFETY: a slice is valid for reading its elements.
    let set = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
    assert_eq!(set, 0, "setgroups: {}", std::io::Error::last_os_error());
    // SAFETY: takes numbers.
    let set = unsafe { libc::setresgid(gid, gid, gid) };
    assert_eq!(set, 0, "setresgid: {}", std::io::Error::last_os_error());
    // SAFETY: takes numbers.
    let set = unsafe { libc::setresuid(uid, uid, uid) };
    assert_eq!(set, 0, "setresuid: {}", std::io::Error::last_os_error());
    // A change of credentials takes the death signal away, and /proc/self from us.
    die_with(parent);
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
}

/// Whether this process is root over more users than itself, and may become one of them.
pub fn can_switch_users() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let users: u64 = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
        .sum();
    users > 1 && [CAP_SETGID, CAP_SETUID].into_iter().all(has_capability)
}

/// Whether this process has a capability, in effect.
pub fn has_capability(capability: u32) -> bool {
    std::fs::read_to_string("/proc/self/status")
        .expect("/proc/self/status")
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set >> capability & 1 == 1)
}

/// `CAP_SETGID`.
pub const CAP_SETGID: u32 = 6;
/// `CAP_SETUID`.
pub const CAP_SETUID: u32 = 7;
/// `CAP_IPC_LOCK`.
pub const CAP_IPC_LOCK: u32 = 14;
/// `CAP_IPC_OWNER`.
pub const CAP_IPC_OWNER: u32 = 15;
/// `CAP_SYS_ADMIN`.
pub const CAP_SYS_ADMIN: u32 = 21;
/// `CAP_SYS_RESOURCE`.
pub const CAP_SYS_RESOURCE: u32 = 24;

/// Gives up every capability of this process except those named.
pub fn keep_capabilities(kept: &[u32]) {
    // version 3, this process
    let mut header: [u32; 2] = [0x2008_0522, 0];
    // effective, permitted, inheritable; low and high words
    let mut data = [[0u32; 3]; 2];
    // SAFETY: header and data are laid out as the call wants them.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    assert_eq!(got, 0, "capget: {}", std::io::Error::last_os_error());
    let wanted: u64 = kept.iter().map(|capability| 1u64 << capability).sum();
    let words = [wanted as u32, (wanted >> 32) as u32];
    for (row, word) in data.iter_mut().zip(words) {
        row[0] = row[1] & word;
        row[1] &= word;
        row[2] = 0;
    }
    // SAFETY: header and data are laid out as the call wants them.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    assert_eq!(set, 0, "capset: {}", std::io::Error::last_os_error());
}

/// Waits for a state, and fails the test if it does not come.
#[track_caller]
pub fn wait_until(bound: Duration, mut state: impl FnMut() -> bool) {
    let start = Instant::now();
    while !state() {
        assert!(
            start.elapsed() < bound,
            "the state did not come within {bound:?}"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits until the wall clock shows a later whole second than `second`, so that times in status
/// structures can be told apart.
pub fn wait_past(second: i64) {
    wait_until(BOUND, || {
        // SAFETY: a null pointer asks for the result only.
        (unsafe { libc::time(ptr::null_mut()) }) > second
    });
}

/// Replaces this process by a program that sleeps until it is killed ([`stay`]).
pub fn exec_and_stay() -> ! {
    let program = c"/proc/self/exe";
    let arguments = [program.as_ptr(), STAY.as_ptr(), ptr::null()];
    // SAFETY: strings that end in NUL, in an array that ends in null.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    panic!("exec: {}", std::io::Error::last_os_error());
}

/// The argument of that program.
pub const STAY: &CStr = c"--stay";

/// Becomes that program if its argument was given.
pub fn stay_if_asked() {
    let last = std::env::args().next_back();
    if last.is_some_and(|last| last.as_bytes() == STAY.to_bytes()) {
        stay();
    }
}

/// What that program does.
pub fn stay() -> ! {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// Waits until a process runs the program of [`exec_and_stay`].
pub fn wait_exec(pid: i32) {
    // By its name, which it takes from the path: whoever reads its command line has hold of its
    // memory meanwhile, and would be the one that detaches what was attached there.
    wait_until(BOUND, || {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_end() == "exe")
    });
}

/// Tries again, a few times, what goes wrong when somebody else on the machine looks at the memory
/// map of a process just while it ends: its attaches then go when that look is over.
#[track_caller]
pub fn undisturbed(mut attempt: impl FnMut() -> Result<(), String>) {
    const ATTEMPTS: u32 = 5;
    for _ in 1..ATTEMPTS {
        if attempt().is_ok() {
            return;
        }
    }
    if let Err(difference) = attempt() {
        panic!("{ATTEMPTS} times: {difference}");
    }
}

/// For [`undisturbed`]: what was found has to be what is expected.
pub fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, expected {expected:?}"))
    }
}

/// The blocking calls, and the ways in which an implementation in user space sleeps.
const SLEEPING_CALLS: [i64; 6] = [
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
];

/// Whether a process or thread sleeps, in one of the calls where that can be seen.
pub fn is_asleep(tid: i32) -> bool {
    if task_state(tid) != Some('S') {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{tid}/syscall")) {
        Ok(call) => call
            .split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .is_some_and(|number: i64| SLEEPING_CALLS.contains(&number)),
        Err(_) => true,
    }
}

/// The state letter of a process or thread: R, S, D, T, Z …
pub fn task_state(tid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A gate between processes: those that fork after it is made share it.
pub struct Gate {
    ends: [i32; 2],
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
        assert_eq!(made, 0, "pipe: {}", std::io::Error::last_os_error());
        Self { ends }
    }

    /// Lets one waiter through.
    pub fn open(&self) {
        self.send(0);
    }

    /// Waits to be let through.
    pub fn wait(&self) {
        self.receive();
    }

    /// Lets one waiter through and hands it a number.
    pub fn send(&self, value: i64) {
        let from = ptr::from_ref(&value).cast::<c_void>();
        // SAFETY: `value` is valid for reading its bytes.
        let sent = unsafe { libc::write(self.ends[1], from, size_of::<i64>()) };
        assert_eq!(sent, 8, "gate: {}", std::io::Error::last_os_error());
    }

    /// Waits for a number.
    pub fn receive(&self) -> i64 {
        let mut value = 0i64;
        loop {
            let to = ptr::from_mut(&mut value).cast::<c_void>();
            // SAFETY: `value` is valid for writing its bytes.
            let got = unsafe { libc::read(self.ends[0], to, size_of::<i64>()) };
            if got == 8 {
                return value;
            }
            assert_interrupted();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        for end in self.ends {
            // SAFETY: the descriptors are this gate's own.
            unsafe { libc::close(end) };
        }
    }
}

/// Words that this process and its later children share; they are never freed.
pub fn shared_words(count: usize) -> &'static [AtomicI64] {
    let length = count * size_of::<AtomicI64>();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping where there is none.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
    assert_ne!(
        base,
        libc::MAP_FAILED,
        "mmap: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the mapping is as long as `count` words, aligned, zero, never unmapped, and only
    // used atomically.
    unsafe { std::slice::from_raw_parts(base.cast::<AtomicI64>(), count) }
}

/// Has `handler` run on a signal, with `sigaction`'s flags.
pub fn on_signal(signal: i32, flags: i32, handler: extern "C" fn(i32)) {
    // SAFETY: every bit pattern is a sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags;
    // SAFETY: `action` is valid for reading; the handlers of the tests are async-signal-safe.
    let set = unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    assert_eq!(set, 0, "sigaction: {}", std::io::Error::last_os_error());
}
