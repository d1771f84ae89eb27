//! The caller's credentials.
//!
//! They are asked of the kernel each time they matter, unless somebody watches all their changes:
//! who can see every `setuid` and its like says [`watch`] once, and [`changed`] after each; then
//! user and group are asked once and remembered. What else matters, groups and capabilities, is
//! asked only when user and group do not decide, and always anew.
//!
//! **Fork and exec.** A child has its parent's credentials, and what was remembered of them; a new
//! image remembers nothing.
//!
//! **Limits.** Libc's `setuid` and its like change all threads; the bare system calls change one.
//! Whoever sees such a call says [`differ`], and nothing is remembered from then on.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getegid, geteuid, getgroups, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use userspace::{Caller, Capability};

/// Credentials are watched, and have changed so often, from 1; or are not watched.
static CHANGES: AtomicU32 = AtomicU32::new(UNWATCHED);
const UNWATCHED: u32 = 0;
/// Threads have credentials of their own.
const DIFFERENT: u32 = u32::MAX;

/// What was answered, and in the upper half after how many changes it was asked.
static USER: AtomicU64 = AtomicU64::new(0);
static GROUP: AtomicU64 = AtomicU64::new(0);

/// From here on [`changed`] is called after each change of user or group, and [`differ`] if a
/// thread has others than its process.
pub fn watch() {
    // Relaxed, here and below: what one thread changes another one asks for only after they have
    // spoken by other means.
    let _ = CHANGES.compare_exchange(UNWATCHED, 1, Ordering::Relaxed, Ordering::Relaxed);
}

/// The process has other credentials than before, maybe.
pub fn changed() {
    let next = |changes| match changes {
        UNWATCHED | DIFFERENT => None,
        // After some four billion changes what is old could be taken for new.
        changes => Some(if changes + 1 == DIFFERENT {
            DIFFERENT
        } else {
            changes + 1
        }),
    };
    let _ = CHANGES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
}

/// A thread has changed its own credentials alone: they are asked for each time from now on.
pub fn differ() {
    CHANGES.store(DIFFERENT, Ordering::Relaxed);
}

/// What was remembered, or what the kernel answers now.
#[inline]
fn remembered(answer: &AtomicU64, ask: impl Fn() -> u32) -> u32 {
    // Relaxed: as in `watch`.
    let changes = CHANGES.load(Ordering::Relaxed);
    if matches!(changes, UNWATCHED | DIFFERENT) {
        return ask();
    }
    let known = answer.load(Ordering::Relaxed);
    if (known >> 32) as u32 == changes {
        return known as u32;
    }
    // Changed meanwhile, it counts as asked before the change.
    let now = ask();
    answer.store(u64::from(changes) << 32 | u64::from(now), Ordering::Relaxed);
    now
}

/// The credentials of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials;

impl Caller for Credentials {
    fn uid(&self) -> u32 {
        remembered(&USER, || geteuid().as_raw())
    }

    fn gid(&self) -> u32 {
        remembered(&GROUP, || getegid().as_raw())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_remembered_until_it_changes() {
        let asked = std::cell::Cell::new(0);
        let answer = AtomicU64::new(0);
        let ask = || {
            remembered(&answer, || {
                asked.set(asked.get() + 1);
                asked.get()
            })
        };
        assert_eq!((ask(), ask()), (1, 2));
        changed();
        assert_eq!(ask(), 3);
        watch();
        assert_eq!((ask(), ask()), (4, 4));
        changed();
        watch();
        assert_eq!((ask(), ask()), (5, 5));
        differ();
        changed();
        assert_eq!((ask(), ask()), (6, 7));
    }
}
