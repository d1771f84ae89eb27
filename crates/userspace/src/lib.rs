//! System V in user space: shared memory, message queues and semaphores over a registry in shared
//! memory, without the kernel's.
//!
//! Everything of a name space is in one sparse file that every process maps once. After that no
//! call needs a descriptor or a path, and none stays open between calls: programs close all
//! descriptors, change their root, fill their table.
//!
//! ```text
//!   registry   tables of ids ─── slots ─── attaches, messages, adjustments, sleepers (blocks)
//!              table of processes ────────┘
//!   pages      segment │ segment │ …          mapped again by mremap, wherever shmat wants them
//! ```
//!
//! - [`layout`] what stands where; [`list`] and `table`: lists, and ids with their keys
//! - [`space`] a name space: creating, opening, limits, locks
//! - [`process`] who takes part, who has died, what `fork` and `exec` leave
//! - [`caller`] credentials and permissions
//! - `shm`, `attaches`, `shm_control` segments
//! - `msg`, `msg_wait`, `msg_control` queues, on [`tombolo::mailbox_store`]; `msg_lane` the
//!   short way between two that are awake, on [`tombolo::mailbox_lane`]
//! - `sem`, `sem_perform`, `sem_undo`, `sem_control` sets
//! - [`cancel`] threads that are cancelled while they sleep
//! - `spin`, `sleepers` calls that have to wait: how they look first, sleep, and are served; `left`
//!   those that a handler leaves
//! - [`trace`] a ring of the calls that were made, apart from all this
//!
//! **Protocol.** Each of the three kinds has one robust lock. A call takes it (or, for a short message
//! between two that are awake, one of the two of the queue's lane), makes its changes as
//! one transaction ([`shmem::journal`]), commits, lets go, and wakes those who are concerned. Bytes
//! of the caller are never touched under the lock; they are copied before or after. A thread that
//! holds a lock takes no signals.
//!
//! **Crash.** A call that is killed before its commit has not happened; whoever takes the lock next
//! puts everything back. Killed after, it has happened: what it did not come to is waking, and no
//! sleep is longer than a slice. What a dead process had is settled by whoever comes across it: its
//! attaches are detached, its sleeping calls forgotten, its adjustments applied.
//!
//! | killed | leaves | until |
//! | --- | --- | --- |
//! | before the lock | a claimed slot | the table is full and somebody looks |
//! | under the lock, before the commit | the lock, and notes of what to put back | the next call of that kind, 50 ms if it waits already |
//! | in a lane, before the mark is moved | the lock of a side | a call of that queue goes the long way |
//! | after the commit | sleepers that can go on and were not woken | their slice ends, 100 ms |
//! | while giving a segment's pages back | a slot that is marked as dying | the next who inherits the lock |
//! | between mapping and counting (`shmat`) | nothing: the mapping went with it | |
//!
//! **A peer that lies** can spoil what is in the name space, whose file it can write anyway: a name
//! space that users share is cooperative. It can't make a call of ours crash or go on for ever:
//! numbers from the registry are checked, walks are counted, a damaged registry is `EUCLEAN`.
//!
//! **Limits.** 8,192 processes and 4 TiB of segments at once. Who is stopped (`SIGSTOP`) in the
//! middle of a call keeps others of that kind waiting.
#![forbid(unsafe_code)]

mod attaches;
pub mod caller;
pub mod cancel;
pub mod layout;
mod left;
pub mod list;
mod msg;
mod msg_control;
mod msg_hand;
mod msg_lane;
mod msg_wait;
pub mod process;
mod sem;
mod sem_control;
mod sem_perform;
mod sem_undo;
mod shm;
mod shm_control;
mod sleepers;
pub mod space;
mod spin;
mod table;
pub mod trace;
pub mod under_way;

pub use caller::{Caller, Capability};
pub use layout::Facility;

pub use msg::Deliver;
pub use process::{Fork, USERS_BYTE};
pub use sem_control::Question;

pub use shm::Remap;
pub use shm_control::Attached;
pub use space::{Limits, Space};

/// Whose status a call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// That of the object with an id (`IPC_STAT`).
    Id(i32),
    /// That of the object at an index (`SHM_STAT` and its like).
    Index(i32),
    /// The same, whatever its mode (`SHM_STAT_ANY` and its like).
    Any(i32),
}
