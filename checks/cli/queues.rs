//! `send` and `recv`: framing, senders and receivers that meet, addresses, permissions.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command};

use checks::bin_under_test;

use crate::Test;
use crate::users::setpriv;
use crate::values::noise;
use crate::world::{Folder, Ran, World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("messages_come_as_they_were_sent", framing),
    ("large_chunks_come_whole", chunks),
    ("lines_of_a_pipe_and_of_a_file", composes),
    ("each_message_comes_at_once", at_once),
    ("a_recv_that_is_first_waits", recv_first),
    ("a_silent_sender_is_there_from_its_start", silent),
    ("what_was_sent_waits_for_a_recv", send_first),
    ("the_last_of_two_senders_ends_it", two_senders),
    ("two_receivers_share", two_receivers),
    ("mode_capacity_and_lifetime", made),
    ("by_key_and_id", addresses),
    ("others_need_the_mode", others),
    ("wrong_lines_and_input", wrong),
];

/// Sends what is taken without a word.
#[track_caller]
pub fn send(world: &World, arguments: &str, input: &[u8]) {
    let ran = world.run_with(&format!("send {arguments}"), input);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments}");
    assert!(ran.out.is_empty(), "send writes nothing");
}

/// Receives to a good end.
#[track_caller]
pub fn recv(world: &World, arguments: &str) -> Vec<u8> {
    good(world.run(&format!("recv {arguments}")))
}

#[track_caller]
pub fn good(ran: Ran) -> Vec<u8> {
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    ran.out
}

/// A sender whose input is open.
pub fn start_send(world: &World, arguments: &str) -> (Child, ChildStdin) {
    let mut child = world.start(&mut world.command(&format!("send {arguments}")));
    let input = child.stdin.take().expect("a pipe");
    (child, input)
}

/// A receiver whose output is read by the answer.
pub fn start_recv(world: &World, arguments: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = world.start(&mut world.command(&format!("recv {arguments}")));
    let output = child.stdout.take().expect("a pipe");
    (child, BufReader::new(output))
}

pub fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    line
}

pub fn rest(mut output: impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("read");
    rest
}

pub fn is_empty(world: &World) -> bool {
    world.run("ls shm --json").json().is_empty()
}

/// Waits until the queue is there.
fn until_made(world: &World) {
    until("the queue is there", || {
        world.run("recv jobs --no-wait --count 1").code != 3
    });
}

/// Waits until a process sleeps: in the kernel, in our program.
fn until_it_sleeps(child: &Child) {
    let stat = format!("/proc/{}/stat", child.id());
    until("it sleeps", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains("(tombolo) S"))
    });
}

fn prefixed(messages: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for message in messages {
        let length = u32::try_from(message.len()).expect("short");
        all.extend_from_slice(&length.to_le_bytes());
        all.extend_from_slice(message);
    }
    all
}

fn framing(world: &World) {
    let large = noise(300_000);
    let mut text = noise(200_000);
    text.retain(|byte| *byte != b'\n');
    let lines = [b"\none\n\n\0\xff\n\n".as_slice(), &text, b"\n"].concat();
    let mut zeros = noise(200_000);
    zeros.retain(|byte| *byte != 0);
    let zeros = [b"\0one\0\0two\nlines\0\0".as_slice(), &zeros, b"\0"].concat();
    let messages = prefixed(&[b"", b"one", b"", b"\n\0", &large, b""]);
    for (option, received, input) in [
        ("", "", &lines),
        ("--null", "--null", &zeros),
        ("-0", "-0", &zeros),
        ("--length-prefixed", "--length-prefixed", &messages),
        ("--chunk 1", "--raw", &lines),
        ("--chunk 4096", "--raw", &large),
        ("--chunk 64K", "--raw", &large),
    ] {
        send(world, &format!("jobs --capacity 64M {option}"), input);
        assert!(
            recv(world, &format!("jobs {received}")) == *input,
            "{option}"
        );
        assert!(is_empty(world), "it goes with its last user");
    }
    // From one framing into another.
    send(
        world,
        "jobs --length-prefixed",
        &prefixed(&[b"a", b"", b"b"]),
    );
    assert_eq!(recv(world, "jobs"), b"a\n\nb\n");
    send(world, "jobs --chunk 2", b"abcde");
    assert_eq!(recv(world, "jobs"), b"ab\ncd\ne\n");
    // A message needs no end, and nothing is no message.
    send(world, "jobs", b"a\nb");
    assert_eq!(
        recv(world, "jobs --length-prefixed"),
        prefixed(&[b"a", b"b"])
    );
    send(world, "jobs", b"");
    assert!(is_empty(world));
}

