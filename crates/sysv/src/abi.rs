//! The binary interface: structures, flags and commands as C programs on x86-64 Linux see them.
//!
//! Names and field order are those of `<sys/shm.h>`, `<sys/msg.h>` and `<sys/sem.h>`; sizes and
//! offsets are pinned below (statements of `docs/semantics.md`). Every type accepts
//! every bit pattern.

#![allow(non_camel_case_types)]

use std::mem::{offset_of, size_of};

/// A System V key.
pub type key_t = i32;

/// `IPC_PRIVATE`: a key that always makes a new object.
pub const IPC_PRIVATE: key_t = 0;
/// Create the object if the key has none.
pub const IPC_CREAT: i32 = 0o1000;
/// With [`IPC_CREAT`]: fail if the key has an object.
pub const IPC_EXCL: i32 = 0o2000;
/// Do not wait.
pub const IPC_NOWAIT: i32 = 0o4000;

/// Remove the object.
pub const IPC_RMID: i32 = 0;
/// Change owner, group and mode.
pub const IPC_SET: i32 = 1;
/// Read the status structure.
pub const IPC_STAT: i32 = 2;
/// Read the limits.
pub const IPC_INFO: i32 = 3;

/// `shmget`: use huge pages.
pub const SHM_HUGETLB: i32 = 0o4000;
/// `shmget`: reserve no swap.
pub const SHM_NORESERVE: i32 = 0o10000;
/// `shmget`: where the logarithm of the huge page size stands in the flags.
pub const SHM_HUGE_SHIFT: i32 = 26;

/// `shmat`: read-only.
pub const SHM_RDONLY: i32 = 0o10000;
/// `shmat`: round the address down to a page.
pub const SHM_RND: i32 = 0o20000;
/// `shmat`: replace what is mapped there.
pub const SHM_REMAP: i32 = 0o40000;
/// `shmat`: map executable.
pub const SHM_EXEC: i32 = 0o100000;

/// `shmctl`: keep the segment in memory.
pub const SHM_LOCK: i32 = 11;
/// `shmctl`: let the segment be swapped.
pub const SHM_UNLOCK: i32 = 12;
/// `shmctl`: status by index.
pub const SHM_STAT: i32 = 13;
/// `shmctl`: what the segments use together.
pub const SHM_INFO: i32 = 14;
/// `shmctl`: status by index, whatever the mode.
pub const SHM_STAT_ANY: i32 = 15;

/// Mode flag: the segment goes at its last detach.
pub const SHM_DEST: u32 = 0o1000;
/// Mode flag: the segment is locked in memory.
pub const SHM_LOCKED: u32 = 0o2000;

/// `msgrcv`: cut a message that is too long.
pub const MSG_NOERROR: i32 = 0o10000;
/// `msgrcv`: any type but this one.
pub const MSG_EXCEPT: i32 = 0o20000;
/// `msgrcv`: copy the message at a position, change nothing.
pub const MSG_COPY: i32 = 0o40000;

/// `msgctl`: status by index.
pub const MSG_STAT: i32 = 11;
/// `msgctl`: what the queues use together.
pub const MSG_INFO: i32 = 12;
/// `msgctl`: status by index, whatever the mode.
pub const MSG_STAT_ANY: i32 = 13;

/// `semop`: undo the operation when the process ends.
pub const SEM_UNDO: i16 = 0x1000;

/// `semctl`: pid of the last operation.
pub const GETPID: i32 = 11;
/// `semctl`: value of one semaphore.
pub const GETVAL: i32 = 12;
/// `semctl`: all values.
pub const GETALL: i32 = 13;
/// `semctl`: how many wait for an increase.
pub const GETNCNT: i32 = 14;
/// `semctl`: how many wait for zero.
pub const GETZCNT: i32 = 15;
/// `semctl`: set one semaphore.
pub const SETVAL: i32 = 16;
/// `semctl`: set all semaphores.
pub const SETALL: i32 = 17;
/// `semctl`: status by index.
pub const SEM_STAT: i32 = 18;
/// `semctl`: what the sets use together.
pub const SEM_INFO: i32 = 19;
/// `semctl`: status by index, whatever the mode.
pub const SEM_STAT_ANY: i32 = 20;

/// The largest value of a semaphore.
pub const SEMVMX: u16 = 32767;

/// How many objects of one kind an IPC name space can number: an id is sequence × this + index.
pub const IPCMNI: i32 = 32768;

/// Owner, creator, mode and key of an object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ipc_perm {
    /// The key.
    pub __key: key_t,
    /// Owner's user.
    pub uid: u32,
    /// Owner's group.
    pub gid: u32,
    /// Creator's user.
    pub cuid: u32,
    /// Creator's group.
    pub cgid: u32,
    /// Nine permission bits, and status bits above them.
    pub mode: u32,
    /// The sequence number in the id.
    pub __seq: u16,
    #[doc(hidden)]
    pub __pad: [u16; 3],
    #[doc(hidden)]
    pub __unused: [u64; 2],
}

/// Status of a segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct shmid_ds {
    /// Owner, creator, mode, key.
    pub shm_perm: ipc_perm,
    /// Size in bytes, as asked for.
    pub shm_segsz: u64,
    /// Last attach, seconds since the epoch, 0 for never.
    pub shm_atime: i64,
    /// Last detach, seconds since the epoch, 0 for never.
    pub shm_dtime: i64,
    /// Creation or last `IPC_SET`, seconds since the epoch.
    pub shm_ctime: i64,
    /// Who created it.
    pub shm_cpid: i32,
    /// Who attached or detached last.
    pub shm_lpid: i32,
    /// How many attaches there are.
    pub shm_nattch: u64,
    #[doc(hidden)]
    pub __unused: [u64; 2],
}

