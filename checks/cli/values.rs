//! `put` and `get`: bytes as they are, waiting, watching, growing, lifetimes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::Test;
use crate::world::{Folder, Ran, World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("bytes_come_as_they_were_put", bytes),
    ("from_a_file_too", from_a_file),
    ("a_get_that_is_first_waits", get_first),
    ("not_waiting_and_waiting_for_a_time", no_message),
    ("watching_shows_each_newer_message", watching),
    ("watching_ends_with_the_value", watching_to_the_end),
    ("a_watched_value_grows", growing),
    ("while_used_goes_with_its_last_user", while_used),
    ("what_a_kill_leaves_is_replaced", killed),
    ("mode_and_capacity", mode_and_capacity),
    ("by_key_ftok_and_id", addresses),
    ("a_forced_removal_is_warned_of", rmid_forced),
    ("a_closed_pipe_ends_get_quietly", closed_pipe),
    ("wrong_names_and_files", wrong),
];

/// Bytes that are no text: every value, line ends and zeros among them.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Puts a message that is taken without a word.
pub fn put(world: &World, arguments: &str, message: &[u8]) {
    let ran = world.run_with(&format!("put {arguments}"), message);
    assert_eq!(ran.text(), "", "put says nothing");
}

/// Gets a message that is there.
#[track_caller]
pub fn get(world: &World, arguments: &str) -> Vec<u8> {
    let ran = world.run(&format!("get {arguments} --no-wait"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments}");
    ran.out
}

/// Sends a signal to a process that we started and that is not reaped.
pub fn signal(child: &Child, number: i32) {
    // SAFETY: takes numbers; the process is not reaped yet, so the pid is its own.
    let sent = unsafe { libc::kill(child.id().cast_signed(), number) };
    assert_eq!(sent, 0);
}

fn segments(world: &World) -> Vec<serde_json::Value> {
    world.run("ls shm --json").json()
}

fn bytes(world: &World) {
    for length in [0, 1, 1, 65_536, 65_537, 100 << 20, 0] {
        let message = noise(length);
        put(world, "greeting", &message);
        assert!(get(world, "greeting") == message, "{length} bytes");
    }
    assert_eq!(segments(world).len(), 1, "it grew, and the old one went");
}

fn from_a_file(world: &World) {
    let message = noise(10_000);
    let folder = Folder::new("message");
    let file = folder.0.join("message");
    fs::write(&file, &message).expect("written");
    put(world, &format!("greeting {}", file.display()), b"not this");
    assert!(get(world, "greeting") == message);
    put(world, "greeting -", b"standard input");
    assert_eq!(get(world, "greeting"), b"standard input");
}

fn get_first(world: &World) {
    let getting = world.start(&mut world.command("get greeting"));
    let stat = format!("/proc/{}/stat", getting.id());
    // Its own program, not yet ours, sleeps as well on its way to exec.
    until("it sleeps", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains("(tombolo) S"))
    });
    put(world, "greeting", b"at last");
    assert_eq!(ended(getting).text(), "at last");
}

fn no_message(world: &World) {
    world
        .run("get greeting --no-wait")
        .fails(3, &["greeting", "tombolo ls"]);
    let timed = |arguments: &str| {
        let start = Instant::now();
        let ran = world.run(arguments);
        assert!(start.elapsed() >= Duration::from_millis(50), "{ran:?}");
        ran.fails(5, &["greeting", "tombolo put"]);
    };
    timed("get greeting --timeout 50ms");
    // A value without a message: the demonstration's server waits with it.
    let mut server = world.start(&mut world.command("demo /dev/null --role=server=greeting"));
    let mut told = BufReader::new(server.stderr.take().expect("a pipe"));
    let mut line = String::new();
    told.read_line(&mut line).expect("it says so");
    assert!(line.starts_with("created "), "{line}");
    world
        .run("get greeting --no-wait")
        .fails(5, &["greeting", "tombolo put"]);
    timed("get greeting --timeout 50ms");
    feed(&mut server, b"go\n");
    told.read_line(&mut line).expect("it says so");
    drop(told);
    ended(server);
    assert_eq!(get(world, "greeting"), b"");
    world.run("get greeting --timeout 5 parsecs").fails(2, &[]);
}

