//! `pub` and `sub`: everybody gets everything, history, who is too slow, deaths; and the display
//! of progress.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use crate::Test;
use crate::looking::{channel, until_it_shows};
use crate::queues::{good, is_empty, line, rest, start_recv, until_attached};
use crate::users::setpriv;
use crate::values::signal;
use crate::world::{Folder, World, ended, until};

pub const TESTS: &[Test] = &[
    ("every_subscriber_gets_every_message", everybody),
    ("history_is_for_who_comes_late", history),
    ("who_is_too_slow_is_told_how_many_it_lost", overrun),
    ("who_is_waited_for_loses_nothing", waited_for),
    ("a_killed_publisher_is_no_good_end", killed_publisher),
    ("a_killed_subscriber_holds_nobody_up", killed_subscriber),
    ("counting_patience_and_following", ends),
    ("reading_is_enough_to_subscribe", read_only),
    ("a_large_file_shows_its_progress", progress),
];

fn start_pub(world: &World, arguments: &str) -> (Child, ChildStdin) {
    let mut child = world.start(&mut world.command(&format!("pub {arguments}")));
    let input = child.stdin.take().expect("a pipe");
    (child, input)
}

fn start_sub(world: &World, arguments: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = world.start(&mut world.command(&format!("sub {arguments}")));
    let output = child.stdout.take().expect("a pipe");
    (child, BufReader::new(output))
}

/// Waits until so many subscribers have the topic.
fn until_subscribed(world: &World, name: &str, count: usize) {
    until_it_shows(world, name, |shown| {
        let all = shown["participants"].as_array();
        let subscribers = all.map(|all| all.iter().filter(|p| p["role"] == "subscriber").count());
        subscribers == Some(count)
    });
}

fn everybody(world: &World) {
    let subscribers = [(); 2].map(|()| start_sub(world, "log"));
    let (publisher, mut input) = start_pub(world, "log");
    until_subscribed(world, "log", 2);
    input.write_all(b"one\n\nthree\nfo").expect("it listens");
    let mut subscribers = subscribers.map(|(child, mut output)| {
        for expected in ["one\n", "\n", "three\n"] {
            assert_eq!(line(&mut output), expected, "at once");
        }
        (child, output)
    });
    let all_asleep = |shown: &serde_json::Value| shown["parked"] == 2;
    let shown = until_it_shows(world, "log", all_asleep);
    assert_eq!(
        (&shown["channel"], &shown["total"]),
        (&"topic".into(), &3.into())
    );
    assert_eq!((&shown["messages"], &shown["lost"]), (&0.into(), &0.into()));
    assert_eq!(shown["policy"], "overrun");
    input.write_all(b"ur").expect("it listens");
    drop(input);
    good(ended(publisher));
    for (child, output) in &mut subscribers {
        assert_eq!(rest(output), b"four\n");
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
    assert!(is_empty(world), "it goes with its last user");
    // Other framings.
    for (publish, subscribe, input) in [
        ("--null", "--null", b"a\0\nb\0".as_slice()),
        ("--chunk 3", "--raw", b"12345678"),
        (
            "--length-prefixed",
            "--length-prefixed",
            b"\x01\0\0\0a\0\0\0\0",
        ),
    ] {
        let publish = format!("pub log --until-removed {publish}");
        assert_eq!(world.run_with(&publish, input).text(), "");
        let got = world.run(&format!("sub log --oldest {subscribe}"));
        assert_eq!(good(got), input);
        world.run("rm log").text();
    }
}

fn history(world: &World) {
    let (publisher, mut input) = start_pub(world, "log");
    input.write_all(b"1\n2\n3\n4\n5\n").expect("it listens");
    until_it_shows(world, "log", |shown| shown["total"] == 5);
    for (arguments, expected) in [
        ("--oldest", "1\n2\n3\n4\n5\n"),
        ("--history 2", "4\n5\n"),
        ("--history 100", "1\n2\n3\n4\n5\n"),
        ("--history 0", ""),
        ("", ""),
    ] {
        let ran = world.run(&format!("sub log --no-wait {arguments}"));
        assert_eq!(String::from_utf8_lossy(&ran.out), expected, "{arguments}");
        ran.fails(5, &["log", "tombolo pub"]);
    }
    assert_eq!(world.run("sub log --history 3 --count 2").text(), "3\n4\n");
    drop(input);
    good(ended(publisher));
    world
        .run("sub log --oldest --history 1")
        .fails(2, &["cannot be used with"]);
}

/// Numbered lines of eight bytes.
fn numbered(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|number| format!("{number:07}\n").into_bytes())
        .collect()
}

/// The last number of lost messages that a subscriber told, all in all.
fn told(err: &str) -> u64 {
    let mut words = err.lines().last().unwrap_or_default().split_whitespace();
    let numbers: Vec<u64> = words.by_ref().filter_map(|w| w.parse().ok()).collect();
    // "lost N messages of 'log'", or "…, ALL so far".
    numbers.last().copied().unwrap_or(0)
}

/// A subscriber whose output nobody reads for a while, and more lines than anything holds.
fn overrun(world: &World) {
    const LINES: usize = 200_000;
    let (publisher, mut input) = start_pub(world, "log --capacity 64K");
    let (subscriber, output) = start_sub(world, "log");
    until_subscribed(world, "log", 1);
    input
        .write_all(&numbered(LINES))
        .expect("nobody is waited for");
    drop(input);
    good(ended(publisher));
    let lines: Vec<usize> = output
        .lines()
        .map(|line| line.expect("text").parse().expect("a whole line"))
        .collect();
    assert!(lines.is_sorted_by(|a, b| a < b), "in order, none twice");
    let ran = ended(subscriber);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lost = told(&ran.err);
    assert!(lost > 0 && ran.err.contains("too slow"), "{}", ran.err);
    assert_eq!(lines.len() as u64 + lost, LINES as u64, "{}", ran.err);
}

