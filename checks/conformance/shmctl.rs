//! SC: `shmctl`.

use crate::caller::{in_first_user_name_space, needs_capability};
use crate::harness::{BAD, Outcome, PAGE, Statement, Target, now, statement};
use crate::kinds::{Kind, shmctl_bad, sysctl};
use crate::memory::{map, peek, poke, protect, unmap};
use crate::or_skip;
use crate::process::{
    CAP_IPC_LOCK, Gate, as_user, can_switch_users, child, child_as, keep_capabilities, wait_past,
};
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("SC-1", stat),
    statement("SC-2", set),
    statement("SC-3", set_nobody),
    statement("SC-4", unknown_command),
    statement("SC-5", bad_buffer),
    statement("SC-6", lock),
    statement("SC-7", limits),
    statement("SC-8", usage),
    statement("SC-9", by_index),
    statement("SC-10", permission_by_index),
    statement("SC-11", right_to_lock),
    statement("SC-12", overflow),
];

fn stat(t: &Target) -> Outcome {
    // SAFETY: no arguments.
    let (uid, gid) = (unsafe { libc::geteuid() }, unsafe { libc::getegid() });
    let key = t.key();
    let created = now();
    let id = t.shmget(key, 5001, IPC_CREAT | 0o642).expect("shmget");
    wait_past(created);
    // Forked before there is anything to inherit, so that what it does itself is the last thing.
    let go = Gate::new();
    let other = child(|| {
        go.wait();
        let own = t.shmat(id, 0).expect("shmat");
        t.shmdt(own).expect("shmdt");
    });
    let last = other.pid();
    let base = t.shmat(id, 0).expect("shmat");
    t.shmat(id, SHM_RDONLY).expect("shmat");
    let attached = t.shm_stat(id).expect("IPC_STAT").shm_atime;
    go.open();
    other.join();
    let status = t.shm_stat(id).expect("IPC_STAT");
    let expected = ipc_perm {
        __key: key,
        uid,
        gid,
        cuid: uid,
        cgid: gid,
        mode: 0o642,
        __seq: (id / IPCMNI) as u16,
        ..Default::default()
    };
    assert_eq!(status.shm_perm, expected);
    assert_eq!((status.shm_segsz, status.shm_nattch), (5001, 2));
    assert_eq!(
        (status.shm_cpid, status.shm_lpid),
        (std::process::id() as i32, last)
    );
    assert!((created..=attached).contains(&status.shm_ctime));
    assert!(status.shm_atime >= attached && status.shm_dtime >= attached);
    t.shmctl(id, SHM_LOCK).expect("SHM_LOCK");
    assert_eq!(
        t.shm_stat(id).expect("IPC_STAT").shm_perm.mode,
        0o642 | SHM_LOCKED
    );
    t.shm_remove(id).expect("IPC_RMID");
    let both = 0o642 | SHM_LOCKED | SHM_DEST;
    assert_eq!(t.shm_stat(id).expect("IPC_STAT").shm_perm.mode, both);
    t.shmctl(id, SHM_UNLOCK).expect("SHM_UNLOCK");
    assert_eq!(
        t.shm_stat(id).expect("IPC_STAT").shm_perm.mode,
        0o642 | SHM_DEST
    );
    t.shmdt(base).expect("shmdt");
    Outcome::Pass
}

