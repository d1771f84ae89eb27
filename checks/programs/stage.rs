//! What a piece is played on: a process of its own in an empty folder in memory, which starts the
//! programs, tells what is to be the same on both sides, and ends everything that it has started.

use crate::{Piece, need};
use checks::process;
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// The file, in the folder of the piece, in which the test finds what was told.
pub const TOLD: &str = "told";

/// The environment variable that names the folder to be removed if the test is gone.
pub const FOLDER: &str = "PROGRAMS_FOLDER";

/// Longer than any piece takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long a state may take to come.
const BOUND: Duration = Duration::from_secs(60);

/// Where a piece is played.
pub struct Stage {
    folder: PathBuf,
    told: RefCell<String>,
}

/// How a program ended.
pub struct Ran {
    /// The exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The `main` of a player's parent, which is the reaper of all orphans.
pub fn play(piece: &'static Piece) -> ExitCode {
    // SAFETY: takes numbers.
    let reaper = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    assert_eq!(reaper, 0, "orphans go elsewhere");
    let player = process::child(|| {
        let stage = Stage {
            folder: std::env::current_dir().expect("a folder"),
            told: RefCell::default(),
        };
        (piece.play)(&stage);
        fs::write(stage.path(TOLD), stage.told.take()).expect("the folder is ours");
    });
    thread::spawn(watch);
    let status = reap_until(player.pid());
    // If it was ended by the watch, that goes on to the end of this process.
    let _ending = ENDING.lock();
    std::mem::forget(player);
    end_children();
    if status == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Held by who ends this process.
static ENDING: Mutex<()> = Mutex::new(());

/// Reaps children until this one has ended, and answers its status.
fn reap_until(last: i32) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
        assert!(pid > 0, "the player is gone");
        if pid == last {
            return status;
        }
    }
}

/// Ends all that was started when the test is gone, or has waited long enough.
fn watch() {
    let mut poll = libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    };
    // SAFETY: one element to read and write.
    let gone = unsafe { libc::poll(&mut poll, 1, PATIENCE.as_millis() as i32) };
    let _ending = ENDING.lock();
    if gone == 0 {
        eprintln!("it is not over after {PATIENCE:?}; what still ran then:");
        let processes = processes();
        processes
            .iter()
            .for_each(|(_, _, line)| eprintln!("  {line}"));
    }
    end_children();
    if gone > 0
        && let Some(folder) = std::env::var_os(FOLDER)
    {
        // Nobody else is left who would do it.
        let _ = fs::remove_dir_all(folder);
    }
    std::process::exit(1);
}

/// Kills every child, and the orphans that thereby become children, until there are none.
fn end_children() {
    let start = Instant::now();
    while start.elapsed() < BOUND {
        let own = std::process::id().cast_signed();
        for (pid, ..) in processes().into_iter().filter(|process| process.1 == own) {
            // SAFETY: takes numbers; a child that is not reaped keeps its pid.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        if std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The processes that can be seen: pid, parent, and the line of the kernel's file.
fn processes() -> Vec<(i32, i32, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter_map(|line| {
            let pid = line.split(' ').next()?.parse().ok()?;
            // The name before it, in brackets, may have spaces.
            let parent = line.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((pid, parent, line.chars().take(60).collect()))
        })
        .collect()
}

impl Stage {
    /// Tells something that must be the same on both sides.
    pub fn tell(&self, text: &str) {
        let mut told = self.told.borrow_mut();
        told.push_str(text.trim_end_matches('\n'));
        told.push('\n');
    }

    /// Tells how much was done in a second, to be compared by `--measure`.
    pub fn rate(&self, name: &str, rate: f64) {
        self.tell(&format!("{} {name} {rate}", crate::measure::RATE));
    }

    /// The folder of the piece: empty at first, in memory, and gone afterwards.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Reads a file of the folder.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let read = fs::read_to_string(self.path(name));
        read.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Where a program is that the piece needs.
    #[track_caller]
    pub fn program(&self, name: &str) -> PathBuf {
        need::find(name).unwrap_or_else(|| panic!("{name} is gone"))
    }

    /// A command in the folder, without input.
    pub fn at(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn ended(&self, command: &mut Command) -> Ran {
        let ended = command.output();
        Ran::of(ended.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn run(&self, command: &mut Command) -> Ran {
        let ran = self.ended(command);
        assert_eq!(ran.code, 0, "{command:?}\n{}{}", ran.out, ran.err);
        ran
    }

    /// Runs a script of the shell that must succeed; what it printed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let mut command = self.at(Path::new("/bin/sh"));
        self.run(command.args(["-ec", script])).out
    }

    /// Starts a command whose output goes to a file of the folder. It has a process group of its
    /// own, because servers signal theirs.
    #[track_caller]
    pub fn start(&self, command: &mut Command, log: &str) -> Started {
        let log = fs::File::create(self.path(log)).expect("the folder is ours");
        let errors = log.try_clone().expect("a descriptor");
        let started = command.stdout(log).stderr(errors).process_group(0).spawn();
        Started(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Waits until a state is reached, not for ever.
    #[track_caller]
    pub fn until(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < BOUND, "not reached: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Ran {
    fn of(output: Output) -> Self {
        let status = output.status;
        let signalled = status.signal().map(|signal| 128 + signal);
        Self {
            code: status.code().or(signalled).expect("it ended"),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A program that was started and not waited for yet. It is killed if nobody does.
pub struct Started(Child);

impl Started {
    pub fn signal(&self, signal: i32) {
        let pid = self.0.id().cast_signed();
        // SAFETY: takes numbers; the child is not reaped yet, so the pid is its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the signal could not be sent");
    }

    pub fn runs(&mut self) -> bool {
        self.0.try_wait().expect("it is a child").is_none()
    }

    /// Waits for its end: the exit code; 128 and the signal's number if a signal ended it.
    pub fn wait(mut self) -> i32 {
        let status = self.0.wait().expect("it is a child");
        let signalled = status.signal().map(|signal| 128 + signal);
        status.code().or(signalled).expect("it ended")
    }

    /// Writes to its input.
    #[track_caller]
    pub fn say(&mut self, text: &str) {
        let input = self.0.stdin.as_mut().expect("a pipe");
        input.write_all(text.as_bytes()).expect("it listens");
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
