//! System calls that `rustix` has not, made by number.
//!
//! Not through libc: in a process with a library of ours loaded before it, and maybe others that
//! wrap the same names, libc's functions are not the kernel's.

use std::arch::asm;
use sysv::{Errno, Result};

pub(crate) const RT_SIGACTION: usize = 13;
pub(crate) const RT_SIGPROCMASK: usize = 14;
pub(crate) const MINCORE: usize = 27;
pub(crate) const FCNTL: usize = 72;
pub(crate) const RT_SIGPENDING: usize = 127;
pub(crate) const PROCESS_VM_READV: usize = 310;
pub(crate) const PROCESS_VM_WRITEV: usize = 311;

/// Errors come back as the last 4095 values of the address space.
const LOWEST_ERROR: usize = -4095isize as usize;

/// Enters the kernel with up to six arguments.
///
/// # Safety
/// The arguments are right for the call: pointers valid for what it reads and writes, and nothing
/// the call takes away is used afterwards.
#[inline]
pub(crate) unsafe fn syscall(number: usize, arguments: [usize; 6]) -> Result<usize> {
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
