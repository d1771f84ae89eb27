//! `tombolo sub`: a subscriber of a topic, which writes what is published.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tombolo::topic::{RecvError, Start, Subscriber};
use tombolo::{Address, OpenError, Patience};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::frame::{Frame, JoinArgs, messages};
use crate::output::Output;
use crate::progress::{Progress, ProgressArgs};
use crate::target::{self, TargetOptions};
use crate::wait::{self, WaitArgs};

/// Messages that are received before they are written.
const BATCH: u64 = 256;
/// How often it is said that messages were lost.
const SELDOM: Duration = Duration::from_secs(1);

/// Subscribe to the topic NAME and write each message as a line to standard output
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo sub log                      from now on, until all publishers have ended
  tombolo sub log --history 10         the last ten first
  tombolo sub log --oldest --no-wait   what is still there, and no more
  tombolo sub prices --follow          waits for the next publisher instead of ending
  tombolo sub frames --raw > video.raw bytes as they are, as pub --chunk published them

Waits until there is the topic. Each message goes to every subscriber. Ends with exit code 0 when
all publishers have ended and everything was received, and with 1 if one of them was killed instead.
A subscriber that is too slow for a topic that does not wait for it loses messages, never parts of
one; it says on standard error exactly how many, and goes on. History is counted for each publisher.")]
pub struct Args {
    /// The topic's name
    name: Option<String>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    join: JoinArgs,
    /// The time is that for the topic to come, and for each message
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Begin with the last so many messages of each publisher, as far as they are still there
    #[arg(long, value_name = "N", conflicts_with = "oldest")]
    history: Option<u64>,
    /// Begin with the oldest messages that are still there
    #[arg(long)]
    oldest: bool,
    /// When the last publisher is gone, wait for the next one
    #[arg(long)]
    follow: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// What to receive, and how long to wait for it.
pub struct Subscribing {
    address: Address,
    frame: Frame,
    wait: WaitArgs,
    progress: ProgressArgs,
    start: Start,
    follow: bool,
    count: Option<u64>,
}

impl Args {
    /// Finds out which topic is meant.
    pub fn plan(self) -> anyhow::Result<Subscribing> {
        let target = self.target.only(self.name)?;
        Ok(Subscribing {
            address: target::address(&target)?,
            frame: self.join.frame(),
            wait: self.wait,
            progress: self.progress,
            start: match self.history {
                _ if self.oldest => Start::Oldest,
                Some(count) => Start::Last(count),
                None => Start::Now,
            },
            follow: self.follow,
            count: self.count,
        })
    }
}

impl Plan for Subscribing {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        if self.count == Some(0) {
            return Ok(ExitCode::SUCCESS);
        }
        let mut subscriber = self.open()?;
        let mut losses = Losses::new(&self.address);
        let progress = Progress::new(self.progress, None);
        let (mut bytes, mut received, mut unwritten) = (Vec::new(), 0, false);
        while self.count != Some(received) {
            let left = self
                .count
                .map_or(BATCH, |count| BATCH.min(count - received));
            // Readers see what came before this waits for more.
            let patience = if unwritten {
                Patience::none()
            } else {
                self.wait.patience().into()
            };
            bytes.clear();
            let (mut lost, mut unwritable) = (0, None);
            let got = subscriber.recv_batch(left as usize, patience, |message, about| {
                lost += about.lost;
                let write = |to: &mut Vec<u8>| to.extend_from_slice(message);
                if self
                    .frame
                    .append(&mut bytes, message.len(), write)
                    .is_none()
                {
                    unwritable.get_or_insert(message.len());
                }
            });
            losses.add(lost);
            match got {
                Ok(0) if unwritten => {
                    out.flush()?;
                    unwritten = false;
                }
                Ok(0) if self.wait.patience() != wait::Patience::Forever => {
                    return Err(self.nothing(received).into());
                }
                Ok(count) => {
                    received += count as u64;
                    unwritten = true;
                    out.bytes(&bytes)?;
                    progress.count(count as u64, bytes.len() as u64);
                    if let Some(length) = unwritable {
                        return Err(self.unwritable(length).into());
                    }
                }
                Err(RecvError::Closed) => break,
                Err(error) => {
                    out.flush()?;
                    return Err(self.failed(error, received).into());
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Subscribing {
    fn open(&self) -> Result<Subscriber, Failure> {
        // Ids are the kernel's choice: nobody can make one that is waited for.
        let opened = if self.is_by_id() {
            Subscriber::open(self.address.clone(), self.start)
        } else {
            let patience = Patience::from(self.wait.patience());
            Subscriber::wait(self.address.clone(), patience, self.start)
        };
        let subscriber = opened.map_err(|error| self.unopened(&error))?;
        Ok(subscriber.follow(self.follow))
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

    fn nothing(&self, received: u64) -> Failure {
        let text = format!(
            "no message came to {} after {received} that did; publish one with: tombolo pub, or \
             wait longer",
            self.address
        );
        Failure::new(Exit::WouldWait, text)
    }

    fn unwritable(&self, length: usize) -> Failure {
        let text = format!(
            "a message of {} has {length} bytes, more than a length of 32 bits can say",
            self.address
        );
        Failure::new(Exit::Failed, text)
    }

    fn failed(&self, error: RecvError, received: u64) -> Failure {
        let (address, received) = (&self.address, messages(received));
        let (exit, text) = match error {
            RecvError::PublisherDied => (
                Exit::Failed,
                format!(
                    "a publisher of {address} was killed before its end; everything that it had \
                     published was received ({received} here); start it again"
                ),
            ),
            RecvError::Removed => (
                Exit::Missing,
                format!("{address} was removed after {received}"),
            ),
            error => (
                Exit::Failed,
                format!("cannot receive from {address} after {received}: {error}"),
            ),
        };
        Failure::new(exit, text)
    }
}

/// What was lost, and what of it was said.
struct Losses<'a> {
    address: &'a Address,
    lost: u64,
    said: u64,
    when: Option<Instant>,
}

impl<'a> Losses<'a> {
    fn new(address: &'a Address) -> Self {
        Self {
            address,
            lost: 0,
            said: 0,
            when: None,
        }
    }

    fn add(&mut self, lost: u64) {
        if lost == 0 {
            return;
        }
        self.lost += lost;
        if self.when.is_none_or(|when| when.elapsed() >= SELDOM) {
            self.say();
        }
    }

    fn say(&mut self) {
        if self.lost == self.said {
            return;
        }
        let (now, all) = (self.lost - self.said, self.lost);
        let so_far = if now == all {
            String::new()
        } else {
            format!(", {all} so far")
        };
        // Nobody may be listening there; the messages are lost all the same.
        let _ = writeln!(
            io::stderr(),
            "tombolo: warning: lost {} of {}{so_far}: this subscriber was too slow",
            messages(now),
            self.address
        );
        (self.said, self.when) = (all, Some(Instant::now()));
    }
}

impl Drop for Losses<'_> {
    fn drop(&mut self) {
        self.say();
    }
}
