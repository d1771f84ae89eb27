//! `tombolo run`: what it refuses, whom it keeps out, and what it does not find.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::Test;
use crate::stage::{Stage, compile};
use crate::users::setpriv;
use crate::world::World;

pub const TESTS: &[Test] = &[
    ("what_cannot_be_served_is_refused", refused),
    ("wrong_arguments_say_what_is_right", wrong_arguments),
    ("the_library_is_found_or_missed", library),
    ("nobody_can_squat_on_a_place", squatting),
    ("others_come_in_if_the_mode_lets_them", others),
    ("what_is_unfinished_is_taken_away", unfinished),
];

fn refused(world: &World) {
    let Some(stage) = Stage::new(world, "refused") else {
        return;
    };
    match compile("caller-static", &["-static"]) {
        Some(program) => {
            let mut command = stage.command("run --");
            command.arg(&program).args(["new", "1"]);
            stage
                .ends(command)
                .fails(126, &["statically linked", "shared C library"]);
            let script = format!("#!{} new\n", program.display());
            write_program(&stage, "script", script.as_bytes());
            stage
                .run("run -- DIR/script 1")
                .fails(126, &["script", "statically linked"]);
        }
        None => eprintln!("skipped in part: there is no static C library"),
    }
    let mut old = b"\x7fELF\x01\x01\x01".to_vec();
    old.resize(52, 0);
    write_program(&stage, "old", &old);
    stage
        .run("run -- DIR/old")
        .fails(126, &["32-bit", "64-bit build"]);
    write_program(&stage, "shell", b"#!/bin/sh\nexit 6\n");
    assert_eq!(stage.run("run -- DIR/shell").code, 6);
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 || crate::world::other_user().is_none() {
        return;
    }
    let copy = stage.path("set-uid");
    checks::bin_under_test::copy(stage.caller, &copy);
    std::os::unix::fs::chown(&copy, Some(12345), Some(12345)).expect("root may");
    let set = |mode| fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).expect("set");
    set(0o4755);
    stage
        .run("run -- DIR/set-uid new 1")
        .fails(126, &["set-uid", "12345", "copy"]);
    set(0o2755);
    stage
        .run("run -- DIR/set-uid new 1")
        .fails(126, &["set-gid"]);
    set(0o755);
    stage.run("run -- DIR/set-uid new 1").text();
}

fn write_program(stage: &Stage, name: &str, bytes: &[u8]) {
    let text = stage.path(&format!("{name}.text"));
    fs::write(&text, bytes).expect("written");
    checks::bin_under_test::copy(&text, &stage.path(name));
    fs::set_permissions(stage.path(name), fs::Permissions::from_mode(0o755)).expect("set");
}

fn wrong_arguments(world: &World) {
    let Some(stage) = Stage::new(world, "wrong") else {
        return;
    };
    for (arguments, words) in [
        ("run", ["PROGRAM", ""]),
        (
            "run --namespace .x -- true",
            ["no name of a name space", "letters"],
        ),
        ("run --namespace a/b/c -- true", ["no such user", "a"]),
        (
            "run --namespace root/../x -- true",
            ["no name of a name space", ""],
        ),
        ("run --limits narrow -- true", ["narrow", "kernel, wide"]),
        ("run --limits msgmax -- true", ["msgmax", "NAME=VALUE"]),
        ("run --limits color=1 -- true", ["color", "choose from"]),
        ("run --mode 640 -- true", ["640", "660"]),
        ("ls channels --namespace x", ["no channels", ""]),
        ("ls namespaces --orphans", ["--orphans", "name spaces"]),
        ("rm namespace", ["which name space", "ls namespaces"]),
        ("rm namespace x --mine", ["--mine", "name spaces"]),
    ] {
        stage.run(arguments).fails(2, &words);
    }
    stage
        .run("run --namespace @1 -- true")
        .fails(3, &["no name space @1"]);
    stage
        .run("run --namespace nobody/x -- true")
        .fails(3, &["no name space", "--user"]);
    stage
        .run("ls --namespace x")
        .fails(3, &["no name space x", "ls namespaces"]);
    stage
        .run("run --trace=DIR/no/such -- true")
        .fails(1, &["no/such"]);
    let mut elsewhere = stage.command("run -- true");
    elsewhere.env("TOMBOLO_SPACES", stage.path("nowhere"));
    stage
        .ends(elsewhere)
        .fails(1, &["nowhere", "TOMBOLO_SPACES"]);
    let mut inside = stage.command("ls shm");
    inside.env("TOMBOLO_SPACE", stage.path("gone"));
    stage
        .ends(inside)
        .fails(3, &["gone", "no more", "env -u TOMBOLO_SPACE"]);
    assert_eq!(stage.spaces(), [""; 0]);
}