fn set(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, PAGE, IPC_CREAT | 0o600).expect("shmget");
    let before = t.shm_stat(id).expect("IPC_STAT");
    wait_past(before.shm_ctime);
    // Other users have numbers here only where the process is root over them.
    let (uid, gid) = if can_switch_users() {
        (61_001, 62_001)
    } else {
        (before.shm_perm.uid, before.shm_perm.gid)
    };
    let mut wanted = shmid_ds {
        shm_perm: ipc_perm {
            __key: 77,
            uid,
            gid,
            cuid: 5,
            cgid: 6,
            mode: 0o7777_0000 | SHM_DEST | SHM_LOCKED | 0o421,
            __seq: 9,
            ..Default::default()
        },
        shm_segsz: 1,
        shm_atime: 2,
        shm_dtime: 3,
        shm_ctime: 4,
        shm_cpid: 5,
        shm_lpid: 6,
        shm_nattch: 7,
        ..Default::default()
    };
    let start = now();
    t.shm_set(id, &wanted).expect("IPC_SET");
    let end = now();
    let after = t.shm_stat(id).expect("IPC_STAT");
    assert!(
        (start..=end).contains(&after.shm_ctime),
        "{start} {end} {after:?}"
    );
    let perm = ipc_perm {
        uid,
        gid,
        mode: 0o421,
        ..before.shm_perm
    };
    let expected = shmid_ds {
        shm_perm: perm,
        shm_ctime: after.shm_ctime,
        ..before
    };
    assert_eq!(after, expected);
    assert_eq!(t.shmget(key, 0, 0), Ok(id));
    // Bits that are set stay set, whatever the buffer has.
    t.shmctl(id, SHM_LOCK).expect("SHM_LOCK");
    wanted.shm_perm.mode = 0o600;
    t.shm_set(id, &wanted).expect("IPC_SET");
    assert_eq!(
        t.shm_stat(id).expect("IPC_STAT").shm_perm.mode,
        0o600 | SHM_LOCKED
    );
    t.shm_remove(id).expect("IPC_RMID");
    Outcome::Pass
}

fn set_nobody(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let before = t.shm_stat(id).expect("IPC_STAT");
    for (uid, gid) in [
        (u32::MAX, before.shm_perm.gid),
        (before.shm_perm.uid, u32::MAX),
    ] {
        let perm = ipc_perm {
            uid,
            gid,
            mode: 0o777,
            ..Default::default()
        };
        let wanted = shmid_ds {
            shm_perm: perm,
            ..Default::default()
        };
        assert_eq!(t.shm_set(id, &wanted), Err(Errno::INVAL), "{uid} {gid}");
    }
    assert_eq!(t.shm_stat(id).expect("IPC_STAT"), before);
    Outcome::Pass
}

fn unknown_command(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    for command in [4, 10, 16, 99, 1000, i32::MAX, -1, i32::MIN] {
        let mut status = shmid_ds::default();
        assert_eq!(
            t.shmctl_with(id, command, &mut status),
            Err(Errno::INVAL),
            "{command}"
        );
        assert_eq!(status, shmid_ds::default(), "{command}");
    }
    assert!(t.shm_stat(id).is_ok());
    Outcome::Pass
}

fn bad_buffer(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let before = t.shm_stat(id).expect("IPC_STAT");
    let pages = map(2);
    unmap(pages.wrapping_add(PAGE), 1);
    let across_the_end = pages as usize + PAGE - 16;
    for address in [BAD, 0, 8, across_the_end] {
        for command in [IPC_STAT, IPC_SET] {
            let answer = shmctl_bad(t, id, command, address);
            assert_eq!(answer, Err(Errno::FAULT), "{command} {address:#x}");
        }
    }
    assert_eq!(protect(pages, 1, libc::PROT_READ), 0);
    assert_eq!(
        shmctl_bad(t, id, IPC_STAT, pages as usize),
        Err(Errno::FAULT),
        "read-only"
    );
    assert_eq!(peek(pages), 0);
    assert_eq!(t.shm_stat(id).expect("IPC_STAT"), before);
    Outcome::Pass
}

fn lock(t: &Target) -> Outcome {
    let id = t.segment(PAGE);
    let locked = || t.shm_stat(id).expect("IPC_STAT").shm_perm.mode & SHM_LOCKED != 0;
    assert!(!locked());
    for (command, expected) in [
        (SHM_LOCK, true),
        (SHM_LOCK, true),
        (SHM_UNLOCK, false),
        (SHM_UNLOCK, false),
        (SHM_LOCK, true),
    ] {
        assert_eq!(shmctl_bad(t, id, command, BAD), Ok(0), "{command}");
        assert_eq!(locked(), expected, "{command}");
    }
    let base = t.shmat(id, 0).expect("shmat");
    poke(base, 1);
    Outcome::Pass
}

