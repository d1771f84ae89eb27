//! The targets: who answers the calls.

use crate::harness::{Switches, Target, last_error, libc_ftok};
use crate::preloaded;
use crate::user_space::{self, InUserSpace};
use checks::isolate::leave_name_space;
use std::ffi::{c_int, c_void};
use sysv::abi::*;
use sysv::{Calls, Kernel, Result};

/// Every target, in the order of the report.
pub const TARGETS: &[Target] = &[
    Target {
        name: "kernel",
        calls: &Kernel,
        // There is no system call of that name: the safe interface makes the key from what the
        // kernel says about the file.
        ftok: |path, project| sysv::Key::ftok(path, project as u8).map(sysv::Key::raw),
        uses_errno: false,
        is_kernel: true,
        has_files: true,
        own_name_space: false,
        leave: leave_name_space,
        limits: &KERNEL_SWITCHES,
    },
    Target {
        name: "libc",
        calls: &Libc,
        ftok: libc_ftok,
        uses_errno: true,
        is_kernel: true,
        has_files: true,
        own_name_space: false,
        leave: leave_name_space,
        limits: &KERNEL_SWITCHES,
    },
    Target {
        name: "userspace",
        calls: &InUserSpace,
        ftok: |path, project| sysv::Key::ftok(path, project as u8).map(sysv::Key::raw),
        uses_errno: false,
        is_kernel: false,
        has_files: false,
        own_name_space: false,
        leave: user_space::enter,
        limits: &user_space::SWITCHES,
    },
    Target {
        name: "preload",
        calls: &Libc,
        ftok: libc_ftok,
        uses_errno: true,
        is_kernel: false,
        has_files: true,
        own_name_space: false,
        leave: preloaded::enter,
        limits: &preloaded::SWITCHES,
    },
];

/// The files under `/proc/sys/kernel`.
const KERNEL_SWITCHES: Switches = Switches {
    read: |name| {
        std::fs::read_to_string(format!("/proc/sys/kernel/{name}"))
            .map(|text| text.trim().to_string())
            .map_err(|_| "a switch of the kernel cannot be read here")
    },
    set: |name, value| {
        std::fs::write(format!("/proc/sys/kernel/{name}"), value)
            .map_err(|_| "the kernel's switches cannot be changed here")
    },
};

/// The symbols that a C program is linked to: libc's, or those of a library loaded before it.
#[derive(Clone, Copy, Debug)]
pub struct Libc;

unsafe extern "C" {
    fn shmget(key: key_t, size: usize, flags: c_int) -> c_int;
    fn shmat(id: c_int, address: *const c_void, flags: c_int) -> *mut c_void;
    fn shmdt(address: *const c_void) -> c_int;
    fn shmctl(id: c_int, command: c_int, buf: *mut shmid_ds) -> c_int;
    fn msgget(key: key_t, flags: c_int) -> c_int;
    fn msgsnd(id: c_int, message: *const c_void, size: usize, flags: c_int) -> c_int;
    fn msgrcv(
        id: c_int,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: c_int,
    ) -> isize;
    fn msgctl(id: c_int, command: c_int, buf: *mut msqid_ds) -> c_int;
    fn semget(key: key_t, count: c_int, flags: c_int) -> c_int;
    fn semop(id: c_int, operations: *const sembuf, count: usize) -> c_int;
    fn semtimedop(
        id: c_int,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> c_int;
    fn semctl(id: c_int, number: c_int, command: c_int, ...) -> c_int;
}

/// C's answer as a `Result`.
fn answer(value: c_int) -> Result<i32> {
    if value == -1 {
        Err(last_error())
    } else {
        Ok(value)
    }
}

// SAFETY: the C functions are what docs/semantics.md describes.
unsafe impl Calls for Libc {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        // SAFETY: no pointers.
        answer(unsafe { shmget(key, size, flags) })
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        // SAFETY: the caller's promise.
        let base = unsafe { shmat(id, address, flags) };
        if base as isize == -1 {
            Err(last_error())
        } else {
            Ok(base)
        }
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        answer(unsafe { shmdt(address) }).map(drop)
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        answer(unsafe { shmctl(id, command, buf) })
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        // SAFETY: no pointers.
        answer(unsafe { msgget(key, flags) })
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        answer(unsafe { msgsnd(id, message, size, flags) }).map(drop)
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
        let length = unsafe { msgrcv(id, message, size, message_type, flags) };
        usize::try_from(length).map_err(|_| last_error())
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        answer(unsafe { msgctl(id, command, buf) })
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        // SAFETY: no pointers.
        answer(unsafe { semget(key, count, flags) })
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        answer(unsafe { semop(id, operations, count) }).map(drop)
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        answer(unsafe { semtimedop(id, operations, count, timeout) }).map(drop)
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        // SAFETY: the caller's promise; a word covers every member of `union semun`.
        answer(unsafe { semctl(id, number, command, argument) })
    }
}
