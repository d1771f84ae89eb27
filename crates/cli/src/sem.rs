//! `tombolo semop`: operations on a semaphore set, all or none, also for the life of a command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::{io, str::FromStr};

use tombolo::sysv::{Errno, sem};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::object::{self, Object};
use crate::output::Output;
use crate::place::{self, PlaceArgs, calls};
use crate::refuse::refused;
use crate::target::{self, Target, TargetOptions};
use crate::wait::{Patience, WaitArgs};

/// Operate on the semaphores of a set, all operations or none
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo semop 7 0:-1                       take one from semaphore 0; wait until there is one
  tombolo semop 7 0:-1 1:+2 2:0              three at once; N:0 waits until N is zero
  tombolo semop 7 0:-1 --timeout 5s
  tombolo semop 7 0:-1 --undo -- make test   hold it while `make test` runs

With a command after `--` the operations are undone when it ends, in whatever way. It runs in this
very process, in the place of tombolo: so its process id, its exit status, its signals and its
terminal are what they would be without tombolo, and the kernel undoes even after a SIGKILL. It
does not run unless the operations were done. What it starts in the background does not count:
the operations are undone when the command itself ends. (A process's undo list is not inherited by
fork, but kept by exec.)

{}", target::HELP), override_usage = "\
tombolo semop [OPTIONS] SET N:AMOUNT... [-- COMMAND [ARG]...]
       tombolo semop [OPTIONS] <--id ID|--key KEY|--ftok PATH,ID> N:AMOUNT... [-- COMMAND [ARG]...]")]
pub struct Args {
    /// The set, then the operations: +2 adds, -1 takes, 0 waits for zero
    #[arg(
        value_name = "SET> <N:AMOUNT",
        required = true,
        allow_negative_numbers = true
    )]
    words: Vec<String>,
    #[command(flatten)]
    options: TargetOptions,
    #[command(flatten)]
    wait: WaitArgs,
    /// Undo the operations when COMMAND ends; implied by a COMMAND
    #[arg(long)]
    undo: bool,
    /// Run this while the operations hold
    #[arg(last = true)]
    command: Vec<OsString>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to do.
pub struct Operating {
    target: Target,
    operations: Vec<sem::Operation>,
    patience: Patience,
    command: Vec<OsString>,
}

/// One `N:AMOUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    number: u16,
    amount: i16,
}

impl FromStr for Step {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let read = || {
            let (number, amount) = text.split_once(':')?;
            Some(Self {
                number: number.parse().ok()?,
                amount: amount.parse().ok()?,
            })
        };
        read().ok_or_else(|| {
            Failure::usage(format!(
                "`{text}` is no operation; expected SEMAPHORE:AMOUNT such as 0:-1, 1:+2 or 2:0, \
                 with amounts from -32767 to +32767"
            ))
        })
    }
}

impl Args {
    /// Reads the operations.
    pub fn plan(self) -> anyhow::Result<Operating> {
        self.place.enter()?;
        let (target, steps) = match self.options.target() {
            Some(target) => (target, &self.words[..]),
            None => (self.words[0].parse()?, &self.words[1..]),
        };
        if steps.is_empty() {
            return Err(Failure::usage(
                "which operations? give at least one, such as 0:-1 to take one from semaphore 0",
            )
            .into());
        }
        let patience = self.wait.patience();
        let undo = !self.command.is_empty();
        if self.undo && !undo {
            return Err(Failure::usage(
                "--undo needs a command to last for, or the operations were undone at once; add it \
                 after --, as in: --undo -- make test",
            )
            .into());
        }
        let operation = |text: &String| {
            let step: Step = text.parse()?;
            Ok(sem::Operation {
                number: step.number,
                amount: step.amount,
                no_wait: patience == Patience::None,
                undo,
            })
        };
        let operations = steps
            .iter()
            .map(operation)
            .collect::<Result<_, Failure>>()?;
        Ok(Operating {
            target,
            operations,
            patience,
            command: self.command,
        })
    }
}

impl Plan for Operating {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        let id = self.target.id(Kind::Sem, "operate on")?;
        let set = sem::Set::from_id_in(calls(), id);
        let done = match self.patience {
            Patience::For(time) => set.operate_timeout(&self.operations, time),
            Patience::Forever | Patience::None => set.operate(&self.operations),
        };
        done.map_err(|errno| self.refused(id, errno))?;
        let [program, arguments @ ..] = &self.command[..] else {
            return Ok(ExitCode::SUCCESS);
        };
        let error = Command::new(program).args(arguments).exec();
        let (code, why) = match error.kind() {
            io::ErrorKind::NotFound => (127, "not found".to_owned()),
            _ => (126, error.to_string()),
        };
        let program = program.display();
        Err(Failure::with_code(
            code,
            format!("cannot run {program}: {why}; the operations are undone"),
        )
        .into())
    }
}

impl Operating {
    fn refused(&self, id: i32, errno: Errno) -> Failure {
        let what = format!("cannot operate on {} {}", Kind::Sem, self.target);
        let here = place::option();
        let count = || match object::find(Kind::Sem, id) {
            Ok(Some(Object::Sem(set))) => set.count,
            _ => 0,
        };
        match errno {
            Errno::AGAIN => {
                let why = match self.patience {
                    Patience::For(_) => "the time is up",
                    _ => "it would have to wait",
                };
                Failure::new(
                    Exit::WouldWait,
                    format!(
                        "{what}: {why}, and nothing was done; see who holds it with: tombolo show sem {id}{here}"
                    ),
                )
            }
            Errno::FBIG => {
                let highest = self
                    .operations
                    .iter()
                    .map(|operation| operation.number)
                    .max();
                Failure::new(
                    Exit::Failed,
                    format!(
                        "{what}: it has no semaphore {}; it has {}, numbered from 0",
                        highest.unwrap_or_default(),
                        count()
                    ),
                )
            }
            Errno::RANGE => Failure::new(
                Exit::Failed,
                format!(
                    "{what}: a value would pass 32767; see the values with: tombolo show sem {id}{here}"
                ),
            ),
            Errno::TOOBIG => Failure::new(
                Exit::Limit,
                format!(
                    "{what}: {} operations are more than the limit semopm; see: tombolo limits{here}",
                    self.operations.len()
                ),
            ),
            _ => refused("operate on", Kind::Sem, &self.target, id, errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read() {
        let step = |text: &str| text.parse::<Step>().ok();
        assert_eq!(
            step("0:-1"),
            Some(Step {
                number: 0,
                amount: -1
            })
        );
        assert_eq!(
            step("1:+2"),
            Some(Step {
                number: 1,
                amount: 2
            })
        );
        assert_eq!(
            step("2:0"),
            Some(Step {
                number: 2,
                amount: 0
            })
        );
        for text in ["", "1", ":1", "1:", "-1:1", "1:40000", "a:1", "1:1:1"] {
            assert_eq!(step(text), None, "{text}");
        }
    }
}
