//! Both ways to list, how they agree, and that looking changes nothing.

mod harness;

use harness::*;
use std::io::Read;
use std::process::Stdio;
use std::time::Instant;
use sysv::procfs;
use sysv::{Errno, Kernel, Key, Limit, Queue, Segment, Select, Set, Wait};
use sysv::{msg, sem, shm};

/// What `/proc/sysvipc/msg` knows of a status.
fn without_capacity(status: &msg::Status) -> procfs::Queue {
    procfs::Queue {
        id: status.id,
        perm: status.perm,
        bytes: status.bytes,
        messages: status.messages,
        last_send_pid: status.last_send_pid,
        last_receive_pid: status.last_receive_pid,
        sent: status.sent,
        received: status.received,
        changed: status.changed,
    }
}

#[test]
fn one_object_of_each_kind_both_ways() {
    let (key, made) = keyed(|key| Segment::create(key, 5000, mode(0o641)));
    let attach = made.attach().expect("shmat");
    // SAFETY: the attach has a byte, and no other process has it.
    unsafe { attach.as_ptr().write_volatile(1) };
    let status = made.status().expect("IPC_STAT");
    let listed = procfs::segments().expect("/proc/sysvipc/shm");
    let mut listed = listed.iter().filter(|s| s.status.id == made.id());
    let line = listed.next().expect("listed");
    assert_eq!(line.status, status);
    assert_eq!((line.resident, line.swapped), (4096, 0));
    assert_eq!(line.status.perm.key, key);
    assert!(shm::list(Kernel).expect("list").contains(&status));

    // With SHM_DEST in its mode.
    made.remove().expect("IPC_RMID");
    let status = made.status().expect("IPC_STAT");
    assert!(status.marked);
    let listed = procfs::segments().expect("/proc/sysvipc/shm");
    assert!(listed.iter().any(|s| s.status == status));
    drop(attach);
    let listed = procfs::segments().expect("/proc/sysvipc/shm");
    assert!(!listed.iter().any(|s| s.status.id == made.id()));

    let (_, letters) = keyed(|key| Queue::create(key, mode(0o604)));
    letters.send(1, b"12345", Wait::Never).expect("msgsnd");
    letters.send(1, b"123", Wait::Never).expect("msgsnd");
    let mut text = Vec::new();
    letters
        .receive(Select::Any, &mut text, Wait::Never)
        .expect("msgrcv");
    let status = letters.status().expect("IPC_STAT");
    let listed = procfs::queues().expect("/proc/sysvipc/msg");
    assert!(listed.contains(&without_capacity(&status)));
    assert!(msg::list(Kernel).expect("list").contains(&status));

    let (_, three) = keyed(|key| Set::create(key, 3, mode(0o660)));
    three.set_value(0, 1).expect("SETVAL");
    let status = three.status().expect("IPC_STAT");
    assert!(procfs::sets().expect("/proc/sysvipc/sem").contains(&status));
    assert!(sem::list(Kernel).expect("list").contains(&status));
}

#[test]
fn looking_moves_no_pid_and_no_time() {
    let made = segment(100, 0o600);
    made.attach().expect("shmat").detach().expect("shmdt");
    let held = segment(100, 0o600);
    let _attach = held.attach().expect("shmat");
    let before = [made.status(), held.status()];
    // Another process and, where it may, another second: what moves would show.
    as_other_user(|| {
        shm::list(Kernel).expect("list");
        procfs::segments().expect("/proc/sysvipc/shm");
    });
    let name = "looking_moves_no_pid_and_no_time_in_another_process";
    let changed = before[0].expect("IPC_STAT").detached;
    wait_until("the next second", || {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        since.expect("after 1970").as_secs() > changed.cast_unsigned()
    });
    let output = again(name, "look").output().expect("the test program");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    assert_eq!([made.status(), held.status()], before);
}

