//! What a statement's test works with: the target it runs against, and how it answers.

use crate::record::{self, Kind};
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use sysv::abi::*;
use sysv::{Calls, Errno, Result};

/// One implementation of the twelve calls and `ftok`.
pub struct Target {
    /// The first part of the names of its trials.
    pub name: &'static str,
    /// The twelve calls.
    pub calls: &'static (dyn Calls + Sync),
    /// `ftok` as this target's users get it.
    pub ftok: fn(&Path, i32) -> Result<i32>,
    /// Whether answers travel through `errno` (G-5).
    pub uses_errno: bool,
    /// Whether the calls are the kernel's.
    pub is_kernel: bool,
    /// Whether the files under `/proc/sysvipc` and `/proc/sys/kernel` speak of the same objects.
    pub has_files: bool,
    /// Whether the process has an IPC name space of its own, empty at the start.
    pub own_name_space: bool,
    /// Leaves for such a name space, if that is possible.
    pub leave: fn() -> bool,
    /// The limits of the name space, by the names of `/proc/sys/kernel`.
    pub limits: &'static Switches,
}

/// How the limits of a name space are read and set, as text.
pub struct Switches {
    /// Reads one.
    pub read: fn(&str) -> std::result::Result<String, &'static str>,
    /// Sets one.
    pub set: fn(&str, &str) -> std::result::Result<(), &'static str>,
}

/// How a test that did not panic ended.
pub enum Outcome {
    /// Every clause of the statement holds.
    Pass,
    /// It could not be tested here; the reason.
    Skip(&'static str),
}

/// One statement of `docs/semantics.md` and its test.
pub struct Statement {
    /// Its number, such as `SG-1`.
    pub id: &'static str,
    /// The test: a panic is a failure.
    pub run: fn(&Target) -> Outcome,
}

/// A statement and its test, for the tables.
pub const fn statement(id: &'static str, run: fn(&Target) -> Outcome) -> Statement {
    Statement { id, run }
}

/// Ends a test with [`Outcome::Skip`] if the `Result` holds a reason, otherwise is its value.
#[macro_export]
macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => return $crate::harness::Outcome::Skip(reason),
        }
    };
}

/// An address that belongs to no process.
pub const BAD: usize = 0xdead_0000_0000_0000;

/// The page size of x86-64.
pub const PAGE: usize = 4096;

/// Wall-clock time in whole seconds, as status structures have it.
pub fn now() -> i64 {
    // SAFETY: a null pointer asks for the result only.
    unsafe { libc::time(ptr::null_mut()) }
}

