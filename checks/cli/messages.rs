//! Messages from the shell: every byte, every way to choose, and no message lost to a timeout.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sysv::{Queue, Select, Wait};

use crate::Test;
use crate::world::{World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("bytes_arrive_as_they_are", bytes_arrive),
    ("a_blocked_receiver_gets_the_message", blocked_receiver),
    ("a_removed_queue_ends_the_wait", removed_while_waiting),
    ("timeouts_end_in_time", timeouts),
    ("timeouts_lose_no_message", timeouts_lose_nothing),
];

fn bytes_arrive(world: &World) {
    let id = world.mk("msg");
    let every: Vec<u8> = (0..=255).cycle().take(8192).collect();
    for text in [&b""[..], b"\0", b"\n", b"\xff\xfe no text", &every] {
        let ran = world.run_with(&format!("msgsnd {id} --type 9"), text);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let ran = world.run(&format!("msgrcv {id}"));
        assert_eq!((ran.code, ran.err.as_str(), &ran.out[..]), (0, "", text));
    }
    // A program's message is the same to us as one of ours.
    Queue::from_id(id)
        .send(7, b"from a program", Wait::Never)
        .expect("sent");
    assert_eq!(
        world.run(&format!("msgrcv {id} --type 7")).text(),
        "from a program"
    );
    world.run(&format!("msgsnd {id} hello --type 3")).text();
    let mut text = Vec::new();
    let received = Queue::from_id(id).receive(Select::Type(3), &mut text, Wait::Never);
    assert_eq!(
        (received.expect("received").message_type, &text[..]),
        (3, &b"hello"[..])
    );
}

fn blocked_receiver(world: &World) {
    let id = world.mk("msg");
    for arguments in ["", "--timeout 50s", "--type=-4"] {
        let mut child = world.start(&mut world.command(&format!("msgrcv {id} {arguments}")));
        feed(&mut child, b"");
        world.run(&format!("msgsnd {id} --type 4 here")).text();
        assert_eq!(ended(child).text(), "here");
    }
}

fn removed_while_waiting(world: &World) {
    let id = world.mk("msg");
    let child = world.start(&mut world.command(&format!("msgrcv {id}")));
    let file = format!("/proc/{}/syscall", child.id());
    let number = format!("{} ", libc::SYS_msgrcv);
    until("it waits in msgrcv", || {
        std::fs::read_to_string(&file)
            .expect("our child's")
            .starts_with(&number)
    });
    Queue::from_id(id).remove().expect("removed");
    ended(child).fails(3, &["message queue 0", "tombolo ls msg"]);
}

fn timeouts(world: &World) {
    let queue = world.mk("msg --qbytes 4");
    let set = world.mk("sem 1");
    world.run(&format!("msgsnd {queue} full")).text();
    for arguments in [
        format!("msgrcv {queue} --type 2 --timeout 200ms"),
        format!("msgsnd {queue} more --timeout 200ms"),
        format!("semop {set} 0:-1 --timeout 200ms"),
    ] {
        let start = Instant::now();
        world.run(&arguments).fails(5, &["cannot"]);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(200), "{arguments}: {took:?}");
        assert!(took < Duration::from_secs(20), "{arguments}: {took:?}");
    }
}

/// Receivers whose time is always nearly up, against a sender: each message comes out once.
fn timeouts_lose_nothing(world: &World) {
    let id = world.mk("msg");
    let queue = Queue::from_id(id);
    let mut received = HashSet::new();
    let mut ended_in_time = 0;
    for round in 0..60_u32 {
        let timeout = round % 12;
        let mut child =
            world.start(&mut world.command(&format!("msgrcv {id} --timeout {timeout}ms")));
        feed(&mut child, b"");
        queue
            .send(1, round.to_string().as_bytes(), Wait::Block)
            .expect("sent");
        let ran = ended(child);
        match ran.code {
            0 => assert!(received.insert(String::from_utf8(ran.out).expect("text"))),
            5 => ended_in_time += 1,
            _ => panic!("{}", ran.err),
        }
    }
    let mut text = Vec::new();
    while queue.receive(Select::Any, &mut text, Wait::Never).is_ok() {
        assert!(received.insert(String::from_utf8(text.clone()).expect("text")));
    }
    assert_eq!(received.len(), 60, "{ended_in_time} timeouts");
}
