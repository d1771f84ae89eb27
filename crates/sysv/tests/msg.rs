//! Message queues: what is sent is received, and what happens where that takes time.

mod harness;

use harness::*;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use sysv::msg::{self, Change};
use sysv::{Errno, Kernel, Key, Queue, Received, Select, Wait};

fn take(queue: &Queue, select: Select) -> sysv::Result<(i64, Vec<u8>)> {
    let mut text = Vec::new();
    let received = queue.receive(select, &mut text, Wait::Never)?;
    assert_eq!(received.length, text.len());
    assert!(!received.truncated);
    Ok((received.message_type, text))
}

fn filled(messages: &[(i64, &[u8])]) -> Guard<Queue> {
    let made = queue(0o600);
    for (message_type, text) in messages {
        made.send(*message_type, text, Wait::Never).expect("msgsnd");
    }
    made
}

#[test]
fn a_key_finds_what_was_made_with_it() {
    let (key, made) = keyed(|key| Queue::create(key, mode(0o640)));
    assert_eq!(Queue::open(key), Ok(made.0));
    assert_eq!(Queue::open_or_create(key, mode(0o600)), Ok(made.0));
    assert_eq!(Queue::create(key, mode(0o600)), Err(Errno::EXIST));
    made.remove().expect("IPC_RMID");
    assert_eq!(Queue::open(key), Err(Errno::NOENT));
    let spy = Spy::default();
    let private = Queue::open_in(&spy, Key::PRIVATE);
    assert_eq!(private.err(), Some(Errno::NOENT));
    assert_eq!(spy.calls.into_inner(), 0);
}

#[test]
fn messages_are_selected_by_type() {
    let made = filled(&[(5, b"five"), (3, b"three"), (9, b""), (3, b"again")]);
    assert_eq!(take(&made, Select::Type(9)), Ok((9, b"".to_vec())));
    assert_eq!(take(&made, Select::Except(5)), Ok((3, b"three".to_vec())));
    assert_eq!(take(&made, Select::UpTo(4)), Ok((3, b"again".to_vec())));
    assert_eq!(take(&made, Select::UpTo(4)), Err(Errno::NOMSG));
    assert_eq!(take(&made, Select::Any), Ok((5, b"five".to_vec())));
    assert_eq!(take(&made, Select::Any), Err(Errno::NOMSG));
}

#[test]
fn types_are_positive() {
    let made = filled(&[(i64::MAX, b"last")]);
    for wrong in [0, -1, i64::MIN] {
        assert_eq!(made.send(wrong, b"", Wait::Never), Err(Errno::INVAL));
        for select in [
            Select::Type(wrong),
            Select::UpTo(wrong),
            Select::Except(wrong),
        ] {
            assert_eq!(take(&made, select), Err(Errno::INVAL), "{select:?}");
        }
    }
    let last = (i64::MAX, b"last".to_vec());
    assert_eq!(take(&made, Select::UpTo(i64::MAX)), Ok(last));
}

#[test]
fn a_copy_changes_nothing() {
    let made = filled(&[(1, b"one"), (2, &[7; 2000])]);
    let before = made.status().expect("IPC_STAT");
    match take(&made, Select::At(1)) {
        Err(Errno::NOSYS) => return eprintln!("skipped: the kernel cannot copy messages"),
        answer => assert_eq!(answer, Ok((2, vec![7; 2000]))),
    }
    assert_eq!(take(&made, Select::At(0)), Ok((1, b"one".to_vec())));
    assert_eq!(take(&made, Select::At(2)), Err(Errno::NOMSG));
    assert_eq!(take(&made, Select::At(usize::MAX)), Err(Errno::NOMSG));
    // It never waits, whatever is asked.
    let mut text = Vec::new();
    let answer = made.receive(Select::At(2), &mut text, Wait::Block);
    assert_eq!(answer, Err(Errno::NOMSG));
    assert_eq!(made.status(), Ok(before));
}

