//! F: `ftok`. I: keys and identifiers of all three kinds.

use crate::harness::{Outcome, Statement, Target, statement};
use crate::kinds::{KINDS, Kind, set_sysctl, sysctl};
use crate::or_skip;
use crate::process::{child, keep_capabilities};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use sysv::Errno;
use sysv::abi::*;

pub const STATEMENTS: &[Statement] = &[
    statement("F-1", formula),
    statement("F-2", names_of_one_file),
    statement("F-3", low_bits_of_project),
    statement("F-4", errors_of_stat),
    statement("F-5", project_zero),
    statement("I-1", private),
    statement("I-2", same_key_same_id),
    statement("I-3", kinds_are_separate),
    statement("I-4", removed_id),
    statement("I-5", arithmetic),
    statement("I-6", stale_id),
    statement("I-7", negative_id),
    statement("I-8", key_free_after_removal),
    statement("I-9", top_bit),
    statement("I-10", next_id),
    statement("I-11", round_robin),
];

fn formula(t: &Target) -> Outcome {
    fs::write("file", "").expect("write");
    fs::create_dir("directory").expect("mkdir");
    for name in ["file", "directory", "/", "/dev/null", "/proc/self/stat"] {
        let status = fs::metadata(name).expect("stat");
        for project in [1, 0x41, 0x7f, 0x80, 0xff] {
            let inode = status.ino() as u32 & 0xffff;
            let device = (status.dev() as u32 & 0xff) << 16;
            let expected = inode | device | (project as u32) << 24;
            let key = (t.ftok)(Path::new(name), project);
            assert_eq!(key, Ok(expected as i32), "{name} {project:#x}");
        }
    }
    Outcome::Pass
}

fn names_of_one_file(t: &Target) -> Outcome {
    fs::write("file", "").expect("write");
    fs::hard_link("file", "hard").expect("link");
    symlink("file", "soft").expect("symlink");
    let key = (t.ftok)(Path::new("file"), 7).expect("ftok");
    for name in ["hard", "soft", "./file"] {
        assert_eq!((t.ftok)(Path::new(name), 7), Ok(key), "{name}");
    }
    assert_ne!((t.ftok)(Path::new("."), 7), Ok(key));
    Outcome::Pass
}

fn low_bits_of_project(t: &Target) -> Outcome {
    fs::write("file", "").expect("write");
    let ftok = |project| (t.ftok)(Path::new("file"), project).expect("ftok");
    for project in [0x1_05, 0x7fff_ff05, -251, i32::MIN + 5] {
        assert_eq!(ftok(project), ftok(5), "{project:#x}");
    }
    assert_ne!(ftok(6), ftok(5));
    Outcome::Pass
}

fn errors_of_stat(t: &Target) -> Outcome {
    fs::write("file", "").expect("write");
    symlink("loop", "loop").expect("symlink");
    symlink("nothing", "dangling").expect("symlink");
    fs::create_dir("closed").expect("mkdir");
    fs::write("closed/file", "").expect("write");
    fs::set_permissions("closed", Permissions::from_mode(0o000)).expect("chmod");
    let ftok = |name: &str| (t.ftok)(Path::new(name), 1);
    assert_eq!(ftok("absent"), Err(Errno::NOENT));
    assert_eq!(ftok("dangling"), Err(Errno::NOENT));
    assert_eq!(ftok(""), Err(Errno::NOENT));
    assert_eq!(ftok("file/below"), Err(Errno::NOTDIR));
    assert_eq!(ftok("loop"), Err(Errno::LOOP));
    assert_eq!(ftok(&"x".repeat(300)), Err(Errno::NAMETOOLONG));
    child(|| {
        keep_capabilities(&[]);
        assert_eq!(ftok("closed/file"), Err(Errno::ACCESS));
    })
    .join();
    fs::set_permissions("closed", Permissions::from_mode(0o700)).expect("chmod");
    Outcome::Pass
}

fn project_zero(t: &Target) -> Outcome {
    fs::write("file", "").expect("write");
    let key = (t.ftok)(Path::new("file"), 0).expect("ftok");
    assert_eq!(key as u32 >> 24, 0);
    assert_eq!((t.ftok)(Path::new("file"), 1), Ok(key | 1 << 24));
    Outcome::Pass
}

