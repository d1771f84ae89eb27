//! `tombolo ls` and `tombolo show` against the kernel's own tables, and against `ipcs`.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::ptr;
use std::time::Duration;

use serde_json::Value as Json;
use sysv::{Key, Mode, Queue, Segment, Set, Wait};

use crate::Test;
use crate::world::{self, World, ended, feed};

pub const TESTS: &[Test] = &[
    ("agrees_with_proc_field_by_field", agrees_with_proc),
    ("agrees_with_ipcs", agrees_with_ipcs),
    ("six_thousand_objects_in_under_100_ms", six_thousand),
    ("looking_changes_nothing", looking_changes_nothing),
    ("who_is_attached", who_is_attached),
    ("orphans", orphans),
    ("sorting_and_filters", sorting_and_filters),
];

/// The kernel's table of a kind: for each object, its fields by name.
fn table(kind: &str) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/sysvipc/{kind}")).expect("the table");
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned));
    let names: Vec<String> = lines.next().expect("names").collect();
    lines
        .map(|line| names.iter().cloned().zip(line).collect())
        .collect()
}

/// Compares what `ls --json` says with the kernel's tables, every field of every object.
#[track_caller]
fn compare(objects: &[Json]) {
    let mut compared = 0;
    for kind in ["shm", "msg", "sem"] {
        let rows = table(kind);
        let listed: Vec<&Json> = objects
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect();
        assert_eq!(rows.len(), listed.len(), "{kind}");
        let by_id: HashMap<i64, &Json> = listed
            .iter()
            .map(|object| (object["id"].as_i64().expect("a number"), *object))
            .collect();
        for row in rows {
            let name = if kind == "msg" {
                "msqid".to_owned()
            } else {
                format!("{kind}id")
            };
            let id: i64 = row[&name].parse().expect("a number");
            let object = by_id[&id];
            for (name, text) in &row {
                let number = |text: &str| text.parse::<i128>().expect("a number");
                let (expected, listed) = match name.as_str() {
                    "shmid" | "msqid" | "semid" => continue,
                    "perms" => {
                        let bits = i128::from_str_radix(text, 8).expect("octal");
                        let status = object["status"].as_str().unwrap_or_default();
                        assert_eq!(bits & 0o1000 != 0, status.contains("dest"), "{object}");
                        assert_eq!(bits & 0o2000 != 0, status.contains("locked"), "{object}");
                        (bits & 0o777, &object["mode"])
                    }
                    name => (number(text), &object[name]),
                };
                assert_eq!(number(&listed.to_string()), expected, "{name} of {object}");
                compared += 1;
            }
        }
    }
    assert!(compared > 10, "compared {compared} fields");
}

fn agrees_with_proc(world: &World) {
    let mode = |bits| Mode::from_bits_truncate(bits);
    // Keys of either sign, every mode, marked and locked, used and unused.
    let key = |n: i32| Key::new(n);
    // A page may be locked by anybody.
    Segment::create(key(i32::MIN), 1, mode(0o777))
        .expect("made")
        .lock()
        .expect("locked");
    Segment::create(key(i32::MAX), 10_000_000, mode(0o421)).expect("made");
    let attached = Segment::create(Key::PRIVATE, 4096, mode(0)).expect("made");
    let attach = attached.attach().expect("attached");
    attached.remove().expect("marked");
    let queue = Queue::create(key(-1), mode(0o622)).expect("made");
    queue.send(5, b"five!", Wait::Never).expect("sent");
    queue.send(5, b"", Wait::Never).expect("sent");
    let mut text = Vec::new();
    queue
        .receive(sysv::Select::Any, &mut text, Wait::Never)
        .expect("received");
    Queue::create(Key::PRIVATE, mode(0o600)).expect("made");
    let set = Set::create(key(7), 250, mode(0o600)).expect("made");
    set.operate(&[sysv::Operation::add(3, 1)])
        .expect("operated");
    let objects = world.run("ls --json").json();
    compare(&objects);
    let queue = objects
        .iter()
        .find(|object| object["key"] == -1)
        .expect("the queue");
    assert_eq!(
        (&queue["qnum"], &queue["qbytes"]),
        (&1.into(), &16384.into())
    );
    drop(attach);
    compare(&world.run("ls --json").json());
}

