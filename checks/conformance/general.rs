//! G: what holds for all calls.

use crate::caller::{
    Stamp, asleep, count_signals, my_pid, my_tid, signals_seen, still_asleep, wait_task_asleep,
};
use crate::harness::{Outcome, Statement, Target};
use crate::msg_send::queue_of;
use crate::or_skip;
use crate::process::{BOUND, Child, child, task_state, wait_until};
use crate::sem_operate::{last_pid, set_of};
use crate::sem_wait::waiting;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use sysv::abi::*;
use sysv::{Errno, Result};

/// The statements about all calls.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "G-1",
        run: sleeps,
    },
    Statement {
        id: "G-2",
        run: ignored_signal_and_stop,
    },
    Statement {
        id: "G-3",
        run: threads_go_on,
    },
    Statement {
        id: "G-4",
        run: process_ids,
    },
    Statement {
        id: "G-5",
        run: errno_untouched,
    },
    Statement {
        id: "G-6",
        run: killed_waiters,
    },
    Statement {
        id: "G-7",
        run: times,
    },
    Statement {
        id: "G-8",
        run: any_thread_and_no_restart,
    },
];

/// The calls that can block, each on an object on which it does.
#[derive(Clone, Copy)]
struct Blocking<'t> {
    t: &'t Target,
    full: i32,
    empty: i32,
    set: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Msgsnd,
    Msgrcv,
    Semop,
    Semtimedop,
}

const CALLS: [Call; 4] = [Call::Msgsnd, Call::Msgrcv, Call::Semop, Call::Semtimedop];

impl<'t> Blocking<'t> {
    fn new(t: &'t Target) -> Self {
        let full = queue_of(t, 4);
        t.msgsnd(full, 1, b"full", 0).unwrap();
        Self {
            t,
            full,
            empty: t.queue(),
            set: set_of(t, &[0]),
        }
    }

    /// Makes the call, which waits to be served.
    fn call(self, call: Call) -> Result<()> {
        let long = timespec {
            tv_sec: 25,
            tv_nsec: 0,
        };
        match call {
            Call::Msgsnd => self.t.msgsnd(self.full, 1, b"more", 0),
            Call::Msgrcv => self.t.msgrcv(self.empty, 4, 0, 0).map(drop),
            Call::Semop => self.t.semop(self.set, &[(0, -1, 0)]),
            Call::Semtimedop => self.t.semtimedop(self.set, &[(0, -1, 0)], &long),
        }
    }

    /// Lets one waiting call go on.
    fn serve(self, call: Call) {
        match call {
            Call::Msgsnd => drop(self.t.msgrcv(self.full, 4, 0, IPC_NOWAIT).unwrap()),
            Call::Msgrcv => self.t.msgsnd(self.empty, 1, b"text", IPC_NOWAIT).unwrap(),
            Call::Semop | Call::Semtimedop => self.t.semop(self.set, &[(0, 1, 0)]).unwrap(),
        }
    }
}

/// How long a process has run on a processor.
fn run_time(process: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap());
    // A tick is a hundredth of a second.
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn sleeps(t: &Target) -> Outcome {
    let blocking = Blocking::new(t);
    let sleepers = CALLS.map(|call| (call, asleep(move || blocking.call(call).unwrap())));
    let before: Vec<_> = sleepers
        .iter()
        .map(|(_, sleeper)| run_time(sleeper))
        .collect();
    let start = Instant::now();
    wait_until(BOUND, || start.elapsed() > Duration::from_millis(500));
    for ((call, sleeper), before) in sleepers.iter().zip(before) {
        let spent = run_time(sleeper) - before;
        assert!(
            spent < Duration::from_millis(50),
            "{call:?} ran for {spent:?}"
        );
        still_asleep(sleeper);
    }
    for (call, _) in &sleepers {
        blocking.serve(*call);
    }
    sleepers.into_iter().for_each(|(_, sleeper)| sleeper.join());
    Outcome::Pass
}

