//! What the three kinds of object have in common, for the statements about all of them.

use crate::harness::{PAGE, Target};
use std::ptr;
use sysv::abi::*;
use sysv::{Errno, Result};

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Segment,
    Queue,
    Set,
}

/// All kinds.
pub const KINDS: [Kind; 3] = [Kind::Segment, Kind::Queue, Kind::Set];

impl Kind {
    /// The `*get` call, for a small object.
    pub fn get(self, t: &Target, key: key_t, flags: i32) -> Result<i32> {
        match self {
            Self::Segment => t.shmget(key, PAGE, flags),
            Self::Queue => t.msgget(key, flags),
            Self::Set => t.semget(key, 1, flags),
        }
    }

    /// A new private object.
    #[track_caller]
    pub fn create(self, t: &Target, mode: i32) -> i32 {
        self.get(t, IPC_PRIVATE, mode)
            .expect("creating a private object")
    }

    /// The `*ctl` call for commands that take no buffer.
    pub fn control(self, t: &Target, id: i32, command: i32) -> Result<i32> {
        match self {
            Self::Segment => t.shmctl(id, command),
            Self::Queue => t.msgctl(id, command),
            Self::Set => t.semctl(id, 0, command, 0),
        }
    }

    /// A command that fills the status structure: its answer, and the permissions in it.
    pub fn status(self, t: &Target, id: i32, command: i32) -> Result<(i32, ipc_perm)> {
        Ok(match self {
            Self::Segment => {
                let mut status = shmid_ds::default();
                (t.shmctl_with(id, command, &mut status)?, status.shm_perm)
            }
            Self::Queue => {
                let mut status = msqid_ds::default();
                (t.msgctl_with(id, command, &mut status)?, status.msg_perm)
            }
            Self::Set => {
                let mut status = semid_ds::default();
                (t.semctl_with(id, 0, command, &mut status)?, status.sem_perm)
            }
        })
    }

    /// `IPC_STAT`'s permissions.
    pub fn perm(self, t: &Target, id: i32) -> Result<ipc_perm> {
        self.status(t, id, IPC_STAT).map(|(_, perm)| perm)
    }

    /// The permissions, whether or not the caller may read them.
    pub fn perm_any(self, t: &Target, id: i32) -> ipc_perm {
        let status = self.status(t, id % IPCMNI, self.stat_any_command());
        let (found, perm) = status.expect("*_STAT_ANY");
        assert_eq!(found, id);
        perm
    }

    /// `IPC_SET` of owner, group and mode.
    pub fn set(self, t: &Target, id: i32, perm: &ipc_perm) -> Result<()> {
        match self {
            Self::Segment => t.shm_set(
                id,
                &shmid_ds {
                    shm_perm: *perm,
                    ..Default::default()
                },
            ),
            Self::Queue => {
                // A queue also takes msg_qbytes: the initial value needs no privilege.
                let msg_qbytes = 16384;
                t.msg_set(
                    id,
                    &msqid_ds {
                        msg_perm: *perm,
                        msg_qbytes,
                        ..Default::default()
                    },
                )
            }
            Self::Set => t.sem_set(
                id,
                &semid_ds {
                    sem_perm: *perm,
                    ..Default::default()
                },
            ),
        }
    }

    /// `IPC_SET` that gives the object to another user.
    #[track_caller]
    pub fn give(self, t: &Target, id: i32, uid: u32, gid: u32, mode: u32) {
        let perm = ipc_perm {
            uid,
            gid,
            mode,
            ..Default::default()
        };
        self.set(t, id, &perm).expect("IPC_SET");
    }

    /// `IPC_RMID`.
    pub fn remove(self, t: &Target, id: i32) -> Result<()> {
        self.control(t, id, IPC_RMID).map(drop)
    }

    /// `*_STAT`.
    pub fn stat_command(self) -> i32 {
        match self {
            Self::Segment => SHM_STAT,
            Self::Queue => MSG_STAT,
            Self::Set => SEM_STAT,
        }
    }

    /// `*_STAT_ANY`.
    pub fn stat_any_command(self) -> i32 {
        match self {
            Self::Segment => SHM_STAT_ANY,
            Self::Queue => MSG_STAT_ANY,
            Self::Set => SEM_STAT_ANY,
        }
    }

    /// `IPC_INFO`'s result: the highest index in use.
    pub fn highest_index(self, t: &Target) -> Result<i32> {
        match self {
            Self::Segment => t.shmctl_with(0, IPC_INFO, &mut shminfo::default()),
            Self::Queue => t.msgctl_with(0, IPC_INFO, &mut msginfo::default()),
            Self::Set => t.semctl_with(0, 0, IPC_INFO, &mut seminfo::default()),
        }
    }

