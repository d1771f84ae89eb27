//! MR: `msgrcv`.

use crate::caller::{
    Fenced, Stamp, asleep, count_signals, my_pid, signals_seen, still_asleep, without_capabilities,
};
use crate::harness::{BAD, Outcome, Statement, Target};
use crate::process::child;
use sysv::abi::*;
use sysv::{Errno, Result};

/// The statements about `msgrcv`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "MR-1",
        run: any_type,
    },
    Statement {
        id: "MR-2",
        run: one_type,
    },
    Statement {
        id: "MR-3",
        run: lowest_type,
    },
    Statement {
        id: "MR-4",
        run: all_but_one_type,
    },
    Statement {
        id: "MR-5",
        run: except_without_type,
    },
    Statement {
        id: "MR-6",
        run: too_long,
    },
    Statement {
        id: "MR-7",
        run: cut,
    },
    Statement {
        id: "MR-8",
        run: writes_no_more,
    },
    Statement {
        id: "MR-9",
        run: nothing_suitable,
    },
    Statement {
        id: "MR-10",
        run: sleeps_until_suitable,
    },
    Statement {
        id: "MR-11",
        run: bookkeeping,
    },
    Statement {
        id: "MR-12",
        run: copy,
    },
    Statement {
        id: "MR-13",
        run: unwritable,
    },
    Statement {
        id: "MR-14",
        run: negative_size,
    },
    Statement {
        id: "MR-15",
        run: unsuitable_wakes_nobody,
    },
    Statement {
        id: "MR-16",
        run: removed_while_asleep,
    },
    Statement {
        id: "MR-17",
        run: interrupted,
    },
    Statement {
        id: "MR-18",
        run: sleeper_with_small_buffer,
    },
    Statement {
        id: "MR-19",
        run: arrival_order,
    },
    Statement {
        id: "MR-20",
        run: no_permission,
    },
];

/// A queue with these messages: type and one byte of text.
fn queue_with(t: &Target, messages: &[(i64, u8)]) -> i32 {
    let id = t.queue();
    for &(message_type, text) in messages {
        t.msgsnd(id, message_type, &[text], IPC_NOWAIT)
            .expect("msgsnd");
    }
    id
}

/// Receives one message of one byte, without waiting.
fn take(t: &Target, id: i32, wanted: i64, flags: i32) -> Result<(i64, u8)> {
    let (message_type, text) = t.msgrcv(id, 1, wanted, flags | IPC_NOWAIT)?;
    assert_eq!(text.len(), 1);
    Ok((message_type, text[0]))
}

/// The status, whether or not the caller may read it.
fn status_of(t: &Target, id: i32) -> msqid_ds {
    let mut status = msqid_ds::default();
    t.msgctl_with(id % IPCMNI, MSG_STAT_ANY, &mut status)
        .expect("MSG_STAT_ANY");
    status
}

/// How many messages the queue holds.
fn count(t: &Target, id: i32) -> u64 {
    status_of(t, id).msg_qnum
}

fn any_type(t: &Target) -> Outcome {
    let messages = [(5, b'a'), (1, b'b'), (i64::MAX, b'c'), (5, b'd')];
    let id = queue_with(t, &messages);
    for message in messages {
        assert_eq!(take(t, id, 0, 0), Ok(message));
    }
    assert_eq!(take(t, id, 0, 0), Err(Errno::NOMSG));
    Outcome::Pass
}

fn one_type(t: &Target) -> Outcome {
    let id = queue_with(
        t,
        &[(5, b'a'), (2, b'b'), (5, b'c'), (2, b'd'), (i64::MAX, b'e')],
    );
    assert_eq!(take(t, id, 2, 0), Ok((2, b'b')));
    assert_eq!(take(t, id, i64::MAX, 0), Ok((i64::MAX, b'e')));
    assert_eq!(take(t, id, 2, 0), Ok((2, b'd')));
    assert_eq!(take(t, id, 2, 0), Err(Errno::NOMSG));
    assert_eq!(take(t, id, 5, 0), Ok((5, b'a')));
    assert_eq!(take(t, id, 5, 0), Ok((5, b'c')));
    Outcome::Pass
}