fn ignored_signal_and_stop(t: &Target) -> Outcome {
    let blocking = Blocking::new(t);
    for call in CALLS {
        let sleeper = asleep(|| {
            // SAFETY: no handler is installed.
            unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
            blocking.call(call).unwrap();
        });
        sleeper.signal(libc::SIGUSR1);
        // Ignored unless something else is asked for.
        sleeper.signal(libc::SIGWINCH);
        sleeper.signal(libc::SIGCHLD);
        still_asleep(&sleeper);
        blocking.serve(call);
        sleeper.join();
    }
    for call in [Call::Msgrcv, Call::Semop, Call::Semtimedop] {
        let goes_on = call == Call::Msgrcv || !t.is_kernel;
        let stopped = asleep(|| match call {
            _ if goes_on => assert_eq!(blocking.call(call), Ok(())),
            _ => assert_eq!(blocking.call(call), Err(Errno::INTR), "{call:?}"),
        });
        stopped.signal(libc::SIGSTOP);
        wait_until(BOUND, || task_state(stopped.pid()) == Some('T'));
        stopped.signal(libc::SIGCONT);
        if goes_on {
            still_asleep(&stopped);
            blocking.serve(call);
        }
        stopped.join();
    }
    assert_eq!(
        (t.sem_value(blocking.set, 0), waiting(t, blocking.set, 0)),
        (Ok(0), (0, 0))
    );
    or_skip!(t.needs_more_than_a_library());
    Outcome::Pass
}

/// Starts a thread that runs `body` and waits until it sleeps there: the thread and its id.
#[track_caller]
fn asleep_thread<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> (ScopedJoinHandle<'scope, T>, i32) {
    let (tell, told) = mpsc::channel();
    let thread = scope.spawn(move || {
        tell.send(my_tid()).unwrap();
        body()
    });
    let tid = told.recv().unwrap();
    wait_task_asleep(tid);
    (thread, tid)
}

fn threads_go_on(t: &Target) -> Outcome {
    let blocking = Blocking::new(t);
    let queue = t.queue();
    let set = t.set(1);
    std::thread::scope(|scope| {
        let sleepers = CALLS.map(|call| (call, asleep_thread(scope, move || blocking.call(call))));
        // Others use the same calls meanwhile, on other objects and on these.
        for _ in 0..100 {
            t.msgsnd(queue, 1, b"text", 0).unwrap();
            t.msgrcv(queue, 4, 0, 0).unwrap();
            t.semop(set, &[(0, 1, 0), (0, -1, 0)]).unwrap();
            assert_eq!(
                t.msgrcv(blocking.empty, 4, 9, IPC_NOWAIT),
                Err(Errno::NOMSG)
            );
            assert_eq!(t.sem_value(blocking.set, 0), Ok(0));
        }
        assert_eq!(waiting(t, blocking.set, 0), (2, 0));
        for (call, _) in &sleepers {
            blocking.serve(*call);
        }
        for (call, (thread, _)) in sleepers {
            assert_eq!(thread.join().unwrap(), Ok(()), "{call:?}");
        }
    });
    Outcome::Pass
}

fn process_ids(t: &Target) -> Outcome {
    let (queue, set) = (t.queue(), t.set(2));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            assert_ne!(my_tid(), my_pid());
            let segment = t.segment(1);
            let base = t.shmat(segment, 0).unwrap();
            let status = t.shm_stat(segment).unwrap();
            assert_eq!((status.shm_cpid, status.shm_lpid), (my_pid(), my_pid()));
            t.shmdt(base).unwrap();
            assert_eq!(t.shm_stat(segment).unwrap().shm_lpid, my_pid());
            t.shm_remove(segment).unwrap();
            t.msgsnd(queue, 1, b"text", 0).unwrap();
            t.msgrcv(queue, 4, 0, 0).unwrap();
            t.semop(set, &[(0, 1, 0)]).unwrap();
            t.sem_set_value(set, 1, 0).unwrap();
        });
        thread.join().unwrap();
        let status = t.msg_stat(queue).unwrap();
        assert_eq!((status.msg_lspid, status.msg_lrpid), (my_pid(), my_pid()));
        assert_eq!(
            (last_pid(t, set, 0), last_pid(t, set, 1)),
            (my_pid(), my_pid())
        );
    });

    // Calls that slept; another process served them.
    let blocking = Blocking::new(t);
    let serve = |call| child(move || blocking.serve(call)).join();
    std::thread::scope(|scope| {
        let sleeper = |call| asleep_thread(scope, move || blocking.call(call));
        let (thread, tid) = sleeper(Call::Msgrcv);
        serve(Call::Msgrcv);
        assert_eq!(thread.join().unwrap(), Ok(()));
        let pid = t.msg_stat(blocking.empty).unwrap().msg_lrpid;
        assert!(pid == my_pid() || pid == tid, "lrpid is {pid}");

        let (thread, _) = sleeper(Call::Msgsnd);
        serve(Call::Msgsnd);
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert_eq!(t.msg_stat(blocking.full).unwrap().msg_lspid, my_pid());

        let (thread, _) = sleeper(Call::Semop);
        serve(Call::Semop);
        assert_eq!(thread.join().unwrap(), Ok(()));
        assert_eq!(last_pid(t, blocking.set, 0), my_pid());
    });
    Outcome::Pass
}

