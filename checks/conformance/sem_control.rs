//! EC: `semctl`.

use crate::caller::{Fenced, Stamp, asleep, my_pid, other_ids, still_asleep, without_capabilities};
use crate::harness::{BAD, Outcome, Statement, Target};
use crate::or_skip;
use crate::process::{child, wait_past};
use crate::sem_get::limits;
use crate::sem_operate::{last_pid, set_of, state};
use crate::sem_wait::waiting;
use sysv::abi::*;
use sysv::{Errno, Result};

/// The statements about `semctl`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "EC-1",
        run: one_value,
    },
    Statement {
        id: "EC-2",
        run: set_pids,
    },
    Statement {
        id: "EC-3",
        run: times,
    },
    Statement {
        id: "EC-4",
        run: all_values,
    },
    Statement {
        id: "EC-5",
        run: bad_values,
    },
    Statement {
        id: "EC-6",
        run: number_outside,
    },
    Statement {
        id: "EC-7",
        run: unknown_command,
    },
    Statement {
        id: "EC-8",
        run: bad_pointers,
    },
    Statement {
        id: "EC-9",
        run: set,
    },
    Statement {
        id: "EC-10",
        run: limits_and_usage,
    },
    Statement {
        id: "EC-11",
        run: status_by_index,
    },
    Statement {
        id: "EC-12",
        run: permission_by_index,
    },
    Statement {
        id: "EC-13",
        run: remove,
    },
    Statement {
        id: "EC-14",
        run: setting_wakes,
    },
    Statement {
        id: "EC-15",
        run: pid_and_counts,
    },
];

/// The index in an id.
fn index(id: i32) -> i32 {
    id % IPCMNI
}

/// `SEM_STAT` or `SEM_STAT_ANY`: the id and the status.
fn by_index(t: &Target, index: i32, command: i32) -> Result<(i32, semid_ds)> {
    let mut status = semid_ds::default();
    let id = t.semctl_with(index, 0, command, &mut status)?;
    Ok((id, status))
}

/// `semctl` with an address as the argument.
fn at_address(t: &Target, id: i32, number: i32, command: i32, address: usize) -> Result<i32> {
    // SAFETY: callers give an address that is none of ours, or that of `Fenced` memory, into
    // which no references exist and beyond which is none of ours.
    unsafe { t.calls.semctl(id, number, command, address) }
}

fn one_value(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 2, 3]);
    for value in [0, 1, 77, i32::from(SEMVMX)] {
        assert_eq!(t.semctl(id, 1, SETVAL, value), Ok(0));
        assert_eq!(t.semctl(id, 1, GETVAL, 0), Ok(value));
        assert_eq!(t.sem_values(id, 3), Ok(vec![1, value as u16, 3]));
    }
    assert_eq!((t.sem_value(id, 0), t.sem_value(id, 2)), (Ok(1), Ok(3)));
    Outcome::Pass
}

fn set_pids(t: &Target) -> Outcome {
    let id = t.set(3);
    let setter = child(|| t.sem_set_value(id, 1, 5).unwrap());
    let pid = setter.pid();
    setter.join();
    assert_eq!(state(t, id).1, [0, pid, 0]);
    let setter = child(|| t.sem_set_values(id, &[1, 2, 3]).unwrap());
    let pid = setter.pid();
    setter.join();
    assert_eq!(state(t, id).1, [pid; 3]);
    t.sem_set_value(id, 2, 0).unwrap();
    assert_eq!(state(t, id).1, [pid, pid, my_pid()]);
    Outcome::Pass
}

fn times(t: &Target) -> Outcome {
    let ids = [t.set(1), t.set(1), t.set(1)];
    for id in ids {
        t.semop(id, &[(0, 1, 0)]).unwrap();
    }
    let before = ids.map(|id| t.sem_stat(id).unwrap());
    wait_past(before[2].sem_otime);
    let stamp = Stamp::now();
    t.sem_set_value(ids[0], 0, 3).unwrap();
    t.sem_set_values(ids[1], &[3]).unwrap();
    t.sem_set(ids[2], &before[2]).unwrap();
    for (id, before) in ids.into_iter().zip(before) {
        let after = t.sem_stat(id).unwrap();
        stamp.covers(after.sem_ctime);
        assert_eq!(after.sem_otime, before.sem_otime);
        assert!(before.sem_otime < after.sem_ctime && before.sem_otime != 0);
    }
    Outcome::Pass
}

fn all_values(t: &Target) -> Outcome {
    let id = t.set(3);
    for number in [0, 2, 3, 9999, -1] {
        let values = [1u16, 2, 3].map(|value| value + number as u16 % 100);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_ne_bytes())
            .collect();
        // Memory for three values: reading or writing a fourth faults.
        let buffer = Fenced::new(6);
        buffer.write(0, &bytes);
        let address = buffer.address() as usize;
        assert_eq!(at_address(t, id, number, SETALL, address), Ok(0));
        assert_eq!(
            [0, 1, 2].map(|number| t.sem_value(id, number)),
            values.map(|v| Ok(v.into()))
        );
        buffer.write(0, &[0xff; 6]);
        assert_eq!(at_address(t, id, number, GETALL, address), Ok(0));
        assert_eq!(buffer.read(), bytes);
    }
    Outcome::Pass
}

