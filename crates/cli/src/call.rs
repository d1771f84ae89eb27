//! `tombolo call`: one call of a service.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tombolo::service::{CallError, Client};
use tombolo::{Address, Patience};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::target::{self, TargetOptions};
use crate::wait::parse_time;

/// Call the service NAME with FILE or standard input as the request, and write the reply
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo call upper --text hello        one that runs: tombolo serve upper -- tr a-z A-Z
  tombolo call sorted < list > sorted    the request is the whole input
  tombolo call thumbs photo.jpg --timeout 5s > thumb.jpg
  tombolo call upper --wait --text hi    waits for the service, and for a server

The reply is written as it came. Exit code 9 and what it says about it if the service answers with
an error, as `tombolo serve` does when its command fails. When the time is up the error says
whether a server has the call, and so may have executed it, or nobody ever will.")]
pub struct Args {
    /// The service's name, and the file; the file alone with --id, --key or --ftok
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
    /// The file with the request; standard input without, or for -
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    #[command(flatten)]
    target: TargetOptions,
    /// The request itself
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Wait no longer than this: 5s, 500ms, 1m30s; exit code 5 when the time is up
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Wait for the service and for a server, if there is none
    #[arg(long)]
    wait: bool,
}

/// What to ask, and whom.
pub struct Calling {
    address: Address,
    file: Option<PathBuf>,
    text: Option<String>,
    timeout: Option<Duration>,
    wait: bool,
}

impl Args {
    /// Finds out which service is meant.
    pub fn plan(self) -> anyhow::Result<Calling> {
        let (target, file) = self.target.and_rest(self.name, self.file)?;
        if self.text.is_some() && file.is_some() {
            return Err(Failure::usage("the request is FILE or --text, not both").into());
        }
        Ok(Calling {
            address: target::address(&target)?,
            file: file.filter(|file| file != "-").map(PathBuf::from),
            text: self.text,
            timeout: self.timeout,
            wait: self.wait,
        })
    }
}

impl Plan for Calling {
    fn run(mut self: Box<Self>, out: &mut Output) -> anyhow::Result<ExitCode> {
        let request = self.request()?;
        // The time is that for all of it.
        let patience = Patience::from(self.timeout);
        let mut client = self.open(patience)?.follow(self.wait);
        let mut reply = vec![];
        let ended = match patience.left() {
            None => client.call(&request, &mut reply),
            Some(left) => client.call_timeout(&request, left, &mut reply),
        };
        ended.map_err(|error| self.failed(error, &reply))?;
        out.bytes(&reply)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Calling {
    fn request(&mut self) -> anyhow::Result<Vec<u8>> {
        if let Some(text) = self.text.take() {
            return Ok(text.into_bytes());
        }
        match &self.file {
            Some(file) => fs::read(file).with_context(|| format!("cannot read {}", file.display())),
            None => {
                let mut request = vec![];
                let read = io::stdin().read_to_end(&mut request);
                read.context("cannot read standard input")?;
                Ok(request)
            }
        }
    }

    fn open(&self, patience: Patience) -> Result<Client, Failure> {
        // Ids are the kernel's choice: nobody can make one that is waited for.
        let waits = self.wait && !matches!(self.address, Address::Id(_));
        let opened = if waits {
            Client::wait(self.address.clone(), patience)
        } else {
            Client::open(self.address.clone())
        };
        opened.map_err(|error| match error.is_not_found() && waits {
            true => Failure::new(
                Exit::WouldWait,
                format!(
                    "no service came to {}; start one: tombolo serve, or wait longer",
                    self.address
                ),
            ),
            false => Failure::opening(&error),
        })
    }

    fn failed(&self, error: CallError, reply: &[u8]) -> Failure {
        let address = &self.address;
        let (exit, why) = match error {
            CallError::Failed => {
                let said = String::from_utf8_lossy(reply);
                let text = format!("{address} answered with an error: {}", said.trim_end());
                return Failure::new(Exit::Refused, text);
            }
            CallError::TimedOut { taken: true } => (
                Exit::WouldWait,
                "the time is up; a server has the call and may still execute it".to_owned(),
            ),
            CallError::TimedOut { taken: false } => (
                Exit::WouldWait,
                "the time is up; no server took the call, and none will; start another: \
                 tombolo serve, or wait longer"
                    .to_owned(),
            ),
            CallError::NoServers => (
                Exit::Failed,
                "it has no server; start one: tombolo serve, and wait for it with --wait"
                    .to_owned(),
            ),
            CallError::TooLong { length, longest } => (
                Exit::Failed,
                format!(
                    "a request of {length} bytes is longer than the {longest} bytes that fit; \
                     end the service, and serve it with a larger --request"
                ),
            ),
            CallError::Removed => (
                Exit::Missing,
                "it was removed meanwhile; try again".to_owned(),
            ),
            error => (Exit::Failed, error.to_string()),
        };
        Failure::new(exit, format!("cannot call {address}: {why}"))
    }
}