fn chunks(world: &World) {
    let message = noise(20 << 20);
    let folder = Folder::new("chunks");
    let file = folder.0.join("file");
    fs::write(&file, &message).expect("written");
    let file = file.display();
    for (arguments, input) in [
        (format!("{file} --chunk 1000"), b"not this".as_slice()),
        (format!("{file} --chunk 65536"), b""),
        (format!("{file} --chunk 4M"), b""),
        ("- --chunk 64K".to_owned(), &message),
    ] {
        let (receiver, output) = start_recv(world, "jobs --raw");
        let reading = std::thread::spawn(move || rest(output));
        send(world, &format!("jobs {arguments}"), input);
        let received = reading.join().expect("no panic");
        assert!(received == message, "{arguments}");
        good(ended(receiver));
    }
}

fn composes(world: &World) {
    let bin = bin_under_test::tombolo();
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("TOMBOLO", bin);
        ended(world.start(&mut shell))
    };
    let sent = shell("printf 'a\\nb\\n' | \"$TOMBOLO\" send jobs");
    assert_eq!(sent.text(), "");
    assert_eq!(shell("\"$TOMBOLO\" recv jobs | wc -l").text().trim(), "2");
    let both = shell("seq 100000 | \"$TOMBOLO\" send jobs & \"$TOMBOLO\" recv jobs | tail -n 1");
    assert_eq!(both.text(), "100000\n");
}

fn at_once(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs");
    let (sender, mut input) = start_send(world, "jobs");
    for text in ["one\n", "\n", "three\n"] {
        input.write_all(text.as_bytes()).expect("it listens");
        assert_eq!(line(&mut output), text);
    }
    input.write_all(b"the end").expect("it listens");
    drop(input);
    assert_eq!(line(&mut output), "the end\n");
    assert_eq!(ended(sender).text(), "");
    assert_eq!(rest(output), b"");
    good(ended(receiver));
}

fn recv_first(world: &World) {
    let receiver = world.start(&mut world.command("recv jobs"));
    until_it_sleeps(&receiver);
    send(world, "jobs", b"at last\n");
    assert_eq!(ended(receiver).text(), "at last\n");
}

fn silent(world: &World) {
    let (sender, input) = start_send(world, "jobs");
    until_made(world);
    let receiver = world.start(&mut world.command("recv jobs"));
    until_it_sleeps(&receiver);
    world
        .run("recv jobs --timeout 100ms")
        .fails(5, &["jobs", "tombolo send"]);
    drop(input);
    assert_eq!(ended(sender).text(), "");
    assert_eq!(ended(receiver).text(), "");
}

fn send_first(world: &World) {
    send(world, "jobs", b"one\n");
    send(world, "jobs", b"two\n");
    let mut lines: Vec<String> = String::from_utf8(recv(world, "jobs"))
        .expect("text")
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    world.run("recv jobs --no-wait").fails(3, &["jobs"]);
}

fn two_senders(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs");
    let (first, mut first_input) = start_send(world, "jobs");
    let (second, mut second_input) = start_send(world, "jobs");
    for input in [&mut first_input, &mut second_input] {
        input.write_all(b"hello\n").expect("it listens");
        assert_eq!(line(&mut output), "hello\n");
    }
    let numbers = |name: &str| -> Vec<String> {
        (0..20_000)
            .map(|number| format!("{name}{number}"))
            .collect()
    };
    let (a, b) = (numbers("a"), numbers("b"));
    let writing = a.join("\n");
    let writer = std::thread::spawn(move || first_input.write_all(writing.as_bytes()));
    let writing = b.join("\n");
    let other = std::thread::spawn(move || second_input.write_all(writing.as_bytes()));
    let all = String::from_utf8(rest(output)).expect("text");
    for thread in [writer, other] {
        thread.join().expect("no panic").expect("it listens");
    }
    for (name, sent) in [("a", a), ("b", b)] {
        let of = all.lines().filter(|line| line.starts_with(name));
        assert!(of.eq(sent.iter()), "all of {name} in its order");
    }
    assert_eq!(all.lines().count(), 40_000);
    for child in [first, second, receiver] {
        good(ended(child));
    }
}

fn two_receivers(world: &World) {
    let receivers = [(); 2].map(|()| start_recv(world, "jobs"));
    let numbers: Vec<String> = (10_000..60_000).map(|number| number.to_string()).collect();
    // Both of them see the queue: whoever came after its end would wait for the next.
    let (sender, mut input) = start_send(world, "jobs");
    for (receiver, _) in &receivers {
        until_attached(world, "jobs", receiver);
    }
    let readers = receivers.map(|(receiver, output)| {
        let reader = std::thread::spawn(move || rest(output));
        (receiver, reader)
    });
    input
        .write_all(numbers.join("\n").as_bytes())
        .expect("it listens");
    drop(input);
    let mut all: Vec<String> = Vec::new();
    for (receiver, reader) in readers {
        good(ended(receiver));
        let received = String::from_utf8(reader.join().expect("no panic")).expect("text");
        all.extend(received.lines().map(str::to_owned));
    }
    good(ended(sender));
    all.sort();
    assert!(all == numbers, "each message once");
}

