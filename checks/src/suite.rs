//! Suites of cases: each case in a process of its own, with an IPC name space of its own, for a
//! bounded time.
//!
//! `TOMBOLO_LONG=1` asks for the long version of every case.

use crate::isolate::{self, SKIPPED, leave_name_space, no_core_dumps};
use crate::process::die_with;
use libtest_mimic::{Arguments, Trial};
use std::os::unix::process::parent_id;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// How a case that did not panic ended.
pub enum Outcome {
    /// It holds; figures worth showing.
    Pass(String),
    /// It could not be tested here; the reason.
    Skip(String),
}

/// One case.
pub struct Case {
    /// Its name, for filters.
    pub name: &'static str,
    /// The test: a panic is a failure.
    pub run: fn() -> Outcome,
}

/// A case, for the tables.
pub const fn case(name: &'static str, run: fn() -> Outcome) -> Case {
    Case { name, run }
}

/// Ends a case with [`Outcome::Skip`] if the `Result` holds a reason, otherwise is its value.
#[macro_export]
macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => return $crate::suite::Outcome::Skip(reason.to_string()),
        }
    };
}

/// Whether the long version is wanted.
pub fn is_long() -> bool {
    std::env::var_os("TOMBOLO_LONG").is_some_and(|value| value != "0")
}

/// One number for the quick version, another for the long one.
pub fn quick_or_long<T>(quick: T, long: T) -> T {
    if is_long() { long } else { quick }
}

/// After this time a case has failed.
fn timeout() -> Duration {
    Duration::from_secs(quick_or_long(180, 7200))
}

/// The `main` of a suite.
pub fn main(groups: &[&'static [Case]]) -> ExitCode {
    let cases = || groups.iter().copied().flatten();
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, option, name] = arguments.as_slice()
        && option == "--case"
    {
        let case = cases().find(|case| case.name == name);
        return alone(case.unwrap_or_else(|| panic!("no case {name}")));
    }
    crate::process::stay_if_asked();
    let mut options = Arguments::from_args();
    // What is stepped, killed and raced keeps a processor busy.
    options.test_threads.get_or_insert(2);
    let show = options.nocapture;
    let trials = cases()
        .map(|case| {
            Trial::ignorable_test(case.name, move || {
                let mut process = Command::new(std::env::current_exe()?);
                process.args(["--case", case.name]).stdin(Stdio::null());
                let ended = isolate::run(&mut process, timeout())?;
                if show {
                    print!("{}: {}", case.name, ended.text);
                }
                ended.completion()
            })
        })
        .collect();
    libtest_mimic::run(&options, trials).exit_code()
}

/// Runs a case in this process.
fn alone(case: &Case) -> ExitCode {
    die_with(parent_id() as i32);
    no_core_dumps();
    let skip = |reason: &str| {
        println!("{reason}");
        ExitCode::from(SKIPPED)
    };
    if !leave_name_space() {
        return skip("needs an IPC name space of its own, and none can be made here");
    }
    match (case.run)() {
        Outcome::Pass(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Outcome::Skip(reason) => skip(&reason),
    }
}
