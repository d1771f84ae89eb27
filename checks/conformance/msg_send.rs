//! MS: `msgsnd`.

use crate::caller::{
    Fenced, Stamp, asleep, count_signals, my_pid, signals_seen, still_asleep, without_capabilities,
};
use crate::harness::{BAD, Outcome, Statement, Target};
use crate::process::child;
use std::collections::HashMap;
use std::io::{PipeWriter, Read, Write};
use sysv::abi::*;
use sysv::{Errno, Result};

/// The statements about `msgsnd`.
pub const STATEMENTS: &[Statement] = &[
    Statement {
        id: "MS-1",
        run: appends,
    },
    Statement {
        id: "MS-2",
        run: type_below_1,
    },
    Statement {
        id: "MS-3",
        run: size_limits,
    },
    Statement {
        id: "MS-4",
        run: empty_text,
    },
    Statement {
        id: "MS-5",
        run: full,
    },
    Statement {
        id: "MS-6",
        run: sleeps_until_room,
    },
    Statement {
        id: "MS-7",
        run: sleep_ends,
    },
    Statement {
        id: "MS-8",
        run: bookkeeping,
    },
    Statement {
        id: "MS-9",
        run: unreadable,
    },
    Statement {
        id: "MS-10",
        run: no_permission,
    },
    Statement {
        id: "MS-11",
        run: raised_limit_wakes,
    },
    Statement {
        id: "MS-12",
        run: never_fits,
    },
    Statement {
        id: "MS-13",
        run: nothing_lost,
    },
    Statement {
        id: "MS-14",
        run: unknown_flags,
    },
];

/// A queue that holds at most `bytes` bytes.
pub fn queue_of(t: &Target, bytes: u64) -> i32 {
    let id = t.queue();
    set_capacity(t, id, bytes);
    id
}

/// Sets `msg_qbytes`.
pub fn set_capacity(t: &Target, id: i32, bytes: u64) {
    let mut status = t.msg_stat(id).expect("IPC_STAT");
    status.msg_qbytes = bytes;
    t.msg_set(id, &status).expect("IPC_SET");
}

/// The limit MSGMAX.
fn longest(t: &Target) -> usize {
    let mut limits = msginfo::default();
    t.msgctl_with(0, IPC_INFO, &mut limits).expect("IPC_INFO");
    limits.msgmax as usize
}

/// Sends `size` bytes from a buffer that holds a type and 4 bytes of text; memory after it faults.
fn send_short_buffer(t: &Target, id: i32, message_type: i64, size: usize) -> Result<()> {
    let buffer = Fenced::new(12);
    buffer.write(0, &message_type.to_ne_bytes());
    // SAFETY: what lies beyond the 12 bytes is no memory of ours: reading it can only fault.
    unsafe {
        t.calls
            .msgsnd(id, buffer.address().cast(), size, IPC_NOWAIT)
    }
}

fn appends(t: &Target) -> Outcome {
    let id = t.queue();
    // Sizes on both sides of the pieces in which the kernel stores a message.
    let sizes = [1, 7, 8, 4047, 4048, 4049, 0, 7000];
    let text = |size: usize| {
        (0..size)
            .map(|i| (i % 251) as u8 ^ size as u8)
            .collect::<Vec<_>>()
    };
    for (place, chunk) in sizes.chunks(4).enumerate() {
        for (i, &size) in chunk.iter().enumerate() {
            let message_type = (1 + i + 10 * place) as i64;
            assert_eq!(t.msgsnd(id, message_type, &text(size), IPC_NOWAIT), Ok(()));
        }
        for (i, &size) in chunk.iter().enumerate() {
            let message_type = (1 + i + 10 * place) as i64;
            assert_eq!(
                t.msgrcv(id, 8192, 0, IPC_NOWAIT),
                Ok((message_type, text(size)))
            );
        }
    }
    assert_eq!(t.msgsnd(id, i64::MAX, b"type", 0), Ok(()));
    assert_eq!(
        t.msgrcv(id, 8, 0, IPC_NOWAIT),
        Ok((i64::MAX, b"type".to_vec()))
    );
    Outcome::Pass
}