impl Target {
    /// A key that nobody has used: in a name space of our own any will do, elsewhere it is chosen
    /// so that others are unlikely to have it.
    pub fn key(&self) -> key_t {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        let mut seed = [0u8; 4];
        // SAFETY: the buffer is valid for writing its four bytes.
        let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast::<c_void>(), 4, 0) };
        assert_eq!(got, 4);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed) & 0xff;
        let key = (i32::from_ne_bytes(seed) & 0x00ff_ff00) | 0x5400_0000 | serial;
        assert_ne!(key, IPC_PRIVATE);
        key
    }

    /// For tests that need an empty name space, fill tables or change limits.
    pub fn needs_own_name_space(&self) -> std::result::Result<(), &'static str> {
        if self.own_name_space {
            Ok(())
        } else {
            Err("needs an IPC name space of its own, and none can be made here")
        }
    }

    /// For tests of what only the kernel offers.
    pub fn needs_kernel(&self) -> std::result::Result<(), &'static str> {
        if self.is_kernel {
            Ok(())
        } else {
            Err("speaks of IPC name spaces, which are the kernel's")
        }
    }

    /// For tests of the files in which the kernel lists objects.
    pub fn needs_files(&self) -> std::result::Result<(), &'static str> {
        if self.has_files {
            Ok(())
        } else {
            Err("speaks of files, which nobody shows here")
        }
    }

    /// For tests of what no library that runs in the calling process can do.
    pub fn needs_more_than_a_library(&self) -> std::result::Result<(), &'static str> {
        if self.is_kernel {
            Ok(())
        } else {
            Err("out of a library's reach: docs/semantics.md says why")
        }
    }

    /// `shmget`.
    pub fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        let answer = self.calls.shmget(key, size, flags);
        record::note(Kind::Segment, key, flags, answer);
        answer
    }

    /// A private segment of `size` bytes and mode 600.
    pub fn segment(&self, size: usize) -> i32 {
        self.shmget(IPC_PRIVATE, size, 0o600).expect("shmget")
    }

    /// `shmat` with no address.
    pub fn shmat(&self, id: i32, flags: i32) -> Result<*mut u8> {
        // SAFETY: with no address the kernel chooses a free one; callers give no SHM_REMAP
        // except to see it refused.
        unsafe { self.calls.shmat(id, ptr::null(), flags) }.map(|base| base.cast())
    }

    /// `shmat` at an address; tests with `SHM_REMAP` replace only mappings of their own.
    pub fn shmat_at(&self, id: i32, address: *const u8, flags: i32) -> Result<*mut u8> {
        // SAFETY: with SHM_REMAP the tests name only ranges that they mapped themselves and hold
        // no references into.
        unsafe { self.calls.shmat(id, address.cast(), flags) }.map(|base| base.cast())
    }

    /// `shmdt`.
    pub fn shmdt(&self, address: *const u8) -> Result<()> {
        // SAFETY: the tests hold no references into attaches.
        unsafe { self.calls.shmdt(address.cast()) }
    }

    /// `shmctl` for commands that take no buffer.
    pub fn shmctl(&self, id: i32, command: i32) -> Result<i32> {
        // SAFETY: null is no address of the caller's.
        let answer = unsafe { self.calls.shmctl(id, command, ptr::null_mut()) };
        record::forget(Kind::Segment, id, command, answer);
        answer
    }

    /// `shmctl` with any buffer, `shminfo` and `shm_info` included.
    pub fn shmctl_with<T: Plain>(&self, id: i32, command: i32, buffer: &mut T) -> Result<i32> {
        let mut space = Room::new(*buffer);
        // SAFETY: `space` is valid for writing any of the structures of shmctl.
        let answer = unsafe { self.calls.shmctl(id, command, space.address().cast()) };
        *buffer = space.value;
        answer
    }

    /// `IPC_STAT`.
    pub fn shm_stat(&self, id: i32) -> Result<shmid_ds> {
        let mut status = shmid_ds::default();
        self.shmctl_with(id, IPC_STAT, &mut status)?;
        Ok(status)
    }

    /// `IPC_SET`.
    pub fn shm_set(&self, id: i32, status: &shmid_ds) -> Result<()> {
        self.shmctl_with(id, IPC_SET, &mut status.clone()).map(drop)
    }

    /// `IPC_RMID`.
    pub fn shm_remove(&self, id: i32) -> Result<()> {
        self.shmctl(id, IPC_RMID).map(drop)
    }

    /// The attach count of a segment.
    pub fn attaches(&self, id: i32) -> u64 {
        self.shm_stat(id).expect("IPC_STAT").shm_nattch
    }

    /// Waits until a segment has this many attaches: for tests of something else than how fast a
    /// process that has ended loses its own (see `process::undisturbed`).
    #[track_caller]
    pub fn wait_attaches(&self, id: i32, expected: u64) {
        crate::process::wait_until(crate::process::BOUND, || self.attaches(id) == expected);
    }

    /// `msgget`.
    pub fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        let answer = self.calls.msgget(key, flags);
        record::note(Kind::Queue, key, flags, answer);
        answer
    }

    /// A private queue of mode 600.
    pub fn queue(&self) -> i32 {
        self.msgget(IPC_PRIVATE, 0o600).expect("msgget")
    }

    /// `msgsnd`.
    pub fn msgsnd(&self, id: i32, message_type: i64, text: &[u8], flags: i32) -> Result<()> {
        let mut message = message_type.to_ne_bytes().to_vec();
        message.extend_from_slice(text);
        // SAFETY: the buffer holds a long and `text.len()` bytes.
        unsafe {
            self.calls
                .msgsnd(id, message.as_ptr().cast(), text.len(), flags)
        }
    }

    /// `msgrcv`: the type and the text, at most `size` bytes.
    pub fn msgrcv(
        &self,
        id: i32,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<(i64, Vec<u8>)> {
        let mut message = vec![0u8; 8 + size];
        let buffer = message.as_mut_ptr().cast::<c_void>();
        // SAFETY: the buffer has room for a long and `size` bytes.
        let length = unsafe { self.calls.msgrcv(id, buffer, size, message_type, flags) }?;
        assert!(
            length <= size,
            "msgrcv answered {length} for a buffer of {size}"
        );
        let mut word = [0u8; 8];
        word.copy_from_slice(&message[..8]);
        Ok((i64::from_ne_bytes(word), message[8..8 + length].to_vec()))
    }

    /// `msgctl` for commands that take no buffer.
    pub fn msgctl(&self, id: i32, command: i32) -> Result<i32> {
        // SAFETY: null is no address of the caller's.
        let answer = unsafe { self.calls.msgctl(id, command, ptr::null_mut()) };
        record::forget(Kind::Queue, id, command, answer);
        answer
    }

    /// `msgctl` with any buffer, `msginfo` included.
    pub fn msgctl_with<T: Plain>(&self, id: i32, command: i32, buffer: &mut T) -> Result<i32> {
        let mut space = Room::new(*buffer);
        // SAFETY: `space` is valid for writing any of the structures of msgctl.
        let answer = unsafe { self.calls.msgctl(id, command, space.address().cast()) };
        *buffer = space.value;
        answer
    }

    /// `IPC_STAT`.
    pub fn msg_stat(&self, id: i32) -> Result<msqid_ds> {
        let mut status = msqid_ds::default();
        self.msgctl_with(id, IPC_STAT, &mut status)?;
        Ok(status)
    }

    /// `IPC_SET`.
    pub fn msg_set(&self, id: i32, status: &msqid_ds) -> Result<()> {
        self.msgctl_with(id, IPC_SET, &mut status.clone()).map(drop)
    }

    /// `IPC_RMID`.
    pub fn msg_remove(&self, id: i32) -> Result<()> {
        self.msgctl(id, IPC_RMID).map(drop)
    }

    /// `semget`.
    pub fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        let answer = self.calls.semget(key, count, flags);
        record::note(Kind::Set, key, flags, answer);
        answer
    }

    /// A private set of `count` semaphores and mode 600.
    pub fn set(&self, count: i32) -> i32 {
        self.semget(IPC_PRIVATE, count, 0o600).expect("semget")
    }

    /// `semop` with (`sem_num`, `sem_op`, `sem_flg`).
    pub fn semop(&self, id: i32, operations: &[(u16, i16, i16)]) -> Result<()> {
        let operations = sembufs(operations);
        // SAFETY: a slice is valid for reading its elements.
        unsafe { self.calls.semop(id, operations.as_ptr(), operations.len()) }
    }

    /// `semtimedop` with (`sem_num`, `sem_op`, `sem_flg`).
    pub fn semtimedop(
        &self,
        id: i32,
        operations: &[(u16, i16, i16)],
        timeout: &timespec,
    ) -> Result<()> {
        let operations = sembufs(operations);
        // SAFETY: a slice is valid for reading its elements, a reference for reading.
        unsafe {
            self.calls
                .semtimedop(id, operations.as_ptr(), operations.len(), timeout)
        }
    }

    /// `semctl` for commands that take no address: `SETVAL`'s argument is the value.
    pub fn semctl(&self, id: i32, number: i32, command: i32, value: i32) -> Result<i32> {
        // SAFETY: the tests use it only for commands that take no address, or with a word that is
        // no address of ours.
        let answer = unsafe {
            self.calls
                .semctl(id, number, command, value as isize as usize)
        };
        record::forget(Kind::Set, id, command, answer);
        answer
    }

    /// `semctl` with any buffer, `semid_ds` and `seminfo`.
    pub fn semctl_with<T: Plain>(
        &self,
        id: i32,
        number: i32,
        command: i32,
        buffer: &mut T,
    ) -> Result<i32> {
        let mut space = Room::new(*buffer);
        // SAFETY: `space` is valid for writing any of the structures of semctl.
        let answer = unsafe {
            self.calls
                .semctl(id, number, command, space.address() as usize)
        };
        *buffer = space.value;
        answer
    }

    /// `IPC_STAT`.
    pub fn sem_stat(&self, id: i32) -> Result<semid_ds> {
        let mut status = semid_ds::default();
        self.semctl_with(id, 0, IPC_STAT, &mut status)?;
        Ok(status)
    }

    /// `IPC_SET`.
    pub fn sem_set(&self, id: i32, status: &semid_ds) -> Result<()> {
        self.semctl_with(id, 0, IPC_SET, &mut status.clone())
            .map(drop)
    }

    /// `IPC_RMID`.
    pub fn sem_remove(&self, id: i32) -> Result<()> {
        self.semctl(id, 0, IPC_RMID, 0).map(drop)
    }

    /// `GETVAL`.
    pub fn sem_value(&self, id: i32, number: i32) -> Result<i32> {
        self.semctl(id, number, GETVAL, 0)
    }

    /// `SETVAL`.
    pub fn sem_set_value(&self, id: i32, number: i32, value: i32) -> Result<()> {
        self.semctl(id, number, SETVAL, value).map(drop)
    }

    /// `GETALL` of a set of `count` semaphores.
    pub fn sem_values(&self, id: i32, count: usize) -> Result<Vec<u16>> {
        let mut values = vec![0u16; count];
        // SAFETY: the tests give the set's own count.
        unsafe {
            self.calls
                .semctl(id, 0, GETALL, values.as_mut_ptr() as usize)
        }?;
        Ok(values)
    }

    /// `SETALL` with as many values as the set has semaphores.
    pub fn sem_set_values(&self, id: i32, values: &[u16]) -> Result<()> {
        // SAFETY: the tests give as many values as the set has semaphores.
        unsafe { self.calls.semctl(id, 0, SETALL, values.as_ptr() as usize) }.map(drop)
    }
}

