//! `tombolo post`: a poster to a mailbox, which posts its input message by message.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use tombolo::mailbox::{LARGEST_TYPE, Options, PostError, Poster};
use tombolo::sysv::Mode;
use tombolo::{Address, Lifetime};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::feed::{Input, Sink, SplitArgs, Unread};
use crate::frame::{Frame, messages};
use crate::output::Output;
use crate::progress::ProgressArgs;
use crate::target::{self, TargetOptions};
use crate::value::parse_size;
use crate::wait::{Patience, WaitArgs};

/// Post each line of FILE or standard input as a message with a type to the mailbox NAME
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo post jobs < list                     each line is a message of type 1
  tombolo post jobs --type 7 < urgent          of type 7: tombolo take jobs --type 7
  printf '2 later\\n1 now\\n' | tombolo post jobs --typed
  tombolo post disk --chunk 64K image.raw      bytes as they are; take --raw writes them

Makes the mailbox if there is none. Messages wait for a taker as long as it takes, also when this
has ended; when the mailbox is full, this waits for room. It is a poster from its start to its end:
`tombolo take` ends when nothing is left and the last poster has ended. A message may have all of
the capacity.")]
pub struct Args {
    /// The mailbox's name, and the file; the file alone with --id, --key or --ftok
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
    /// The file with the messages; standard input without, or for -
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    #[command(flatten)]
    target: TargetOptions,
    /// The messages' type, from 1 to 9223372036854775807
    #[arg(long = "type", value_name = "N", default_value_t = 1, value_parser = parse_type)]
    kind: u64,
    /// Each message begins with its type and a space, which are no part of it
    #[arg(long, conflicts_with_all = ["kind", "chunk"])]
    typed: bool,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    when_full: WaitArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// The permissions of a new mailbox in octal: 600 without
    #[arg(long)]
    mode: Option<Mode>,
    /// Bytes that a new mailbox may hold: 64K, 1G; 16M without
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    capacity: Option<u64>,
    /// Messages that a new mailbox may hold; 65536 without
    #[arg(long, value_name = "N")]
    messages: Option<usize>,
    /// A new mailbox stays until it is removed, also when it is empty and nobody uses it
    #[arg(long)]
    until_removed: bool,
}

/// Reads a type.
pub fn parse_type(text: &str) -> Result<u64, String> {
    let kind = text.parse().ok();
    kind.filter(|kind| (1..=LARGEST_TYPE).contains(kind))
        .ok_or_else(|| format!("`{text}` is no type; types go from 1 to {LARGEST_TYPE}"))
}

/// What to post, and where.
pub struct Posting {
    address: Address,
    file: Option<PathBuf>,
    /// The type of all messages; `None` if each has its own.
    kind: Option<u64>,
    frame: Frame,
    when_full: Patience,
    progress: ProgressArgs,
    options: Options,
}

impl Args {
    /// Finds out which mailbox is meant.
    pub fn plan(self) -> anyhow::Result<Posting> {
        let (target, file) = self.target.and_rest(self.name, self.file)?;
        let frame = self.split.frame()?;
        let defaults = Options::default();
        let capacity = frame.capacity(self.capacity, defaults.capacity, 4)?;
        Ok(Posting {
            address: target::address(&target)?,
            file: file.filter(|file| file != "-").map(PathBuf::from),
            kind: (!self.typed).then_some(self.kind),
            frame,
            when_full: self.when_full.patience(),
            progress: self.progress,
            options: Options {
                capacity,
                messages: self.messages.unwrap_or(defaults.messages),
                mode: self.mode.unwrap_or(defaults.mode),
                lifetime: if self.until_removed {
                    Lifetime::UntilRemoved
                } else {
                    Lifetime::WhileUsed
                },
                ..defaults
            },
        })
    }
}

