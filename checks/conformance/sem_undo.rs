//! EU: `SEM_UNDO`.

use crate::caller::{Stamp, asleep, count_signals, has_ended, still_asleep, without_capabilities};
use crate::harness::{Outcome, Statement, Target};
use crate::or_skip;
use crate::process::{
    BOUND, Child, Gate, child, keep_capabilities, shared_words, task_state, wait_past, wait_until,
};
use crate::sem_operate::{NOWAIT, last_pid, set_of};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::sync::atomic::Ordering;
use sysv::Errno;
use sysv::abi::*;

/// The statements about `SEM_UNDO`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "EU-1",
        run: every_end,
    },
    Statement {
        id: "EU-2",
        run: pid_and_time,
    },
    Statement {
        id: "EU-3",
        run: sums,
    },
    Statement {
        id: "EU-4",
        run: wakes,
    },
    Statement {
        id: "EU-5",
        run: fork,
    },
    Statement {
        id: "EU-6",
        run: exec,
    },
    Statement {
        id: "EU-7",
        run: cleared_by_setting,
    },
    Statement {
        id: "EU-8",
        run: clamped,
    },
    Statement {
        id: "EU-9",
        run: adjustment_out_of_range,
    },
    Statement {
        id: "EU-10",
        run: set_removed,
    },
    Statement {
        id: "EU-11",
        run: threads,
    },
    Statement {
        id: "EU-12",
        run: failed_operations,
    },
    Statement {
        id: "EU-13",
        run: permission_withdrawn,
    },
    Statement {
        id: "EU-14",
        run: shared_list,
    },
    Statement {
        id: "EU-15",
        run: unshared_list,
    },
];

/// Forks a process that runs `body` and then lives on until it is killed, and waits until `body`
/// has come through.
#[track_caller]
fn holder(body: impl FnOnce()) -> Child {
    let ready = &shared_words(1)[0];
    let holder = child(|| {
        body();
        ready.store(1, Ordering::Release);
        live_on();
    });
    wait_until(BOUND, || {
        ready.load(Ordering::Acquire) == 1 || has_ended(&holder)
    });
    assert_eq!(ready.load(Ordering::Acquire), 1, "the holder failed");
    holder
}

/// Waits for the end.
fn live_on() -> ! {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

fn every_end(t: &Target) -> Outcome {
    let id = set_of(t, &[5, 2]);
    let take = || t.semop(id, &[(0, -3, SEM_UNDO), (1, 4, SEM_UNDO)]).unwrap();
    // A program that returns from `main` is in EU-6.
    let ends: [(fn(), i32); 5] = [
        (end_at_once, 0),
        (|| std::process::exit(0), 0),
        (exit_in_thread, 0),
        (|| std::process::abort(), libc::SIGABRT),
        (end_by_signal, libc::SIGTERM),
    ];
    for (end, signal) in ends {
        let process = child(|| {
            take();
            assert_eq!(t.sem_values(id, 2), Ok(vec![2, 6]));
            end();
        });
        let status = process.join_status();
        assert_eq!(status.signal().unwrap_or(0), signal, "{status}");
        assert!(status.success() || signal != 0, "{status}");
        assert_eq!(t.sem_values(id, 2), Ok(vec![5, 2]), "{status}");
    }
    let killed = holder(take);
    assert_eq!(t.sem_values(id, 2), Ok(vec![2, 6]));
    killed.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![5, 2]), "SIGKILL");

    // In the middle of a wait for more.
    let killed = asleep(|| {
        take();
        let answer = t.semop(id, &[(0, -3, SEM_UNDO)]);
        panic!("a wait that ended with {answer:?}");
    });
    assert_eq!(t.sem_values(id, 2), Ok(vec![2, 6]));
    killed.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![5, 2]), "SIGKILL while asleep");
    Outcome::Pass
}

fn end_at_once() {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) };
}

fn end_by_signal() {
    // SAFETY: ends the process.
    unsafe { libc::raise(libc::SIGTERM) };
}

fn exit_in_thread() {
    let ended = std::thread::spawn(|| std::process::exit(0)).join();
    panic!("a process that went on after its end: {ended:?}");
}

fn pid_and_time(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 1]);
    let holder = holder(|| t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap());
    t.semop(id, &[(0, 1, 0), (0, -1, 0)]).unwrap();
    let (before, pid) = (t.sem_stat(id).unwrap(), holder.pid());
    let untouched = last_pid(t, id, 1);
    wait_past(before.sem_otime);
    let stamp = Stamp::now();
    holder.kill();
    assert_eq!(t.sem_value(id, 0), Ok(1));
    assert_eq!(last_pid(t, id, 0), pid);
    assert_eq!(last_pid(t, id, 1), untouched);
    let after = t.sem_stat(id).unwrap();
    stamp.covers(after.sem_otime);
    assert_eq!(after.sem_ctime, before.sem_ctime);
    Outcome::Pass
}

