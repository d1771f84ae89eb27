//! How `send` and `recv` end: deaths, counts, patience, removal, closed pipes; and `--follow`.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use tombolo::queue::Consumer;
use tombolo::{Name, Patience};

use crate::Test;
use crate::queues::{
    good, is_empty, line, recv, rest, send, start_recv, start_send, until_attached,
};
use crate::values::{noise, signal};
use crate::world::{World, ended, until};

pub const TESTS: &[Test] = &[
    ("a_killed_sender_is_no_good_end", killed_sender),
    ("a_killed_receiver_is_gone", killed_receiver),
    ("a_death_ends_the_other_at_once", at_once),
    ("a_sender_waits_for_the_next_receiver", next_receiver),
    ("what_a_killed_receiver_had_comes_again", redelivered),
    (
        "what_a_killed_receiver_wrote_is_all_that_is_gone",
        killed_while_writing,
    ),
    ("counting", counting),
    ("not_waiting_and_waiting_for_a_time", patience),
    ("following_goes_on", following),
    ("a_removed_queue_ends_both", removed),
    ("a_closed_pipe_ends_recv_quietly", closed_pipe),
];

/// Longer than a death may go unnoticed.
const SOON: Duration = Duration::from_secs(1);

fn killed_sender(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs");
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"one\ntwo\nhalf a li").expect("it listens");
    assert_eq!(line(&mut output), "one\n");
    signal(&sender, libc::SIGKILL);
    let start = Instant::now();
    assert_eq!(ended(sender).code, 128 + libc::SIGKILL);
    assert_eq!(rest(output), b"two\n");
    ended(receiver).fails(1, &["jobs", "a sender", "killed", "2 messages"]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    // What it had sent is received also where nobody was there to see it die.
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"one\ntwo\n").expect("it listens");
    assert_eq!(first(world), b"one\n");
    signal(&sender, libc::SIGKILL);
    ended(sender);
    let ran = world.run("recv jobs");
    assert_eq!(ran.out, b"two\n");
    ran.fails(1, &["killed"]);
    assert!(is_empty(world), "nothing is left");
    send(world, "jobs", b"again\n");
    assert_eq!(recv(world, "jobs"), b"again\n");
}

/// The first message, from a queue that somebody is about to make.
fn first(world: &World) -> Vec<u8> {
    good(world.run("recv jobs --count 1 --timeout 30s"))
}

/// How soon the other side of a stream ends when one side is killed in the middle of it.
fn at_once(world: &World) {
    let round = |victim: usize, number: usize| {
        // What the killed left in one queue is not for the next round.
        let name = format!("jobs{victim}{number}");
        let (receiver, output) = start_recv(world, &name);
        let mut sender = world.start(&mut world.command(&format!("send {name} --capacity 64K")));
        let mut input = sender.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || while input.write_all(&much()).is_ok() {});
        let mut output = output;
        assert_eq!(line(&mut output), "0123456\n");
        let reader = std::thread::spawn(move || rest(output));
        let (killed, other) = if victim == 0 {
            (sender, receiver)
        } else {
            (receiver, sender)
        };
        signal(&killed, libc::SIGKILL);
        let start = Instant::now();
        let ran = ended(other);
        let took = start.elapsed();
        ended(killed);
        let word = ["was killed before its end", "last receiver is gone"][victim];
        ran.fails(1, &[&name, word]);
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        took
    };
    for victim in 0..2 {
        // A busy machine delays some; a wait for the end of a slice would delay all.
        let rounds = (0..5).map(|number| round(victim, number));
        let soonest = rounds.min().expect("five");
        assert!(soonest < Duration::from_millis(200), "{soonest:?}");
    }
}

/// More than fits a queue of 64K and the pipes around it.
fn much() -> Vec<u8> {
    b"0123456\n".repeat(1 << 20)
}