fn waited_for(world: &World) {
    const LINES: usize = 100_000;
    let (publisher, mut input) = start_pub(world, "log --capacity 64K --wait-for-slowest");
    let (subscriber, output) = start_sub(world, "log");
    until_subscribed(world, "log", 1);
    let writer = std::thread::spawn(move || input.write_all(&numbered(LINES)));
    // Another that does not want to wait; its first lines have room.
    until("there is no room", || {
        let ran = world.run_with("pub log --timeout 20ms", &numbered(3000));
        ran.code == 5 && ran.err.contains("slowest subscriber")
    });
    let own = |line: std::io::Result<String>| line.expect("text").parse().expect("a whole line");
    let mut all: Vec<usize> = output.lines().map(own).collect();
    writer.join().expect("no panic").expect("it listens");
    good(ended(publisher));
    good(ended(subscriber));
    assert!(all.len() > LINES, "and what the other could publish");
    all.sort_unstable();
    all.dedup();
    assert!(all.into_iter().eq(0..LINES), "all of them");
}

fn killed_publisher(world: &World) {
    let (publisher, mut input) = start_pub(world, "log");
    let (subscriber, mut output) = start_sub(world, "log --oldest");
    input.write_all(b"one\ntwo\nhalf a li").expect("it listens");
    assert_eq!(line(&mut output), "one\n");
    signal(&publisher, libc::SIGKILL);
    let start = Instant::now();
    ended(publisher);
    assert_eq!(rest(output), b"two\n");
    ended(subscriber).fails(1, &["log", "publisher", "killed", "2 messages"]);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(is_empty(world), "nothing is left");
}

fn killed_subscriber(world: &World) {
    const LINES: usize = 100_000;
    let (publisher, mut input) = start_pub(world, "log --capacity 64K --wait-for-slowest");
    let (subscriber, _output) = start_sub(world, "log");
    until_subscribed(world, "log", 1);
    let writer = std::thread::spawn(move || input.write_all(&numbered(LINES)));
    until_it_shows(world, "log", |shown| shown["total"].as_u64() > Some(1000));
    signal(&subscriber, libc::SIGKILL);
    ended(subscriber);
    writer.join().expect("no panic").expect("it goes on");
    good(ended(publisher));
}

fn ends(world: &World) {
    world
        .run("sub log --no-wait")
        .fails(3, &["log", "tombolo ls"]);
    world
        .run("sub log --timeout 50ms")
        .fails(5, &["log", "tombolo pub"]);
    world.run("sub --id 999999").fails(3, &["999999"]);
    world.run_with("send jobs", b"one\n").text();
    world.run("sub jobs --no-wait").fails(1, &["jobs"]);
    world.run_with("pub jobs", b"one\n").fails(1, &["jobs"]);
    let (subscriber, mut output) = start_sub(world, "log --follow --oldest");
    let (publisher, mut input) = start_pub(world, "log");
    until_subscribed(world, "log", 1);
    input.write_all(b"one\n").expect("it listens");
    assert_eq!(line(&mut output), "one\n");
    signal(&publisher, libc::SIGKILL);
    ended(publisher);
    world.run_with("pub log", b"two\n").text();
    assert_eq!(line(&mut output), "two\n");
    world.run("rm log --force").text();
    ended(subscriber).fails(3, &["log", "removed", "2 messages"]);
    assert!(channel(world, "log").is_none());
}

fn read_only(world: &World) {
    let (publisher, mut input) = start_pub(world, "log --mode 644");
    input.write_all(b"one\n").expect("it listens");
    until_it_shows(world, "log", |shown| shown["total"] == 1);
    if let Some(mut command) = setpriv() {
        let arguments = ["sub", "root/log", "--oldest"];
        let subscriber = world.start(command.args(arguments));
        until_attached(world, "log", &subscriber);
        let mut command = setpriv().expect("as before");
        let refused = ended(world.start(command.args(["pub", "root/log"])));
        refused.fails(4, &["root/log", "644"]);
        drop(input);
        assert_eq!(ended(subscriber).text(), "one\n");
    } else {
        drop(input);
    }
    good(ended(publisher));
}

fn progress(world: &World) {
    let Some(on_terminal) = crate::output::terminal(world) else {
        return;
    };
    let folder = Folder::new("progress");
    let file = folder.0.join("file");
    let made = File::create(&file).expect("made");
    made.set_len(64 << 20).expect("a file of zeros");
    let file = file.display();
    let send = |options: &str| {
        let (receiver, output) = start_recv(world, "disk --raw");
        let reading = std::thread::spawn(move || rest(output).len());
        let said = on_terminal(&format!("send disk {file} --chunk 64K {options}"), "");
        assert_eq!(reading.join().expect("no panic"), 64 << 20);
        good(ended(receiver));
        said
    };
    let said = send("");
    for word in ["64.00 MiB", "1024 messages", "/s]", "100%"] {
        assert!(said.contains(word), "no {word} in {said:?}");
    }
    assert_eq!(send("--no-progress").trim(), "");
    let small = folder.0.join("small");
    fs::write(&small, "one\ntwo\n").expect("written");
    let said = on_terminal(&format!("pub log {} --progress", small.display()), "");
    assert!(said.contains("2 messages"), "{said:?}");
    let said = on_terminal(&format!("pub log {}", small.display()), "");
    assert_eq!(said.trim(), "");
    // Not where nobody looks.
    let ran = world.run(&format!("pub log {} --progress", small.display()));
    assert_eq!(ran.text(), "");
}
