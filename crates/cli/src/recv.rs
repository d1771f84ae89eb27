//! `tombolo recv`: a consumer of a queue, which writes what it receives.

use std::io::{self, Write};
use std::process::ExitCode;

use tombolo::queue::{Consumer, RecvError};
use tombolo::{Address, OpenError, Patience};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::frame::{Frame, JoinArgs, messages};
use crate::output::Output;
use crate::progress::{Progress, ProgressArgs};
use crate::target::{self, TargetOptions};
use crate::wait::{self, WaitArgs};

/// Messages that are taken at a time at most: what is taken, other receivers do not get.
const BATCH: u64 = 256;

/// Receive messages from the queue NAME and write each as a line to standard output
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo recv jobs                    to the end: until all senders have ended
  tombolo recv jobs --null | xargs -0 -n1 convert
  tombolo recv disk --raw > image.raw  bytes as they are, as send --chunk sent them
  tombolo recv jobs --count 1 --timeout 5s
  tombolo recv log --follow            waits for the next sender instead of ending

Waits until there is the queue. Each message goes to one receiver only. It is gone from the queue
when it is written, or when the reader of a pipe or terminal keeps this command waiting with it.
Ends with exit code 0 when all senders have ended and everything was received,
and with 1 if one of them was killed instead. A message that a receiver had in hand when it was
killed goes to another, which says so.")]
pub struct Args {
    /// The queue's name
    name: Option<String>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    join: JoinArgs,
    /// The time is that for the queue to come, and for each message
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// When the last sender is gone, wait for the next one
    #[arg(long)]
    follow: bool,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// What to receive, and how long to wait for it.
pub struct Receiving {
    address: Address,
    frame: Frame,
    wait: WaitArgs,
    progress: ProgressArgs,
    follow: bool,
    count: Option<u64>,
}

impl Args {
    /// Finds out which queue is meant.
    pub fn plan(self) -> anyhow::Result<Receiving> {
        let target = self.target.only(self.name)?;
        Ok(Receiving {
            address: target::address(&target)?,
            frame: self.join.frame(),
            wait: self.wait,
            progress: self.progress,
            follow: self.follow,
            count: self.count,
        })
    }
}

impl Plan for Receiving {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        if self.count == Some(0) {
            return Ok(ExitCode::SUCCESS);
        }
        let patience = Patience::from(self.wait.patience());
        let mut consumer = self.open(patience)?;
        let mut batch = Batch::default();
        let progress = Progress::new(self.progress, None);
        let in_place = self.frame == Frame::Chunk(usize::MAX) && out.waits_for_nobody();
        let mut received = 0;
        while self.count != Some(received) {
            let left = self
                .count
                .map_or(BATCH, |count| BATCH.min(count - received));
            let patience = self.wait.patience().into();
            let received_now = if in_place {
                batch.write(&mut consumer, left as usize, patience, out)
            } else {
                batch.receive(&mut consumer, left as usize, patience, self.frame, out)
            };
            match received_now {
                Ok(0) if self.wait.patience() != wait::Patience::Forever => {
                    return Err(self.nothing(received).into());
                }
                Ok(count) => {
                    if let Some(error) = batch.unwritten.take() {
                        return Err(error.into());
                    }
                    received += count as u64;
                    self.show(out, &batch)?;
                    progress.count(count as u64, batch.written + batch.bytes.len() as u64);
                }
                Err(RecvError::Closed) => return Ok(ExitCode::SUCCESS),
                // Removed before anything was in it: somebody may make it anew.
                Err(RecvError::Removed)
                    if received == 0 && !self.is_by_id() && !patience.is_over() =>
                {
                    consumer = self.open(patience)?;
                }
                Err(error) => return Err(self.failed(error, received).into()),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Receiving {
    fn open(&self, patience: Patience) -> Result<Consumer, Failure> {
        // Ids are the kernel's choice: nobody can make one that is waited for.
        let opened = if self.is_by_id() {
            Consumer::open(self.address.clone())
        } else {
            Consumer::wait(self.address.clone(), patience)
        };
        let consumer = opened.map_err(|error| self.unopened(&error))?;
        Ok(consumer.follow(self.follow))
    }

    fn show(&self, out: &mut Output, batch: &Batch) -> anyhow::Result<()> {
        if batch.again > 0 {
            // Nobody may be listening there; the messages are received all the same.
            let _ = writeln!(
                io::stderr(),
                "tombolo: warning: {} of the next {} messages of {} may have been received before: \
                 the process that had them was killed",
                batch.again,
                batch.count,
                self.address
            );
        }
        out.bytes(&batch.bytes[batch.shown..])?;
        out.flush()?;
        match batch.unwritable {
            None => Ok(()),
            Some(length) => {
                let text = format!(
                    "a message of {} has {length} bytes, more than a length of 32 bits can say",
                    self.address
                );
                Err(Failure::new(Exit::Failed, text).into())
            }
        }
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
            "no message came to {} after {received} that did; send one with: tombolo send, or \
             wait longer",
            self.address
        );
        Failure::new(Exit::WouldWait, text)
    }

    fn failed(&self, error: RecvError, received: u64) -> Failure {
        let (address, received) = (&self.address, messages(received));
        let (exit, text) = match error {
            RecvError::ProducerDied => (
                Exit::Failed,
                format!(
                    "a sender of {address} was killed before its end; everything that it had sent \
                     was received ({received} here); start it again"
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

/// Messages as they are written.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    count: usize,
    /// How many of them a consumer had in hand when it died.
    again: usize,
    /// The length of one that cannot be written.
    unwritable: Option<usize>,
    /// How many of `bytes` were written before the messages were finished.
    shown: usize,
    /// Bytes that were written from where they stood.
    written: u64,
    /// Why others were not; they were put back.
    unwritten: Option<io::Error>,
}

/// Bytes that are put together before they are written.
const PART: usize = 4096;

/// Messages from this size on are written from where they stand.
const LARGE: usize = 1 << 14;

impl Batch {
    /// Writes messages from where they stand before they are finished; what comes behind a small one,
    /// or one that is delivered again, is copied as well, to be shown in its order.
    fn write(
        &mut self,
        consumer: &mut Consumer,
        most: usize,
        patience: Patience,
        out: &mut Output,
    ) -> Result<usize, RecvError> {
        self.bytes.clear();
        (self.again, self.count, self.shown, self.written) = (0, 0, 0, 0);
        let Some(mut batch) = consumer.batch(most, patience)? else {
            return Ok(0);
        };
        while let Some(message) = batch.next() {
            self.count += 1;
            if message.len() < LARGE || message.redelivered() || !self.bytes.is_empty() {
                self.again += usize::from(message.redelivered());
                message.append_to(&mut self.bytes);
                continue;
            }
            if let Err(error) = out.in_place(message.bytes()) {
                self.unwritten = Some(error);
                batch.put_back();
                break;
            }
            self.written += message.len() as u64;
        }
        Ok(self.count)
    }

    /// Takes messages and writes them before they are finished, as far as the reader takes them at
    /// once: killed until then, this process has lost none. A reader that is slow must not keep
    /// other receivers from what is in hand here: where it stops, no more is taken, and what was
    /// taken and not written, a few KiB, is finished first.
    fn receive(
        &mut self,
        consumer: &mut Consumer,
        most: usize,
        patience: Patience,
        frame: Frame,
        out: &mut Output,
    ) -> Result<usize, RecvError> {
        self.bytes.clear();
        (self.again, self.count, self.shown) = (0, 0, 0);
        let Some(mut batch) = consumer.batch(most, patience)? else {
            return Ok(0);
        };
        let mut goes_on = true;
        while goes_on && let Some(message) = batch.next() {
            self.count += 1;
            self.again += usize::from(message.redelivered());
            let length = message.len();
            let written = frame.append(&mut self.bytes, length, |to| message.append_to(to));
            if written.is_none() {
                self.unwritable.get_or_insert(length);
            }
            if self.bytes.len() - self.shown >= PART {
                goes_on = self.show_at_once(out);
            }
        }
        if goes_on {
            self.show_at_once(out);
        }
        if self.unwritten.is_some() {
            batch.put_back();
        }
        Ok(self.count)
    }

    /// Writes what can be written at once; false if that was not all.
    fn show_at_once(&mut self, out: &mut Output) -> bool {
        if self.again > 0 {
            // The warning comes first.
            return true;
        }
        match out.at_once(&self.bytes[self.shown..]) {
            Ok(None) => true,
            Ok(Some(shown)) => {
                self.shown += shown;
                self.shown == self.bytes.len()
            }
            Err(error) => {
                self.unwritten = Some(error);
                false
            }
        }
    }
}