#[test]
fn a_vector_grows_to_the_message() {
    let longest =
        vec![1; usize::try_from(msg::limits(Kernel).expect("IPC_INFO").msgmax).expect("bytes")];
    let made = filled(&[(1, b"short")]);
    if longest.len() <= 16000 {
        made.send(2, &longest, Wait::Never).expect("msgsnd");
        assert_eq!(take(&made, Select::Type(2)), Ok((2, longest)));
    } else {
        eprintln!("skipped: the longest message does not fit in a queue");
    }
    for length in [0, 1, 255, 256, 257, 1000] {
        let text = vec![9; length];
        made.send(3, &text, Wait::Never).expect("msgsnd");
        assert_eq!(take(&made, Select::Type(3)), Ok((3, text)));
    }
    // What stood in the vector is replaced.
    let mut text = b"something else".to_vec();
    made.receive(Select::Any, &mut text, Wait::Never)
        .expect("msgrcv");
    assert_eq!(text, b"short");
}

#[test]
fn slices_take_what_fits_or_are_told() {
    let made = filled(&[(1, b"12345"), (2, b"12345"), (3, b"12345")]);
    let mut small = [0; 4];
    let answer = made.receive_into(Select::Any, &mut small, Wait::Never);
    assert_eq!(answer, Err(Errno::TOOBIG));
    assert_eq!(small, [0; 4]);

    let mut large = [0; 6];
    let answer = made.receive_into(Select::Type(1), &mut large, Wait::Never);
    let whole = Received {
        message_type: 1,
        length: 5,
        truncated: false,
    };
    assert_eq!((answer, &large), (Ok(whole), b"12345\0"));

    let answer = made.receive_truncated(Select::Any, &mut small, Wait::Never);
    let cut = Received {
        message_type: 2,
        length: 4,
        truncated: true,
    };
    assert_eq!((answer, &small), (Ok(cut), b"1234"));

    let mut exact = [0; 5];
    let answer = made.receive_truncated(Select::Any, &mut exact, Wait::Never);
    let whole = Received {
        message_type: 3,
        ..whole
    };
    assert_eq!((answer, &exact), (Ok(whole), b"12345"));
    assert_eq!(made.status().expect("IPC_STAT").messages, 0);
}

#[test]
fn a_full_queue_refuses_or_waits() {
    let made = queue(0o600);
    let change = Change {
        capacity: Some(10),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    made.send(1, &[1; 10], Wait::Never).expect("msgsnd");
    assert_eq!(made.send(1, b"x", Wait::Never), Err(Errno::AGAIN));
    thread::scope(|scope| {
        let sender = scope.spawn(|| made.send(2, b"later", Wait::Block));
        take(&made, Select::Type(1)).expect("msgrcv");
        assert_eq!(sender.join().expect("no panic"), Ok(()));
    });
    assert_eq!(take(&made, Select::Any), Ok((2, b"later".to_vec())));
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let made = queue(0o640);
    let before = made.status().expect("IPC_STAT");
    let change = Change {
        capacity: Some(100),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    let now = made.status().expect("IPC_STAT");
    assert_eq!((now.capacity, now.perm), (100, before.perm));
    let closed = sysv::Change {
        mode: Some(mode(0)),
        ..sysv::Change::default()
    };
    made.set(&closed.into()).expect("IPC_SET");
    let now = made.status_any().expect("MSG_STAT_ANY");
    assert_eq!((now.capacity, now.perm.mode), (100, mode(0)));
    let open = sysv::Change {
        mode: Some(mode(0o600)),
        ..sysv::Change::default()
    };
    made.set(&open.into()).expect("by the owner, unreadable");
    assert_eq!(made.status().expect("IPC_STAT").perm.mode, mode(0o600));
}

#[test]
fn removal_ends_waiting() {
    let made = queue(0o600);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            sender.send(Thread::current()).expect("listened to");
            made.receive(Select::Any, &mut Vec::new(), Wait::Block)
        });
        receiver.recv().expect("started").wait_until_asleep();
        made.remove().expect("IPC_RMID");
        assert_eq!(waiter.join().expect("no panic"), Err(Errno::IDRM));
    });
}

