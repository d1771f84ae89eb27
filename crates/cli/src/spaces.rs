//! Where name spaces are: a folder of each user's, in it a folder for each name space.
//!
//! ```text
//!   /dev/shm/tombolo-1000/          of user 1000, others may go through but not look around
//!     ├─ build/registry             `run --namespace build`: stays until it is removed
//!     └─ @4711/registry, trace      `run` by process 4711: goes with it
//! ```
//!
//! **Who uses one** holds a lock on a byte of its registry ([`userspace::USERS_BYTE`]): `tombolo
//! run` by a descriptor, every process in it by a mapping. Whoever gets that byte for himself alone
//! may take the name space away; who comes meanwhile waits for the decision.
//!
//! **exec.** Between its old image and the start of the library in its new one, a process holds no
//! lock. So whoever has the byte alone looks as well whether a process has the name space in its
//! environment, or is in the middle of `exec` and has none yet.
//!
//! **Crash.** What a killed maker left has no registry, or one that nobody locks: the next `run`
//! takes it away. A maker whose folder is taken from under him makes another.
//!
//! **Squatting.** `/dev/shm` is open to everybody. A folder counts only if it is a folder, its user
//! owns it, and nobody else may write there; a name that somebody else has taken first is an error
//! that says who.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt, process, thread};

use tombolo::shmem::anchor::{Claim, LockFile};
use tombolo::sysv::{Errno, Mode};
use userspace::{Limits, Space, USERS_BYTE, space};

use crate::exit::{Exit, Failure};
use crate::users::{self, Users};

/// Names the folder in which users have theirs, in place of `/dev/shm`.
pub const BASE: &str = "TOMBOLO_SPACES";
/// Names the folder of a name space to every process in it.
pub const SPACE: &str = "TOMBOLO_SPACE";

/// What name spaces are called that go with their `run`: this, and its process id.
const FRESH: char = '@';
/// Longest name, bytes.
const LONGEST: usize = 64;
/// How often a maker starts again whose folder was taken away. Every time somebody must have come
/// between two system calls.
const ATTEMPTS: u32 = 1000;

/// A name space's name, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    user: u32,
    name: String,
}

/// How a name space is made.
pub struct Design {
    /// Its limits.
    pub limits: Limits,
    /// Who may use it.
    pub mode: Mode,
}

/// A name space that does not go as long as this is there.
pub struct Kept {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it was made just now.
    pub new: bool,
    claim: Claim,
}

/// What can be seen of a name space from outside.
pub struct Found {
    pub name: Name,
    pub folder: PathBuf,
    /// Permissions of its registry.
    pub mode: u32,
    /// Bytes that it takes.
    pub bytes: u64,
    pub state: State,
}

/// Whether anybody is in a name space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A process uses it.
    InUse,
    /// Nobody does, and it stays until it is removed.
    Kept,
    /// Nobody does any more, and the next `tombolo run` takes it away.
    Left,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Kept => "kept",
            Self::Left => "left",
        }
    }
}

impl Name {
    /// Reads `NAME` or `USER/NAME`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (user, name) = match text.split_once('/') {
            Some((user, name)) => (users::parse_user(user)?, name),
            None => (users::me(), text),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        if name.is_empty()
            || name.len() > LONGEST
            || name.starts_with(['.', '-'])
            || !name.bytes().all(fits)
        {
            return Err(Failure::usage(format!(
                "`{text}` is no name of a name space; expected up to {LONGEST} letters, digits, \
                 `.`, `-` and `_`, not beginning with `.` or `-`; USER/NAME is another user's"
            )));
        }
        Ok(Self {
            user,
            name: name.to_owned(),
        })
    }

    /// Whether it goes with its `run`.
    pub fn is_fresh(&self) -> bool {
        self.name.starts_with(FRESH)
    }

    fn is_mine(&self) -> bool {
        self.user == users::me()
    }

    fn folder(&self) -> PathBuf {
        home(self.user).join(&self.name)
    }

    /// The folder of a name space that is there.
    pub fn existing(&self) -> Result<PathBuf, Failure> {
        let folder = self.folder();
        let there = check(&home(self.user), self.user)
            .and_then(|()| check(&folder, self.user))
            .and_then(|()| fs::metadata(folder.join(space::FILE)).map_err(Unfit::Io));
        match there {
            Ok(_) => Ok(folder),
            Err(failure) if failure.is_strange() => Err(failure.of(&format!("name space {self}"))),
            _ => Err(Failure::new(
                Exit::Missing,
                format!(
                    "there is no name space {self}; list what there is: tombolo ls namespaces{}",
                    if self.is_mine() {
                        String::new()
                    } else {
                        format!(" --user {}", self.user)
                    }
                ),
            )),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_mine() {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", Users::default().user(self.user), self.name)
        }
    }
}