    /// Does what needs read permission, and nothing that needs more.
    pub fn read(self, t: &Target, id: i32) -> Result<()> {
        match self {
            Self::Segment => {
                let base = t.shmat(id, SHM_RDONLY)?;
                t.shmdt(base)
            }
            Self::Queue => match t.msgrcv(id, 16, 1, IPC_NOWAIT) {
                Err(Errno::NOMSG) => Ok(()),
                other => other.map(drop),
            },
            Self::Set => t.sem_value(id, 0).map(drop),
        }
    }

    /// Does what needs write permission: for a segment, read permission as well.
    pub fn write(self, t: &Target, id: i32) -> Result<()> {
        match self {
            Self::Segment => {
                let base = t.shmat(id, 0)?;
                t.shmdt(base)
            }
            Self::Queue => t.msgsnd(id, 1, b"", IPC_NOWAIT),
            Self::Set => t.semop(id, &[(0, 1, IPC_NOWAIT as i16)]),
        }
    }

    /// Makes every call there is on `id`, and asserts that each one answers `errno`. Commands
    /// that take no id or an index are not among them.
    #[track_caller]
    pub fn every_call_fails(self, t: &Target, id: i32, errno: Errno) {
        let perm = ipc_perm {
            mode: 0o600,
            ..Default::default()
        };
        let refused = Err(errno);
        assert_eq!(
            self.perm(t, id),
            refused.map(|()| perm),
            "{self:?} {id} IPC_STAT"
        );
        assert_eq!(self.set(t, id, &perm), refused, "{self:?} {id} IPC_SET");
        assert_eq!(self.remove(t, id), refused, "{self:?} {id} IPC_RMID");
        match self {
            Self::Segment => {
                assert_eq!(t.shmctl(id, SHM_LOCK).map(drop), refused, "SHM_LOCK");
                assert_eq!(t.shmctl(id, SHM_UNLOCK).map(drop), refused, "SHM_UNLOCK");
                assert_eq!(t.shmat(id, 0).map(drop), refused, "shmat");
                assert_eq!(t.shmat(id, SHM_RDONLY).map(drop), refused, "shmat");
            }
            Self::Queue => {
                assert_eq!(t.msgsnd(id, 1, b"x", IPC_NOWAIT), refused, "msgsnd");
                assert_eq!(t.msgsnd(id, 1, b"x", 0), refused, "msgsnd");
                assert_eq!(t.msgrcv(id, 8, 0, IPC_NOWAIT).map(drop), refused, "msgrcv");
                assert_eq!(t.msgrcv(id, 8, 0, 0).map(drop), refused, "msgrcv");
            }
            Self::Set => {
                for command in [GETVAL, GETPID, GETNCNT, GETZCNT, SETVAL] {
                    assert_eq!(t.semctl(id, 0, command, 0).map(drop), refused, "{command}");
                }
                assert_eq!(t.sem_values(id, 1).map(drop), refused, "GETALL");
                assert_eq!(t.sem_set_values(id, &[0]), refused, "SETALL");
                assert_eq!(t.semop(id, &[(0, 1, 0)]), refused, "semop");
                let timeout = timespec {
                    tv_sec: 1,
                    tv_nsec: 0,
                };
                assert_eq!(
                    t.semtimedop(id, &[(0, 1, 0)], &timeout),
                    refused,
                    "semtimedop"
                );
            }
        }
    }

    /// The name of the kernel's switches for this kind begins with it.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Segment => "shm",
            Self::Queue => "msg",
            Self::Set => "sem",
        }
    }
}

/// Reads the limit `/proc/sys/kernel/NAME` of the process's name space.
pub fn sysctl(t: &Target, name: &str) -> std::result::Result<String, &'static str> {
    (t.limits.read)(name)
}

/// Sets the limit `/proc/sys/kernel/NAME` of the test's own name space.
pub fn set_sysctl(t: &Target, name: &str, value: &str) -> std::result::Result<(), &'static str> {
    t.needs_own_name_space()?;
    (t.limits.set)(name, value)
}

/// `semctl` with an address that is nobody's.
pub fn semctl_bad(t: &Target, id: i32, command: i32, address: usize) -> Result<i32> {
    // SAFETY: the tests give addresses that are not the process's.
    unsafe { t.calls.semctl(id, 0, command, address) }
}

/// `shmctl` with an address that is nobody's.
pub fn shmctl_bad(t: &Target, id: i32, command: i32, address: usize) -> Result<i32> {
    // SAFETY: the tests give addresses that are not the process's.
    unsafe {
        t.calls
            .shmctl(id, command, ptr::without_provenance_mut(address))
    }
}

/// `msgctl` with an address that is nobody's.
pub fn msgctl_bad(t: &Target, id: i32, command: i32, address: usize) -> Result<i32> {
    // SAFETY: the tests give addresses that are not the process's.
    unsafe {
        t.calls
            .msgctl(id, command, ptr::without_provenance_mut(address))
    }
}
