//! P: permissions, of all three kinds.

use crate::caller::needs_capability;
use crate::harness::{Outcome, PAGE, Statement, Target, statement};
use crate::kinds::{KINDS, Kind};
use crate::memory::{peek, poke};
use crate::or_skip;
use crate::process::{
    CAP_IPC_OWNER, CAP_SYS_ADMIN, as_user, can_switch_users, child, child_as, keep_capabilities,
    shared_words,
};
use std::sync::atomic::Ordering::Relaxed;
use sysv::abi::*;
use sysv::{Errno, Result};

pub const STATEMENTS: &[Statement] = &[
    statement("P-1", one_class),
    statement("P-2", bits_of_get),
    statement("P-3", ipc_owner),
    statement("P-4", right_to_change),
    statement("P-5", stat_needs_read),
    statement("P-6", creator_keeps),
    statement("P-7", alter),
    statement("P-8", effective_user),
    statement("P-9", umask),
    statement("P-10", execute_bits),
    statement("P-11", owning_user_name_space),
];

/// Users and groups of the tests; nobody else has anything of theirs in the test's name space.
const OWNER: u32 = 61_001;
const CREATOR: u32 = 61_002;
const OTHER: u32 = 61_003;
const OWNER_GROUP: u32 = 62_001;
const CREATOR_GROUP: u32 = 62_002;
const OTHER_GROUP: u32 = 62_003;

/// What a class may do with an object.
pub type Allowed = (bool, bool);

/// Tries what needs read and what needs write permission, and IPC_STAT with it.
#[track_caller]
pub fn expect(t: &Target, kind: Kind, id: i32, (read, write): Allowed) {
    let answer = |allowed: bool| if allowed { Ok(()) } else { Err(Errno::ACCESS) };
    assert_eq!(kind.read(t, id), answer(read), "{kind:?}: reading");
    // An attach for writing reads as well.
    let write = write && (read || kind != Kind::Segment);
    assert_eq!(kind.write(t, id), answer(write), "{kind:?}: writing");
    assert_eq!(
        kind.perm(t, id).map(drop),
        answer(read),
        "{kind:?}: IPC_STAT"
    );
}

/// The permissions of `mode` in the class that is `shift` bits up.
fn class(mode: i32, shift: i32) -> Allowed {
    (mode >> shift & 4 != 0, mode >> shift & 2 != 0)
}

const MODES: [i32; 9] = [
    0o000, 0o077, 0o707, 0o770, 0o700, 0o070, 0o007, 0o462, 0o246,
];

