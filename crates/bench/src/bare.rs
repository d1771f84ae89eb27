//! The bare rings: what two processes can do if they share memory and nothing else matters.
//!
//! One sender, one receiver, slots of a size that the compiler knows. No lengths, no checks, no
//! waiting but by looking, no notice of a death. Nobody should use them; everything else is
//! measured against them.
//!
//! - **in-band**: the slot's first word is the message's position, so a small message is one line
//!   that moves. The receiver gives slots back in quarters of the ring.
//! - **index lines**: the slots hold messages only; each side's index has a line of its own, and
//!   each side keeps a copy of the other's. In batches the index is stored once for many.
//!
//! ```text
//! in-band      │ released │ … │ position, message │ position, message │ …
//! index lines  │ tail │ head │ … │ message │ message │ …
//! ```
//!
//! - `[BARE_PUBLISH]` position, or tail: released after the message's bytes, acquired before they
//!   are read. Weaker, a receiver would read what the slot held before.
//! - `[BARE_RELEASE]` `released`, or head: released after the bytes were read, acquired before they
//!   are written anew. Weaker, a sender would overwrite what is being read.

use crate::bare_in_band::InBand;
use crate::bare_index::{IndexBatches, IndexLines};
use crate::body::OneWay;
use crate::raw::{self, Map};
use crate::transport::{About, Job, Link, Runner, Seat, Task, Topology, Way, Wire};
use anyhow::{Context, Result};
use std::hint::spin_loop;
use std::sync::atomic::AtomicU64;

/// Where slots begin; the index words are on lines of their own before.
const SLOTS: usize = 4096;
/// Where `released` or `head` stands, and `tail`.
pub(crate) const HEAD: usize = 0;
pub(crate) const TAIL: usize = 256;
/// Looks before the processor is told that this is a loop that waits.
const EAGER: u32 = 64;

/// Looks until there is an answer.
#[inline]
pub fn look<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let mut looks = 0;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        if looks < EAGER {
            looks += 1;
        } else {
            spin_loop();
        }
    }
}

/// How many slots suit messages of a length: about 256 KiB, but some of the long ones too.
pub fn slots(length: usize) -> u64 {
    ((256 * 1024 / length) as u64).clamp(8, 4096)
}

/// A mapped ring whose slots take `stride` bytes.
///
/// # Invariants
/// `map` has `SLOTS + count * stride` bytes, and `count` is a power of two.
pub(crate) struct Ring {
    map: Map,
    pub(crate) count: u64,
    stride: usize,
}

impl Ring {
    pub(crate) fn wire(length: usize, stride: usize) -> Result<Wire> {
        let bytes = SLOTS + slots(length) as usize * stride;
        Wire::default().hand_on(raw::memory(bytes)?)
    }

    pub(crate) fn open(link: &Link, length: usize, stride: usize) -> Result<Self> {
        let number = link
            .descriptors
            .first()
            .context("no memory was handed on")?;
        let map = Map::new(&raw::inherited(*number)?)?;
        let count = slots(length);
        anyhow::ensure!(map.len() == SLOTS + count as usize * stride && count.is_power_of_two());
        // INVARIANT: just checked.
        Ok(Self { map, count, stride })
    }

    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        self.map.u64(offset)
    }

    /// The slot of a position.
    #[inline]
    pub(crate) fn slot(&self, position: u64) -> *mut u8 {
        let slot = (position & (self.count - 1)) as usize;
        let base = self.map.at(0);
        // SAFETY: `slot` is below `count`, so by the invariant all of the slot is in the mapping.
        unsafe { base.add(SLOTS + slot * self.stride) }
    }
}

/// A part of a slot.
///
/// # Safety
/// `offset` is inside the slot that `slot` is the beginning of.
#[inline]
pub(crate) unsafe fn part(slot: *mut u8, offset: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { slot.add(offset) }
}

/// Why a transport that works in batches can't do a task.
pub fn no_batches(task: &Task) -> Option<String> {
    if task.topology == Topology::RoundTrip {
        return Some("a round trip has one message".to_owned());
    }
    (task.length > 1024).then(|| "batches are of short messages".to_owned())
}

/// Why a transport that works in place can't do a task.
pub fn not_in_place(task: &Task) -> Option<String> {
    (task.length < 1024).then(|| "in place pays for long messages".to_owned())
}

/// Runners of one kind, each for one length.
struct BySize(Vec<(usize, Box<dyn Runner>)>);

impl BySize {
    fn of(&self, task: &Task) -> Option<&dyn Runner> {
        let found = self.0.iter().find(|(length, _)| *length == task.length);
        found.map(|(_, runner)| &**runner)
    }

    fn open(&self, task: &Task) -> Result<&dyn Runner> {
        self.of(task).context("no bare ring of this length")
    }
}

impl Runner for BySize {
    fn about(&self) -> About {
        self.0[0].1.about()
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        match self.of(task) {
            Some(runner) => runner.refuses(task),
            None => Some("bare rings are made for some lengths only".to_owned()),
        }
    }

    fn wires(&self, task: &Task, unique: &str) -> Result<Vec<Wire>> {
        self.open(task)?.wires(task, unique)
    }

    fn open(&self, task: &Task, seat: &Seat) -> Result<Job> {
        self.open(task)?.open(task, seat)
    }
}

/// A runner for each length: `by_size!(n: RUNNER of n)`.
macro_rules! by_size {
    ($n:ident: $runner:expr) => {{
        let mut runners: Vec<(usize, Box<dyn Runner>)> = Vec::new();
        by_size!(runners, $n, $runner; 8 64 1024 65_536 1_048_576);
        Box::new(BySize(runners))
    }};
    ($runners:ident, $n:ident, $runner:expr; $($length:literal)+) => {
        $({
            const $n: usize = $length;
            $runners.push(($n, Box::new(OneWay($runner))));
        })+
    };
}

/// The bare rings.
pub fn runners() -> Vec<Box<dyn Runner>> {
    vec![
        by_size!(N: InBand::<N> { way: Way::OneByOne }),
        by_size!(N: InBand::<N> { way: Way::ReadInPlace }),
        by_size!(N: InBand::<N> { way: Way::InPlace }),
        by_size!(N: IndexLines::<N>),
        by_size!(N: IndexBatches::<N>),
    ]
}
