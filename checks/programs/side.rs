//! The two sides on which a piece is played: the kernel, and user space.

use crate::{Piece, need};
use checks::bin_under_test;
use checks::isolate;
use checks::refused;
use checks::user_space::Folder;
use libtest_mimic::{Completion, Failed};
use std::fs;
use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The player has a shorter patience of its own, and cleans up then.
const LONG: Duration = Duration::from_secs(200);

/// Who serves the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Kernel,
    UserSpace,
}

/// How a piece was played.
pub struct Played {
    /// What it told.
    pub told: String,
    /// What its player printed.
    pub log: String,
    pub took: Duration,
}

static ONE_USER: AtomicBool = AtomicBool::new(false);

/// Whether there are other users where the pieces are played. In a user name space that an ordinary
/// user makes there is nobody but himself.
pub fn has_users() -> bool {
    // Relaxed: it was stored before there were threads.
    !ONE_USER.load(Ordering::Relaxed)
}

/// Sees to it that name spaces can be made: as root they can, others need a user name space, in
/// which they stay who they are. False if the machine allows neither.
pub fn prepare() -> bool {
    // SAFETY: takes a number.
    if unsafe { libc::unshare(libc::CLONE_NEWIPC) } == 0 {
        return true;
    }
    // Relaxed: there is one thread yet.
    ONE_USER.store(true, Ordering::Relaxed);
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    let gid = unsafe { libc::getegid() };
    // SAFETY: takes a number.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC) } != 0 {
        eprintln!("these tests need an IPC name space of their own, which this machine denies");
        return false;
    }
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    let written: Result<()> = maps
        .iter()
        .try_for_each(|(file, text)| fs::write(file, text));
    if let Err(error) = &written {
        eprintln!("these tests need a user name space, which this machine denies: {error}");
    }
    written.is_ok()
}

/// Plays a piece on both sides and compares what it told.
pub fn compare(piece: &'static Piece, show: bool) -> std::result::Result<Completion, Failed> {
    if let Some(missing) = need::missing(piece) {
        return Ok(Completion::ignored_with(missing));
    }
    let kernel = play(piece, Side::Kernel)?;
    let user_space = play(piece, Side::UserSpace)?;
    if show {
        println!(
            "{}, on the kernel, {:?}:\n{}",
            piece.name, kernel.took, kernel.log
        );
        println!(
            "{}, in user space, {:?}:\n{}",
            piece.name, user_space.took, user_space.log
        );
    }
    if kernel.told.trim().is_empty() {
        return Err("it told nothing, so there was nothing to compare".into());
    }
    match difference(&kernel.told, &user_space.told) {
        None => Ok(Completion::Completed),
        Some(difference) => Err(format!(
            "other results in user space than on the kernel:\n{difference}\n{}",
            user_space.log
        )
        .into()),
    }
}

/// Plays a piece on one side and prints what it told.
pub fn show(piece: &'static Piece, side: Side) -> ExitCode {
    if !prepare() {
        return ExitCode::FAILURE;
    }
    match play(piece, side) {
        Ok(played) => {
            println!("{}\n==> told:\n{}", played.log, played.told);
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("{}", failed.message().unwrap_or("it failed"));
            ExitCode::FAILURE
        }
    }
}

/// The first line that differs, and those before it.
fn difference(kernel: &str, user_space: &str) -> Option<String> {
    let (mut left, mut right) = (kernel.lines(), user_space.lines());
    let mut before = Vec::new();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (a, b) if a == b => before.extend(a),
            (a, b) => {
                let context = before[before.len().saturating_sub(5)..].join("\n  ");
                let line = before.len() + 1;
                let end = "(nothing more)";
                return Some(format!(
                    "line {line}, after\n  {context}\nkernel:     {}\nuser space: {}",
                    a.unwrap_or(end),
                    b.unwrap_or(end)
                ));
            }
        }
    }
}

/// Plays a piece on one side.
pub fn play(piece: &'static Piece, side: Side) -> std::result::Result<Played, Failed> {
    let folder = Folder::new();
    let [stage, spaces, player] =
        ["stage", "spaces", "player"].map(|name| folder.path().join(name));
    // A copy: where the tree lies, other users may not come.
    bin_under_test::copy(&std::env::current_exe()?, &player);
    let user = (piece.ordinary && is_root()).then_some(NOBODY);
    for made in [&stage, &spaces] {
        fs::create_dir(made)?;
        if let Some(user) = user {
            std::os::unix::fs::chown(made, Some(user), Some(user))?;
        }
    }
    let mut command = match side {
        Side::Kernel => Command::new(&player),
        Side::UserSpace => {
            let mut command = Command::new(bin_under_test::tombolo());
            command
                .args(["run", "--limits", "kernel", "--"])
                .arg(&player);
            command
        }
    };
    command
        .args(["--play", piece.name])
        .current_dir(&stage)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("HOME", &stage)
        .env("TMPDIR", &stage)
        .env("PROGRAMS_VENV", need::venv())
        .env(crate::stage::FOLDER, folder.path())
        .env("TOMBOLO_SPACES", &spaces)
        .env("TOMBOLO_PRELOAD", bin_under_test::library())
        // Its end is how the player learns that we are gone.
        .stdin(Stdio::piped());
    // SAFETY: system calls, by numbers and structures of its own.
    unsafe { command.pre_exec(move || leave(side, user)) };
    let start = Instant::now();
    let ended = isolate::run(&mut command, LONG)?;
    let took = start.elapsed();
    let log = ended.text.clone();
    let on = |failed: Failed| {
        let text = failed.message().unwrap_or("no reason given");
        Failed::from(format!("played on {side:?}: {text}"))
    };
    ended.completion().map_err(on)?;
    let told = fs::read_to_string(stage.join(crate::stage::TOLD))?;
    let left = name_spaces(&spaces);
    if !left.is_empty() {
        return Err(format!("name spaces are left, and nobody in them: {left:?}\n{log}").into());
    }
    Ok(Played { told, log, took })
}

/// What is left in the folders that users have for their name spaces.
fn name_spaces(spaces: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let users = entries(spaces).map(|user| user.path());
    let left = users.flat_map(|user| entries(&user).collect::<Vec<_>>());
    left.map(|entry| entry.path()).collect()
}

/// The user `nobody`, who has no rights beyond those of everyone.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() == 0 }
}

/// In the new process: an IPC name space of its own, another user, and no calls of the kernel's.
fn leave(side: Side, user: Option<u32>) -> Result<()> {
    // SAFETY: takes a number; the process has one thread.
    checked(unsafe { libc::unshare(libc::CLONE_NEWIPC) })?;
    if let Some(user) = user {
        // SAFETY: no groups.
        checked(unsafe { libc::setgroups(0, std::ptr::null()) })?;
        // SAFETY: takes numbers.
        checked(unsafe { libc::setresgid(user, user, user) })?;
        // SAFETY: takes numbers.
        checked(unsafe { libc::setresuid(user, user, user) })?;
    }
    if side == Side::UserSpace {
        refused::refuse();
    }
    Ok(())
}

fn checked(answer: i32) -> Result<()> {
    if answer < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}
