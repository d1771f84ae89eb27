//! EO-1 to EO-11: `semop` that need not wait. ET: `semtimedop`.

use crate::caller::{
    Fenced, Stamp, asleep, count_signals, my_pid, signals_seen, still_asleep, without_capabilities,
};
use crate::harness::{BAD, Outcome, Statement, Target, sembufs};
use crate::process::{child, wait_past};
use crate::sem_get::limits;
use std::time::{Duration, Instant};
use sysv::abi::*;
use sysv::{Errno, Result};

/// The statements about `semop` that need not wait, and about `semtimedop`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "EO-1",
        run: no_operations,
    },
    Statement {
        id: "EO-2",
        run: too_many_operations,
    },
    Statement {
        id: "EO-3",
        run: unreadable,
    },
    Statement {
        id: "EO-4",
        run: number_outside,
    },
    Statement {
        id: "EO-5",
        run: add_subtract_zero,
    },
    Statement {
        id: "EO-6",
        run: no_wait,
    },
    Statement {
        id: "EO-7",
        run: value_out_of_range,
    },
    Statement {
        id: "EO-8",
        run: all_or_nothing,
    },
    Statement {
        id: "EO-9",
        run: times,
    },
    Statement {
        id: "EO-10",
        run: pids,
    },
    Statement {
        id: "EO-11",
        run: permission,
    },
    Statement {
        id: "ET-1",
        run: timeout,
    },
    Statement {
        id: "ET-2",
        run: zero_timeout,
    },
    Statement {
        id: "ET-3",
        run: bad_timeout,
    },
    Statement {
        id: "ET-4",
        run: null_timeout,
    },
    Statement {
        id: "ET-5",
        run: interrupted_timeout,
    },
];

/// `IPC_NOWAIT` as `sem_flg`.
pub const NOWAIT: i16 = IPC_NOWAIT as i16;

/// A set with these values.
pub fn set_of(t: &Target, values: &[u16]) -> i32 {
    let id = t.set(values.len() as i32);
    t.sem_set_values(id, values).expect("SETALL");
    id
}

/// `GETPID`.
pub fn last_pid(t: &Target, id: i32, number: i32) -> i32 {
    t.semctl(id, number, GETPID, 0).expect("GETPID")
}

/// All that an operation can change: values, pids, times.
pub fn state(t: &Target, id: i32) -> (Vec<u16>, Vec<i32>, semid_ds) {
    let status = t.sem_stat(id).expect("IPC_STAT");
    let count = status.sem_nsems as usize;
    let pids = (0..count as i32)
        .map(|number| last_pid(t, id, number))
        .collect();
    (t.sem_values(id, count).expect("GETALL"), pids, status)
}

fn no_operations(t: &Target) -> Outcome {
    let id = t.set(1);
    assert_eq!(t.semop(id, &[]), Err(Errno::INVAL));
    assert_eq!(
        t.semtimedop(id, &[], &timespec::default()),
        Err(Errno::INVAL)
    );
    Outcome::Pass
}

fn too_many_operations(t: &Target) -> Outcome {
    let id = t.set(1);
    let most = limits(t).semopm as usize;
    assert_eq!(t.semop(id, &vec![(0, 1, 0); most + 1]), Err(Errno::TOOBIG));
    assert_eq!(t.sem_value(id, 0), Ok(0));
    assert_eq!(t.semop(id, &vec![(0, 1, 0); most]), Ok(()));
    assert_eq!(t.sem_value(id, 0), Ok(most as i32));

    let removed = t.set(1);
    t.sem_remove(removed).unwrap();
    assert_eq!(t.semop(removed, &[(0, 1, 0)]), Err(Errno::INVAL));
    assert_eq!(
        t.semop(removed, &vec![(0, 1, 0); most + 1]),
        Err(Errno::TOOBIG)
    );
    Outcome::Pass
}

fn unreadable(t: &Target) -> Outcome {
    let id = t.set(1);
    // One whole operation, then the fault.
    let short = Fenced::new(size_of::<sembuf>());
    short.write(2, &1i16.to_ne_bytes());
    for (address, count) in [(0, 1), (BAD, 1), (short.address() as usize, 2)] {
        let operations = address as *const sembuf;
        // SAFETY: the address is none of ours, or that of memory which ends in a fault.
        let answer = unsafe { t.calls.semop(id, operations, count) };
        assert_eq!(answer, Err(Errno::FAULT));
        // SAFETY: as above.
        let answer = unsafe {
            t.calls
                .semtimedop(id, operations, count, &timespec::default())
        };
        assert_eq!(answer, Err(Errno::FAULT));
    }
    assert_eq!(t.sem_value(id, 0), Ok(0));
    // SAFETY: the memory holds one operation, the kernel reads it at any address.
    let answer = unsafe { t.calls.semop(id, short.address().cast(), 1) };
    assert_eq!((answer, t.sem_value(id, 0)), (Ok(()), Ok(1)));
    Outcome::Pass
}

