//! `tombolo take`: a taker from a mailbox, which writes what it takes.

use std::io::{self, Write};
use std::process::ExitCode;

use tombolo::mailbox::{TakeError, Taken, Taker, Wanted};
use tombolo::{Address, OpenError, Patience};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::frame::{Frame, JoinArgs, messages};
use crate::output::Output;
use crate::post::parse_type;
use crate::progress::{Progress, ProgressArgs};
use crate::target::{self, TargetOptions};
use crate::wait::{self, WaitArgs};

/// Take messages from the mailbox NAME, all or by type, and write each as a line
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo take jobs                     to the end: until nothing is left and all posters have ended
  tombolo take jobs --type 7 --count 1 --timeout 5s
  tombolo take jobs --up-to 9           the lowest type first, up to 9: as priorities
  tombolo take jobs --except 1 --follow waits for the next poster instead of ending
  tombolo take jobs --typed             writes `TYPE MESSAGE`, as post --typed reads it
  tombolo take jobs --peek --no-wait    shows the message that comes next, and leaves it there

Waits until there is the mailbox. Each message goes to one taker only, and is gone from the mailbox
before it is written. Ends with exit code 0 when nothing that is wanted is left and all posters have
ended, and with 1 if one of them was killed meanwhile. A message that a taker had in hand when it
was killed goes to another, which says so.")]
pub struct Args {
    /// The mailbox's name
    name: Option<String>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    which: WhichArgs,
    /// Write the type of each message and a space before it
    #[arg(long, conflicts_with = "raw")]
    typed: bool,
    #[command(flatten)]
    join: JoinArgs,
    /// The time is that for the mailbox to come, and for each message
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// When the last poster is gone, wait for the next one
    #[arg(long)]
    follow: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write the message that would be taken, and leave it where it is
    #[arg(long, conflicts_with = "count")]
    peek: bool,
    /// With --peek, the message at this place, 0 being the oldest; does not wait
    #[arg(long, value_name = "N", requires = "peek", conflicts_with_all = ["kind", "up_to", "except"])]
    at: Option<u64>,
}

/// Which messages.
#[derive(clap::Args)]
#[group(multiple = false)]
struct WhichArgs {
    /// Only messages of this type
    #[arg(long = "type", value_name = "N", value_parser = parse_type)]
    kind: Option<u64>,
    /// Of the messages of types up to this one, those of the lowest type first
    #[arg(long, value_name = "N", value_parser = parse_type)]
    up_to: Option<u64>,
    /// Only messages of other types than this
    #[arg(long, value_name = "N", value_parser = parse_type)]
    except: Option<u64>,
}

impl WhichArgs {
    fn wanted(&self) -> Wanted {
        match (self.kind, self.up_to, self.except) {
            (Some(kind), ..) => Wanted::Type(kind),
            (_, Some(most), _) => Wanted::UpTo(most),
            (.., Some(unwanted)) => Wanted::Except(unwanted),
            _ => Wanted::Any,
        }
    }
}

/// What to take, and how long to wait for it.
pub struct Taking {
    address: Address,
    wanted: Wanted,
    typed: bool,
    frame: Frame,
    wait: WaitArgs,
    progress: ProgressArgs,
    follow: bool,
    count: Option<u64>,
    peek: bool,
    at: Option<u64>,
}

impl Args {
    /// Finds out which mailbox is meant.
    pub fn plan(self) -> anyhow::Result<Taking> {
        let target = self.target.only(self.name)?;
        Ok(Taking {
            address: target::address(&target)?,
            wanted: self.which.wanted(),
            typed: self.typed,
            frame: self.join.frame(),
            wait: self.wait,
            progress: self.progress,
            follow: self.follow,
            count: if self.peek { Some(1) } else { self.count },
            peek: self.peek,
            at: self.at,
        })
    }
}