/// Waits until a process has the channel attached.
pub fn until_attached(world: &World, name: &str, child: &Child) {
    until("it has the channel attached", || {
        let shown = world.run(&format!("show {name} --json"));
        let pid = format!("\"pid\":{},", child.id());
        shown.code == 0 && String::from_utf8_lossy(&shown.out).contains(&pid)
    });
}

fn made(world: &World) {
    let described = |name: &str| {
        let mut all = world.run(&format!("show {name} --json")).json();
        all.remove(0)
    };
    send(world, "jobs --mode 640 --until-removed", b"one\n");
    let jobs = described("jobs");
    assert_eq!(
        (&jobs["mode"], &jobs["channel"]),
        (&0o640.into(), &"queue".into())
    );
    assert_eq!(recv(world, "jobs"), b"one\n");
    assert_eq!(described("jobs")["id"], jobs["id"], "it stays");
    assert_eq!(recv(world, "jobs"), b"", "at its end");
    world.run("rm jobs").text();
    send(world, "jobs --capacity 16M", b"one\n");
    let large = described("jobs")["size"].as_u64().expect("a number");
    assert!(large > jobs["size"].as_u64().expect("a number"));
    for (arguments, word) in [
        ("--mode 888", "octal"),
        ("--capacity much", "64K"),
        ("--chunk 0", "at least 1"),
        ("--null --length-prefixed", "cannot be used with"),
    ] {
        world
            .run(&format!("send jobs {arguments}"))
            .fails(2, &[word]);
    }
    world
        .run("recv jobs --raw --null")
        .fails(2, &["cannot be used with"]);
    assert_eq!(recv(world, "jobs"), b"one\n", "none of this changed it");
}

fn addresses(world: &World) {
    send(world, "--key 0x4d2", b"by key\n");
    let id = world.run("ls shm --json").json()[0]["id"].clone();
    send(world, &format!("--id {id}"), b"by id\n");
    let got = recv(world, "key:1234");
    assert_eq!(got.len(), b"by key\nby id\n".len());
    // Nobody can make an id that others wait for, so these do not wait.
    world.run("recv --id 999999").fails(3, &["999999"]);
    world
        .run_with("send --id 999999", b"x")
        .fails(3, &["999999"]);
    world.run("recv --key 0").fails(2, &["private"]);
    world.run("recv").fails(2, &["which"]);
    world.run("send").fails(2, &["which"]);
    // A value is no queue.
    world.run_with("put greeting", b"hello").text();
    world
        .run_with("send greeting", b"x")
        .fails(1, &["greeting"]);
    world.run("recv greeting").fails(1, &["greeting"]);
}

fn others(world: &World) {
    let run = |arguments: &str, input: &[u8]| {
        let mut child = world.start(setpriv()?.args(arguments.split_whitespace()));
        feed(&mut child, input);
        Some(ended(child))
    };
    send(world, "jobs", b"of root\n");
    let Some(refused) = run("recv root/jobs", b"") else {
        return;
    };
    refused.fails(4, &["root/jobs", "600"]);
    for mode in ["600", "644"] {
        world.run(&format!("set shm jobs --mode {mode}")).text();
        let ran = run("send root/jobs", b"x\n").expect("as before");
        ran.fails(4, &["root/jobs", mode]);
    }
    world.run("set shm jobs --mode 666").text();
    let sent = run("send root/jobs", b"of nobody\n").expect("as before");
    assert_eq!(sent.text(), "");
    let mut lines: Vec<String> = run("recv root/jobs", b"")
        .expect("as before")
        .text()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["of nobody", "of root"]);
}

fn wrong(world: &World) {
    world
        .run("send jobs /nonexistent/file")
        .fails(1, &["/nonexistent/file"]);
    world
        .run("send jobs --chunk 4611686018427387904")
        .fails(1, &["jobs"]);
    for (name, word) in [("4x", "letter"), ("a,b", "','")] {
        for command in ["send", "recv"] {
            world
                .run(&format!("{command} {name}"))
                .fails(2, &[word, name]);
        }
    }
    assert!(is_empty(world), "none was made");
    world.run("send jobs /").fails(1, &["/", "directory"]);
    let cut = [prefixed(&[b"whole"]), b"\x05\0\0\0cut".to_vec()].concat();
    world.run_with("send jobs --length-prefixed", &cut).fails(
        1,
        &["standard input", "middle of a message", "jobs", "1 before"],
    );
    assert_eq!(recv(world, "jobs"), b"whole\n", "what was whole was sent");
    let long = [b"short\n".as_slice(), &vec![b'x'; 4 << 20]].concat();
    world.run_with("send jobs", &long).fails(
        1,
        &["jobs", "after 1 message:", "longer than", "--capacity"],
    );
    let vast = b"\xff\xff\xff\xff";
    world
        .run_with("send jobs --length-prefixed", vast)
        .fails(1, &["4294967295 bytes", "--capacity"]);
    world
        .run_with("send jobs --chunk 4M", b"")
        .fails(1, &["4194304 bytes", "--capacity"]);
    assert_eq!(recv(world, "jobs"), b"short\n");
}
