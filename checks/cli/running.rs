//! `tombolo run`: name spaces, and what the program and its caller notice of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;

use crate::Test;
use crate::stage::{Stage, kill, runs};
use crate::world::{World, ended, until};

pub const TESTS: &[Test] = &[
    ("a_program_has_objects_of_its_own", own_objects),
    ("a_fresh_name_space_goes_with_its_program", fresh_goes),
    ("a_named_one_stays_and_is_shared", named_stays),
    ("the_exit_code_is_the_programs", exit_codes),
    ("a_signal_ends_both", signals_end),
    ("signals_are_passed_on", signals_pass),
    ("what_was_ignored_stays_ignored", ignored),
    ("a_killed_runner_leaves_its_program_alone", killed_runner),
    ("daemons_outlive_the_run", daemons),
    ("a_process_in_exec_counts", in_exec),
    ("two_at_once", two_at_once),
    ("limits_are_wide_unless_asked_for", limits),
];

fn own_objects(world: &World) {
    let Some(stage) = Stage::new(world, "own") else {
        return;
    };
    world.mk("sem 1 --key 4711");
    assert_eq!(stage.run("run -- CALLER new 4711").text(), "0\n");
    let inside = "tombolo mk sem 2; $CALLER new 4711; tombolo ls sem --raw --output id,nsems";
    let mut command = stage.shell("", inside);
    let bin = checks::bin_under_test::tombolo()
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display()));
    assert_eq!(stage.ends(command).text(), "0\n1\n0\t2\n1\t1\n");
    assert_eq!(
        world.run("ls --json").json().len(),
        1,
        "the kernel has what it had"
    );
}

fn fresh_goes(world: &World) {
    let Some(stage) = Stage::new(world, "fresh") else {
        return;
    };
    let script = "$CALLER rounds 100 && ls $DIR/tombolo-* && echo $TOMBOLO_SPACE";
    let ran = stage.ends(stage.shell("", script)).text();
    let lines: Vec<&str> = ran.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "done"), "{ran}");
    assert!(
        lines[1].starts_with('@') && lines[2].ends_with(lines[1]),
        "{ran}"
    );
    assert_eq!(stage.spaces(), [""; 0]);
}

fn named_stays(world: &World) {
    let Some(stage) = Stage::new(world, "named") else {
        return;
    };
    stage
        .run("show sem 0 --namespace build")
        .fails(3, &["no name space build", "ls namespaces"]);
    assert_eq!(
        stage.run("run --namespace build -- CALLER new 7").text(),
        "0\n"
    );
    stage
        .run("run --namespace build -- CALLER send 8 100")
        .text();
    // Looking moves nothing.
    let look = || {
        stage
            .run("show msg 0 --namespace build --json")
            .json()
            .remove(0)
    };
    let first = look();
    assert_eq!((&first["qnum"], &first["cbytes"]), (&1.into(), &100.into()));
    stage.run("ls --namespace build -tpc").text();
    assert_eq!(look(), first);
    assert_eq!(
        stage
            .run("msgrcv 0 --namespace build")
            .text()
            .trim_end_matches('\0'),
        "hello"
    );
    stage.run("semop 0 0:+2 --namespace build").text();
    stage
        .run("semop 0 0:-3 --no-wait --namespace build")
        .fails(5, &["would have to wait"]);
    assert_eq!(stage.run("mk shm 8K --namespace build").text(), "0\n");
    let mut load = stage.command("load 0 --namespace build");
    load.arg("--offset").arg("16");
    let mut child = stage.start(load);
    crate::world::feed(&mut child, b"written");
    ended(child).text();
    let strings = stage
        .run("dump 0 --namespace build --format strings")
        .text();
    assert_eq!(strings, "00000010  written\n");
    stage.run("set shm 0 --mode 640 --namespace build").text();
    stage
        .run("show greeting --namespace build")
        .fails(2, &["has no channels"]);
    stage
        .run("rm shm 5 --namespace build")
        .fails(3, &["ls shm --namespace build"]);
    stage.run("rm shm 0 --namespace build").text();
    let spaces = stage.run("ls namespaces --json").json();
    assert_eq!(spaces.len(), 1);
    let build = &spaces[0];
    for (name, value) in [
        ("processes", 0),
        ("segments", 0),
        ("queues", 1),
        ("sets", 1),
    ] {
        assert_eq!(build[name], value, "{build}");
    }
    assert_eq!(
        (&build["name"], &build["state"]),
        (&"build".into(), &"kept".into())
    );
    stage.run("rm namespace build").text();
    stage
        .run("rm namespace build")
        .fails(3, &["no name space build"]);
    assert_eq!(stage.run("ls namespaces").text(), "no name spaces\n");
}

