//! EG: `semget`.

use crate::caller::{Stamp, effective_ids};
use crate::harness::{Outcome, Statement, Target};
use crate::or_skip;
use sysv::Errno;
use sysv::abi::*;

/// The statements about `semget`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "EG-1",
        run: creates_and_finds,
    },
    Statement {
        id: "EG-2",
        run: too_many,
    },
    Statement {
        id: "EG-3",
        run: exclusive,
    },
    Statement {
        id: "EG-4",
        run: absent,
    },
    Statement {
        id: "EG-5",
        run: bad_counts,
    },
    Statement {
        id: "EG-6",
        run: initial_state,
    },
    Statement {
        id: "EG-7",
        run: no_more_sets,
    },
];

/// `IPC_INFO`.
pub fn limits(t: &Target) -> seminfo {
    let mut limits = seminfo::default();
    t.semctl_with(0, 0, IPC_INFO, &mut limits)
        .expect("IPC_INFO");
    limits
}

fn creates_and_finds(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.semget(key, 4, IPC_CREAT | 0o600).expect("a new key");
    for count in [0, 1, 3, 4] {
        assert_eq!(t.semget(key, count, 0), Ok(id));
        assert_eq!(t.semget(key, count, 0o600), Ok(id));
        assert_eq!(t.semget(key, count, IPC_CREAT | 0o600), Ok(id));
    }
    assert_eq!(t.sem_stat(id).unwrap().sem_nsems, 4);
    let first = t.semget(IPC_PRIVATE, 1, 0o600).expect("IPC_PRIVATE");
    let second = t.semget(IPC_PRIVATE, 1, 0o600).expect("IPC_PRIVATE again");
    assert!(first != second && first != id && second != id);
    Outcome::Pass
}

fn too_many(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.semget(key, 4, IPC_CREAT | 0o600).unwrap();
    for flags in [0, 0o600, IPC_CREAT | 0o600] {
        assert_eq!(t.semget(key, 5, flags), Err(Errno::INVAL));
        assert_eq!(t.semget(key, limits(t).semmsl, flags), Err(Errno::INVAL));
    }
    assert_eq!(t.semget(key, 4, 0), Ok(id));
    Outcome::Pass
}

fn exclusive(t: &Target) -> Outcome {
    let key = t.key();
    let id = t
        .semget(key, 2, IPC_CREAT | IPC_EXCL | 0o600)
        .expect("a new key");
    assert_eq!(
        t.semget(key, 2, IPC_CREAT | IPC_EXCL | 0o600),
        Err(Errno::EXIST)
    );
    assert_eq!(
        t.semget(key, 2, IPC_CREAT | 0o600),
        Ok(id),
        "only IPC_EXCL refuses"
    );
    Outcome::Pass
}

fn absent(t: &Target) -> Outcome {
    let key = t.key();
    for count in [0, 1] {
        assert_eq!(t.semget(key, count, 0), Err(Errno::NOENT));
        assert_eq!(t.semget(key, count, 0o600), Err(Errno::NOENT));
    }
    Outcome::Pass
}

fn bad_counts(t: &Target) -> Outcome {
    let most = limits(t).semmsl;
    for count in [0, -1, i32::MIN, most + 1, i32::MAX] {
        let key = t.key();
        assert_eq!(
            t.semget(key, count, IPC_CREAT | 0o600),
            Err(Errno::INVAL),
            "{count}"
        );
        assert_eq!(t.semget(key, 0, 0), Err(Errno::NOENT), "nothing was made");
        assert_eq!(
            t.semget(IPC_PRIVATE, count, 0o600),
            Err(Errno::INVAL),
            "{count}"
        );
    }
    let id = t.semget(IPC_PRIVATE, most, 0o600).expect("exactly SEMMSL");
    assert_eq!(t.sem_stat(id).unwrap().sem_nsems, most as u64);
    assert_eq!(t.semop(id, &[((most - 1) as u16, 1, 0)]), Ok(()));
    t.sem_remove(id).unwrap();
    Outcome::Pass
}

fn initial_state(t: &Target) -> Outcome {
    let stamp = Stamp::now();
    let key = t.key();
    let id = t
        .semget(key, 3, IPC_CREAT | IPC_EXCL | 0o4000 | 0o641)
        .expect("a new key");
    let status = t.sem_stat(id).expect("IPC_STAT");
    stamp.covers(status.sem_ctime);
    assert_eq!((status.sem_nsems, status.sem_otime), (3, 0));
    assert_eq!(t.sem_values(id, 3), Ok(vec![0, 0, 0]));
    for number in 0..3 {
        assert_eq!(t.sem_value(id, number), Ok(0));
        assert_eq!(t.semctl(id, number, GETPID, 0), Ok(0));
        assert_eq!(t.semctl(id, number, GETNCNT, 0), Ok(0));
        assert_eq!(t.semctl(id, number, GETZCNT, 0), Ok(0));
    }
    let perm = status.sem_perm;
    let (uid, gid) = effective_ids();
    assert_eq!(
        (perm.uid, perm.cuid, perm.gid, perm.cgid),
        (uid, uid, gid, gid)
    );
    assert_eq!((perm.__key, perm.mode), (key, 0o641));
    Outcome::Pass
}

/// ENOMEM would take all of the machine's memory. SEMMNS is out of reach unless it can be
/// lowered, which L-7 does; the clause about SEMMNI is checked.
fn no_more_sets(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let mut ids = Vec::new();
    for _ in 0..limits(t).semmni {
        ids.push(
            t.semget(IPC_PRIVATE, 1, 0o600)
                .expect("fewer than SEMMNI sets exist"),
        );
    }
    assert_eq!(t.semget(IPC_PRIVATE, 1, 0o600), Err(Errno::NOSPC));
    assert_eq!(t.semget(t.key(), 1, IPC_CREAT | 0o600), Err(Errno::NOSPC));
    t.sem_remove(ids[ids.len() / 2]).expect("IPC_RMID");
    t.semget(IPC_PRIVATE, 1, 0o600)
        .expect("a removal makes room");
    assert_eq!(t.semget(IPC_PRIVATE, 1, 0o600), Err(Errno::NOSPC));
    Outcome::Pass
}
