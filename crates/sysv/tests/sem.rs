//! Semaphore sets: operations, values, waiting.

mod harness;

use harness::*;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use sysv::sem;
use sysv::{Change, Errno, Kernel, Key, Operation, Set};

fn now(number: u16, amount: i16) -> Operation {
    Operation {
        no_wait: true,
        ..Operation::add(number, amount)
    }
}

#[test]
fn a_key_finds_what_was_made_with_it() {
    let (key, made) = keyed(|key| Set::create(key, 3, mode(0o640)));
    assert_eq!(Set::open(key), Ok(made.0));
    assert_eq!(Set::open_or_create(key, 3, mode(0o600)), Ok(made.0));
    assert_eq!(Set::create(key, 3, mode(0o600)), Err(Errno::EXIST));
    let larger = Set::open_or_create(key, 4, mode(0o600));
    assert_eq!(larger, Err(Errno::INVAL));
    made.remove().expect("IPC_RMID");
    assert_eq!(Set::open(key), Err(Errno::NOENT));
    let spy = Spy::default();
    let private = Set::open_in(&spy, Key::PRIVATE);
    assert_eq!(private.err(), Some(Errno::NOENT));
    assert_eq!(spy.calls.into_inner(), 0);
}

#[test]
fn counts_out_of_range_are_refused() {
    for count in [0, usize::MAX, 1 << 32, i32::MAX as usize] {
        let answer = Set::create(Key::PRIVATE, count, mode(0o600));
        assert_eq!(answer, Err(Errno::INVAL), "{count}");
    }
}

#[test]
fn operations_are_all_or_none() {
    let made = set(3, 0o600);
    made.set_values(&[1, 2, 3]).expect("SETALL");
    assert_eq!(made.operate(&[now(0, -1), now(2, -4)]), Err(Errno::AGAIN));
    assert_eq!(made.values(), Ok(vec![1, 2, 3]));
    made.operate(&[now(0, -1), now(0, 0), now(2, 4)])
        .expect("semop");
    assert_eq!(made.values(), Ok(vec![0, 2, 7]));
    assert_eq!(made.operate(&[]), Err(Errno::INVAL));
    assert_eq!(made.operate(&[now(3, 1)]), Err(Errno::FBIG));
    assert_eq!(
        made.operate(&[now(0, i16::MAX), now(0, 1)]),
        Err(Errno::RANGE)
    );
    // More than fit on the stack.
    made.operate(&[Operation::add(1, 1); 100]).expect("semop");
    assert_eq!(made.value(1), Ok(102));
    let many = vec![Operation::add(1, 1); 1 << 16];
    assert_eq!(made.operate(&many), Err(Errno::TOOBIG));
}

#[test]
fn values_one_by_one_and_together() {
    let made = set(2, 0o600);
    assert_eq!(made.values(), Ok(vec![0, 0]));
    assert_eq!(made.pid(1), Ok(0));
    made.set_value(1, 32767).expect("SETVAL");
    assert_eq!((made.value(0), made.value(1)), (Ok(0), Ok(32767)));
    assert_eq!(made.pid(1), Ok(std::process::id().cast_signed()));
    assert_eq!(made.set_value(1, 32768), Err(Errno::RANGE));
    assert_eq!(made.set_value(2, 0), Err(Errno::INVAL));
    assert_eq!(made.value(2), Err(Errno::INVAL));
    assert_eq!(made.set_values(&[5, 32768]), Err(Errno::RANGE));
    for wrong in [&[][..], &[1], &[1, 2, 3]] {
        assert_eq!(made.set_values(wrong), Err(Errno::INVAL));
    }
    assert_eq!(made.values(), Ok(vec![0, 32767]));
}

#[test]
fn the_largest_set_gives_all_its_values() {
    let largest = sem::limits(Kernel).expect("IPC_INFO").semmsl;
    let count = usize::try_from(largest).expect("a count").min(65536);
    let made = set(count, 0o600);
    let values: Vec<u16> = (0..count).map(|n| (n % 32768) as u16).collect();
    made.set_values(&values).expect("SETALL");
    assert_eq!(made.values(), Ok(values));
    assert_eq!(made.status().expect("IPC_STAT").count, count as u64);
}

#[test]
fn waiting_ends_and_is_counted() {
    let made = set(2, 0o600);
    made.set_values(&[0, 1]).expect("SETALL");
    thread::scope(|scope| {
        let increase = scope.spawn(|| made.operate(&[Operation::add(0, -2)]));
        let zero = scope.spawn(|| made.operate(&[Operation::add(1, 0)]));
        wait_until("two waiters", || {
            made.waiting_for_increase(0) == Ok(1) && made.waiting_for_zero(1) == Ok(1)
        });
        assert_eq!(made.waiting_for_zero(0), Ok(0));
        made.operate(&[now(0, 2), now(1, -1)]).expect("semop");
        assert_eq!(increase.join().expect("no panic"), Ok(()));
        assert_eq!(zero.join().expect("no panic"), Ok(()));
    });
    assert_eq!(made.values(), Ok(vec![0, 0]));
    assert_eq!(made.waiting_for_increase(0), Ok(0));
}

#[test]
fn removal_ends_waiting() {
    let made = set(1, 0o600);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| made.operate(&[Operation::add(0, -1)]));
        wait_until("a waiter", || made.waiting_for_increase(0) == Ok(1));
        made.remove().expect("IPC_RMID");
        assert_eq!(waiter.join().expect("no panic"), Err(Errno::IDRM));
    });
}