fn lowest_type(t: &Target) -> Outcome {
    let messages = [
        (9, b'a'),
        (4, b'b'),
        (6, b'c'),
        (4, b'd'),
        (2, b'e'),
        (6, b'f'),
        (i64::MAX, b'g'),
    ];
    let id = queue_with(t, &messages);
    assert_eq!(take(t, id, -1, 0), Err(Errno::NOMSG));
    assert_eq!(take(t, id, -6, 0), Ok((2, b'e')));
    assert_eq!(take(t, id, -6, 0), Ok((4, b'b')));
    assert_eq!(take(t, id, -4, 0), Ok((4, b'd')));
    assert_eq!(take(t, id, -5, 0), Err(Errno::NOMSG));
    assert_eq!(take(t, id, -i64::MAX, 0), Ok((6, b'c')));
    assert_eq!(take(t, id, i64::MIN, 0), Ok((6, b'f')));
    assert_eq!(take(t, id, -8, 0), Err(Errno::NOMSG));
    assert_eq!(take(t, id, i64::MIN, 0), Ok((9, b'a')));
    assert_eq!(take(t, id, i64::MIN, 0), Ok((i64::MAX, b'g')));
    Outcome::Pass
}

fn all_but_one_type(t: &Target) -> Outcome {
    let id = queue_with(t, &[(3, b'a'), (7, b'b'), (3, b'c'), (1, b'd')]);
    assert_eq!(take(t, id, 3, MSG_EXCEPT), Ok((7, b'b')));
    assert_eq!(take(t, id, 1, MSG_EXCEPT), Ok((3, b'a')));
    assert_eq!(take(t, id, 3, MSG_EXCEPT), Ok((1, b'd')));
    assert_eq!(take(t, id, 3, MSG_EXCEPT), Err(Errno::NOMSG));
    assert_eq!(take(t, id, 4, MSG_EXCEPT), Ok((3, b'c')));
    Outcome::Pass
}

fn except_without_type(t: &Target) -> Outcome {
    let id = queue_with(t, &[(3, b'a'), (7, b'b'), (2, b'c'), (5, b'd')]);
    assert_eq!(take(t, id, 0, MSG_EXCEPT), Ok((3, b'a')));
    assert_eq!(take(t, id, -5, MSG_EXCEPT), Ok((2, b'c')));
    assert_eq!(take(t, id, -4, MSG_EXCEPT), Err(Errno::NOMSG));
    assert_eq!(take(t, id, -6, MSG_EXCEPT), Ok((5, b'd')));
    assert_eq!(take(t, id, -6, MSG_EXCEPT), Err(Errno::NOMSG));
    assert_eq!(take(t, id, 7, 0), Ok((7, b'b')));
    t.msgsnd(id, 5, b"too long", 0).unwrap();
    for wanted in [0, -5] {
        assert_eq!(t.msgrcv(id, 4, wanted, MSG_EXCEPT), Err(Errno::TOOBIG));
    }
    Outcome::Pass
}

fn too_long(t: &Target) -> Outcome {
    let id = t.queue();
    t.msgsnd(id, 1, b"0123456789", 0).unwrap();
    t.msgsnd(id, 2, b"short", 0).unwrap();
    let before = t.msg_stat(id).unwrap();
    for size in [0, 1, 9] {
        assert_eq!(t.msgrcv(id, size, 0, IPC_NOWAIT), Err(Errno::TOOBIG));
        assert_eq!(t.msgrcv(id, size, 1, 0), Err(Errno::TOOBIG));
    }
    assert_eq!(t.msg_stat(id).unwrap(), before);
    assert_eq!(
        t.msgrcv(id, 10, 0, IPC_NOWAIT),
        Ok((1, b"0123456789".to_vec()))
    );
    Outcome::Pass
}

fn cut(t: &Target) -> Outcome {
    let id = t.queue();
    let long: Vec<u8> = (0..6000).map(|i| (i % 253) as u8).collect();
    for size in [0, 1, 9, 4048, 5999] {
        t.msgsnd(id, 4, &long, 0).unwrap();
        assert_eq!(
            t.msgrcv(id, size, 0, MSG_NOERROR),
            Ok((4, long[..size].to_vec()))
        );
        assert_eq!((count(t, id), t.msg_stat(id).unwrap().__msg_cbytes), (0, 0));
    }
    t.msgsnd(id, 4, b"fits", 0).unwrap();
    assert_eq!(t.msgrcv(id, 10, 0, MSG_NOERROR), Ok((4, b"fits".to_vec())));
    Outcome::Pass
}

