//! The bare ring whose slots tell themselves whether they hold a message. See `bare`.

use crate::bare::{HEAD, Ring, look, not_in_place, part};
use crate::content::{LINE, Payload, Verifier, write};
use crate::transport::{
    About, Family, Link, Receiver, Sender, Task, Transport, Waits, Way, Wire, only_pairs,
};
use anyhow::Result;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

/// The in-band ring for messages of `N` bytes.
#[derive(Clone, Copy, Debug)]
pub struct InBand<const N: usize> {
    /// Whether messages are written, and read, where they lie.
    pub way: Way,
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
        let name = match self.way {
            Way::InPlace => "bare ring, in place",
            Way::ReadInPlace => "bare ring, read in place",
            _ => "bare ring, in-band",
        };
        About::new(name, Family::Bare, Waits::Spin, self.way)
    }

    fn refuses(&self, task: &Task) -> Option<String> {
        let in_place = self.way != Way::OneByOne;
        let short = in_place.then(|| not_in_place(task)).flatten();
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
            in_place: self.way == Way::InPlace,
        })
    }

    fn receiver(&self, _: &Task, link: &Link) -> Result<Self::Receiver> {
        Ok(InBandReceiver {
            ring: Ring::open(link, N, Self::STRIDE)?,
            position: 0,
            buffer: vec![0; N],
            in_place: self.way != Way::OneByOne,
        })
    }
}
