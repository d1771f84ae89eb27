//! The programs of `examples/`, as their readers run them: real processes that talk to each other
//! and to the `tombolo` command.
//!
//! - `programs`: where the programs are
//! - `desk`: a key file of its own for each test, and what goes when the test ends

#![allow(missing_docs)]

mod desk;
mod programs;

use checks::bin_under_test::tombolo;
use desk::{Desk, until};
use programs::{Language, example, pairs};
use std::process::Command;
use sysv::{Errno, Mode, Segment, procfs};
use tombolo::shmem::Region;

/// Texts that a pair must carry: nothing, a byte, all bytes, more than a pipe holds.
fn texts() -> [Vec<u8>; 4] {
    let all = (0..=255u8).collect::<Vec<_>>();
    [vec![], b"x".to_vec(), all.clone(), all.repeat(1000)]
}

#[test]
fn every_client_reads_every_server() {
    for (server, client) in pairs() {
        for text in texts() {
            let desk = Desk::new();
            desk.serve(server, &text).succeeds();
            let segment = Segment::open(desk.key()).expect("it stays");
            let served = segment.status().expect("status");
            assert_eq!((served.attaches, served.size), (0, 8 + text.len() as u64));
            for _ in 0..2 {
                assert_eq!(
                    desk.client(client).succeeds(),
                    text,
                    "{server:?} to {client:?}"
                );
            }
            let read = segment.status().expect("it still stays");
            assert_eq!(
                (read.attaches, read.perm),
                (0, served.perm),
                "the client detached"
            );
            assert_ne!(
                read.last_pid, served.last_pid,
                "it was the client who attached last"
            );
        }
    }
}

#[test]
fn a_client_that_comes_first_waits() {
    for (server, client) in pairs() {
        let desk = Desk::new();
        let mut reading = desk.client(client);
        reading.sleeps();
        desk.serve(server, b"late, but whole\n").succeeds();
        assert_eq!(
            reading.succeeds(),
            b"late, but whole\n",
            "{server:?} to {client:?}"
        );
    }
}

#[test]
fn a_client_attaches_read_only_and_waits_for_the_mark() {
    for client in Language::all() {
        let desk = Desk::new();
        let segment = Segment::create(desk.key(), 4096, Mode::default()).expect("a new key");
        let region = Region::attach(segment.id()).expect("attached");
        let mut reading = desk.client(client);
        let theirs = until("the client attaches", || {
            let attached = procfs::attached(segment.id()).expect("/proc is mounted");
            attached
                .mappings
                .into_iter()
                .find(|mapping| mapping.pid == reading.pid())
        });
        assert!(theirs.read_only, "{client:?}");
        region.copy_in(4, b"\x05\0\0\0hello").expect("it fits");
        reading.sleeps();
        region.copy_in(0, &[1]).expect("it fits");
        assert_eq!(reading.succeeds(), b"hello", "{client:?}");
    }
}

#[test]
fn a_server_does_not_write_over_a_segment_that_exists() {
    for server in Language::all() {
        let desk = Desk::new();
        desk.serve(server, b"first").succeeds();
        desk.serve(server, b"second").fails("exists");
        assert_eq!(desk.client(server).succeeds(), b"first");
        Segment::open(desk.key())
            .and_then(|s| s.remove())
            .expect("removed");
        desk.serve(server, b"third").succeeds();
        assert_eq!(desk.client(server).succeeds(), b"third");
    }
}

#[test]
fn a_length_that_lies_is_an_error() {
    for client in Language::all() {
        for length in [4089, u32::MAX] {
            let desk = Desk::new();
            let segment = Segment::create(desk.key(), 4096, Mode::default()).expect("a new key");
            let region = Region::attach(segment.id()).expect("attached");
            region.copy_in(0, &[1]).expect("it fits");
            region.copy_in(4, &length.to_ne_bytes()).expect("it fits");
            desk.client(client).fails("");
        }
    }
}

#[test]
fn the_command_reads_what_a_server_wrote() {
    for server in Language::all() {
        let desk = Desk::new();
        desk.serve(server, b"for the operator").succeeds();
        let dump = ["dump", "--ftok", &desk.ftok(), "--format", "raw"];
        let whole = desk.run(Command::new(tombolo()).args(dump)).succeeds();
        assert_eq!(whole, b"\x01\0\0\0\x10\0\0\0for the operator", "{server:?}");
        let text = desk.run(Command::new(tombolo()).args(dump).args(["--range", "8.."]));
        assert_eq!(text.succeeds(), b"for the operator", "{server:?}");
        let rm = ["rm", "shm", "--ftok", &desk.ftok()];
        desk.run(Command::new(tombolo()).args(rm)).succeeds();
        assert_eq!(Segment::open(desk.key()), Err(Errno::NOENT));
    }
}

#[test]
fn a_client_reads_what_the_command_wrote() {
    for client in Language::all() {
        let desk = Desk::new();
        let mut reading = desk.client(client);
        reading.sleeps();
        let mk = ["mk", "shm", "100", "--ftok", &desk.ftok()];
        desk.run(Command::new(tombolo()).args(mk)).succeeds();
        let load = |offset: &str, bytes: &[u8]| {
            let file = desk.file("bytes", bytes);
            let mut command = Command::new(tombolo());
            command
                .args(["load", "--ftok", &desk.ftok(), "--offset", offset])
                .arg(file);
            desk.run(&mut command).succeeds();
        };
        load("8", b"from the shell");
        load("4", &[14, 0, 0, 0]);
        reading.sleeps();
        load("0", &[1, 0, 0, 0]);
        assert_eq!(reading.succeeds(), b"from the shell", "{client:?}");
    }
}

#[test]
fn the_same_job_with_a_channel() {
    let desk = Desk::new();
    for text in texts() {
        let name = desk.name();
        let mut reading = desk.run(Command::new(example("value_get")).arg(&name));
        reading.sleeps();
        let input = desk.file("input", &text);
        let mut put = Command::new(example("value_put"));
        desk.run(put.arg(&name).arg(input)).succeeds();
        assert_eq!(reading.succeeds(), text);
        let get = desk.run(Command::new(tombolo()).arg("get").arg(&name));
        assert_eq!(get.succeeds(), text, "the command reads it too");
        tombolo::value::remove(name.parse::<tombolo::Name>().expect("a name")).expect("removed");
    }
}
