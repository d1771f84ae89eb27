//! `tombolo run --trace` and `--summary`.

use std::collections::HashMap;
use std::fs;
use std::process::Child;

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
    ("a_call_that_sleeps_is_shown_before_it_returns", asleep),
    ("what_outlives_the_program_is_traced_too", outlived),
    ("a_signal_ends_a_trace_that_outlives_the_program", abandoned),
];

/// Each call of a trace, with what differs from run to run taken out. One that slept counts where it
/// was resumed.
fn scrubbed(text: &str) -> Vec<String> {
    let line = Regex::new(r"^\d+ (.*) <\d+\.\d{6}>$").expect("a rule");
    let address = Regex::new("0x[0-9a-f]{8,}").expect("a rule");
    whole(text)
        .iter()
        .map(|found| {
            let parts = line
                .captures(found)
                .unwrap_or_else(|| panic!("a line: {found}"));
            address.replace_all(&parts[1], "ADDRESS").into_owned()
        })
        .collect()
}

/// The lines of a trace, with those of one call that slept put together. What does not end is left
/// out.
fn whole(text: &str) -> Vec<String> {
    let resumed = Regex::new(r"^(\d+) <\.\.\. \w+ resumed>(?: (\{.*?\}))?(.*)$").expect("a rule");
    let buffer = Regex::new("0x[0-9a-f]+").expect("a rule");
    let mut asleep = HashMap::new();
    let mut all = Vec::new();
    for line in text.lines() {
        let thread = line.split(' ').next().expect("a first word").to_owned();
        if let Some(begun) = line.strip_suffix(" <unfinished ...>") {
            asleep.insert(thread, begun.to_owned());
        } else if let Some(parts) = resumed.captures(line) {
            let begun = asleep.remove(&thread);
            let begun = begun.unwrap_or_else(|| panic!("it was shown before: {line}"));
            let begun = match parts.get(2) {
                Some(message) => buffer.replace(&begun, message.as_str()).into_owned(),
                None => begun,
            };
            all.push(format!("{begun}{}", &parts[3]));
        } else {
            all.push(line.to_owned());
        }
    }
    all
}

/// What is in a trace so far.
fn so_far(stage: &Stage) -> String {
    fs::read_to_string(stage.path("trace")).unwrap_or_default()
}

fn asleep(world: &World) {
    let Some(stage) = Stage::new(world, "asleep") else {
        return;
    };
    let run = stage.command("run --namespace n --trace=DIR/trace -- CALLER receive 7");
    let child = stage.start(run);
    until("the sleeper is shown", || {
        so_far(&stage).ends_with("<unfinished ...>\n")
    });
    let shown = so_far(&stage);
    let last = shown.lines().last().expect("a line");
    assert!(last.contains(" msgrcv(0, 0x"), "{last}");
    assert!(last.ends_with(", 1048576, 0, 0 <unfinished ...>"), "{last}");
    stage.run("run --namespace n -- CALLER send 7 6").text();
    assert_eq!(ended(child).text(), "6 hello\n");
    let trace = so_far(&stage);
    let last = trace.lines().last().expect("a line");
    assert!(
        last.contains(" <... msgrcv resumed> {type=1, 6 bytes}) = 6 <"),
        "{last}"
    );
    assert_eq!(
        scrubbed(&trace)[1],
        "msgrcv(0, {type=1, 6 bytes}, 1048576, 0, 0) = 6"
    );
    // One that never returns.
    let run = stage.command("run --namespace n --trace=DIR/trace -- CALLER receive 8");
    let mut child = stage.start(run);
    until("the sleeper is shown", || {
        so_far(&stage).ends_with("<unfinished ...>\n")
    });
    let shown = so_far(&stage);
    kill(child.id().cast_signed(), 15);
    child.wait().expect("it ends");
    assert_eq!(so_far(&stage), shown);
}

/// Starts a run whose program ends with 3 when `background` has come so far, and waits for that.
fn left(stage: &Stage, background: &str) -> Child {
    let script = format!("{background} & echo $$ >$DIR/draft; mv $DIR/draft $DIR/shell; exit 3");
    let child = stage.start(stage.shell("--namespace n --trace=DIR/trace", &script));
    until("the shell has come so far", || stage.path("shell").exists());
    let shell = fs::read_to_string(stage.path("shell")).expect("a pid");
    let shell = shell.trim().parse().expect("a number");
    until("the program is gone", || !crate::stage::runs(shell));
    child
}

fn outlived(world: &World) {
    let Some(stage) = Stage::new(world, "outlived") else {
        return;
    };
    let mut child = left(&stage, "$CALLER receive 7");
    until("the sleeper is shown", || {
        so_far(&stage).ends_with("<unfinished ...>\n")
    });
    assert!(child.try_wait().expect("it is ours").is_none());
    stage.run("run --namespace n -- CALLER send 7 6").text();
    let ran = ended(child);
    assert_eq!((ran.code, ran.out.as_slice()), (3, &b"6 hello\n"[..]));
    assert_eq!(scrubbed(&so_far(&stage)).len(), 2);
}

fn abandoned(world: &World) {
    let Some(stage) = Stage::new(world, "abandoned") else {
        return;
    };
    let mut child = left(&stage, "$CALLER hold 7 $DIR/held 2>/dev/null >&2");
    let holder = stage.marked("held");
    until("it ends when it is asked to", || {
        kill(child.id().cast_signed(), 15);
        child.try_wait().expect("it is ours").is_some()
    });
    assert!(crate::stage::runs(holder));
    kill(holder, 9);
    let ran = ended(child);
    assert_eq!(ran.code, 3);
    assert!(
        ran.err
            .contains("processes that the program has started go on"),
        "{}",
        ran.err
    );
    assert_eq!(scrubbed(&so_far(&stage)).len(), 3);
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
