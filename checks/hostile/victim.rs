//! What is done with a channel that is not to be trusted, each in its time.

use std::time::{Duration, Instant};
use sysv::{Kernel, Segment, shm};
use tombolo::value::{self, Options, Reader, Writer};
use tombolo::{Name, Patience};

/// Longest message: one that does not stand right behind its slot's words.
pub const CAPACITY: usize = 300;
/// How long an operation is told to wait.
pub const WAIT: Duration = Duration::from_millis(2);
/// What it may take beyond that: a busy machine, not another wait.
pub const SLACK: Duration = Duration::from_secs(2);
/// How long opening waits by itself for a creator that is alive and does not finish.
pub const CREATOR: Duration = Duration::from_secs(10);

/// The channel of the suite.
pub fn name() -> Name {
    Name::mine("hostile").expect("a name")
}

/// How it is made.
pub fn options() -> Options {
    Options {
        capacity: CAPACITY,
        ..Options::default()
    }
}

/// How often which operation came through.
#[derive(Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub refused: u64,
}

impl Tally {
    /// Runs one operation, which may fail but not last.
    #[track_caller]
    pub fn run<T, E: std::fmt::Display>(
        &mut self,
        limit: Duration,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Option<T> {
        let start = Instant::now();
        let result = operation();
        let took = start.elapsed();
        let result = result.map_err(|error| error.to_string());
        if let Err(text) = &result {
            assert!(!text.is_empty(), "an error says something");
        }
        assert!(
            took < limit,
            "{took:?} instead of {limit:?}: {:?}",
            result.err()
        );
        self.done += u64::from(result.is_ok());
        self.refused += u64::from(result.is_err());
        result.ok()
    }
}

/// Uses a reader in every way.
pub fn read(reader: &mut Reader, tally: &mut Tally) {
    let found = tally.run(SLACK, || reader.get());
    if let Some(Some(found)) = found {
        // The capacity that counts is the one it was opened with.
        assert!(
            found.bytes.len() <= reader.capacity(),
            "{}",
            found.bytes.len()
        );
    }
    tally.run(WAIT + SLACK, || reader.watch(Patience::from(WAIT)));
    reader.latest();
}

/// Uses a writer in every way that ends by itself.
pub fn write(writer: &mut Writer, tally: &mut Tally) {
    for length in [0, 1, CAPACITY, CAPACITY + 1] {
        tally.run(WAIT + SLACK, || writer.put_timeout(&vec![7; length], WAIT));
    }
}

/// Opens the channel in every way, and uses it.
pub fn open_and_use(tally: &mut Tally) {
    if let Some(mut reader) = tally.run(SLACK, || Reader::open(name())) {
        read(&mut reader, tally);
    }
    let opened = tally.run(CREATOR + SLACK, || {
        Writer::open_or_create(name(), &options())
    });
    if let Some(mut writer) = opened {
        write(&mut writer, tally);
    }
    if let Some(mut writer) = tally.run(SLACK, || Writer::open(name())) {
        write(&mut writer, tally);
    }
}

/// Removes the channel in its own way.
pub fn remove(tally: &mut Tally) {
    tally.run(SLACK, || value::remove(name()));
}

/// Removes all segments and queues of this name space but presences.
pub fn wipe() {
    for status in shm::list(Kernel).expect("segments") {
        if !status.marked {
            // It may go by itself meanwhile.
            let _ = Segment::from_id(status.id).remove();
        }
    }
    for status in sysv::msg::list(Kernel).expect("queues") {
        let _ = sysv::Queue::from_id(status.id).remove();
    }
}