#[test]
fn looking_moves_no_pid_and_no_time_in_another_process() {
    shm::list(Kernel).expect("list");
    shm::usage(Kernel).expect("SHM_INFO");
    let all = procfs::segments().expect("/proc/sysvipc/shm");
    procfs::attaches().expect("/proc/*/maps");
    for one in all {
        let segment = Segment::from_id(one.status.id);
        match segment.status_any() {
            Ok(_) | Err(Errno::INVAL) => {}
            Err(error) => panic!("{error}"),
        }
        let _ = segment.status();
    }
}

#[test]
fn who_has_a_segment_attached() {
    if let Some(id) = inside() {
        let segment = Segment::from_id(id.parse().expect("an id"));
        let _attach = segment.attach().expect("shmat");
        // Until the other side closes, or is gone.
        std::io::stdin().read_to_end(&mut Vec::new()).expect("end");
        return;
    }
    let made = segment(5000, 0o644);
    assert_eq!(procfs::attached(made.id()).expect("/proc").mappings, []);
    let first = made.attach().expect("shmat");
    let second = made.attach_read_only().expect("shmat");
    let mut seen = procfs::attached(made.id()).expect("/proc");
    let pid = std::process::id().cast_signed();
    // A child that another test starts shares our memory until its exec.
    seen.mappings.retain(|mapping| mapping.pid == pid);
    assert_eq!(seen.mappings.len(), 2);
    for mapping in &seen.mappings {
        assert_eq!((mapping.segment, mapping.pid), (made.id(), pid));
        let attach = if mapping.read_only {
            second.as_ptr().addr()
        } else {
            first.as_ptr().addr()
        };
        assert_eq!(mapping.address, attach as u64);
    }
    assert!(!seen.unreadable.contains(&pid));

    // Another process has it as well; whoever may not read its maps is told so.
    let name = "who_has_a_segment_attached";
    let mut command = again(name, &made.id().to_string());
    let mut holder = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the test program");
    let pid = holder.id().cast_signed();
    wait_until("a third attach", || {
        made.status().is_ok_and(|status| status.attaches == 3)
    });
    let seen = procfs::attached(made.id()).expect("/proc");
    assert_eq!(seen.mappings.iter().filter(|m| m.pid == pid).count(), 1);
    as_other_user(|| {
        let seen = procfs::attached(made.id()).expect("/proc");
        assert!(!seen.mappings.iter().any(|mapping| mapping.pid == pid));
        assert!(seen.unreadable.contains(&pid), "{:?}", seen.unreadable);
        let kernel_thread = std::fs::read_to_string("/proc/2/comm");
        if kernel_thread.is_ok_and(|name| name == "kthreadd\n") {
            assert!(!seen.unreadable.contains(&2));
        }
    });
    drop(holder.stdin.take());
    assert!(holder.wait().expect("a child").success());
}

#[test]
fn many_objects_agree_field_by_field_and_fast() {
    alone("many_objects_agree_field_by_field_and_fast", many_objects);
}

