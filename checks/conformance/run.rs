//! How a statement is run: in a process of its own, in an IPC name space of its own, for a
//! bounded time.
//!
//! The trial starts this program again with `--statement TARGET ID`. That process has one thread,
//! leaves for a name space of its own (in a user name space when it is not root) and runs the
//! test, so the objects vanish with it and trials run side by side. Where no name space can be
//! had, the tests that do not need an empty one run in the host's with keys of their own, and what
//! they made is removed by the record that they keep of it.

use crate::harness::{Outcome, Statement, Target};
use crate::process::die_with;
use crate::record;
use libtest_mimic::{Completion, Failed};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

/// After this time a statement has failed.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The exit status of a statement's process that skipped, the reason being its last line.
const SKIPPED: u8 = 77;

/// Runs a statement in a process of its own: what the trial does.
pub fn supervise(target: &Target, statement: &Statement) -> Result<Completion, Failed> {
    let scratch = Scratch::new()?;
    let mut output = memory_file()?;
    let record = memory_file()?;
    record::prepare(&record)?;
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--statement", target.name, statement.id])
        .current_dir(&scratch.0)
        .stdin(record.try_clone()?)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()?;
    let in_time = wait(&process, TIMEOUT);
    // Before it is reaped, so that the group's number is still its own.
    kill_group(&process);
    let status = process.wait()?;
    record::remove_all(record, target)?;
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;
    if !in_time {
        return Err(format!("no end after {TIMEOUT:?}\n{text}").into());
    }
    match status.code() {
        Some(0) => Ok(Completion::Completed),
        Some(code) if code == i32::from(SKIPPED) => Ok(Completion::ignored_with(
            text.lines().last().unwrap_or("no reason given"),
        )),
        _ => Err(format!("{status}\n{text}").into()),
    }
}

/// Runs a statement in this process: what the trial's process does.
pub fn statement(target: &Target, statement: &Statement) -> ExitCode {
    die_with(parent_id() as i32);
    no_core_dumps();
    let own_name_space = leave_name_space();
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

/// Leaves for an IPC name space of its own, if that is possible.
fn leave_name_space() -> bool {
    // SAFETY: takes a number; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } == 0 {
        return true;
    }
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    let gid = unsafe { libc::getegid() };
    // SAFETY: takes a number; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC) } != 0 {
        return false;
    }
    let maps = [
        ("/proc/self/setgroups", "deny".to_string()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps {
        std::fs::write(file, text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    true
}

/// Faults are part of the tests; their dumps are not wanted.
fn no_core_dumps() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `none` is valid for reading.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

/// Waits until the process has ended, not longer than `timeout`.
fn wait(process: &Child, timeout: Duration) -> bool {
    // SAFETY: takes numbers; the process is not reaped yet.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process.id(), 0) };
    assert!(
        descriptor >= 0,
        "pidfd_open: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the descriptor is new and ours.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    let mut poll = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one element to read and write.
    unsafe { libc::poll(&mut poll, 1, timeout.as_millis() as i32) == 1 }
}

fn kill_group(process: &Child) {
    // SAFETY: takes numbers; the leader is not reaped yet, so the group is its own.
    unsafe { libc::kill(-(process.id() as i32), libc::SIGKILL) };
}

/// A file without a name, for what the process prints: unlike a pipe it neither fills up nor
/// stays open in a grandchild.
fn memory_file() -> std::io::Result<File> {
    // SAFETY: a string that ends in NUL.
    let descriptor = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// A directory where the test runs, open to every user; removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let template = std::env::temp_dir().join("conformance-XXXXXX");
        let template = template.into_os_string().into_encoded_bytes();
        let mut template = std::ffi::CString::new(template)?.into_bytes_with_nul();
        // SAFETY: a string that ends in NUL, valid for writing.
        if unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) }.is_null() {
            return Err(std::io::Error::last_os_error());
        }
        template.pop();
        let scratch = Self(String::from_utf8_lossy(&template).into_owned().into());
        std::fs::set_permissions(&scratch.0, std::fs::Permissions::from_mode(0o777))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done if somebody else removed it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
