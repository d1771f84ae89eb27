//! Who is alive, where the kernel has no System V: a lock that lives with a mapping.
//!
//! A process opens a file, locks a byte of it by an open-file-description lock, maps a page of it,
//! and closes the descriptor. The kernel keeps the file description as long as anything refers to
//! it, and now that is the mapping: so the lock lives exactly as long as the process's image. It
//! goes with `kill -9` before the parent has reaped, and with `exec`; a stopped process keeps it,
//! and a forked child has none of it (`MADV_DONTFORK`). No descriptor stays open.
//!
//! A look asks for the lock by `F_OFD_GETLK`, which takes a descriptor for a moment, and a path.
//! Where neither can be had (after `chroot`, with a full descriptor table) there is
//! [`Process::is_running`], which knows the process but not its image.
//!
//! To give a child its lock before it is born, the parent takes it and leaves the mapping in
//! place until `fork` has returned: see [`Hold`].
//!
//! **Cost.** Taking: five system calls, once in a process. A look: four; one more for each further
//! byte that is looked at with it.
//!
//! **Limits.** `exec` is not seen where only the process can be asked. A process in another PID
//! name space is then taken for dead.

use crate::direct::{FCNTL, syscall};
use crate::sync::Ordering;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::{Pid, PidfdFlags};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::AtomicU64;
use sysv::{Errno, Result};

/// A file whose bytes are locked.
#[derive(Clone, Debug)]
pub struct LockFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A lock on one byte, held by a mapping.
///
/// Dropping it lets the lock go, unless a forked child has the mapping too.
#[derive(Debug)]
pub struct Hold {
    page: *mut std::ffi::c_void,
    length: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Hold {}

/// A lock on one byte that is held by a descriptor: by a process that keeps one anyway.
///
/// It is let go when this is dropped, and not inherited through `exec`.
#[derive(Debug)]
pub struct Claim {
    file: OwnedFd,
    byte: u64,
}

/// A look at locks, with a descriptor as long as it lasts.
#[derive(Debug)]
pub struct Look {
    file: OwnedFd,
}

/// `struct flock` of x86-64.
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    start: i64,
    length: i64,
    pid: i32,
}

const F_OFD_GETLK: usize = 36;
const F_OFD_SETLK: usize = 37;
const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

fn lock_call(file: &OwnedFd, command: usize, kind: i16, byte: u64) -> Result<i16> {
    let mut flock = Flock {
        kind,
        whence: 0,
        start: byte as i64,
        length: 1,
        pid: 0,
    };
    let (descriptor, at) = (file.as_raw_fd() as usize, &raw mut flock as usize);
    // SAFETY: `flock` is laid out as the call wants it, valid for reading and writing.
    unsafe { syscall(FCNTL, [descriptor, command, at, 0, 0, 0]) }?;
    Ok(flock.kind)
}

impl LockFile {
    /// The file at a path, as it is now.
    ///
    /// # Errors
    /// Those of `open` and `fstat`.
    pub fn new(path: &Path) -> Result<Self> {
        let file = open(path)?;
        let status = rustix::fs::fstat(&file)?;
        Ok(Self {
            path: path.to_owned(),
            device: status.st_dev,
            inode: status.st_ino,
        })
    }

    fn open(&self) -> Result<OwnedFd> {
        let file = open(&self.path)?;
        let status = rustix::fs::fstat(&file)?;
        if (status.st_dev, status.st_ino) == (self.device, self.inode) {
            Ok(file)
        } else {
            // Another file has the path now, or another root directory has one of that name.
            Err(Errno::STALE)
        }
    }

    /// Whether anybody holds a byte.
    ///
    /// # Errors
    /// Those of `open`; `ESTALE` if the path leads to another file.
    pub fn is_held(&self, byte: u64) -> Result<bool> {
        self.look()?.is_held(byte)
    }

    /// To look at several bytes.
    ///
    /// # Errors
    /// As [`is_held`](Self::is_held).
    pub fn look(&self) -> Result<Look> {
        Ok(Look { file: self.open()? })
    }

