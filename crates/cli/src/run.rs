//! `tombolo run`: runs a program with System V from shared memory, in a name space of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, io};

use tombolo::sysv::{Limit, Mode};
use userspace::Limits;

use crate::attend::{self, Ended};
use crate::exit::{Exit, Failure};
use crate::limits::parse_setting;
use crate::output::Output;
use crate::spaces::{self, Design, Kept, Name};
use crate::trace::{self, Tracing};
use crate::{Plan, servable};

/// The library that serves the calls.
const LIBRARY: &str = "libtombolo_preload.so";
/// Names the library to be used.
const LIBRARY_VARIABLE: &str = "TOMBOLO_PRELOAD";

/// Run a program with System V IPC in shared memory, in a name space of its own
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo run -- make check                 its segments, queues and sets are its own, and go with it
  tombolo run --namespace build -- ./server another of the same name space: the same command
  tombolo ls --namespace build              what is in it; so show, rm, dump, msgsnd, limits, …
  tombolo ls namespaces                     which there are, and whether anybody is in them
  tombolo rm namespace build
  tombolo run --trace -- fakeroot-sysv ls   each call on standard error, as strace shows it
  tombolo run --summary -- ./server         calls, waits, bytes, errors and times at the end
  tombolo run --limits kernel -- ./tests    the kernel's limits; --limits msgmax=1M,semmni=10

The program and its children get the C library's System V calls (shmget to semctl, and ftok) from a
library, and no privilege or change of them is needed. Their objects are in memory that they share,
not in the kernel: ipcs outside does not see them, inside it sees no others.

Without --namespace the name space is new. When the program ends and no process is left in it, it
goes; what daemons still use stays until the next `tombolo run` finds that nobody does. With
--namespace it stays until it is removed, and tombolo makes way for the program: it runs in this
very process. USER/NAME is another user's, who must have made it with a --mode that lets you in.
Users who share a name space cooperate: the modes of objects are obeyed, but they are no wall
against a user who writes the memory by hand.

A traced call that sleeps is shown as unfinished when another's line comes between, or after 0.1 s,
and again when it is resumed. A trace goes on until the last process that the program has started
has ended, or a signal ends it (^C); a process that became another user is waited for only if
/proc shows it to you. What is called in a run within the run is not in the trace.

The exit code is the program's, and a signal that ends the program ends tombolo too. Signals sent to
tombolo are passed on; those of the terminal reach both. Messages may have 16 MiB and queues 64 MiB,
unless --limits says otherwise; limits are of the name space, and are set when it is made.

Not served, and refused: statically linked programs, those of another architecture or C library, and
those that gain rights when they are started (set-uid, set-gid, file capabilities). Such children
of a program are reported by the call that starts them.

Name spaces are files in /dev/shm/tombolo-UID, or in a folder like it where TOMBOLO_SPACES says, and
take memory there. The library is looked for where TOMBOLO_PRELOAD says, else beside tombolo, else
in ../lib/tombolo from there.")]
pub struct Args {
    /// Use the name space of this name, and make it if it is not there: NAME or USER/NAME
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Who may use a new name space: 660 for the group too, 666 for everybody
    #[arg(long, value_parser = parse_mode)]
    mode: Option<Mode>,
    /// The limits of a new name space: kernel, wide, NAME=VALUE, or several with commas
    #[arg(long, value_name = "LIMITS", value_parser = parse_limits)]
    limits: Option<Wanted>,
    /// Write each call, its result and its time to standard error, or to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    trace: Option<PathBuf>,
    /// Write at the end how often each call was made, how long it took and what came of it
    #[arg(long)]
    summary: bool,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM"
    )]
    command: Vec<OsString>,
}

/// What to run, and where.
pub struct Running {
    name: Option<Name>,
    mode: Option<Mode>,
    limits: Option<Wanted>,
    tracing: Option<Tracing>,
    library: PathBuf,
    program: PathBuf,
    command: Vec<OsString>,
}

/// Limits as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted(Limits);

impl Args {
    /// Finds the program and the library, and refuses what can't be served.
    pub fn plan(self) -> anyhow::Result<Running> {
        let name = self.namespace.as_deref().map(Name::parse).transpose()?;
        let program = servable::find(&self.command[0])?;
        servable::check(&program)?;
        Ok(Running {
            name,
            mode: self.mode,
            limits: self.limits,
            tracing: Tracing::wanted(self.trace, self.summary),
            library: library()?,
            program,
            command: self.command,
        })
    }
}

/// The permissions of a name space: each class may use it or not.
fn parse_mode(text: &str) -> Result<Mode, String> {
    let mode: Mode = text.parse().map_err(|error| format!("{error}"))?;
    let whole = |shift: u32| matches!(mode.bits() >> shift & 7, 0 | 6);
    if mode.bits() >> 6 & 7 == 6 && whole(3) && whole(0) {
        Ok(mode)
    } else {
        Err(format!(
            "mode {mode} is none of a name space: who uses it reads and writes, and you do; expected \
             600, 660, 606 or 666"
        ))
    }
}

fn parse_limits(text: &str) -> Result<Wanted, String> {
    let mut limits = Limits::WIDE;
    for word in text.split(',') {
        match word {
            "kernel" => limits = Limits::KERNEL,
            "wide" => limits = Limits::WIDE,
            _ if !word.contains('=') => {
                return Err(format!(
                    "`{word}` names no limits; expected kernel, wide, or NAME=VALUE such as msgmax=1M"
                ));
            }
            setting => {
                let (limit, value) = parse_setting(setting).map_err(|error| error.to_string())?;
                *field(&mut limits, limit) = value;
            }
        }
    }
    Ok(Wanted(limits))
}

