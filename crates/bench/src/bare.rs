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

use crate::body::OneWay;
use crate::content::{LINE, Payload, Verifier, write};
use crate::raw::{self, Map};
use crate::transport::{
    About, Family, Job, Link, Receiver, Role, Runner, Sender, Task, Topology, Transport, Waits,
    Way, Wire, only_pairs,
};
use anyhow::{Context, Result};
use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Where slots begin; the index words are on lines of their own before.
const SLOTS: usize = 4096;
/// Where `released` or `head` stands, and `tail`.
const HEAD: usize = 0;
const TAIL: usize = 256;
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
struct Ring {
    map: Map,
    count: u64,
    stride: usize,
}

impl Ring {
    fn wire(length: usize, stride: usize) -> Result<Wire> {
        let bytes = SLOTS + slots(length) as usize * stride;
        Wire::default().hand_on(raw::memory(bytes)?)
    }

    fn open(link: &Link, length: usize, stride: usize) -> Result<Self> {
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
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.map.u64(offset)
    }

    /// The slot of a position.
    #[inline]
    fn slot(&self, position: u64) -> *mut u8 {
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
unsafe fn part(slot: *mut u8, offset: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { slot.add(offset) }
}

/// The in-band ring for messages of `N` bytes.
#[derive(Clone, Copy, Debug)]
pub struct InBand<const N: usize> {
    /// Whether messages are written and read where they lie.
    pub in_place: bool,
}

impl<const N: usize> InBand<N> {
    /// Where the message begins in its slot: short ones behind the position, long ones on a line.
    const MESSAGE: usize = if N < 1024 { 8 } else { LINE };
    const STRIDE: usize = if N < 64 {
        Self::MESSAGE + N
    } else {
        (Self::MESSAGE + N).next_multiple_of(LINE)
    };
}

/// The end of an in-band ring that sends.
pub struct InBandSender<const N: usize> {
    ring: Ring,
    position: u64,
    /// What was released when it was looked at last.
    released: u64,
    in_place: bool,
}

/// The end of an in-band ring that receives.
pub struct InBandReceiver<const N: usize> {
    ring: Ring,
    position: u64,
    buffer: Vec<u8>,
    in_place: bool,
}

impl<const N: usize> Sender for InBandSender<N> {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        let Self { ring, position, .. } = self;
        if *position - self.released == ring.count {
            let word = ring.word(HEAD);
            // [BARE_RELEASE] acquire.
            self.released =
                look(|| Some(word.load(Acquire)).filter(|r| *position - *r < ring.count));
        }
        let slot = ring.slot(*position);
        // SAFETY: the message's place is inside the slot.
        let to = unsafe { part(slot, InBand::<N>::MESSAGE) };
        if self.in_place {
            write(number, N, |offset, bytes| {
                // SAFETY: `write` stays inside the message.
                let to = unsafe { part(to, offset) };
                // SAFETY: in bounds; the receiver does not read the slot before it is published.
                unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            });
        } else {
            let from = payload.bytes(number)[..N].as_ptr();
            // SAFETY: `N` bytes on both sides; the receiver does not read the slot yet.
            unsafe { to.copy_from_nonoverlapping(from, N) };
        }
        *position += 1;
        // SAFETY: a slot begins with its position, aligned to eight bytes.
        let flag = unsafe { AtomicU64::from_ptr(slot.cast()) };
        // [BARE_PUBLISH] release.
        flag.store(*position, Release);
        Ok(())
    }
}

impl<const N: usize> Receiver for InBandReceiver<N> {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self { ring, position, .. } = self;
        let slot = ring.slot(*position);
        *position += 1;
        // SAFETY: a slot begins with its position, aligned to eight bytes.
        let flag = unsafe { AtomicU64::from_ptr(slot.cast()) };
        // [BARE_PUBLISH] acquire.
        look(|| (flag.load(Acquire) == *position).then_some(()));
        // SAFETY: the message's place is inside the slot.
        let from = unsafe { part(slot, InBand::<N>::MESSAGE) };
        if self.in_place {
            verifier.check_words(N, |offset| {
                // SAFETY: the verifier asks for words of the message only.
                let word = unsafe { part(from, offset) };
                // SAFETY: in bounds; the sender does not write the slot before it is released.
                unsafe { word.cast::<u64>().read() }
            })?;
        } else {
            let to = self.buffer.as_mut_ptr();
            // SAFETY: `N` bytes on both sides; the sender does not write the slot.
            unsafe { from.copy_to_nonoverlapping(to, N) };
            verifier.check(&self.buffer)?;
        }
        if position.is_multiple_of(ring.count / 4) {
            // [BARE_RELEASE] release.
            ring.word(HEAD).store(*position, Release);
        }
        Ok(true)
    }
}

