//! System V IPC for today: channels over shared memory.
#![forbid(unsafe_code)]

pub use {shmem, sysv};
