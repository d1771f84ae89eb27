//! System V IPC of Linux: the twelve calls, and the safe interface that stands on them.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("tombolo-sysv knows the system calls of x86-64 Linux only");

pub mod abi;
mod calls;
mod raw;

pub use calls::Calls;
pub use raw::Kernel;
pub use rustix::io::Errno;

/// What a System V call answers.
pub type Result<T> = std::result::Result<T, Errno>;