fn agrees_with_ipcs(world: &World) {
    world.mk("shm 12345 --key 0x4d2 --mode 640");
    world.mk("shm 1");
    world.mk("msg --key 5");
    world.run("msgsnd 0 hello").text();
    world.mk("sem 3");
    for (option, kind, columns) in [
        ("-m", "shm", "key,id,user,mode,size,nattch"),
        ("-q", "msg", "key,id,user,mode,cbytes,qnum"),
        ("-s", "sem", "key,id,user,mode,nsems"),
    ] {
        let Ok(ipcs) = Command::new("ipcs").arg(option).output() else {
            return eprintln!("skipped: there is no ipcs here");
        };
        let ipcs = String::from_utf8(ipcs.stdout).expect("text");
        let mut theirs: Vec<Vec<&str>> = ipcs
            .lines()
            .filter(|line| line.starts_with("0x"))
            .map(|line| line.split_whitespace().collect())
            .collect();
        let ours = world
            .run(&format!("ls {kind} --raw --output {columns}"))
            .text();
        let mut ours: Vec<Vec<&str>> = ours
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        theirs.sort();
        ours.sort();
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs, "{kind}");
    }
}

fn six_thousand(world: &World) {
    let mode = Mode::default();
    for _ in 0..4000 {
        Segment::create(Key::PRIVATE, 4096, mode).expect("made");
    }
    for _ in 0..1000 {
        Queue::create(Key::PRIVATE, mode).expect("made");
        Set::create(Key::PRIVATE, 2, mode).expect("made");
    }
    compare(&world.run("ls --json").json());
    for arguments in [
        "ls --json",
        "ls",
        "ls --raw",
        "ls -tpc",
        "ls --sort size,desc",
    ] {
        let mut best = Duration::MAX;
        for _ in 0..100 {
            let (output, took) = timed(&mut world.command(arguments));
            best = best.min(took);
            let lines = output.iter().filter(|byte| **byte == b'\n').count();
            assert!(lines >= 6000, "{lines} lines");
            if best < Duration::from_millis(100) {
                break;
            }
        }
        assert!(best < Duration::from_millis(100), "{arguments}: {best:?}");
    }
}

/// What a command prints, and for how long it has a processor: other tests run at the same time.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn timed(command: &mut Command) -> (Vec<u8>, Duration) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut output = Vec::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_to_end(&mut output).expect("it prints");
    // SAFETY: plain numbers, for which zero will do.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a child of ours that nobody has waited for; the call stores its usage there.
    let pid = unsafe { libc::wait4(child.id() as i32, ptr::null_mut(), 0, &raw mut usage) };
    assert_eq!(pid as u32, child.id(), "it ends");
    let time = |at: libc::timeval| {
        Duration::from_secs(at.tv_sec as u64) + Duration::from_micros(at.tv_usec as u64)
    };
    (output, time(usage.ru_utime) + time(usage.ru_stime))
}

fn looking_changes_nothing(world: &World) {
    let segment = world.mk("shm 4096 --key 0x4d2");
    let queue = world.mk("msg --key 0x4d2");
    let set = world.mk("sem 2 --key 0x4d2");
    world.run("msgsnd 0x4d2 hello").text();
    let before = ["shm", "msg", "sem"].map(table);
    for kind in ["shm", "msg", "sem"] {
        for arguments in [
            format!("ls {kind}"),
            "ls --orphans".to_owned(),
            "ls --output all".to_owned(),
            format!("show {kind} 0x4d2"),
            format!("rm {kind} 0x4d2 --dry-run --force"),
            format!("rm {kind} --mine --dry-run --force"),
            "limits".to_owned(),
            "ls -u".to_owned(),
        ] {
            world.run(&arguments).text();
        }
    }
    world.run("msgrcv 0x4d2 --copy 0");
    assert_eq!(before, ["shm", "msg", "sem"].map(table));
    assert_eq!((segment, queue, set), (0, 0, 0));
}