/// The name space goes with the process, and all that is made here with it.
fn many_objects() {
    assert_eq!(procfs::segments().expect("empty"), []);
    assert_eq!(shm::list(Kernel), Ok(vec![]));
    let mut attaches = Vec::new();
    for n in 0..4000 {
        let key = Key::new(if n % 3 == 0 { 0 } else { -n });
        let bits = n.cast_unsigned() % 0o1000;
        let made = Segment::create(key, 1 + n as usize * 7, mode(bits)).expect("shmget");
        if n % 10 == 0 {
            attaches.extend(made.attach());
        }
        if n % 4 == 0 {
            made.remove().expect("IPC_RMID");
        }
    }
    for n in 0..1000 {
        let key = Key::new(i32::MIN + n);
        let made = Queue::create(key, mode(n.cast_unsigned() % 0o1000)).expect("msgget");
        let _ = made.send(1, &vec![1; n as usize], Wait::Never);
        let key = Key::new(1 + n);
        let made = Set::create(key, 1 + n as usize, mode(n.cast_unsigned() % 0o1000));
        let _ = made.expect("semget").set_value(0, 1);
    }
    assert!(attaches.len() > 50);

    let text = procfs::segments().expect("/proc/sysvipc/shm");
    let calls = shm::list(Kernel).expect("SHM_STAT_ANY");
    assert!(calls.len() > 3000);
    assert_eq!(text.iter().map(|s| s.status).collect::<Vec<_>>(), calls);
    let usage = shm::usage(Kernel).expect("SHM_INFO");
    assert_eq!(usage.segments, calls.len() as u64);
    let pages = calls.iter().map(|s| s.size.div_ceil(4096)).sum::<u64>();
    assert_eq!(usage.pages, pages);

    let text = procfs::queues().expect("/proc/sysvipc/msg");
    let calls = msg::list(Kernel).expect("MSG_STAT_ANY");
    assert_eq!(calls.len(), 1000);
    let without = calls.iter().map(without_capacity).collect::<Vec<_>>();
    assert_eq!(text, without);
    let usage = msg::usage(Kernel).expect("MSG_INFO");
    assert_eq!(usage.messages, calls.iter().map(|q| q.messages).sum());
    assert_eq!(usage.bytes, calls.iter().map(|q| q.bytes).sum());

    let text = procfs::sets().expect("/proc/sysvipc/sem");
    let calls = sem::list(Kernel).expect("SEM_STAT_ANY");
    assert_eq!(calls.len(), 1000);
    assert_eq!(text, calls);
    let usage = sem::usage(Kernel).expect("SEM_INFO");
    assert_eq!(usage.semaphores, calls.iter().map(|s| s.count).sum());

    // The best of several: what others do on the machine is not measured.
    let best = |look: &dyn Fn()| {
        let once = |_| {
            let start = Instant::now();
            look();
            start.elapsed()
        };
        (0..20).map(once).min().expect("twenty")
    };
    let text = best(&|| {
        procfs::segments().expect("shm");
        procfs::queues().expect("msg");
        procfs::sets().expect("sem");
    });
    let calls = best(&|| {
        shm::list(Kernel).expect("shm");
        msg::list(Kernel).expect("msg");
        sem::list(Kernel).expect("sem");
    });
    eprintln!("6,000 objects: {text:?} by /proc, {calls:?} by the calls");
    assert!(text.as_millis() < 30 && calls.as_millis() < 30);
}

#[test]
fn limits_can_be_set_and_say_why_not() {
    alone("limits_can_be_set_and_say_why_not", || {
        for limit in Limit::ALL {
            let before = limit.read().expect("a number");
            let wanted = if before == 0 { 1 } else { before - 1 };
            match limit.set(wanted) {
                Err(error) if error.is_permission() => {
                    return eprintln!("skipped: {error}");
                }
                answer => answer.expect("set"),
            }
            assert_eq!(limit.read().expect("a number"), wanted, "{limit}");
            limit.set(before).expect("set back");
            assert_eq!(limit.read().expect("a number"), before, "{limit}");
        }
        let error = Limit::Semmni.set(u64::MAX).expect_err("out of range");
        assert!(!error.is_permission());
        let text = error.to_string();
        assert!(
            text.starts_with("cannot set semmni to 18446744073709551615"),
            "{text}"
        );

        Limit::Shmmni.set(3).expect("set");
        for _ in 0..3 {
            Segment::create(Key::PRIVATE, 1, mode(0o600)).expect("room");
        }
        let full = Segment::create(Key::PRIVATE, 1, mode(0o600));
        assert_eq!(full, Err(Errno::NOSPC));
    });
}

#[test]
fn an_ordinary_user_sets_no_limits() {
    let before = Limit::Msgmax.read().expect("a number");
    as_other_user(|| {
        let error = Limit::Msgmax.set(before).expect_err("no right");
        assert!(error.is_permission(), "{error}");
        assert_eq!(error.limit(), Limit::Msgmax);
        assert!(error.to_string().ends_with("only root may"), "{error}");
    });
}