impl<const N: usize> Transport for InBand<N> {
    type Sender = InBandSender<N>;
    type Receiver = InBandReceiver<N>;

    fn about(&self) -> About {
        if self.in_place {
            About::new(
                "bare ring, in place",
                Family::Bare,
                Waits::Spin,
                Way::InPlace,
            )
        } else {
            About::new(
                "bare ring, in-band",
                Family::Bare,
                Waits::Spin,
                Way::OneByOne,
            )
        }
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        let short = self.in_place.then(|| not_in_place(task)).flatten();
        short.or_else(|| only_pairs(task))
    }

    fn wire(&self, _: &Task, _: &str) -> Result<Wire> {
        Ring::wire(N, Self::STRIDE)
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<Self::Sender> {
        Ok(InBandSender {
            ring: Ring::open(link, N, Self::STRIDE)?,
            position: 0,
            released: 0,
            in_place: self.in_place,
        })
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<Self::Receiver> {
        Ok(InBandReceiver {
            ring: Ring::open(link, N, Self::STRIDE)?,
            position: 0,
            buffer: vec![0; N],
            in_place: self.in_place,
        })
    }
}

/// The ring with index lines for messages of `N` bytes.
#[derive(Clone, Copy, Debug)]
pub struct IndexLines<const N: usize>;

/// The same, its index stored once for all messages of a call.
#[derive(Clone, Copy, Debug)]
pub struct IndexBatches<const N: usize>;

/// The end of a ring with index lines that sends.
pub struct IndexSender<const N: usize> {
    ring: Ring,
    tail: u64,
    /// The other's index when it was looked at last.
    head: u64,
}

/// The end of a ring with index lines that receives.
pub struct IndexReceiver<const N: usize> {
    ring: Ring,
    head: u64,
    /// The other's index when it was looked at last.
    tail: u64,
    buffer: Vec<u8>,
    batch: bool,
}

impl<const N: usize> IndexSender<N> {
    #[inline]
    fn put(&mut self, number: u64, payload: &mut Payload) {
        let Self { ring, tail, head } = self;
        if *tail - *head == ring.count {
            // What is not published would be waited for in vain.
            // [BARE_PUBLISH] release.
            ring.word(TAIL).store(*tail, Release);
            let word = ring.word(HEAD);
            // [BARE_RELEASE] acquire.
            *head = look(|| Some(word.load(Acquire)).filter(|head| *tail - *head < ring.count));
        }
        let to = ring.slot(*tail);
        let from = payload.bytes(number)[..N].as_ptr();
        // SAFETY: `N` bytes on both sides; the receiver does not read the slot yet.
        unsafe { to.copy_from_nonoverlapping(from, N) };
        *tail += 1;
    }

    #[inline]
    fn publish(&self) {
        // [BARE_PUBLISH] release.
        self.ring.word(TAIL).store(self.tail, Release);
    }
}

impl<const N: usize> Sender for IndexSender<N> {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.put(number, payload);
        self.publish();
        Ok(())
    }
}

/// The end that publishes once for all messages of a call.
pub struct BatchSender<const N: usize>(IndexSender<N>);

impl<const N: usize> Sender for BatchSender<N> {
    #[inline]
    fn send(&mut self, number: u64, payload: &mut Payload) -> Result<()> {
        self.0.send(number, payload)
    }

