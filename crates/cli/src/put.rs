//! `tombolo put`: the server of one message.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tombolo::sysv::{Change, Limit, Mode, Segment};
use tombolo::value::{Options, PutError, Writer};
use tombolo::{Address, Lifetime};

use crate::Plan;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::target::{self, TargetOptions};
use crate::value::parse_size;

/// Publish a message: FILE or standard input becomes the value of NAME
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tombolo put greeting README.md
  date | tombolo put now --mode 644           whom the mode lets in reads it as USER/now
  tombolo put status --while-used < report    stays until it is interrupted, then goes
  tombolo put --ftok /etc/fstab,R notes.txt   by key instead of a name

The message replaces the one before, stays readable when this command has ended, and goes when
it is removed (tombolo rm NAME). Readers take whole messages only. Without --capacity a new value
has room for the message, at least 64 KiB; one that exists is made to grow if it must.")]
pub struct Args {
    /// The value's name, and the file; the file alone with --id, --key or --ftok
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
    /// The file with the message; standard input without, or for -
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    #[command(flatten)]
    target: TargetOptions,
    /// The permissions in octal: a new value has 600, one that exists keeps what it has
    #[arg(long)]
    mode: Option<Mode>,
    /// Room for messages of so many bytes: 4096, 64K, 1M
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    capacity: Option<u64>,
    /// Stay until interrupted; the last one to leave the value removes it
    #[arg(long)]
    while_used: bool,
}

/// What to publish, and where.
pub struct Putting {
    address: Address,
    file: Option<PathBuf>,
    mode: Option<Mode>,
    capacity: Option<usize>,
    while_used: bool,
}

impl Args {
    /// Finds out which value is meant.
    pub fn plan(self) -> anyhow::Result<Putting> {
        let (target, file) = self.target.and_rest(self.name, self.file)?;
        let capacity = self.capacity.map(usize::try_from).transpose();
        Ok(Putting {
            address: target::address(&target)?,
            file: file.filter(|file| file != "-").map(PathBuf::from),
            mode: self.mode,
            capacity: capacity.map_err(|_| Failure::usage("--capacity is too large"))?,
            while_used: self.while_used,
        })
    }
}

impl Plan for Putting {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        let message = self.read()?;
        // Before there is anything to leave behind.
        let ends = self.while_used.then(block_ends).transpose()?;
        let mut writer = self.open(message.len())?;
        put(&mut writer, &message).map_err(|error| self.failed(error))?;
        self.set_mode(writer.id())?;
        if self.while_used && writer.lifetime() == Lifetime::UntilRemoved {
            warn(format_args!(
                "{} was made to stay until it is removed, and will; end it with: tombolo rm",
                self.address
            ));
        }
        match ends {
            Some(ends) => drop(ends.wait().context("cannot wait for a signal")?),
            None => warn_if_it_goes(writer.id()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Putting {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut message = Vec::new();
        match &self.file {
            None => io::stdin()
                .lock()
                .read_to_end(&mut message)
                .context("cannot read standard input")?,
            Some(path) => File::open(path)
                .and_then(|mut file| file.read_to_end(&mut message))
                .with_context(|| format!("cannot read the message from {}", path.display()))?,
        };
        Ok(message)
    }

    fn open(&self, length: usize) -> anyhow::Result<Writer> {
        if let Some(capacity) = self.capacity.filter(|capacity| *capacity < length) {
            let text = format!(
                "cannot put {length} bytes to {}: more than the capacity of {capacity}; \
                 give a larger --capacity, or none",
                self.address
            );
            return Err(Failure::usage(text).into());
        }
        let defaults = Options::default();
        let options = Options {
            capacity: self.capacity.unwrap_or(defaults.capacity.max(length)),
            mode: self.mode.unwrap_or(defaults.mode),
            lifetime: if self.while_used {
                Lifetime::WhileUsed
            } else {
                Lifetime::UntilRemoved
            },
        };
        let opened = match &self.address {
            Address::Id(_) => Writer::open(self.address.clone()),
            _ => Writer::open_or_create(self.address.clone(), &options),
        };
        let mut writer = opened.map_err(|error| Failure::opening(&error))?;
        let wanted = self.capacity.unwrap_or(0).max(length);
        writer.grow(wanted).map_err(|error| match error {
            PutError::Open(error) if error.is_permission_denied() => Failure::new(
                Exit::Denied,
                format!(
                    "cannot put to {}: it has room for {} bytes, and only the user who made it \
                     can make it grow to {wanted}",
                    self.address,
                    writer.capacity()
                ),
            ),
            error => self.failed(error),
        })?;
        Ok(writer)
    }

    fn set_mode(&self, id: i32) -> anyhow::Result<()> {
        let segment = Segment::from_id(id);
        let same = |mode: &Mode| segment.status_any().is_ok_and(|now| now.perm.mode == *mode);
        let Some(mode) = self.mode.filter(|mode| !same(mode)) else {
            return Ok(());
        };
        let change = Change {
            mode: Some(mode),
            ..Change::default()
        };
        segment.set(&change).map_err(|errno| {
            let text = format!(
                "the message is in {}, but its mode can't be set to {mode}: {errno}; \
                 only its owner can: tombolo set shm {id} --mode {mode}",
                self.address
            );
            Failure::new(Exit::of(errno), text).into()
        })
    }

    fn failed(&self, error: PutError) -> Failure {
        match error {
            PutError::Open(error) => Failure::opening(&error),
            PutError::Removed => Failure::new(
                Exit::Missing,
                format!(
                    "cannot put to {}: it was removed meanwhile; try again",
                    self.address
                ),
            ),
            error => Failure::new(
                Exit::Failed,
                format!("cannot put to {}: {error}", self.address),
            ),
        }
    }
}

/// Puts; a value that another writer replaced meanwhile may have become too small again.
fn put(writer: &mut Writer, message: &[u8]) -> Result<(), PutError> {
    loop {
        match writer.put(message) {
            Err(PutError::TooLong { length, .. }) => writer.grow(length)?,
            result => return result.map(drop),
        }
    }
}

/// Keeps the signals that end this command from doing so, to be waited for.
fn block_ends() -> anyhow::Result<SigSet> {
    let ends: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    ends.thread_block().context("cannot block signals")?;
    Ok(ends)
}

fn warn_if_it_goes(id: i32) {
    let segment = Segment::from_id(id).status_any();
    let alone = segment.is_ok_and(|status| status.attaches <= 1);
    if alone && Limit::ShmRmidForced.read().is_ok_and(|forced| forced != 0) {
        warn(format_args!(
            "kernel.shm_rmid_forced is 1, so the kernel destroys segment {id} as soon as nobody has \
             it attached, which is now; keep it with --while-used, or: \
             tombolo limits --set shm_rmid_forced=0"
        ));
    }
}

/// Says something on standard error, to whoever listens: the message has been put all the same.
fn warn(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "tombolo: warning: {text}");
}