fn limits(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let info = || {
        let mut info = shminfo::default();
        let answer = t.shmctl_with(0, IPC_INFO, &mut info).expect("IPC_INFO");
        (answer, info)
    };
    let (highest, limits) = info();
    assert_eq!((highest, limits.shmmin), (0, 1), "nothing is there yet");
    if t.is_kernel {
        let all = [
            ("shmmax", limits.shmmax),
            ("shmmni", limits.shmmni),
            ("shmall", limits.shmall),
        ];
        for (name, limit) in all {
            assert_eq!(or_skip!(sysctl(t, name)), limit.to_string(), "{name}");
        }
    }
    let ids: Vec<i32> = (0..5).map(|_| t.segment(PAGE)).collect();
    assert_eq!(info().0, ids[4] % IPCMNI);
    t.shm_remove(ids[2]).expect("IPC_RMID");
    assert_eq!(info().0, ids[4] % IPCMNI);
    t.shm_remove(ids[4]).expect("IPC_RMID");
    assert_eq!(info().0, ids[3] % IPCMNI);
    Outcome::Pass
}

fn usage(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let info = || {
        let mut info = shm_info::default();
        let answer = t.shmctl_with(0, SHM_INFO, &mut info).expect("SHM_INFO");
        (answer, info)
    };
    assert_eq!(info(), (0, shm_info::default()), "nothing is there yet");
    let big = t.segment(10 * PAGE - 5);
    let small = t.segment(1);
    let (highest, usage) = info();
    assert_eq!(highest, small % IPCMNI);
    assert_eq!((usage.used_ids, usage.shm_tot), (2, 11));
    assert_eq!(
        usage.shm_rss + usage.shm_swp,
        0,
        "untouched pages take no room"
    );
    let base = t.shmat(big, 0).expect("shmat");
    for page in [0, 3, 9] {
        poke(base.wrapping_add(page * PAGE), 1);
    }
    // Nothing here can drive a page into swap; wherever the three are, they are counted.
    let (_, usage) = info();
    assert_eq!(usage.shm_rss + usage.shm_swp, 3, "{usage:?}");
    t.shm_remove(small).expect("IPC_RMID");
    let (highest, usage) = info();
    assert_eq!(
        (highest, usage.used_ids, usage.shm_tot),
        (big % IPCMNI, 1, 10)
    );
    Outcome::Pass
}

fn by_index(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.shmget(key, 7777, IPC_CREAT | 0o600).expect("shmget");
    let expected = t.shm_stat(id).expect("IPC_STAT");
    for command in [SHM_STAT, SHM_STAT_ANY] {
        let mut status = shmid_ds::default();
        assert_eq!(t.shmctl_with(id % IPCMNI, command, &mut status), Ok(id));
        assert_eq!(status, expected, "{command}");
        assert_eq!(
            shmctl_bad(t, id % IPCMNI, command, BAD),
            Err(Errno::FAULT),
            "{command}"
        );
    }
    t.shm_remove(id).expect("IPC_RMID");
    if t.own_name_space {
        for index in [id % IPCMNI, 100, IPCMNI - 1] {
            for command in [SHM_STAT, SHM_STAT_ANY] {
                let answer = t.shmctl_with(index, command, &mut shmid_ds::default());
                assert_eq!(answer, Err(Errno::INVAL), "{command} {index}");
            }
        }
    }
    Outcome::Pass
}

