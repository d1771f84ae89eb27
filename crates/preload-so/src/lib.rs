//! `libtombolo_preload.so`: loaded before a program's other libraries (`LD_PRELOAD`), it serves the
//! program's System V calls from a name space in user space.
//!
//! ```text
//!   program ──► shmget, semop, msgsnd, …  ──► preload::InSpace ──► the name space's mapped file
//!           ──► syscall(SYS_semop, …)     ┘
//!           ──► everything else           ──► the next library that has the name, libc at last
//! ```
//!
//! The folder of the name space stands in `TOMBOLO_SPACE`. Without it every call goes to the kernel
//! by number, and nothing is noticed of the library.
//!
//! - [`home`] which name space this process is in; opened by a constructor, before `main`
//! - [`calls`] the names of the calls, with glibc's binary interface
//! - [`by_number`] `syscall()`, for those who call by number
//! - [`open`] `/proc/sysvipc` and its like, as `ipcs` reads them
//! - [`deepbind`] modules that would be bound to libc before us; [`lookup`] who asks libc itself
//! - [`credentials`] the calls after which permissions are asked for anew
//! - [`handlers`] the calls after which a handler might run in the middle of ours
//! - [`cancel`] threads that are cancelled in calls
//! - [`jumps`] calls that are left by `siglongjmp`
//! - [`locking`] memory that stays in memory, without the name space's file
//! - [`exec`] children: who can't be served is named; [`environment`] what has to reach them;
//!   [`shell`] those of `system` and `popen`
//! - [`next`] the names that stand behind ours; [`errno`] answers in C's manner
//!
//! **Rules.** Inside, nothing calls a name that this library or another preload wraps: system
//! calls are made directly. No thread is started, no descriptor stays open, `errno` is left alone on
//! success. The names are exported without versions: a program that was linked to
//! `shmget@GLIBC_2.2.5` finds ours, because a library without versions answers for all of them.
//!
//! **Cost.** Opening: 0.3 ms, once in each image. A call that goes to the kernel: a
//! few nanoseconds more.

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
compile_error!("the library knows the binary interface of glibc on x86-64 Linux only");

mod by_number;
mod calls;
mod cancel;
mod credentials;
mod deepbind;
mod environment;
mod errno;
mod exec;
mod handlers;
mod home;
mod jumps;
mod locking;
mod lookup;
mod next;
mod open;
mod shell;
