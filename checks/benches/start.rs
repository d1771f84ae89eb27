//! What the library adds to the start of a program that it is loaded into: `cargo bench -p checks
//! --bench start`.
//!
//! `true` is started and waited for, in turns: as it is, with the library and a name space, and by
//! `tombolo run`, which makes a name space and takes it away. What is reported is the median of each,
//! and the median of what it takes longer than its neighbour without the library.

use checks::bin_under_test::{library, tombolo};
use checks::user_space::Folder;
use clap::Parser;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use userspace::{Limits, Space};

/// Measures what the library adds to the start of a program.
#[derive(Parser)]
struct Options {
    /// How often each is started
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// The program
    #[arg(long, default_value = "/bin/true")]
    program: String,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Starts a program and waits for its end.
fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.status().expect("it starts");
    let took = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() {
    let options = Options::parse();
    let folder = Folder::new();
    Space::create(folder.path(), 0o600, &Limits::WIDE, 0).expect("a name space");
    let quiet = |program: &Path| {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let mut plain = quiet(options.program.as_ref());
    let mut loaded = quiet(options.program.as_ref());
    loaded
        .env("LD_PRELOAD", library())
        .env("TOMBOLO_SPACE", folder.path());
    let mut run = quiet(tombolo());
    run.args(["run", "--", &options.program])
        .env("TOMBOLO_PRELOAD", library())
        .env("TOMBOLO_SPACES", "/dev/shm");
    let mut times = [const { Vec::new() }; 3];
    // The first of each brings the files into memory.
    for round in 0..=options.rounds {
        for (command, times) in [&mut plain, &mut loaded, &mut run]
            .into_iter()
            .zip(&mut times)
        {
            let took = time(command).as_secs_f64() * 1e3;
            if round > 0 {
                times.push(took);
            }
        }
    }
    let [plain, loaded, run] = times;
    let more = |than: &[f64]| {
        let pairs = than
            .iter()
            .zip(&plain)
            .map(|(with, without)| with - without);
        median(pairs.collect())
    };
    println!("{}, {} starts of each", options.program, options.rounds);
    println!("as it is          {:.3} ms", median(plain.clone()));
    for (name, times) in [("with the library", &loaded), ("by `tombolo run`", &run)] {
        let median = median(times.clone());
        println!("{name}  {median:.3} ms, {:.3} ms more", more(times));
    }
}
