//! The objects of the chosen name space as it describes them. Looking changes nothing:
//! nothing here attaches, receives or operates.

use std::collections::HashMap;

use anyhow::Context;
use tombolo::shmem::{directory, name};
use tombolo::sysv::{Perm, msg, procfs, sem, shm};

use crate::channels::{self, ChannelName};
use crate::kind::Kind;
use crate::place::{self, calls};
use crate::processes::Processes;
use crate::users::{self, Users};

/// An object's description.
#[derive(Clone, Debug)]
pub enum Object {
    Shm(procfs::Segment),
    Msg(msg::Status),
    Sem(sem::Status),
}

impl Object {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Shm(_) => Kind::Shm,
            Self::Msg(_) => Kind::Msg,
            Self::Sem(_) => Kind::Sem,
        }
    }

    /// Its id.
    pub fn id(&self) -> i32 {
        match self {
            Self::Shm(segment) => segment.status.id,
            Self::Msg(queue) => queue.id,
            Self::Sem(set) => set.id,
        }
    }

    /// Its key, owner, creator and mode.
    pub fn perm(&self) -> &Perm {
        match self {
            Self::Shm(segment) => &segment.status.perm,
            Self::Msg(queue) => &queue.perm,
            Self::Sem(set) => &set.perm,
        }
    }

    /// Whether `user` owns or made it: who may change and remove it.
    pub fn belongs_to(&self, user: u32) -> bool {
        self.perm().uid == user || self.perm().cuid == user
    }

    /// A message queue that is a user's directory of channels.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Msg(queue) if directory::is_directory(queue))
    }

    /// A segment that was removed and is only kept by those who still have it attached.
    pub fn is_marked(&self) -> bool {
        matches!(self, Self::Shm(segment) if segment.status.marked)
    }
}

/// All objects of a kind, in the kernel's order.
pub fn list(kind: Kind) -> anyhow::Result<Vec<Object>> {
    // Segments by /proc: only there are their resident and swapped pages.
    // Queues by the calls: only there is what they may hold.
    match kind {
        Kind::Shm if place::space().is_some() => {
            let all = shm::list(calls()).context("cannot list segments")?;
            Ok(all.into_iter().map(in_space).map(Object::Shm).collect())
        }
        Kind::Shm => procfs::segments()
            .map(|all| all.into_iter().map(Object::Shm).collect())
            .context("cannot list segments from /proc/sysvipc/shm, which needs /proc mounted"),
        Kind::Msg => msg::list(calls())
            .map(|all| all.into_iter().map(Object::Msg).collect())
            .context("cannot list message queues"),
        Kind::Sem => sem::list(calls())
            .map(|all| all.into_iter().map(Object::Sem).collect())
            .context("cannot list semaphore sets"),
    }
}

/// A segment of a name space, whose pages are those of a file.
fn in_space(status: shm::Status) -> procfs::Segment {
    let resident = place::space().and_then(|space| space.shm_resident(status.id).ok());
    procfs::Segment {
        status,
        resident: resident.unwrap_or_default() as u64,
        swapped: 0,
    }
}

/// The object with an id.
pub fn find(kind: Kind, id: i32) -> anyhow::Result<Option<Object>> {
    Ok(list(kind)?.into_iter().find(|object| object.id() == id))
}

/// What is looked up beside the kernel's description: names of users, commands, channels.
pub struct Surroundings {
    /// Names of users and groups.
    pub users: Users,
    /// Facts about processes.
    pub processes: Processes,
    /// Our channels by segment id.
    pub channels: HashMap<i32, ChannelName>,
}

impl Surroundings {
    /// The surroundings of now.
    pub fn look() -> Self {
        Self {
            users: Users::default(),
            processes: Processes::default(),
            channels: match place::space() {
                // Channels are of the kernel's segments.
                Some(_) => HashMap::new(),
                None => channels::names(),
            },
        }
    }

    /// The channel that lives in an object.
    pub fn channel(&self, object: &Object) -> Option<ChannelName> {
        match object {
            Object::Shm(segment) => self
                .channels
                .get(&segment.status.id)
                .cloned()
                .or_else(|| channels::presence(&segment.status)),
            Object::Msg(queue) => directory::is_directory(queue).then(channels::directory),
            Object::Sem(_) => None,
        }
    }

