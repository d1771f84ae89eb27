//! X, continued: demands on an implementation that lives in the calling process, where they
//! concern how processes come and go.

use crate::harness::{Outcome, PAGE, Statement, Target, statement};
use crate::inside::exercise;
use crate::memory::{peek, poke};
use crate::process::{
    BOUND, Child, Gate, child, exec_and_stay, shared_words, stay, wait_exec, wait_until,
};
use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("X-5", killed_anywhere),
    statement("X-6", fork_among_threads),
    statement("X-7", ways_to_start),
    statement("X-13", pid_again),
];

/// A segment, a queue and a set of two that several processes use at once.
#[derive(Clone, Copy)]
struct Shared {
    segment: i32,
    queue: i32,
    set: i32,
}

const NOWAIT: i16 = IPC_NOWAIT as i16;

/// Uses the shared objects until `stop` is set, and counts the rounds in `rounds`.
fn work(t: &Target, all: Shared, rounds: &AtomicI64, stop: &AtomicI64) {
    // Own messages by type, so that what a dead process has left in the queue is nobody's loss.
    let own = i64::from(std::process::id());
    while stop.load(Relaxed) == 0 {
        let base = t.shmat(all.segment, 0).expect("shmat");
        assert_eq!(peek(base), 17);
        // The lock is what excludes: at most one process is inside.
        t.semop(all.set, &[(0, -1, SEM_UNDO)]).expect("lock");
        let inside = t.semop(all.set, &[(1, 0, NOWAIT), (1, 1, SEM_UNDO | NOWAIT)]);
        inside.expect("nobody else is inside");
        t.semop(all.set, &[(1, -1, SEM_UNDO)]).expect("leave");
        t.semop(all.set, &[(0, 1, SEM_UNDO)]).expect("unlock");
        if t.msgsnd(all.queue, own, b"message", IPC_NOWAIT).is_ok() {
            let got = t.msgrcv(all.queue, 16, own, 0);
            assert_eq!(got, Ok((own, b"message".to_vec())));
        }
        t.shmdt(base).expect("shmdt");
        rounds.fetch_add(1, Relaxed);
    }
}

fn killed_anywhere(t: &Target) -> Outcome {
    let all = Shared {
        segment: t.segment(PAGE),
        queue: t.queue(),
        set: t.set(2),
    };
    let base = t.shmat(all.segment, 0).expect("shmat");
    poke(base, 17);
    t.sem_set_values(all.set, &[1, 0]).expect("SETALL");
    let words = shared_words(4);
    let [stop, survivor_rounds, victim_rounds, never] =
        [&words[0], &words[1], &words[2], &words[3]];
    let survivors: Vec<Child> = (0..2)
        .map(|_| child(|| work(t, all, survivor_rounds, stop)))
        .collect();
    for round in 0..60u32 {
        let target = victim_rounds.load(Relaxed) + i64::from(round % 7);
        let victim = child(|| work(t, all, victim_rounds, never));
        wait_until(BOUND, || victim_rounds.load(Relaxed) >= target);
        // The instruction at which it dies is left to chance.
        for _ in 0..round * 97 % 2048 {
            std::hint::spin_loop();
        }
        let pid = victim.pid();
        victim.kill();
        let before = survivor_rounds.load(Relaxed);
        wait_until(BOUND, || survivor_rounds.load(Relaxed) >= before + 2);
        // What it had sent and not received.
        while t.msgrcv(all.queue, 16, i64::from(pid), IPC_NOWAIT).is_ok() {}
    }
    stop.store(1, Relaxed);
    for survivor in survivors {
        survivor.join();
    }
    assert_eq!(
        t.sem_values(all.set, 2),
        Ok(vec![1, 0]),
        "the adjustments of the dead"
    );
    for number in 0..2 {
        assert_eq!(t.semctl(all.set, number, GETNCNT, 0), Ok(0), "waiters");
        assert_eq!(t.semctl(all.set, number, GETZCNT, 0), Ok(0), "waiters");
    }
    t.wait_attaches(all.segment, 1);
    assert_eq!(t.msg_stat(all.queue).expect("IPC_STAT").msg_qnum, 0);
    Outcome::Pass
}

/// Has everybody stop when it goes.
struct EndOnDrop<'a>(&'a AtomicI64);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(1, Relaxed);
    }
}

