//! The façade that lets loom in: every atomic of this workspace comes from here.
//!
//! Built with `--cfg loom` the same algorithms run on loom's atomics, which try every
//! interleaving and every value that the memory model allows.

#[cfg(not(loom))]
pub use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