/// A number that no error has.
const MARK: i32 = 4711;

fn set_errno(value: i32) {
    // SAFETY: the thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: valid for writing, and nobody else's.
    unsafe { errno.write(value) };
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Asserts that a call succeeds and leaves errno alone.
#[track_caller]
fn quiet<T>(call: impl FnOnce() -> Result<T>) -> T {
    set_errno(MARK);
    let answer = call();
    let after = errno();
    let value = answer.expect("a call that succeeds");
    assert_eq!(after, MARK, "errno was changed");
    value
}

fn errno_untouched(t: &Target) -> Outcome {
    if !t.uses_errno {
        return Outcome::Skip("its answers do not travel through errno");
    }
    std::fs::write("file", "").unwrap();
    let key = quiet(|| (t.ftok)(Path::new("file"), 1));
    let segment = quiet(|| t.shmget(key, 1, IPC_CREAT | IPC_EXCL | 0o600));
    let base = quiet(|| t.shmat(segment, 0));
    quiet(|| t.shm_stat(segment));
    quiet(|| t.shmdt(base));
    quiet(|| t.shm_remove(segment));

    let queue = quiet(|| t.msgget(key, IPC_CREAT | IPC_EXCL | 0o600));
    quiet(|| t.msgsnd(queue, 1, b"text", 0));
    quiet(|| t.msgrcv(queue, 4, 0, 0));
    quiet(|| t.msg_stat(queue));
    quiet(|| t.msg_remove(queue));

    let set = quiet(|| t.semget(key, 1, IPC_CREAT | IPC_EXCL | 0o600));
    quiet(|| t.sem_set_value(set, 0, 1));
    quiet(|| t.sem_value(set, 0));
    quiet(|| t.semop(set, &[(0, -1, SEM_UNDO)]));
    quiet(|| {
        t.semtimedop(
            set,
            &[(0, 1, SEM_UNDO)],
            &timespec {
                tv_sec: 1,
                tv_nsec: 0,
            },
        )
    });
    quiet(|| t.sem_stat(set));
    quiet(|| t.sem_remove(set));

    let blocking = Blocking::new(t);
    for call in CALLS {
        let sleeper = asleep(|| quiet(|| blocking.call(call)));
        quiet(|| {
            blocking.serve(call);
            Ok(())
        });
        sleeper.join();
    }
    Outcome::Pass
}

fn killed_waiters(t: &Target) -> Outcome {
    let blocking = Blocking::new(t);
    for call in CALLS {
        // One dies in front of another that waits, one behind it.
        let sleepers = [(), (), ()].map(|()| asleep(|| blocking.call(call).unwrap()));
        let [front, survivor, back] = sleepers;
        front.kill();
        back.kill();
        blocking.serve(call);
        survivor.join();

        // The last one dies: what comes now waits for somebody else.
        let last = asleep(|| blocking.call(call).unwrap());
        last.kill();
        match call {
            Call::Msgsnd => {
                let status = t.msg_stat(blocking.full).unwrap();
                assert_eq!((status.msg_qnum, status.__msg_cbytes), (1, 4));
                assert_eq!(t.msgrcv(blocking.full, 4, 0, 0), Ok((1, b"more".to_vec())));
                assert_eq!(t.msgrcv(blocking.full, 4, 0, IPC_NOWAIT), Err(Errno::NOMSG));
                t.msgsnd(blocking.full, 1, b"full", IPC_NOWAIT).unwrap();
            }
            Call::Msgrcv => {
                blocking.serve(call);
                assert_eq!(t.msg_stat(blocking.empty).unwrap().msg_qnum, 1);
                assert_eq!(t.msgrcv(blocking.empty, 4, 0, 0), Ok((1, b"text".to_vec())));
            }
            Call::Semop | Call::Semtimedop => {
                assert_eq!(waiting(t, blocking.set, 0), (0, 0));
                blocking.serve(call);
                assert_eq!(t.sem_value(blocking.set, 0), Ok(1));
                blocking.call(call).unwrap();
            }
        }
    }
    // A list that could have had its first part.
    let set = set_of(t, &[3, 0]);
    let list = asleep(|| t.semop(set, &[(0, -3, 0), (1, -1, 0)]).unwrap());
    list.kill();
    t.semop(set, &[(1, 1, 0)]).unwrap();
    assert_eq!(t.sem_values(set, 2), Ok(vec![3, 1]));
    assert_eq!((waiting(t, set, 0), waiting(t, set, 1)), ((0, 0), (0, 0)));
    Outcome::Pass
}

fn times(t: &Target) -> Outcome {
    let stamp = Stamp::now();
    let segment = t.segment(1);
    let base = t.shmat(segment, 0).unwrap();
    t.shmdt(base).unwrap();
    let status = t.shm_stat(segment).unwrap();
    stamp.covers(status.shm_ctime);
    stamp.covers(status.shm_atime);
    stamp.covers(status.shm_dtime);
    t.shm_remove(segment).unwrap();

    let queue = t.queue();
    t.msgsnd(queue, 1, b"text", 0).unwrap();
    t.msgrcv(queue, 4, 0, 0).unwrap();
    let status = t.msg_stat(queue).unwrap();
    stamp.covers(status.msg_ctime);
    stamp.covers(status.msg_stime);
    stamp.covers(status.msg_rtime);

    let set = t.set(1);
    t.semop(set, &[(0, 1, 0)]).unwrap();
    let status = t.sem_stat(set).unwrap();
    stamp.covers(status.sem_ctime);
    stamp.covers(status.sem_otime);
    Outcome::Pass
}

/// Uses every call once.
fn use_every_call(t: &Target) {
    std::fs::write("file", "").unwrap();
    (t.ftok)(Path::new("file"), 1).unwrap();
    let segment = t.segment(1);
    let base = t.shmat(segment, 0).unwrap();
    t.shmdt(base).unwrap();
    t.shm_remove(segment).unwrap();
    let queue = t.queue();
    t.msgsnd(queue, 1, b"text", 0).unwrap();
    assert_eq!(t.msgrcv(queue, 4, 0, 0), Ok((1, b"text".to_vec())));
    t.msg_remove(queue).unwrap();
    let set = t.set(1);
    t.semop(set, &[(0, 2, 0)]).unwrap();
    t.semtimedop(set, &[(0, -1, 0)], &timespec::default())
        .unwrap();
    assert_eq!(t.sem_value(set, 0), Ok(1));
    t.sem_remove(set).unwrap();
}

fn any_thread_and_no_restart(t: &Target) -> Outcome {
    let blocking = Blocking::new(t);
    for call in CALLS {
        let sleeper = asleep(|| {
            count_signals(libc::SIGUSR1, libc::SA_RESTART);
            assert_eq!(
                (blocking.call(call), signals_seen()),
                (Err(Errno::INTR), 1),
                "{call:?}"
            );
        });
        sleeper.signal(libc::SIGUSR1);
        sleeper.join();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| use_every_call(t)));
        }
    });
    count_signals(libc::SIGUSR1, libc::SA_RESTART);
    std::thread::scope(|scope| {
        for call in CALLS {
            let (thread, tid) = asleep_thread(scope, move || blocking.call(call));
            let seen = signals_seen();
            // SAFETY: takes numbers; the thread has not ended.
            let sent = unsafe { libc::syscall(libc::SYS_tgkill, my_pid(), tid, libc::SIGUSR1) };
            assert_eq!(sent, 0, "tgkill: {}", std::io::Error::last_os_error());
            assert_eq!(thread.join().unwrap(), Err(Errno::INTR), "{call:?}");
            assert_eq!(signals_seen(), seen + 1);
        }
    });
    Outcome::Pass
}
