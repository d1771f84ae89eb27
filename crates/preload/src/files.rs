//! The kernel's files about System V objects and limits, as they are inside a name space.
//!
//! `ipcs`, `lsipc` and `sysctl` read them. The text is made when a file is opened and stays as it was
//! then, as the kernel's does for whoever reads it in one go.

use crate::Credentials;
use std::fmt::Write;
use sysv::abi::{ipc_perm, msqid_ds, semid_ds, shmid_ds};
use sysv::{Errno, Result};
use userspace::{Facility, Limits, Space, Whose};

/// A file that is shown from the name space.
#[derive(Clone, Copy, Debug)]
pub enum File {
    /// The objects of a kind, in `/proc/sysvipc`.
    Objects(Facility),
    /// What the limits are, in `/proc/sys/kernel`.
    Limits(fn(&Limits) -> Vec<u64>),
    /// The id of the next object of a kind, in `/proc/sys/kernel`.
    NextId(Facility),
}

/// Bytes of the longest path that leads to one of them.
pub const LONGEST: usize = 256;

/// Whether a path may lead to one of them, by its last part: cheap to ask of every path.
pub fn may_be(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    ["/proc/sysvipc/", "/proc/sys/kernel/"]
        .iter()
        .any(|folder| {
            let mut whole = [0; 64];
            let end = folder.len() + name.len();
            whole.get_mut(..end).is_some_and(|whole| {
                whole[..folder.len()].copy_from_slice(folder.as_bytes());
                whole[folder.len()..].copy_from_slice(name);
                at(whole).is_some()
            })
        })
}

/// The file at a path that begins in a folder; both as they are written, with `.`, `..` and `//`.
pub fn within(folder: &[u8], path: &[u8]) -> Option<File> {
    let mut whole = [0; LONGEST];
    let mut end = 0;
    let parts = |path| <[u8]>::split(path, |byte| *byte == b'/');
    for part in parts(folder).chain(parts(path)) {
        match part {
            b"" | b"." => {}
            b".." => end = whole[..end].iter().rposition(|byte| *byte == b'/')?,
            name => {
                *whole.get_mut(end)? = b'/';
                end += 1;
                whole.get_mut(end..end + name.len())?.copy_from_slice(name);
                end += name.len();
            }
        }
    }
    at(&whole[..end])
}

/// The file at an absolute path.
fn at(path: &[u8]) -> Option<File> {
    let path = path.strip_prefix(b"/proc/sys")?;
    if let Some(name) = path.strip_prefix(b"vipc/") {
        return Some(File::Objects(match name {
            b"shm" => Facility::Shm,
            b"msg" => Facility::Msg,
            b"sem" => Facility::Sem,
            _ => return None,
        }));
    }
    let limits = |words| Some(File::Limits(words));
    match path.strip_prefix(b"/kernel/")? {
        b"shmmax" => limits(|of| vec![of.shmmax]),
        b"shmall" => limits(|of| vec![of.shmall]),
        b"shmmni" => limits(|of| vec![of.shmmni]),
        b"shm_rmid_forced" => limits(|of| vec![of.shm_rmid_forced]),
        b"msgmax" => limits(|of| vec![of.msgmax]),
        b"msgmnb" => limits(|of| vec![of.msgmnb]),
        b"msgmni" => limits(|of| vec![of.msgmni]),
        b"sem" => limits(|of| vec![of.semmsl, of.semmns, of.semopm, of.semmni]),
        b"shm_next_id" => Some(File::NextId(Facility::Shm)),
        b"msg_next_id" => Some(File::NextId(Facility::Msg)),
        b"sem_next_id" => Some(File::NextId(Facility::Sem)),
        _ => None,
    }
}

impl File {
    /// What it holds.
    ///
    /// # Errors
    /// Those of the calls that ask.
    pub fn text(self, space: &Space) -> Result<String> {
        match self {
            Self::Objects(Facility::Shm) => segments(space),
            Self::Objects(Facility::Msg) => queues(space),
            Self::Objects(Facility::Sem) => sets(space),
            Self::Limits(words) => {
                let words = words(&space.limits());
                let words: Vec<_> = words.iter().map(ToString::to_string).collect();
                Ok(words.join("\t") + "\n")
            }
            Self::NextId(kind) => Ok(format!("{}\n", space.next_id(kind).unwrap_or(-1))),
        }
    }
}