fn library(world: &World) {
    let Some(stage) = Stage::new(world, "library") else {
        return;
    };
    let named = |path: &str| {
        let mut command = stage.command("run -- CALLER new 7");
        command.env("TOMBOLO_PRELOAD", stage.path(path));
        stage.ends(command)
    };
    named("nothing").fails(1, &["TOMBOLO_PRELOAD", "nothing"]);
    let library = checks::bin_under_test::library();
    fs::create_dir(stage.path("a b")).expect("made");
    fs::copy(library, stage.path("a b/lib.so")).expect("copied");
    named("a b/lib.so").fails(1, &["space or colon"]);
    fs::copy(library, stage.path("lib.so")).expect("copied");
    assert_eq!(named("lib.so").text(), "0\n");
    // The command alone, and with its library where a package puts it.
    fs::create_dir(stage.path("bin")).expect("made");
    let tombolo = checks::bin_under_test::tombolo();
    checks::bin_under_test::copy(tombolo, &stage.path("bin/tombolo"));
    let alone = || {
        let mut command = std::process::Command::new(stage.path("bin/tombolo"));
        command
            .args(["run", "--"])
            .arg(stage.caller)
            .args(["new", "7"]);
        command
            .env("TOMBOLO_SPACES", stage.path(""))
            .env_remove("TOMBOLO_PRELOAD");
        stage.ends(command)
    };
    alone().fails(
        1,
        &[
            "libtombolo_preload.so",
            "cargo build --release -p tombolo-preload-so",
        ],
    );
    fs::create_dir_all(stage.path("lib/tombolo")).expect("made");
    fs::copy(library, stage.path("lib/tombolo/libtombolo_preload.so")).expect("copied");
    assert_eq!(alone().text(), "0\n");
    // Other preloads stay, and the library is there once.
    let mut nested = stage.shell("", "exec tombolo run -- sh -c 'echo $LD_PRELOAD'");
    let bin = checks::bin_under_test::tombolo()
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    nested
        .env("PATH", format!("{}:{path}", bin.display()))
        .env("LD_PRELOAD", "libm.so.6");
    let library = library.canonicalize().expect("it is there");
    assert_eq!(
        stage.ends(nested).text(),
        format!("{}:libm.so.6\n", library.display())
    );
}

fn squatting(world: &World) {
    let Some(stage) = Stage::new(world, "squatting") else {
        return;
    };
    let refused = |words: &[&str]| stage.run("run -- true").fails(4, words);
    symlink(stage.path(""), stage.home()).expect("linked");
    refused(&["no folder", "TOMBOLO_SPACES"]);
    fs::remove_file(stage.home()).expect("ours");
    fs::create_dir(stage.home()).expect("made");
    fs::set_permissions(stage.home(), fs::Permissions::from_mode(0o777)).expect("set");
    refused(&["may be changed by others"]);
    fs::set_permissions(stage.home(), fs::Permissions::from_mode(0o711)).expect("set");
    symlink(stage.path(""), stage.home().join("n")).expect("linked");
    stage
        .run("run --namespace n -- true")
        .fails(4, &["no folder"]);
    stage.run("ls --namespace n").fails(4, &["no folder"]);
    fs::set_permissions(stage.path(""), fs::Permissions::from_mode(0o777)).expect("set");
    stage.run("run -- true").fails(1, &["1777"]);
    fs::set_permissions(stage.path(""), fs::Permissions::from_mode(0o1777)).expect("set");
    stage.run("run -- true").text();
    if crate::world::other_user().is_some() {
        std::os::unix::fs::chown(stage.home(), Some(12345), None).expect("root may");
        refused(&["12345", "first"]);
    }
}

fn others(world: &World) {
    let Some(stage) = Stage::new(world, "others") else {
        return;
    };
    let as_nobody = |arguments: &str| {
        let mut command = setpriv()?;
        let ours = stage.command(arguments);
        command
            .args(ours.get_args())
            .env("TOMBOLO_SPACES", stage.path(""));
        Some(stage.ends(command))
    };
    stage.run("run --namespace closed -- CALLER new 1").text();
    stage
        .run("run --namespace open --mode 666 -- CALLER new 1")
        .text();
    let Some(ran) = as_nobody("run -- CALLER new 1") else {
        return;
    };
    assert_eq!(ran.text(), "0\n", "it has name spaces of its own");
    let run = |arguments: &str| as_nobody(arguments).expect("as before");
    run("run --namespace root/closed -- CALLER new 2").fails(4, &["permission denied", "--mode"]);
    run("ls --namespace root/closed").fails(4, &["permission denied"]);
    run("run --namespace root/none -- true").fails(3, &["no name space root/none"]);
    // The modes of objects hold: what root made is root's.
    let ran = run("run --namespace root/open -- CALLER new 1");
    assert_eq!(
        (ran.code, ran.out.as_slice()),
        (1, b"semget: File exists\n".as_slice())
    );
    assert_eq!(
        run("run --namespace root/open -- CALLER new 2").text(),
        "1\n"
    );
    run("semop 0 0:+1 --namespace root/open").fails(4, &["permission denied"]);
    let users = stage
        .run("ls sem --raw --output id,user --namespace open")
        .text();
    assert_eq!(users, "0\troot\n1\tnobody\n");
    run("rm namespace root/open").fails(4, &["owner"]);
    run("limits --set semmni=1 --namespace root/open").fails(4, &["owner"]);
    run("ls namespaces --user root").fails(4, &["owner"]);
    run("run --trace --namespace root/open -- true").fails(4, &["owner"]);
    stage.run("rm namespace open closed").text();
}

fn unfinished(world: &World) {
    let Some(stage) = Stage::new(world, "unfinished") else {
        return;
    };
    stage.run("run -- true").text();
    for name in ["@1", "half", "draft"] {
        fs::create_dir(stage.home().join(name)).expect("made");
    }
    fs::write(stage.home().join("draft/registry.1"), "").expect("written");
    // What is none of ours is left alone.
    fs::write(stage.home().join("file"), "").expect("written");
    assert_eq!(stage.run("ls namespaces").text(), "no name spaces\n");
    stage.run("run --namespace half -- CALLER new 7").text();
    assert_eq!(stage.spaces(), ["file", "half"]);
    // A registry of another version, or none at all, is an error and no crash.
    fs::write(stage.home().join("half/registry"), "nonsense").expect("written");
    stage
        .run("ls --namespace half")
        .fails(1, &["another version"]);
    let ran = stage.run("run --namespace half -- CALLER new 7");
    assert!(ran.code != 0 && ran.err.contains("name space"), "{ran:?}");
    stage.run("ls namespaces").text();
    stage.run("rm namespace half").text();
}