fn number_outside(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 1]);
    let before = state(t, id);
    for list in [
        &[(2, 1, 0)][..],
        &[(0, 1, 0), (2, 1, 0)],
        &[(u16::MAX, 0, NOWAIT), (1, 1, 0)],
    ] {
        assert_eq!(t.semop(id, list), Err(Errno::FBIG));
    }
    // It comes before any wait.
    assert_eq!(t.semop(id, &[(0, -2, 0), (2, 1, 0)]), Err(Errno::FBIG));
    assert_eq!(state(t, id), before);
    Outcome::Pass
}

fn add_subtract_zero(t: &Target) -> Outcome {
    let id = t.set(2);
    assert_eq!(t.semop(id, &[(1, 0, 0)]), Ok(()), "zero passes at 0");
    assert_eq!(t.semop(id, &[(1, 5, 0)]), Ok(()));
    assert_eq!(t.sem_values(id, 2), Ok(vec![0, 5]));
    assert_eq!(
        t.semop(id, &[(1, 0, NOWAIT)]),
        Err(Errno::AGAIN),
        "zero waits at 5"
    );
    assert_eq!(t.semop(id, &[(1, -3, 0)]), Ok(()));
    assert_eq!(t.sem_values(id, 2), Ok(vec![0, 2]));
    assert_eq!(t.semop(id, &[(1, -3, NOWAIT)]), Err(Errno::AGAIN));
    assert_eq!(t.semop(id, &[(1, -2, 0)]), Ok(()), "down to 0");
    assert_eq!(t.semop(id, &[(1, i16::MAX, 0)]), Ok(()));
    assert_eq!(t.semop(id, &[(1, i16::MIN, NOWAIT)]), Err(Errno::AGAIN));
    assert_eq!(t.semop(id, &[(1, -i16::MAX, 0)]), Ok(()));
    assert_eq!(t.sem_values(id, 2), Ok(vec![0, 0]));
    Outcome::Pass
}

fn no_wait(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 0]);
    let before = state(t, id);
    for list in [
        &[(1, -1, NOWAIT)][..],
        &[(0, -2, NOWAIT)],
        &[(0, 0, NOWAIT)],
        &[(0, -1, 0), (1, -1, NOWAIT)],
        &[(0, 1, 0), (0, 0, NOWAIT)],
    ] {
        assert_eq!(t.semop(id, list), Err(Errno::AGAIN));
    }
    assert_eq!(state(t, id), before);
    assert_eq!(
        t.semop(id, &[(0, -1, NOWAIT), (1, 0, NOWAIT)]),
        Ok(()),
        "nothing to wait for"
    );

    // The flag counts on the element that would wait.
    let sleeper = asleep(|| {
        assert_eq!(t.semop(id, &[(0, 1, NOWAIT), (1, -1, 0)]), Err(Errno::IDRM));
    });
    t.sem_remove(id).unwrap();
    sleeper.join();
    Outcome::Pass
}

fn value_out_of_range(t: &Target) -> Outcome {
    let id = set_of(t, &[SEMVMX - 1, 0]);
    assert_eq!(t.semop(id, &[(0, 1, 0)]), Ok(()), "up to SEMVMX");
    let before = state(t, id);
    for list in [
        &[(0, 1, 0)][..],
        &[(0, 1, NOWAIT)],
        &[(0, i16::MAX, 0)],
        &[(1, 1, 0), (0, 1, 0)],
        &[(0, -1, 0), (0, 2, 0)],
        // Too much for a moment is too much.
        &[(0, 1, 0), (0, -1, 0)],
    ] {
        assert_eq!(t.semop(id, list), Err(Errno::RANGE));
    }
    assert_eq!(state(t, id), before);
    assert_eq!(t.semop(id, &[(0, -1, 0), (0, 1, 0)]), Ok(()));
    Outcome::Pass
}

