//! The twelve System V calls in their C shape, over a name space in user space.
//!
//! `userspace` takes slices and answers values; C programs give addresses, which may be bad, and
//! expect structures to be filled. This crate stands between: arguments in, checked and copied
//! before any lock is taken; results out, copied when none is held any more.
//!
//! - [`calls`] the twelve calls, as an implementer of [`sysv::Calls`]
//! - [`credentials`] the caller's, asked of the kernel when they matter, or remembered
//! - [`forks`] what has to be done around `fork`
//! - [`files`] the kernel's files about System V objects, with those of a name space
//! - [`program`] whether a program can be served
//! - [`traced`] the same calls, each of which is recorded
//!
//! Nothing here exports a C name, so that a program which links it keeps libc's.

pub mod calls;
pub mod credentials;
pub mod files;
pub mod forks;
pub mod program;
pub mod traced;

pub use calls::InSpace;
pub use credentials::Credentials;
/// Whether handlers may run in the middle of a call: for who sees them being installed.
pub use shmem::signals;
pub use traced::Traced;
