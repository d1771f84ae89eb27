//! System V IPC of Linux: the twelve calls, and the safe interface that stands on them.
//!
//! Three kinds of objects live in the kernel, per IPC name space: shared memory [`Segment`]s,
//! message [`Queue`]s and semaphore [`Set`]s. Each is found by a [`Key`], named by an id, owned
//! by a user and a group, and guarded by nine mode bits. Objects outlive the processes that made
//! them, so the handles here own nothing: dropping a [`Segment`] removes nothing. Only attaches
//! ([`Attach`], [`AttachReadOnly`]) belong to a process; they detach when they are dropped.
//!
//! Everything a handle answers is a snapshot: peers create, change and remove objects at any
//! time. An id whose object is gone answers [`Errno::INVAL`], or [`Errno::IDRM`] to a call that
//! was already asleep.
//!
//! # Waiting and signals
//! The kernel ends a blocked call with [`Errno::INTR`] when a signal handler has run, `SA_RESTART`
//! or not. Blocking calls here go on waiting, unless the caller chose to be told
//! ([`Wait::Interruptible`], [`Set::operate_interruptible`]).
//!
//! # Whose calls
//! Handles are generic over an implementer of [`Calls`], the twelve calls in their C shape.
//! [`Kernel`] is the default; constructors that end in `_in` take another.
//!
//! # Examples
//! ```
//! use sysv::{Key, Mode, Segment};
//!
//! let segment = Segment::create(Key::PRIVATE, 4096, Mode::default())?;
//! let attach = segment.attach()?;
//! segment.remove()?; // The kernel frees it at the last detach.
//! assert_eq!(attach.len(), 4096);
//! assert_eq!(segment.status()?.attaches, 1);
//! attach.detach()?;
//! assert_eq!(segment.status(), Err(sysv::Errno::INVAL));
//! # Ok::<(), sysv::Errno>(())
//! ```

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("tombolo-sysv knows the system calls of x86-64 Linux only");

pub mod abi;
mod attach;
mod calls;
pub mod key;
pub mod limits;
mod mappings;
pub mod msg;
pub mod perm;
pub mod procfs;
mod raw;
pub mod sem;
mod shim;
pub mod shm;

pub use attach::{Attach, AttachOptions, AttachReadOnly};
pub use calls::Calls;
pub use key::Key;
pub use limits::{Limit, Limits};
pub use msg::{Queue, Received, Select, Wait};
pub use perm::{Change, Mode, Perm};
pub use raw::{Kernel, syscall};
pub use rustix::io::Errno;
pub use sem::{Operation, Set};
pub use shm::{HugePages, Segment};

/// What a System V call answers.
pub type Result<T> = std::result::Result<T, Errno>;