fn type_below_1(t: &Target) -> Outcome {
    let id = t.queue();
    for message_type in [0, -1, i64::MIN] {
        assert_eq!(
            t.msgsnd(id, message_type, b"text", IPC_NOWAIT),
            Err(Errno::INVAL)
        );
    }
    assert_eq!(t.msg_stat(id).unwrap().msg_qnum, 0);
    assert_eq!(t.msgsnd(id, 1, b"text", IPC_NOWAIT), Ok(()));
    Outcome::Pass
}

fn size_limits(t: &Target) -> Outcome {
    let id = t.queue();
    let most = longest(t);
    assert_eq!(
        t.msgsnd(id, 1, &vec![7; most + 1], IPC_NOWAIT),
        Err(Errno::INVAL)
    );
    for negative in [-1isize, -4096, isize::MIN] {
        assert_eq!(
            send_short_buffer(t, id, 1, negative as usize),
            Err(Errno::INVAL)
        );
    }
    assert_eq!(t.msg_stat(id).unwrap().msg_qnum, 0);
    assert_eq!(t.msgsnd(id, 1, &vec![7; most], IPC_NOWAIT), Ok(()));
    assert_eq!(t.msgrcv(id, most, 0, IPC_NOWAIT), Ok((1, vec![7; most])));
    Outcome::Pass
}

fn empty_text(t: &Target) -> Outcome {
    let id = t.queue();
    t.msgsnd(id, 3, b"", 0).expect("size 0");
    let status = t.msg_stat(id).unwrap();
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (1, 0));
    assert_eq!(t.msgrcv(id, 16, 0, IPC_NOWAIT), Ok((3, Vec::new())));
    Outcome::Pass
}

fn full(t: &Target) -> Outcome {
    let by_bytes = queue_of(t, 100);
    t.msgsnd(by_bytes, 1, &[1; 60], IPC_NOWAIT)
        .expect("60 of 100 bytes");
    assert_eq!(
        t.msgsnd(by_bytes, 1, &[1; 41], IPC_NOWAIT),
        Err(Errno::AGAIN)
    );
    t.msgsnd(by_bytes, 1, &[1; 40], IPC_NOWAIT)
        .expect("the last 40 bytes");
    assert_eq!(
        t.msgsnd(by_bytes, 1, &[1; 1], IPC_NOWAIT),
        Err(Errno::AGAIN)
    );
    t.msgsnd(by_bytes, 1, b"", IPC_NOWAIT)
        .expect("no bytes fit");
    assert_eq!(t.msg_stat(by_bytes).unwrap().msg_qnum, 3);

    let by_number = queue_of(t, 5);
    for _ in 0..5 {
        t.msgsnd(by_number, 1, b"", IPC_NOWAIT)
            .expect("fewer messages than msg_qbytes");
    }
    assert_eq!(t.msgsnd(by_number, 1, b"", IPC_NOWAIT), Err(Errno::AGAIN));
    t.msgrcv(by_number, 0, 0, IPC_NOWAIT).unwrap();
    t.msgsnd(by_number, 1, b"", IPC_NOWAIT).expect("room again");
    Outcome::Pass
}

fn sleeps_until_room(t: &Target) -> Outcome {
    let by_bytes = queue_of(t, 20);
    t.msgsnd(by_bytes, 1, &[1; 8], 0).unwrap();
    t.msgsnd(by_bytes, 2, &[2; 12], 0).unwrap();
    let sender = asleep(|| assert_eq!(t.msgsnd(by_bytes, 3, &[3; 10], 0), Ok(())));
    t.msgrcv(by_bytes, 8, 1, 0).unwrap();
    still_asleep(&sender);
    assert_eq!(
        t.msg_stat(by_bytes).unwrap().msg_qnum,
        1,
        "8 bytes of room are too few"
    );
    t.msgrcv(by_bytes, 12, 2, 0).unwrap();
    sender.join();
    assert_eq!(t.msgrcv(by_bytes, 20, 0, IPC_NOWAIT), Ok((3, vec![3; 10])));

    let by_number = queue_of(t, 1);
    t.msgsnd(by_number, 1, b"", 0).unwrap();
    let sender = asleep(|| assert_eq!(t.msgsnd(by_number, 2, b"", 0), Ok(())));
    assert_eq!(t.msgrcv(by_number, 0, 0, IPC_NOWAIT), Ok((1, Vec::new())));
    sender.join();
    assert_eq!(t.msgrcv(by_number, 0, 0, IPC_NOWAIT), Ok((2, Vec::new())));
    Outcome::Pass
}

