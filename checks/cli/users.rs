//! Refusals to another user, who is told whose it is.

use std::process::Command;

use checks::bin_under_test;

use crate::Test;
use crate::world::{Ran, World, ended};

pub const TESTS: &[Test] = &[
    ("refusals_say_whose_it_is", refusals),
    ("anybody_may_look_at_the_facts", anybody_may_look),
    ("an_ordinary_user_works_on_its_own", an_ordinary_user),
    ("limits_are_for_root", limits_are_for_root),
    ("a_channel_of_others_is_no_orphan", channel_of_others),
];

/// Runs the command as nobody. None where this process may not become anybody else.
fn as_nobody(world: &World, arguments: &str) -> Option<Ran> {
    let setpriv = |program: &std::ffi::OsStr| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(program);
        command
    };
    if !setpriv("true".as_ref())
        .output()
        .is_ok_and(|output| output.status.success())
    {
        eprintln!("skipped: cannot become another user here");
        return None;
    }
    let mut command = setpriv(bin_under_test::tombolo().as_os_str());
    let mut child = world.start(command.args(arguments.split_whitespace()));
    drop(child.stdin.take());
    Some(ended(child))
}

fn refusals(world: &World) {
    world.mk("shm 4096 --mode 600");
    world.mk("msg --mode 600");
    world.mk("sem 1 --mode 600");
    for (arguments, words) in [
        ("dump 0", ["permission denied", "root"]),
        ("load 0", ["permission denied", "mode 600"]),
        (
            "msgsnd 0 x",
            ["permission denied", "tombolo set msg 0 --mode"],
        ),
        (
            "msgrcv 0",
            ["permission denied", "tombolo set msg 0 --mode"],
        ),
        (
            "semop 0 0:+1",
            ["permission denied", "tombolo set sem 0 --mode"],
        ),
        ("rm shm 0", ["only its owner", "root"]),
        ("rm msg 0", ["only its owner", "root"]),
        ("rm sem 0 --force", ["only its owner", "root"]),
        ("set shm 0 --mode 666", ["only its owner", "root"]),
    ] {
        let Some(ran) = as_nobody(world, arguments) else {
            return;
        };
        ran.fails(4, &words);
    }
    assert_eq!(
        world.run("ls --json").json().len(),
        3,
        "all are still there"
    );
}

fn anybody_may_look(world: &World) {
    world.mk("shm 4096 --mode 000");
    world.mk("msg --mode 000");
    world.mk("sem 1 --mode 000");
    let Some(listed) = as_nobody(world, "ls --json") else {
        return;
    };
    assert_eq!(listed.json().len(), 3);
    for kind in ["shm", "msg"] {
        let shown = as_nobody(world, &format!("show {kind} 0 --json"))
            .expect("as before")
            .json();
        assert_eq!(shown[0]["mode"], 0);
    }
    let attach = world.attach(0, "rw");
    let shown = as_nobody(world, "show shm 0 --json")
        .expect("as before")
        .json();
    assert_eq!(
        (&shown[0]["nattch"], &shown[0]["attached_hidden"]),
        (&1.into(), &1.into())
    );
    let text = as_nobody(world, "show shm 0").expect("as before").text();
    assert!(text.contains("1 more cannot be seen"), "{text}");
    drop(attach);
    let set = as_nobody(world, "show sem 0 --json")
        .expect("as before")
        .json();
    assert!(
        set[0]["semaphores"].is_null(),
        "values need read permission: {set:?}"
    );
    let orphans = as_nobody(world, "ls sem --orphans --json")
        .expect("as before")
        .json();
    assert!(orphans.is_empty(), "what cannot be told is no orphan");
}

fn an_ordinary_user(world: &World) {
    let Some(made) = as_nobody(world, "mk shm 4096 --mode 000") else {
        return;
    };
    let id = made.text();
    let run = |arguments: &str| as_nobody(world, arguments).expect("as before");
    // Its owner may change what it may not read.
    run(&format!("set shm {id} --mode 600")).text();
    run(&format!("dump {id}")).text();
    run("mk sem 2 --values 1,1").text();
    run("semop 0 0:-1 -- true").text();
    run("mk msg --key 7").text();
    run("msgsnd 0x7 hello").text();
    assert_eq!(run("msgrcv 0x7").out, b"hello");
    assert_eq!(world.run("ls --user nobody --json").json().len(), 3);
    assert_eq!(world.run("ls --mine --json").json().len(), 0);
    // Mine are mine: root's stay.
    let of_root = world.mk("shm 4096");
    run("rm --mine").text();
    let left = world.run("ls --json").json();
    assert_eq!((left.len(), &left[0]["id"]), (1, &of_root.into()));
}

fn limits_are_for_root(world: &World) {
    let Some(ran) = as_nobody(world, "limits --set shmmni=7") else {
        return;
    };
    ran.fails(4, &["shmmni", "only root"]);
    as_nobody(world, "mk msg").expect("as before").text();
    world.run("limits --set msgmnb=100").text();
    as_nobody(world, "set msg 0 --mode 640")
        .expect("as before")
        .fails(4, &["msgmnb", "--qbytes"]);
    as_nobody(world, "set msg 0 --mode 640 --qbytes 100")
        .expect("as before")
        .text();
    as_nobody(world, "rm msg 0").expect("as before").text();
    as_nobody(world, "mk msg --qbytes 1M")
        .expect("as before")
        .fails(4, &["msgmnb", "tombolo limits"]);
    assert_eq!(
        world.run("ls msg --json").json().len(),
        0,
        "what could not be filled is not left"
    );
}

/// A channel outlives its writer on purpose; whose directory we may not read may have made one.
fn channel_of_others(world: &World) {
    let put = world.run_with("put greeting", b"hello");
    assert_eq!((put.code, put.err.as_str()), (0, ""));
    let orphan = world.mk("shm 4096");
    let found = |ran: Ran| -> Vec<i64> {
        let listed = ran.json();
        listed
            .iter()
            .map(|object| object["id"].as_i64().expect("a number"))
            .collect()
    };
    assert_eq!(
        found(world.run("ls shm --orphans --json")),
        [i64::from(orphan)]
    );
    let Some(listed) = as_nobody(world, "ls shm --orphans --json") else {
        return;
    };
    assert_eq!(found(listed), [i64::from(orphan)]);
    world.run("rm --orphans").text();
    assert_eq!(world.run("get greeting").out, b"hello");
}