/// The folder of a user's name spaces.
fn home(user: u32) -> PathBuf {
    base().join(format!("tombolo-{user}"))
}

fn base() -> PathBuf {
    env::var_os(BASE).map_or_else(|| "/dev/shm".into(), PathBuf::from)
}

/// Why a folder does not count.
enum Unfit {
    Io(io::Error),
    Strange(String),
}

impl Unfit {
    /// Whether it is there, but not as it should be.
    fn is_strange(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() != ErrorKind::NotFound,
            Self::Strange(_) => true,
        }
    }

    fn of(self, what: &str) -> Failure {
        match self {
            Self::Io(error) if error.kind() == ErrorKind::PermissionDenied => Failure::new(
                Exit::Denied,
                format!(
                    "cannot use {what}: permission denied; its owner can share it: tombolo run --mode"
                ),
            ),
            Self::Io(error) => Failure::new(Exit::Failed, format!("cannot use {what}: {error}")),
            Self::Strange(why) => Failure::new(
                Exit::Denied,
                format!(
                    "cannot use {what}: {why}; have it removed, or name another place in {BASE}"
                ),
            ),
        }
    }
}

/// Whether a folder is one, belongs to a user, and can be changed by nobody else.
fn check(folder: &Path, user: u32) -> Result<(), Unfit> {
    let about = fs::symlink_metadata(folder).map_err(Unfit::Io)?;
    let strange = |why: &str| Err(Unfit::Strange(format!("{} {why}", folder.display())));
    if !about.is_dir() {
        strange("is no folder")
    } else if about.uid() != user {
        let whose = Users::default().user(about.uid());
        strange(&format!("belongs to {whose}, who was there first"))
    } else if about.mode() & 0o022 != 0 {
        strange(&format!(
            "may be changed by others (mode {:o})",
            about.mode() & 0o7777
        ))
    } else {
        Ok(())
    }
}

/// My folder, which is made if it is not there.
fn my_home() -> Result<PathBuf, Failure> {
    let (base, home) = (base(), home(users::me()));
    let about = fs::metadata(&base).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!(
                "cannot make name spaces in {}: {error}; name another folder in {BASE}",
                base.display()
            ),
        )
    })?;
    if !base.is_absolute() || !about.is_dir() || about.mode() & 0o1002 == 0o002 {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "cannot make name spaces in {}: it must be an absolute path of a folder in which \
                 only owners remove what is theirs (mode 1777); name another in {BASE}",
                base.display()
            ),
        ));
    }
    let made = make_folder(&home, 0o711);
    made.map_err(Unfit::Io)
        .and_then(|()| check(&home, users::me()))
        .map_err(|unfit| unfit.of(&home.display().to_string()))?;
    Ok(home)
}

/// Makes a folder if there is nothing of the name.
fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        // Whatever the umask says.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Who may pass through the folder of a name space with this mode.
fn passable(mode: Mode) -> u32 {
    let bits = mode.bits() | mode.bits() >> 1;
    0o700 | bits >> 1 & 0o011
}

