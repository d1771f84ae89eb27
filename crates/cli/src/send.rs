//! `tombolo send`: a producer of a queue, which sends its input message by message.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use tombolo::queue::{BatchError, Options, Producer, SendError};
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

/// Send each line of FILE or standard input as a message to the queue NAME
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo send jobs < list                 each line is a message
  find . -print0 | tombolo send jobs --null
  tombolo send disk --chunk 64K image.raw  bytes as they are; recv --raw writes them
  tail -f log | tombolo send log --wait    stays when the last receiver goes

Makes the queue if there is none. It is a sender from its start to its end: receivers get the end
of the queue when the last one has ended. Messages are sent as they come, and wait for a receiver,
also for the first one; when the queue is full, so does this command. Once the last receiver has
gone it ends with an error, as with a pipe, unless it is told to --wait. A message may have almost
half of the capacity.")]
pub struct Args {
    /// The queue's name, and the file; the file alone with --id, --key or --ftok
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
    /// The file with the messages; standard input without, or for -
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    split: SplitArgs,
    #[command(flatten)]
    when_full: WaitArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// When the last receiver is gone, wait for the next one
    #[arg(long)]
    wait: bool,
    /// The permissions of a new queue in octal: 600 without
    #[arg(long)]
    mode: Option<Mode>,
    /// Room that a new queue has for each sender: 64K, 16M; 4M without
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    capacity: Option<u64>,
    /// A new queue stays until it is removed, also when it is empty and nobody uses it
    #[arg(long)]
    until_removed: bool,
}

/// What to send, and where.
pub struct Sending {
    address: Address,
    file: Option<PathBuf>,
    frame: Frame,
    when_full: Patience,
    progress: ProgressArgs,
    wait: bool,
    options: Options,
}

impl Args {
    /// Finds out which queue is meant.
    pub fn plan(self) -> anyhow::Result<Sending> {
        let (target, file) = self.target.and_rest(self.name, self.file)?;
        let frame = self.split.frame()?;
        let defaults = Options::default();
        let capacity = frame.capacity(self.capacity, defaults.capacity, 4)?;
        Ok(Sending {
            address: target::address(&target)?,
            file: file.filter(|file| file != "-").map(PathBuf::from),
            frame,
            when_full: self.when_full.patience(),
            progress: self.progress,
            wait: self.wait,
            options: Options {
                capacity,
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

impl Plan for Sending {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        // What cannot be read makes no queue.
        let input = Input::open(self.file.as_ref())?;
        let mut sender = self.open()?;
        input.feed(self.frame, &mut sender, self.progress, &self.address)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Sending {
    fn open(&self) -> Result<Sender<'_>, Failure> {
        let opened = match &self.address {
            Address::Id(_) => Producer::open(self.address.clone()),
            _ => Producer::open_or_create(self.address.clone(), &self.options),
        };
        let producer = opened.map_err(|error| Failure::opening(&error))?;
        Ok(Sender {
            producer: producer.follow(self.wait),
            plan: self,
            sent: 0,
        })
    }
}

/// A producer that counts.
struct Sender<'a> {
    producer: Producer,
    plan: &'a Sending,
    sent: u64,
}

impl Sink for Sender<'_> {
    fn longest(&self) -> usize {
        self.producer.longest()
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn read_and_send(&mut self, from: &File, most: usize) -> Option<Result<usize, Unread>> {
        let loan = self.producer.loan(most, self.plan.when_full.into());
        let sent = match loan {
            Ok(mut loan) => match loan.bytes().read_from(0, from) {
                // What was lent is given back.
                Ok(0) => return Some(Ok(0)),
                Ok(length) => loan.publish_part(length).map(|()| length),
                Err(error) => return Some(Err(Unread::Unread(error))),
            },
            Err(error) => return Some(Err(Unread::Unsent(self.failed(error)))),
        };
        self.sent += 1;
        Some(sent.map_err(|error| Unread::Unread(io::Error::other(error))))
    }

    fn send(&mut self, messages: &mut dyn Iterator<Item = &[u8]>) -> Result<(), Failure> {
        let sent = match self.plan.when_full {
            Patience::Forever => match self.producer.send_batch(messages) {
                Ok(sent) => {
                    self.sent += sent as u64;
                    Ok(())
                }
                Err(BatchError { sent, error }) => {
                    self.sent += sent as u64;
                    Err(error)
                }
            },
            Patience::For(time) => self.one_by_one(messages, |producer, message| {
                producer.send_timeout(message, time)
            }),
            Patience::None => self.one_by_one(messages, Producer::try_send),
        };
        sent.map_err(|error| self.failed(error))
    }

    fn too_long(&self, length: usize) -> Failure {
        let longest = self.longest();
        self.failed(SendError::TooLong { length, longest })
    }
}

impl Sender<'_> {
    fn one_by_one(
        &mut self,
        messages: &mut dyn Iterator<Item = &[u8]>,
        send: impl Fn(&mut Producer, &[u8]) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        for message in messages {
            send(&mut self.producer, message)?;
            self.sent += 1;
        }
        Ok(())
    }

    fn failed(&self, error: SendError) -> Failure {
        let (address, sent) = (&self.plan.address, messages(self.sent));
        let (exit, why) = match error {
            SendError::Full => (
                Exit::WouldWait,
                "it is full; receive from it: tombolo recv, or wait longer".to_owned(),
            ),
            SendError::NoConsumers => (
                Exit::Failed,
                "its last receiver is gone; start another: tombolo recv, and wait for it with --wait"
                    .to_owned(),
            ),
            SendError::TooLong { length, longest } => (
                Exit::Failed,
                format!(
                    "a message of {length} bytes or more is longer than the {longest} bytes that \
                     fit; remove the queue, and make it with a larger --capacity"
                ),
            ),
            SendError::Removed => (
                Exit::Missing,
                "it was removed meanwhile; try again".to_owned(),
            ),
            error => (Exit::Failed, error.to_string()),
        };
        let text = format!("cannot send to {address} after {sent}: {why}");
        Failure::new(exit, text)
    }
}