impl Plan for Taking {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        if self.count == Some(0) {
            return Ok(ExitCode::SUCCESS);
        }
        let patience = Patience::from(self.wait.patience());
        let mut taker = self.open(patience)?;
        let progress = Progress::new(self.progress, None);
        let (mut text, mut bytes) = (Vec::new(), Vec::new());
        let (mut count, mut unwritten) = (0, false);
        while self.count != Some(count) {
            // Readers see what came before this waits for more.
            let wait = match unwritten {
                true => wait::Patience::None,
                false => self.wait.patience(),
            };
            match self.next(&mut taker, wait, &mut text) {
                Ok(None) if unwritten => {
                    out.flush()?;
                    unwritten = false;
                }
                Ok(None) if self.at.is_some() => return Err(self.not_so_many().into()),
                Ok(None) if self.wait.patience() != wait::Patience::Forever => {
                    return Err(self.nothing(count).into());
                }
                Ok(None) => {}
                Ok(Some(taken)) => {
                    count += 1;
                    unwritten = true;
                    bytes.clear();
                    self.append(&mut bytes, taken, &text)?;
                    out.bytes(&bytes)?;
                    progress.count(1, bytes.len() as u64);
                }
                Err(TakeError::Closed) => return Ok(ExitCode::SUCCESS),
                // Removed before anything was in it: somebody may make it anew.
                Err(TakeError::Removed)
                    if count == 0 && !self.is_by_id() && !patience.is_over() =>
                {
                    taker = self.open(patience)?;
                }
                Err(error) => {
                    out.flush()?;
                    return Err(self.failed(error, count).into());
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Taking {
    fn open(&self, patience: Patience) -> Result<Taker, Failure> {
        // Ids are the kernel's choice: nobody can make one that is waited for.
        let opened = if self.is_by_id() {
            Taker::open(self.address.clone())
        } else {
            Taker::wait(self.address.clone(), patience)
        };
        let taker = opened.map_err(|error| self.unopened(&error))?;
        Ok(taker.follow(self.follow))
    }

    fn next(
        &self,
        taker: &mut Taker,
        wait: wait::Patience,
        text: &mut Vec<u8>,
    ) -> Result<Option<Taken>, TakeError> {
        if let Some(position) = self.at {
            return taker.peek_at(position, text);
        }
        if self.peek {
            return taker.peek(self.wanted, wait.into(), text);
        }
        match wait {
            wait::Patience::Forever => taker.take(self.wanted, text).map(Some),
            wait::Patience::For(time) => taker.take_timeout(self.wanted, text, time),
            wait::Patience::None => taker.try_take(self.wanted, text),
        }
    }

    /// Appends a message as it is written.
    fn append(&self, bytes: &mut Vec<u8>, taken: Taken, text: &[u8]) -> Result<(), Failure> {
        if taken.redelivered && !self.peek {
            // Nobody may be listening there; the message is taken all the same.
            let _ = writeln!(
                io::stderr(),
                "tombolo: warning: the next message of {} may have been taken before: the process \
                 that had it was killed",
                self.address
            );
        }
        let prefix = match self.typed {
            true => format!("{} ", taken.kind),
            false => String::new(),
        };
        let length = prefix.len() + text.len();
        let written = self.frame.append(bytes, length, |to| {
            to.extend_from_slice(prefix.as_bytes());
            to.extend_from_slice(text);
        });
        written.ok_or_else(|| {
            let text = format!(
                "a message of {} has {length} bytes, more than a length of 32 bits can say",
                self.address
            );
            Failure::new(Exit::Failed, text)
        })
    }

    fn is_by_id(&self) -> bool {
        matches!(self.address, Address::Id(_))
    }

    fn unopened(&self, error: &OpenError) -> Failure {
        match self.wait.patience() {
            wait::Patience::For(_) if error.is_not_found() && !self.is_by_id() => self.nothing(0),
            _ => Failure::opening(error),
        }
    }

    fn not_so_many(&self) -> Failure {
        let text = format!(
            "{} has no message at this place; see how many it has: tombolo ls channels",
            self.address
        );
        Failure::new(Exit::WouldWait, text)
    }

    fn nothing(&self, taken: u64) -> Failure {
        let what = match self.wanted {
            Wanted::Any => "no message".to_owned(),
            Wanted::Type(kind) => format!("no message of type {kind}"),
            Wanted::UpTo(most) => format!("no message of a type up to {most}"),
            Wanted::Except(unwanted) => format!("no message of another type than {unwanted}"),
        };
        let text = format!(
            "{what} came to {} after {taken} that did; post one with: tombolo post, or wait longer",
            self.address
        );
        Failure::new(Exit::WouldWait, text)
    }

    fn failed(&self, error: TakeError, taken: u64) -> Failure {
        let (address, taken) = (&self.address, messages(taken));
        let (exit, text) = match error {
            TakeError::PosterDied => (
                Exit::Failed,
                format!(
                    "a poster of {address} was killed before its end; everything that it had \
                     posted was taken ({taken} here); start it again"
                ),
            ),
            TakeError::Removed => (
                Exit::Missing,
                format!("{address} was removed after {taken}"),
            ),
            error => (
                Exit::Failed,
                format!("cannot take from {address} after {taken}: {error}"),
            ),
        };
        Failure::new(exit, text)
    }
}
