//! The twelve calls in their C shape: what the kernel implements, and what anything that stands
//! in for the kernel must implement.

use crate::Result;
use crate::abi::*;
use std::ffi::c_void;

/// The twelve System V calls, with the arguments that C programs give them.
///
/// An error is the `errno` that the C function would set. Pointers that a call reads or writes
/// may be bad: the answer is then `EFAULT`, as from the kernel. They need no alignment.
///
/// A reference to an implementer is an implementer, `&dyn Calls` included.
///
/// # Safety
/// An implementer keeps to `docs/semantics.md`. In particular it writes only where the call's
/// description says that it writes, a successful `shmat` answers the base of a mapping of the
/// whole segment that stays until `shmdt` of that base, and no mapping that exists is replaced
/// unless `SHM_REMAP` asks for it.
pub unsafe trait Calls {
    /// Finds or creates a segment and answers its id.
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32>;

    /// Maps a segment.
    ///
    /// # Safety
    /// With `SHM_REMAP`, nothing that lives in the range is used afterwards.
    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void>;

    /// Unmaps an attach by its base.
    ///
    /// # Safety
    /// Nothing in the attach is used afterwards.
    unsafe fn shmdt(&self, address: *const c_void) -> Result<()>;

    /// Controls a segment. Answers 0, or an id or index where the command has one.
    ///
    /// # Safety
    /// `buf` is valid for what `command` reads or writes there, or is no address of the caller's.
    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32>;

    /// Finds or creates a message queue and answers its id.
    fn msgget(&self, key: key_t, flags: i32) -> Result<i32>;

    /// Appends a message.
    ///
    /// # Safety
    /// `message` is valid for reading a `long` and `size` bytes after it, or is no address of the
    /// caller's.
    unsafe fn msgsnd(&self, id: i32, message: *const c_void, size: usize, flags: i32)
    -> Result<()>;

    /// Takes a message and answers the length of its text in bytes.
    ///
    /// # Safety
    /// `message` is valid for writing a `long` and `size` bytes after it, or is no address of the
    /// caller's.
    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize>;

    /// Controls a message queue. Answers 0, or an id or index where the command has one.
    ///
    /// # Safety
    /// `buf` is valid for what `command` reads or writes there, or is no address of the caller's.
    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32>;

    /// Finds or creates a semaphore set and answers its id.
    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32>;

    /// Performs operations on a set, all or none, waiting as long as it takes.
    ///
    /// # Safety
    /// `operations` is valid for reading `count` of them, or is no address of the caller's.
    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()>;

    /// Performs operations on a set, all or none, waiting no longer than `timeout`.
    ///
    /// # Safety
    /// As [`semop`](Self::semop); `timeout` is null, valid for reading, or no address of the
    /// caller's.
    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()>;

    /// Controls a semaphore set. Answers 0, or the value, count, pid, id or index that the
    /// command asks for. `argument` is C's `union semun` as a word: the value for `SETVAL`, an
    /// address where the command takes one, otherwise ignored.
    ///
    /// # Safety
    /// The address in `argument`, where `command` has one, is valid for what the command reads or
    /// writes there, or is no address of the caller's.
    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32>;
}

// SAFETY: every call goes to `T`, which keeps to the contract.
unsafe impl<T: Calls + ?Sized> Calls for &T {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        (**self).shmget(key, size, flags)
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        // SAFETY: the caller's promise.
        unsafe { (**self).shmat(id, address, flags) }
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { (**self).shmdt(address) }
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { (**self).shmctl(id, command, buf) }
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        (**self).msgget(key, flags)
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { (**self).msgsnd(id, message, size, flags) }
    }

    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize> {
        // SAFETY: the caller's promise.
        unsafe { (**self).msgrcv(id, message, size, message_type, flags) }
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { (**self).msgctl(id, command, buf) }
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        (**self).semget(key, count, flags)
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { (**self).semop(id, operations, count) }
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { (**self).semtimedop(id, operations, count, timeout) }
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { (**self).semctl(id, number, command, argument) }
    }
}
