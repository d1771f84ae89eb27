//! MG: `msgget`.

use crate::caller::Stamp;
use crate::harness::{Outcome, Statement, Target};
use crate::or_skip;
use sysv::Errno;
use sysv::abi::*;

/// The statements about `msgget`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "MG-1",
        run: creates_and_finds,
    },
    Statement {
        id: "MG-2",
        run: exclusive,
    },
    Statement {
        id: "MG-3",
        run: absent,
    },
    Statement {
        id: "MG-4",
        run: initial_state,
    },
    Statement {
        id: "MG-5",
        run: no_more_queues,
    },
];

fn creates_and_finds(t: &Target) -> Outcome {
    let key = t.key();
    let id = t.msgget(key, IPC_CREAT | 0o600).expect("a new key");
    assert_eq!(t.msgget(key, 0), Ok(id));
    assert_eq!(t.msgget(key, 0o600), Ok(id));
    assert_eq!(t.msgget(key, IPC_CREAT | 0o600), Ok(id));
    assert_eq!(t.msg_stat(id).unwrap().msg_perm.__key, key);

    let first = t.msgget(IPC_PRIVATE, 0o600).expect("IPC_PRIVATE");
    let second = t.msgget(IPC_PRIVATE, 0o600).expect("IPC_PRIVATE again");
    assert!(first != second && first != id && second != id);
    Outcome::Pass
}

fn exclusive(t: &Target) -> Outcome {
    let key = t.key();
    let id = t
        .msgget(key, IPC_CREAT | IPC_EXCL | 0o600)
        .expect("a new key");
    assert_eq!(
        t.msgget(key, IPC_CREAT | IPC_EXCL | 0o600),
        Err(Errno::EXIST)
    );
    assert_eq!(
        t.msgget(key, IPC_CREAT | 0o600),
        Ok(id),
        "only IPC_EXCL refuses"
    );
    Outcome::Pass
}

fn absent(t: &Target) -> Outcome {
    let key = t.key();
    assert_eq!(t.msgget(key, 0), Err(Errno::NOENT));
    assert_eq!(t.msgget(key, 0o600), Err(Errno::NOENT));
    assert_eq!(
        t.msgget(key, 0),
        Err(Errno::NOENT),
        "a refusal makes nothing"
    );
    Outcome::Pass
}

fn initial_state(t: &Target) -> Outcome {
    let stamp = Stamp::now();
    let key = t.key();
    let id = t
        .msgget(key, IPC_CREAT | IPC_EXCL | 0o1000 | 0o641)
        .expect("a new key");
    let status = t.msg_stat(id).expect("IPC_STAT");
    stamp.covers(status.msg_ctime);
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (0, 0));
    assert_eq!((status.msg_lspid, status.msg_lrpid), (0, 0));
    assert_eq!((status.msg_stime, status.msg_rtime), (0, 0));
    let mut limits = msginfo::default();
    t.msgctl_with(0, IPC_INFO, &mut limits).expect("IPC_INFO");
    assert_eq!(status.msg_qbytes, limits.msgmnb as u64);

    let perm = status.msg_perm;
    let (uid, gid) = crate::caller::effective_ids();
    assert_eq!((perm.uid, perm.cuid), (uid, uid));
    assert_eq!((perm.gid, perm.cgid), (gid, gid));
    assert_eq!(perm.mode, 0o641);
    assert_eq!(perm.__key, key);
    Outcome::Pass
}

/// ENOMEM would take all of the machine's memory; the clause about MSGMNI is checked.
fn no_more_queues(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let mut limits = msginfo::default();
    t.msgctl_with(0, IPC_INFO, &mut limits).expect("IPC_INFO");
    let mut ids = Vec::new();
    for _ in 0..limits.msgmni {
        ids.push(
            t.msgget(IPC_PRIVATE, 0o600)
                .expect("fewer than MSGMNI queues exist"),
        );
    }
    assert_eq!(t.msgget(IPC_PRIVATE, 0o600), Err(Errno::NOSPC));
    assert_eq!(t.msgget(t.key(), IPC_CREAT | 0o600), Err(Errno::NOSPC));
    t.msg_remove(ids[ids.len() / 2]).expect("IPC_RMID");
    t.msgget(IPC_PRIVATE, 0o600).expect("a removal makes room");
    assert_eq!(t.msgget(IPC_PRIVATE, 0o600), Err(Errno::NOSPC));
    Outcome::Pass
}
