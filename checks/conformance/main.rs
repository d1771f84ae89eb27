//! The conformance suite: every statement of `docs/semantics.md`, on every target.
//!
//! A trial is named `TARGET::STATEMENT`, such as `kernel::SG-1`; filters, `--list` and the other
//! options are those of `cargo test`. `CONFORMANCE_TARGETS=libc` (names with commas) leaves the
//! other targets out. `suite::catalogue` sees to it that the page and the tests agree.
//!
//! - `harness`: what a statement's test is given and answers
//! - `kinds`: what segments, queues and sets have in common
//! - `memory`: mappings and faults
//! - `target`: the implementations
//! - `caller`: what tests do to the process that calls: sleepers, signals, privilege, memory
//! - `catalogue`: whether tests and statements are the same
//! - `user_space`: the name space of the target of that name
//! - `preloaded`: how a process comes to have the library loaded
//! - `record`: what a test made where it has no name space of its own
//! - `run`: how a statement gets a process and a name space of its own

mod catalogue;
mod harness;
mod kinds;
mod memory;
mod preloaded;
mod record;
mod run;
mod target;
mod user_space;

mod abi;
mod inside;
mod keys;
mod life;
mod limits;
mod perms;
mod procfs;
mod shmat;
mod shmctl;
mod shmdt;
mod shmget;
mod spaces;
mod survive;

mod caller;
mod general;
mod msg_control;
mod msg_get;
mod msg_receive;
mod msg_send;
mod sem_control;
mod sem_get;
mod sem_operate;
mod sem_undo;
mod sem_wait;

use checks::process;
use harness::{Statement, Target};
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use target::TARGETS;

/// The statements, file by file.
const GROUPS: &[&[Statement]] = &[
    abi::STATEMENTS,
    keys::STATEMENTS,
    perms::STATEMENTS,
    shmget::STATEMENTS,
    shmat::STATEMENTS,
    shmdt::STATEMENTS,
    life::STATEMENTS,
    shmctl::STATEMENTS,
    limits::STATEMENTS,
    procfs::STATEMENTS,
    spaces::STATEMENTS,
    inside::STATEMENTS,
    survive::STATEMENTS,
    // queues, sets, all calls
    msg_get::STATEMENTS,
    msg_send::STATEMENTS,
    msg_receive::STATEMENTS,
    msg_control::STATEMENTS,
    sem_get::STATEMENTS,
    sem_operate::STATEMENTS,
    sem_wait::STATEMENTS,
    sem_undo::STATEMENTS,
    sem_control::STATEMENTS,
    general::STATEMENTS,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, option, target, id] = arguments.as_slice()
        && option == "--statement"
    {
        return run::statement(find_target(target), find_statement(id));
    }
    if arguments
        .last()
        .is_some_and(|last| last.as_bytes() == process::STAY.to_bytes())
    {
        process::stay();
    }
    let mut options = Arguments::from_args();
    // Most trials wait for another process most of the time.
    options.test_threads.get_or_insert(8);
    let wanted = std::env::var("CONFORMANCE_TARGETS").ok();
    let wanted = |name: &str| {
        wanted
            .as_ref()
            .is_none_or(|names| names.split(',').any(|wanted| wanted == name))
    };
    let mut trials = vec![Trial::test("suite::catalogue", || catalogue::check(GROUPS))];
    for target in TARGETS.iter().filter(|target| wanted(target.name)) {
        for statement in GROUPS.iter().copied().flatten() {
            let name = format!("{}::{}", target.name, statement.id);
            trials.push(Trial::ignorable_test(name, || {
                run::supervise(target, statement)
            }));
        }
    }
    libtest_mimic::run(&options, trials).exit_code()
}

fn find_target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("no target {name}"))
}

fn find_statement(id: &str) -> &'static Statement {
    let statement = GROUPS
        .iter()
        .copied()
        .flatten()
        .find(|statement| statement.id == id);
    statement.unwrap_or_else(|| panic!("no statement {id}"))
}
