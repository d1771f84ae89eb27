//! EO-12 to EO-21: `semop` that waits.

use crate::caller::{asleep, count_signals, signals_seen, still_asleep};
use crate::harness::{Outcome, Statement, Target};
use crate::process::{BOUND, child, shared_words, wait_until};
use crate::sem_operate::{NOWAIT, last_pid, set_of};
use std::sync::atomic::Ordering;
use sysv::Errno;
use sysv::abi::*;

/// The statements about `semop` that waits.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "EO-12",
        run: for_increase,
    },
    Statement {
        id: "EO-13",
        run: for_zero,
    },
    Statement {
        id: "EO-14",
        run: waits_that_end,
    },
    Statement {
        id: "EO-15",
        run: no_queueing_behind_larger,
    },
    Statement {
        id: "EO-16",
        run: arrival_order,
    },
    Statement {
        id: "EO-17",
        run: lists,
    },
    Statement {
        id: "EO-18",
        run: no_wait_on_second_look,
    },
    Statement {
        id: "EO-19",
        run: removal,
    },
    Statement {
        id: "EO-20",
        run: lock,
    },
    Statement {
        id: "EO-21",
        run: unknown_flags,
    },
];

/// `GETNCNT` and `GETZCNT`.
pub fn waiting(t: &Target, id: i32, number: i32) -> (i32, i32) {
    let count = |command| {
        t.semctl(id, number, command, 0)
            .expect("GETNCNT or GETZCNT")
    };
    (count(GETNCNT), count(GETZCNT))
}

/// Waits until as many callers wait, for increase and for zero.
#[track_caller]
fn until_waiting(t: &Target, id: i32, number: i32, counts: (i32, i32)) {
    wait_until(BOUND, || waiting(t, id, number) == counts);
}

fn for_increase(t: &Target) -> Outcome {
    let id = t.set(2);
    let first = asleep(|| assert_eq!(t.semop(id, &[(0, -3, 0)]), Ok(())));
    assert_eq!(waiting(t, id, 0), (1, 0));
    let second = asleep(|| assert_eq!(t.semop(id, &[(0, -4, 0)]), Ok(())));
    assert_eq!(waiting(t, id, 0), (2, 0));
    assert_eq!(waiting(t, id, 1), (0, 0));
    t.semop(id, &[(0, 2, 0)]).unwrap();
    still_asleep(&first);
    assert_eq!((t.sem_value(id, 0), waiting(t, id, 0)), (Ok(2), (2, 0)));
    t.semop(id, &[(0, 1, 0)]).unwrap();
    first.join();
    assert_eq!((t.sem_value(id, 0), waiting(t, id, 0)), (Ok(0), (1, 0)));
    t.semop(id, &[(0, 5, 0)]).unwrap();
    second.join();
    assert_eq!((t.sem_value(id, 0), waiting(t, id, 0)), (Ok(1), (0, 0)));
    Outcome::Pass
}

fn for_zero(t: &Target) -> Outcome {
    let id = set_of(t, &[2, 1]);
    let sleepers = [(), ()].map(|()| asleep(|| assert_eq!(t.semop(id, &[(0, 0, 0)]), Ok(()))));
    assert_eq!(waiting(t, id, 0), (0, 2));
    assert_eq!(waiting(t, id, 1), (0, 0));
    t.semop(id, &[(0, -1, 0)]).unwrap();
    sleepers.iter().for_each(still_asleep);
    assert_eq!(waiting(t, id, 0), (0, 2));
    t.semop(id, &[(0, -1, 0)]).unwrap();
    sleepers.into_iter().for_each(|sleeper| sleeper.join());
    assert_eq!(waiting(t, id, 0), (0, 0));
    Outcome::Pass
}