    /// Whether nobody is left who has used the object, as `ORPHANS` defines it. Where it cannot
    /// be told, it is no orphan.
    pub fn is_orphan(&self, object: &Object) -> bool {
        let all_gone = |pids: &[i32]| {
            pids.iter().any(|pid| *pid != 0)
                && pids
                    .iter()
                    .all(|pid| *pid == 0 || self.processes.is_gone(*pid))
        };
        match object {
            Object::Shm(segment) => {
                let status = &segment.status;
                status.attaches == 0
                    && self.processes.is_gone(status.creator_pid)
                    && self.channel(object).is_none()
                    && !name::is_name_key(status.perm.key)
            }
            Object::Msg(queue) if directory::is_directory(queue) => false,
            Object::Msg(queue) => all_gone(&[queue.last_send_pid, queue.last_receive_pid]),
            Object::Sem(set) => semaphores(set.id, set.count).is_ok_and(|semaphores| {
                let pids: Vec<i32> = semaphores.iter().map(|semaphore| semaphore.pid).collect();
                all_gone(&pids) && semaphores.iter().all(|semaphore| semaphore.waiters() == 0)
            }),
        }
    }
}

/// What help says about `--orphans`.
pub const ORPHANS: &str = "\
An orphan is an object that no living process is known to use:
  segment        nobody has it attached, its creator is gone, and its key is not that
                 of a named channel
  message queue  its last sender and its last receiver are gone; one never used is no orphan,
                 nor is a user's directory of channels
  semaphore set  the last process to change each semaphore is gone and nobody waits; a set never
                 used, or one that you may not read, is no orphan
So what was made from the shell, as by `tombolo mk`, is an orphan until a program uses it. A
process of another PID name space cannot be seen: what it made is no orphan. A process id that is
in use again counts as its first owner.";

/// One semaphore of a set.
#[derive(Clone, Copy, Debug)]
pub struct Semaphore {
    pub value: u16,
    /// The last process that operated on it.
    pub pid: i32,
    /// How many wait for it to grow.
    pub ncount: usize,
    /// How many wait for it to become zero.
    pub zcount: usize,
}

impl Semaphore {
    /// How many wait on it.
    pub fn waiters(&self) -> u64 {
        (self.ncount + self.zcount) as u64
    }
}

/// Every semaphore of a set, asked one by one: needs read permission.
pub fn semaphores(id: i32, count: u64) -> tombolo::sysv::Result<Vec<Semaphore>> {
    let set = sem::Set::from_id_in(calls(), id);
    let values = set.values()?;
    let numbers = 0..u16::try_from(count).unwrap_or(u16::MAX);
    numbers
        .zip(values)
        .map(|(number, value)| {
            Ok(Semaphore {
                value,
                pid: set.pid(number)?,
                ncount: set.waiting_for_increase(number)?,
                zcount: set.waiting_for_zero(number)?,
            })
        })
        .collect()
}

/// Why an object is in use, as a sentence: `None` when it is not.
pub fn in_use(object: &Object) -> Option<String> {
    let some = |count: u64, text: &str, texts: &str| match count {
        0 => None,
        1 => Some(format!("1 {text}")),
        _ => Some(format!("{count} {texts}")),
    };
    match object {
        Object::Shm(segment) => match segment.status.attaches {
            0 => None,
            1 => Some("it is attached".to_owned()),
            count => Some(format!("it is attached {count} times")),
        },
        Object::Msg(queue) if directory::is_directory(queue) => {
            Some("it is the directory of a user's channels, and goes with the last".to_owned())
        }
        Object::Msg(queue) => some(
            queue.messages,
            "message is queued in it",
            "messages are queued in it",
        ),
        Object::Sem(set) => match semaphores(set.id, set.count) {
            Ok(all) => some(
                all.iter().map(Semaphore::waiters).sum(),
                "process waits on it",
                "processes wait on it",
            ),
            Err(_) => Some("whether processes wait on it is not for you to read".to_owned()),
        },
    }
}

/// Whether this process may change and remove an object.
pub fn is_mine(object: &Object) -> bool {
    object.belongs_to(users::me())
}
