//! `tombolo pub`: a publisher of a topic, which publishes its input message by message.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use tombolo::sysv::Mode;
use tombolo::topic::{BatchError, Options, Policy, PublishError, Publisher};
use tombolo::{Address, Lifetime};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::feed::{Input, Sink, SplitArgs};
use crate::frame::{Frame, messages};
use crate::output::Output;
use crate::progress::ProgressArgs;
use crate::target::{self, TargetOptions};
use crate::value::parse_size;
use crate::wait::{Patience, WaitArgs};

/// Publish each line of FILE or standard input as a message to the topic NAME
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo pub log < lines                  each line goes to every `tombolo sub log`
  tombolo pub prices --until-removed < new stays, with its history, when this has ended
  tombolo pub frames --chunk 64K video.raw bytes as they are; sub --raw writes them
  tombolo pub orders --wait-for-slowest    a new topic in which nobody loses a message

Makes the topic if there is none. It is a publisher from its start to its end: subscribers get the
end of the topic when the last one has ended. Whether anybody listens makes no difference. A topic
goes with its last user, unless it was made with --until-removed. Where slow subscribers are
overrun, which is the default, this never waits; with --wait-for-slowest it waits for the slowest
subscriber that lives. A message may have almost a quarter of the capacity.")]
pub struct Args {
    /// The topic's name, and the file; the file alone with --id, --key or --ftok
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
    /// In a new topic, wait for slow subscribers rather than overrun them
    #[arg(long)]
    wait_for_slowest: bool,
    /// The permissions of a new topic in octal: 600 without
    #[arg(long)]
    mode: Option<Mode>,
    /// Room that a new topic has for each publisher, history included: 64K, 16M; 1M without
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    capacity: Option<u64>,
    /// A new topic stays until it is removed, also when nobody uses it
    #[arg(long)]
    until_removed: bool,
}

/// What to publish, and where.
pub struct Publishing {
    address: Address,
    file: Option<PathBuf>,
    frame: Frame,
    when_full: Patience,
    progress: ProgressArgs,
    options: Options,
}

impl Args {
    /// Finds out which topic is meant.
    pub fn plan(self) -> anyhow::Result<Publishing> {
        let (target, file) = self.target.and_rest(self.name, self.file)?;
        let frame = self.split.frame()?;
        let defaults = Options::default();
        let capacity = frame.capacity(self.capacity, defaults.capacity, 16)?;
        Ok(Publishing {
            address: target::address(&target)?,
            file: file.filter(|file| file != "-").map(PathBuf::from),
            frame,
            when_full: self.when_full.patience(),
            progress: self.progress,
            options: Options {
                capacity,
                mode: self.mode.unwrap_or(defaults.mode),
                policy: if self.wait_for_slowest {
                    Policy::WaitForSlowest
                } else {
                    Policy::Overrun
                },
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

impl Plan for Publishing {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        // What cannot be read makes no topic.
        let input = Input::open(self.file.as_ref())?;
        let opened = match &self.address {
            Address::Id(_) => Publisher::open(self.address.clone()),
            _ => Publisher::open_or_create(self.address.clone(), &self.options),
        };
        let mut sink = Topic {
            publisher: opened.map_err(|error| Failure::opening(&error))?,
            address: &self.address,
            when_full: self.when_full,
            sent: 0,
        };
        input.feed(self.frame, &mut sink, self.progress, &self.address)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A publisher that counts.
struct Topic<'a> {
    publisher: Publisher,
    address: &'a Address,
    when_full: Patience,
    sent: u64,
}

impl Sink for Topic<'_> {
    fn longest(&self) -> usize {
        self.publisher.longest()
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn send(&mut self, messages: &mut dyn Iterator<Item = &[u8]>) -> Result<(), Failure> {
        let published = match self.when_full {
            Patience::Forever => match self.publisher.publish_batch(messages) {
                Ok(published) => {
                    self.sent += published as u64;
                    Ok(())
                }
                Err(BatchError { published, error }) => {
                    self.sent += published as u64;
                    Err(error)
                }
            },
            Patience::For(time) => self.one_by_one(messages, |publisher, message| {
                publisher.publish_timeout(message, time)
            }),
            Patience::None => self.one_by_one(messages, Publisher::try_publish),
        };
        published.map_err(|error| self.failed(error))
    }

    fn too_long(&self, length: usize) -> Failure {
        let longest = self.longest();
        self.failed(PublishError::TooLong { length, longest })
    }
}

impl Topic<'_> {
    fn one_by_one(
        &mut self,
        messages: &mut dyn Iterator<Item = &[u8]>,
        publish: impl Fn(&mut Publisher, &[u8]) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        for message in messages {
            publish(&mut self.publisher, message)?;
            self.sent += 1;
        }
        Ok(())
    }

    fn failed(&self, error: PublishError) -> Failure {
        let (exit, why) = match error {
            PublishError::Full => (
                Exit::WouldWait,
                format!(
                    "its slowest subscriber leaves no room; see who that is: tombolo show {}, or \
                     wait longer",
                    self.address
                ),
            ),
            PublishError::TooLong { length, longest } => (
                Exit::Failed,
                format!(
                    "a message of {length} bytes or more is longer than the {longest} bytes that \
                     fit; remove the topic, and make it with a larger --capacity"
                ),
            ),
            PublishError::Removed => (
                Exit::Missing,
                "it was removed meanwhile; try again".to_owned(),
            ),
            error => (Exit::Failed, error.to_string()),
        };
        let (address, sent) = (self.address, messages(self.sent));
        let text = format!("cannot publish to {address} after {sent}: {why}");
        Failure::new(exit, text)
    }
}
