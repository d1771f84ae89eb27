//! The `tombolo` command, as its users run it: the real binary, in IPC name spaces of its own.
//!
//! - `world`: a fresh IPC name space for each test, and what runs in it
//! - `transcripts`: golden transcripts, `transcripts/*.txt`; `SNAPSHOTS=overwrite` writes them anew
//! - `stage`: a place for name spaces of `tombolo run`, and a program in C to be run in them
//! - the others: a file for each thing that the command promises
//!
//! Filters, `--list` and the other options are those of `cargo test`.

#![allow(missing_docs)]

mod benching;
mod contents;
mod demonstration;
mod doctoring;
mod listing;
mod looking;
mod mailboxes;
mod messages;
mod naming;
mod output;
mod queue_ends;
mod queues;
mod removing;
mod run_refusals;
mod running;
mod semaphores;
mod services;
mod stage;
mod topics;
mod tracing;
mod transcripts;
mod users;
mod values;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use world::World;

/// A test: its name, and what it does in a world of its own.
type Test = (&'static str, fn(&World));

const GROUPS: &[(&str, &[Test])] = &[
    ("listing", listing::TESTS),
    ("looking", looking::TESTS),
    ("removing", removing::TESTS),
    ("contents", contents::TESTS),
    ("messages", messages::TESTS),
    ("semaphores", semaphores::TESTS),
    ("output", output::TESTS),
    ("users", users::TESTS),
    ("values", values::TESTS),
    ("queues", queues::TESTS),
    ("queues", queue_ends::TESTS),
    ("mailboxes", mailboxes::TESTS),
    ("services", services::TESTS),
    ("topics", topics::TESTS),
    ("doctoring", doctoring::TESTS),
    ("naming", naming::TESTS),
    ("demonstration", demonstration::TESTS),
    ("benching", benching::TESTS),
    ("running", running::TESTS),
    ("running", run_refusals::TESTS),
    ("tracing", tracing::TESTS),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, option, id, access] = arguments.as_slice()
        && option == "--hold"
    {
        return world::hold(id, access);
    }
    if let [_, option, name] = arguments.as_slice()
        && option == "--take"
    {
        return queue_ends::take(name);
    }
    // A shell's background jobs, and what `nohup` starts, ignore these, and so would all commands here.
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let options = Arguments::from_args();
    // While there is one thread: a user name space cannot be entered later.
    let possible = options.list || world::prepare();
    let in_groups = GROUPS.iter().flat_map(|(group, tests)| {
        tests.iter().map(move |(name, test)| {
            Trial::test(format!("{group}::{name}"), move || {
                test(&World::new());
                Ok::<(), Failed>(())
            })
        })
    });
    let trials = in_groups.chain(transcripts::trials());
    let trials = trials
        .map(|trial| trial.with_ignored_flag(!possible))
        .collect();
    libtest_mimic::run(&options, trials).exit_code()
}
