//! What is in a channel, read without touching it.
//!
//! An attach would move the segment's times and its last pid; with `shm_rmid_forced` it could even
//! destroy it. So the control part is read from the memory of a process that has the segment
//! attached, by `process_vm_readv`, which needs what `ptrace` needs: the same user, or root.

use std::collections::HashMap;
use std::fs;
use std::io::IoSliceMut;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use tombolo::inspect::{InspectError, Inspection, inspect};
use tombolo::shmem::View;
use tombolo::sysv::procfs::{self, Mapping};
use tombolo::sysv::shm;

use crate::exit::{Exit, Failure};

/// Who has which segment attached.
#[derive(Default)]
pub struct Peeks {
    mappings: HashMap<i32, Vec<Mapping>>,
}

/// Why nothing can be told of what is in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// No process that can be seen has it attached.
    Nobody,
    /// Those who have it attached may not be looked into.
    Denied,
    /// It was looked at.
    Seen(InspectError),
}

impl Unseen {
    /// The reason, to stand behind "what is in it cannot be seen: ".
    pub fn why(self) -> String {
        match self {
            Self::Nobody => "no process that you can see has it attached".to_owned(),
            Self::Denied => {
                "you may not look into the processes that have it attached (root may)".to_owned()
            }
            Self::Seen(error) => error.to_string(),
        }
    }

    /// Whether an attach would tell more.
    pub fn is_for_want_of_an_attach(self) -> bool {
        matches!(self, Self::Nobody | Self::Denied)
    }
}

impl Peeks {
    /// Finds out who has what attached. Where `/proc` does not tell, nobody has.
    pub fn look() -> Self {
        let mut mappings: HashMap<i32, Vec<Mapping>> = HashMap::new();
        for mapping in procfs::attaches().unwrap_or_default().mappings {
            // Other IPC name spaces have the same ids.
            if mapping.same_name_space {
                mappings.entry(mapping.segment).or_default().push(mapping);
            }
        }
        Self { mappings }
    }

    /// Looks at the channel in a segment, through whoever can be looked into.
    pub fn inspect(&self, status: &shm::Status) -> Result<Inspection, Unseen> {
        let Some(mappings) = self.mappings.get(&status.id) else {
            return Err(Unseen::Nobody);
        };
        let mut why = Unseen::Denied;
        for mapping in mappings {
            match inspect(status.size, &mut |offset, to| read(mapping, offset, to)) {
                Err(InspectError::Unreadable) => {}
                Err(error) => why = Unseen::Seen(error),
                Ok(seen) => return Ok(seen),
            }
        }
        Err(why)
    }

    /// Whether a process that takes part in channels of ours has the segment attached.
    pub fn is_used_by(&self, id: i32, mut takes_part: impl FnMut(i32) -> bool) -> bool {
        let mappings = self.mappings.get(&id).into_iter().flatten();
        mappings.into_iter().any(|mapping| takes_part(mapping.pid))
    }

    /// The processes that have any of these segments attached.
    pub fn pids(&self, ids: impl Iterator<Item = i32>) -> Vec<i32> {
        let mappings = ids.filter_map(|id| self.mappings.get(&id)).flatten();
        mappings.map(|mapping| mapping.pid).collect()
    }
}

/// Reads from a process's memory; says whether all of it came.
fn read(mapping: &Mapping, offset: usize, to: &mut [u8]) -> bool {
    let length = to.len();
    let end = offset.checked_add(length).map(|end| end as u64);
    if end.is_none_or(|end| end > mapping.length) {
        return false;
    }
    let Ok(base) = usize::try_from(mapping.address + offset as u64) else {
        return false;
    };
    let from = RemoteIoVec { base, len: length };
    let read = process_vm_readv(
        Pid::from_raw(mapping.pid),
        &mut [IoSliceMut::new(to)],
        &[from],
    );
    read == Ok(length)
}

/// Looks at the channel in a segment by attaching it, which moves its times and its last pid.
pub fn attach(status: &shm::Status) -> Result<Result<Inspection, Unseen>, Failure> {
    let id = status.id;
    let forced = fs::read_to_string("/proc/sys/kernel/shm_rmid_forced");
    if status.attaches == 0 && forced.is_ok_and(|forced| forced.trim() == "1") {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "cannot attach segment {id}: nobody has it attached, and with shm_rmid_forced the \
                 detach would destroy it"
            ),
        ));
    }
    let view = View::attach(id).map_err(|errno| {
        Failure::new(
            Exit::of(errno),
            format!("cannot attach segment {id} to look into it: {errno}"),
        )
    })?;
    let seen = inspect(view.len() as u64, &mut |offset, to| {
        view.copy_out(offset, to).is_ok()
    });
    Ok(seen.map_err(Unseen::Seen))
}
