//! How far a poster of short messages runs ahead of the takers.
//!
//! A mailbox holds megabytes, and whoever fills it as fast as it can has each message written to memory that
//! has left the cache, or that nobody has touched yet, and read from there, all of it under the lock, which
//! makes the takers slower still: the lead grows until the mailbox is full. So a poster that is ahead of
//! takers who are at work gives way: before it takes the lock again it waits until some messages
//! have been taken, more than the one that it posts, so that the lead becomes smaller. What is posted and
//! taken stays in the cache, and who gives way does not fight for the lock.
//!
//! It is a matter of microseconds, and only while something is taken between any two of its posts: a
//! poster whose takers sleep, are slow, or are not there fills the mailbox without a pause. If it waits in
//! vain, because what takes is its own thread, or waits for the same processor, it does so more and more
//! rarely. Nobody sleeps for it, and nothing is shared for it. Who does not want to wait, and tasks, don't.
//!
//! **A peer that lies** in TAKEN can have each post last those microseconds.
//!
//! Measured, two processes and a mailbox of 16 MiB, medians of a dozen streams of 10,000 to 60,000
//! messages, with and without it: 4 KiB 1.8 µs a message instead of 5.8, 1 KiB 1.1 instead of 2.3, 256 bytes 1.0 instead of 1.4,
//! and 8 and 64 bytes the same. Leads of 16, 64 and 256 KiB were alike, and so was to wait for one message or for
//! four. With a third of the looks, streams of 4 KiB ran away now and then. Long messages, which are
//! copied outside the lock, had nothing from it.

use crate::mailbox_inside::{Fault, Inside};
use crate::mailbox_layout::{Shape, layout};
use shmem::sync::{Ordering, spin_loop};
use shmem::{Region, Wait};

/// Bytes, of messages and what is beside them, up to which a lead stays in the cache.
const NEAR: u64 = 64 << 10;
/// What stands beside the text of a message, and the cache has to hold as well.
const BESIDE: u64 = 64;
/// For how many messages to be taken it gives way.
const TAKES: u64 = 2;
/// How often it looks for each of them: up to ten microseconds or so.
const LOOKS: u32 = 300;
/// Who gives way in vain does so at every second post then, at every third, at every fifth … up to this.
const RARELY: u32 = 64;

/// What a poster knows of its lead.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    /// How often room had become free when it last posted.
    taken: u64,
    /// Whether it is far ahead of takers who are at work.
    is_far: bool,
    /// How often it does not give way, although it is.
    skips: u32,
    /// Times that it did so in vain, since it last was good for something.
    failures: u32,
}

impl Lead {
    /// Lets the takers go first, if that is good for something and `wait` allows it. Before the lock is
    /// taken.
    #[inline]
    pub(crate) fn give_way(&mut self, shape: &Shape, region: &Region, wait: Wait<'_>) {
        if self.is_far && matches!(wait, Wait::While(_)) {
            self.give_way_unless_in_vain(shape, region);
        }
    }

    #[cold]
    fn give_way_unless_in_vain(&mut self, shape: &Shape, region: &Region) {
        if self.skips > 0 {
            self.skips -= 1;
        } else if self.give_way_now(shape, region) {
            self.failures = 0;
        } else {
            self.skips = RARELY.min(1 << self.failures);
            self.failures = (self.failures + 1).min(RARELY.ilog2());
        }
    }

    /// Whether as much was taken, in time, as this waits for.
    fn give_way_now(&self, shape: &Shape, region: &Region) -> bool {
        // Each in a time of its own: who takes nothing is not waited for any longer.
        let since = || taken(region).wrapping_sub(self.taken);
        // Who counts has the lock.
        (1..=TAKES).all(|takes| soon(|| since() >= takes))
            && soon(|| shape.lock(region).holder() == 0)
    }

    /// A message was posted, under the lock that is still held.
    #[inline]
    pub(crate) fn has_posted(&mut self, inside: &Inside<'_>) -> Result<(), Fault> {
        let (count, bytes) = inside.store().contents(&inside.tx)?;
        let taken = taken(inside.region());
        let is_at_work = taken != self.taken;
        self.is_far = is_at_work && count.saturating_mul(BESIDE).saturating_add(bytes) > NEAR;
        self.taken = taken;
        Ok(())
    }
}

/// How often room has become free.
#[inline]
fn taken(region: &Region) -> u64 {
    // Relaxed: the lock orders it, or it is a hint.
    region.load_u64(layout::TAKEN, Ordering::Relaxed)
}

/// Looks a limited number of times whether something is so.
fn soon(mut is_so: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|_| {
        is_so() || {
            spin_loop();
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Channel, Shape as _};
    use crate::fuzzing;
    use crate::mailbox::{Poster, Taker, Wanted};

    const LENGTH: usize = 1024;

    fn mailbox() -> (Shape, Region) {
        let (shape, length) = Shape::plan(1 << 20, 1000, 4).unwrap();
        let region = fuzzing::region(&Shape::EXPECTED, length);
        shape.format(&region).unwrap();
        (shape, region)
    }

    fn post(poster: &mut Poster, many: usize) {
        (0..many).for_each(|_| poster.post(7, &[1; LENGTH]).unwrap());
    }

    #[test]
    fn only_who_is_far_ahead_of_takers_at_work_gives_way() {
        let (_, region) = mailbox();
        let mut poster = Poster::of(Channel::on(&region).unwrap()).unwrap();
        let mut taker = Taker::of(Channel::on(&region).unwrap()).unwrap();
        let mut take = || taker.take(Wanted::Any, &mut vec![]).map(drop).unwrap();
        // Nobody takes.
        post(&mut poster, 100);
        assert!(!poster.lead().is_far);
        take();
        post(&mut poster, 1);
        assert!(poster.lead().is_far);
        // Waited for in vain, once.
        post(&mut poster, 1);
        assert!(!poster.lead().is_far);
        assert_eq!((poster.lead().skips, poster.lead().failures), (1, 1));
        // What takes is this thread: that is tried rarely.
        let tries = (0..1000).filter(|_| {
            take();
            let before = poster.lead().skips;
            post(&mut poster, 1);
            before == 0
        });
        assert!((1000 / 66..30).contains(&tries.count()));
        // Not far ahead.
        (0..80).for_each(|_| take());
        post(&mut poster, 1);
        assert!(!poster.lead().is_far);
    }

    #[test]
    fn it_gives_way_until_enough_was_taken() {
        let (shape, region) = mailbox();
        let lead = Lead::default();
        let count = |to| region.u64(layout::TAKEN).store(to, Ordering::Relaxed);
        for (taken, enough) in [
            (0, false),
            (TAKES - 1, false),
            (TAKES, true),
            (u64::MAX, true),
        ] {
            count(taken);
            assert_eq!(lead.give_way_now(&shape, &region), enough, "{taken}");
        }
        // A taker is still inside.
        let held = shape.lock(&region).take_if_free(9);
        assert!(!lead.give_way_now(&shape, &region));
        drop(held);
        assert!(lead.give_way_now(&shape, &region));
    }
}