fn sleep_ends(t: &Target) -> Outcome {
    let removed = queue_of(t, 0);
    let sender = asleep(|| assert_eq!(t.msgsnd(removed, 1, b"text", 0), Err(Errno::IDRM)));
    t.msg_remove(removed).unwrap();
    sender.join();

    let id = queue_of(t, 0);
    for flags in [0, libc::SA_RESTART] {
        let sender = asleep(|| {
            count_signals(libc::SIGUSR1, flags);
            assert_eq!(t.msgsnd(id, 1, b"text", 0), Err(Errno::INTR));
            assert_eq!(signals_seen(), 1);
        });
        sender.signal(libc::SIGUSR1);
        sender.join();
    }
    set_capacity(t, id, 100);
    assert_eq!(
        t.msg_stat(id).unwrap().msg_qnum,
        0,
        "an interrupted sender sends nothing"
    );
    Outcome::Pass
}

fn bookkeeping(t: &Target) -> Outcome {
    let id = t.queue();
    let created = t.msg_stat(id).unwrap();
    let stamp = Stamp::now();
    t.msgsnd(id, 1, &[1; 30], 0).unwrap();
    let status = t.msg_stat(id).unwrap();
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (1, 30));
    assert_eq!(status.msg_lspid, my_pid());
    stamp.covers(status.msg_stime);

    let sender = child(|| t.msgsnd(id, 1, &[1; 12], 0).unwrap());
    let pid = sender.pid();
    sender.join();
    let status = t.msg_stat(id).unwrap();
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (2, 42));
    assert_eq!(status.msg_lspid, pid);
    assert_eq!(
        (status.msg_lrpid, status.msg_rtime),
        (0, 0),
        "the receiver's side is untouched"
    );
    assert_eq!(status.msg_ctime, created.msg_ctime);
    Outcome::Pass
}

fn unreadable(t: &Target) -> Outcome {
    let id = t.queue();
    for address in [0, BAD] {
        // SAFETY: the address is none of ours.
        let answer = unsafe { t.calls.msgsnd(id, address as *const _, 4, IPC_NOWAIT) };
        assert_eq!(answer, Err(Errno::FAULT));
    }
    assert_eq!(
        send_short_buffer(t, id, 1, 5),
        Err(Errno::FAULT),
        "one byte beyond the memory"
    );
    assert_eq!(send_short_buffer(t, id, 1, 6000), Err(Errno::FAULT));
    let status = t.msg_stat(id).unwrap();
    assert_eq!(
        (status.msg_qnum, status.__msg_cbytes, status.msg_lspid),
        (0, 0, 0)
    );
    assert_eq!(send_short_buffer(t, id, 1, 4), Ok(()));
    Outcome::Pass
}

fn no_permission(t: &Target) -> Outcome {
    let id = t.msgget(IPC_PRIVATE, 0o455).unwrap();
    without_capabilities(|| {
        assert_eq!(t.msgsnd(id, 1, b"text", IPC_NOWAIT), Err(Errno::ACCESS));
    });
    let id = t.msgget(IPC_PRIVATE, 0o200).unwrap();
    without_capabilities(|| assert_eq!(t.msgsnd(id, 1, b"text", IPC_NOWAIT), Ok(())));
    Outcome::Pass
}

fn raised_limit_wakes(t: &Target) -> Outcome {
    let id = queue_of(t, 10);
    t.msgsnd(id, 1, &[1; 10], 0).unwrap();
    let fits = asleep(|| assert_eq!(t.msgsnd(id, 2, &[2; 5], 0), Ok(())));
    let too_long = asleep(|| assert_eq!(t.msgsnd(id, 3, &[3; 50], 0), Err(Errno::IDRM)));
    set_capacity(t, id, 15);
    fits.join();
    let status = t.msg_stat(id).unwrap();
    assert_eq!((status.msg_qnum, status.__msg_cbytes), (2, 15));
    still_asleep(&too_long);
    t.msg_remove(id).unwrap();
    too_long.join();
    Outcome::Pass
}

