//! Whether a program can be served: whether the dynamic linker will load our library into it.
//!
//! | program | what becomes of `LD_PRELOAD` |
//! | --- | --- |
//! | linked to glibc | loaded |
//! | statically linked | nobody reads it |
//! | of another architecture, or of another C library | its linker can't load it |
//! | set-uid, set-gid, with capabilities of its file | ignored, unless we have those rights already |
//! | a script | that of its interpreter |
//!
//! Nothing here takes memory from the heap: it is asked between `vfork` and `exec`.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, FileType, Mode, OFlags, StatVfsMountFlags};
use std::ffi::CStr;

/// Why a program can't be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// No dynamic linker is asked for.
    Static,
    /// It is not a program of 64 bits for x86-64.
    Architecture,
    /// Its dynamic linker is not glibc's.
    Linker,
    /// It has rights that its caller has not.
    Rights,
}

impl Unserved {
    /// What is said of the program.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Static => "is statically linked",
            Self::Architecture => "is of another architecture",
            Self::Linker => "is linked to another C library than glibc",
            Self::Rights => "runs with rights of its own",
        }
    }
}

/// As deep as the kernel follows interpreters of interpreters.
const DEPTH: u32 = 5;

/// Why the program in a file can't be served, if it can't. What is no program, or can't be read, is
/// the kernel's to refuse.
pub fn unserved(file: BorrowedFd<'_>) -> Option<Unserved> {
    unserved_within(file, DEPTH)
}

/// The folder from which relative paths lead.
pub const HERE: BorrowedFd<'static> = rustix::fs::CWD;

/// Whether the search of a program by `PATH` ends here.
pub fn is_executable(path: &CStr) -> bool {
    let file = rustix::fs::stat(path)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile);
    file && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// Opens a program to be looked at.
pub fn open(folder: BorrowedFd<'_>, path: &CStr) -> Option<OwnedFd> {
    // Without waiting: it may be a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::openat(folder, path, flags, Mode::empty()).ok()
}

fn unserved_within(file: BorrowedFd<'_>, depth: u32) -> Option<Unserved> {
    let mut head = [0u8; 256];
    let length = rustix::io::pread(file, &mut head, 0).ok()?;
    let head = &head[..length];
    if let Some(line) = head.strip_prefix(b"#!") {
        let mut path = [0u8; 256];
        let interpreter = open(rustix::fs::CWD, interpreter_of_script(line, &mut path)?)?;
        return unserved_within(interpreter.as_fd(), depth.checked_sub(1)?);
    }
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    if gains_rights(file) {
        return Some(Unserved::Rights);
    }
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const X86_64: u64 = 62;
    if head.get(4..6) != Some(&[CLASS_64, LITTLE_ENDIAN]) || number(head, 18, 2) != Some(X86_64) {
        return Some(Unserved::Architecture);
    }
    let mut path = [0u8; 256];
    let Some(linker) = linker(file, head, &mut path) else {
        return Some(Unserved::Static);
    };
    let name = linker.rsplit(|byte| *byte == b'/').next()?;
    let ours = name.starts_with(b"ld-linux-x86-64.so");
    (!ours).then_some(Unserved::Linker)
}

/// The path in a script's first line, behind its mark.
fn interpreter_of_script<'p>(line: &[u8], path: &'p mut [u8]) -> Option<&'p CStr> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let words = |byte: &u8| matches!(byte, b' ' | b'\t' | 0);
    let word = line.split(words).find(|word| !word.is_empty())?;
    path.get_mut(..word.len())?.copy_from_slice(word);
    CStr::from_bytes_until_nul(path).ok()
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(bytes.iter().rev().fold(0, add))
}