fn exit_codes(world: &World) {
    let Some(stage) = Stage::new(world, "codes") else {
        return;
    };
    for options in ["", "--namespace n"] {
        for code in [0, 1, 77, 255] {
            let ran = stage.ends(stage.shell(options, &format!("exit {code}")));
            assert_eq!((ran.code, ran.err.as_str()), (code, ""));
        }
        let run = |rest: &str| stage.run(&format!("run {options} {rest}"));
        run("-- DIR/nothing").fails(127, &["nothing", "not found"]);
        run("-- no-such-program").fails(127, &["no-such-program", "PATH"]);
        run("-- DIR").fails(126, &["folder"]);
        fs::write(stage.path("text"), "hello").expect("written");
        run("-- DIR/text").fails(126, &["not executable"]);
    }
    // Arguments that look like options are the program's; so is what it writes and reads.
    assert_eq!(stage.run("run echo --trace -- x").text(), "--trace -- x\n");
    assert_eq!(stage.run("run -- echo --limits").text(), "--limits\n");
}

fn signals_end(world: &World) {
    let Some(stage) = Stage::new(world, "ends") else {
        return;
    };
    for options in ["", "--namespace n", "--summary"] {
        for (name, number) in [
            ("TERM", 15),
            ("KILL", 9),
            ("SEGV", 11),
            ("INT", 2),
            ("ABRT", 6),
        ] {
            let ran = stage.ends(stage.shell(options, &format!("ulimit -c 0; kill -{name} $$")));
            assert_eq!(ran.code, 128 + number, "{name}: {}", ran.err);
        }
    }
    stage.run("rm namespace n").text();
    assert_eq!(stage.spaces(), [""; 0]);
}

fn signals_pass(world: &World) {
    let Some(stage) = Stage::new(world, "pass") else {
        return;
    };
    for (name, number) in [
        ("TERM", 15),
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("USR1", 10),
    ] {
        let script =
            format!("trap 'echo caught; exit 3' {name}; echo ready; while :; do sleep 0.01; done");
        let mut child = stage.start(stage.shell("", &script));
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("it is ready");
        kill(child.id().cast_signed(), number);
        line.clear();
        out.read_line(&mut line).expect("it says so");
        assert_eq!(
            (line.as_str(), ended(child).code),
            ("caught\n", 3),
            "{name}"
        );
    }
    assert_eq!(stage.spaces(), [""; 0]);
}