#[test]
fn a_signal_is_reported_where_the_caller_asked() {
    let made = queue(0o600);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            sender.send(Thread::current()).expect("listened to");
            made.receive(Select::Any, &mut Vec::new(), Wait::Interruptible)
        });
        let thread = receiver.recv().expect("started");
        wait_until("EINTR", || {
            thread.interrupt();
            waiter.is_finished()
        });
        assert_eq!(waiter.join().expect("no panic"), Err(Errno::INTR));
    });
}

#[test]
fn a_signal_is_survived_otherwise() {
    let spy = Spy::default();
    let made = queue(0o600);
    let watched = Queue::from_id_in(&spy, made.id());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            sender.send(Thread::current()).expect("listened to");
            let mut text = Vec::new();
            let answer = watched.receive(Select::Type(4), &mut text, Wait::Block);
            answer.map(|received| (received.message_type, text))
        });
        let thread = receiver.recv().expect("started");
        wait_until("three EINTR", || {
            thread.interrupt();
            spy.interrupted.load(SeqCst) >= 3
        });
        made.send(4, b"at last", Wait::Never).expect("msgsnd");
        let answer = waiter.join().expect("no panic");
        assert_eq!(answer, Ok((4, b"at last".to_vec())));
    });
}

#[test]
fn a_blocked_sender_survives_signals_too() {
    let spy = Spy::default();
    let made = queue(0o600);
    let change = Change {
        capacity: Some(1),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    made.send(1, b"1", Wait::Never).expect("msgsnd");
    let watched = Queue::from_id_in(&spy, made.id());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            sender.send(Thread::current()).expect("listened to");
            watched.send(2, b"2", Wait::Block)
        });
        let thread = receiver.recv().expect("started");
        wait_until("EINTR", || {
            thread.interrupt();
            spy.interrupted.load(SeqCst) >= 1
        });
        assert_eq!(take(&made, Select::Any), Ok((1, b"1".to_vec())));
        assert_eq!(waiter.join().expect("no panic"), Ok(()));
    });
    assert_eq!(take(&made, Select::Any), Ok((2, b"2".to_vec())));
}

#[test]
fn others_may_what_the_mode_says() {
    let letters = filled(&[(1, b"kept")]);
    let change = sysv::Change {
        mode: Some(mode(0o602)),
        ..sysv::Change::default()
    };
    letters.set(&change.into()).expect("IPC_SET");
    as_other_user(|| {
        letters
            .send(2, b"in", Wait::Never)
            .expect("write permission");
        assert_eq!(take(&letters, Select::Any), Err(Errno::ACCESS));
        assert_eq!(letters.status(), Err(Errno::ACCESS));
        let status = letters.status_any().expect("whatever the mode");
        assert_eq!(status.messages, 2);
        let index = letters.id() % sysv::abi::IPCMNI;
        assert_eq!(msg::at_index(Kernel, index), Err(Errno::ACCESS));
        assert_eq!(msg::at_index_any(Kernel, index), Ok(status));
        assert_eq!(letters.remove(), Err(Errno::PERM));
    });
}

#[test]
fn status_counts() {
    let made = filled(&[(1, b"12345"), (1, b"123")]);
    let pid = std::process::id().cast_signed();
    take(&made, Select::Any).expect("msgrcv");
    let status = made.status().expect("IPC_STAT");
    assert_eq!((status.messages, status.bytes), (1, 3));
    assert_eq!((status.last_send_pid, status.last_receive_pid), (pid, pid));
    assert!(status.sent > 0 && status.received > 0 && status.changed > 0);
    assert_eq!(made.status_any(), Ok(status));
    let limits = msg::limits(Kernel).expect("IPC_INFO");
    assert_eq!(i64::from(limits.msgmnb), status.capacity.cast_signed());
    let usage = msg::usage(Kernel).expect("MSG_INFO");
    assert!(usage.queues >= 1 && usage.messages >= 1 && usage.bytes >= 3);
    assert!(usage.highest_index >= made.id() % sysv::abi::IPCMNI);
}
