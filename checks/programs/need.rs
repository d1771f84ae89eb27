//! What the pieces need, and which package has it.

use crate::Piece;
use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Something that a piece needs.
pub enum Need {
    /// A program, by its name, and the Debian package that has it.
    Program(&'static str, &'static str),
    /// A module of Perl, and its package.
    Perl(&'static str, &'static str),
    /// An extension of PHP, and its package.
    Php(&'static str, &'static str),
    /// A module of Python, and the distribution that has it, in the [`venv`].
    Python(&'static str, &'static str),
    /// Something that this machine or user must allow: what it is, and whether it is there.
    Right(&'static str, fn() -> bool),
}

impl Need {
    fn is_there(&self) -> bool {
        match self {
            Self::Program(name, _) => find(name).is_some(),
            Self::Perl(module, _) => answers("perl", &[&format!("-M{module}"), "-e", "1"]),
            Self::Php(extension, _) => {
                let test = format!("exit(extension_loaded('{extension}') ? 0 : 1);");
                answers("php", &["-r", &test])
            }
            Self::Python(module, _) => {
                let python = venv().join("bin/python");
                python.exists()
                    && succeeds(Command::new(python).args(["-c", &format!("import {module}")]))
            }
            Self::Right(_, has) => has(),
        }
    }

    /// What is missing, and how to get it.
    fn advice(&self) -> String {
        let installed = |name, how, package| {
            format!(
                "{name} is not installed ({how} install {package}; or all at once: cargo xtask programs)"
            )
        };
        match self {
            Self::Program(name, package) | Self::Perl(name, package) | Self::Php(name, package) => {
                installed(name, "apt-get", package)
            }
            Self::Python(name, package) => installed(name, "pip", package),
            Self::Right(what, _) => format!("it needs {what}"),
        }
    }
}

/// Whether real-time scheduling is allowed to a process of this user.
pub fn may_run_in_real_time() -> bool {
    let tried = std::thread::spawn(|| {
        let lowest = libc::sched_param { sched_priority: 1 };
        // SAFETY: valid for reading; 0 is this thread, which ends right after.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) == 0 }
    });
    tried.join().unwrap_or(false)
}

/// What is missing for a piece, and what to do about it.
pub fn missing(piece: &Piece) -> Option<String> {
    let need = piece.needs.iter().find(|need| !need.is_there())?;
    Some(format!("skipped: {}", need.advice()))
}

/// Prints what is missing for all pieces, a line each: `apt PACKAGE` or `pip VENV PACKAGE`.
pub fn print_missing(pieces: impl Iterator<Item = &'static Piece>) -> ExitCode {
    let needs = pieces.flat_map(|piece| piece.needs);
    let mut lines = BTreeSet::new();
    for need in needs.filter(|need| !need.is_there()) {
        match need {
            Need::Program(_, package) | Need::Perl(_, package) | Need::Php(_, package) => {
                lines.insert(format!("apt {package}"));
            }
            Need::Python(_, package) => {
                lines.insert(format!("pip {} {package}", venv().display()));
                if !answers("python3", &["-c", "import ensurepip"]) {
                    lines.insert("apt python3-venv".to_owned());
                }
            }
            Need::Right(..) => {}
        }
    }
    for line in lines {
        println!("{line}");
    }
    ExitCode::SUCCESS
}

/// Python's environment for these tests: a folder in the target folder.
pub fn venv() -> PathBuf {
    // The player has been told: its own binary may be a copy elsewhere.
    if let Some(told) = env::var_os("PROGRAMS_VENV") {
        return told.into();
    }
    // target/PROFILE/deps/this-test
    let this = env::current_exe().expect("the path of this test");
    let target = this.ancestors().nth(3).expect("a target folder");
    target.join("programs/venv")
}

/// Where a program is. Servers stand beside the path that users have.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    folders.extend(postgres_folders());
    let programs = folders.iter().map(|folder| folder.join(name));
    programs.into_iter().find(|program| program.is_file())
}

/// The newest first.
fn postgres_folders() -> Vec<PathBuf> {
    let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() else {
        return Vec::new();
    };
    let mut versions: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version.0));
    versions.into_iter().map(|version| version.1).collect()
}

fn answers(program: &str, arguments: &[&str]) -> bool {
    find(program).is_some_and(|program| succeeds(Command::new(program).args(arguments)))
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