fn bad_values(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 2, 3]);
    let before = state(t, id);
    for value in [-1, i32::from(SEMVMX) + 1, i32::MIN, i32::MAX, 0x1_0000] {
        assert_eq!(t.semctl(id, 1, SETVAL, value), Err(Errno::RANGE), "{value}");
    }
    for values in [[SEMVMX + 1, 5, 5], [5, u16::MAX, 5], [5, 5, SEMVMX + 1]] {
        assert_eq!(t.sem_set_values(id, &values), Err(Errno::RANGE));
    }
    assert_eq!(state(t, id), before);
    assert_eq!(t.sem_set_values(id, &[SEMVMX, 0, SEMVMX]), Ok(()));
    Outcome::Pass
}

fn number_outside(t: &Target) -> Outcome {
    let id = t.set(3);
    for command in [GETVAL, SETVAL, GETPID, GETNCNT, GETZCNT] {
        for number in [3, -1, i32::MAX, i32::MIN, 0x1_0000] {
            assert_eq!(t.semctl(id, number, command, 0), Err(Errno::INVAL));
        }
        assert!(t.semctl(id, 2, command, 0).is_ok());
    }
    Outcome::Pass
}

fn unknown_command(t: &Target) -> Outcome {
    let id = t.set(1);
    let mut buffer = semid_ds::default();
    for command in [-1, 4, 10, 21, 99, i32::MAX, i32::MIN] {
        assert_eq!(
            t.semctl_with(id, 0, command, &mut buffer),
            Err(Errno::INVAL),
            "{command}"
        );
    }
    Outcome::Pass
}

fn bad_pointers(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 2, 3]);
    let before = state(t, id);
    let short = Fenced::new(4);
    for address in [0, BAD, short.address() as usize] {
        for command in [IPC_STAT, IPC_SET, GETALL, SETALL] {
            assert_eq!(
                at_address(t, id, 0, command, address),
                Err(Errno::FAULT),
                "{command}"
            );
        }
    }
    let read_only = Fenced::new(size_of::<semid_ds>());
    read_only.protect(libc::PROT_READ);
    for command in [IPC_STAT, GETALL] {
        let address = read_only.address() as usize;
        assert_eq!(
            at_address(t, id, 0, command, address),
            Err(Errno::FAULT),
            "{command}"
        );
    }
    assert_eq!(state(t, id), before);
    Outcome::Pass
}

fn set(t: &Target) -> Outcome {
    let id = t.semget(t.key(), 2, IPC_CREAT | 0o600).unwrap();
    let before = t.sem_stat(id).unwrap();
    let perm = before.sem_perm;
    let (uid, gid) = other_ids().unwrap_or((perm.uid, perm.gid));
    for (number, mode) in [(0, 0o624), (99, 0o640), (-1, 0o600)] {
        let mut wanted = semid_ds {
            sem_perm: ipc_perm {
                __key: perm.__key + 1,
                uid,
                gid,
                cuid: 77,
                cgid: 78,
                mode: 0o7_007_000 | mode,
                __seq: perm.__seq + 1,
                ..perm
            },
            sem_otime: 1,
            sem_ctime: 2,
            sem_nsems: 3,
            ..before
        };
        let stamp = Stamp::now();
        assert_eq!(t.semctl_with(id, number, IPC_SET, &mut wanted), Ok(0));
        let after = t.sem_stat(id).unwrap();
        stamp.covers(after.sem_ctime);
        let expected = semid_ds {
            sem_perm: ipc_perm {
                uid,
                gid,
                mode,
                ..perm
            },
            sem_ctime: after.sem_ctime,
            ..before
        };
        assert_eq!(after, expected);
    }
    Outcome::Pass
}

fn limits_and_usage(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let ask = |command| {
        let mut answer = seminfo::default();
        (
            t.semctl_with(0, 0, command, &mut answer)
                .expect("IPC_INFO or SEM_INFO"),
            answer,
        )
    };
    let use_of = |info: seminfo| (info.semusz, info.semaem);
    assert_eq!((ask(IPC_INFO).0, ask(SEM_INFO).0), (0, 0));
    assert_eq!(use_of(ask(SEM_INFO).1), (0, 0));
    let limits = limits(t);
    assert_eq!(limits.semvmx, i32::from(SEMVMX));
    assert!(limits.semmni > 0 && limits.semmns > 0);
    let refused = t.semget(IPC_PRIVATE, limits.semmsl + 1, 0o600);
    assert_eq!(refused, Err(Errno::INVAL), "semmsl is the limit of a set");

    let ids = [t.set(3), t.set(10), t.set(7)];
    assert_eq!(
        (ask(IPC_INFO).0, ask(SEM_INFO).0),
        (index(ids[2]), index(ids[2]))
    );
    assert_eq!(use_of(ask(SEM_INFO).1), (3, 20));
    let most = limits.semopm as usize;
    assert_eq!(
        t.semop(ids[0], &vec![(0, 0, 0); most + 1]),
        Err(Errno::TOOBIG)
    );
    assert_eq!(t.semop(ids[0], &vec![(0, 0, 0); most]), Ok(()));

    t.sem_remove(ids[2]).unwrap();
    assert_eq!(
        (ask(IPC_INFO).0, ask(SEM_INFO).0),
        (index(ids[1]), index(ids[1]))
    );
    assert_eq!(use_of(ask(SEM_INFO).1), (2, 13));
    Outcome::Pass
}