fn sums(t: &Target) -> Outcome {
    let id = set_of(t, &[10, 10, 10]);
    let first = holder(|| {
        // Semaphore 0: a balanced pair, and one that is not flagged.
        t.semop(id, &[(0, -4, SEM_UNDO)]).unwrap();
        t.semop(id, &[(0, -1, 0)]).unwrap();
        t.semop(id, &[(0, 4, SEM_UNDO)]).unwrap();
        // Semaphores 1 and 2 in one list, more than once, flagged and not; a zero test.
        let list = [
            (1, -1, SEM_UNDO),
            (2, 7, SEM_UNDO),
            (1, -2, 0),
            (2, -10, SEM_UNDO),
            (1, -3, SEM_UNDO),
        ];
        t.semop(id, &list).unwrap();
        t.semop(id, &[(2, -7, 0), (2, 0, SEM_UNDO), (2, 7, 0)])
            .unwrap();
    });
    assert_eq!(t.sem_values(id, 3), Ok(vec![9, 4, 7]));
    // Another process's adjustments are its own, in other sets as well.
    let other = t.set(1);
    let second = holder(|| {
        t.semop(id, &[(1, -1, SEM_UNDO)]).unwrap();
        t.semop(other, &[(0, 2, SEM_UNDO)]).unwrap();
    });
    first.kill();
    assert_eq!(t.sem_values(id, 3), Ok(vec![9, 7, 10]));
    assert_eq!(t.sem_value(other, 0), Ok(2));
    second.kill();
    assert_eq!(t.sem_values(id, 3), Ok(vec![9, 8, 10]));
    assert_eq!(t.sem_value(other, 0), Ok(0));
    Outcome::Pass
}

fn wakes(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 0]);
    let holder = holder(|| t.semop(id, &[(0, -1, SEM_UNDO), (1, 3, SEM_UNDO)]).unwrap());
    let increase = asleep(|| assert_eq!(t.semop(id, &[(0, -1, 0)]), Ok(())));
    let zero = asleep(|| assert_eq!(t.semop(id, &[(1, 0, 0)]), Ok(())));
    let more = asleep(|| assert_eq!(t.semop(id, &[(0, -2, 0)]), Err(Errno::IDRM)));
    holder.kill();
    increase.join();
    zero.join();
    still_asleep(&more);
    assert_eq!(t.sem_values(id, 2), Ok(vec![0, 0]));
    t.sem_remove(id).unwrap();
    more.join();
    Outcome::Pass
}

fn fork(t: &Target) -> Outcome {
    let id = set_of(t, &[5]);
    let parent = holder(|| {
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
        child(|| ()).join();
        assert_eq!(t.sem_value(id, 0), Ok(4), "the child had nothing to undo");
        child(|| t.semop(id, &[(0, -2, SEM_UNDO)]).unwrap()).join();
        assert_eq!(t.sem_value(id, 0), Ok(4), "the child undid its own only");
    });
    assert_eq!(t.sem_value(id, 0), Ok(4));
    parent.kill();
    assert_eq!(t.sem_value(id, 0), Ok(5));
    Outcome::Pass
}

fn exec(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    // The pipe's end closes when the new program begins.
    let (mut begun, end) = std::io::pipe().unwrap();
    let process = child(move || {
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
        let error = Command::new("sleep").arg("25").exec();
        panic!("exec: {error}, {end:?}");
    });
    begun.read_to_end(&mut Vec::new()).unwrap();
    let command = std::fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap();
    assert_eq!(command, "sleep\n");
    assert_eq!(t.sem_value(id, 0), Ok(0));
    process.kill();
    assert_eq!(t.sem_value(id, 0), Ok(1));

    child(|| {
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
        panic!("exec: {}", Command::new("true").exec());
    })
    .join();
    assert_eq!(t.sem_value(id, 0), Ok(1), "a program that ends by itself");
    Outcome::Pass
}

fn cleared_by_setting(t: &Target) -> Outcome {
    for all in [false, true] {
        let id = set_of(t, &[9, 9]);
        let holders = [1, 2].map(|amount| {
            holder(|| {
                t.semop(id, &[(0, -amount, SEM_UNDO), (1, -amount, SEM_UNDO)])
                    .unwrap()
            })
        });
        assert_eq!(t.sem_values(id, 2), Ok(vec![6, 6]));
        if all {
            t.sem_set_values(id, &[20, 6]).unwrap();
        } else {
            t.sem_set_value(id, 0, 20).unwrap();
        }
        for holder in holders {
            holder.kill();
        }
        assert_eq!(
            t.sem_values(id, 2),
            Ok(if all { vec![20, 6] } else { vec![20, 9] })
        );
    }
    // What follows the setting counts again.
    let id = set_of(t, &[9]);
    let ready = Gate::new();
    let go_on = Gate::new();
    let later = child(|| {
        t.semop(id, &[(0, -5, SEM_UNDO)]).unwrap();
        ready.open();
        go_on.wait();
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
    });
    ready.wait();
    t.sem_set_value(id, 0, 3).unwrap();
    go_on.open();
    later.join();
    assert_eq!(t.sem_value(id, 0), Ok(3));
    Outcome::Pass
}