#[test]
fn a_timeout_is_kept() {
    let made = set(1, 0o600);
    let wanted = [Operation::add(0, -1)];
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let start = Instant::now();
        let answer = made.operate_timeout(&wanted, timeout);
        assert_eq!(answer, Err(Errno::AGAIN));
        assert!(start.elapsed() >= timeout);
    }
    made.set_value(0, 1).expect("SETVAL");
    // As good as for ever, and no overflow.
    made.operate_timeout(&wanted, Duration::MAX)
        .expect("semtimedop");
}

#[test]
fn signals_do_not_stretch_or_cut_a_timeout() {
    let spy = Spy::default();
    let made = set(1, 0o600);
    let watched = Set::from_id_in(&spy, made.id());
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            sender.send(Thread::current()).expect("listened to");
            let (start, timeout) = (Instant::now(), Duration::from_millis(100));
            let answer = watched.operate_timeout(&[Operation::add(0, -1)], timeout);
            assert!(start.elapsed() >= timeout);
            answer
        });
        let thread = receiver.recv().expect("started");
        // Endless signals: the wait ends all the same.
        wait_until("the timeout", || {
            thread.interrupt();
            waiter.is_finished()
        });
        assert_eq!(waiter.join().expect("no panic"), Err(Errno::AGAIN));
    });
    assert!(spy.interrupted.into_inner() > 0);
}

#[test]
fn a_signal_is_survived_or_reported() {
    let spy = Spy::default();
    let made = set(1, 0o600);
    let watched = Set::from_id_in(&spy, made.id());
    let wanted = [Operation::add(0, -1)];
    for timeout in [None, Some(Duration::from_secs(60))] {
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(move || {
                sender.send(Thread::current()).expect("listened to");
                watched.operate_interruptible(&wanted, timeout)
            });
            let thread = receiver.recv().expect("started");
            wait_until("EINTR", || {
                thread.interrupt();
                waiter.is_finished()
            });
            assert_eq!(waiter.join().expect("no panic"), Err(Errno::INTR));
        });
    }
    let seen = spy.interrupted.load(SeqCst);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            sender.send(Thread::current()).expect("listened to");
            watched.operate(&wanted)
        });
        let thread = receiver.recv().expect("started");
        wait_until("three EINTR", || {
            thread.interrupt();
            spy.interrupted.load(SeqCst) >= seen + 3
        });
        made.set_value(0, 1).expect("SETVAL");
        assert_eq!(waiter.join().expect("no panic"), Ok(()));
    });
}

#[test]
fn undo_undoes_at_the_end_of_the_process() {
    let undo = |amount| Operation {
        undo: true,
        ..Operation::add(0, amount)
    };
    if let Some(id) = inside() {
        let set = Set::from_id(id.parse().expect("an id"));
        set.operate(&[undo(-3), Operation::add(0, 1)])
            .expect("semop");
        assert_eq!(set.value(0), Ok(3));
        return;
    }
    let made = set(1, 0o600);
    made.set_value(0, 5).expect("SETVAL");
    let name = "undo_undoes_at_the_end_of_the_process";
    let output = again(name, &made.id().to_string()).output();
    let output = output.expect("the test program");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    assert_eq!(made.value(0), Ok(6));
}

#[test]
fn others_may_what_the_mode_says() {
    let readable = set(1, 0o604);
    let alterable = set(2, 0o602);
    as_other_user(|| {
        assert_eq!(readable.values(), Ok(vec![0]));
        assert_eq!(readable.set_values(&[1]), Err(Errno::ACCESS));
        assert_eq!(readable.operate(&[now(0, 1)]), Err(Errno::ACCESS));
        assert_eq!(readable.set(&Change::default()), Err(Errno::PERM));
        assert_eq!(readable.remove(), Err(Errno::PERM));
        // To set all values takes no read permission.
        alterable.set_values(&[3, 4]).expect("alter permission");
        assert_eq!(alterable.values(), Err(Errno::ACCESS));
        assert_eq!(alterable.status(), Err(Errno::ACCESS));
        let status = alterable.status_any().expect("whatever the mode");
        assert_eq!(status.count, 2);
        let index = alterable.id() % sysv::abi::IPCMNI;
        assert_eq!(sem::at_index(Kernel, index), Err(Errno::ACCESS));
        assert_eq!(sem::at_index_any(Kernel, index), Ok(status));
    });
    if is_root() {
        assert_eq!(alterable.values(), Ok(vec![3, 4]));
    }
}

#[test]
fn status_and_change() {
    let made = set(2, 0o640);
    let status = made.status().expect("IPC_STAT");
    assert_eq!((status.id, status.count), (made.id(), 2));
    assert_eq!(status.operated, 0);
    assert!(status.changed > 0);
    made.operate(&[now(0, 1)]).expect("semop");
    assert!(made.status().expect("IPC_STAT").operated > 0);
    let change = Change {
        mode: Some(mode(0)),
        ..Change::default()
    };
    made.set(&change).expect("IPC_SET");
    let now = made.status_any().expect("SEM_STAT_ANY");
    assert_eq!((now.perm.mode, now.perm.uid), (mode(0), status.perm.uid));
    let usage = sem::usage(Kernel).expect("SEM_INFO");
    assert!(usage.sets >= 1 && usage.semaphores >= 2);
    assert!(usage.highest_index >= made.id() % sysv::abi::IPCMNI);
}
