//! `tombolo get`: the client, which waits for a whole message and shows it.

use std::process::ExitCode;

use tombolo::value::{ReadError, Reader};
use tombolo::{Address, OpenError, Patience};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::target::{self, TargetOptions};
use crate::wait::{self, WaitArgs};

/// Write the latest message of NAME to standard output, byte for byte
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo get greeting                  waits until there is one
  tombolo get greeting --no-wait        exit code 3 without a value, 5 without a message
  tombolo get alice/status --timeout 5s
  tombolo get status --watch            each newer message, as it comes
  tombolo get status --watch --count 10 --lines

The value is attached read-only, so read permission is enough. With --watch, messages that were
replaced before this command came to read them are not shown: a value holds the latest only.")]
pub struct Args {
    /// The value's name
    name: Option<String>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    wait: WaitArgs,
    /// Go on with each newer message; --timeout is then the time between two
    #[arg(long, conflicts_with = "no_wait")]
    watch: bool,
    /// With --watch, end after so many messages
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<u64>,
    /// With --watch, end each message with a newline
    #[arg(long, requires = "watch")]
    lines: bool,
}

/// What to read, and how long to wait for it.
pub struct Getting {
    address: Address,
    wait: WaitArgs,
    watch: bool,
    count: Option<u64>,
    lines: bool,
}

impl Args {
    /// Finds out which value is meant.
    pub fn plan(self) -> anyhow::Result<Getting> {
        let target = self.target.only(self.name)?;
        let Self {
            wait,
            watch,
            count,
            lines,
            ..
        } = self;
        Ok(Getting {
            address: target::address(&target)?,
            wait,
            watch,
            count,
            lines,
        })
    }
}

impl Plan for Getting {
    fn run(self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let mut bytes = Vec::new();
        let mut reader = self.first(&mut bytes)?;
        self.show(out, &bytes)?;
        if !self.watch {
            return Ok(ExitCode::SUCCESS);
        }
        let mut left = self.count.map(|count| count.saturating_sub(1));
        while left != Some(0) {
            out.flush()?;
            match reader.watch_into(self.wait.patience().into(), &mut bytes) {
                Ok(Some(_)) => self.show(out, &bytes)?,
                Ok(None) => return Err(self.nothing().into()),
                // The writer is faster than the copy: the next look is as good.
                Err(ReadError::Overtaken) => continue,
                Err(error) => return Err(self.failed(error).into()),
            }
            left = left.map(|left| left - 1);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Getting {
    /// Waits for the value, and for a message in it.
    fn first(&self, bytes: &mut Vec<u8>) -> Result<Reader, Failure> {
        let patience = Patience::from(self.wait.patience());
        loop {
            // Ids are the kernel's choice: nobody can make one that is waited for.
            let opened = if self.is_by_id() {
                Reader::open(self.address.clone())
            } else {
                Reader::wait(self.address.clone(), patience)
            };
            let mut reader = opened.map_err(|error| self.unopened(&error))?;
            match reader.watch_into(patience, bytes) {
                Ok(Some(_)) => return Ok(reader),
                Ok(None) => return Err(self.nothing()),
                // Removed before anything was in it: somebody may make it anew.
                Err(ReadError::Removed) if !patience.is_over() => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn show(&self, out: &mut Output, bytes: &[u8]) -> anyhow::Result<()> {
        out.bytes(bytes)?;
        if self.lines {
            out.bytes(b"\n")?;
        }
        Ok(())
    }

    fn unopened(&self, error: &OpenError) -> Failure {
        match self.wait.patience() {
            wait::Patience::For(_) if error.is_not_found() && !self.is_by_id() => self.nothing(),
            _ => Failure::opening(error),
        }
    }

    fn is_by_id(&self) -> bool {
        matches!(self.address, Address::Id(_))
    }

    fn nothing(&self) -> Failure {
        let text = format!(
            "no message came to {}; put one with: tombolo put, or wait longer",
            self.address
        );
        Failure::new(Exit::WouldWait, text)
    }

    fn failed(&self, error: ReadError) -> Failure {
        match error {
            ReadError::Open(error) => Failure::opening(&error),
            error => {
                let removed = matches!(error, ReadError::Removed);
                let exit = if removed { Exit::Missing } else { Exit::Failed };
                Failure::new(exit, format!("cannot get {}: {error}", self.address))
            }
        }
    }
}