fn writes_no_more(t: &Target) -> Outcome {
    let id = t.queue();
    for (text, size) in [(5, 30), (0, 30), (30, 30), (30, 12)] {
        t.msgsnd(id, 9, &vec![b't'; text], 0).unwrap();
        let mut buffer = [0x5au8; 8 + 40];
        let address = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has room for a long and 40 bytes.
        let length = unsafe { t.calls.msgrcv(id, address, size, 0, MSG_NOERROR) }.unwrap();
        assert_eq!(length, text.min(size));
        assert_eq!(buffer[..8], 9i64.to_ne_bytes());
        assert!(buffer[8..8 + length].iter().all(|&byte| byte == b't'));
        assert!(
            buffer[8 + length..].iter().all(|&byte| byte == 0x5a),
            "{buffer:x?}"
        );
    }
    Outcome::Pass
}

fn nothing_suitable(t: &Target) -> Outcome {
    let id = t.queue();
    for wanted in [0, 1, -5] {
        assert_eq!(t.msgrcv(id, 16, wanted, IPC_NOWAIT), Err(Errno::NOMSG));
    }
    t.msgsnd(id, 7, b"text", 0).unwrap();
    assert_eq!(t.msgrcv(id, 16, 6, IPC_NOWAIT), Err(Errno::NOMSG));
    assert_eq!(t.msgrcv(id, 16, -6, IPC_NOWAIT), Err(Errno::NOMSG));
    assert_eq!(
        t.msgrcv(id, 16, 7, IPC_NOWAIT | MSG_EXCEPT),
        Err(Errno::NOMSG)
    );
    assert_eq!(count(t, id), 1);
    Outcome::Pass
}

fn sleeps_until_suitable(t: &Target) -> Outcome {
    for (wanted, flags, suitable) in [
        (0, 0, 5),
        (4, 0, 4),
        (-4, 0, 3),
        (i64::MIN, 0, 9),
        (6, MSG_EXCEPT, 4),
    ] {
        let id = t.queue();
        let receiver = asleep(|| {
            assert_eq!(
                t.msgrcv(id, 16, wanted, flags),
                Ok((suitable, b"for you".to_vec()))
            );
        });
        let mut others = 0;
        if wanted != 0 && wanted != i64::MIN {
            t.msgsnd(id, 6, b"not for you", 0).unwrap();
            others = 1;
            still_asleep(&receiver);
        }
        t.msgsnd(id, suitable, b"for you", 0).unwrap();
        receiver.join();
        assert_eq!(count(t, id), others);
    }
    Outcome::Pass
}

fn bookkeeping(t: &Target) -> Outcome {
    let id = t.queue();
    for size in [30, 12, 5] {
        t.msgsnd(id, 1, &vec![1; size], 0).unwrap();
    }
    let before = t.msg_stat(id).unwrap();
    assert_eq!((before.msg_lrpid, before.msg_rtime), (0, 0));
    let stamp = Stamp::now();
    t.msgrcv(id, 100, 0, 0).unwrap();
    let status = t.msg_stat(id).unwrap();
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (2, 17));
    assert_eq!(status.msg_lrpid, my_pid());
    stamp.covers(status.msg_rtime);

    // A cut message leaves with all of its bytes.
    let receiver = child(|| drop(t.msgrcv(id, 4, 0, MSG_NOERROR).unwrap()));
    let pid = receiver.pid();
    receiver.join();
    let status = t.msg_stat(id).unwrap();
    assert_eq!(
        (status.msg_qnum, status.__msg_cbytes, status.msg_lrpid),
        (1, 5, pid)
    );
    assert_eq!(status.msg_lspid, before.msg_lspid);
    assert_eq!(
        (status.msg_stime, status.msg_ctime),
        (before.msg_stime, before.msg_ctime)
    );

    // Served while asleep.
    t.msgrcv(id, 100, 0, 0).unwrap();
    let receiver = asleep(|| drop(t.msgrcv(id, 4, 0, 0).unwrap()));
    let pid = receiver.pid();
    t.msgsnd(id, 1, b"text", 0).unwrap();
    receiver.join();
    let status = t.msg_stat(id).unwrap();
    assert_eq!(
        (status.msg_qnum, status.__msg_cbytes, status.msg_lrpid),
        (0, 0, pid)
    );
    Outcome::Pass
}