    /// How many bytes of a range are not holes.
    ///
    /// # Errors
    /// Those of `open` and `lseek`; `ESTALE` if the path leads to another file.
    pub fn filled(&self, range: Range<u64>) -> Result<u64> {
        let file = self.open()?;
        let (mut at, mut filled) = (range.start, 0);
        while at < range.end {
            let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Ok(start) => start.min(range.end),
                // Nothing but a hole to the end.
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error),
            };
            let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?.min(range.end);
            filled += end - start;
            // Somebody may fill and empty it meanwhile.
            at = end.max(at + 1);
        }
        Ok(filled)
    }

    /// Locks a byte. Others may hold it as well: the lock tells that somebody lives, not who.
    ///
    /// # Errors
    /// Those of `open` and `mmap`; `ESTALE` if the path leads to another file.
    pub fn hold(&self, byte: u64) -> Result<Hold> {
        let file = self.open()?;
        lock_call(&file, F_OFD_SETLK, F_RDLCK, byte)?;
        let length = rustix::param::page_size();
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let page = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                length,
                ProtFlags::empty(),
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        Ok(Hold { page, length })
    }
}

impl Look {
    /// Whether anybody holds a byte.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn is_held(&self, byte: u64) -> Result<bool> {
        // Holders lock for reading, which needs no right to write the file; a writer would be
        // refused by any of them.
        Ok(lock_call(&self.file, F_OFD_GETLK, F_WRLCK, byte)? != F_UNLCK)
    }
}

impl Claim {
    /// Opens a file for reading and writing, and locks a byte of it as one of many. `None` if
    /// somebody has the byte alone, or the path leads to another file by now, or to none.
    ///
    /// # Errors
    /// Those of `open`, other than `ENOENT`.
    pub fn share(path: &Path, byte: u64) -> Result<Option<Self>> {
        Self::take(path, byte, F_RDLCK)
    }

    /// The same, for oneself alone: `None` also if others share the byte.
    ///
    /// # Errors
    /// As [`share`](Self::share).
    pub fn alone(path: &Path, byte: u64) -> Result<Option<Self>> {
        Self::take(path, byte, F_WRLCK)
    }

    fn take(path: &Path, byte: u64, kind: i16) -> Result<Option<Self>> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            file => file?,
        };
        let claim = Self { file, byte };
        if !claim.lock(kind)? {
            return Ok(None);
        }
        // Whoever had it alone may have removed it, or put another in its place.
        let (mine, there) = (rustix::fs::fstat(&claim.file)?, rustix::fs::stat(path));
        let same =
            |there: rustix::fs::Stat| (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino);
        Ok(there.is_ok_and(same).then_some(claim))
    }

    /// Makes a shared lock one's own alone, if nobody else shares it; else it stays as it is.
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn become_alone(&self) -> Result<bool> {
        self.lock(F_WRLCK)
    }

    fn lock(&self, kind: i16) -> Result<bool> {
        match lock_call(&self.file, F_OFD_SETLK, kind, self.byte) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

impl Hold {
    /// From here on the lock is this image's, to its end; children don't inherit it.
    ///
    /// # Errors
    /// Those of `madvise`; the lock is let go then.
    pub fn keep(self) -> Result<()> {
        // SAFETY: the mapping is ours, and the advice changes only what a fork does.
        unsafe { rustix::mm::madvise(self.page, self.length, Advice::LinuxDontFork) }?;
        std::mem::forget(self);
        Ok(())
    }

    /// From here on the lock is this image's and that of every child it forks: it goes with the
    /// last of them.
    pub fn share_with_children(self) {
        std::mem::forget(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and was never accessible.
        let _ = unsafe { rustix::mm::munmap(self.page, self.length) };
    }
}

/// A process, told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// The number by which the kernel's file system of processes knows it (Linux 6.9), unique
    /// since the machine was started; 0 where the kernel has none.
    pub birth: u64,
}

/// What `statfs` says of that file system.
const PID_FS: i64 = 0x5049_4446;

impl Process {
    /// This process.
    pub fn this() -> Self {
        let pid = rustix::process::getpid();
        let birth = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_or(0, |d| birth(&d));
        Self {
            pid: pid.as_raw_nonzero().get(),
            birth,
        }
    }

    /// Whether it has not ended: a process that nobody has reaped yet has.
    pub fn is_running(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => {
                let now = birth(&descriptor);
                let another = self.birth != 0 && now != 0 && now != self.birth;
                !another && !has_ended(&descriptor)
            }
            Err(Errno::SRCH) => false,
            // No descriptor to be had.
            Err(_) => !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)),
        }
    }
}