/// Makes a name space for this process and what it starts.
pub fn fresh(design: &Design) -> Result<Kept, Failure> {
    let home = my_home()?;
    reclaim(&home);
    let pid = process::id();
    for number in 1..ATTEMPTS {
        let folder = match number {
            1 => home.join(format!("{FRESH}{pid}")),
            _ => home.join(format!("{FRESH}{pid}.{number}")),
        };
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return fill(folder, design),
            // Of a process of that number in another PID name space, or before us.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unmakeable(&folder, &error)),
        }
    }
    Err(unmakeable(
        &home,
        &io::Error::from(ErrorKind::AlreadyExists),
    ))
}

/// The name space of that name, which is made if it is not there and mine.
pub fn named(name: &Name, design: &Design) -> Result<Kept, Failure> {
    if !name.is_mine() || name.is_fresh() {
        let folder = name.existing()?;
        let claim = Claim::share(&folder.join(space::FILE), USERS_BYTE);
        return match claim {
            Ok(Some(claim)) => Ok(Kept {
                folder,
                new: false,
                claim,
            }),
            Ok(None) => Err(Failure::new(
                Exit::Missing,
                format!("name space {name} is being removed"),
            )),
            Err(errno) => Err(Unfit::Io(errno.into()).of(&format!("name space {name}"))),
        };
    }
    reclaim(&my_home()?);
    fill(name.folder(), design)
}

/// Shares the name space in a folder of mine; makes it first if need be.
fn fill(folder: PathBuf, design: &Design) -> Result<Kept, Failure> {
    let registry = folder.join(space::FILE);
    let failed = |errno: Errno| unmakeable(&folder, &errno.into());
    let mut new = false;
    for _ in 0..ATTEMPTS {
        if let Some(claim) = Claim::share(&registry, USERS_BYTE).map_err(failed)? {
            return Ok(Kept { folder, new, claim });
        }
        // Not there, or being taken away.
        make_folder(&folder, 0o700).map_err(|error| unmakeable(&folder, &error))?;
        check(&folder, users::me()).map_err(|unfit| unfit.of(&folder.display().to_string()))?;
        let user_space = preload::credentials::my_user_space().unwrap_or(0);
        match Space::create(&folder, design.mode.bits(), &design.limits, user_space) {
            Ok(_) => {
                let passable = Permissions::from_mode(passable(design.mode));
                new = fs::set_permissions(&folder, passable).is_ok();
            }
            Err(Errno::EXIST | Errno::NOENT) => thread::sleep(Duration::from_millis(1)),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::AGAIN))
}

fn unmakeable(folder: &Path, error: &io::Error) -> Failure {
    let next = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("; make room there, or name another folder in {BASE}")
        }
        ErrorKind::OutOfMemory => {
            "; a name space takes 5 TiB of addresses, see: ulimit -v".to_owned()
        }
        _ => String::new(),
    };
    let exit = match error.kind() {
        ErrorKind::PermissionDenied => Exit::Denied,
        ErrorKind::StorageFull | ErrorKind::OutOfMemory => Exit::Limit,
        _ => Exit::Failed,
    };
    Failure::new(
        exit,
        format!(
            "cannot make a name space in {}: {error}{next}",
            folder.display()
        ),
    )
}

impl Kept {
    /// Takes the name space away if nobody else uses it.
    pub fn remove_if_last(self) {
        let registry = self.folder.join(space::FILE);
        if self.claim.become_alone() == Ok(true) {
            remove_unless_entering(&self.folder, &self.claim);
            return;
        }
        // Another `run` may leave at this moment and have seen us: the last to let go succeeds.
        let folder = self.folder;
        drop(self.claim);
        if let Ok(Some(claim)) = Claim::alone(&registry, USERS_BYTE) {
            remove_unless_entering(&folder, &claim);
        }
    }
}

/// Takes away what killed runs have left in my folder.
fn reclaim(home: &Path) {
    // What can't be looked at now is for another time.
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let folder = entry.path();
        let registry = folder.join(space::FILE);
        if check(&folder, users::me()).is_err() {
            continue;
        }
        if !registry.exists() {
            // Its maker was killed, or is at it and then makes it again.
            take_away(&folder);
        } else if entry.file_name().as_bytes().starts_with(&[FRESH as u8])
            && let Ok(Some(claim)) = Claim::alone(&registry, USERS_BYTE)
        {
            remove_unless_entering(&folder, &claim);
        }
    }
}