/// A limit of a name space by the name that the kernel's has.
pub fn field(limits: &mut Limits, limit: Limit) -> &mut u64 {
    match limit {
        Limit::Shmmax => &mut limits.shmmax,
        Limit::Shmmni => &mut limits.shmmni,
        Limit::Shmall => &mut limits.shmall,
        Limit::ShmRmidForced => &mut limits.shm_rmid_forced,
        Limit::Msgmax => &mut limits.msgmax,
        Limit::Msgmnb => &mut limits.msgmnb,
        Limit::Msgmni => &mut limits.msgmni,
        Limit::Semmsl => &mut limits.semmsl,
        Limit::Semmns => &mut limits.semmns,
        Limit::Semopm => &mut limits.semopm,
        Limit::Semmni => &mut limits.semmni,
    }
}

/// Where the library is.
fn library() -> Result<PathBuf, Failure> {
    let path = match env::var_os(LIBRARY_VARIABLE) {
        Some(path) => {
            let path = PathBuf::from(path);
            if !path.is_file() {
                return Err(Failure::new(
                    Exit::Failed,
                    format!(
                        "{LIBRARY_VARIABLE} names {}, which is no file; name the {LIBRARY} that was \
                         built with this command",
                        path.display()
                    ),
                ));
            }
            path
        }
        None => beside_this()?,
    };
    let path = path.canonicalize().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot use {}: {error}", path.display()),
        )
    })?;
    if path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| b" :\t\n".contains(byte))
    {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "cannot load {}: the dynamic linker takes a space or colon in a path for its end; \
                 put the library elsewhere and name it in {LIBRARY_VARIABLE}",
                path.display()
            ),
        ));
    }
    Ok(path)
}

fn beside_this() -> Result<PathBuf, Failure> {
    let this = env::current_exe().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot tell where this command is: {error}"),
        )
    })?;
    let folder = this.parent().unwrap_or(Path::new("/"));
    let places = [
        folder.join(LIBRARY),
        folder.join("../lib/tombolo").join(LIBRARY),
    ];
    let found = places.iter().find(|path| path.is_file());
    found.cloned().ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!(
                "{LIBRARY} is neither in {0} nor in {0}/../lib/tombolo; build it with: \
                 cargo build --release -p tombolo-preload-so, or name it in {LIBRARY_VARIABLE}",
                folder.display()
            ),
        )
    })
}

impl Plan for Running {
    fn run(mut self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        let kept = self.enter()?;
        let ended = self.run_in(&kept.folder);
        if self.name.is_none() {
            kept.remove_if_last();
        }
        ended?.pass_on()
    }
}

impl Running {
    /// Runs the program to its end; or becomes it, where nothing is left to be done afterwards.
    fn run_in(&mut self, folder: &Path) -> anyhow::Result<Ended> {
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.command[0])
            .args(&self.command[1..])
            .env(spaces::SPACE, folder)
            .env("LD_PRELOAD", preloads(&self.library))
            .env_remove(trace::VARIABLE);
        let mut tracer = match self.tracing.take() {
            Some(tracing) => Some(tracing.begin(folder, &mut command)?),
            None => None,
        };
        if self.name.is_some() && tracer.is_none() {
            return Err(self.unstarted(&command.exec()).into());
        }
        let ended = attend::run(&mut command);
        if let Some(tracer) = &mut tracer {
            if ended.is_ok() {
                tracer.outlast_program()?;
            }
            tracer.finish()?;
        }
        ended.map_err(|error| self.unstarted(&error).into())
    }

    /// The name space, in which this process then counts.
    fn enter(&self) -> Result<Kept, Failure> {
        let design = Design {
            limits: self.limits.map_or(Limits::WIDE, |wanted| wanted.0),
            mode: self.mode.unwrap_or_default(),
        };
        let Some(name) = &self.name else {
            return spaces::fresh(&design);
        };
        let kept = spaces::named(name, &design)?;
        let late = match (self.limits, self.mode) {
            (Some(_), _) => Some("--limits"),
            (_, Some(_)) => Some("--mode"),
            _ => None,
        };
        match late.filter(|_| !kept.new) {
            None => Ok(kept),
            Some(option) => Err(Failure::new(
                Exit::Exists,
                format!(
                    "name space {name} is there already, and {option} is for a new one; leave it \
                     away, change limits with: tombolo limits --namespace {name} --set, or first: \
                     tombolo rm namespace {name}"
                ),
            )),
        }
    }

    fn unstarted(&self, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        };
        let program = self.program.display();
        Failure::with_code(code, format!("cannot run {program}: {error}"))
    }
}

/// `LD_PRELOAD` with our library first, and once.
fn preloads(library: &Path) -> OsString {
    let mut all = library.as_os_str().to_owned();
    let before = env::var_os("LD_PRELOAD").unwrap_or_default();
    let others = before
        .as_bytes()
        .split(|byte| b" :".contains(byte))
        .filter(|other| !other.is_empty() && *other != library.as_os_str().as_bytes());
    for other in others {
        all.push(":");
        all.push(OsStr::from_bytes(other));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read() {
        assert_eq!(parse_limits("kernel"), Ok(Wanted(Limits::KERNEL)));
        assert_eq!(parse_limits("wide"), Ok(Wanted(Limits::WIDE)));
        let limits = parse_limits("kernel,msgmax=1M,SEMMNI=10").unwrap().0;
        assert_eq!((limits.msgmax, limits.semmni), (1 << 20, 10));
        assert_eq!(limits.msgmnb, Limits::KERNEL.msgmnb);
        for text in ["", "narrow", "msgmax", "msgmax=", "nothing=1"] {
            assert!(parse_limits(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_let_in_or_not() {
        for text in ["600", "660", "666", "606"] {
            assert!(parse_mode(text).is_ok(), "{text}");
        }
        for text in ["000", "640", "060", "700", "x"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
