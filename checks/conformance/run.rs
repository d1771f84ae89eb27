//! How a statement is run: in a process of its own, in an IPC name space of its own, for a
//! bounded time.
//!
//! The trial starts this program again with `--statement TARGET ID`. That process has one thread,
//! leaves for a name space of its own (in a user name space when it is not root) and runs the
//! test, so the objects vanish with it and trials run side by side. Where no name space can be
//! had, the tests that do not need an empty one run in the host's with keys of their own, and what
//! they made is removed by the record that they keep of it.

use crate::harness::{Outcome, Statement, Target};
use crate::{preloaded, record, user_space};
use checks::isolate::{self, SKIPPED, memory_file, no_core_dumps};
use checks::process::die_with;
use checks::{bin_under_test, refused};
use libtest_mimic::{Completion, Failed};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tempfile::TempDir;

/// After this time a statement has failed.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a statement in a process of its own: what the trial does.
pub fn supervise(target: &Target, statement: &Statement) -> Result<Completion, Failed> {
    let folder = scratch(&std::env::temp_dir())?;
    // Memory, for name spaces that are files.
    let memory = scratch(Path::new("/dev/shm"))?;
    let record = memory_file()?;
    record::prepare(&record)?;
    let mut process = Command::new(std::env::current_exe()?);
    process
        .args(["--statement", target.name, statement.id])
        .current_dir(folder.path())
        .env(user_space::FOLDER, memory.path())
        .stdin(record.try_clone()?);
    if target.name == preloaded::NAME {
        process.env(preloaded::LIBRARY, bin_under_test::library());
    }
    let ended = isolate::run(&mut process, TIMEOUT)?;
    record::remove_all(record, target)?;
    ended.completion()
}

/// Runs a statement in this process: what the trial's process does.
pub fn statement(target: &Target, statement: &Statement) -> ExitCode {
    die_with(parent_id() as i32);
    no_core_dumps();
    let own_name_space = (target.leave)();
    if !target.is_kernel {
        // Nothing may depend on the kernel's own.
        refused::refuse();
    }
    if !own_name_space {
        record::begin();
    }
    // The tests set modes and leave files that other users read.
    // SAFETY: takes a number.
    unsafe { libc::umask(0o022) };
    let target = Target {
        own_name_space,
        ..*target
    };
    match (statement.run)(&target) {
        Outcome::Pass => ExitCode::SUCCESS,
        Outcome::Skip(reason) => {
            println!("{reason}");
            ExitCode::from(SKIPPED)
        }
    }
}

/// A directory where the test runs, open to every user; removed with all that is in it.
fn scratch(parent: &Path) -> std::io::Result<TempDir> {
    let scratch = tempfile::Builder::new()
        .prefix("conformance-")
        .tempdir_in(parent)?;
    // Whatever the mask says.
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o777))?;
    Ok(scratch)
}
