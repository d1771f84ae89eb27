//! A name space in user space for one case: in memory, and gone with the case.

use preload::{credentials, forks};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use userspace::{Limits, Space};

/// A folder under `/dev/shm`, removed with all that is in it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tombolo-checks-{}-{serial}", std::process::id());
        let path = Path::new("/dev/shm").join(name);
        std::fs::create_dir(&path).expect("a folder in memory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

static SPACE: OnceLock<Space> = OnceLock::new();

/// The name space that was entered.
pub fn space() -> &'static Space {
    SPACE.get().expect("the case has entered")
}

/// Makes this process's name space, with the kernel's limits, open to every user.
pub fn enter(folder: &Folder) -> &'static Space {
    let user_space = credentials::my_user_space().unwrap_or(0);
    let space = Space::create(folder.path(), 0o666, &Limits::KERNEL, user_space);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), mode).expect("chmod");
    let space = SPACE.get_or_init(|| space.expect("a name space"));
    forks::watch(space);
    space
}