/// Takes a name space away of which we have the byte alone, unless a process comes in by `exec`.
fn remove_unless_entering(folder: &Path, _alone: &Claim) -> bool {
    if is_entered(folder) {
        return false;
    }
    take_away(folder);
    true
}

fn take_away(folder: &Path) {
    // The registry first: without it the rest is nothing, whatever happens to us.
    let _ = fs::remove_file(folder.join(space::FILE));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    let _ = fs::remove_dir(folder);
}

/// Whether a process has the name space in its environment: it is in it, or about to be.
fn is_entered(folder: &Path) -> bool {
    is_in_an_environment(&[SPACE.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat())
}

/// Whether a process was started with an entry in its environment.
pub fn is_in_an_environment(wanted: &[u8]) -> bool {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Some(environment) = environment(&entry.path()) else {
            continue;
        };
        if environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted)
        {
            return true;
        }
    }
    false
}

/// The environment that a process was started with, as far as it can be read.
fn environment(process: &Path) -> Option<Vec<u8>> {
    // In the middle of `exec` there is a program and neither arguments nor environment yet. It
    // takes microseconds; the bound is for what only looks like that.
    for _ in 0..100 {
        let environment = fs::read(process.join("environ")).ok()?;
        let complete = !environment.is_empty()
            || fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty())
            || fs::read_link(process.join("exe")).is_err();
        if complete {
            return Some(environment);
        }
        thread::sleep(Duration::from_millis(1));
    }
    None
}

/// A user's name spaces, by name.
pub fn all(user: u32) -> Result<Vec<Found>, Failure> {
    let home = home(user);
    match check(&home, user) {
        Err(unfit) if unfit.is_strange() => return Err(unfit.of(&home.display().to_string())),
        Err(_) => return Ok(Vec::new()),
        Ok(()) => {}
    }
    let entries = fs::read_dir(&home).map_err(|error| {
        Unfit::Io(error).of(&format!("{}, which only its owner lists", home.display()))
    })?;
    let mut all: Vec<Found> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            look(Name { user, name })
        })
        .collect();
    all.sort_by(|a, b| a.name.name.cmp(&b.name.name));
    Ok(all)
}

/// What is at a name, if it is a name space.
pub fn look(name: Name) -> Option<Found> {
    let folder = name.folder();
    check(&folder, name.user).ok()?;
    let registry = folder.join(space::FILE);
    let about = fs::symlink_metadata(&registry).ok()?;
    let used = LockFile::new(&registry).and_then(|file| file.is_held(USERS_BYTE));
    let state = match used {
        // Where it can't be told it is not claimed.
        Ok(true) | Err(_) => State::InUse,
        Ok(false) if name.is_fresh() => State::Left,
        Ok(false) => State::Kept,
    };
    Some(Found {
        name,
        folder,
        mode: about.mode() & 0o777,
        bytes: about.blocks() * 512,
        state,
    })
}

/// Removes a name space. False if somebody uses it and it was not forced.
pub fn remove(name: &Name, force: bool) -> Result<bool, Failure> {
    let folder = name.existing()?;
    let denied = |error: io::Error| Unfit::Io(error).of(&format!("name space {name}"));
    if !name.is_mine() && users::me() != 0 {
        return Err(Failure::new(
            Exit::Denied,
            format!("cannot remove name space {name}: only its owner or root may"),
        ));
    }
    if force {
        take_away(&folder);
        return Ok(true);
    }
    match Claim::alone(&folder.join(space::FILE), USERS_BYTE) {
        Ok(Some(claim)) => Ok(remove_unless_entering(&folder, &claim)),
        Ok(None) => Ok(false),
        Err(errno) => Err(denied(errno.into())),
    }
}
