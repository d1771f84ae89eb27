//! The caller's credentials, asked of the kernel each time they matter.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getegid, geteuid, getgroups, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use userspace::{Caller, Capability};

/// Credentials that nobody remembers: each question is a system call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked;

impl Caller for Asked {
    fn uid(&self) -> u32 {
        geteuid().as_raw()
    }

    fn gid(&self) -> u32 {
        getegid().as_raw()
    }

    fn is_in_group(&self, gid: u32) -> bool {
        self.gid() == gid
            || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
    }

    fn is_capable(&self, capability: Capability, user_space: u64) -> bool {
        let wanted = match capability {
            Capability::IpcLock => CapabilitySet::IPC_LOCK,
            Capability::IpcOwner => CapabilitySet::IPC_OWNER,
            Capability::SysAdmin => CapabilitySet::SYS_ADMIN,
            Capability::SysResource => CapabilitySet::SYS_RESOURCE,
        };
        let has = capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted));
        // Where nobody can say in which user name space we are, we have not left it.
        has && (user_space == 0 || my_user_space().is_none_or(|mine| mine == user_space))
    }

    fn lockable(&self) -> u64 {
        getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
    }

    fn is_in_huge_page_group(&self) -> bool {
        huge_page_group().is_some_and(|group| self.is_in_group(group))
    }
}

/// The inode of this process's user name space.
pub fn my_user_space() -> Option<u64> {
    let status = rustix::fs::stat(c"/proc/self/ns/user").ok()?;
    Some(status.st_ino)
}

fn huge_page_group() -> Option<u32> {
    let path = c"/proc/sys/vm/hugetlb_shm_group";
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut digits = [0u8; 16];
    let length = rustix::io::read(&file, &mut digits).ok()?;
    str::from_utf8(&digits[..length]).ok()?.trim().parse().ok()
}