fn ignored(world: &World) {
    let Some(stage) = Stage::new(world, "ignored") else {
        return;
    };
    // As nohup has it.
    let script = "trap '' HUP; exec \"$@\"";
    let mut command = std::process::Command::new("sh");
    let inner = stage.command("run -- CALLER stay DIR/stays");
    command
        .args(["-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command
        .env("TOMBOLO_SPACES", stage.path(""))
        .process_group(0);
    let child = stage.start(command);
    let program = stage.marked("stays");
    kill(child.id().cast_signed(), 1);
    kill(program, 1);
    // It would be gone: signals are taken in order of their numbers, and this one is answered.
    let ignored = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        u64::from_str_radix(mask.expect("a mask").trim(), 16).expect("hexadecimal") & 1 == 1
    };
    assert!(
        ignored(program),
        "the program ignores what its caller ignored"
    );
    kill(program, 15);
    assert_eq!(ended(child).code, 128 + 15);
}

fn killed_runner(world: &World) {
    let Some(stage) = Stage::new(world, "runner") else {
        return;
    };
    let mut runner = stage.start(stage.command("run -- CALLER hold 9 DIR/holds"));
    let program = stage.marked("holds");
    let [name] = &stage.spaces()[..] else {
        panic!("one name space");
    };
    kill(runner.id().cast_signed(), 9);
    runner.wait().expect("it ends");
    // Another run leaves it alone, because its program lives.
    stage.run("run -- true").text();
    assert_eq!(stage.spaces(), std::slice::from_ref(name));
    let shown = stage
        .run(&format!("show shm 0 --namespace {name} --json"))
        .json();
    assert_eq!(
        (&shown[0]["nattch"], &shown[0]["attached"][0]["pid"]),
        (&1.into(), &program.into())
    );
    assert_eq!(shown[0]["attached"][0]["access"], "rw");
    stage
        .run(&format!("rm namespace {name}"))
        .fails(6, &["in use", &program.to_string(), "--force"]);
    kill(program, 9);
    until("the program is gone", || !runs(program));
    let left = stage.run("ls namespaces --raw").text();
    assert!(left.starts_with(&format!("{name}\tleft\t")), "{left}");
    stage.run("run -- true").text();
    assert_eq!(stage.spaces(), [""; 0]);
}

fn daemons(world: &World) {
    let Some(stage) = Stage::new(world, "daemons") else {
        return;
    };
    let script = "$CALLER hold 9 $DIR/daemon </dev/null >/dev/null 2>&1 & \
                  while [ ! -e $DIR/daemon ]; do sleep 0.01; done; exit 4";
    assert_eq!(stage.ends(stage.shell("", script)).code, 4);
    let daemon = stage.marked("daemon");
    let [name] = &stage.spaces()[..] else {
        panic!("one name space");
    };
    let spaces = stage.run("ls namespaces --json").json();
    assert_eq!(
        (&spaces[0]["state"], &spaces[0]["processes"]),
        (&"in use".into(), &1.into())
    );
    // Its name can be used as long as it is there.
    assert_eq!(
        stage
            .run(&format!("run --namespace {name} -- CALLER new 10"))
            .text(),
        "1\n"
    );
    assert_eq!(stage.spaces(), std::slice::from_ref(name));
    kill(daemon, 15);
    until("the daemon is gone", || !runs(daemon));
    stage.run("run -- true").text();
    assert_eq!(stage.spaces(), [""; 0]);
}

fn in_exec(world: &World) {
    let Some(stage) = Stage::new(world, "exec") else {
        return;
    };
    // The shell ends while its child is between two images.
    for round in 0..20 {
        let file = format!("exec-{round}");
        let script = format!("$CALLER hold 9 $DIR/{file} </dev/null >$DIR/{file}.out 2>&1 &");
        stage.ends(stage.shell("", &script)).text();
        let out = stage.path(&format!("{file}.out"));
        let said = || fs::read_to_string(&out).unwrap_or_default();
        until("it has its name space", || {
            assert_eq!(said(), "", "round {round}");
            stage.path(&file).exists()
        });
        let daemon = stage.marked(&file);
        kill(daemon, 9);
        until("the daemon is gone", || !runs(daemon));
    }
    stage.run("run -- true").text();
    assert_eq!(stage.spaces(), [""; 0]);
}

fn two_at_once(world: &World) {
    let Some(stage) = Stage::new(world, "two") else {
        return;
    };
    let start = || stage.start(stage.command("run --namespace n -- CALLER receive 5"));
    let (one, other) = (start(), start());
    // Neither has to be there first: a queue keeps its messages.
    stage.run("run --namespace n -- CALLER send 5 10").text();
    stage.run("run --namespace n -- CALLER send 5 10").text();
    for child in [one, other] {
        assert_eq!(ended(child).text(), "10 hello\n");
    }
    // Many that make it at the same time agree on one.
    let all: Vec<_> = (0..8)
        .map(|number| {
            stage.start(stage.command(&format!("run --namespace m -- CALLER new {number}1")))
        })
        .collect();
    let mut ids: Vec<String> = all.into_iter().map(|child| ended(child).text()).collect();
    ids.sort();
    assert_eq!(ids.concat(), "0\n1\n2\n3\n4\n5\n6\n7\n");
    stage.run("rm namespace n m").text();
    let fresh: Vec<_> = (0..4)
        .map(|_| stage.start(stage.command("run -- CALLER new 7")))
        .collect();
    for child in fresh {
        assert_eq!(ended(child).text(), "0\n");
    }
    assert_eq!(stage.spaces(), [""; 0]);
}

fn limits(world: &World) {
    let Some(stage) = Stage::new(world, "limits") else {
        return;
    };
    stage.run("run -- CALLER send 5 1000000").text();
    let ran = stage.run("run --limits kernel -- CALLER send 5 1000000");
    assert_eq!(
        (ran.code, ran.out.as_slice()),
        (1, b"msgsnd: Invalid argument\n".as_slice())
    );
    stage
        .run("run --limits kernel -- CALLER send 5 8192")
        .text();
    let ran = stage.run("run --limits wide,msgmax=100,msgmnb=1K -- CALLER send 5 101");
    assert_eq!(ran.code, 1);
    stage
        .run("run --namespace n --limits msgmax=100 -- CALLER send 5 100")
        .text();
    stage
        .run("run --namespace n --limits kernel -- true")
        .fails(
            7,
            &["there already", "--limits", "tombolo limits --namespace n"],
        );
    let value = |name: &str| {
        let all = stage.run("limits --json --namespace n").json();
        let found = all.into_iter().find(|limit| limit["name"] == name);
        found.expect("a limit")["value"].clone()
    };
    assert_eq!(
        (value("msgmax"), value("msgmni")),
        (100.into(), 32000.into())
    );
    stage
        .run("limits --set msgmax=1M --set semmni=5 --namespace n")
        .text();
    assert_eq!(
        (value("msgmax"), value("semmni")),
        ((1 << 20).into(), 5.into())
    );
    stage.run("run --namespace n -- CALLER send 6 101").text();
}
