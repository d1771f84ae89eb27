//! `bench`: what it shows, what it refuses, and that nothing is left behind, however it ends.

use std::fs;
use std::process::Command;

use bench::place;
use serde_json::Value as Json;

use crate::Test;
use crate::users::setpriv;
use crate::values::signal;
use crate::world::{Folder, World, ended, until};

pub const TESTS: &[Test] = &[
    ("transports_are_measured_beside_the_limit", measured),
    ("tables_and_bars_for_people", shown),
    ("what_it_does_not_know_it_lists", unknown),
    ("one_processor_is_not_enough", one_processor),
    ("nothing_is_left_when_it_is_interrupted", interrupted),
    ("the_processes_of_a_sample_end_with_it", killed),
];

/// Whether there are two processors, without which nothing can be measured.
fn possible() -> bool {
    let two = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    if !two {
        eprintln!("skipped: two processors are needed");
    }
    two
}

/// Few and short; on a busy machine one round of it.
const SHORT: &str = "bench --size 64 --transport queue,pipe --within 1s";
/// A service answers requests: there is no stream of them.
const SERVICE: &str = "bench --size 64 --transport service --within 1s --json";

fn measured(world: &World) {
    if !possible() {
        return;
    }
    let folder = Folder::new("bench");
    let picture = folder.0.join("speed.svg");
    let all = world.run(&format!("{SHORT} --json --svg {}", picture.display()));
    let all = all.json();
    for shape in ["round-trip", "stream"] {
        for transport in ["bare limit", "queue", "pipe"] {
            let is = |it: &&Json| it["transport"] == transport && it["shape"] == shape;
            let found = all
                .iter()
                .find(is)
                .unwrap_or_else(|| panic!("{shape}, {transport}"));
            let unit = match shape {
                "stream" => "messages_per_second",
                _ => "nanoseconds",
            };
            let median = found[unit]["median"].as_f64().expect("a number");
            assert!(median > 1.0, "{found}");
            assert_eq!(found["size"], 64);
            assert!(found["samples"].as_u64().is_some_and(|count| count > 0));
        }
    }
    assert_eq!(all.len(), 6);
    let service = world.run(SERVICE).json();
    let skipped: Vec<_> = service
        .iter()
        .filter(|it| it["not_measured"].is_string())
        .collect();
    let [skipped] = &skipped[..] else {
        panic!("{service:?}");
    };
    assert_eq!(skipped["transport"], "service");
    assert_eq!(
        (&skipped["shape"], &skipped["size"]),
        (&"stream".into(), &64.into())
    );
    let reason = skipped["not_measured"].as_str().expect("a reason");
    assert!(reason.contains("answers requests"), "{reason}");
    let drawn = fs::read_to_string(picture).expect("a picture");
    assert!(drawn.starts_with("<svg") && drawn.contains("queue") && drawn.contains("pipe"));
}

fn shown(world: &World) {
    if !possible() {
        return;
    }
    let text = world.run(SHORT).text();
    for words in [
        "One-way latency",
        "Stream, messages per second",
        "64 B",
        "bare limit",
        "pipe",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    let narrow = text.lines().take_while(|line| !line.starts_with("Linux"));
    assert!(
        narrow.into_iter().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

fn unknown(world: &World) {
    let known = [
        "no transport `carrier-pigeon`",
        "queue-in-place",
        "system-v-queue",
    ];
    world
        .run("bench --transport queue,carrier-pigeon")
        .fails(2, &known);
    world
        .run("bench --size 100")
        .fails(2, &["100 bytes", "8, 64, 1K, 64K, 1M"]);
    world
        .run("bench --svg /nowhere/at/all.svg")
        .fails(3, &["no folder /nowhere/at"]);
    // Before anything is measured.
    let folder = Folder::new("bench-unwritable");
    let path = folder.0.display().to_string();
    world
        .run(&format!("bench --svg {path}"))
        .fails(1, &["cannot write the picture", &path]);
}

fn one_processor(world: &World) {
    // What this thread starts may run where it may.
    let all = place::processors().expect("the processors");
    place::pin(&all[..1]).expect("it may run there");
    let child = world.start(&mut world.command("bench"));
    place::pin(&all).expect("as before");
    ended(child).fails(1, &["two processors", "one only", "taskset"]);
}

/// The processes that another one has started and that are still there.
fn children(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn gone(pids: &[u32]) -> bool {
    let there = |pid: &u32| fs::exists(format!("/proc/{pid}")).is_ok_and(|there| there);
    !pids.iter().any(there)
}

fn interrupted(world: &World) {
    if !possible() {
        return;
    }
    // Nobody may not leave for a name space of its own, so everything stands in this one.
    for (number, transport) in [
        (libc::SIGINT, "queue"),
        (libc::SIGTERM, "system-v-queue"),
        (libc::SIGHUP, "topic"),
        (libc::SIGINT, "service"),
        (libc::SIGINT, "value"),
        (libc::SIGINT, "system-v-semaphores-ring"),
    ] {
        let folder = Folder::new("bench-interrupted");
        let Some(mut command) = setpriv() else {
            return;
        };
        command.args(["bench", "--size", "64", "--transport", transport]);
        let child = world.start(command.env("TMPDIR", &folder.0));
        let pid = child.id();
        let mut ends = Vec::new();
        until("it measures", || {
            ends = children(pid);
            ends.len() == 2
        });
        signal(&child, number);
        let ran = ended(child);
        assert_eq!((ran.code, &*ran.err), (128 + number, ""), "{transport}");
        assert!(gone(&ends), "{transport}");
        let left = world.run("ls --json").json();
        let left: Vec<_> = left
            .iter()
            .filter(|it| it["channel"] != "directory")
            .collect();
        assert!(left.is_empty(), "{transport}: {left:?}");
        let files = fs::read_dir(&folder.0).expect("the folder").count();
        assert_eq!(files, 0, "{transport}");
    }
}

fn killed(world: &World) {
    if !possible() {
        return;
    }
    let folder = Folder::new("bench-killed");
    let mut command: Command = world.command("bench --size 64 --transport fifo,posix-queue");
    let child = world.start(command.env("TMPDIR", &folder.0));
    let pid = child.id();
    let mut ends = Vec::new();
    until("it measures", || {
        ends = children(pid);
        ends.len() == 2
    });
    signal(&child, libc::SIGKILL);
    assert_eq!(ended(child).code, 128 + libc::SIGKILL);
    until("its processes have ended", || gone(&ends));
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 0);
}