fn copy(t: &Target) -> Outcome {
    let id = t.queue();
    t.msgsnd(id, 5, b"first", 0).unwrap();
    t.msgsnd(id, 3, b"the second", 0).unwrap();
    let flags = MSG_COPY | IPC_NOWAIT;
    let before = t.msg_stat(id).unwrap();
    let first = t.msgrcv(id, 16, 0, flags);
    if first == Err(Errno::NOSYS) {
        return Outcome::Skip("this kernel has no MSG_COPY (CONFIG_CHECKPOINT_RESTORE)");
    }
    assert_eq!(first, Ok((5, b"first".to_vec())));
    assert_eq!(t.msgrcv(id, 16, 1, flags), Ok((3, b"the second".to_vec())));
    assert_eq!(
        t.msgrcv(id, 16, 0, flags),
        Ok((5, b"first".to_vec())),
        "a copy takes nothing"
    );
    assert_eq!(t.msgrcv(id, 16, 2, flags), Err(Errno::NOMSG));
    assert_eq!(t.msgrcv(id, 16, 0, MSG_COPY), Err(Errno::INVAL));
    assert_eq!(t.msgrcv(id, 16, 0, flags | MSG_EXCEPT), Err(Errno::INVAL));
    assert_eq!(t.msgrcv(id, 9, 1, flags), Err(Errno::TOOBIG));
    assert_eq!(t.msgrcv(id, 9, 1, flags | MSG_NOERROR), Err(Errno::INVAL));
    assert_eq!(
        t.msgrcv(id, 10, 1, flags | MSG_NOERROR),
        Ok((3, b"the second".to_vec()))
    );
    assert_eq!(t.msg_stat(id).unwrap(), before);
    assert_eq!(t.msgrcv(id, 16, 0, 0), Ok((5, b"first".to_vec())));
    assert_eq!(t.msgrcv(id, 16, 0, 0), Ok((3, b"the second".to_vec())));
    Outcome::Pass
}

fn unwritable(t: &Target) -> Outcome {
    let id = t.queue();
    let receive = |address: usize, size: usize| {
        t.msgsnd(id, 1, b"the text", 0).unwrap();
        // SAFETY: the address is none of ours, or the start of memory that faults where it ends.
        unsafe { t.calls.msgrcv(id, address as *mut _, size, 0, IPC_NOWAIT) }
    };
    let short = Fenced::new(12);
    for address in [0, BAD, short.address() as usize] {
        assert_eq!(receive(address, 100), Err(Errno::FAULT));
        assert_eq!(count(t, id), 0, "the message is lost");
    }
    let read_only = Fenced::new(64);
    read_only.protect(libc::PROT_READ);
    assert_eq!(receive(read_only.address() as usize, 56), Err(Errno::FAULT));
    assert_eq!(count(t, id), 0, "the message is lost");

    let enough = Fenced::new(16);
    assert_eq!(receive(enough.address() as usize, 8), Ok(8));
    Outcome::Pass
}

fn negative_size(t: &Target) -> Outcome {
    let id = queue_with(t, &[(1, b'a')]);
    let buffer = Fenced::new(16);
    for size in [-1isize, -4096, isize::MIN] {
        for flags in [0, IPC_NOWAIT, MSG_NOERROR] {
            let address = buffer.address().cast();
            // SAFETY: what lies beyond the buffer is no memory of ours.
            let answer = unsafe { t.calls.msgrcv(id, address, size as usize, 0, flags) };
            assert_eq!(answer, Err(Errno::INVAL));
        }
    }
    assert_eq!(take(t, id, 0, 0), Ok((1, b'a')));
    Outcome::Pass
}