fn killed_receiver(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs");
    let mut sender = world.start(&mut world.command("send jobs --capacity 64K"));
    let mut input = sender.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || input.write_all(&much()));
    assert_eq!(line(&mut output), "0123456\n");
    signal(&receiver, libc::SIGKILL);
    let start = Instant::now();
    ended(receiver);
    ended(sender).fails(
        1,
        &[
            "cannot send to 'jobs'",
            "last receiver is gone",
            "tombolo recv",
            "--wait",
        ],
    );
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let broken = writer.join().expect("no panic").map_err(|e| e.kind());
    assert_eq!(broken, Err(ErrorKind::BrokenPipe));
}

fn next_receiver(world: &World) {
    let mut sender = world.start(&mut world.command("send jobs --capacity 64K --wait"));
    let mut input = sender.stdin.take().expect("a pipe");
    let lines: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    let writing = lines.clone();
    let writer = std::thread::spawn(move || input.write_all(writing.as_bytes()));
    let mut all = world.run("recv jobs --timeout 30s --count 500").text();
    all += &world.run("recv jobs --count 1500").text();
    all += &world.run("recv jobs").text();
    assert!(all == lines, "in order, all of them");
    writer.join().expect("no panic").expect("it listens");
    good(ended(sender));
    // One that leaves in good order is noticed without a full queue.
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"one\n").expect("it listens");
    assert_eq!(first(world), b"one\n");
    input.write_all(b"two\n").expect("it listens");
    ended(sender).fails(1, &["last receiver is gone", "1 message"]);
}

/// The other side of `redelivered`: takes a message, says so, and holds it until it is killed.
pub fn take(name: &str) -> ExitCode {
    let name: Name = name.parse().expect("a name");
    let mut consumer = Consumer::open(name).expect("opened");
    let message = consumer.receive(Patience::FOREVER).expect("received");
    assert!(message.is_some());
    println!("taken");
    let _ = std::io::stdin().read(&mut [0]);
    drop(message);
    ExitCode::SUCCESS
}

fn redelivered(world: &World) {
    send(world, "jobs", b"one\ntwo\n");
    let this = std::env::current_exe().expect("the path of this test");
    let mut taker = world.start(Command::new(this).args(["--take", "jobs"]));
    let mut output = BufReader::new(taker.stdout.take().expect("a pipe"));
    assert_eq!(line(&mut output), "taken\n");
    signal(&taker, libc::SIGKILL);
    ended(taker);
    let ran = world.run("recv jobs");
    assert_eq!(ran.out, b"one\ntwo\n");
    ran.fails(
        0,
        &[
            "warning: 1 of the next",
            "jobs",
            "received before",
            "killed",
        ],
    );
}

/// A receiver whose reader has stopped is killed: what it had written is with the reader, and what it
/// had not is in the queue, but for a few KiB that it had in hand.
fn killed_while_writing(world: &World) {
    const LINES: usize = 100_000;
    const IN_HAND: usize = 4096 / 8 + 1;
    let numbers: Vec<u8> = (0..LINES)
        .flat_map(|at| format!("{at:07}\n").into_bytes())
        .collect();
    send(world, "jobs --capacity 16M", &numbers);
    // Nobody reads: it stops when the pipe is full.
    let (receiver, mut output) = start_recv(world, "jobs");
    until("the pipe is full", || {
        let mut held: libc::c_int = 0;
        // SAFETY: the call stores a number there.
        unsafe { libc::ioctl(output.get_ref().as_raw_fd(), libc::FIONREAD, &raw mut held) };
        held >= 1 << 16
    });
    signal(&receiver, libc::SIGKILL);
    ended(receiver);
    let mut written = Vec::new();
    output.read_to_end(&mut written).expect("what was written");
    let rest = world.run("recv jobs");
    assert_eq!(rest.code, 0, "{}", rest.err);
    let (whole, torn) = (written.len() / 8, written.len() % 8);
    assert_eq!(written[..whole * 8], numbers[..whole * 8]);
    assert!(whole * 8 + torn >= 1 << 16, "a pipe holds that: {whole}");
    assert!(numbers.ends_with(&rest.out), "the rest, in order");
    // Killed before it finished what it had in hand, that comes again, and is said to.
    let next = LINES - rest.out.len() / 8;
    assert!(next >= whole || rest.err.contains("received before"));
    assert!(next <= whole + IN_HAND, "{} are gone", next - whole);
}