/// `sembuf`s from (`sem_num`, `sem_op`, `sem_flg`).
pub fn sembufs(operations: &[(u16, i16, i16)]) -> Vec<sembuf> {
    operations
        .iter()
        .map(|&(sem_num, sem_op, sem_flg)| sembuf {
            sem_num,
            sem_op,
            sem_flg,
        })
        .collect()
}

/// The structures that control commands fill.
pub trait Plain: Copy {}
impl Plain for shmid_ds {}
impl Plain for shminfo {}
impl Plain for shm_info {}
impl Plain for msqid_ds {}
impl Plain for msginfo {}
impl Plain for semid_ds {}
impl Plain for seminfo {}

/// A structure with spare room behind it, so that a command that fills another one than the test
/// expects does no harm.
#[repr(C)]
struct Room<T> {
    value: T,
    spare: [u64; 16],
}

impl<T: Plain> Room<T> {
    fn new(value: T) -> Self {
        Self {
            value,
            spare: [0; 16],
        }
    }

    fn address(&mut self) -> *mut Self {
        ptr::from_mut(self)
    }
}

/// `ftok` as libc has it.
pub fn libc_ftok(path: &Path, project: i32) -> Result<i32> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
    // SAFETY: a string that ends in NUL.
    match unsafe { libc::ftok(path.as_ptr(), project) } {
        -1 => Err(last_error()),
        key => Ok(key),
    }
}

/// What `errno` holds.
pub fn last_error() -> Errno {
    let errno = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(errno.expect("an errno"))
}
