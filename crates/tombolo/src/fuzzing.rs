//! Hostile bytes: each channel on memory that lies, between pages that nobody may touch.
//!
//! A body takes bytes and reads from them what to do: which participants come, send, receive and
//! leave, and how the memory is spoilt between. It knows the structure: fields of the tables, words
//! where headers of records stand, and values that mean something there (see [`Spoiler`]). No bytes
//! are invalid. Whatever the bytes, a body must come back, soon, without a panic; errors and wrong
//! messages are what it expects. A panic, an overflow of arithmetic in the test profile, a fault
//! behind the memory, or a loop without end is a finding.
//!
//! The same bodies run in three ways: in the unit tests with the same seeds each time, for as long as
//! wanted by `cargo xtask fuzz`, and in the targets of `fuzz/`, where coverage leads them. What they
//! cannot show, because one thread does it all, is memory that changes in the middle of an
//! operation: that is what the processes of `checks/hostile` scribble for.
#![allow(missing_docs)]

pub use crate::fuzzing_mailbox::mailbox;
pub use crate::fuzzing_queue::queue;
pub use crate::fuzzing_service::service;
pub use crate::fuzzing_topic::topic;
pub use crate::fuzzing_value::value;

use crate::ring::{PADDING, PUBLISHED};
use shmem::header::{self, ENDED, Header, Lifetime, READY};
use shmem::layout::Layout;
use shmem::open::{Expected, Opened};
use shmem::{Address, OpenError, Reason, Region, presence};
use std::time::Duration;

/// A body: what is done on behalf of some bytes.
pub type Body = fn(&[u8]);

/// All bodies, by the name of their channel.
pub const BODIES: [(&str, Body); 5] = [
    ("mailbox", mailbox),
    ("queue", queue),
    ("service", service),
    ("topic", topic),
    ("value", value),
];

/// Longest time that a body may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Longest sequence of operations.
pub(crate) const OPERATIONS: usize = 256;
/// No segment has this.
const NO_ID: i32 = -1;
/// What such a channel is called: nothing is found there.
pub(crate) const ADDRESS: Address = Address::Id(NO_ID);

/// The bytes that stand for a seed.
pub fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let words = 4 + next() % 120;
    (0..words).flat_map(|_| next().to_ne_bytes()).collect()
}

/// Bytes, read as choices. Behind their end there are zeros.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let first = self.0.split_first();
        let (byte, rest) = first.map_or((0, self.0), |(byte, rest)| (*byte, rest));
        self.0 = rest;
        byte
    }

    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        number % end
    }

    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}

/// A new region for a channel of a kind, `length` bytes long, ready but for the channel's part.
pub(crate) fn region(expected: &Expected, length: usize) -> Region {
    // Miri finds such accesses by itself, and knows no protection.
    let region = if cfg!(miri) {
        Region::heap(length)
    } else {
        Region::guarded(length)
    };
    let header = Header {
        kind: expected.kind as u32,
        layout_hash: expected.layout_hash,
        length: length as u64,
        generation: 1,
        lifetime: Lifetime::Anonymous,
        creator_uid: 0,
        creator_pid: 1,
        creator: 0,
        created: 0,
        name: String::new(),
    };
    header.write(&region).expect("room for a header");
    let ready = region.u64(header::STATE);
    // Relaxed: nobody else knows it yet.
    ready.store(READY, shmem::sync::Ordering::Relaxed);
    region
}

/// What opening finds in a region.
pub(crate) fn opened(region: &Region, expected: &Expected) -> Result<Opened<Region>, OpenError> {
    let refused = || OpenError::new(&ADDRESS, Reason::Shape(NO_ID));
    let mut header = Header::read(region).map_err(|_| refused())?;
    if header.kind != expected.kind as u32 || header.layout_hash != expected.layout_hash {
        return Err(refused());
    }
    // There is no segment that could be removed.
    header.lifetime = Lifetime::Anonymous;
    Ok(Opened {
        memory: region.clone(),
        id: NO_ID,
        header,
        creator_uid: 0,
    })
}

/// Spoils a region: its fields, the words where headers of records stand, or any byte.
pub(crate) struct Spoiler {
    region: Region,
    /// Offset and size of each field.
    fields: Vec<(usize, usize)>,
    /// Where the messages begin.
    messages: usize,
    /// The region as it was.
    before: Vec<u8>,
    mine: u64,
}

/// A word that names a process that is no more.
pub(crate) const DEAD: u64 = 0x2b;

impl Spoiler {
    /// For a region with these layouts at these offsets beside the header, and messages behind.
    pub fn new(region: &Region, layouts: &[(usize, &Layout)], messages: usize) -> Self {
        let tables = [(0, &header::LAYOUT)];
        let tables = tables.iter().chain(layouts);
        let fields = tables.flat_map(|(base, layout)| {
            let fields = layout.fields.iter();
            fields.map(move |field| (base + field.offset, field.size))
        });
        let mut this = Self {
            region: region.clone(),
            fields: fields.collect(),
            messages,
            before: vec![],
            mine: presence::mine().map_or(DEAD, presence::Identity::word),
        };
        this.keep();
        this
    }

    fn keep(&mut self) {
        self.before.resize(self.region.len(), 0);
        let kept = self.region.copy_out(0, &mut self.before);
        kept.expect("the region is as long as it is");
    }