fn fork_among_threads(t: &Target) -> Outcome {
    let all = Shared {
        segment: t.segment(PAGE),
        queue: t.queue(),
        set: t.set(2),
    };
    poke(t.shmat(all.segment, 0).expect("shmat"), 17);
    t.sem_set_values(all.set, &[1, 0]).expect("SETALL");
    let (stop, rounds) = (AtomicI64::new(0), AtomicI64::new(0));
    std::thread::scope(|scope| {
        // Otherwise a failure would wait for the threads.
        let _end = EndOnDrop(&stop);
        // One of them alone, since the messages of `work` go by process id.
        let worker = scope.spawn(|| work(t, all, &rounds, &stop));
        let creators = [0, 1].map(|_| {
            scope.spawn(|| {
                while stop.load(Relaxed) == 0 {
                    exercise(t);
                    rounds.fetch_add(1, Relaxed);
                }
            })
        });
        for _ in 0..40 {
            let before = rounds.load(Relaxed);
            child(|| {
                exercise(t);
                let base = t.shmat(all.segment, SHM_RDONLY).expect("shmat");
                assert_eq!(peek(base), 17);
                t.semop(all.set, &[(0, -1, SEM_UNDO), (0, 1, SEM_UNDO)])
                    .expect("semop");
            })
            .join();
            wait_until(BOUND, || rounds.load(Relaxed) > before);
        }
        stop.store(1, Relaxed);
        worker.join().expect("the worker");
        for creator in creators {
            creator.join().expect("a creator");
        }
    });
    exercise(t);
    assert_eq!(t.sem_values(all.set, 2), Ok(vec![1, 0]));
    t.wait_attaches(all.segment, 1);
    Outcome::Pass
}

/// The two kinds of bookkeeping: attaches of a segment, adjustments of a semaphore.
struct Books<'t> {
    t: &'t Target,
    segment: i32,
    set: i32,
}

impl<'t> Books<'t> {
    fn new(t: &'t Target) -> Self {
        Self {
            t,
            segment: t.segment(PAGE),
            set: t.set(1),
        }
    }

    /// One more attach, and an adjustment of −1 for a value of 1 more.
    fn enter(&self) {
        self.t.shmat(self.segment, 0).expect("shmat");
        self.t.semop(self.set, &[(0, 1, SEM_UNDO)]).expect("semop");
    }

    /// Waits until there are this many attaches and this value: see `process::undisturbed`.
    #[track_caller]
    fn wait(&self, expected: (u64, i32)) {
        let mut found = self.read();
        let start = Instant::now();
        while found != expected {
            assert!(
                start.elapsed() < BOUND,
                "found {found:?}, expected {expected:?}"
            );
            std::thread::yield_now();
            found = self.read();
        }
    }

    /// Attaches and value.
    fn read(&self) -> (u64, i32) {
        (
            self.t.attaches(self.segment),
            self.t.sem_value(self.set, 0).expect("GETVAL"),
        )
    }
}

extern "C" fn end_at_once(_: *mut c_void) -> i32 {
    // SAFETY: ends the process, and nothing else of the parent's memory is used.
    unsafe { libc::_exit(0) };
}

fn reap(pid: i32) {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child's status");
}

