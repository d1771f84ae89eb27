//! `value`: the latest message, readable any number of times.
//!
//! ```text
//! 0        256        320            384         448         960
//! ┌────────┬──────────┬──────────────┬───────────┬───────────┬────────┬────────┬───
//! │ header │ lock     │ latest, bell │ shape     │ 8 seats   │ slot 0 │ slot 1 │ …
//! └────────┴──────────┴──────────────┴───────────┴───────────┴────────┴────────┴───
//!            writers    written by put read-only   keepers     number, extent, bytes
//! ```
//!
//! A writer [puts](Writer::put) messages of any length up to the capacity; each replaces the one
//! before. Any number of readers [get](Reader::get) the latest whole message, never half of one,
//! or [watch](Reader::watch) for a newer one. Readers attach read-only, so a reader can't damage
//! anything, and never block the writer. Several writers may take turns; one that is alone needs no
//! lock (see `value_keep`).
//!
//! The message stays readable after the writer has exited, until the channel is removed. How a
//! message moves, and what a death leaves, is told in `value_slots`.
//!
//! **Growing** moves the channel to a larger segment, the next generation: it takes another key of
//! the name's window, gets the latest message, becomes ready, and then the old one is marked as
//! ended and removed. Whoever has the old one open sees the mark and looks the name up again.
//!
//! **Limits.** One put at a time: a second writer waits for the first, and takes over if it died.
//! A reader that is slower than the writer goes round all slots gives up after a bounded number of
//! tries ([`ReadError::Overtaken`]). Waiters that may write to the segment are woken at once;
//! those that may only read it look in slices of up to 16 ms.
//!
//! **Cost.** Putting a short message takes a lone writer 2 to 2.5 ns after the first ten thousand, with which
//! it registers for cheap fences; with the lock, 20. Getting one takes 2 ns.
//!
//! # Examples
//! ```
//! use tombolo::value::{self, Options, Reader, Writer};
//!
//! # let name = format!("doc-value-{}", std::process::id());
//! let name: tombolo::Name = name.parse()?;
//! let mut writer = Writer::open_or_create(name.clone(), &Options::default())?;
//! writer.put(b"hello")?;
//!
//! let mut reader = Reader::open(name.clone())?;
//! assert_eq!(reader.get()?.unwrap().bytes, b"hello");
//!
//! value::remove(name)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::value_slots::{LAYOUT_HASH, Slots, TRIES};
use shmem::close;
use shmem::header::{Kind, Lifetime};
use shmem::open::{self, Creation, Expected};
use shmem::{Address, OpenError, Reason};
use sysv::{Errno, Mode};

pub use crate::value_reader::Reader;
pub use crate::value_writer::Writer;

pub(crate) const EXPECTED: Expected = Expected {
    kind: Kind::Value,
    layout_hash: LAYOUT_HASH,
    may_discard: |_| true,
};

/// What a new value is to be like; one that exists stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest message, in bytes. The segment takes at least twice as much, of which the kernel
    /// provides what is used.
    pub capacity: usize,
    /// Who may read and write it.
    pub mode: Mode,
    /// How long it lives.
    pub lifetime: Lifetime,
}

impl Default for Options {
    /// 64 KiB, for this user alone, until it is removed.
    fn default() -> Self {
        Self {
            capacity: 64 * 1024,
            mode: Mode::default(),
            lifetime: Lifetime::UntilRemoved,
        }
    }
}

/// A message and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Counts the messages of the channel, from 1.
    pub number: u64,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A message could not be put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// It is longer than the capacity.
    #[error(
        "a message of {length} bytes is longer than the capacity of {capacity} bytes; grow the channel first"
    )]
    TooLong {
        /// Bytes of the message.
        length: usize,
        /// Bytes that a message may have.
        capacity: usize,
    },
    /// Another writer is in the middle of a put and does not finish.
    #[error("another writer{} is in the middle of a put and does not finish; continue or end it", Pid(*.0))]
    Busy(Option<i32>),
    /// The channel was removed.
    #[error("the channel was removed; open it again")]
    Removed,
    /// Finding out who is alive failed.
    #[error("making or looking for a presence segment failed: {0}")]
    Presence(Errno),
    /// The channel moved to a larger segment, which can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A message could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The writer was faster, each time.
    #[error("the writer overtook this reader {TRIES} times in a row; try again, or put less often")]
    Overtaken,
    /// The channel was removed.
    #[error("the channel was removed")]
    Removed,
    /// Its segment holds what no writer writes.
    #[error("the channel's segment is damaged; remove it and create it anew")]
    Damaged,
    /// The channel moved to a larger segment, which can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

struct Pid(Option<i32>);

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " (pid {pid})"))
    }
}

/// Removes a value: its name is free, and whoever has it open learns of it.
///
/// # Errors
/// See [`Reason`].
pub fn remove(address: impl Into<Address>) -> Result<(), OpenError> {
    let address = address.into();
    let opened = match open::open(&address, &EXPECTED) {
        // A remover or creator that died may have left a segment.
        Err(error) if error.is_not_found() && open::sweep(&address)? => return Ok(()),
        opened => opened?,
    };
    close::remove(&opened).map_err(|error| OpenError::new(&address, Reason::remove(error)))?;
    if let Some(slots) = Slots::open(&opened.memory) {
        slots.bell(&opened.memory).ring();
    }
    // Those who died while they made the next generation; the channel itself is gone already.
    let _ = open::sweep(&address);
    Ok(())
}

pub(crate) fn plan(address: &Address, options: &Options) -> Result<(Slots, Creation), OpenError> {
    let (slots, length) = Slots::plan(options.capacity)
        .ok_or_else(|| OpenError::new(address, Reason::Capacity(options.capacity)))?;
    let Options { mode, lifetime, .. } = *options;
    Ok((
        slots,
        Creation {
            length,
            mode,
            lifetime,
            owner: None,
        },
    ))
}
