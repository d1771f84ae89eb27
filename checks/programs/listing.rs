//! `ipcmk`, `ipcs`, `lsipc` and `ipcrm` of util-linux, which read the kernel's files beside the
//! calls: what they print of the same objects is the same, limits and ids included.

use crate::Piece;
use crate::need::Need;
use crate::stage::Stage;

pub const PIECES: &[Piece] = &[Piece {
    name: "ipcs",
    needs: &[
        Need::Program("ipcs", "util-linux"),
        Need::Program("lsipc", "util-linux"),
        Need::Program("ipcmk", "util-linux"),
        Need::Program("ipcrm", "util-linux"),
        Need::Program("perl", "perl"),
    ],
    ordinary: false,
    play: ipcs,
}];

fn ipcs(stage: &Stage) {
    let look = |what: &str| {
        for tool in [
            "ipcs", "ipcs -u", "ipcs -l", "ipcs -t", "ipcs -c", "ipcs -p", "ipcs -b",
        ] {
            tell(stage, what, tool);
        }
        for tool in ["lsipc", "lsipc -m -J", "lsipc -q -J", "lsipc -s -J --bytes"] {
            tell(stage, what, tool);
        }
        for file in ["shm", "msg", "sem"] {
            tell(stage, what, &format!("cat /proc/sysvipc/{file}"));
        }
        tell(
            stage,
            what,
            "cat /proc/sys/kernel/shmmax /proc/sys/kernel/sem /proc/sys/kernel/msgmnb",
        );
    };
    look("nothing");
    tell(stage, "make", "ipcmk -M 10000 -p 0640");
    tell(stage, "make", "ipcmk -M 1 -p 0600");
    tell(stage, "make", "ipcmk -Q -p 0622");
    tell(stage, "make", "ipcmk -Q");
    tell(stage, "make", "ipcmk -S 3");
    tell(stage, "make", "ipcmk -S 1 -p 0666");
    look("new");
    // Messages wait, semaphores have values, a segment is attached and marked for destruction.
    tell(
        stage,
        "fill",
        "perl -e 'msgsnd(0, pack(\"l! a*\", 5, \"x\" x 100), 0) or die $!' ",
    );
    tell(
        stage,
        "fill",
        "perl -e 'msgsnd(0, pack(\"l! a*\", 6, \"\"), 0) or die $!' ",
    );
    tell(stage, "fill", "perl -e 'semctl(0, 1, 16, 7) or die $!' ");
    tell(
        stage,
        "fill",
        "perl -e 'semop(0, pack(\"s!3\", 1, -2, 0)) or die $!' ",
    );
    tell(
        stage,
        "fill",
        "perl -e 'shmwrite(0, \"hello\", 0, 5) or die $!' ",
    );
    look("filled");
    for tool in ["ipcs -m -i 0", "ipcs -q -i 0", "ipcs -s -i 0"] {
        tell(stage, "one", tool);
    }
    for tool in ["lsipc -m -i 0", "lsipc -q -i 0", "lsipc -s -i 0"] {
        tell(stage, "one", tool);
    }
    tell(stage, "remove", "ipcrm -m 0 -q 0");
    tell(stage, "remove", "ipcrm -s 77");
    tell(stage, "remove", "ipcrm -M 0x12345");
    tell(stage, "make", "ipcmk -M 5000");
    look("after removal");
    tell(stage, "remove", "ipcrm -a");
    look("nothing again");
}

/// Runs a command and tells what it printed, and how it ended.
fn tell(stage: &Stage, when: &str, command: &str) {
    let mut shell = stage.at(&stage.program("sh"));
    let ran = stage.ended(shell.args(["-c", command]));
    stage.tell(&format!("{when}: {command} [{}]", ran.code));
    stage.tell(&scrubbed(&ran.out));
    stage.tell(&scrubbed(&ran.err));
}

/// Without what differs from run to run: random keys, pids, times.
fn scrubbed(text: &str) -> String {
    let replaced = [
        (r"0x[0-9a-f]*[1-9a-f][0-9a-f]*", "KEY"),
        (r"(?m)^ *-?[0-9]+( +[0-9]+ +[0-7]+ )", " KEY$1"),
        (
            r"[A-Z][a-z]{2} +[A-Z][a-z]{2} +\d+ \d+:\d+:\d+( \d+)?",
            "DATE",
        ),
        (r"[A-Z][a-z]{2} +\d+ \d+:\d+:\d+( \d+)?", "DATE"),
        (r"\b\d\d:\d\d\b", "TIME"),
        (r"\b1[7-9]\d{8}\b", "SECONDS"),
        // Columns are as wide as the pids are long.
        (r"(?m) +$", ""),
        (r" {2,}", " "),
        (
            r#"((?i:pid(=|": "|:)|sender:|receiver:)\s*)[1-9]\d*"#,
            "${1}PID",
        ),
    ];
    let mut text = text.to_owned();
    for (pattern, with) in replaced {
        let pattern = regex::Regex::new(pattern).expect("a pattern");
        text = pattern.replace_all(&text, with).into_owned();
    }
    without_pids(&text)
}

/// Replaces what stands in a table below a heading with `pid` in it.
fn without_pids(text: &str) -> String {
    let mut columns = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let heading = |word: &&str| word.to_lowercase().ends_with("pid");
        if words.iter().any(heading) {
            let places = (0..words.len()).filter(|at| heading(&words[*at]));
            columns = places.collect();
            lines.push(line.to_owned());
            continue;
        }
        let pid = |at: usize, word: &str| {
            columns.contains(&at) && word.parse::<u32>().is_ok_and(|number| number > 0)
        };
        if (0..words.len()).any(|at| pid(at, words[at])) {
            let scrubbed = words.iter().enumerate();
            let scrubbed = scrubbed.map(|(at, word)| if pid(at, word) { "PID" } else { word });
            lines.push(scrubbed.collect::<Vec<_>>().join(" "));
        } else {
            lines.push(line.to_owned());
        }
        if words.is_empty() {
            columns.clear();
        }
    }
    lines.join("\n")
}