fn never_fits(t: &Target) -> Outcome {
    let id = queue_of(t, 10);
    assert_eq!(t.msgsnd(id, 1, &[1; 11], IPC_NOWAIT), Err(Errno::AGAIN));
    let sender = asleep(|| assert_eq!(t.msgsnd(id, 1, &[1; 11], 0), Err(Errno::IDRM)));
    assert_eq!(t.msg_stat(id).unwrap().msg_qnum, 0);
    t.msg_remove(id).unwrap();
    sender.join();
    Outcome::Pass
}

const SENDERS: u32 = 3;
const MESSAGES: u32 = 1000;

fn nothing_lost(t: &Target) -> Outcome {
    let id = t.queue();
    exchange(t, id, [0, 0]);
    exchange(t, id, [1, 2]);
    assert_eq!(t.msg_stat(id).unwrap().msg_qnum, 0);
    Outcome::Pass
}

/// Lets `SENDERS` processes send messages of types 1 and 2 to two receivers, each of which takes
/// the type given, and checks that every message arrived once and in order.
fn exchange(t: &Target, id: i32, wanted: [i64; 2]) {
    let receivers = wanted.map(|wanted| {
        let (reader, writer) = std::io::pipe().unwrap();
        (child(move || take_all(t, id, wanted, writer)), reader)
    });
    let senders = [0, 1, 2].map(|sender: u32| child(move || send_all(t, id, sender)));
    senders.into_iter().for_each(|sender| sender.join());
    for wanted in wanted {
        t.msgsnd(id, wanted.max(1), b"", 0).expect("the end mark");
    }
    let mut arrived = Vec::new();
    for (receiver, mut reader) in receivers {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        arrived.extend(
            bytes
                .chunks(4)
                .map(|word| u32::from_ne_bytes(word.try_into().unwrap())),
        );
        receiver.join();
    }
    arrived.sort_unstable();
    let sent: Vec<u32> = (0..SENDERS * MESSAGES).collect();
    assert!(
        arrived == sent,
        "{} of {} messages arrived",
        arrived.len(),
        sent.len()
    );
}

/// Sends this sender's messages: its number, a serial number, and some filling.
fn send_all(t: &Target, id: i32, sender: u32) {
    assert!(sender < SENDERS);
    for serial in 0..MESSAGES {
        let mut text = [sender.to_ne_bytes(), serial.to_ne_bytes()].concat();
        text.resize(8 + (serial as usize * 37) % 700, serial as u8);
        t.msgsnd(id, 1 + i64::from(serial % 2), &text, 0)
            .expect("msgsnd");
    }
}

/// Receives up to the end mark and writes the numbers of the messages to `output`.
fn take_all(t: &Target, id: i32, wanted: i64, mut output: PipeWriter) {
    let mut last = HashMap::new();
    let mut arrived = Vec::new();
    loop {
        let (message_type, text) = t.msgrcv(id, 1024, wanted, 0).expect("msgrcv");
        if text.is_empty() {
            break;
        }
        let sender = u32::from_ne_bytes(text[..4].try_into().unwrap());
        let serial = u32::from_ne_bytes(text[4..8].try_into().unwrap());
        assert_eq!(text.len(), 8 + (serial as usize * 37) % 700);
        assert!(text[8..].iter().all(|&byte| byte == serial as u8));
        assert_eq!(message_type, 1 + i64::from(serial % 2));
        if let Some(earlier) = last.insert((sender, message_type), serial) {
            assert!(
                earlier < serial,
                "{serial} of sender {sender} came after {earlier}"
            );
        }
        arrived.extend((sender * MESSAGES + serial).to_ne_bytes());
    }
    output.write_all(&arrived).unwrap();
}

fn unknown_flags(t: &Target) -> Outcome {
    let id = queue_of(t, 8);
    assert_eq!(t.msgsnd(id, 1, b"12345678", !IPC_NOWAIT), Ok(()));
    assert_eq!(
        t.msgsnd(id, 1, b"1", !0),
        Err(Errno::AGAIN),
        "IPC_NOWAIT counts among them"
    );
    let sender = asleep(|| assert_eq!(t.msgsnd(id, 2, b"2", !IPC_NOWAIT), Ok(())));
    assert_eq!(
        t.msgrcv(id, 8, 0, IPC_NOWAIT),
        Ok((1, b"12345678".to_vec()))
    );
    sender.join();
    assert_eq!(t.msg_stat(id).unwrap().msg_qnum, 1);
    Outcome::Pass
}
