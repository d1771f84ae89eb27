//! What the tests of `tombolo run` have in common: a place for name spaces, and a program in C.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use checks::bin_under_test;

use crate::world::{Folder, Ran, World, ended, feed, until};

/// A folder for name spaces, and programs to be run in them.
pub struct Stage<'w> {
    world: &'w World,
    folder: Folder,
    /// The program in C.
    pub caller: &'static Path,
}

impl<'w> Stage<'w> {
    /// None, and a word why, where there is no C compiler.
    pub fn new(world: &'w World, name: &str) -> Option<Self> {
        let caller = caller()?;
        bin_under_test::library();
        let folder = Folder::for_spaces(name);
        Some(Self {
            world,
            folder,
            caller,
        })
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// Where this user's name spaces are.
    pub fn home(&self) -> PathBuf {
        // SAFETY: no arguments.
        let uid = unsafe { libc::geteuid() };
        self.path(&format!("tombolo-{uid}"))
    }

    /// The names of the folders there.
    pub fn spaces(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home()).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect();
        all.sort();
        all
    }

    /// The command with these arguments, in which CALLER is the program in C and DIR the folder.
    pub fn command(&self, arguments: &str) -> Command {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let words = arguments.split_whitespace().map(|word| {
            word.replace("CALLER", &text(self.caller))
                .replace("DIR", &text(&self.folder.0))
        });
        let mut command = self.world.command("");
        command.args(words).env("TOMBOLO_SPACES", &self.folder.0);
        command
    }

    /// `tombolo run` of a shell's script.
    pub fn shell(&self, options: &str, script: &str) -> Command {
        let mut command = self.command(&format!("run {options} -- sh -c"));
        command
            .arg(script)
            .env("CALLER", self.caller)
            .env("DIR", &self.folder.0);
        command
    }

    /// Starts a command with pipes.
    pub fn start(&self, mut command: Command) -> Child {
        self.world.start(&mut command)
    }

    /// Runs a command to its end.
    pub fn ends(&self, command: Command) -> Ran {
        let mut child = self.start(command);
        feed(&mut child, b"");
        ended(child)
    }

    /// Runs the command with these arguments to its end.
    pub fn run(&self, arguments: &str) -> Ran {
        self.ends(self.command(arguments))
    }

    /// Waits for a program to say by a file that it has come so far, and answers its pid.
    pub fn marked(&self, name: &str) -> i32 {
        let path = self.path(name);
        until(name, || path.exists());
        fs::read_to_string(path)
            .expect("a pid")
            .parse()
            .expect("a number")
    }
}

/// Sends a signal to a process that we started, or that a program of ours did.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: takes numbers.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "process {pid} is there");
}

/// Whether a process runs.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The program of `caller.c`, compiled once.
fn caller() -> Option<&'static Path> {
    static COMPILED: OnceLock<Option<PathBuf>> = OnceLock::new();
    COMPILED.get_or_init(|| compile("caller", &[])).as_deref()
}

/// Compiles `caller.c`.
pub fn compile(name: &str, options: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/caller.c");
    // Where every user can run it.
    let folder = bin_under_test::tombolo().parent().expect("a folder");
    let program = folder.join(format!("{name}.{}", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-Werror"])
        .args(options)
        .arg("-o")
        .arg(&program)
        .arg(source);
    match cc.output() {
        Ok(output) if output.status.success() => {
            let place = folder.join(name);
            fs::rename(&program, &place).expect("the copy takes its place");
            Some(place)
        }
        Ok(output) if options.is_empty() => {
            panic!(
                "caller.c does not compile: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        }
        Ok(_) => None,
        Err(error) => {
            eprintln!("skipped: there is no C compiler: cc: {error}");
            None
        }
    }
}
