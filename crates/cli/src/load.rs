//! `tombolo load`: writes bytes into a segment, whoever made it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tombolo::shmem::Region;

use crate::Plan;
use crate::channels;
use crate::dump::attachable;
use crate::exit::{Exit, Failure};
use crate::kind::Kind;
use crate::output::Output;
use crate::place::{self, PlaceArgs, calls};
use crate::refuse::refused;
use crate::target::{self, Target, TargetOptions};
use crate::value::parse_size;

/// Write bytes into a segment
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  tombolo load 42 page.bin              FILE, from the segment's first byte on
  printf 'hello\\0' | tombolo load 0x4d2 --offset 16
  tombolo load --key 1234 - < page.bin

What does not fit is refused before anything is written. The rest of the segment stays as it is:
no zero is added, so write the one that a C program expects. Nothing is locked: who reads meanwhile
may see a part. Into a channel write with `tombolo put`.

{}", target::HELP))]
pub struct Args {
    /// The segment
    #[arg(allow_negative_numbers = true)]
    target: Option<OsString>,
    /// What to write; standard input if it is not given, or `-`
    file: Option<OsString>,
    #[command(flatten)]
    options: TargetOptions,
    /// Begin at this byte of the segment
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = parse_size)]
    offset: u64,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What to write where.
pub struct Loading {
    target: Target,
    file: Option<PathBuf>,
    offset: u64,
}

impl Args {
    /// Tells the segment from the file.
    pub fn plan(self) -> anyhow::Result<Loading> {
        self.place.enter()?;
        let (target, file) = self.options.and_rest(self.target, self.file)?;
        let file = file.filter(|file| file != "-").map(PathBuf::from);
        Ok(Loading {
            target,
            file,
            offset: self.offset,
        })
    }
}

impl Plan for Loading {
    fn run(self: Box<Self>, _: &mut Output) -> anyhow::Result<ExitCode> {
        let (id, size) = attachable(&self.target, "load into")?;
        let channel = match place::space() {
            Some(_) => None,
            None => channels::names().remove(&id),
        };
        if let Some(channel) = channel {
            let (kind, name) = (channel.kind, channel.name);
            let target = name.unwrap_or_else(|| format!("--id {id}"));
            return Err(self
                .refuse(&format!(
                    "it is a channel, a {kind}; write with: tombolo put {target}"
                ))
                .into());
        }
        let room = size.checked_sub(self.offset).ok_or_else(|| {
            self.refuse(&format!(
                "it has {size} bytes, so none at offset {}",
                self.offset
            ))
        })?;
        let bytes = self.read(room)?;
        if bytes.len() as u64 > room {
            return Err(self
                .refuse(&format!(
                    "there is more to write than the {room} bytes from offset {} on; nothing was \
                     written; write less, or make a larger one with: tombolo mk shm SIZE{}",
                    self.offset,
                    place::option()
                ))
                .into());
        }
        let region = Region::attach_in(calls(), id)
            .map_err(|errno| refused("load into", Kind::Shm, &self.target, id, errno))?;
        region.copy_in(usize::try_from(self.offset)?, &bytes)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Loading {
    fn refuse(&self, why: &str) -> Failure {
        Failure::new(
            Exit::Failed,
            format!("cannot load into segment {}: {why}", self.target),
        )
    }

    /// Reads what is to be written, and one byte more than fits if there is one.
    fn read(&self, room: u64) -> anyhow::Result<Vec<u8>> {
        let most = room.saturating_add(1);
        let mut bytes = Vec::new();
        match &self.file {
            Some(file) => File::open(file)
                .and_then(|opened| opened.take(most).read_to_end(&mut bytes))
                .with_context(|| format!("cannot read {}", file.display()))?,
            None => io::stdin()
                .lock()
                .take(most)
                .read_to_end(&mut bytes)
                .context("cannot read standard input")?,
        };
        Ok(bytes)
    }
}