fn permission_by_index(t: &Target) -> Outcome {
    for (mode, allowed) in [(0o000, false), (0o377, false), (0o400, true)] {
        let id = t.shmget(IPC_PRIVATE, PAGE, mode).expect("shmget");
        child(|| {
            keep_capabilities(&[]);
            let expected = if allowed { Ok(id) } else { Err(Errno::ACCESS) };
            let mut status = shmid_ds::default();
            assert_eq!(
                t.shmctl_with(id % IPCMNI, SHM_STAT, &mut status),
                expected,
                "{mode:o}"
            );
            assert_eq!(
                t.shmctl_with(id % IPCMNI, SHM_STAT_ANY, &mut status),
                Ok(id)
            );
            assert_eq!(status.shm_segsz, PAGE as u64);
            t.shmctl_with(0, IPC_INFO, &mut shminfo::default())
                .expect("IPC_INFO");
            t.shmctl_with(0, SHM_INFO, &mut shm_info::default())
                .expect("SHM_INFO");
        })
        .join();
        t.shm_remove(id).expect("IPC_RMID");
    }
    let id = t.shmget(IPC_PRIVATE, PAGE, 0o600).expect("shmget");
    or_skip!(as_user(61_001, 62_001, &[], || {
        let by_index = |any| {
            let command = if any { SHM_STAT_ANY } else { SHM_STAT };
            Kind::Segment
                .status(t, id % IPCMNI, command)
                .map(|(id, _)| id)
        };
        assert_eq!(
            (by_index(false), by_index(true)),
            (Err(Errno::ACCESS), Ok(id))
        );
        t.shmctl_with(0, IPC_INFO, &mut shminfo::default())
            .expect("IPC_INFO");
        t.shmctl_with(0, SHM_INFO, &mut shm_info::default())
            .expect("SHM_INFO");
    }));
    Outcome::Pass
}

/// How much this process may lock in memory, in bytes.
fn lockable_now() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writing.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    assert_eq!(got, 0);
    limit.rlim_cur
}

/// Sets how much this process may lock in memory.
fn lockable(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: `limit` is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
}

fn right_to_lock(t: &Target) -> Outcome {
    let id = t.segment(16 * PAGE);
    child(|| {
        keep_capabilities(&[]);
        // What other processes of the user have locked counts as well, so the limit that lets it
        // through is not tried to the byte.
        if lockable_now() >= 1 << 20 {
            assert_eq!(t.shmctl(id, SHM_LOCK), Ok(0));
            assert_eq!(t.shmctl(id, SHM_UNLOCK), Ok(0));
        }
        lockable(16 * PAGE as u64 - 1);
        assert_eq!(t.shmctl(id, SHM_LOCK), Err(Errno::NOMEM));
        lockable(0);
        assert_eq!(t.shmctl(id, SHM_LOCK), Err(Errno::PERM));
        assert_eq!(
            t.shm_stat(id).expect("IPC_STAT").shm_perm.mode & SHM_LOCKED,
            0
        );
    })
    .join();
    let stranger = child_as(61_001, 62_001, &[], || {
        for command in [SHM_LOCK, SHM_UNLOCK] {
            assert_eq!(t.shmctl(id, command), Err(Errno::PERM), "{command}");
        }
    });
    or_skip!(stranger).join();
    // The capability stands in for both.
    or_skip!(needs_capability(CAP_IPC_LOCK));
    if !in_first_user_name_space() {
        return Outcome::Skip("memory is locked by a capability of the first user name space");
    }
    child(|| {
        lockable(0);
        t.shm_set(
            id,
            &shmid_ds {
                shm_perm: ipc_perm {
                    uid: 61_001,
                    gid: 62_001,
                    mode: 0,
                    ..Default::default()
                },
                ..Default::default()
            },
        )
        .expect("IPC_SET");
        keep_capabilities(&[CAP_IPC_LOCK]);
        assert_eq!(t.shmctl(id, SHM_LOCK), Ok(0));
        assert_eq!(t.shmctl(id, SHM_UNLOCK), Ok(0));
    })
    .join();
    Outcome::Pass
}

fn overflow(_: &Target) -> Outcome {
    Outcome::Skip("needs a program of an old ABI with 16-bit ids")
}