fn all_or_nothing(t: &Target) -> Outcome {
    let id = set_of(t, &[0, 3]);
    let before = state(t, id);
    for list in [
        // In array order the first element comes before what would let it pass.
        &[(0, -1, NOWAIT), (0, 1, 0)][..],
        &[(0, 1, 0), (0, 0, NOWAIT), (0, -1, 0)],
        &[(1, -2, 0), (1, -2, NOWAIT)],
        &[(1, -3, 0), (0, 5, 0), (1, -1, NOWAIT)],
    ] {
        child(|| assert_eq!(t.semop(id, list), Err(Errno::AGAIN))).join();
        assert_eq!(state(t, id), before);
    }
    child(|| {
        assert_eq!(
            t.semop(id, &[(1, -3, 0), (0, i16::MAX, 0), (0, 1, 0)]),
            Err(Errno::RANGE)
        );
        assert_eq!(t.semop(id, &[(1, -3, 0), (2, 1, 0)]), Err(Errno::FBIG));
    })
    .join();
    assert_eq!(state(t, id), before);
    // The same elements in an order in which each can pass.
    assert_eq!(
        t.semop(
            id,
            &[(0, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 0), (0, 2, 0)]
        ),
        Ok(())
    );
    assert_eq!(
        t.semop(
            id,
            &[(1, -2, 0), (1, -1, 0), (1, 0, 0), (1, 7, 0), (0, -1, 0)]
        ),
        Ok(())
    );
    assert_eq!(t.sem_values(id, 2), Ok(vec![1, 7]));
    Outcome::Pass
}

fn times(t: &Target) -> Outcome {
    let id = t.set(1);
    let created = t.sem_stat(id).unwrap();
    assert_eq!(created.sem_otime, 0);
    wait_past(created.sem_ctime);
    let stamp = Stamp::now();
    t.semop(id, &[(0, 1, 0)]).unwrap();
    let status = t.sem_stat(id).unwrap();
    stamp.covers(status.sem_otime);
    assert_eq!(status.sem_ctime, created.sem_ctime);

    let tested = t.set(1);
    let stamp = Stamp::now();
    t.semop(tested, &[(0, 0, 0)]).unwrap();
    stamp.covers(t.sem_stat(tested).unwrap().sem_otime);
    Outcome::Pass
}

fn pids(t: &Target) -> Outcome {
    let id = t.set(4);
    t.semop(id, &[(0, 1, 0), (1, 0, 0)]).unwrap();
    assert_eq!(state(t, id).1, [my_pid(), my_pid(), 0, 0]);
    let other = child(|| t.semop(id, &[(1, 0, 0), (2, 1, 0)]).unwrap());
    let pid = other.pid();
    other.join();
    assert_eq!(state(t, id).1, [my_pid(), pid, pid, 0]);

    let sleeper = asleep(|| t.semop(id, &[(0, -2, 0), (3, 0, 0)]).unwrap());
    let pid = sleeper.pid();
    t.semop(id, &[(0, 1, 0)]).unwrap();
    sleeper.join();
    assert_eq!(last_pid(t, id, 0), pid, "not the process that woke it");
    assert_eq!(last_pid(t, id, 3), pid);
    Outcome::Pass
}

fn permission(t: &Target) -> Outcome {
    let zero_tests = [(0, 0, NOWAIT), (1, 0, NOWAIT)];
    let mixed = [(0, 0, NOWAIT), (1, 1, NOWAIT), (1, -1, NOWAIT)];
    let read_only = t.semget(IPC_PRIVATE, 2, 0o466).unwrap();
    let alter_only = t.semget(IPC_PRIVATE, 2, 0o266).unwrap();
    without_capabilities(|| {
        assert_eq!(t.semop(read_only, &zero_tests), Ok(()));
        assert_eq!(t.semop(read_only, &mixed), Err(Errno::ACCESS));
        assert_eq!(t.semop(read_only, &[(0, 1, 0)]), Err(Errno::ACCESS));
        assert_eq!(t.semop(alter_only, &zero_tests), Err(Errno::ACCESS));
        assert_eq!(t.semop(alter_only, &mixed), Ok(()));
        assert_eq!(t.semop(alter_only, &[(0, 1, 0)]), Ok(()));
    });
    Outcome::Pass
}

/// `semtimedop` with a timeout that the call might change: the answer, and what it is afterwards.
fn timed(
    t: &Target,
    id: i32,
    list: &[(u16, i16, i16)],
    timeout: timespec,
) -> (Result<()>, timespec) {
    let list = sembufs(list);
    let mut place = timeout;
    let address = &raw mut place;
    // SAFETY: the list is valid for reading its elements, `place` for reading and writing.
    let answer = unsafe { t.calls.semtimedop(id, list.as_ptr(), list.len(), address) };
    (answer, place)
}

