//! `tombolo run --trace` and `--summary`.

use std::fs;

use regex::Regex;

use crate::Test;
use crate::stage::{Stage, kill};
use crate::world::{World, ended, until};

pub const TESTS: &[Test] = &[
    ("lines_are_as_strace_has_them", lines),
    ("a_file_has_them_instead", file),
    ("the_summary_adds_up", summary),
    ("nothing_is_lost_of_many_calls", many),
    ("a_killed_program_leaves_whole_lines", killed),
    ("who_cannot_write_says_so", unwritable),
];

/// Each line of a trace, with what differs from run to run taken out.
fn scrubbed(text: &str) -> Vec<String> {
    let line = Regex::new(r"^\d+ (.*) <\d+\.\d{6}>$").expect("a rule");
    let address = Regex::new("0x[0-9a-f]{8,}").expect("a rule");
    text.lines()
        .map(|found| {
            let parts = line
                .captures(found)
                .unwrap_or_else(|| panic!("a line: {found}"));
            address.replace_all(&parts[1], "ADDRESS").into_owned()
        })
        .collect()
}

fn lines(world: &World) {
    let Some(stage) = Stage::new(world, "lines") else {
        return;
    };
    let script = "$CALLER send 7 100; $CALLER receive 7; $CALLER send 7 2000000; $CALLER new 7; \
                  $CALLER new 7; exit 3";
    let ran = stage.ends(stage.shell("--trace --limits kernel,msgmax=1M", script));
    assert_eq!(ran.code, 3);
    assert_eq!(
        scrubbed(&ran.err),
        [
            "msgget(0x7, IPC_CREAT|0600) = 0",
            "msgsnd(0, {type=1, 100 bytes}, 100, IPC_NOWAIT) = 0",
            "msgget(0x7, IPC_CREAT|0600) = 0",
            "msgrcv(0, {type=1, 100 bytes}, 1048576, 0, 0) = 100",
            "msgget(0x7, IPC_CREAT|0600) = 0",
            "msgsnd(0, {type=1, 2000000 bytes}, 2000000, IPC_NOWAIT) = -1 EINVAL (Invalid argument)",
            "semget(0x7, 1, IPC_CREAT|IPC_EXCL|0600) = 0",
            "semget(0x7, 1, IPC_CREAT|IPC_EXCL|0600) = -1 EEXIST (File exists)",
        ]
    );
    assert_eq!(stage.spaces(), [""; 0]);
}

fn file(world: &World) {
    let Some(stage) = Stage::new(world, "file") else {
        return;
    };
    for options in ["", "--namespace n"] {
        let ran = stage.run(&format!(
            "run {options} --trace=DIR/trace -- CALLER rounds 1"
        ));
        assert_eq!(ran.text(), "done\n");
        let lines = scrubbed(&fs::read_to_string(stage.path("trace")).expect("a trace"));
        assert_eq!(
            (lines.len(), lines[0].as_str()),
            (6, "semget(IPC_PRIVATE, 2, 0600) = 0")
        );
        assert_eq!(lines[5], "semctl(0, 0, IPC_RMID) = 0");
    }
    // The name space stays, and the trace has gone.
    let entries = fs::read_dir(stage.home().join("n")).expect("it stays");
    assert_eq!(entries.count(), 1);
    // A run within, which does not trace, is not traced either.
    let bin = checks::bin_under_test::tombolo();
    let inner = format!("{} run -- $CALLER new 7", bin.display());
    assert_eq!(stage.ends(stage.shell("--trace", &inner)).text(), "0\n");
}

