//! The bare ring whose indices stand on lines of their own. See `bare`.

use crate::bare::{HEAD, Ring, TAIL, look, no_batches};
use crate::content::{Payload, Verifier};
use crate::transport::{
    About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire, only_pairs,
};
use anyhow::Result;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

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