impl Plan for Posting {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        // What cannot be read makes no mailbox.
        let input = Input::open(self.file.as_ref())?;
        let opened = match &self.address {
            Address::Id(_) => Poster::open(self.address.clone()),
            _ => Poster::open_or_create(self.address.clone(), &self.options),
        };
        let mut sender = Sender {
            poster: opened.map_err(|error| Failure::opening(&error))?,
            plan: &self,
            sent: 0,
        };
        input.feed(self.frame, &mut sender, self.progress, &self.address)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A poster that counts.
struct Sender<'a> {
    poster: Poster,
    plan: &'a Posting,
    sent: u64,
}

/// The largest type and a space.
const PREFIX: usize = "9223372036854775807 ".len();

impl Sink for Sender<'_> {
    fn longest(&self) -> usize {
        let longest = self.poster.longest();
        match self.plan.kind {
            Some(_) => longest,
            None => longest.saturating_add(PREFIX),
        }
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn read_and_send(&mut self, from: &File, most: usize) -> Option<Result<usize, Unread>> {
        let kind = self.plan.kind?;
        let posted = match self.poster.loan(kind, most, self.plan.when_full.into()) {
            Ok(mut loan) => match loan.bytes().read_from(0, from) {
                // What was lent is given back.
                Ok(0) => return Some(Ok(0)),
                Ok(length) => loan.post_part(length).map(|()| length),
                Err(error) => return Some(Err(Unread::Unread(error))),
            },
            Err(error) => Err(error),
        };
        if posted.is_ok() {
            self.sent += 1;
        }
        Some(posted.map_err(|error| Unread::Unsent(self.failed(error))))
    }

    fn send(&mut self, messages: &mut dyn Iterator<Item = &[u8]>) -> Result<(), Failure> {
        for message in messages {
            let (kind, text) = match self.plan.kind {
                Some(kind) => (kind, message),
                None => typed(message).ok_or_else(|| self.untyped(message))?,
            };
            let posted = match self.plan.when_full {
                Patience::Forever => self.poster.post(kind, text),
                Patience::For(time) => self.poster.post_timeout(kind, text, time),
                Patience::None => self.poster.try_post(kind, text),
            };
            posted.map_err(|error| self.failed(error))?;
            self.sent += 1;
        }
        Ok(())
    }

    fn too_long(&self, length: usize) -> Failure {
        let longest = self.poster.longest();
        self.failed(PostError::TooLong { length, longest })
    }
}

/// Splits a message that begins with its type.
fn typed(message: &[u8]) -> Option<(u64, &[u8])> {
    let end = message.iter().position(|byte| *byte == b' ')?;
    let kind = std::str::from_utf8(&message[..end]).ok()?;
    Some((parse_type(kind).ok()?, &message[end + 1..]))
}

impl Sender<'_> {
    fn untyped(&self, message: &[u8]) -> Failure {
        let begins = String::from_utf8_lossy(&message[..message.len().min(24)]);
        let text = format!(
            "cannot post to {} after {}: the next begins with `{}` rather than with a type from 1 \
             to {LARGEST_TYPE} and a space, as --typed has it",
            self.plan.address,
            messages(self.sent),
            begins.escape_debug(),
        );
        Failure::new(Exit::Failed, text)
    }

    fn failed(&self, error: PostError) -> Failure {
        let (address, sent) = (&self.plan.address, messages(self.sent));
        let (exit, why) = match error {
            PostError::Full => (
                Exit::WouldWait,
                "it is full; take from it: tombolo take, or wait longer".to_owned(),
            ),
            PostError::TooLong { length, longest } => (
                Exit::Failed,
                format!(
                    "a message of {length} bytes or more is longer than the {longest} bytes that \
                     fit; remove the mailbox, and make it with a larger --capacity"
                ),
            ),
            PostError::Removed => (
                Exit::Missing,
                "it was removed meanwhile; try again".to_owned(),
            ),
            error => (Exit::Failed, error.to_string()),
        };
        let text = format!("cannot post to {address} after {sent}: {why}");
        Failure::new(exit, text)
    }
}
