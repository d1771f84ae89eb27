//! MC: `msgctl`.

use crate::caller::{
    Fenced, Stamp, asleep, effective_ids, has_capability, in_first_user_name_space, my_pid,
    other_ids, still_asleep, with_capabilities, without_capabilities,
};
use crate::harness::{BAD, Outcome, Statement, Target};
use crate::msg_send::{queue_of, set_capacity};
use crate::or_skip;
use crate::process::{CAP_SYS_RESOURCE, keep_capabilities, wait_past};
use sysv::Errno;
use sysv::abi::*;

/// The statements about `msgctl`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "MC-1",
        run: status,
    },
    Statement {
        id: "MC-2",
        run: set,
    },
    Statement {
        id: "MC-3",
        run: capacity_beyond_default,
    },
    Statement {
        id: "MC-4",
        run: unknown_command,
    },
    Statement {
        id: "MC-5",
        run: bad_buffer,
    },
    Statement {
        id: "MC-6",
        run: sleepers_check_again,
    },
    Statement {
        id: "MC-7",
        run: limits,
    },
    Statement {
        id: "MC-8",
        run: usage,
    },
    Statement {
        id: "MC-9",
        run: status_by_index,
    },
    Statement {
        id: "MC-10",
        run: permission_by_index,
    },
    Statement {
        id: "MC-11",
        run: remove,
    },
];

/// The index in an id.
fn index(id: i32) -> i32 {
    id % IPCMNI
}

/// `MSG_STAT` or `MSG_STAT_ANY`: the id and the status.
fn by_index(t: &Target, index: i32, command: i32) -> sysv::Result<(i32, msqid_ds)> {
    let mut status = msqid_ds::default();
    let id = t.msgctl_with(index, command, &mut status)?;
    Ok((id, status))
}

fn status(t: &Target) -> Outcome {
    let key = t.key();
    let created = Stamp::now();
    let id = t.msgget(key, IPC_CREAT | 0o640).unwrap();
    let used = Stamp::now();
    t.msgsnd(id, 1, b"four", 0).unwrap();
    t.msgsnd(id, 1, b"seven..", 0).unwrap();
    t.msgrcv(id, 8, 0, 0).unwrap();

    let all_ones = [0xff; size_of::<msqid_ds>()];
    let buffer = Fenced::new(size_of::<msqid_ds>());
    buffer.write(0, &all_ones);
    // SAFETY: the buffer has room for the status.
    let answer = unsafe { t.calls.msgctl(id, IPC_STAT, buffer.address().cast()) };
    assert_eq!(answer, Ok(0), "it writes the structure and no more");

    let status = t.msg_stat(id).unwrap();
    created.covers(status.msg_ctime);
    used.covers(status.msg_stime);
    used.covers(status.msg_rtime);
    let (uid, gid) = effective_ids();
    let perm = status.msg_perm;
    assert_eq!(
        (perm.uid, perm.cuid, perm.gid, perm.cgid),
        (uid, uid, gid, gid)
    );
    assert_eq!((perm.__key, perm.mode), (key, 0o640));
    assert_eq!(i32::from(perm.__seq), id / IPCMNI);
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (1, 7));
    assert_eq!((status.msg_lspid, status.msg_lrpid), (my_pid(), my_pid()));
    let mut limits = msginfo::default();
    t.msgctl_with(0, IPC_INFO, &mut limits).unwrap();
    assert_eq!(status.msg_qbytes, limits.msgmnb as u64);

    // Every documented field was written, whatever was there before.
    let bytes = buffer.read();
    assert_eq!(bytes[..24], perm_bytes(&perm));
    let words = [
        (48, status.msg_stime as u64),
        (56, status.msg_rtime as u64),
        (64, status.msg_ctime as u64),
        (72, status.__msg_cbytes),
        (80, status.msg_qnum),
        (88, status.msg_qbytes),
    ];
    for (offset, word) in words {
        assert_eq!(bytes[offset..offset + 8], word.to_ne_bytes(), "at {offset}");
    }
    assert_eq!(bytes[96..100], status.msg_lspid.to_ne_bytes());
    assert_eq!(bytes[100..104], status.msg_lrpid.to_ne_bytes());
    Outcome::Pass
}