/// What `status` answers for each index up to the highest that is in use.
fn all<T>(highest: i32, status: impl Fn(Whose) -> Result<(i32, T)>) -> Result<Vec<(i32, T)>> {
    let mut all = Vec::new();
    for index in 0..=highest {
        match status(Whose::Any(index)) {
            Ok(object) => all.push(object),
            // None has it.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The columns that every kind begins with.
fn begin(text: &mut String, perm: &ipc_perm, id: i32) {
    let (key, mode) = (perm.__key, perm.mode);
    // Writing to memory does not fail; here and below.
    let _ = write!(text, "{key:10} {id:10}  {mode:4o} ");
}

/// The columns of owner and creator.
fn owners(text: &mut String, perm: &ipc_perm) {
    let ipc_perm {
        uid,
        gid,
        cuid,
        cgid,
        ..
    } = *perm;
    let _ = write!(text, " {uid:5} {gid:5} {cuid:5} {cgid:5}");
}

fn segments(space: &Space) -> Result<String> {
    let mut text =
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  \
                    cuid  cgid      atime      dtime      ctime                   rss              \
                    \x20   swap\n"
            .to_owned();
    let status = |whose| space.shm_status(&Credentials, whose);
    for (id, segment) in all(space.shm_usage()?.0, status)? {
        let shmid_ds {
            shm_perm,
            shm_segsz,
            shm_cpid,
            shm_lpid,
            shm_nattch,
            shm_atime,
            shm_dtime,
            shm_ctime,
            ..
        } = segment;
        begin(&mut text, &shm_perm, id);
        let _ = write!(
            text,
            "{shm_segsz:21} {shm_cpid:5} {shm_lpid:5}  {shm_nattch:5}"
        );
        owners(&mut text, &shm_perm);
        // It may be gone by now.
        let rss = space.shm_resident(id).unwrap_or(0);
        let _ = writeln!(
            text,
            " {shm_atime:10} {shm_dtime:10} {shm_ctime:10} {rss:21} {:21}",
            0
        );
    }
    Ok(text)
}

fn queues(space: &Space) -> Result<String> {
    let mut text =
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  \
                    cgid      stime      rtime      ctime\n"
            .to_owned();
    let status = |whose| space.msg_status(&Credentials, whose);
    for (id, queue) in all(space.msg_usage()?.0, status)? {
        let msqid_ds {
            msg_perm,
            __msg_cbytes: bytes,
            msg_qnum,
            msg_lspid,
            msg_lrpid,
            msg_stime,
            msg_rtime,
            msg_ctime,
            ..
        } = queue;
        begin(&mut text, &msg_perm, id);
        let _ = write!(
            text,
            " {bytes:10} {msg_qnum:10} {msg_lspid:5} {msg_lrpid:5}"
        );
        owners(&mut text, &msg_perm);
        let _ = writeln!(text, " {msg_stime:10} {msg_rtime:10} {msg_ctime:10}");
    }
    Ok(text)
}

fn sets(space: &Space) -> Result<String> {
    let mut text =
        "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      \
                    ctime\n"
            .to_owned();
    let status = |whose| space.sem_status(&Credentials, whose);
    for (id, set) in all(space.sem_usage()?.0, status)? {
        let semid_ds {
            sem_perm,
            sem_nsems,
            sem_otime,
            sem_ctime,
            ..
        } = set;
        begin(&mut text, &sem_perm, id);
        let _ = write!(text, "{sem_nsems:10}");
        owners(&mut text, &sem_perm);
        let _ = writeln!(text, " {sem_otime:10} {sem_ctime:10}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first lines as the kernel has them, if it has them.
    #[test]
    fn headers_are_the_kernels() {
        let folder = std::path::Path::new("/dev/shm").join(format!("files-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let space = Space::create(&folder, 0o600, &Limits::KERNEL, 0).unwrap();
        for name in ["shm", "msg", "sem"] {
            let path = format!("/proc/sysvipc/{name}");
            let text = at(path.as_bytes()).unwrap().text(&space).unwrap();
            let Ok(kernels) = std::fs::read_to_string(&path) else {
                continue;
            };
            assert_eq!(text.lines().next(), kernels.lines().next());
        }
        let text = |path: &str| at(path.as_bytes()).unwrap().text(&space).unwrap();
        assert_eq!(text("/proc/sys/kernel/msgmax"), "8192\n");
        assert_eq!(
            text("/proc/sys/kernel/sem"),
            "32000\t1024000000\t500\t32000\n"
        );
        assert_eq!(text("/proc/sys/kernel/msg_next_id"), "-1\n");
        for other in [
            "/proc/sysvipc",
            "/proc/sysvipc/shmx",
            "/proc/sys/kernel/pid_max",
            "/x",
            "",
        ] {
            assert!(at(other.as_bytes()).is_none(), "{other}");
            assert!(!may_be(other.as_bytes()), "{other}");
        }
        for (folder, path) in [
            ("", "/proc/sysvipc/msg"),
            ("", "//proc/./sys/../sysvipc/msg"),
            ("/proc", "sysvipc//msg"),
            ("/proc/sysvipc", "msg"),
            ("/proc/sys/kernel", "./../../sysvipc/msg"),
        ] {
            assert!(may_be(path.as_bytes()));
            let found = within(folder.as_bytes(), path.as_bytes());
            assert!(
                matches!(found, Some(File::Objects(Facility::Msg))),
                "{path}"
            );
        }
        let long = "/".to_owned() + &"x".repeat(LONGEST);
        for (folder, path) in [
            ("/home", "msg"),
            ("", "/../proc/../msg"),
            ("", "/../../msg"),
            (&long, "/msg"),
        ] {
            assert!(may_be(path.as_bytes()), "its name is one of them");
            let found = within(folder.as_bytes(), path.as_bytes());
            assert!(found.is_none(), "{folder} {path}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
