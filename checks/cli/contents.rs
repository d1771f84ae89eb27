//! `tombolo dump` and `tombolo load`: the bytes of any segment, and a C program's too.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use sysv::{Key, Mode, Segment};

use crate::Test;
use crate::world::{World, ended, feed};

pub const TESTS: &[Test] = &[
    ("what_is_loaded_is_dumped", loaded_is_dumped),
    ("hex_is_that_of_hexdump", hex),
    ("strings_are_those_of_strings", strings),
    ("what_does_not_fit_is_refused_whole", refused_whole),
    ("a_textbook_program_in_c_talks_to_us", textbook),
    ("dumping_needs_only_to_read", only_to_read),
    ("dumping_does_not_destroy", does_not_destroy),
];

fn every_byte(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn loaded_is_dumped(world: &World) {
    for size in [1, 4095, 4096, 3_000_001] {
        let id = world.mk(&format!("shm {size}"));
        let bytes = every_byte(size);
        let ran = world.run_with(&format!("load {id}"), &bytes);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let ran = world.run(&format!("dump {id} --format raw"));
        assert!(ran.out == bytes, "{size} bytes differ");
        let middle = world.run(&format!("dump {id} --format raw --offset {}", size / 2));
        assert!(middle.out == bytes[size / 2..]);
    }
}

fn hex(world: &World) {
    let id = world.mk("shm 2M");
    let mut bytes = every_byte(1000);
    bytes.extend([0; 5000]);
    bytes.extend(b"the end");
    world.run_with(&format!("load {id}"), &bytes);
    for range in [
        "",
        "--length 999",
        "--length 16",
        "--length 1048583",
        "--length 0",
    ] {
        let ours = world.run(&format!("dump {id} {range}")).text();
        let raw = world.run(&format!("dump {id} --format raw {range}")).out;
        let mut hexdump = Command::new("hexdump");
        if hexdump.arg("-V").output().is_err() {
            return eprintln!("skipped: there is no hexdump here");
        }
        let mut child = world.start(Command::new("hexdump").arg("-C"));
        feed(&mut child, &raw);
        let theirs = ended(child).text();
        // Of nothing, hexdump says nothing; we say where it ends.
        assert_eq!(
            ours,
            if raw.is_empty() {
                "00000000\n".to_owned()
            } else {
                theirs
            },
            "{range}"
        );
    }
}

fn strings(world: &World) {
    let id = world.mk("shm 1100000");
    let mut bytes = vec![0; 1_100_000];
    // Across the end of the first chunk, at the start, at the end, and too short.
    for (at, text) in [
        (0, "start"),
        (100, "abc"),
        (200, "four"),
        (1_048_570, "across the border"),
        (1_099_996, "last"),
    ] {
        bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    world.run_with(&format!("load {id}"), &bytes);
    let text = world.run(&format!("dump {id} --format strings")).text();
    let expected = "\
00000000  start
000000c8  four
000ffffa  across the border
0010c8dc  last
";
    assert_eq!(text, expected);
}

fn refused_whole(world: &World) {
    let id = world.mk("shm 100");
    world.run_with(&format!("load {id}"), &[b'a'; 100]);
    for (offset, length) in [(0, 101), (1, 100), (100, 1), (50, 10_000_000)] {
        world
            .run_with(&format!("load {id} --offset {offset}"), &vec![b'b'; length])
            .fails(1, &["segment 0", "nothing was written"]);
    }
    world
        .run(&format!("load {id} --offset 101"))
        .fails(1, &["100 bytes"]);
    assert_eq!(
        world.run(&format!("dump {id} --format raw")).out,
        [b'a'; 100]
    );
}

/// The client and the server of every textbook, compiled here.
fn compiled() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/textbook.c");
    let program = env::temp_dir().join(format!("tombolo-textbook-{}", std::process::id()));
    match Command::new("cc")
        .args(["-Wall", "-Werror", "-o"])
        .arg(&program)
        .arg(source)
        .status()
    {
        Ok(status) => {
            assert!(status.success(), "textbook.c does not compile");
            Some(program)
        }
        Err(_) => {
            eprintln!("skipped: there is no C compiler here");
            None
        }
    }
}

fn textbook(world: &World) {
    let Some(program) = compiled() else { return };
    // The server in C makes the segment and writes; we read.
    let served = Command::new(&program)
        .args(["serve", "5678", "hello from C"])
        .status();
    assert!(served.expect("it runs").success());
    let text = world.run("dump --key 5678 --range 0..12 --format raw").out;
    assert_eq!(text, b"hello from C");
    // We write; the client in C reads.
    let ran = world.run_with("load --key 5678", b"hello from the shell\0");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let read = Command::new(&program)
        .args(["read", "5678"])
        .output()
        .expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&read.stdout),
        "hello from the shell\n"
    );
    // And into one that we made.
    world.mk("shm 4096 --key 8765");
    world.run_with("load 0x223d", b"made here\0");
    let read = Command::new(&program)
        .args(["read", "8765"])
        .output()
        .expect("it runs");
    assert_eq!(String::from_utf8_lossy(&read.stdout), "made here\n");
    std::fs::remove_file(program).expect("removed");
}

fn only_to_read(world: &World) {
    let segment = Segment::create(Key::PRIVATE, 4096, Mode::default()).expect("made");
    let before = segment.status().expect("status");
    assert_eq!(before.attaches, 0);
    world.run(&format!("dump {}", segment.id())).text();
    let after = segment.status().expect("still there");
    assert_eq!(after.attaches, 0, "it detached");
    assert_eq!(after.perm, before.perm);
}

/// With shm_rmid_forced the kernel destroys a segment when the last one detaches.
fn does_not_destroy(world: &World) {
    world.run("limits --set shm_rmid_forced=1").text();
    // Of a creator that lives: others the kernel destroys at once.
    let segment = Segment::create(Key::PRIVATE, 4096, Mode::default()).expect("made");
    for command in ["dump", "load"] {
        world
            .run(&format!("{command} {}", segment.id()))
            .fails(1, &["shm_rmid_forced", "--set"]);
    }
    assert_eq!(segment.status().expect("still there").attaches, 0);
    let attach = segment.attach().expect("attached");
    world.run(&format!("dump {}", segment.id())).text();
    assert_eq!(segment.status().expect("still there").attaches, 1);
    drop(attach);
}
