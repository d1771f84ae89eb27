//! Whose System V objects a command works on: the kernel's, or those of a name space of
//! `tombolo run`.
//!
//! A process is in one IPC name space of the kernel's, which no call names; so it is here. The
//! command line chooses once, and from then on every call goes there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use preload::InSpace;
use tombolo::sysv::procfs::{self, Attaches, Mapping};
use tombolo::sysv::{Calls, Errno, Kernel, Limits};
use userspace::{Space, space};

use crate::exit::{Exit, Failure};
use crate::processes::Processes;
use crate::spaces::{self, Name};

/// The calls of the chosen place.
pub type Here = &'static (dyn Calls + Send + Sync);

/// What a command's help says about it.
pub const HELP: &str = "\
With --namespace NAME it is about the objects of a name space of `tombolo run`, not of the kernel's.
Inside `tombolo run` that is so without the option.";

/// The option of every command that works on objects.
#[derive(clap::Args, Default)]
pub struct PlaceArgs {
    /// Work in this name space of `tombolo run`: NAME or USER/NAME
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

/// A name space that was chosen.
struct Chosen {
    calls: InSpace<'static>,
    folder: PathBuf,
    /// How the command line named it; none if the environment did.
    named: Option<Name>,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

impl PlaceArgs {
    /// Whether the command line names a name space.
    pub fn is_given(&self) -> bool {
        self.namespace.is_some()
    }

    /// Has everything that follows work there.
    pub fn enter(&self) -> Result<(), Failure> {
        let named = self.namespace.as_deref().map(Name::parse).transpose()?;
        let (folder, shown) = match (&named, env::var_os(spaces::SPACE)) {
            (Some(name), _) => (name.existing()?, name.to_string()),
            (None, Some(folder)) => {
                let folder = PathBuf::from(folder);
                let shown = folder.display().to_string();
                (folder, shown)
            }
            (None, None) => return Ok(()),
        };
        let space = Space::open(&folder).map_err(|errno| cannot_open(&shown, errno))?;
        // Forever, as are its mappings.
        let calls = InSpace(Box::leak(Box::new(space)));
        // Once only: a command has one such option.
        let _ = CHOSEN.set(Chosen {
            calls,
            folder,
            named,
        });
        Ok(())
    }
}

fn cannot_open(shown: &str, errno: Errno) -> Failure {
    let why = match errno {
        Errno::ACCESS => {
            "permission denied; its owner can make one for others too: tombolo run --mode"
                .to_owned()
        }
        Errno::NOENT => format!(
            "it is no more; see: tombolo ls namespaces, or work on the kernel's: env -u {} tombolo …",
            spaces::SPACE
        ),
        Errno::UCLEAN => {
            "it was made by another version of tombolo; use that, or remove it".to_owned()
        }
        Errno::NOMEM => "it takes 5 TiB of addresses, see: ulimit -v".to_owned(),
        errno => errno.to_string(),
    };
    Failure::new(
        Exit::of(errno),
        format!("cannot work in name space {shown}: {why}"),
    )
}

/// The calls of the chosen place.
pub fn calls() -> Here {
    match CHOSEN.get() {
        Some(chosen) => &chosen.calls,
        None => &Kernel,
    }
}

/// The name space, if it is not the kernel's.
pub fn space() -> Option<&'static Space> {
    CHOSEN.get().map(|chosen| chosen.calls.0)
}

/// What a command has to be given to work here too: ` --namespace NAME`, or nothing.
pub fn option() -> String {
    let named = CHOSEN.get().and_then(|chosen| chosen.named.as_ref());
    named.map_or_else(String::new, |name| format!(" --namespace {name}"))
}

/// Whether this user may set the limits of the name space.
pub fn is_mine() -> bool {
    use std::os::unix::fs::MetadataExt;
    let me = crate::users::me();
    CHOSEN.get().is_some_and(|chosen| {
        me == 0 || fs::metadata(&chosen.folder).is_ok_and(|about| about.uid() == me)
    })
}

/// The limits here.
pub fn limits() -> std::io::Result<Limits> {
    let Some(space) = space() else {
        return Limits::read();
    };
    let limits = space.limits();
    Ok(Limits {
        shmmax: limits.shmmax,
        shmmni: limits.shmmni,
        shmall: limits.shmall,
        shm_rmid_forced: Some(limits.shm_rmid_forced != 0),
        msgmax: limits.msgmax,
        msgmnb: limits.msgmnb,
        msgmni: limits.msgmni,
        semmsl: limits.semmsl,
        semmns: limits.semmns,
        semopm: limits.semopm,
        semmni: limits.semmni,
    })
}

/// Who has a segment attached.
pub fn attached(id: i32, key: tombolo::sysv::Key) -> std::io::Result<Attaches> {
    let Some(chosen) = CHOSEN.get() else {
        let mut all = procfs::attached(id)?;
        // Other IPC name spaces have the same ids.
        all.mappings.retain(|mapping| mapping.same_name_space);
        return Ok(all);
    };
    let processes = Processes::default();
    let registry = chosen.folder.join(space::FILE);
    let mut all = Attaches::default();
    for attach in chosen.calls.0.shm_attaches(id)? {
        let access = access(attach.pid, attach.address, &registry);
        all.mappings.push(Mapping {
            segment: id,
            key,
            pid: attach.pid,
            command: processes.command(attach.pid).unwrap_or_default(),
            uid: owner(attach.pid),
            address: attach.address,
            length: attach.length,
            read_only: access.is_some_and(|(write, _)| !write),
            executable: access.is_some_and(|(_, execute)| execute),
            same_name_space: true,
        });
    }
    all.mappings
        .sort_by_key(|mapping| (mapping.pid, mapping.address));
    Ok(all)
}

/// The user that a process acts as.
fn owner(pid: i32) -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{pid}")).map_or(u32::MAX, |about| about.uid())
}

/// Whether a process may write and execute at an address, if that may be looked at.
fn access(pid: i32, address: u64, registry: &Path) -> Option<(bool, bool)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let start = format!("{address:x}-");
    let registry = registry.to_str()?;
    let line = maps
        .lines()
        .find(|line| line.trim_start_matches('0').starts_with(&start) && line.contains(registry))?;
    let protection = line.split_ascii_whitespace().nth(1)?;
    Some((protection.contains('w'), protection.contains('x')))
}

/// The processes that have a name space mapped.
pub fn processes_in(folder: &Path) -> Vec<i32> {
    let registry = folder.join(space::FILE);
    let Some(registry) = registry.to_str() else {
        return Vec::new();
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id().cast_signed())
        .filter(|pid| {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
            maps.lines().any(|line| line.ends_with(registry))
        })
        .collect();
    pids.sort_unstable();
    pids
}