fn one_class(t: &Target) -> Outcome {
    // Without another user there is still the owner's class.
    for kind in KINDS {
        for mode in MODES {
            let id = kind.create(t, mode);
            child(|| {
                keep_capabilities(&[]);
                expect(t, kind, id, class(mode, 6));
            })
            .join();
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    for kind in KINDS {
        for mode in MODES {
            let id = or_skip!(created_and_given(t, kind, mode));
            let (owner, group, others) = (class(mode, 6), class(mode, 3), class(mode, 0));
            let classes: [(u32, u32, &[u32], Allowed); 9] = [
                (OWNER, OTHER_GROUP, &[], owner),
                (OWNER, OWNER_GROUP, &[CREATOR_GROUP], owner),
                (CREATOR, OTHER_GROUP, &[], owner),
                (CREATOR, OWNER_GROUP, &[], owner),
                (OTHER, OWNER_GROUP, &[], group),
                (OTHER, CREATOR_GROUP, &[], group),
                (OTHER, OTHER_GROUP, &[OWNER_GROUP], group),
                (OTHER, OTHER_GROUP, &[62_009, CREATOR_GROUP], group),
                (OTHER, OTHER_GROUP, &[62_009], others),
            ];
            for (uid, gid, groups, allowed) in classes {
                or_skip!(as_user(uid, gid, groups, || expect(t, kind, id, allowed)));
            }
            let remove = || kind.remove(t, id).expect("IPC_RMID");
            or_skip!(as_user(CREATOR, CREATOR_GROUP, &[], remove));
        }
    }
    Outcome::Pass
}

/// An object that [`CREATOR`] has made and given to [`OWNER`], with `mode`.
fn created_and_given(t: &Target, kind: Kind, mode: i32) -> std::result::Result<i32, &'static str> {
    let id = shared_words(1);
    as_user(CREATOR, CREATOR_GROUP, &[], || {
        let made = kind.create(t, 0o600);
        kind.give(t, made, OWNER, OWNER_GROUP, mode as u32);
        id[0].store(i64::from(made), Relaxed);
    })?;
    Ok(id[0].load(Relaxed) as i32)
}

fn bits_of_get(t: &Target) -> Outcome {
    for kind in KINDS {
        for mode in [0o000, 0o400, 0o200, 0o600, 0o500, 0o077, 0o477] {
            let key = t.key();
            let id = kind.get(t, key, IPC_CREAT | mode).expect("create");
            child(|| {
                keep_capabilities(&[]);
                // One process is owner, the class that counts; the triads of the flags are one.
                for flags in 0..0o1000 {
                    let wanted = (flags >> 6 | flags >> 3 | flags) & 7;
                    let granted = mode >> 6;
                    let expected = if wanted & !granted == 0 {
                        Ok(id)
                    } else {
                        Err(Errno::ACCESS)
                    };
                    for more in [0, IPC_CREAT] {
                        let found = kind.get(t, key, flags | more);
                        assert_eq!(found, expected, "{kind:?} {mode:o} {flags:o}");
                    }
                }
            })
            .join();
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    // The class is the caller's, not always the owner's.
    for kind in KINDS {
        let key = t.key();
        let id = kind.get(t, key, IPC_CREAT | 0o604).expect("create");
        or_skip!(as_user(OTHER, OTHER_GROUP, &[], || {
            assert_eq!(kind.get(t, key, 0o400), Ok(id));
            assert_eq!(kind.get(t, key, 0o044), Ok(id));
            assert_eq!(kind.get(t, key, 0o600), Err(Errno::ACCESS));
            assert_eq!(kind.get(t, key, 0), Ok(id));
        }));
        kind.remove(t, id).expect("IPC_RMID");
    }
    Outcome::Pass
}

fn ipc_owner(t: &Target) -> Outcome {
    or_skip!(needs_capability(CAP_IPC_OWNER));
    or_skip!(needs_capability(CAP_SYS_ADMIN));
    for kind in KINDS {
        let key = t.key();
        or_skip!(as_user(OWNER, OWNER_GROUP, &[], || {
            kind.get(t, key, IPC_CREAT).expect("create");
        }));
        let id = kind.get(t, key, 0).expect("the object");
        child(|| {
            keep_capabilities(&[CAP_IPC_OWNER]);
            expect(t, kind, id, (true, true));
            assert_eq!(kind.get(t, key, 0o666), Ok(id));
            let index = id % IPCMNI;
            assert!(kind.status(t, index, kind.stat_command()).is_ok());
            let perm = kind.perm(t, id).expect("IPC_STAT");
            assert_eq!(kind.set(t, id, &perm), Err(Errno::PERM), "{kind:?}");
            assert_eq!(kind.remove(t, id), Err(Errno::PERM), "{kind:?}");
        })
        .join();
        child(|| {
            keep_capabilities(&[]);
            expect(t, kind, id, (false, false));
            assert_eq!(kind.get(t, key, 0o400), Err(Errno::ACCESS));
        })
        .join();
        kind.remove(t, id).expect("IPC_RMID");
    }
    Outcome::Pass
}

fn right_to_change(t: &Target) -> Outcome {
    // The owner has the right whatever the mode, also without any capability.
    for kind in KINDS {
        let id = kind.create(t, 0);
        let perm = kind.perm_any(t, id);
        child(|| {
            keep_capabilities(&[]);
            kind.set(t, id, &perm).expect("IPC_SET");
            kind.remove(t, id).expect("IPC_RMID");
        })
        .join();
    }
    for kind in KINDS {
        let change = |id, mode| {
            let perm = ipc_perm {
                uid: OWNER,
                gid: OWNER_GROUP,
                mode,
                ..Default::default()
            };
            kind.set(t, id, &perm)
        };
        let id = or_skip!(created_and_given(t, kind, 0o777));
        // Everybody may do everything else.
        or_skip!(as_user(OTHER, OWNER_GROUP, &[CREATOR_GROUP], || {
            expect(t, kind, id, (true, true));
            assert_eq!(change(id, 0o777), Err(Errno::PERM), "{kind:?}");
            assert_eq!(kind.remove(t, id), Err(Errno::PERM), "{kind:?}");
        }));
        or_skip!(as_user(OWNER, OTHER_GROUP, &[], || change(id, 0).expect("IPC_SET")));
        or_skip!(as_user(CREATOR, OTHER_GROUP, &[], || change(id, 0)
            .expect("IPC_SET")));
        child(|| {
            keep_capabilities(&[]);
            assert_eq!(change(id, 0), Err(Errno::PERM), "uid 0 alone is nothing");
            assert_eq!(
                kind.remove(t, id),
                Err(Errno::PERM),
                "uid 0 alone is nothing"
            );
        })
        .join();
        if let Err(reason) = needs_capability(CAP_SYS_ADMIN) {
            let remove = || kind.remove(t, id).expect("IPC_RMID");
            or_skip!(as_user(CREATOR, CREATOR_GROUP, &[], remove));
            return Outcome::Skip(reason);
        }
        child(|| {
            keep_capabilities(&[CAP_SYS_ADMIN]);
            expect(t, kind, id, (false, false));
            change(id, 0).expect("IPC_SET");
            kind.remove(t, id).expect("IPC_RMID");
        })
        .join();
        assert_eq!(kind.perm(t, id), Err(Errno::INVAL));
    }
    Outcome::Pass
}

fn stat_needs_read(t: &Target) -> Outcome {
    for kind in KINDS {
        for (mode, allowed) in [(0o400, true), (0o377, false), (0o000, false), (0o600, true)] {
            let id = kind.create(t, mode);
            child(|| {
                keep_capabilities(&[]);
                let expected = if allowed { Ok(()) } else { Err(Errno::ACCESS) };
                assert_eq!(
                    kind.perm(t, id).map(drop),
                    expected,
                    "{kind:?} {mode:o} IPC_STAT"
                );
                let by_index = kind.status(t, id % IPCMNI, kind.stat_command());
                assert_eq!(by_index.map(drop), expected, "{kind:?} {mode:o} *_STAT");
            })
            .join();
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    Outcome::Pass
}

fn creator_keeps(t: &Target) -> Outcome {
    for kind in KINDS {
        or_skip!(as_user(CREATOR, CREATOR_GROUP, &[], || {
            let id = kind.create(t, 0o600);
            kind.give(t, id, OWNER, OWNER_GROUP, 0o600);
            expect(t, kind, id, (true, true));
            kind.give(t, id, OWNER, OWNER_GROUP, 0o400);
            expect(t, kind, id, (true, false));
            let perm = kind.perm(t, id).expect("IPC_STAT");
            assert_eq!((perm.uid, perm.gid), (OWNER, OWNER_GROUP), "{kind:?}");
            assert_eq!((perm.cuid, perm.cgid), (CREATOR, CREATOR_GROUP), "{kind:?}");
            // The owner's class, not that of the others.
            kind.give(t, id, OWNER, OWNER_GROUP, 0o066);
            expect(t, kind, id, (false, false));
            kind.remove(t, id).expect("IPC_RMID");
        }));
    }
    Outcome::Pass
}

fn alter(t: &Target) -> Outcome {
    for (mode, read, write) in [
        (0o400, true, false),
        (0o200, false, true),
        (0o600, true, true),
    ] {
        let id = t.semget(IPC_PRIVATE, 2, mode).expect("semget");
        child(|| {
            keep_capabilities(&[]);
            let answer = |allowed: bool| if allowed { Ok(()) } else { Err(Errno::ACCESS) };
            for command in [GETVAL, GETPID, GETNCNT, GETZCNT] {
                let got = t.semctl(id, 0, command, 0).map(drop);
                assert_eq!(got, answer(read), "{mode:o} {command}");
            }
            assert_eq!(
                t.sem_values(id, 2).map(drop),
                answer(read),
                "{mode:o} GETALL"
            );
            assert_eq!(t.semop(id, &[(0, 0, 0)]), answer(read), "{mode:o} zero");
            assert_eq!(t.sem_set_value(id, 1, 1), answer(write), "{mode:o} SETVAL");
            assert_eq!(
                t.sem_set_values(id, &[1, 1]),
                answer(write),
                "{mode:o} SETALL"
            );
            assert_eq!(t.semop(id, &[(0, 1, 0)]), answer(write), "{mode:o} add");
            let subtract = t.semop(id, &[(0, -1, IPC_NOWAIT as i16)]);
            assert_eq!(subtract, answer(write), "{mode:o} subtract");
        })
        .join();
        t.sem_remove(id).expect("IPC_RMID");
    }
    Outcome::Pass
}

/// `seteuid`, which moves the capabilities with it.
fn effective(uid: u32) {
    // SAFETY: takes a number.
    let set = unsafe { libc::seteuid(uid) };
    assert_eq!(set, 0, "seteuid: {}", std::io::Error::last_os_error());
}

fn effective_user(t: &Target) -> Outcome {
    if !can_switch_users() {
        return Outcome::Skip("needs root, to switch to other users");
    }
    for kind in KINDS {
        child(|| {
            effective(OWNER);
            let key = t.key();
            let id = kind.get(t, key, IPC_CREAT | 0o600).expect("create");
            let perm = kind.perm(t, id).expect("IPC_STAT");
            assert_eq!(
                (perm.uid, perm.cuid),
                (OWNER, OWNER),
                "the effective user creates"
            );
            expect(t, kind, id, (true, true));
            effective(0);
            effective(OTHER);
            expect(t, kind, id, (false, false));
            assert_eq!(kind.get(t, key, 0), Ok(id));
            assert_eq!(kind.get(t, key, 0o400), Err(Errno::ACCESS));
            assert_eq!(kind.remove(t, id), Err(Errno::PERM));
            effective(0);
            effective(OWNER);
            expect(t, kind, id, (true, true));
            kind.remove(t, id).expect("IPC_RMID");
        })
        .join();
    }
    // What is attached stays attached and can be detached, but not attached once more.
    child(|| {
        effective(OWNER);
        let id = t.segment(PAGE);
        let base = t.shmat(id, 0).expect("shmat");
        effective(0);
        effective(OTHER);
        poke(base, 5);
        assert_eq!(peek(base), 5);
        assert_eq!(t.shmat(id, SHM_RDONLY), Err(Errno::ACCESS));
        t.shmdt(base).expect("shmdt");
        effective(0);
        effective(OWNER);
        t.shm_remove(id).expect("IPC_RMID");
    })
    .join();
    Outcome::Pass
}

fn umask(t: &Target) -> Outcome {
    // SAFETY: takes a number.
    unsafe { libc::umask(0o777) };
    for kind in KINDS {
        for mode in [0o666, 0o777, 0o641] {
            let id = kind.create(t, mode);
            assert_eq!(kind.perm_any(t, id).mode, mode as u32, "{kind:?}");
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    Outcome::Pass
}

fn execute_bits(t: &Target) -> Outcome {
    for kind in KINDS {
        for (mode, allowed) in [
            (0o111, (false, false)),
            (0o500, (true, false)),
            (0o711, (true, true)),
        ] {
            let created = kind.create(t, mode);
            let changed = kind.create(t, 0);
            let perm = ipc_perm {
                mode: mode as u32,
                ..kind.perm_any(t, changed)
            };
            kind.set(t, changed, &perm).expect("IPC_SET");
            for id in [created, changed] {
                assert_eq!(kind.perm_any(t, id).mode, mode as u32, "{kind:?}");
                child(|| {
                    keep_capabilities(&[]);
                    expect(t, kind, id, allowed);
                })
                .join();
                kind.remove(t, id).expect("IPC_RMID");
            }
        }
    }
    Outcome::Pass
}

fn owning_user_name_space(t: &Target) -> Outcome {
    let objects: Vec<(Kind, i32)> = KINDS.map(|kind| (kind, kind.create(t, 0))).to_vec();
    if t.own_name_space {
        // This process has every capability where its IPC name space belongs.
        for &(kind, id) in &objects {
            expect(t, kind, id, (true, true));
        }
    }
    let reached = shared_words(1);
    child(|| {
        // SAFETY: takes a number; the process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
            return;
        }
        reached[0].store(1, Relaxed);
        // Every capability again, but in a user name space that owns nothing here.
        for &(kind, id) in &objects {
            expect(t, kind, id, (false, false));
        }
    })
    .join();
    if reached[0].load(Relaxed) == 0 {
        return Outcome::Skip("no user name space can be made here");
    }
    let stranger = child_as(OTHER, OTHER_GROUP, &[], || {
        // SAFETY: takes a number; the process has one thread.
        let left = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
        assert_eq!(left, 0, "unshare: {}", std::io::Error::last_os_error());
        for &(kind, id) in &objects {
            let refused: Result<()> = Err(Errno::PERM);
            assert_eq!(kind.remove(t, id), refused, "{kind:?}");
        }
    });
    or_skip!(stranger).join();
    Outcome::Pass
}