fn birth(descriptor: &OwnedFd) -> u64 {
    match rustix::fs::fstatfs(descriptor) {
        Ok(system) if system.f_type == PID_FS => {
            rustix::fs::fstat(descriptor).map_or(0, |status| status.st_ino)
        }
        _ => 0,
    }
}

fn has_ended(descriptor: &OwnedFd) -> bool {
    let mut poll = [PollFd::new(descriptor, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready == 1)
}

/// A word of this process alone, which is zero in a forked child.
#[derive(Debug)]
pub struct ForkWord {
    page: *const AtomicU64,
}

// SAFETY: only an atomic word is reached through it.
unsafe impl Send for ForkWord {}
// SAFETY: as for `Send`.
unsafe impl Sync for ForkWord {}

impl ForkWord {
    /// A word, zero at first. It is never given back.
    ///
    /// # Errors
    /// Those of `mmap` and `madvise`.
    pub fn new() -> Result<Self> {
        let length = rustix::param::page_size();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice replaces nothing.
        let page = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), length, access, MapFlags::PRIVATE)
        }?;
        // SAFETY: the page was just made, and only a fork changes it, which is the purpose.
        unsafe { rustix::mm::madvise(page, length, Advice::LinuxWipeOnFork) }?;
        Ok(Self { page: page.cast() })
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped for as long as the process lives, aligned, and only reached
        // as an atomic word; all its bits may be zero.
        unsafe { &*self.page }
    }

    /// What it holds.
    #[inline]
    pub fn load(&self) -> u64 {
        // Acquire: what was done before the store is seen by who sees the word.
        self.word().load(Ordering::Acquire)
    }

    /// Changes it.
    pub fn store(&self, value: u64) {
        // Release: as in `load`.
        self.word().store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lives_as_long_as_its_mapping() {
        let path = std::env::temp_dir().join(format!("anchor-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let file = LockFile::new(&path).unwrap();
        assert_eq!(file.is_held(7), Ok(false));
        let hold = file.hold(7).unwrap();
        assert_eq!((file.is_held(7), file.is_held(8)), (Ok(true), Ok(false)));
        let second = file.hold(7).unwrap();
        drop(hold);
        assert_eq!(file.is_held(7), Ok(true));
        drop(second);
        assert_eq!(file.is_held(7), Ok(false));
        // While the first file is still there, so that the second is another.
        let other = path.with_extension("other");
        std::fs::write(&other, "y").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(file.is_held(7), Err(Errno::STALE));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.is_held(7), Err(Errno::NOENT));
    }

    #[test]
    fn who_is_alone_knows_it() {
        let path = std::env::temp_dir().join(format!("claim-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let first = Claim::share(&path, 3).unwrap().unwrap();
        assert_eq!(first.become_alone(), Ok(true));
        assert!(Claim::share(&path, 3).unwrap().is_none());
        drop(first);
        let first = Claim::share(&path, 3).unwrap().unwrap();
        let second = Claim::share(&path, 3).unwrap().unwrap();
        assert_eq!(first.become_alone(), Ok(false));
        assert!(Claim::alone(&path, 3).unwrap().is_none());
        drop(second);
        // A mapping's lock counts as well.
        let hold = LockFile::new(&path).unwrap().hold(3).unwrap();
        assert_eq!(first.become_alone(), Ok(false));
        drop(hold);
        assert_eq!(first.become_alone(), Ok(true));
        std::fs::remove_file(&path).unwrap();
        assert!(Claim::share(&path, 3).unwrap().is_none());
    }

    #[test]
    fn this_process_runs() {
        let this = Process::this();
        assert!(this.is_running());
        let successor = Process {
            birth: this.birth ^ 1 << 40,
            ..this
        };
        assert!(this.birth == 0 || !successor.is_running());
        assert!(!Process { pid: 0, birth: 0 }.is_running());
    }
}