/// Starts a watcher, whose lines the answer reads.
fn watch(world: &World, arguments: &str) -> (Child, impl FnMut() -> String) {
    let arguments = format!("get greeting --watch --lines --timeout 30s {arguments}");
    let mut child = world.start(&mut world.command(&arguments));
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let next = move || {
        let mut line = String::new();
        lines.read_line(&mut line).expect("text");
        line
    };
    (child, next)
}

fn watching(world: &World) {
    put(world, "greeting", b"one");
    let (child, mut next) = watch(world, "--count 3");
    assert_eq!(next(), "one\n");
    put(world, "greeting", b"two");
    assert_eq!(next(), "two\n");
    put(world, "greeting", b"");
    assert_eq!(next(), "\n");
    let ran = ended(child);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(next(), "");
    let ran = world.run("get greeting --watch --timeout 50ms --count 2");
    assert_eq!(ran.out, b"");
    ran.fails(5, &["greeting"]);
    for wrong in ["--count 1", "--lines", "--watch --no-wait"] {
        world
            .run(&format!("get greeting {wrong}"))
            .fails(2, &["--watch"]);
    }
}

fn watching_to_the_end(world: &World) {
    put(world, "greeting", b"one");
    let (child, mut next) = watch(world, "");
    assert_eq!(next(), "one\n");
    world.run("rm greeting --force").text();
    ended(child).fails(3, &["greeting", "removed"]);
    assert!(segments(world).is_empty());
}

fn growing(world: &World) {
    put(world, "greeting --mode 640", b"small");
    let small = segments(world).remove(0);
    let (child, mut next) = watch(world, "--count 2");
    assert_eq!(next(), "small\n");
    let large = "x".repeat(3 << 20);
    put(world, "greeting", large.as_bytes());
    assert!(next().trim_end() == large);
    assert_eq!(ended(child).code, 0);
    let all = segments(world);
    assert_eq!(all.len(), 1);
    assert_ne!(all[0]["id"], small["id"], "a new generation");
    assert_eq!(
        (&all[0]["name"], &all[0]["mode"]),
        (&"greeting".into(), &0o640.into())
    );
}

/// A process that keeps a value until it ends.
fn keep(world: &World, message: &[u8]) -> Child {
    let mut child = world.start(&mut world.command("put greeting --while-used"));
    feed(&mut child, message);
    let mut all = Ran {
        code: 0,
        out: Vec::new(),
        err: String::new(),
    };
    until("it is put", || {
        all = world.run("get greeting --no-wait");
        all.out == message
    });
    child
}

fn while_used(world: &World) {
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let child = keep(world, b"hello");
        signal(&child, number);
        assert_eq!(ended(child).text(), "", "an end as it was asked for");
        world.run("get greeting --no-wait").fails(3, &["greeting"]);
        assert!(world.run("ls --json").json().is_empty(), "nothing is left");
    }
    let child = keep(world, b"hello");
    let (watcher, mut next) = watch(world, "");
    assert_eq!(next(), "hello\n");
    signal(&child, libc::SIGTERM);
    assert_eq!(ended(child).text(), "");
    assert_eq!(get(world, "greeting"), b"hello", "somebody still uses it");
    signal(&watcher, libc::SIGKILL);
    ended(watcher);
}

fn killed(world: &World) {
    let child = keep(world, b"before");
    signal(&child, libc::SIGKILL);
    ended(child);
    put(world, "greeting", b"after");
    assert_eq!(get(world, "greeting"), b"after");
    until("the dead one's memory is gone", || {
        segments(world).len() == 1
    });
    put(world, "greeting", b"and on");
    assert_eq!(get(world, "greeting"), b"and on");
}

