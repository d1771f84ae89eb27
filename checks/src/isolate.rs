//! How a test gets a process and an IPC name space of its own, and a bounded time.
//!
//! libtest's threads and `fork` do not go together, so a trial starts its program again; that
//! process has one thread, [leaves](leave_name_space) for a name space of its own, and does what
//! the trial is about. Its objects vanish with it, and trials run side by side.

use libtest_mimic::{Completion, Failed};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// The exit status of a process that skipped its test, the reason being its last line.
pub const SKIPPED: u8 = 77;

/// How a process ended.
pub struct Ended {
    /// Or after how long it was killed.
    status: Result<ExitStatus, Duration>,
    /// What it printed.
    pub text: String,
}

/// Runs a program in a process group of its own, all of which is killed when its first process
/// ends or the time is over.
pub fn run(command: &mut Command, timeout: Duration) -> std::io::Result<Ended> {
    let mut output = memory_file()?;
    let mut process = command
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()?;
    let in_time = wait(&process, timeout);
    // Before it is reaped, so that the group's number is still its own.
    kill_group(&process);
    let status = process.wait()?;
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;
    Ok(Ended {
        status: if in_time { Ok(status) } else { Err(timeout) },
        text,
    })
}

impl Ended {
    /// What the trial says about it.
    pub fn completion(self) -> Result<Completion, Failed> {
        let text = self.text;
        let status = match self.status {
            Ok(status) => status,
            Err(timeout) => return Err(format!("no end after {timeout:?}\n{text}").into()),
        };
        match status.code() {
            Some(0) => Ok(Completion::Completed),
            Some(code) if code == i32::from(SKIPPED) => Ok(Completion::ignored_with(
                text.lines().last().unwrap_or("no reason given"),
            )),
            _ => Err(format!("{status}\n{text}").into()),
        }
    }
}

/// Leaves for an IPC name space of its own, if that is possible.
pub fn leave_name_space() -> bool {
    // SAFETY: takes a number; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } == 0 {
        return true;
    }
    // A user name space may be made and yet not set up; a child tries, for there is no way back.
    let possible = crate::process::child(|| {
        let code = i32::from(leave_with_user().is_err());
        // SAFETY: takes a number; nothing of this process is needed any more.
        unsafe { libc::_exit(code) }
    })
    .join_status();
    possible.success() && leave_with_user().is_ok()
}

/// Leaves for a user name space, in which this user is root, and an IPC name space in it.
fn leave_with_user() -> std::io::Result<()> {
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    let gid = unsafe { libc::getegid() };
    // SAFETY: takes a number; the process has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Faults are part of the tests; their dumps are not wanted.
pub fn no_core_dumps() {
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
pub fn memory_file() -> std::io::Result<File> {
    // SAFETY: a string that ends in NUL.
    let descriptor = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}
