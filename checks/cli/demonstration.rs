//! `demo`: it tells the whole story, in the room of a terminal, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::Test;
use crate::users::setpriv;
use crate::values::signal;
use crate::world::{Folder, Ran, World, ended, feed, until};

pub const TESTS: &[Test] = &[
    ("a_file_is_shown", a_file),
    ("without_a_file_and_for_anybody", without_a_file),
    ("a_pipe_is_read_once", a_pipe),
    ("an_interruption_leaves_nothing", interrupted),
    ("a_receiver_that_dies_does_not_hang_it", receiver_dies),
    ("a_closed_pipe_ends_the_demonstration", closed_pipe),
    ("what_cannot_be_read_is_named", unreadable),
];

/// A demonstration's folder: for what it writes, and to work in.
impl Folder {
    /// Lets a command work in here.
    fn hold<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("TMPDIR", &self.0).current_dir(&self.0)
    }

    /// Asserts that nothing is left, neither here nor in the name space.
    fn is_clean(&self, world: &World, files: usize) {
        let all = fs::read_dir(&self.0).expect("a folder");
        let all: Vec<PathBuf> = all.map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(all.len(), files, "{all:?}");
        // A killed player's presence goes with its memory, a moment after it was reaped at most.
        until("no object is left", || {
            world.run("ls --json").json().is_empty()
        });
    }
}

/// Looks at what a demonstration that went well says.
fn story(ran: Ran, bytes: usize) -> String {
    let text = ran.text();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "too long: {line}");
    }
    let told = [
        "server has created it             1",
        "client has attached it, ro        2",
        "client waits by a bell, rw        3",
        "server has detached, ended        2",
        "client has detached               0",
        &format!("has {bytes} bytes, those of the file"),
        "it is gone",
        "256 MiB",
        "every byte checked",
        "Nothing is left behind",
    ];
    for told in told {
        assert!(text.contains(told), "no `{told}` in:\n{text}");
    }
    for transport in [
        "           pipe",
        "           FIFO",
        " System V queue",
        "        segment",
    ] {
        let line = text
            .lines()
            .find(|line| line.starts_with(transport))
            .expect(transport);
        assert!(line.contains(" GB/s  █"), "{line}");
    }
    text
}

fn a_file(world: &World) {
    let folder = Folder::new("file");
    let message = format!("first line\n{}\n\x1b[2Jlast line\n", "long ".repeat(1000));
    fs::write(folder.0.join("given"), &message).expect("written");
    let child = world.start(folder.hold(&mut world.command("demo given")));
    let text = story(ended(child), message.len());
    assert!(text.contains("  | first line\n"), "{text}");
    assert!(
        text.contains("  | \\u{1b}[2Jlast line\n"),
        "no escape reaches the terminal"
    );
    folder.is_clean(world, 1);
}

fn without_a_file(world: &World) {
    let folder = Folder::new("none");
    let run = |command: &mut Command| ended(world.start(folder.hold(command)));
    let mut alone = setpriv().unwrap_or_else(|| world.command(""));
    let text = story(run(alone.arg("demo")), 69);
    assert!(text.contains("Processes are islands"), "{text}");
    folder.is_clean(world, 0);
    fs::write(folder.0.join("README.md"), "of this folder\n").expect("written");
    let text = story(run(&mut world.command("demo")), 15);
    assert!(
        text.contains("README.md") && text.contains("  | of this folder\n"),
        "{text}"
    );
    folder.is_clean(world, 1);
}

fn a_pipe(world: &World) {
    let folder = Folder::new("pipe");
    let mut child = world.start(folder.hold(&mut world.command("demo -")));
    feed(&mut child, b"through a pipe\n");
    let text = story(ended(child), 15);
    assert!(text.contains("  | through a pipe\n"), "{text}");
    folder.is_clean(world, 0);
}

/// Starts a demonstration and reads it up to a line that has this word.
fn start_up_to(world: &World, folder: &Folder, word: &str) -> Child {
    let mut child = world.start(folder.hold(&mut world.command("demo /etc/passwd")));
    let mut told = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(told.read_line(&mut line).expect("text"), 0, "no {word}");
    }
    // Somebody has to go on reading: what this is about is another end.
    std::thread::spawn(move || told.read_to_end(&mut Vec::new()));
    child
}

fn interrupted(world: &World) {
    let folder = Folder::new("interrupted");
    for number in [libc::SIGINT, libc::SIGTERM] {
        for word in ["server, pid", "client has attached", "client, pid", "MiB"] {
            let child = start_up_to(world, &folder, word);
            signal(&child, number);
            let ran = ended(child);
            assert_eq!((ran.code, ran.err.as_str()), (128 + number, ""), "{word}");
            folder.is_clean(world, 0);
        }
    }
}

fn children(pid: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn receiver_dies(world: &World) {
    let folder = Folder::new("receiver");
    let child = start_up_to(world, &folder, "MiB");
    let pid = child.id();
    if !Path::new(&format!("/proc/{pid}/task/{pid}/children")).exists() {
        eprintln!("skipped: this kernel does not list the children of a process");
        drop(ended(child));
        return;
    }
    // Whichever comes, until one was met: the demonstration ends then.
    until("a receiver was met", || {
        for receiver in children(pid) {
            // SAFETY: takes numbers; a child of our child, which is not reaped without its parent.
            unsafe { libc::kill(receiver, libc::SIGKILL) };
        }
        !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    });
    ended(child).fails(1, &["receiver"]);
    folder.is_clean(world, 0);
}

fn closed_pipe(world: &World) {
    let folder = Folder::new("closed");
    for taken in [0, 100, 1000] {
        let mut child = world.start(folder.hold(&mut world.command("demo /etc/passwd")));
        let mut pipe = child.stdout.take().expect("a pipe");
        pipe.read_exact(&mut vec![0; taken])
            .expect("the first bytes");
        drop(pipe);
        let ran = ended(child);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "after {taken} bytes");
        folder.is_clean(world, 0);
    }
}

fn unreadable(world: &World) {
    world
        .run("demo /nonexistent")
        .fails(1, &["cannot read /nonexistent"]);
    world
        .run("demo /tmp")
        .fails(1, &["cannot read /tmp", "directory"]);
    world.run("demo one two").fails(2, &["two"]);
    if let Some(mut nobody) = setpriv() {
        let folder = Folder::new("unreadable");
        let secret = folder.0.join("secret");
        fs::write(&secret, "for us").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&secret, mode).expect("it is ours");
        let child = world.start(folder.hold(nobody.args(["demo", "secret"])));
        ended(child).fails(4, &["cannot read secret", "denied"]);
    }
    assert!(world.run("ls --json").json().is_empty());
}