    #[inline]
    fn send_many(&mut self, numbers: Range<u64>, payload: &mut Payload) -> Result<()> {
        for number in numbers {
            self.0.put(number, payload);
        }
        self.0.publish();
        Ok(())
    }
}

impl<const N: usize> Receiver for IndexReceiver<N> {
    #[inline]
    fn recv(&mut self, verifier: &mut Verifier) -> Result<bool> {
        let Self {
            ring,
            head,
            tail,
            buffer,
            batch,
        } = self;
        if *head == *tail {
            let word = ring.word(TAIL);
            // [BARE_PUBLISH] acquire.
            *tail = look(|| Some(word.load(Acquire)).filter(|tail| tail != head));
        }
        let last = if *batch { *tail } else { *head + 1 };
        while *head < last {
            let from = ring.slot(*head);
            // SAFETY: `N` bytes on both sides; the sender does not write the slot.
            unsafe { from.copy_to_nonoverlapping(buffer.as_mut_ptr(), N) };
            verifier.check(buffer)?;
            *head += 1;
            if head.is_multiple_of(ring.count / 4) {
                // [BARE_RELEASE] release.
                ring.word(HEAD).store(*head, Release);
            }
        }
        Ok(true)
    }
}

fn index_ring<const N: usize>(link: &Link) -> Result<Ring> {
    let ring = Ring::open(link, N, N)?;
    // Relaxed: nobody has stored there yet.
    anyhow::ensure!(ring.word(TAIL).load(Relaxed) == 0, "the ring is not new");
    Ok(ring)
}

impl<const N: usize> IndexSender<N> {
    fn open(link: &Link) -> Result<Self> {
        let ring = index_ring::<N>(link)?;
        let (tail, head) = (0, 0);
        Ok(Self { ring, tail, head })
    }
}

impl<const N: usize> IndexReceiver<N> {
    fn open(link: &Link, batch: bool) -> Result<Self> {
        Ok(Self {
            ring: index_ring::<N>(link)?,
            head: 0,
            tail: 0,
            buffer: vec![0; N],
            batch,
        })
    }
}

impl<const N: usize> Transport for IndexLines<N> {
    type Sender = IndexSender<N>;
    type Receiver = IndexReceiver<N>;

    fn about(&self) -> About {
        About::new(
            "bare ring, index lines",
            Family::Bare,
            Waits::Spin,
            Way::OneByOne,
        )
    }

    fn wire(&self, _: &Task, _: &str) -> Result<Wire> {
        Ring::wire(N, N)
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<Self::Sender> {
        IndexSender::open(link)
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<Self::Receiver> {
        IndexReceiver::open(link, false)
    }
}

impl<const N: usize> Transport for IndexBatches<N> {
    type Sender = BatchSender<N>;
    type Receiver = IndexReceiver<N>;

    fn about(&self) -> About {
        About::new(
            "bare ring, index lines, batches",
            Family::Bare,
            Waits::Spin,
            Way::Batch,
        )
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        no_batches(task).or_else(|| only_pairs(task))
    }

    fn wire(&self, _: &Task, _: &str) -> Result<Wire> {
        Ring::wire(N, N)
    }

    fn sender(&self, _: &Task, link: &Link) -> Result<Self::Sender> {
        IndexSender::open(link).map(BatchSender)
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<Self::Receiver> {
        IndexReceiver::open(link, true)
    }
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

    fn open(&self, task: &Task, role: Role, links: &[Link]) -> Result<Job> {
        self.open(task)?.open(task, role, links)
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
        by_size!(N: InBand::<N> { in_place: false }),
        by_size!(N: InBand::<N> { in_place: true }),
        by_size!(N: IndexLines::<N>),
        by_size!(N: IndexBatches::<N>),
    ]
}
