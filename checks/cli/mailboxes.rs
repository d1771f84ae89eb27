//! `post` and `take`: messages with types, by type and in order.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};

use crate::Test;
use crate::queues::{good, is_empty, line, rest, until_attached};
use crate::values::noise;
use crate::world::{Folder, World, ended};

pub const TESTS: &[Test] = &[
    ("by_type_and_in_order", by_type),
    ("typed_lines_come_back_as_they_were", typed),
    ("framing", framing),
    ("peeking_leaves_it_there", peeking),
    ("each_message_comes_at_once", at_once),
    ("large_chunks_come_whole", chunks),
    ("it_ends_with_the_last_poster", ends),
    ("a_killed_poster_is_told_of", killed),
    ("what_is_in_it_and_who", seen),
    ("full_missing_and_wrong", wrong),
];

#[track_caller]
fn post(world: &World, arguments: &str, input: &[u8]) {
    let ran = world.run_with(&format!("post {arguments}"), input);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments}");
    assert!(ran.out.is_empty(), "post writes nothing");
}

#[track_caller]
fn take(world: &World, arguments: &str) -> Vec<u8> {
    good(world.run(&format!("take {arguments}")))
}

/// A poster whose input is open.
fn start_post(world: &World, arguments: &str) -> (Child, ChildStdin) {
    let mut child = world.start(&mut world.command(&format!("post {arguments}")));
    let input = child.stdin.take().expect("a pipe");
    (child, input)
}

fn by_type(world: &World) {
    post(world, "jobs --type 5", b"a\nb\n");
    post(world, "jobs --type 2", b"c\nd\n");
    post(world, "jobs", b"e\n");
    assert_eq!(take(world, "jobs --type 2 --count 1"), b"c\n");
    assert_eq!(take(world, "jobs --except 5"), b"d\ne\n");
    post(world, "jobs --type 9223372036854775807", b"f\n");
    post(world, "jobs --type 1", b"g\n");
    assert_eq!(take(world, "jobs --up-to 5"), b"g\na\nb\n");
    assert_eq!(take(world, "jobs --type 77"), b"", "at its end");
    assert_eq!(take(world, "jobs"), b"f\n");
    assert!(is_empty(world), "it goes when it holds nothing");
}

fn typed(world: &World) {
    let lines = b"7 one\n9223372036854775807 \n1  two words\n7 \xff\n";
    post(world, "jobs --typed", lines);
    assert_eq!(take(world, "jobs --typed"), lines);
    let ran = world.run_with("post jobs --typed", b"1 good\nbad\n2 never\n");
    ran.fails(1, &["jobs", "1 message", "`bad`", "--typed"]);
    assert_eq!(take(world, "jobs --typed"), b"1 good\n");
}

fn framing(world: &World) {
    let mut text = noise(200_000);
    text.retain(|byte| *byte != b'\n');
    let lines = [b"\none\n\n\0\xff\n\n".as_slice(), &text, b"\n"].concat();
    let mut zeros = noise(200_000);
    zeros.retain(|byte| *byte != 0);
    let zeros = [b"\0one\0\0two\nlines\0\0".as_slice(), &zeros, b"\0"].concat();
    for (option, taken, input) in [
        ("", "", &lines),
        ("--null", "-0", &zeros),
        ("--chunk 100", "--raw", &lines),
        ("--chunk 64K", "--raw", &zeros),
    ] {
        post(world, &format!("jobs {option}"), input);
        assert!(take(world, &format!("jobs {taken}")) == *input, "{option}");
    }
    post(world, "jobs --length-prefixed", b"\x01\0\0\0a\0\0\0\0");
    assert_eq!(take(world, "jobs"), b"a\n\n");
    post(world, "jobs --type 3", b"a");
    assert_eq!(
        take(world, "jobs --typed --length-prefixed"),
        b"\x03\0\0\x003 a"
    );
}

fn peeking(world: &World) {
    post(world, "jobs --typed", b"3 a\n3 b\n1 c\n");
    assert_eq!(take(world, "jobs --peek"), b"a\n");
    assert_eq!(take(world, "jobs --peek --up-to 3 --typed"), b"1 c\n");
    assert_eq!(take(world, "jobs --peek --at 1"), b"b\n");
    world
        .run("take jobs --peek --at 3")
        .fails(5, &["jobs", "ls channels"]);
    assert_eq!(take(world, "jobs"), b"a\nb\nc\n");
}

fn at_once(world: &World) {
    let mut taker = world.start(&mut world.command("take jobs --type 2"));
    let mut output = BufReader::new(taker.stdout.take().expect("a pipe"));
    let (poster, mut input) = start_post(world, "jobs --typed");
    for text in ["one\n", "\n", "three\n"] {
        input.write_all(b"1 not this\n2 ").expect("it listens");
        input.write_all(text.as_bytes()).expect("it listens");
        assert_eq!(line(&mut output), text);
    }
    drop(input);
    good(ended(poster));
    assert_eq!(rest(output), b"");
    good(ended(taker));
    assert_eq!(take(world, "jobs"), b"not this\n".repeat(3));
}

