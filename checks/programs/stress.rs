//! Programs that exist to try System V: stress-ng with its verification, and rt-tests' svsematest.

use crate::Piece;
use crate::need::{Need, may_run_in_real_time};
use crate::stage::Stage;

pub const PIECES: &[Piece] = &[
    Piece {
        name: "stress_ng",
        needs: &[Need::Program("stress-ng", "stress-ng")],
        ordinary: false,
        play: stress_ng,
    },
    Piece {
        name: "svsematest",
        needs: &[
            Need::Program("svsematest", "rt-tests"),
            Need::Right(
                "real-time scheduling, which root has (or: ulimit -r)",
                may_run_in_real_time,
            ),
        ],
        ordinary: false,
        play: svsematest,
    },
];

/// Rates: what is told differs from run to run.
pub const MEASURED: &[Piece] = &[Piece {
    name: "stress_ng_rates",
    needs: &[Need::Program("stress-ng", "stress-ng")],
    ordinary: false,
    play: rates,
}];

fn rates(stage: &Stage) {
    for (name, stressor) in [
        ("msg", "--msg 1"),
        ("sem-sysv", "--sem-sysv 1"),
        ("shm-sysv", "--shm-sysv 1 --shm-sysv-bytes 1m"),
    ] {
        let mut command = stage.at(&stage.program("stress-ng"));
        command
            .args(stressor.split(' '))
            .args(["--metrics", "--timeout", "2", "--temp-path"])
            .arg(stage.folder());
        let ran = stage.run(&mut command);
        let text = format!("{}{}", ran.out, ran.err);
        // NAME, OPERATIONS, seconds (real, user, system), operations a second
        let words = text.lines().filter_map(|line| {
            let words: Vec<_> = line.split_once("] ")?.1.split_whitespace().collect();
            (words.first() == Some(&name)).then(|| words.get(5)?.parse().ok())?
        });
        let rate: Vec<f64> = words.collect();
        assert_eq!(rate.len(), 1, "{text}");
        stage.rate(name, rate[0]);
    }
}

fn stress_ng(stage: &Stage) {
    for stressors in [
        "--msg 2 --msg-ops 100000",
        "--msg 1 --msg-ops 50000 --msg-types 8 --msg-bytes 4096",
        "--sem-sysv 2 --sem-sysv-ops 200000",
        "--shm-sysv 2 --shm-sysv-ops 40 --shm-sysv-bytes 1m",
        "--msg 1 --msg-ops 20000 --sem-sysv 1 --sem-sysv-ops 20000 --shm-sysv 1 --shm-sysv-ops 10 --shm-sysv-bytes 2m",
        "--switch 1 --switch-ops 20000 --switch-method sem-sysv",
    ] {
        let mut command = stage.at(&stage.program("stress-ng"));
        command.args(stressors.split(' '));
        // The time is what it gives up after; the operations are what must be done.
        command
            .args(["--verify", "--metrics", "--timeout", "60", "--temp-path"])
            .arg(stage.folder());
        let ran = stage.ended(&mut command);
        print!("{}{}", ran.out, ran.err);
        stage.tell(&format!("{stressors}: {}", ran.code));
        for word in ["fail", "error", "skip", "warn"] {
            let bad = |line: &&str| line.contains(&format!("stress-ng: {word}"));
            for line in ran.out.lines().chain(ran.err.lines()).filter(bad) {
                stage.tell(&without_pid(line));
            }
        }
        for (name, operations) in operations(&format!("{}{}", ran.out, ran.err)) {
            stage.tell(&format!("  {name} {operations}"));
        }
    }
}

/// `stress-ng: fail:  [123] …`
fn without_pid(line: &str) -> String {
    let pid = regex::Regex::new(r"\[\d+\]|\(pid: \d+\)").expect("a pattern");
    pid.replace_all(line, "[pid]").into_owned()
}

/// From the table of metrics: which stressor did how many operations.
fn operations(text: &str) -> Vec<(String, u64)> {
    let lines = text.lines().filter_map(|line| line.split_once("] "));
    lines
        .filter_map(|(_, rest)| {
            let mut words = rest.split_whitespace();
            let (name, operations) = (words.next()?, words.next()?);
            // Further figures, in whole sentences, are told otherwise.
            words.next()?.parse::<f64>().ok()?;
            Some((name.to_owned(), operations.parse().ok()?))
        })
        .collect()
}

fn svsematest(stage: &Stage) {
    // Pairs of threads, and of processes, that hand a semaphore to each other.
    for how in ["", "--fork"] {
        let loops = 1000;
        let mut command = stage.at(&stage.program("svsematest"));
        command.args(["--quiet", "--interval=200", "--distance=20", "--threads=2"]);
        command
            .arg(format!("--loops={loops}"))
            .args(how.split_whitespace());
        let ran = stage.run(&mut command);
        print!("{how} {}", ran.out);
        let latencies = ran.out.lines().filter(|line| line.contains("Min")).count();
        stage.tell(&format!("svsematest {how}: {latencies} pairs measured"));
        assert_eq!(latencies, 2, "{}", ran.out);
    }
}