fn private(t: &Target) -> Outcome {
    for kind in KINDS {
        let mut ids = Vec::new();
        // 0o40000 has no meaning for any of the three calls.
        for flags in [0, IPC_CREAT, IPC_CREAT | IPC_EXCL, IPC_EXCL, 0o40000] {
            let id = kind
                .get(t, IPC_PRIVATE, flags | 0o640)
                .expect("a private object");
            let perm = kind.perm(t, id).expect("IPC_STAT");
            assert_eq!((perm.__key, perm.mode), (0, 0o640), "{kind:?} {flags:#o}");
            assert!(!ids.contains(&id), "{kind:?}: id {id} twice");
            ids.push(id);
        }
        for id in ids {
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    Outcome::Pass
}

fn same_key_same_id(t: &Target) -> Outcome {
    for kind in KINDS {
        let key = t.key();
        let id = kind.get(t, key, IPC_CREAT | 0o600).expect("create");
        child(|| {
            assert_eq!(kind.get(t, key, 0), Ok(id));
            assert_eq!(kind.get(t, key, IPC_CREAT | 0o600), Ok(id));
            assert_eq!(kind.perm(t, id).expect("IPC_STAT").__key, key);
        })
        .join();
        assert_eq!(kind.get(t, key, 0), Ok(id));
        assert_eq!(kind.get(t, key ^ 1 << 23, 0), Err(Errno::NOENT));
        kind.remove(t, id).expect("IPC_RMID");
    }
    Outcome::Pass
}

fn kinds_are_separate(t: &Target) -> Outcome {
    let key = t.key();
    let ids = KINDS.map(|kind| {
        assert_eq!(kind.get(t, key, 0), Err(Errno::NOENT), "{kind:?}");
        kind.get(t, key, IPC_CREAT | IPC_EXCL | 0o600)
            .expect("create")
    });
    if t.own_name_space {
        assert_eq!(ids, [0, 0, 0], "the first id of each kind");
    }
    for (kind, id) in KINDS.into_iter().zip(ids) {
        assert_eq!(kind.get(t, key, 0), Ok(id), "{kind:?}");
        kind.remove(t, id).expect("IPC_RMID");
        assert_eq!(kind.get(t, key, 0), Err(Errno::NOENT), "{kind:?}");
    }
    Outcome::Pass
}

fn removed_id(t: &Target) -> Outcome {
    for kind in KINDS {
        let id = kind.create(t, 0o600);
        kind.remove(t, id).expect("IPC_RMID");
        kind.every_call_fails(t, id, Errno::INVAL);
    }
    Outcome::Pass
}

/// Ids are made up differently where the kernel was started with `ipcmni_extend`.
fn ordinary_ids() -> Result<(), &'static str> {
    match fs::read_to_string("/proc/cmdline") {
        Ok(line) if line.contains("ipcmni_extend") => Err("the kernel runs with ipcmni_extend"),
        _ => Ok(()),
    }
}

fn arithmetic(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    or_skip!(ordinary_ids());
    for kind in KINDS {
        let mut highest_sequence = 0;
        for round in 0..150 {
            let id = kind.create(t, 0o600);
            assert!(id >= 0);
            if round == 0 {
                assert_eq!(id, 0, "{kind:?}: the first id of a fresh name space");
            }
            let (index, sequence) = (id % IPCMNI, id / IPCMNI);
            let (found, perm) = kind.status(t, index, kind.stat_command()).expect("*_STAT");
            assert_eq!((found, i32::from(perm.__seq)), (id, sequence), "{kind:?}");
            assert_eq!(kind.highest_index(t), Ok(index), "{kind:?}");
            highest_sequence = highest_sequence.max(sequence);
            kind.remove(t, id).expect("IPC_RMID");
        }
        assert!(highest_sequence > 0, "{kind:?}: no sequence but 0 was seen");
    }
    Outcome::Pass
}

/// Creates and removes until an index comes back: the first id, the one that now has its index,
/// and after how many creations.
fn reuse(t: &Target, kind: Kind) -> (i32, i32, i32) {
    let stale = kind.create(t, 0o600);
    kind.remove(t, stale).expect("IPC_RMID");
    for round in 1..=2 * IPCMNI {
        let id = kind.create(t, 0o600);
        if id % IPCMNI == stale % IPCMNI {
            return (stale, id, round);
        }
        kind.remove(t, id).expect("IPC_RMID");
    }
    panic!("{kind:?}: the index never came back");
}

fn stale_id(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    or_skip!(ordinary_ids());
    for kind in KINDS {
        let (stale, id, _) = reuse(t, kind);
        assert_ne!(stale, id, "{kind:?}");
        let before = kind.perm(t, id).expect("IPC_STAT");
        kind.every_call_fails(t, stale, Errno::INVAL);
        assert_eq!(
            kind.perm(t, id),
            Ok(before),
            "{kind:?}: the new object was touched"
        );
        match kind {
            Kind::Segment => assert_eq!(t.attaches(id), 0),
            Kind::Queue => assert_eq!(t.msg_stat(id).expect("IPC_STAT").msg_qnum, 0),
            Kind::Set => assert_eq!(t.sem_value(id, 0), Ok(0)),
        }
    }
    Outcome::Pass
}

fn negative_id(t: &Target) -> Outcome {
    for id in [-1, i32::MIN, -IPCMNI] {
        for kind in KINDS {
            kind.every_call_fails(t, id, Errno::INVAL);
            for command in [kind.stat_command(), kind.stat_any_command()] {
                assert_eq!(
                    kind.status(t, id, command),
                    Err(Errno::INVAL),
                    "{kind:?} {command}"
                );
            }
        }
        // The id says nothing to these, and still it may not be negative.
        let refused = Err(Errno::INVAL);
        assert_eq!(
            t.shmctl_with(id, IPC_INFO, &mut shminfo::default()),
            refused
        );
        assert_eq!(
            t.shmctl_with(id, SHM_INFO, &mut shm_info::default()),
            refused
        );
        assert_eq!(
            t.msgctl_with(id, IPC_INFO, &mut msginfo::default()),
            refused
        );
        assert_eq!(
            t.msgctl_with(id, MSG_INFO, &mut msginfo::default()),
            refused
        );
        assert_eq!(
            t.semctl_with(id, 0, IPC_INFO, &mut seminfo::default()),
            refused
        );
        assert_eq!(
            t.semctl_with(id, 0, SEM_INFO, &mut seminfo::default()),
            refused
        );
    }
    Outcome::Pass
}

fn key_free_after_removal(t: &Target) -> Outcome {
    for kind in KINDS {
        let key = t.key();
        let first = kind.get(t, key, IPC_CREAT | 0o600).expect("create");
        kind.remove(t, first).expect("IPC_RMID");
        assert_eq!(kind.get(t, key, 0), Err(Errno::NOENT), "{kind:?}");
        let second = kind
            .get(t, key, IPC_CREAT | IPC_EXCL | 0o600)
            .expect("create");
        assert_ne!(first, second, "{kind:?}");
        assert_eq!(kind.get(t, key, 0), Ok(second), "{kind:?}");
        kind.remove(t, second).expect("IPC_RMID");
    }
    Outcome::Pass
}

fn top_bit(t: &Target) -> Outcome {
    for kind in KINDS {
        let mut keys = vec![t.key() | i32::MIN];
        if t.own_name_space {
            keys.extend([-1, i32::MIN]);
        }
        for key in keys {
            let id = kind
                .get(t, key, IPC_CREAT | IPC_EXCL | 0o600)
                .expect("create");
            assert_eq!(kind.get(t, key, 0), Ok(id), "{kind:?} {key:#x}");
            assert_eq!(
                kind.get(t, key & i32::MAX | 1, 0),
                Err(Errno::NOENT),
                "{kind:?}"
            );
            assert_eq!(kind.perm(t, id).expect("IPC_STAT").__key, key, "{kind:?}");
            kind.remove(t, id).expect("IPC_RMID");
        }
    }
    Outcome::Pass
}

fn next_id(t: &Target) -> Outcome {
    or_skip!(ordinary_ids());
    for kind in KINDS {
        let name = format!("{}_next_id", kind.prefix());
        assert_eq!(or_skip!(sysctl(t, &name)), "-1", "{name}");
        let wanted = 7 * IPCMNI + 1234;
        or_skip!(set_sysctl(t, &name, &wanted.to_string()));
        assert_eq!(kind.create(t, 0o600), wanted, "{kind:?}");
        assert_eq!(sysctl(t, &name).as_deref(), Ok("-1"), "{name}");
        // The index is taken now.
        or_skip!(set_sysctl(t, &name, &(9 * IPCMNI + 1234).to_string()));
        let other = kind.create(t, 0o600);
        assert_ne!(other % IPCMNI, 1234, "{kind:?}");
        assert_eq!(sysctl(t, &name).as_deref(), Ok("-1"), "{name}");
        assert_ne!(kind.create(t, 0o600), other, "{kind:?}");
    }
    Outcome::Pass
}

fn round_robin(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    or_skip!(ordinary_ids());
    for kind in KINDS {
        let (stale, id, round) = reuse(t, kind);
        assert_eq!(round, 64, "{kind:?}");
        assert_eq!(
            id / IPCMNI,
            stale / IPCMNI + 1,
            "{kind:?}: the sequence number"
        );
    }
    Outcome::Pass
}