fn summary(world: &World) {
    let Some(stage) = Stage::new(world, "summary") else {
        return;
    };
    let script = "$CALLER rounds 500 >/dev/null; $CALLER send 7 100; $CALLER receive 7 >/dev/null; \
                  $CALLER new 7 >/dev/null; $CALLER new 7 >/dev/null";
    let ran = stage.ends(stage.shell("--summary", script));
    assert_eq!(ran.code, 1, "that of the last command");
    let row = |name: &str| -> Vec<String> {
        let line = ran.err.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {}", ran.err));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("CALL")[..3], ["CALL", "CALLS", "SECONDS"]);
    assert_eq!(
        (row("semop")[1].as_str(), row("semop")[5].as_str()),
        ("2000", "0")
    );
    assert_eq!(
        (row("semget")[1].as_str(), row("semget")[5].as_str()),
        ("3", "1")
    );
    assert_eq!(
        (row("msgsnd")[1].as_str(), row("msgsnd")[6].as_str()),
        ("1", "100")
    );
    assert_eq!(
        (row("msgrcv")[1].as_str(), row("msgrcv")[6].as_str()),
        ("1", "100")
    );
    assert_eq!(
        (row("total")[1].as_str(), row("total")[6].as_str()),
        ("2008", "200")
    );
    // Who takes turns waits, at least for the other's birth.
    assert!(
        row("semop")[4].parse::<u32>().expect("a number") > 0,
        "{}",
        ran.err
    );
}

fn many(world: &World) {
    let Some(stage) = Stage::new(world, "many") else {
        return;
    };
    // More than the ring holds.
    let ran = stage.run("run --trace=DIR/trace --summary -- CALLER rounds 5000");
    assert_eq!(ran.text(), "done\n");
    let trace = fs::read_to_string(stage.path("trace")).expect("a trace");
    let (lines, table) = trace.split_once("\n\n").expect("lines, then the summary");
    let lines = scrubbed(lines);
    let count = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    for what in ["[{0, 1, 0}]", "[{0, -1, 0}]", "[{1, 1, 0}]", "[{1, -1, 0}]"] {
        assert_eq!(count(what), 5000, "{what}");
    }
    assert!(table.contains("20000"), "{table}");
}

fn killed(world: &World) {
    let Some(stage) = Stage::new(world, "killed") else {
        return;
    };
    for round in 0..3 {
        let busy = format!("busy-{round}");
        let arguments = format!("run --trace=DIR/trace -- CALLER busy DIR/{busy}");
        let child = stage.start(stage.command(&arguments));
        let program = stage.marked(&busy);
        kill(program, 9);
        assert_eq!(ended(child).code, 128 + 9);
        let trace = fs::read_to_string(stage.path("trace")).expect("a trace");
        let (calls, notes): (Vec<&str>, Vec<&str>) = trace
            .lines()
            .partition(|line| !line.starts_with("tombolo: "));
        assert!(scrubbed(&calls.join("\n")).len() > 2000);
        assert!(notes.len() <= 1, "{notes:?}");
    }
    // The printer is killed, and the program goes on as if nothing were.
    let mut runner = stage.start(stage.command("run --trace=DIR/trace -- CALLER busy DIR/goes-on"));
    let program = stage.marked("goes-on");
    kill(runner.id().cast_signed(), 9);
    runner.wait().expect("it ends");
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{program}/stat")).expect("it runs");
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .expect("a state")
            .1
            .split(' ')
            .collect();
        fields[11].parse::<u64>().expect("a number")
    };
    let start = ticks();
    until("it makes calls again", || ticks() > start + 20);
    kill(program, 9);
    until("the program is gone", || !crate::stage::runs(program));
    stage.run("run -- true").text();
    assert_eq!(stage.spaces(), [""; 0]);
}

fn unwritable(world: &World) {
    let Some(stage) = Stage::new(world, "unwritable") else {
        return;
    };
    // The program runs, and its end counts, although nothing can be written.
    if fs::metadata("/dev/full").is_err() {
        eprintln!("skipped: there is no /dev/full");
        return;
    }
    let ran = stage.run("run --trace=/dev/full -- CALLER rounds 2000");
    assert_eq!((ran.code, ran.out.as_slice()), (1, b"done\n".as_slice()));
    assert!(ran.err.contains("cannot write the trace"), "{}", ran.err);
    assert_eq!(stage.spaces(), [""; 0]);
}