fn unsuitable_wakes_nobody(t: &Target) -> Outcome {
    let id = t.queue();
    let one = asleep(|| assert_eq!(t.msgrcv(id, 8, 7, 0), Ok((7, b"seven".to_vec()))));
    let low = asleep(|| assert_eq!(t.msgrcv(id, 8, -3, 0), Ok((3, b"three".to_vec()))));
    let except = asleep(|| assert_eq!(t.msgrcv(id, 8, 5, MSG_EXCEPT), Err(Errno::IDRM)));
    t.msgsnd(id, 5, b"five", 0).unwrap();
    [&one, &low, &except].into_iter().for_each(still_asleep);
    assert_eq!(count(t, id), 1);
    t.msgsnd(id, 7, b"seven", 0).unwrap();
    one.join();
    t.msgsnd(id, 3, b"three", 0).unwrap();
    low.join();
    still_asleep(&except);
    assert_eq!(count(t, id), 1);
    t.msg_remove(id).unwrap();
    except.join();
    Outcome::Pass
}

fn removed_while_asleep(t: &Target) -> Outcome {
    let id = queue_with(t, &[(1, b'a')]);
    let sleepers = [2, 3]
        .map(|wanted| asleep(move || assert_eq!(t.msgrcv(id, 8, wanted, 0), Err(Errno::IDRM))));
    t.msg_remove(id).unwrap();
    sleepers.into_iter().for_each(|sleeper| sleeper.join());
    Outcome::Pass
}

fn interrupted(t: &Target) -> Outcome {
    let id = t.queue();
    for flags in [0, libc::SA_RESTART] {
        let receiver = asleep(|| {
            count_signals(libc::SIGUSR1, flags);
            assert_eq!(t.msgrcv(id, 8, 0, 0), Err(Errno::INTR));
            assert_eq!(signals_seen(), 1);
        });
        receiver.signal(libc::SIGUSR1);
        receiver.join();
    }
    t.msgsnd(id, 1, b"text", 0).unwrap();
    assert_eq!(t.msgrcv(id, 8, 0, IPC_NOWAIT), Ok((1, b"text".to_vec())));
    Outcome::Pass
}

fn sleeper_with_small_buffer(t: &Target) -> Outcome {
    let id = t.queue();
    let small = asleep(|| assert_eq!(t.msgrcv(id, 4, 1, 0), Err(Errno::TOOBIG)));
    let large = asleep(|| assert_eq!(t.msgrcv(id, 40, 0, 0), Ok((1, b"too long".to_vec()))));
    t.msgsnd(id, 1, b"too long", 0).unwrap();
    small.join();
    large.join();
    assert_eq!(count(t, id), 0);

    // With MSG_NOERROR the small buffer is no obstacle.
    let small = asleep(|| assert_eq!(t.msgrcv(id, 3, 0, MSG_NOERROR), Ok((1, b"too".to_vec()))));
    t.msgsnd(id, 1, b"too long", 0).unwrap();
    small.join();
    Outcome::Pass
}

fn arrival_order(t: &Target) -> Outcome {
    let id = t.queue();
    let mut sleepers = Vec::new();
    for (i, wanted) in [0, 4, -9, 0, 4].into_iter().enumerate() {
        sleepers.push(asleep(move || {
            assert_eq!(t.msgrcv(id, 8, wanted, 0), Ok((4, vec![i as u8])));
        }));
    }
    for (i, sleeper) in sleepers.into_iter().enumerate() {
        t.msgsnd(id, 4, &[i as u8], 0).unwrap();
        sleeper.join();
    }
    Outcome::Pass
}

fn no_permission(t: &Target) -> Outcome {
    let id = t.msgget(IPC_PRIVATE, 0o266).unwrap();
    t.msgsnd(id, 1, b"text", 0).unwrap();
    without_capabilities(|| {
        assert_eq!(t.msgrcv(id, 8, 0, IPC_NOWAIT), Err(Errno::ACCESS));
        assert_eq!(
            t.msgrcv(id, 8, 0, IPC_NOWAIT | MSG_COPY),
            Err(Errno::ACCESS)
        );
    });
    assert_eq!(count(t, id), 1);
    let mut status = status_of(t, id);
    status.msg_perm.mode = 0o400;
    t.msg_set(id, &status).unwrap();
    without_capabilities(|| {
        assert_eq!(t.msgrcv(id, 8, 0, IPC_NOWAIT), Ok((1, b"text".to_vec())));
    });
    Outcome::Pass
}