fn mode_and_capacity(world: &World) {
    let described = |id: i64| world.show("shm", id.try_into().expect("an id"));
    let id = |world: &World| segments(world)[0]["id"].as_i64().expect("a number");
    put(world, "greeting --capacity 1M", b"hello");
    let first = described(id(world));
    assert!(first["size"].as_u64().expect("a number") >= 1 << 20);
    assert_eq!(first["mode"], 0o600);
    put(world, "greeting --mode 644", b"hello");
    assert_eq!(described(id(world))["mode"], 0o644, "of one that exists");
    put(world, "greeting", b"hello");
    assert_eq!(described(id(world))["mode"], 0o644, "it keeps what it has");
    assert_eq!(described(id(world))["id"], first["id"]);
    world
        .run_with("put greeting --capacity 4", b"hello")
        .fails(2, &["5 bytes", "greeting", "capacity of 4", "larger"]);
    world
        .run("put greeting --mode 888")
        .fails(2, &["888", "octal"]);
    world
        .run("put greeting --capacity much")
        .fails(2, &["much", "64K"]);
    world
        .run("put vast --capacity 18446744073709551615")
        .fails(1, &["vast", "no address space"]);
    assert_eq!(get(world, "greeting"), b"hello", "none of this changed it");
}

fn addresses(world: &World) {
    let folder = Folder::new("ftok");
    let file = &folder.0;
    let ftok = format!("{},R", file.display());
    put(world, "--key 0x4d2", b"by key");
    put(world, &format!("--ftok {ftok}"), b"by ftok");
    for same in ["--key 1234", "--key 02322", "0x4d2", "key:1234"] {
        assert_eq!(get(world, same), b"by key", "{same}");
    }
    for same in [format!("--ftok {ftok}"), format!("ftok:{ftok}")] {
        assert_eq!(get(world, &same), b"by ftok", "{same}");
    }
    let all = segments(world);
    let keyed = all.iter().find(|object| object["key"] == 1234).expect("it");
    let id = keyed["id"].as_i64().expect("a number");
    put(world, &format!("--id {id}"), b"by id");
    assert_eq!(get(world, &id.to_string()), b"by id");
    assert_eq!(get(world, "0x4d2"), b"by id");
    // Nobody can make an id that others wait for, so these do not wait.
    world.run("get --id 999999").fails(3, &["999999"]);
    world
        .run_with("put --id 999999", b"x")
        .fails(3, &["999999"]);
    world.run("get --key 0").fails(2, &["private"]);
    world
        .run_with("put --ftok /nonexistent,R", b"x")
        .fails(3, &["/nonexistent"]);
    world
        .run("get 0x4d2 --id 7")
        .fails(2, &["one object too many"]);
    let other = world.mk("shm 4096 --key 0x99");
    let holder = world.attach(other, "rw");
    world.run_with("load 0x99", b"somebody else's").text();
    world
        .run("get 0x99 --no-wait")
        .fails(1, &["0x00000099", "tombolo dump"]);
    drop(holder);
}

fn rmid_forced(world: &World) {
    if world.run("limits --set shm_rmid_forced=1").code != 0 {
        eprintln!("skipped: may not set shm_rmid_forced here");
        return;
    }
    let ran = world.run_with("put greeting", b"hello");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("warning: kernel.shm_rmid_forced"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("--while-used"), "{}", ran.err);
    world.run("get greeting --no-wait").fails(3, &["greeting"]);
    let child = keep(world, b"hello");
    signal(&child, libc::SIGTERM);
    assert_eq!(ended(child).text(), "", "that one stays, so no warning");
}

fn closed_pipe(world: &World) {
    put(world, "greeting", &noise(4 << 20));
    for arguments in ["get greeting", "get greeting --watch"] {
        for taken in [0, 1] {
            let mut child = world.start(&mut world.command(arguments));
            let mut pipe = child.stdout.take().expect("a pipe");
            pipe.read_exact(&mut vec![0; taken])
                .expect("the first bytes");
            drop(pipe);
            let ran = ended(child);
            assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments}");
        }
    }
}

fn wrong(world: &World) {
    for (name, word) in [
        ("4x", "letter"),
        ("a,b", "','"),
        ("no-such-user/a", "no-such-user"),
    ] {
        for command in ["put", "get"] {
            world
                .run(&format!("{command} {name}"))
                .fails(2, &[word, name]);
        }
    }
    world.run("put").fails(2, &["which"]);
    world.run("get").fails(2, &["which"]);
    world
        .run("put greeting /nonexistent/file")
        .fails(1, &["/nonexistent/file"]);
    world.run("put greeting /").fails(1, &["/", "directory"]);
    world
        .run("put greeting /etc/passwd more")
        .fails(2, &["more"]);
    assert!(world.run("ls --json").json().is_empty(), "none was made");
}