fn chunks(world: &World) {
    let message = noise(20 << 20);
    let folder = Folder::new("mailbox-chunks");
    let file = folder.0.join("file");
    std::fs::write(&file, &message).expect("written");
    let mut taker = world.start(&mut world.command("take disk --raw"));
    let output = taker.stdout.take().expect("a pipe");
    let reading = std::thread::spawn(move || rest(output));
    post(world, &format!("disk {} --chunk 1M", file.display()), b"");
    assert!(reading.join().expect("no panic") == message);
    good(ended(taker));
}

fn ends(world: &World) {
    let (first, first_input) = start_post(world, "jobs");
    let (second, second_input) = start_post(world, "jobs");
    until_attached(world, "jobs", &first);
    until_attached(world, "jobs", &second);
    let mut taker = world.start(&mut world.command("take jobs"));
    let mut output = BufReader::new(taker.stdout.take().expect("a pipe"));
    drop(first_input);
    good(ended(first));
    world
        .run("take jobs --type 4 --timeout 50ms")
        .fails(5, &["no message of type 4", "jobs", "tombolo post"]);
    let mut second_input = second_input;
    second_input.write_all(b"last\n").expect("it listens");
    assert_eq!(line(&mut output), "last\n");
    drop(second_input);
    good(ended(second));
    assert!(!output.fill_buf().is_ok_and(|bytes| !bytes.is_empty()));
    good(ended(taker));
    assert!(is_empty(world));
}

fn killed(world: &World) {
    let (mut poster, mut input) = start_post(world, "jobs");
    until_attached(world, "jobs", &poster);
    let mut taker = world.start(&mut world.command("take jobs"));
    let mut output = BufReader::new(taker.stdout.take().expect("a pipe"));
    input.write_all(b"before\n").expect("it listens");
    assert_eq!(line(&mut output), "before\n");
    poster.kill().expect("mine");
    poster.wait().expect("mine");
    ended(taker).fails(1, &["jobs", "killed", "1 message", "start it again"]);
    assert!(is_empty(world), "the last to leave takes it away");
}

fn seen(world: &World) {
    let (poster, mut input) = start_post(world, "jobs --type 3 --until-removed --mode 640");
    input.write_all(b"one\ntwo\n").expect("it listens");
    crate::world::until("both have come", || {
        let channels = world.run("ls channels --json").json();
        channels.first().is_some_and(|jobs| jobs["messages"] == 2)
    });
    let jobs = world.run("ls channels --json").json().remove(0);
    assert_eq!(jobs["channel"], "mailbox");
    assert_eq!((&jobs["bytes"], &jobs["total"]), (&6.into(), &2.into()));
    assert_eq!(
        (&jobs["capacity"], &jobs["mode"]),
        (&(16 << 20).into(), &0o640.into())
    );
    let participant = &jobs["participants"][0];
    assert_eq!(
        (&participant["role"], &participant["messages"]),
        (&"poster".into(), &2.into())
    );
    let shown = world.run("show jobs").text();
    assert!(
        shown.contains("poster") && shown.contains("mailbox"),
        "{shown}"
    );
    let types: Vec<_> = shown.lines().skip_while(|line| *line != "Types").collect();
    assert_eq!(
        types[1].split_whitespace().collect::<Vec<_>>(),
        ["TYPE", "MESSAGES"]
    );
    assert_eq!(types[2].split_whitespace().collect::<Vec<_>>(), ["3", "2"]);
    let shown = world.run("show jobs --json").json().remove(0);
    assert_eq!(shown["types"][0]["messages"], 2);
    assert_eq!(shown["types"][0]["type"], 3);
    drop(input);
    good(ended(poster));
    assert_eq!(take(world, "jobs"), b"one\ntwo\n");
    assert!(!is_empty(world), "it was to stay");
    world.run("rm jobs").text();
}

fn wrong(world: &World) {
    for (arguments, words) in [
        ("post jobs --type 0", ["no type", "9223372036854775807"]),
        (
            "post jobs --type 1 --typed",
            ["cannot be used with", "--typed"],
        ),
        (
            "take jobs --type 1 --up-to 2",
            ["cannot be used with", "--up-to"],
        ),
        ("take jobs --at 1", ["--peek", "required"]),
        ("take jobs --typed --raw", ["cannot be used with", "--raw"]),
    ] {
        world.run(arguments).fails(2, &words);
    }
    world
        .run("take jobs --no-wait")
        .fails(3, &["jobs", "tombolo ls"]);
    let full = world.run_with("post jobs --capacity 10 --no-wait", b"12345\n67890\n!\n");
    full.fails(5, &["jobs", "2 messages", "full", "tombolo take"]);
    let long = world.run_with("post jobs", b"12345678901\n");
    long.fails(1, &["11 bytes", "10 bytes", "--capacity"]);
    world.run("recv jobs").fails(1, &["mailbox", "queue"]);
    let full = world.run_with("post jobs --timeout 20ms", b"x\n");
    full.fails(5, &["jobs", "0 messages", "full"]);
    assert_eq!(take(world, "jobs"), b"12345\n67890\n");
    let few = world.run_with("post jobs --messages 1 --no-wait", b"1\n2\n");
    few.fails(5, &["1 message", "full"]);
    assert_eq!(take(world, "jobs"), b"1\n");
}