fn status_by_index(t: &Target) -> Outcome {
    let ids = [
        t.set(1),
        t.semget(t.key(), 2, IPC_CREAT | 0o640).unwrap(),
        t.set(3),
    ];
    t.semop(ids[1], &[(0, 1, 0)]).unwrap();
    for command in [SEM_STAT, SEM_STAT_ANY] {
        for id in ids {
            assert_eq!(
                by_index(t, index(id), command),
                Ok((id, t.sem_stat(id).unwrap()))
            );
        }
        assert_eq!(by_index(t, -1, command), Err(Errno::INVAL));
    }
    t.sem_remove(ids[1]).unwrap();
    if t.own_name_space {
        for command in [SEM_STAT, SEM_STAT_ANY] {
            for unused in [index(ids[1]), index(ids[2]) + 1, IPCMNI - 1] {
                assert_eq!(by_index(t, unused, command), Err(Errno::INVAL));
            }
        }
    }
    Outcome::Pass
}

fn permission_by_index(t: &Target) -> Outcome {
    let hidden = t.semget(IPC_PRIVATE, 1, 0o277).unwrap();
    let readable = t.semget(IPC_PRIVATE, 1, 0o400).unwrap();
    without_capabilities(|| {
        assert_eq!(by_index(t, index(hidden), SEM_STAT), Err(Errno::ACCESS));
        let (found, status) = by_index(t, index(hidden), SEM_STAT_ANY).expect("SEM_STAT_ANY");
        assert_eq!((found, status.sem_perm.mode), (hidden, 0o277));
        assert_eq!(
            by_index(t, index(readable), SEM_STAT).expect("SEM_STAT").0,
            readable
        );
    });
    Outcome::Pass
}

fn remove(t: &Target) -> Outcome {
    for number in [0, 1, 99, -1, i32::MIN] {
        let key = t.key();
        let id = t.semget(key, 1, IPC_CREAT | 0o600).unwrap();
        let sleeper = asleep(|| assert_eq!(t.semop(id, &[(0, -1, 0)]), Err(Errno::IDRM)));
        assert_eq!(at_address(t, id, number, IPC_RMID, BAD), Ok(0));
        assert_eq!(t.sem_stat(id), Err(Errno::INVAL));
        assert_eq!(t.semop(id, &[(0, 1, 0)]), Err(Errno::INVAL));
        assert_eq!(t.semget(key, 0, 0), Err(Errno::NOENT));
        sleeper.join();
    }
    Outcome::Pass
}

fn setting_wakes(t: &Target) -> Outcome {
    let at_once = |id| t.sem_set_values(id, &[0, 4]).unwrap();
    let one_by_one = |id| {
        t.sem_set_value(id, 0, 0).unwrap();
        t.sem_set_value(id, 1, 4).unwrap();
    };
    for change in [&at_once as &dyn Fn(i32), &one_by_one] {
        let id = set_of(t, &[1, 0]);
        let zero = asleep(|| assert_eq!(t.semop(id, &[(0, 0, 0)]), Ok(())));
        let small = asleep(|| assert_eq!(t.semop(id, &[(1, -3, 0)]), Ok(())));
        let large = asleep(|| assert_eq!(t.semop(id, &[(1, -5, 0)]), Err(Errno::IDRM)));
        let list = asleep(|| assert_eq!(t.semop(id, &[(0, 0, 0), (1, -1, 0)]), Ok(())));
        change(id);
        zero.join();
        small.join();
        list.join();
        still_asleep(&large);
        assert_eq!(t.sem_values(id, 2), Ok(vec![0, 0]));
        t.sem_remove(id).unwrap();
        large.join();
    }
    Outcome::Pass
}

fn pid_and_counts(t: &Target) -> Outcome {
    let id = set_of(t, &[1, 1]);
    assert_eq!(last_pid(t, id, 0), my_pid());
    let user = child(|| t.semop(id, &[(1, 1, 0)]).unwrap());
    let pid = user.pid();
    user.join();
    assert_eq!((last_pid(t, id, 0), last_pid(t, id, 1)), (my_pid(), pid));

    let increase = [(), ()].map(|()| asleep(|| t.semop(id, &[(0, -2, 0)]).unwrap()));
    let zero = asleep(|| t.semop(id, &[(0, 0, 0)]).unwrap());
    assert_eq!((waiting(t, id, 0), waiting(t, id, 1)), ((2, 1), (0, 0)));
    assert_eq!(last_pid(t, id, 0), my_pid(), "waiting is no operation yet");
    drop(increase);
    assert_eq!(waiting(t, id, 0), (0, 1));
    drop(zero);
    assert_eq!(waiting(t, id, 0), (0, 0));
    Outcome::Pass
}