fn ways_to_start(t: &Target) -> Outcome {
    let books = Books::new(t);
    books.enter();
    books.wait((1, 1));

    // exec drops attaches and keeps adjustments; what fork has copied is only attaches.
    let entered = Gate::new();
    let process = child(|| {
        books.wait((2, 1));
        books.enter();
        entered.open();
        exec_and_stay();
    });
    entered.wait();
    wait_exec(process.pid());
    books.wait((1, 2));
    process.kill();
    books.wait((1, 1));

    // vfork and posix_spawn run in the parent's memory for a while.
    let mut stack = vec![0u128; 4096];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: a stack of the child's own, and a function that only ends it.
    let pid = unsafe { libc::clone(end_at_once, top, flags, ptr::null_mut()) };
    assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
    reap(pid);
    books.wait((1, 1));
    let spawned = spawn();
    wait_exec(spawned);
    books.wait((1, 1));
    // SAFETY: takes numbers; the process is not reaped yet.
    assert_eq!(unsafe { libc::kill(spawned, libc::SIGKILL) }, 0);
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    assert_eq!(unsafe { libc::waitpid(spawned, &mut status, 0) }, spawned);
    books.wait((1, 1));

    // A fork that no wrapper of libc's has seen.
    let (entered, go) = (Gate::new(), Gate::new());
    // SAFETY: without a stack it is a fork of a process with one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32;
    if pid == 0 {
        books.enter();
        entered.open();
        go.wait();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
    entered.wait();
    books.wait((3, 2));
    go.open();
    reap(pid);
    books.wait((1, 1));

    daemon(&books);
    Outcome::Pass
}

/// `posix_spawn` of the program that stays.
fn spawn() -> i32 {
    let program = c"/proc/self/exe";
    let arguments = [
        program.as_ptr().cast_mut(),
        crate::process::STAY.as_ptr().cast_mut(),
        ptr::null_mut(),
    ];
    let mut pid = 0;
    // SAFETY: strings that end in NUL, in arrays that end in null; no actions, no attributes.
    let error = unsafe {
        libc::posix_spawn(
            &mut pid,
            program.as_ptr(),
            ptr::null(),
            ptr::null(),
            arguments.as_ptr(),
            [ptr::null_mut()].as_ptr(),
        )
    };
    assert_eq!(error, 0, "posix_spawn");
    pid
}

/// A daemon: the grandchild goes on when the child has ended.
fn daemon(books: &Books) {
    let (entered, go) = (Gate::new(), Gate::new());
    child(|| {
        books.enter();
        // Not `child`, whose processes end with their parent.
        // SAFETY: a process with one thread.
        if unsafe { libc::fork() } == 0 {
            // SAFETY: takes a number. If the test fails nobody else ends this process.
            unsafe { libc::alarm(20) };
            // SAFETY: no arguments.
            unsafe { libc::setsid() };
            books.enter();
            entered.open();
            go.wait();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        // Its own attach and adjustment end here.
    })
    .join();
    entered.wait();
    // The test's attach, three of the daemon's (two of them inherited); one adjustment each.
    books.wait((4, 2));
    go.open();
    books.wait((1, 1));
}

/// Forks a process that has a certain pid, and runs `body` in it; `None` if the pid is taken.
fn child_with_pid(pid: i32, body: impl FnOnce()) -> Result<Option<i32>, Errno> {
    let wanted = [pid];
    // SAFETY: every bit pattern is a clone_args.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.set_tid = wanted.as_ptr() as u64;
    arguments.set_tid_size = 1;
    let (at, size) = (&raw mut arguments, size_of::<libc::clone_args>());
    // SAFETY: without a stack it is a fork of a process with one thread.
    match unsafe { libc::syscall(libc::SYS_clone3, at, size) } {
        0 => {
            body();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        -1 => match crate::harness::last_error() {
            Errno::EXIST => Ok(None),
            errno => Err(errno),
        },
        got => {
            assert_eq!(got, i64::from(pid));
            Ok(Some(pid))
        }
    }
}

fn pid_again(t: &Target) -> Outcome {
    for _ in 0..100 {
        let books = Books::new(t);
        let gate = Gate::new();
        let first = child(|| {
            books.enter();
            gate.open();
            stay();
        });
        gate.wait();
        books.wait((1, 1));
        let pid = first.pid();
        first.kill();
        let (look, go) = (Gate::new(), Gate::new());
        let second = child_with_pid(pid, || {
            // SAFETY: takes a number. If the test fails nobody else ends this process.
            unsafe { libc::alarm(20) };
            look.open();
            go.wait();
            books.enter();
            books.enter();
            look.open();
            go.wait();
        });
        let second = match second {
            Ok(Some(second)) => second,
            // Somebody else has the pid now.
            Ok(None) => continue,
            Err(Errno::PERM) => return Outcome::Skip("a pid cannot be chosen here"),
            Err(Errno::NOSYS) => return Outcome::Skip("the kernel has no clone3"),
            Err(errno) => panic!("clone3: {errno}"),
        };
        look.wait();
        books.wait((0, 0));
        go.open();
        look.wait();
        books.wait((2, 2));
        go.open();
        reap(second);
        books.wait((0, 0));
        return Outcome::Pass;
    }
    panic!("the pid was always taken")
}