/// The dynamic linker that an ELF file of 64 bits names.
fn linker<'p>(file: BorrowedFd<'_>, head: &[u8], path: &'p mut [u8]) -> Option<&'p [u8]> {
    const PT_INTERP: u64 = 3;
    let start = number(head, 32, 8)?;
    let size = number(head, 54, 2)?;
    let count = number(head, 56, 2)?;
    for index in 0..count {
        let mut entry = [0u8; 56];
        let at = start.checked_add(index.checked_mul(size)?)?;
        if rustix::io::pread(file, &mut entry, at).ok()? < entry.len() {
            return None;
        }
        if number(&entry, 0, 4)? == PT_INTERP {
            let (at, length) = (number(&entry, 8, 8)?, number(&entry, 32, 8)?);
            let whole = path.get_mut(..usize::try_from(length).ok()?)?;
            let got = rustix::io::pread(file, &mut *whole, at).ok()?;
            return whole[..got].split(|byte| *byte == 0).next();
        }
    }
    None
}

/// Whether a program gets rights that its caller has not, so that its linker mistrusts the
/// environment.
fn gains_rights(file: BorrowedFd<'_>) -> bool {
    const SET_UID: u32 = 0o4000;
    const SET_GID_OF_PROGRAM: u32 = 0o2010;
    let Ok(status) = rustix::fs::fstat(file) else {
        return false;
    };
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let set_uid = status.st_mode & SET_UID != 0 && status.st_uid != uid;
    let set_gid = status.st_mode & SET_GID_OF_PROGRAM == SET_GID_OF_PROGRAM && status.st_gid != gid;
    // Root has them without the file's help.
    let mut value = [0u8; 64];
    let capable =
        uid != 0 && rustix::fs::fgetxattr(file, c"security.capability", &mut value[..]).is_ok();
    if !(set_uid || set_gid || capable) {
        return false;
    }
    let refused = rustix::fs::fstatvfs(file)
        .is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::NOSUID));
    !refused && !rustix::thread::no_new_privs().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_told_apart() {
        let this = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(unserved(this.as_fd()), None);
        let path = std::env::temp_dir().join(format!("program-{}", std::process::id()));
        let written = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            unserved(File::open(&path).unwrap().as_fd())
        };
        let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
        elf.resize(64, 0);
        assert_eq!(written(&elf), Some(Unserved::Architecture));
        elf[4] = 2;
        elf[18] = 62;
        assert_eq!(written(&elf), Some(Unserved::Static));
        // One program header, which names a linker.
        let mut linked = elf.clone();
        linked[32] = 64;
        linked[54] = 56;
        linked[56] = 1;
        let mut header = [0u8; 56];
        header[0] = 3;
        header[8] = 120;
        header[32] = 26;
        linked.extend(header);
        let with = |name: &[u8]| [&linked[..], name, &[0; 32]].concat();
        assert_eq!(written(&with(b"/lib/ld-linux-x86-64.so.2")), None);
        assert_eq!(
            written(&with(b"/lib/ld-musl-x86.so.1")),
            Some(Unserved::Linker)
        );
        linked[64 + 32] = 0xff;
        linked[64 + 33] = 0xff;
        assert_eq!(written(&linked), Some(Unserved::Static), "too long a name");
        for text in [
            &b""[..],
            b"text",
            b"#!",
            b"#!/nowhere\n",
            b"#! /bin/sh -e\n",
        ] {
            assert_eq!(written(text), None);
        }
        let script = path.with_extension("script");
        std::fs::write(&script, format!("#! {} -x\n", path.display())).unwrap();
        std::fs::write(&path, &elf).unwrap();
        let look = || unserved(File::open(&script).unwrap().as_fd());
        assert_eq!(look(), Some(Unserved::Static));
        // A script that is its own interpreter.
        std::fs::write(&script, format!("#!{}\n", script.display())).unwrap();
        assert_eq!(look(), None);
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(&path, Some(61_001), None).unwrap();
            let mode = std::fs::Permissions::from_mode(0o4755);
            std::fs::set_permissions(&path, mode).unwrap();
            let nosuid = rustix::fs::statvfs(&path).unwrap().f_flag;
            if !nosuid.contains(StatVfsMountFlags::NOSUID) {
                assert_eq!(
                    unserved(File::open(&path).unwrap().as_fd()),
                    Some(Unserved::Rights)
                );
            }
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&script).unwrap();
    }
}