fn clamped(t: &Target) -> Outcome {
    let id = set_of(t, &[0, 3]);
    let holder = holder(|| t.semop(id, &[(0, 3, SEM_UNDO), (1, -3, SEM_UNDO)]).unwrap());
    t.semop(id, &[(0, -2, 0), (1, i16::MAX, 0)]).unwrap();
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, SEMVMX]));
    // It ends although one value would be negative: process end never waits.
    holder.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![0, SEMVMX]));
    Outcome::Pass
}

fn adjustment_out_of_range(t: &Target) -> Outcome {
    let id = set_of(t, &[0, SEMVMX]);
    let most = i16::MAX;
    let process = holder(|| {
        t.semop(id, &[(0, most, SEM_UNDO)])
            .expect("adjustment -32767");
        t.semop(id, &[(0, -most, 0)]).unwrap();
        t.semop(id, &[(0, 1, SEM_UNDO)]).expect("adjustment -32768");
        assert_eq!(t.semop(id, &[(0, 1, SEM_UNDO)]), Err(Errno::RANGE));
        assert_eq!(
            t.semop(id, &[(1, -1, 0), (0, 1, SEM_UNDO)]),
            Err(Errno::RANGE)
        );

        t.semop(id, &[(1, -most, SEM_UNDO)])
            .expect("adjustment 32767");
        t.semop(id, &[(1, 2, 0)]).unwrap();
        assert_eq!(t.semop(id, &[(1, -1, SEM_UNDO)]), Err(Errno::RANGE));
        assert_eq!(
            t.semop(id, &[(1, -1, SEM_UNDO | NOWAIT)]),
            Err(Errno::RANGE)
        );
        t.semop(id, &[(1, -1, 0)]).expect("without SEM_UNDO");
    });
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, 1]), "nothing applied");
    process.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![0, SEMVMX]));
    Outcome::Pass
}

fn set_removed(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.semget(key, 1, IPC_CREAT | 0o600).unwrap();
    let holder = holder(|| t.semop(id, &[(0, 4, SEM_UNDO)]).unwrap());
    t.sem_remove(id).unwrap();
    let next = t.semget(key, 1, IPC_CREAT | IPC_EXCL | 0o600).unwrap();
    t.semop(next, &[(0, 9, 0)]).unwrap();
    let status = t.sem_stat(next).unwrap();
    let pid = last_pid(t, next, 0);
    holder.kill();
    assert_eq!((t.sem_value(next, 0), last_pid(t, next, 0)), (Ok(9), pid));
    assert_eq!(t.sem_stat(next), Ok(status));
    assert_eq!(t.sem_stat(id), Err(Errno::INVAL));
    Outcome::Pass
}

fn threads(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    let process = holder(|| {
        std::thread::scope(|threads| {
            let thread = threads.spawn(|| t.semop(id, &[(0, -1, SEM_UNDO)]));
            assert_eq!(thread.join().unwrap(), Ok(()));
        });
        assert_eq!(
            t.sem_value(id, 0),
            Ok(0),
            "the thread has ended, the process has not"
        );
    });
    assert_eq!(t.sem_value(id, 0), Ok(0));
    process.kill();
    assert_eq!(t.sem_value(id, 0), Ok(1));

    // The thread that began the process ends first.
    let go_on = Gate::new();
    let process = child(|| {
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                go_on.wait();
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            });
            // SAFETY: ends this thread only; its stack, which the other one uses, stays.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
    });
    wait_until(BOUND, || task_state(process.pid()) == Some('Z'));
    assert_eq!(t.sem_value(id, 0), Ok(0), "one thread lives on");
    go_on.open();
    process.join();
    assert_eq!(t.sem_value(id, 0), Ok(1));
    Outcome::Pass
}

