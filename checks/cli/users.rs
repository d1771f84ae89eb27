//! Refusals to another user, who is told whose it is.

use std::io::Read;
use std::process::Command;

use checks::bin_under_test;

use crate::Test;
use crate::values::{get, put};
use crate::world::{Ran, World, ended, feed};

pub const TESTS: &[Test] = &[
    ("refusals_say_whose_it_is", refusals),
    ("anybody_may_look_at_the_facts", anybody_may_look),
    ("an_ordinary_user_works_on_its_own", an_ordinary_user),
    ("limits_are_for_root", limits_are_for_root),
    ("a_channel_of_others_is_no_orphan", channel_of_others),
    ("the_mode_lets_others_get_and_put", values_of_others),
    ("the_names_of_others_are_theirs", names_of_others),
];

/// The command as nobody. None where this process may not become anybody else.
pub fn setpriv() -> Option<Command> {
    let setpriv = |program: &std::ffi::OsStr| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(program)
            .env("TZ", "UTC");
        command
    };
    let possible = setpriv("true".as_ref()).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: cannot become another user here");
        return None;
    }
    Some(setpriv(bin_under_test::tombolo().as_os_str()))
}

/// Runs the command as nobody. None where this process may not become anybody else.
fn as_nobody(world: &World, arguments: &str) -> Option<Ran> {
    as_nobody_with(world, arguments, b"")
}

/// Runs the command as nobody, with these bytes on standard input.
fn as_nobody_with(world: &World, arguments: &str, input: &[u8]) -> Option<Ran> {
    let mut child = world.start(setpriv()?.args(arguments.split_whitespace()));
    feed(&mut child, input);
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

fn values_of_others(world: &World) {
    put(world, "greeting", b"hello");
    let Some(refused) = as_nobody(world, "get root/greeting") else {
        return;
    };
    let run = |arguments: &str, input| as_nobody_with(world, arguments, input).expect("as before");
    refused.fails(4, &["root/greeting", "600", "tombolo set shm"]);
    run("put root/greeting", b"x").fails(4, &["root/greeting", "600"]);
    put(world, "greeting --mode 644", b"hello");
    assert_eq!(run("get root/greeting", b"").text(), "hello");
    run("put root/greeting", b"x").fails(4, &["root/greeting", "644"]);
    put(world, "greeting --mode 666", b"hello");
    assert_eq!(run("put root/greeting", b"from nobody").text(), "");
    assert_eq!(get(world, "greeting"), b"from nobody");
    run("put root/greeting --mode 600", b"x").fails(4, &["only its owner", "600"]);
    let large = vec![b'x'; 1 << 20];
    run("put root/greeting", &large).fails(4, &["root/greeting", "65536 bytes", "1048576"]);
    run("rm root/greeting", b"").fails(4, &["root/greeting", "only its owner"]);
    // With read permission only there is no bell to wait by, and it waits all the same.
    put(world, "greeting --mode 644", b"hello");
    let mut watching = setpriv().expect("as before");
    let watching = watching.args("get root/greeting --watch --count 2 --lines".split(' '));
    let mut watching = world.start(watching);
    let mut first = [0; 6];
    let pipe = watching.stdout.as_mut().expect("a pipe");
    pipe.read_exact(&mut first).expect("a line");
    put(world, "greeting", b"again");
    assert_eq!(
        (&first, ended(watching).text().as_str()),
        (b"hello\n", "again\n")
    );
}

fn names_of_others(world: &World) {
    put(world, "greeting", b"of root");
    let Some(put_too) = as_nobody_with(world, "put greeting --mode 644", b"of nobody") else {
        return;
    };
    put_too.text();
    assert_eq!(get(world, "greeting"), b"of root");
    assert_eq!(get(world, "nobody/greeting"), b"of nobody");
    assert_eq!(get(world, "65534/greeting"), b"of nobody");
    assert_eq!(
        as_nobody(world, "get greeting").expect("as before").text(),
        "of nobody"
    );
    as_nobody(world, "put root/mine")
        .expect("as before")
        .fails(4, &["root/mine", "name of your own"]);
    world.run("put nobody/other").fails(4, &["nobody/other"]);
    let mut names: Vec<String> = world
        .run("ls shm --json")
        .json()
        .iter()
        .map(|object| object["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["greeting", "nobody/greeting"]);
}