fn waits_that_end(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    let long = timespec {
        tv_sec: 25,
        tv_nsec: 0,
    };
    for (amount, counts) in [(-2, (1, 0)), (0, (0, 1))] {
        for flags in [0, libc::SA_RESTART] {
            for timed in [false, true] {
                let sleeper = asleep(|| {
                    count_signals(libc::SIGUSR1, flags);
                    let answer = if timed {
                        t.semtimedop(id, &[(0, amount, 0)], &long)
                    } else {
                        t.semop(id, &[(0, amount, 0)])
                    };
                    assert_eq!((answer, signals_seen()), (Err(Errno::INTR), 1));
                });
                assert_eq!(waiting(t, id, 0), counts);
                sleeper.signal(libc::SIGUSR1);
                sleeper.join();
                assert_eq!(waiting(t, id, 0), (0, 0), "after a signal");
            }
        }
        let short = timespec {
            tv_sec: 0,
            tv_nsec: 50_000_000,
        };
        assert_eq!(
            t.semtimedop(id, &[(0, amount, 0)], &short),
            Err(Errno::AGAIN)
        );
        assert_eq!(waiting(t, id, 0), (0, 0), "after a timeout");

        let sleeper = asleep(|| t.semop(id, &[(0, amount, 0)]).unwrap());
        assert_eq!(waiting(t, id, 0), counts);
        sleeper.kill();
        assert_eq!(waiting(t, id, 0), (0, 0), "after a death");
    }
    assert_eq!(t.sem_value(id, 0), Ok(1));
    Outcome::Pass
}

fn no_queueing_behind_larger(t: &Target) -> Outcome {
    let id = t.set(1);
    let large = asleep(|| assert_eq!(t.semop(id, &[(0, -5, 0)]), Ok(())));
    t.semop(id, &[(0, 2, 0)]).unwrap();
    assert_eq!(t.semop(id, &[(0, -1, NOWAIT)]), Ok(()), "met at once");
    assert_eq!(t.semop(id, &[(0, -1, 0)]), Ok(()), "met at once");
    let small = asleep(|| assert_eq!(t.semop(id, &[(0, -2, 0)]), Ok(())));
    t.semop(id, &[(0, 3, 0)]).unwrap();
    small.join();
    still_asleep(&large);
    assert_eq!((t.sem_value(id, 0), waiting(t, id, 0)), (Ok(1), (1, 0)));
    t.semop(id, &[(0, 4, 0)]).unwrap();
    large.join();
    Outcome::Pass
}

fn arrival_order(t: &Target) -> Outcome {
    let id = set_of(t, &[0, 7]);
    // The kernel keeps waiters with one operation and those with lists apart.
    for list in [&[(0, -1, 0)][..], &[(1, 0, 0), (0, -1, 0)]] {
        if list.len() == 2 {
            t.sem_set_value(id, 1, 0).unwrap();
        }
        let sleepers: Vec<_> = (0..4)
            .map(|_| asleep(|| assert_eq!(t.semop(id, list), Ok(()))))
            .collect();
        for (served, sleeper) in sleepers.into_iter().enumerate() {
            t.semop(id, &[(0, 1, 0)]).unwrap();
            until_waiting(t, id, 0, (3 - served as i32, 0));
            assert_eq!(last_pid(t, id, 0), sleeper.pid());
            sleeper.join();
        }
    }
    Outcome::Pass
}

fn lists(t: &Target) -> Outcome {
    let id = set_of(t, &[0, 0, 1]);
    let list = [(0, -1, 0), (1, -1, 0), (2, 0, 0)];
    let sleeper = asleep(|| assert_eq!(t.semop(id, &list), Ok(())));
    let counts = || [0, 1, 2].map(|number| waiting(t, id, number));
    assert_eq!(counts(), [(1, 0), (0, 0), (0, 0)]);
    t.semop(id, &[(1, 1, 0)]).unwrap();
    still_asleep(&sleeper);
    assert_eq!(counts(), [(1, 0), (0, 0), (0, 0)]);
    assert_eq!(t.sem_values(id, 3), Ok(vec![0, 1, 1]), "it takes no part");

    t.semop(id, &[(1, -1, 0), (0, 1, 0)]).unwrap();
    wait_until(BOUND, || counts() == [(0, 0), (1, 0), (0, 0)]);
    assert_eq!(t.sem_values(id, 3), Ok(vec![1, 0, 1]), "it takes no part");
    t.semop(id, &[(1, 1, 0)]).unwrap();
    wait_until(BOUND, || counts() == [(0, 0), (0, 0), (0, 1)]);
    assert_eq!(t.sem_values(id, 3), Ok(vec![1, 1, 1]), "it takes no part");
    // What it could have had may be taken from it.
    assert_eq!(t.semop(id, &[(0, -1, NOWAIT)]), Ok(()));
    t.semop(id, &[(2, -1, 0)]).unwrap();
    wait_until(BOUND, || counts() == [(1, 0), (0, 0), (0, 0)]);
    still_asleep(&sleeper);
    t.semop(id, &[(0, 1, 0)]).unwrap();
    sleeper.join();
    assert_eq!(
        (t.sem_values(id, 3), counts()),
        (Ok(vec![0, 0, 0]), [(0, 0); 3])
    );
    Outcome::Pass
}