    /// Spoils something, as the input says.
    pub fn spoil(&mut self, input: &mut Input<'_>) {
        let length = self.region.len();
        match input.byte() % 16 {
            // A field, or a part of a long one.
            0..=8 => {
                let (at, size) = self.field(input);
                let at = at + input.below(size.div_ceil(8)) * 8;
                self.store(at, size.min(8), input);
            }
            // Where a header of a record stands, or a word of one.
            9..=11 if self.messages + 64 <= length => {
                let lines = (length - self.messages) / 64;
                let line = self.messages + input.below(lines) * 64;
                let at = line + usize::from(input.byte() % 3) * 8;
                self.store(at, 8, input);
            }
            12 => {
                let at = input.below(length / 8) * 8;
                self.store(at, 8, input);
            }
            13 => {
                let at = input.below(length);
                let put = self.region.copy_in(at, &[input.byte()]);
                put.expect("inside");
            }
            // Time turned back.
            14 => self.keep(),
            _ => {
                let put = self.region.copy_in(0, &self.before);
                put.expect("as long as the region");
            }
        }
    }

    fn field(&self, input: &mut Input<'_>) -> (usize, usize) {
        self.fields[input.below(self.fields.len())]
    }

    fn store(&self, at: usize, size: usize, input: &mut Input<'_>) {
        let word = self.value(at, size, input);
        let stored = self.region.copy_in(at, &word.to_ne_bytes()[..size]);
        stored.expect("fields and lines are inside");
    }

    fn load(&self, at: usize, size: usize) -> u64 {
        let mut bytes = [0; 8];
        let loaded = self.region.copy_out(at, &mut bytes[..size.min(8)]);
        loaded.expect("fields and lines are inside");
        u64::from_ne_bytes(bytes)
    }

    /// A value that may hurt where another stands.
    fn value(&self, at: usize, size: usize, input: &mut Input<'_>) -> u64 {
        let now = self.load(at, size);
        let small = u64::from(input.byte());
        match input.byte() % 21 {
            0 => 0,
            1 => 1,
            2 => now.wrapping_add(1),
            3 => now.wrapping_sub(1),
            4 => now.wrapping_add(64 * (small + 1)),
            5 => now.wrapping_sub(64 * (small + 1)),
            6 => u64::MAX - small,
            7 => 1 << (small % 64),
            8 => (1 << (small % 64)) - 1,
            9 | 10 => {
                let (at, size) = self.field(input);
                self.load(at, size)
            }
            11 => {
                let (at, size) = self.field(input);
                self.load(at, size).wrapping_add(small * 64)
            }
            12 => self.mine,
            13 => DEAD | (small << 32),
            14 => PUBLISHED | (small * 16),
            15 => PUBLISHED | PADDING | ((small * 64).wrapping_sub(8) & 0xffff),
            16 => input.choose(&[READY, ENDED, self.mine | (1 << 31)]),
            17 => small,
            18 => (1 << 62) - 64 + small,
            19 => now ^ (small << 58),
            _ => input.word(),
        }
    }
}

/// Says whether an error says something.
#[track_caller]
pub(crate) fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result
        .map_err(|error| assert!(!error.to_string().is_empty()))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Instant;

    /// Seeds that a body gets in the unit tests.
    const SEEDS: u64 = if cfg!(miri) { 3 } else { 3000 };

    /// Runs a body with the fixed seeds; or as the environment of `cargo xtask fuzz` has it: for so
    /// many seconds (`TOMBOLO_FUZZ_SECONDS`) from a seed on (`TOMBOLO_FUZZ_SEED`), or with that
    /// seed alone. The seed that is tried is kept in a file (`TOMBOLO_FUZZ_TRIED`), for who wants to
    /// know what killed the process.
    fn run(name: &str) {
        let number = |key: &str| std::env::var(key).ok().map(|text| text.parse().unwrap());
        let seconds = number("TOMBOLO_FUZZ_SECONDS").map(Duration::from_secs);
        let first = number("TOMBOLO_FUZZ_SEED");
        let tried = std::env::var_os("TOMBOLO_FUZZ_TRIED").map(|path| File::create(path).unwrap());
        let (_, body) = BODIES.iter().find(|(channel, _)| *channel == name).unwrap();
        let count = match (seconds, first) {
            (Some(_), _) => u64::MAX,
            (None, Some(_)) => 1,
            (None, None) => SEEDS,
        };
        let first = first.unwrap_or(0);
        let begun = Arc::new(AtomicU64::new(0));
        let (done, over) = mpsc::channel::<()>();
        let watched = begun.clone();
        let watch = std::thread::spawn(move || {
            let mut last = u64::MAX;
            while over.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = watched.load(Ordering::Relaxed);
                if now == last {
                    eprintln!("no end after {LIMIT:?}: seed {}", first.wrapping_add(now));
                    std::process::abort();
                }
                last = now;
            }
        });
        let start = Instant::now();
        let (mut ran, mut slowest) = (0, (Duration::ZERO, 0));
        while ran < count && seconds.is_none_or(|seconds| start.elapsed() < seconds) {
            let seed = first.wrapping_add(ran);
            begun.store(ran, Ordering::Relaxed);
            if let Some(tried) = &tried {
                tried.write_at(format!("{seed:>20}").as_bytes(), 0).unwrap();
            }
            let bytes = bytes(seed);
            let turn = Instant::now();
            if std::panic::catch_unwind(|| body(&bytes)).is_err() {
                panic!("{name}: seed {seed}");
            }
            slowest = slowest.max((turn.elapsed(), seed));
            ran += 1;
        }
        drop(done);
        watch.join().unwrap();
        let time = start.elapsed();
        println!("{name}: {ran} runs in {time:.1?}; the slowest took {slowest:.1?}");
        assert!(cfg!(miri) || slowest.0 < LIMIT, "{slowest:?}");
    }

    #[test]
    fn mailbox() {
        run("mailbox");
    }

    #[test]
    fn queue() {
        run("queue");
    }

    #[test]
    fn service() {
        run("service");
    }

    #[test]
    fn topic() {
        run("topic");
    }

    #[test]
    fn value() {
        run("value");
    }
}
