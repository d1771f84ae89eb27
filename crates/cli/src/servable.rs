//! Whether a program can be given a name space: where it is, and whether the dynamic linker will load
//! our library into it, which [`preload::program`] knows.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use preload::program::{Unserved, unserved};

use crate::exit::Failure;
use crate::users::Users;

/// Finds a program as the shell does: a path if there is a `/` in it, else by `PATH`.
pub fn find(program: &OsStr) -> Result<PathBuf, Failure> {
    let shown = program.display();
    let missing = |why: &str| Failure::with_code(127, format!("cannot run {shown}: {why}"));
    if program.is_empty() {
        return Err(missing("the name is empty"));
    }
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(missing("not found")),
            Err(error) => Err(Failure::with_code(
                126,
                format!("cannot run {shown}: {error}"),
            )),
            Ok(about) if about.is_dir() => Err(Failure::with_code(
                126,
                format!("cannot run {shown}: it is a folder"),
            )),
            Ok(_) => executable(path, shown),
        };
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut there = env::split_paths(&path)
        .map(|folder| folder.join(program))
        .filter(|path| path.is_file())
        .peekable();
    let first = there.peek().cloned();
    match there.find(|path| access(path, AccessFlags::X_OK).is_ok()) {
        Some(path) => Ok(path),
        None => match first {
            Some(path) => executable(path, shown),
            None => Err(missing("not found; it is in no folder of PATH")),
        },
    }
}

fn executable(path: PathBuf, shown: impl fmt::Display) -> Result<PathBuf, Failure> {
    match access(&path, AccessFlags::X_OK) {
        Ok(()) => Ok(path),
        Err(errno) => Err(Failure::with_code(
            126,
            format!(
                "cannot run {shown}: {} is not executable for you ({})",
                path.display(),
                errno.desc().to_lowercase()
            ),
        )),
    }
}

/// Refuses a program that the library can't be loaded into, and says what can be done.
pub fn check(program: &Path) -> Result<(), Failure> {
    // What can't be read is for the kernel to refuse.
    let Ok(mut file) = File::open(program) else {
        return Ok(());
    };
    let Some(why) = unserved(file.as_fd()) else {
        return Ok(());
    };
    let mut mark = [0; 2];
    let is_script = file.read_exact(&mut mark).is_ok() && &mark == b"#!";
    let it = if is_script { "its interpreter" } else { "it" };
    let (more, next) = match why {
        Unserved::Static => (String::new(), "link it with the shared C library"),
        Unserved::Architecture => (
            " than x86-64, as a 32-bit program is".to_owned(),
            "use its 64-bit build",
        ),
        Unserved::Linker => (String::new(), "use its build for glibc"),
        Unserved::Rights => (
            rights(program, is_script),
            "run it as who it becomes, or run a copy without that bit",
        ),
    };
    Err(Failure::with_code(
        126,
        format!(
            "cannot run {} in a name space: {it} {}{more}, so no library can be loaded into it; {next}",
            program.display(),
            why.reason()
        ),
    ))
}

/// By what a program has them, as far as its file says.
fn rights(program: &Path, is_script: bool) -> String {
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2000;
    let about = fs::metadata(program).ok().filter(|_| !is_script);
    let users = Users::default();
    match about {
        Some(about) if about.mode() & SET_UID != 0 => {
            format!(" (set-uid to {})", users.user(about.uid()))
        }
        Some(about) if about.mode() & SET_GID != 0 => {
            format!(" (set-gid to {})", users.group(about.gid()))
        }
        Some(_) => " (file capabilities)".to_owned(),
        None => String::new(),
    }
}
