//! Whether a program can be given a name space: whether the dynamic linker will load our library
//! into it.
//!
//! | program | what happens to `LD_PRELOAD` |
//! | --- | --- |
//! | linked with glibc | loaded |
//! | statically linked | nobody reads it |
//! | of another architecture, of another C library | its linker says that it can't, and goes on |
//! | set-uid, set-gid, with capabilities | ignored, unless we have those rights already |
//! | a script | that of its interpreter |

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{env, fmt};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, Gid, Uid, access};

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
    // As deep as the kernel follows interpreters of interpreters.
    let mut path = program.to_owned();
    for _ in 0..5 {
        match kind(&path) {
            Ok(Kind::Served) | Err(_) => return Ok(()),
            Ok(Kind::Script(interpreter)) => path = interpreter,
            Ok(Kind::Unserved(why, next)) => {
                let of = if path == program {
                    String::new()
                } else {
                    format!(" ({})", path.display())
                };
                return Err(Failure::with_code(
                    126,
                    format!(
                        "cannot run {}{of} in a name space: {why}, so no library can be loaded \
                         into it; {next}",
                        program.display()
                    ),
                ));
            }
        }
    }
    Ok(())
}

enum Kind {
    /// Served; or no program at all, which is for the kernel to say.
    Served,
    Script(PathBuf),
    Unserved(String, &'static str),
}

fn unserved(why: impl Into<String>, next: &'static str) -> Kind {
    Kind::Unserved(why.into(), next)
}

fn kind(path: &Path) -> std::io::Result<Kind> {
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(256).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = line.trim_ascii().split(u8::is_ascii_whitespace).next();
        let interpreter = OsString::from_vec(interpreter.unwrap_or_default().to_vec());
        return Ok(Kind::Script(interpreter.into()));
    }
    if !head.starts_with(b"\x7fELF") {
        return Ok(Kind::Served);
    }
    if let Some(why) = gains_rights(path, &file)? {
        return Ok(unserved(
            why,
            "run it as who it becomes, or run a copy without that bit",
        ));
    }
    let number = |at: usize, length: usize| little_endian(&head, at, length);
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const X86_64: u64 = 62;
    if head.get(4..6) != Some(&[CLASS_64, LITTLE_ENDIAN]) || number(18, 2) != Some(X86_64) {
        let bits = if head.get(4) == Some(&1) {
            "a 32-bit program"
        } else {
            "a program"
        };
        return Ok(unserved(
            format!("it is {bits} of another architecture than x86-64"),
            "use its 64-bit build",
        ));
    }
    match interpreter(&file, &head) {
        None => Ok(unserved(
            "it is statically linked",
            "link it with the shared C library",
        )),
        Some(linker) => {
            let name = Path::new(&linker).file_name().unwrap_or_default();
            if name.as_bytes().starts_with(b"ld-linux-x86-64.so") {
                return Ok(Kind::Served);
            }
            Ok(unserved(
                format!("its dynamic linker is {}, not glibc's", linker.display()),
                "use its build for glibc",
            ))
        }
    }
}

fn little_endian(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(bytes.iter().rev().fold(0, add))
}

/// The dynamic linker that an ELF file of 64 bits names; none if it is statically linked.
fn interpreter(file: &File, head: &[u8]) -> Option<OsString> {
    const PT_INTERP: u64 = 3;
    let start = little_endian(head, 32, 8)?;
    let size = little_endian(head, 54, 2)?;
    let count = little_endian(head, 56, 2)?;
    (0..count).find_map(|number| {
        let mut entry = [0; 56];
        let at = start.checked_add(number.checked_mul(size)?)?;
        file.read_exact_at(&mut entry, at).ok()?;
        if little_endian(&entry, 0, 4)? != PT_INTERP {
            return None;
        }
        let at = little_endian(&entry, 8, 8)?;
        let length = little_endian(&entry, 32, 8)?;
        let mut path = vec![
            0;
            usize::try_from(length)
                .ok()
                .filter(|length| *length <= 4096)?
        ];
        file.read_exact_at(&mut path, at).ok()?;
        let end = path
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(path.len());
        path.truncate(end);
        Some(OsString::from_vec(path))
    })
}

/// By what a program gets rights that its caller has not.
fn gains_rights(path: &Path, file: &File) -> std::io::Result<Option<String>> {
    const SET_UID: u32 = 0o4000;
    const SET_GID_OF_PROGRAM: u32 = 0o2010;
    let about = file.metadata()?;
    if statvfs(path).is_ok_and(|system| system.flags().contains(FsFlags::ST_NOSUID)) {
        return Ok(None);
    }
    let me = (Uid::current(), Gid::current());
    let users = Users::default();
    if about.mode() & SET_UID != 0 && about.uid() != me.0.as_raw() {
        return Ok(Some(format!(
            "it is set-uid to {}",
            users.user(about.uid())
        )));
    }
    let set_gid = about.mode() & SET_GID_OF_PROGRAM == SET_GID_OF_PROGRAM;
    if set_gid && about.gid() != me.1.as_raw() {
        return Ok(Some(format!(
            "it is set-gid to {}",
            users.group(about.gid())
        )));
    }
    // Root has them without the file's help.
    if !me.0.is_root() && has_capabilities(path) {
        return Ok(Some("it has file capabilities".to_owned()));
    }
    Ok(None)
}

fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut value = [0u8; 64];
    rustix::fs::getxattr(&path, c"security.capability", &mut value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart() {
        assert!(matches!(
            kind(&env::current_exe().expect("this test")),
            Ok(Kind::Served)
        ));
        let folder = env::temp_dir().join(format!("servable-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("program");
        let written = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            kind(&path).unwrap()
        };
        let script = |bytes: &[u8]| match written(bytes) {
            Kind::Script(interpreter) => interpreter,
            _ => panic!("no script"),
        };
        assert_eq!(script(b"#! /bin/sh -e\nx"), Path::new("/bin/sh"));
        assert_eq!(script(b"#!/bin/sh"), Path::new("/bin/sh"));
        let why = |bytes: &[u8]| match written(bytes) {
            Kind::Unserved(why, _) => why,
            _ => String::new(),
        };
        let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
        elf.resize(64, 0);
        assert!(why(&elf).contains("32-bit"));
        elf[4] = 2;
        elf[18] = 62;
        assert!(why(&elf).contains("statically"));
        assert_eq!(why(b"text"), "");
        assert_eq!(why(b"\x7fELF"), why(b"\x7fELF\x02"), "cut short");
        fs::remove_dir_all(&folder).unwrap();
    }
}
