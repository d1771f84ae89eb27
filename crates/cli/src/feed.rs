//! Input that becomes messages: what `send`, `post` and `pub` have in common.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;

use crate::exit::{Exit, Failure};
use crate::frame::{Frame, Splitter, TooLong};
use crate::progress::{Progress, ProgressArgs};
use crate::value::parse_size;

/// How input is split into messages.
#[derive(clap::Args)]
#[group(multiple = false)]
pub struct SplitArgs {
    /// Each message ends with a NUL byte rather than a newline
    #[arg(short = '0', long)]
    null: bool,
    /// Before each message stands its length: 32 bits, little-endian
    #[arg(long)]
    length_prefixed: bool,
    /// Send the bytes as they come, in messages of up to so many
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    chunk: Option<u64>,
}

impl SplitArgs {
    /// The same as one value.
    pub fn frame(&self) -> Result<Frame, Failure> {
        match self.chunk.map(usize::try_from) {
            Some(Ok(0) | Err(_)) => Err(Failure::usage(
                "--chunk takes at least 1 byte, and fewer than memory has",
            )),
            Some(Ok(most)) => Ok(Frame::Chunk(most)),
            None if self.null => Ok(Frame::Ended(0)),
            None if self.length_prefixed => Ok(Frame::Length),
            None => Ok(Frame::Ended(b'\n')),
        }
    }
}

/// Where messages go.
pub trait Sink {
    /// Longest message, in bytes.
    fn longest(&self) -> usize;

    /// How many messages went there so far.
    fn sent(&self) -> u64;

    /// Sends messages, one after the other.
    fn send(&mut self, messages: &mut dyn Iterator<Item = &[u8]>) -> Result<(), Failure>;

    /// Reads a message of up to `most` bytes straight from a file and sends it; answers its bytes, 0 at
    /// the file's end, or that this place takes messages only by [`send`](Self::send).
    fn read_and_send(&mut self, _from: &File, _most: usize) -> Option<Result<usize, Unread>> {
        None
    }

    /// A message of at least so many bytes is longer than the longest.
    fn too_long(&self, length: usize) -> Failure;
}

/// Why nothing was read and sent.
pub enum Unread {
    /// Sending failed.
    Unsent(Failure),
    /// Reading failed.
    Unread(io::Error),
}

/// Chunks from this size on go straight from the file to where they are sent.
const LARGE: usize = 1 << 14;

/// A file or standard input.
pub struct Input {
    file: File,
    name: String,
}

impl Input {
    /// Opens a file; standard input without one.
    pub fn open(path: Option<&PathBuf>) -> anyhow::Result<Self> {
        match path {
            // Unbuffered: the messages' buffer is large enough.
            None => {
                let input = io::stdin().as_fd().try_clone_to_owned();
                let file = input.context("cannot read standard input")?.into();
                let name = "standard input".to_owned();
                Ok(Self { file, name })
            }
            Some(path) => {
                let name = path.display().to_string();
                let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
                Ok(Self { file, name })
            }
        }
    }

    /// Bytes, where that is known before they are read.
    fn size(&self) -> Option<u64> {
        let about = self.file.metadata().ok()?;
        about.is_file().then_some(about.len())
    }

    /// Sends all of it as messages to `to`, which is called `address` in errors.
    pub fn feed(
        mut self,
        frame: Frame,
        sink: &mut dyn Sink,
        wanted: ProgressArgs,
        address: &dyn std::fmt::Display,
    ) -> anyhow::Result<()> {
        if let Frame::Chunk(length) = frame
            && length > sink.longest()
        {
            return Err(sink.too_long(length).into());
        }
        let progress = Progress::new(wanted, self.size());
        if let Frame::Chunk(most) = frame
            && most >= LARGE
        {
            while let Some(sent) = sink.read_and_send(&self.file, most) {
                match sent {
                    Ok(0) => return Ok(()),
                    Ok(length) => progress.count(1, length as u64),
                    Err(Unread::Unsent(failure)) => return Err(failure.into()),
                    Err(Unread::Unread(error)) if error.kind() == ErrorKind::Interrupted => {}
                    Err(Unread::Unread(error)) => {
                        return Err(error).with_context(|| format!("cannot read {}", self.name));
                    }
                }
            }
        }
        let mut splitter = Splitter::new(frame, sink.longest());
        loop {
            let length = match self.file.read(splitter.space()) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                length => length.with_context(|| format!("cannot read {}", self.name))?,
            };
            let before = sink.sent();
            splitter.split(length, |messages| sink.send(messages))?;
            progress.count(sink.sent() - before, length as u64);
            splitter
                .check()
                .map_err(|TooLong(length)| sink.too_long(length))?;
        }
        match splitter.last() {
            Ok(last) => {
                let count = u64::from(last.is_some());
                sink.send(&mut last.into_iter())?;
                progress.count(count, 0);
                Ok(())
            }
            Err(_) => {
                let text = format!(
                    "{} ends in the middle of a message, which was not sent to {address}; {} \
                     before it were",
                    self.name,
                    sink.sent()
                );
                Err(Failure::new(Exit::Failed, text).into())
            }
        }
    }
}