fn failed_operations(t: &Target) -> Outcome {
    let id = set_of(t, &[5, 0, SEMVMX]);
    let short = timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let process = holder(|| {
        let take = (0, -1, SEM_UNDO);
        let waits = (1, -1, SEM_UNDO);
        assert_eq!(
            t.semop(id, &[take, (1, -1, SEM_UNDO | NOWAIT)]),
            Err(Errno::AGAIN)
        );
        assert_eq!(t.semtimedop(id, &[take, waits], &short), Err(Errno::AGAIN));
        assert_eq!(t.semop(id, &[take, (2, 1, SEM_UNDO)]), Err(Errno::RANGE));
        assert_eq!(t.semop(id, &[take, (3, 1, SEM_UNDO)]), Err(Errno::FBIG));
        let interrupted = asleep(|| {
            count_signals(libc::SIGUSR1, 0);
            assert_eq!(t.semop(id, &[take, waits]), Err(Errno::INTR));
        });
        interrupted.signal(libc::SIGUSR1);
        interrupted.join();
    });
    assert_eq!(t.sem_values(id, 3), Ok(vec![5, 0, SEMVMX]));
    process.kill();
    assert_eq!(t.sem_values(id, 3), Ok(vec![5, 0, SEMVMX]));

    // What was recorded before a failure stays recorded.
    let process = holder(|| {
        t.semop(id, &[(0, -2, SEM_UNDO)]).unwrap();
        assert_eq!(
            t.semop(id, &[(0, -1, SEM_UNDO), (0, 0, NOWAIT)]),
            Err(Errno::AGAIN)
        );
    });
    process.kill();
    assert_eq!(t.sem_value(id, 0), Ok(5));
    Outcome::Pass
}

fn permission_withdrawn(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    let holder = holder(|| {
        keep_capabilities(&[]);
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
    });
    let mut status = t.sem_stat(id).unwrap();
    status.sem_perm.mode = 0;
    t.sem_set(id, &status).unwrap();
    without_capabilities(|| {
        assert_eq!(t.semop(id, &[(0, 1, 0)]), Err(Errno::ACCESS));
    });
    holder.kill();
    status.sem_perm.mode = 0o600;
    t.sem_set(id, &status).unwrap();
    assert_eq!(t.sem_value(id, 0), Ok(1));
    Outcome::Pass
}

/// Forks a process that shares this one's list of adjustments: 0 in the new one, its pid here.
fn clone_with_list() -> i32 {
    let flags = libc::CLONE_SYSVSEM | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack it is a fork; this process has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    assert!(pid >= 0, "clone: {}", std::io::Error::last_os_error());
    pid as i32
}

/// A process that took from semaphore 0 and, by `clone`, made another that shares its list and
/// took from semaphore 1. The second ends at once or when the gate opens.
fn sharers(t: &Target, id: i32, go_on: Option<&Gate>) -> Child {
    holder(|| {
        t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
        let ready = Gate::new();
        let second = clone_with_list();
        if second == 0 {
            let taken = t.semop(id, &[(1, -1, SEM_UNDO)]).is_ok();
            ready.send(i64::from(taken));
            if let Some(gate) = go_on {
                gate.wait();
            }
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        assert_eq!(ready.receive(), 1);
        if go_on.is_none() {
            let mut status = 0;
            // SAFETY: `status` is valid for writing.
            let ended = unsafe { libc::waitpid(second, &mut status, 0) };
            assert_eq!((ended, status), (second, 0));
        }
    })
}

fn shared_list(t: &Target) -> Outcome {
    or_skip!(t.needs_more_than_a_library());
    let id = set_of(t, &[1, 1]);
    let first = sharers(t, id, None);
    assert_eq!(
        t.sem_values(id, 2),
        Ok(vec![0, 0]),
        "the second has ended, the first has not"
    );
    first.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, 1]));

    let go_on = Gate::new();
    let first = sharers(t, id, Some(&go_on));
    first.kill();
    assert_eq!(
        t.sem_values(id, 2),
        Ok(vec![0, 0]),
        "the first has ended, the second has not"
    );
    go_on.open();
    wait_until(BOUND, || t.sem_values(id, 2) == Ok(vec![1, 1]));
    Outcome::Pass
}

fn unshared_list(t: &Target) -> Outcome {
    or_skip!(t.needs_more_than_a_library());
    let id = set_of(t, &[1, 0]);
    let process = holder(|| {
        t.semop(id, &[(0, -1, SEM_UNDO), (1, 2, SEM_UNDO)]).unwrap();
        // SAFETY: takes a number; nothing of this process changes but its adjustments.
        let unshared = unsafe { libc::unshare(libc::CLONE_SYSVSEM) };
        assert_eq!(unshared, 0, "unshare: {}", std::io::Error::last_os_error());
        assert_eq!(t.sem_values(id, 2), Ok(vec![1, 0]), "applied at once");
        t.semop(id, &[(1, 3, SEM_UNDO)]).unwrap();
    });
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, 3]));
    process.kill();
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, 0]), "only what followed");
    Outcome::Pass
}