/// Key, owner, creator and mode as they stand in memory.
pub fn perm_bytes(perm: &ipc_perm) -> Vec<u8> {
    let words = [
        perm.__key as u32,
        perm.uid,
        perm.gid,
        perm.cuid,
        perm.cgid,
        perm.mode,
    ];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn set(t: &Target) -> Outcome {
    let id = t.msgget(t.key(), IPC_CREAT | 0o600).unwrap();
    for text in [b"one", b"two"] {
        t.msgsnd(id, 1, text, 0).unwrap();
    }
    let before = t.msg_stat(id).unwrap();
    let perm = before.msg_perm;
    let (uid, gid) = other_ids().unwrap_or((perm.uid, perm.gid));
    wait_past(before.msg_ctime);
    let stamp = Stamp::now();
    // Every field differs; what is not to be taken is absurd.
    let wanted = msqid_ds {
        msg_perm: ipc_perm {
            __key: perm.__key + 1,
            uid,
            gid,
            cuid: 77,
            cgid: 78,
            mode: 0o7_007_624,
            __seq: perm.__seq + 1,
            ..perm
        },
        msg_stime: 1,
        msg_rtime: 2,
        msg_ctime: 3,
        __msg_cbytes: 4,
        msg_qnum: 5,
        msg_qbytes: 4000,
        msg_lspid: 6,
        msg_lrpid: 7,
        ..before
    };
    assert_eq!(t.msg_set(id, &wanted), Ok(()));
    let after = t.msg_stat(id).unwrap();
    stamp.covers(after.msg_ctime);
    let expected = msqid_ds {
        msg_perm: ipc_perm {
            uid,
            gid,
            mode: 0o624,
            ..perm
        },
        msg_ctime: after.msg_ctime,
        msg_qbytes: 4000,
        ..before
    };
    assert_eq!(after, expected);

    // Below the present content, and 0.
    for capacity in [3, 0] {
        set_capacity(t, id, capacity);
        let status = t.msg_stat(id).unwrap();
        assert_eq!(
            (status.msg_qbytes, status.msg_qnum, status.__msg_cbytes),
            (capacity, 2, 6)
        );
        assert_eq!(t.msgsnd(id, 1, b"", IPC_NOWAIT), Err(Errno::AGAIN));
    }
    assert_eq!(t.msgrcv(id, 8, 0, IPC_NOWAIT), Ok((1, b"one".to_vec())));
    assert_eq!(t.msgrcv(id, 8, 0, IPC_NOWAIT), Ok((1, b"two".to_vec())));
    Outcome::Pass
}

fn capacity_beyond_default(t: &Target) -> Outcome {
    let id = t.queue();
    let before = t.msg_stat(id).unwrap();
    let default = before.msg_qbytes;
    let with_capacity = |bytes| msqid_ds {
        msg_qbytes: bytes,
        ..before
    };
    let all_but_one: Vec<u32> = (0..CAP_SYS_RESOURCE).collect();
    for kept in [&all_but_one[..], &[]] {
        with_capabilities(kept, || {
            assert_eq!(t.msg_set(id, &with_capacity(default + 1)), Err(Errno::PERM));
            assert_eq!(t.msg_set(id, &with_capacity(u64::MAX)), Err(Errno::PERM));
            assert_eq!(t.msg_stat(id).unwrap().msg_qbytes, default);
            for bytes in [default - 1, 10, default / 2, default] {
                assert_eq!(t.msg_set(id, &with_capacity(bytes)), Ok(()));
                assert_eq!(t.msg_stat(id).unwrap().msg_qbytes, bytes);
            }
        });
    }
    // The kernel wants the capability of the first user name space (unlike P-11).
    if !has_capability(CAP_SYS_RESOURCE) || !in_first_user_name_space() {
        return Outcome::Skip("without CAP_SYS_RESOURCE on the host only the refusals hold");
    }
    for bytes in [default + 1, default * 4] {
        assert_eq!(t.msg_set(id, &with_capacity(bytes)), Ok(()));
        assert_eq!(t.msg_stat(id).unwrap().msg_qbytes, bytes);
    }
    Outcome::Pass
}

fn unknown_command(t: &Target) -> Outcome {
    let id = t.queue();
    let mut buffer = msqid_ds::default();
    for command in [-1, 4, 10, 99, i32::MAX, i32::MIN] {
        assert_eq!(
            t.msgctl_with(id, command, &mut buffer),
            Err(Errno::INVAL),
            "{command}"
        );
    }
    Outcome::Pass
}

fn bad_buffer(t: &Target) -> Outcome {
    let id = t.queue();
    let before = t.msg_stat(id).unwrap();
    let short = Fenced::new(16);
    for address in [0, BAD, short.address() as usize] {
        for command in [
            IPC_STAT,
            IPC_SET,
            IPC_INFO,
            MSG_INFO,
            MSG_STAT,
            MSG_STAT_ANY,
        ] {
            let first = if matches!(command, MSG_STAT | MSG_STAT_ANY) {
                index(id)
            } else {
                id
            };
            // SAFETY: the address is none of ours, or that of memory which ends in a fault.
            let answer = unsafe { t.calls.msgctl(first, command, address as *mut msqid_ds) };
            assert_eq!(
                answer,
                Err(Errno::FAULT),
                "command {command}, address {address:#x}"
            );
        }
    }
    let read_only = Fenced::new(size_of::<msqid_ds>());
    read_only.protect(libc::PROT_READ);
    // SAFETY: the buffer cannot be written to, which is what is tested.
    let answer = unsafe { t.calls.msgctl(id, IPC_STAT, read_only.address().cast()) };
    assert_eq!(answer, Err(Errno::FAULT));
    assert_eq!(t.msg_stat(id).unwrap(), before);
    Outcome::Pass
}

fn sleepers_check_again(t: &Target) -> Outcome {
    let id = queue_of(t, 0);
    let receive = |answer| {
        move || {
            keep_capabilities(&[]);
            assert_eq!(t.msgrcv(id, 8, 0, 0), Err(answer));
        }
    };
    let receiver = asleep(receive(Errno::ACCESS));
    let privileged = asleep(|| assert_eq!(t.msgrcv(id, 8, 5, 0), Err(Errno::IDRM)));
    let sender = asleep(|| {
        keep_capabilities(&[]);
        assert_eq!(t.msgsnd(id, 1, b"text", 0), Err(Errno::IDRM));
    });
    let mut status = t.msg_stat(id).unwrap();
    status.msg_perm.mode = 0o277;
    t.msg_set(id, &status).unwrap();
    receiver.join();
    still_asleep(&sender);
    if has_capability(crate::process::CAP_IPC_OWNER) {
        still_asleep(&privileged);
        t.msg_remove(id).unwrap();
        privileged.join();
    } else {
        drop(privileged);
        t.msg_remove(id).unwrap();
    }
    sender.join();
    Outcome::Pass
}

fn limits(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let mut limits = msginfo::default();
    assert_eq!(
        t.msgctl_with(0, IPC_INFO, &mut limits),
        Ok(0),
        "no queue: 0"
    );
    assert!(limits.msgmni > 0);
    let ids = [t.queue(), t.queue(), t.queue()];
    assert_eq!(t.msgctl_with(0, IPC_INFO, &mut limits), Ok(index(ids[2])));
    t.msg_remove(ids[1]).unwrap();
    assert_eq!(t.msgctl_with(0, IPC_INFO, &mut limits), Ok(index(ids[2])));
    t.msg_remove(ids[2]).unwrap();
    assert_eq!(t.msgctl_with(0, IPC_INFO, &mut limits), Ok(index(ids[0])));

    let most = limits.msgmax as usize;
    assert_eq!(t.msg_stat(ids[0]).unwrap().msg_qbytes, limits.msgmnb as u64);
    assert_eq!(
        t.msgsnd(ids[0], 1, &vec![0; most + 1], IPC_NOWAIT),
        Err(Errno::INVAL)
    );
    assert_eq!(t.msgsnd(ids[0], 1, &vec![0; most], IPC_NOWAIT), Ok(()));
    Outcome::Pass
}

fn usage(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let usage = || {
        let mut usage = msginfo::default();
        let highest = t.msgctl_with(0, MSG_INFO, &mut usage).expect("MSG_INFO");
        (highest, usage.msgpool, usage.msgmap, usage.msgtql)
    };
    assert_eq!(usage(), (0, 0, 0, 0));
    let ids = [t.queue(), t.queue(), t.queue()];
    t.msgsnd(ids[0], 1, &[1; 100], 0).unwrap();
    t.msgsnd(ids[2], 1, &[1; 20], 0).unwrap();
    t.msgsnd(ids[2], 1, b"", 0).unwrap();
    assert_eq!(usage(), (index(ids[2]), 3, 3, 120));
    t.msgrcv(ids[2], 100, 0, 0).unwrap();
    assert_eq!(usage(), (index(ids[2]), 3, 2, 100));
    t.msg_remove(ids[0]).unwrap();
    assert_eq!(usage(), (index(ids[2]), 2, 1, 0));
    Outcome::Pass
}

fn status_by_index(t: &Target) -> Outcome {
    let ids = [
        t.queue(),
        t.msgget(t.key(), IPC_CREAT | 0o640).unwrap(),
        t.queue(),
    ];
    t.msgsnd(ids[1], 1, b"text", 0).unwrap();
    for command in [MSG_STAT, MSG_STAT_ANY] {
        for id in ids {
            assert_eq!(
                by_index(t, index(id), command),
                Ok((id, t.msg_stat(id).unwrap()))
            );
        }
        assert_eq!(by_index(t, -1, command), Err(Errno::INVAL));
    }
    t.msg_remove(ids[1]).unwrap();
    if t.own_name_space {
        for command in [MSG_STAT, MSG_STAT_ANY] {
            for unused in [index(ids[1]), index(ids[2]) + 1, IPCMNI - 1] {
                assert_eq!(by_index(t, unused, command), Err(Errno::INVAL));
            }
        }
    }
    Outcome::Pass
}

fn permission_by_index(t: &Target) -> Outcome {
    let id = t.msgget(IPC_PRIVATE, 0o277).unwrap();
    without_capabilities(|| {
        assert_eq!(by_index(t, index(id), MSG_STAT), Err(Errno::ACCESS));
        let (found, status) = by_index(t, index(id), MSG_STAT_ANY).expect("MSG_STAT_ANY");
        assert_eq!((found, status.msg_perm.mode), (id, 0o277));
    });
    let id = t.msgget(IPC_PRIVATE, 0o400).unwrap();
    without_capabilities(|| {
        assert_eq!(by_index(t, index(id), MSG_STAT).expect("readable").0, id);
    });
    Outcome::Pass
}

fn remove(t: &Target) -> Outcome {
    or_skip!(t.needs_own_name_space());
    let key = t.key();
    let id = t.msgget(key, IPC_CREAT | 0o600).unwrap();
    set_capacity(t, id, 4);
    t.msgsnd(id, 1, b"text", 0).unwrap();
    let sender = asleep(|| assert_eq!(t.msgsnd(id, 1, b"more", 0), Err(Errno::IDRM)));
    let receiver = asleep(|| assert_eq!(t.msgrcv(id, 8, 2, 0), Err(Errno::IDRM)));
    let lowest = asleep(|| assert_eq!(t.msgrcv(id, 0, 3, 0), Err(Errno::IDRM)));
    // SAFETY: the address is none of ours.
    let answer = unsafe { t.calls.msgctl(id, IPC_RMID, BAD as *mut msqid_ds) };
    assert_eq!(answer, Ok(0), "the buffer is ignored");
    assert_eq!(t.msg_stat(id), Err(Errno::INVAL));
    assert_eq!(t.msgsnd(id, 1, b"", IPC_NOWAIT), Err(Errno::INVAL));
    assert_eq!(t.msgget(key, 0), Err(Errno::NOENT));
    let mut usage = msginfo::default();
    t.msgctl_with(0, MSG_INFO, &mut usage).unwrap();
    assert_eq!((usage.msgpool, usage.msgmap, usage.msgtql), (0, 0, 0));
    [sender, receiver, lowest]
        .into_iter()
        .for_each(|sleeper| sleeper.join());

    // The owner needs no bit of the mode.
    let id = t
        .msgget(key, IPC_CREAT | IPC_EXCL)
        .expect("the key is free");
    without_capabilities(|| assert_eq!(t.msg_remove(id), Ok(())));
    Outcome::Pass
}