/// Status of a message queue.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct msqid_ds {
    /// Owner, creator, mode, key.
    pub msg_perm: ipc_perm,
    /// Last `msgsnd`, seconds since the epoch, 0 for never.
    pub msg_stime: i64,
    /// Last `msgrcv`, seconds since the epoch, 0 for never.
    pub msg_rtime: i64,
    /// Creation or last `IPC_SET`, seconds since the epoch.
    pub msg_ctime: i64,
    /// Bytes queued.
    pub __msg_cbytes: u64,
    /// Messages queued.
    pub msg_qnum: u64,
    /// Bytes the queue may hold.
    pub msg_qbytes: u64,
    /// Who sent last.
    pub msg_lspid: i32,
    /// Who received last.
    pub msg_lrpid: i32,
    #[doc(hidden)]
    pub __unused: [u64; 2],
}

/// Status of a semaphore set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct semid_ds {
    /// Owner, creator, mode, key.
    pub sem_perm: ipc_perm,
    /// Last `semop`, seconds since the epoch, 0 for never.
    pub sem_otime: i64,
    #[doc(hidden)]
    pub __unused1: u64,
    /// Creation, last `IPC_SET`, `SETVAL` or `SETALL`, seconds since the epoch.
    pub sem_ctime: i64,
    #[doc(hidden)]
    pub __unused2: u64,
    /// How many semaphores the set has.
    pub sem_nsems: u64,
    #[doc(hidden)]
    pub __unused3: [u64; 2],
}

/// One operation of a `semop`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct sembuf {
    /// Which semaphore of the set, from 0.
    pub sem_num: u16,
    /// Add, subtract, or wait for zero.
    pub sem_op: i16,
    /// [`IPC_NOWAIT`] and [`SEM_UNDO`].
    pub sem_flg: i16,
}

/// Limits of segments (`IPC_INFO`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct shminfo {
    /// Largest segment, bytes.
    pub shmmax: u64,
    /// Smallest segment, bytes.
    pub shmmin: u64,
    /// Most segments.
    pub shmmni: u64,
    /// Unused by Linux.
    pub shmseg: u64,
    /// Most pages in all segments together.
    pub shmall: u64,
    #[doc(hidden)]
    pub __unused: [u64; 4],
}

/// Use of segments (`SHM_INFO`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct shm_info {
    /// Segments that exist.
    pub used_ids: i32,
    #[doc(hidden)]
    pub __pad: i32,
    /// Pages of all segments.
    pub shm_tot: u64,
    /// Pages in memory.
    pub shm_rss: u64,
    /// Pages in swap.
    pub shm_swp: u64,
    /// Unused since Linux 2.4.
    pub swap_attempts: u64,
    /// Unused since Linux 2.4.
    pub swap_successes: u64,
}

/// Limits (`IPC_INFO`) or use (`MSG_INFO`) of message queues.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct msginfo {
    /// `MSG_INFO`: queues that exist.
    pub msgpool: i32,
    /// `MSG_INFO`: messages in all queues.
    pub msgmap: i32,
    /// Longest message, bytes.
    pub msgmax: i32,
    /// Bytes a new queue may hold.
    pub msgmnb: i32,
    /// Most queues.
    pub msgmni: i32,
    /// Unused by Linux.
    pub msgssz: i32,
    /// `MSG_INFO`: bytes in all queues.
    pub msgtql: i32,
    /// Unused by Linux.
    pub msgseg: u16,
    #[doc(hidden)]
    pub __pad: u16,
}

/// Limits (`IPC_INFO`) or use (`SEM_INFO`) of semaphores.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct seminfo {
    /// Unused by Linux.
    pub semmap: i32,
    /// Most sets.
    pub semmni: i32,
    /// Most semaphores in all sets together.
    pub semmns: i32,
    /// Unused by Linux.
    pub semmnu: i32,
    /// Most semaphores in a set.
    pub semmsl: i32,
    /// Most operations in a `semop`.
    pub semopm: i32,
    /// Unused by Linux.
    pub semume: i32,
    /// `SEM_INFO`: sets that exist.
    pub semusz: i32,
    /// Largest value of a semaphore.
    pub semvmx: i32,
    /// `SEM_INFO`: semaphores in all sets.
    pub semaem: i32,
}

/// A relative time, as `semtimedop` takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct timespec {
    /// Seconds.
    pub tv_sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub tv_nsec: i64,
}

const _: () = {
    assert!(size_of::<ipc_perm>() == 48);
    assert!(size_of::<shmid_ds>() == 112);
    assert!(size_of::<msqid_ds>() == 120);
    assert!(size_of::<semid_ds>() == 104);
    assert!(size_of::<sembuf>() == 6);
    assert!(size_of::<shminfo>() == 72);
    assert!(size_of::<shm_info>() == 48);
    assert!(size_of::<msginfo>() == 32);
    assert!(size_of::<seminfo>() == 40);
    assert!(offset_of!(ipc_perm, mode) == 20 && offset_of!(ipc_perm, __seq) == 24);
    assert!(offset_of!(shmid_ds, shm_segsz) == 48 && offset_of!(shmid_ds, shm_nattch) == 88);
    assert!(offset_of!(msqid_ds, __msg_cbytes) == 72 && offset_of!(msqid_ds, msg_lrpid) == 100);
    assert!(offset_of!(semid_ds, sem_ctime) == 64 && offset_of!(semid_ds, sem_nsems) == 80);
};