fn timeout(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 0]);
    let before = state(t, id);
    for nanoseconds in [1, 999_999, 60_000_000] {
        let timeout = timespec {
            tv_sec: 0,
            tv_nsec: nanoseconds,
        };
        for list in [&[(0, -1, 0), (1, -1, 0)][..], &[(1, 2, 0), (0, 0, 0)]] {
            let start = Instant::now();
            assert_eq!(t.semtimedop(id, list, &timeout), Err(Errno::AGAIN));
            assert!(start.elapsed() >= Duration::from_nanos(nanoseconds as u64));
        }
    }
    let start = Instant::now();
    let timeout = timespec {
        tv_sec: 1,
        tv_nsec: 1000,
    };
    assert_eq!(t.semtimedop(id, &[(1, -1, 0)], &timeout), Err(Errno::AGAIN));
    assert!(start.elapsed() >= Duration::new(1, 1000));
    assert_eq!(state(t, id), before);
    for number in 0..2 {
        assert_eq!(t.semctl(id, number, GETNCNT, 0), Ok(0));
        assert_eq!(t.semctl(id, number, GETZCNT, 0), Ok(0));
    }
    Outcome::Pass
}

fn zero_timeout(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    let none = timespec::default();
    assert_eq!(t.semtimedop(id, &[(0, -1, 0)], &none), Ok(()));
    assert_eq!(t.semtimedop(id, &[(0, -1, 0)], &none), Err(Errno::AGAIN));
    assert_eq!(t.semtimedop(id, &[(0, 0, 0), (0, 1, 0)], &none), Ok(()));
    assert_eq!(t.semtimedop(id, &[(0, 0, 0)], &none), Err(Errno::AGAIN));
    assert_eq!(t.sem_value(id, 0), Ok(1));
    Outcome::Pass
}

fn bad_timeout(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    for (tv_sec, tv_nsec) in [
        (-1, 0),
        (i64::MIN, 0),
        (0, -1),
        (0, 1_000_000_000),
        (1, i64::MAX),
        (-1, 999_999_999),
    ] {
        let timeout = timespec { tv_sec, tv_nsec };
        for list in [&[(0, 1, 0)][..], &[(0, 0, 0)], &[(0, -2, NOWAIT)]] {
            assert_eq!(
                t.semtimedop(id, list, &timeout),
                Err(Errno::INVAL),
                "{timeout:?}"
            );
        }
    }
    let operation = sembuf {
        sem_num: 0,
        sem_op: 1,
        sem_flg: 0,
    };
    let short = Fenced::new(8);
    for address in [8, BAD, short.address() as usize] {
        // SAFETY: the timeout's address is none of ours, or that of memory which ends in a fault.
        let answer = unsafe {
            t.calls
                .semtimedop(id, &operation, 1, address as *const timespec)
        };
        assert_eq!(answer, Err(Errno::FAULT));
    }
    assert_eq!(t.sem_value(id, 0), Ok(1));
    let largest = timespec {
        tv_sec: i64::MAX,
        tv_nsec: 999_999_999,
    };
    assert_eq!(t.semtimedop(id, &[(0, 1, 0)], &largest), Ok(()));
    Outcome::Pass
}

fn null_timeout(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    let operate = |sem_op, sem_flg| {
        let operation = sembuf {
            sem_num: 0,
            sem_op,
            sem_flg,
        };
        // SAFETY: one operation to read; no timeout.
        unsafe { t.calls.semtimedop(id, &operation, 1, std::ptr::null()) }
    };
    assert_eq!(operate(-1, 0), Ok(()));
    assert_eq!(operate(-1, NOWAIT), Err(Errno::AGAIN));
    let sleeper = asleep(|| assert_eq!(operate(-2, 0), Ok(())));
    assert_eq!(t.semctl(id, 0, GETNCNT, 0), Ok(1));
    t.semop(id, &[(0, 1, 0)]).unwrap();
    still_asleep(&sleeper);
    t.semop(id, &[(0, 1, 0)]).unwrap();
    sleeper.join();
    assert_eq!(t.sem_value(id, 0), Ok(0));
    Outcome::Pass
}

fn interrupted_timeout(t: &Target) -> Outcome {
    let id = set_of(t, &[0]);
    for flags in [0, libc::SA_RESTART] {
        let sleeper = asleep(|| {
            count_signals(libc::SIGUSR1, flags);
            let timeout = timespec {
                tv_sec: 25,
                tv_nsec: 123_456_789,
            };
            assert_eq!(
                timed(t, id, &[(0, -1, 0)], timeout),
                (Err(Errno::INTR), timeout)
            );
            assert_eq!(signals_seen(), 1);
        });
        sleeper.signal(libc::SIGUSR1);
        sleeper.join();
    }
    Outcome::Pass
}
