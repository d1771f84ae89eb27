//! The kernel, asked by system-call number.
//!
//! Not through libc: inside a process that runs under the preload library, libc's names, its
//! `syscall()` included, are ours, and this code would call itself.

use crate::abi::*;
use crate::{Calls, Errno, Result};
use std::arch::asm;
use std::ffi::c_void;

const SHMGET: usize = 29;
const SHMAT: usize = 30;
const SHMCTL: usize = 31;
const SEMGET: usize = 64;
const SEMOP: usize = 65;
const SEMCTL: usize = 66;
const SHMDT: usize = 67;
const MSGGET: usize = 68;
const MSGSND: usize = 69;
const MSGRCV: usize = 70;
const MSGCTL: usize = 71;
const SEMTIMEDOP: usize = 220;

/// Errors come back as the last 4095 values of the address space.
const LOWEST_ERROR: usize = -4095isize as usize;

/// Enters the kernel, by the number of any call, with up to six arguments.
///
/// # Errors
/// Those of the call.
///
/// # Safety
/// The arguments are right for the call: pointers valid for what it reads and writes, or no
/// addresses of the caller's, and nothing the call takes away is used afterwards.
#[inline]
pub unsafe fn syscall(number: usize, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let answer: usize;
    // SAFETY: the x86-64 kernel takes the number in rax and arguments in rdi, rsi, rdx, r10, r8,
    // r9, answers in rax, and changes only rcx and r11 beside it; what it does to memory is the
    // caller's promise. The stack is not touched.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if answer >= LOWEST_ERROR {
        Err(Errno::from_raw_os_error(answer.wrapping_neg() as i32))
    } else {
        Ok(answer)
    }
}

/// An `int` as the kernel takes it.
fn int(value: i32) -> usize {
    value as isize as usize
}

/// The kernel's own System V IPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kernel;

// SAFETY: the kernel is what docs/semantics.md describes.
unsafe impl Calls for Kernel {
    fn shmget(&self, key: key_t, size: usize, flags: i32) -> Result<i32> {
        // SAFETY: no pointers.
        unsafe { syscall(SHMGET, [int(key), size, int(flags), 0, 0, 0]) }.map(|id| id as i32)
    }

    unsafe fn shmat(&self, id: i32, address: *const c_void, flags: i32) -> Result<*mut c_void> {
        // SAFETY: the caller's promise about SHM_REMAP; otherwise nothing that exists changes.
        unsafe { syscall(SHMAT, [int(id), address as usize, int(flags), 0, 0, 0]) }
            .map(|base| base as *mut c_void)
    }

    unsafe fn shmdt(&self, address: *const c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { syscall(SHMDT, [address as usize, 0, 0, 0, 0, 0]) }.map(drop)
    }

    unsafe fn shmctl(&self, id: i32, command: i32, buf: *mut shmid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { syscall(SHMCTL, [int(id), int(command), buf as usize, 0, 0, 0]) }.map(|n| n as i32)
    }

    fn msgget(&self, key: key_t, flags: i32) -> Result<i32> {
        // SAFETY: no pointers.
        unsafe { syscall(MSGGET, [int(key), int(flags), 0, 0, 0, 0]) }.map(|id| id as i32)
    }

    unsafe fn msgsnd(
        &self,
        id: i32,
        message: *const c_void,
        size: usize,
        flags: i32,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { syscall(MSGSND, [int(id), message as usize, size, int(flags), 0, 0]) }.map(drop)
    }

    unsafe fn msgrcv(
        &self,
        id: i32,
        message: *mut c_void,
        size: usize,
        message_type: i64,
        flags: i32,
    ) -> Result<usize> {
        let arguments = [
            int(id),
            message as usize,
            size,
            message_type as usize,
            int(flags),
            0,
        ];
        // SAFETY: the caller's promise.
        unsafe { syscall(MSGRCV, arguments) }
    }

    unsafe fn msgctl(&self, id: i32, command: i32, buf: *mut msqid_ds) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { syscall(MSGCTL, [int(id), int(command), buf as usize, 0, 0, 0]) }.map(|n| n as i32)
    }

    fn semget(&self, key: key_t, count: i32, flags: i32) -> Result<i32> {
        // SAFETY: no pointers.
        unsafe { syscall(SEMGET, [int(key), int(count), int(flags), 0, 0, 0]) }.map(|id| id as i32)
    }

    unsafe fn semop(&self, id: i32, operations: *const sembuf, count: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { syscall(SEMOP, [int(id), operations as usize, count, 0, 0, 0]) }.map(drop)
    }

    unsafe fn semtimedop(
        &self,
        id: i32,
        operations: *const sembuf,
        count: usize,
        timeout: *const timespec,
    ) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe {
            syscall(
                SEMTIMEDOP,
                [int(id), operations as usize, count, timeout as usize, 0, 0],
            )
        }
        .map(drop)
    }

    unsafe fn semctl(&self, id: i32, number: i32, command: i32, argument: usize) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { syscall(SEMCTL, [int(id), int(number), int(command), argument, 0, 0]) }
            .map(|n| n as i32)
    }
}
