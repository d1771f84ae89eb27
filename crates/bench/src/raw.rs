//! The unsafe floor of this crate: shared memory without any protection, and descriptors that a
//! process was born with.
//!
//! The bare rings are there to show what the machine can do, so they reach memory by pointers.
//! Everything of Tombolo is measured through its safe interface.

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Zeroed memory that is shared by whoever has the descriptor.
///
/// # Errors
/// What the kernel says.
pub fn memory(length: usize) -> Result<OwnedFd> {
    let fd = memfd_create("tombolo-bench", MemfdFlags::CLOEXEC).context("memfd_create")?;
    ftruncate(&fd, length as u64).context("ftruncate")?;
    Ok(fd)
}

/// Leaves for an IPC name space of this process's own, if it may: what is made there goes with it,
/// however it ends. Answers whether it did.
pub fn leave_name_space() -> bool {
    // SAFETY: does not touch the table of descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }.is_ok()
}

/// A descriptor that this process was born with.
///
/// # Errors
/// If there is none of that number.
pub fn inherited(number: i32) -> Result<OwnedFd> {
    // SAFETY: borrowed for the duplicate only; a number that is closed makes that fail.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let copy =
        rustix::io::fcntl_dupfd_cloexec(fd, 0).context("the descriptor was not handed on")?;
    // SAFETY: `number` came from the process that started this one, for this end to use alone;
    // nothing else here knows it, so closing it takes it from nobody.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(copy)
}

/// Shared memory mapped by this process.
///
/// # Invariants
/// `base` is page-aligned and valid for reads and writes of `length` bytes until dropped.
#[derive(Debug)]
pub struct Map {
    base: *mut u8,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Map {}

impl Map {
    /// Maps the memory behind a descriptor, all of it at once: the first lap of a ring is not to be spent on
    /// page faults, of which 1 MiB has 256.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(fd: &OwnedFd) -> Result<Self> {
        let length = rustix::fs::fstat(fd).context("fstat")?.st_size as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let base = unsafe { mmap(null_mut(), length, protection, flags, fd, 0) };
        let base = base.context("mmap")?.cast();
        // INVARIANT: just mapped for both; unmapped by `drop` only.
        Ok(Self { base, length })
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "no mapping is empty")]
    pub fn len(&self) -> usize {
        self.length
    }

    /// The word at an offset.
    #[inline]
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.length && offset.is_multiple_of(8));
        // SAFETY: inside the mapping, as just checked.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned and in bounds, and reached by atomics only.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// The half word at an offset.
    #[inline]
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.length && offset.is_multiple_of(4));
        // SAFETY: inside the mapping, as just checked.
        let word = unsafe { self.base.add(offset) };
        // SAFETY: aligned and in bounds, and reached by atomics only.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    /// Where the byte at an offset is.
    #[inline]
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.length);
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.add(offset) }
    }

    /// Copies bytes in.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= self.length);
        let to = self.at(offset);
        // SAFETY: in bounds, as just checked; `from` is no part of a mapping.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }

    /// Copies bytes out.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        assert!(offset + to.len() <= self.length);
        let from = self.at(offset);
        // SAFETY: in bounds, as just checked; `to` is no part of a mapping.
        unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has a reference into it any more. An error would
        // leave it mapped, which hurts nobody.
        let _ = unsafe { munmap(self.base.cast(), self.length) };
    }
}
