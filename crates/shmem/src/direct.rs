//! System calls that `rustix` has not, made by number.
//!
//! Not through libc: in a process with a library of ours loaded before it, and maybe others that
//! wrap the same names, libc's functions are not the kernel's.

pub(crate) use sysv::syscall;

pub(crate) const RT_SIGACTION: usize = 13;
pub(crate) const RT_SIGPROCMASK: usize = 14;
pub(crate) const MINCORE: usize = 27;
pub(crate) const FCNTL: usize = 72;
pub(crate) const FUTEX: usize = 202;
pub(crate) const RT_SIGPENDING: usize = 127;
pub(crate) const PROCESS_VM_READV: usize = 310;
pub(crate) const PROCESS_VM_WRITEV: usize = 311;
