//! How the command ends: the exit codes, and the errors that carry one.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use tombolo::sysv::Errno;
use tombolo::{OpenError, Reason};

/// What the exit code says. `TABLE` is what `--help` and the man page show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Missing = 3,
    Denied = 4,
    WouldWait = 5,
    InUse = 6,
    Exists = 7,
    Limit = 8,
    Refused = 9,
}

/// The documented meaning of each code.
pub const TABLE: &str = "\
Exit codes:
  0  done (also when whoever reads the output stops reading)
  1  failed for another reason than those below
  2  the command line is wrong
  3  no such object, or it was removed while waiting
  4  permission denied
  5  it would have to wait (--no-wait), or the time was up (--timeout)
  6  in use: not removed without --force
  7  an object with that key exists already
  8  a limit is reached (see: tombolo limits)
  9  the service that was called answered with an error
  126, 127  a COMMAND given after `--` cannot be run, or is not found
When several objects are named, the others are still worked on after a failure; the code is that
of the first failure.";

impl Exit {
    /// The code for a system call's refusal, where the command has no better one.
    pub fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::INVAL | Errno::IDRM => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::AGAIN | Errno::NOMSG | Errno::TIMEDOUT => Self::WouldWait,
            Errno::EXIST => Self::Exists,
            Errno::NOSPC | Errno::NOMEM | Errno::TOOBIG => Self::Limit,
            _ => Self::Failed,
        }
    }
}

/// An error that knows its exit code. The text names the object and the next step.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// An error with the code of `exit`.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            code: exit as u8,
            text: text.into(),
        }
    }

    /// A channel can't be opened.
    pub fn opening(error: &OpenError) -> Self {
        let exit = match error.reason() {
            _ if error.is_not_found() => Exit::Missing,
            _ if error.is_permission_denied() => Exit::Denied,
            _ if error.is_limit() => Exit::Limit,
            Reason::WindowFull(_) => Exit::Exists,
            Reason::Unfinished(_) => Exit::WouldWait,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }

    /// The command line is wrong.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// An error with a code of its own: 126 and 127, as shells have them.
    pub fn with_code(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

/// Several things were tried; says each failure as it comes, and remembers the first one's code.
#[derive(Default)]
pub struct Failures {
    first: Option<u8>,
}

impl Failures {
    /// Says `error` on standard error.
    pub fn say(&mut self, error: &anyhow::Error) {
        print(error);
        self.first.get_or_insert(code(error));
    }

    /// The code of the first failure, or that of success.
    pub fn exit(self) -> ExitCode {
        ExitCode::from(self.first.unwrap_or(Exit::Done as u8))
    }
}

/// Turns the outcome of a run into what the process answers, and says what went wrong.
pub fn finish(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        // Whoever read us has seen enough, as after `| head`: nothing went wrong here.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print(&error);
            ExitCode::from(code(&error))
        }
    }
}

fn print(error: &anyhow::Error) {
    // Nobody may be listening on standard error either; there is nowhere left to say so.
    let _ = writeln!(io::stderr(), "tombolo: {error:#}");
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            cause
                .downcast_ref::<Failure>()
                .map(|failure| failure.code)
                .or_else(|| {
                    cause
                        .downcast_ref::<Errno>()
                        .map(|errno| Exit::of(*errno) as u8)
                })
                .or_else(|| {
                    cause
                        .downcast_ref::<io::Error>()
                        .filter(|error| error.kind() == io::ErrorKind::PermissionDenied)
                        .map(|_| Exit::Denied as u8)
                })
        })
        .unwrap_or(Exit::Failed as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_innermost_failure_gives_the_code() {
        let error = anyhow::Error::new(Failure::new(Exit::InUse, "busy")).context("outer");
        assert_eq!(code(&error), 6);
        let error = Err::<(), _>(Errno::ACCESS).context("outer").unwrap_err();
        assert_eq!(code(&error), 4);
        assert_eq!(code(&anyhow::anyhow!("plain")), 1);
    }

    #[test]
    fn a_closed_pipe_is_recognised_under_context() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::new(pipe).context("writing")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("plain")));
    }

    #[test]
    fn every_code_is_documented() {
        for code in 0..=Exit::Refused as u8 {
            assert!(TABLE.contains(&format!("\n  {code}  ")), "{code}");
        }
    }
}