fn no_wait_on_second_look(t: &Target) -> Outcome {
    for second in [(1, -1, NOWAIT), (2, 0, NOWAIT)] {
        let id = set_of(t, &[0, 0, 1]);
        let sleeper = asleep(|| {
            assert_eq!(t.semop(id, &[(0, -1, 0), second]), Err(Errno::AGAIN));
        });
        t.semop(id, &[(0, 1, 0)]).unwrap();
        sleeper.join();
        assert_eq!(t.sem_values(id, 3), Ok(vec![1, 0, 1]), "nothing applied");
        assert_eq!(waiting(t, id, 0), (0, 0));
    }
    Outcome::Pass
}

fn removal(t: &Target) -> Outcome {
    let id = set_of(t, &[0, 1]);
    let long = timespec {
        tv_sec: 25,
        tv_nsec: 0,
    };
    let sleepers = [
        &[(0, -1, 0)][..],
        &[(1, 0, 0)],
        &[(1, -1, SEM_UNDO), (0, -1, SEM_UNDO)],
    ]
    .into_iter()
    .flat_map(|list| {
        [
            asleep(|| assert_eq!(t.semop(id, list), Err(Errno::IDRM))),
            asleep(|| assert_eq!(t.semtimedop(id, list, &long), Err(Errno::IDRM))),
        ]
    });
    let sleepers: Vec<_> = sleepers.collect();
    t.sem_remove(id).unwrap();
    sleepers.into_iter().for_each(|sleeper| sleeper.join());
    Outcome::Pass
}

const HOLDERS: i64 = 4;
const TURNS: i64 = 500;

fn lock(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    // Not atomic on purpose: one word that is read and written in two steps, one that says who is
    // inside.
    let words = shared_words(2);
    let holders: Vec<_> = (1..=HOLDERS)
        .map(|holder| {
            child(move || {
                for turn in 0..TURNS {
                    t.semop(id, &[(0, -1, SEM_UNDO)]).unwrap();
                    assert_eq!(words[1].swap(holder, Ordering::Relaxed), 0, "alone inside");
                    let count = words[0].load(Ordering::Relaxed);
                    if turn % 8 == 0 {
                        std::thread::yield_now();
                    }
                    words[0].store(count + 1, Ordering::Relaxed);
                    assert_eq!(words[1].swap(0, Ordering::Relaxed), holder, "alone inside");
                    if turn == TURNS - 1 {
                        return;
                    }
                    t.semop(id, &[(0, 1, SEM_UNDO)]).unwrap();
                }
            })
        })
        .collect();
    // Each leaves with the lock held: the undo gives it back.
    holders.into_iter().for_each(|holder| holder.join());
    assert_eq!(words[0].load(Ordering::Relaxed), HOLDERS * TURNS);
    assert_eq!(t.sem_value(id, 0), Ok(1));
    Outcome::Pass
}

fn unknown_flags(t: &Target) -> Outcome {
    let id = set_of(t, &[1]);
    let unknown = !(NOWAIT | SEM_UNDO);
    child(|| {
        assert_eq!(t.semop(id, &[(0, 2, unknown)]), Ok(()));
        assert_eq!(t.semop(id, &[(0, -1, unknown)]), Ok(()));
    })
    .join();
    assert_eq!(t.sem_value(id, 0), Ok(2), "they are no SEM_UNDO");
    assert_eq!(t.semop(id, &[(0, 0, unknown | NOWAIT)]), Err(Errno::AGAIN));
    let sleeper = asleep(|| assert_eq!(t.semop(id, &[(0, -3, unknown)]), Ok(())));
    t.semop(id, &[(0, 1, 0)]).unwrap();
    sleeper.join();
    Outcome::Pass
}