fn who_is_attached(world: &World) {
    let id = world.mk("shm 64K");
    assert_eq!(world.show("shm", id)["attached"], Json::Array(vec![]));
    let writer = world.attach(id, "rw");
    let reader = world.attach(id, "ro");
    let shown = world.show("shm", id);
    assert_eq!(
        (&shown["nattch"], &shown["attached_hidden"]),
        (&2.into(), &0.into())
    );
    for (pid, access) in [(writer.pid(), "rw"), (reader.pid(), "ro")] {
        let attached = shown["attached"].as_array().expect("an array");
        let entry = attached
            .iter()
            .find(|entry| entry["pid"] == pid)
            .expect("the process");
        assert_eq!(entry["access"], access);
        assert_eq!(entry["length"], 65536);
        let command = entry["command"].as_str().expect("text");
        assert!(command.contains("--hold"), "{command}");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("our child's");
        let address = format!("{:08x}-", entry["address"].as_u64().expect("a number"));
        assert!(
            maps.lines()
                .any(|line| line.starts_with(&address) && line.contains("/SYSV"))
        );
    }
    let text = world.run(&format!("show shm {id}")).text();
    assert!(
        text.contains("Attached") && text.contains("--hold"),
        "{text}"
    );
    drop(writer);
    assert_eq!(
        world.show("shm", id)["attached"].as_array().map(Vec::len),
        Some(1)
    );
}

fn orphans(world: &World) {
    let listed = |kind: &str| -> Vec<i64> {
        let all = world.run(&format!("ls {kind} --orphans --json")).json();
        all.iter()
            .map(|object| object["id"].as_i64().expect("a number"))
            .collect()
    };
    // Made by this process, which lives.
    let mine = Segment::create(Key::PRIVATE, 4096, Mode::default()).expect("made");
    let used = Queue::create(Key::PRIVATE, Mode::default()).expect("made");
    used.send(1, b"", Wait::Never).expect("sent");
    let operated = Set::create(Key::PRIVATE, 1, Mode::default()).expect("made");
    operated
        .operate(&[sysv::Operation::add(0, 1)])
        .expect("operated");
    // Never used.
    world.mk("msg");
    world.mk("sem 1");
    assert!(
        listed("").is_empty(),
        "{:?}",
        world.run("ls --orphans").text()
    );
    // Made or used by processes that are gone.
    let segment = world.mk("shm 4096");
    let queue = world.mk("msg");
    world.run(&format!("msgsnd {queue} hello")).text();
    let set = world.mk("sem 2");
    world.run(&format!("semop {set} 1:+1")).text();
    assert_eq!(listed("shm"), [i64::from(segment)]);
    assert_eq!(listed("msg"), [i64::from(queue)]);
    assert_eq!(listed("sem"), [i64::from(set)]);
    // Somebody uses them.
    let attach = world.attach(segment, "ro");
    let waiter = world.start(&mut world.command(&format!("semop {set} 0:-1")));
    let waits = Set::from_id(set);
    world::until("it waits", || waits.waiting_for_increase(0) == Ok(1));
    let mut text = Vec::new();
    Queue::from_id(queue)
        .receive(sysv::Select::Any, &mut text, Wait::Never)
        .expect("received");
    assert!(listed("").is_empty());
    waits
        .operate(&[sysv::Operation::add(0, 1)])
        .expect("operated");
    ended(waiter).text();
    drop(attach);
    assert_eq!(listed("shm"), [i64::from(segment)]);
    // All of them, and nothing else, can be removed at once.
    world.run("rm --orphans").text();
    assert!(mine.status().is_ok() && used.status().is_ok() && operated.status().is_ok());
    assert!(Segment::from_id(segment).status().is_err());
}

fn sorting_and_filters(world: &World) {
    for size in [3000, 1000, 2000] {
        world.mk(&format!("shm {size}"));
    }
    let ids = |arguments: &str| {
        world
            .run(&format!("ls shm --raw --output id {arguments}"))
            .text()
    };
    assert_eq!(ids(""), "0\n1\n2\n");
    assert_eq!(ids("--sort size"), "1\n2\n0\n");
    assert_eq!(ids("--sort SIZE,desc"), "0\n2\n1\n");
    if let Some(other) = world::other_user() {
        world.run(&format!("set shm 1 --owner {other}")).text();
        assert_eq!(ids(&format!("--user {other}")), "1\n");
    }
    assert_eq!(ids("--mine"), "0\n1\n2\n", "what I made is mine too");
    assert_eq!(ids("--user 54321"), "");
    let mut child = world.start(&mut world.command("ls shm --user 54321"));
    feed(&mut child, b"");
    assert_eq!(ended(child).text(), "no segments\n");
}