fn counting(world: &World) {
    send(world, "jobs", b"1\n2\n3\n4\n");
    assert_eq!(recv(world, "jobs --count 0"), b"");
    assert_eq!(recv(world, "jobs --count 1"), b"1\n");
    assert_eq!(recv(world, "jobs --count 2"), b"2\n3\n");
    assert_eq!(recv(world, "jobs --count 7"), b"4\n", "the end comes first");
    assert!(is_empty(world));
}

fn patience(world: &World) {
    world
        .run("recv jobs --no-wait")
        .fails(3, &["jobs", "tombolo ls"]);
    let start = Instant::now();
    world
        .run("recv jobs --timeout 50ms")
        .fails(5, &["jobs", "tombolo send"]);
    assert!(start.elapsed() >= Duration::from_millis(50));
    let input = much();
    let ran = world.run_with("send jobs --no-wait --capacity 64K", &input);
    let sent: usize = ran
        .err
        .split_once("after ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .expect("it says how many");
    assert!(sent > 100, "{sent}");
    ran.fails(5, &["cannot send to 'jobs'", "full", "tombolo recv"]);
    let start = Instant::now();
    world
        .run_with("send jobs --timeout 50ms", &input)
        .fails(5, &["jobs", "full"]);
    assert!(start.elapsed() >= Duration::from_millis(50));
    // While a sender is there, the queue is not at its end.
    let (sender, input) = start_send(world, "jobs");
    until_attached(world, "jobs", &sender);
    let ran = world.run("recv jobs --no-wait");
    assert_eq!(ran.out.len(), 8 * sent, "what it said to have sent");
    ran.fails(5, &["jobs", &format!("after {sent} that did")]);
    drop(input);
    good(ended(sender));
}

fn following(world: &World) {
    let (receiver, mut output) = start_recv(world, "jobs --follow");
    for text in ["one\n", "two\n"] {
        send(world, "jobs", text.as_bytes());
        assert_eq!(line(&mut output), text);
    }
    let (sender, mut input) = start_send(world, "jobs");
    input.write_all(b"three\n").expect("it listens");
    assert_eq!(line(&mut output), "three\n");
    signal(&sender, libc::SIGKILL);
    ended(sender);
    send(world, "jobs", b"four\n");
    assert_eq!(line(&mut output), "four\n");
    signal(&receiver, libc::SIGTERM);
    assert_eq!(ended(receiver).code, 128 + libc::SIGTERM);
    send(world, "more", b"one\n");
    let ran = world.run("recv more --follow --timeout 50ms");
    assert_eq!(ran.out, b"one\n");
    ran.fails(5, &["more", "after 1"]);
}

fn removed(world: &World) {
    let (sender, mut input) = start_send(world, "jobs");
    let (receiver, mut output) = start_recv(world, "jobs");
    input.write_all(b"one\n").expect("it listens");
    assert_eq!(line(&mut output), "one\n");
    world.run("rm jobs --force").text();
    ended(receiver).fails(3, &["jobs", "removed", "1 message"]);
    let ran = (0..100_000).find_map(|_| input.write_all(b"two\n").err());
    assert!(ran.is_some(), "it stops to listen");
    let ran = ended(sender);
    assert!([1, 3].contains(&ran.code), "{}", ran.err);
    assert!(is_empty(world));
}

fn closed_pipe(world: &World) {
    for taken in [0, 1] {
        let mut child = world.start(&mut world.command(&format!("recv jobs{taken} --raw")));
        let mut pipe = child.stdout.take().expect("a pipe");
        let mut sender = world.start(&mut world.command(&format!("send jobs{taken} --chunk 1000")));
        let mut input = sender.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || input.write_all(&noise(4 << 20)));
        pipe.read_exact(&mut vec![0; taken])
            .expect("the first bytes");
        drop(pipe);
        assert_eq!(ended(child).text(), "");
        ended(sender).fails(1, &["last receiver is gone"]);
        assert!(writer.join().expect("no panic").is_err());
    }
}
