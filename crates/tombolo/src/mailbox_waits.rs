//! Who waits in a `mailbox`, and for what.
//!
//! ```text
//!   set     0 1 0 0 1 …        a bit for each seat: its member waits
//!   seats       └ WANTS, NUMBER   └ WANTS, NUMBER        what for; and the bell to be rung
//! ```
//!
//! # Protocol
//! - `[MAILBOX_WAITS]` A waiter registers on its bell, takes the lock, finds nothing, stores WANTS and
//!   NUMBER, sets its bit in WAITING, unlocks, and sleeps. Of it and of one who changes something
//!   one has the lock first. If it is the waiter, the other sees the bit (by `[LOCK]`), and the bell
//!   that was registered before it. If it is the other, the waiter finds what changed. Weaker, if
//!   the bit were set without the lock: the waiter looks, the other changes and sees no bit, the
//!   waiter sets it and sleeps through the change. Bits are taken back without the lock: then they
//!   only cost a look at a bell that nobody is parked on.
//!
//! # Crash
//! A bit of a dead member costs the same look, until its seat has another member.

use crate::participant::PARTICIPANT_SIZE;
use shmem::Region;
use shmem::sync::Ordering;
use shmem::wait::BELL_SIZE;

/// Most members.
pub const MOST: usize = 1024;
/// Words of a set of members.
pub const WORDS: usize = MOST / 64;

/// One seat in the table of members.
pub mod seat {
    use super::{BELL_SIZE, PARTICIPANT_SIZE};

    shmem::layout! {
        "mailbox seat", 64;
        MEMBER: (PARTICIPANT_SIZE) @ 0, "the member, under the lock", "who posts or takes; a dead one's if it died instead of leaving";
        BELL: (BELL_SIZE) @ 16, "the member registers, others ring", "rung when there may be what it waits for, and when all posters are gone";
        WANTS: 4 @ 24, "the member, under the lock [MAILBOX_WAITS]", "what it waits for: any message 1, one of the type NUMBER 2, of a type up to it 3, of another type 4, room for NUMBER bytes 5";
        ROLE: 4 @ 28, "the member, before it is in MEMBER", "a poster 1, a taker 2";
        NUMBER: 8 @ 32, "the member, under the lock [MAILBOX_WAITS]", "see WANTS";
        HELD: 8 @ 40, "the lock's holder, by journal", "the block in hand, or 0: a taker's message, which goes back if it dies, or a poster's that is being written";
        DONE: 8 @ 48, "the member", "messages it has posted or taken so far";
    }
}

/// A set of seats.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seats([u64; WORDS]);

impl Seats {
    /// The set that stands at an offset. Under the lock.
    pub(crate) fn load(region: &Region, offset: usize, seated: usize) -> Self {
        let mut words = [0; WORDS];
        for (at, word) in words.iter_mut().take(seated.div_ceil(64)).enumerate() {
            // Relaxed: ordered by the lock.
            *word = region.load_u64(offset + at * 8, Ordering::Relaxed);
        }
        if let Some(word) = words.get_mut(seated / 64) {
            *word &= (1 << (seated % 64)) - 1;
        }
        Self(words)
    }

    pub(crate) fn add(&mut self, seat: usize) {
        self.0[seat / 64] |= 1 << (seat % 64);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let words = self.0.into_iter().enumerate();
        words.flat_map(|(at, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// Those who wait: the set, and the seats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits<'a> {
    pub(crate) region: &'a Region,
    /// Offset of the set.
    pub(crate) set: usize,
    /// Offset of the first seat.
    pub(crate) seats: usize,
}

impl Waits<'_> {
    fn at(&self, seat: usize, word: usize) -> usize {
        self.seats + seat * seat::LAYOUT.size + word
    }

    /// Says what the member of a seat waits for. Under the lock.
    pub(crate) fn wait_for(&self, seat: usize, (wants, number): (u32, u64)) {
        // Relaxed, all: [MAILBOX_WAITS] is ordered by the lock.
        self.region
            .u32(self.at(seat, seat::WANTS))
            .store(wants, Ordering::Relaxed);
        self.region
            .u64(self.at(seat, seat::NUMBER))
            .store(number, Ordering::Relaxed);
        self.region
            .u64(self.set + seat / 64 * 8)
            .fetch_or(1 << (seat % 64), Ordering::Relaxed);
    }

    /// Says that the member of a seat waits no more. Without the lock, too.
    pub(crate) fn stop(&self, seat: usize) {
        // Relaxed: [MAILBOX_WAITS], where it need not be seen.
        self.region
            .u64(self.set + seat / 64 * 8)
            .fetch_and(!(1 << (seat % 64)), Ordering::Relaxed);
    }

    /// Adds those of the first `seated` seats who wait for something like that. Under the lock.
    #[inline]
    pub(crate) fn concerned(
        &self,
        seated: usize,
        concerns: impl Fn(u32, u64) -> bool,
        to: &mut Seats,
    ) {
        let waiting = Seats::load(self.region, self.set, seated);
        if waiting.is_empty() {
            return;
        }
        for seat in waiting.iter() {
            // Relaxed: [MAILBOX_WAITS] is ordered by the lock.
            let wants = self.at(seat, seat::WANTS);
            let wants = self.region.load_u32(wants, Ordering::Relaxed);
            let number = self.at(seat, seat::NUMBER);
            let number = self.region.load_u64(number, Ordering::Relaxed);
            if concerns(wants, number) {
                to.add(seat);
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;
    use shmem::Waiter;
    use shmem::lock::{LOCK_SIZE, Lock};
    use shmem::wait::{Bell, Moment, Patience};

    const LOCK: usize = 0;
    /// How many messages of the type 7 there are.
    const COUNT: usize = LOCK_SIZE;
    const SET: usize = COUNT + 8;
    const SEATS: usize = SET + WORDS * 8;
    const LENGTH: usize = SEATS + 2 * seat::LAYOUT.size;
    const SEVEN: (u32, u64) = (2, 7);

    fn waits(region: &Region) -> Waits<'_> {
        Waits {
            region,
            set: SET,
            seats: SEATS,
        }
    }

    fn bell(region: &Region, seat: usize) -> Bell<'_> {
        Bell::new(region, waits(region).at(seat, seat::BELL))
    }

    /// Posts a message, as `Inside` does.
    fn post(region: &Region) {
        let held = Lock::new(region, LOCK).take(9, Patience::FOREVER, |_| false);
        let count = region.load_u64(COUNT, Ordering::Relaxed);
        region.u64(COUNT).store(count + 1, Ordering::Relaxed);
        let mut rings = Seats::default();
        waits(region).concerned(2, |wants, number| (wants, number) == SEVEN, &mut rings);
        drop(held);
        for seat in rings.iter() {
            bell(region, seat).ring_after_exchange();
        }
    }

    /// Takes one, as `Member` does; or says after the lock, which is too late, that it waits.
    fn take(region: &Region, me: usize, late: bool) {
        let bell = bell(region, me);
        let mut waiter = Waiter::judging_by(|_| false);
        let taken = waiter.wait(bell, Patience::FOREVER, |moment, _| {
            let held = Lock::new(region, LOCK).take(me as u64 + 1, Patience::FOREVER, |_| false);
            let count = region.load_u64(COUNT, Ordering::Relaxed);
            if count > 0 {
                region.u64(COUNT).store(count - 1, Ordering::Relaxed);
                return Some(());
            }
            if late {
                drop(held);
            }
            if moment == Moment::Parking {
                waits(region).wait_for(me, SEVEN);
            }
            None
        });
        waits(region).stop(me);
        assert_eq!(taken, Some(()));
    }

    fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    /// One posts what another waits for, twice: nobody sleeps for ever, also when the bit of the
    /// first wait is taken back as the second message comes.
    fn exchange(late: bool) {
        bounded(3, move || {
            let region = Region::heap(LENGTH);
            let poster = {
                let region = region.clone();
                thread::spawn(move || (0..2).for_each(|_| post(&region)))
            };
            (0..2).for_each(|_| take(&region, 0, late));
            poster.join().unwrap();
            assert_eq!(region.load_u64(COUNT, Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn nobody_sleeps_through_a_message() {
        exchange(false);
    }

    /// The order that the label asks for is what makes it so.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn who_says_it_after_the_lock_sleeps_through_it() {
        exchange(true);
    }

    /// Two wait for one message each.
    #[test]
    fn two_takers_get_one_each() {
        bounded(2, || {
            let region = Region::heap(LENGTH);
            let other = {
                let region = region.clone();
                thread::spawn(move || take(&region, 1, false))
            };
            let poster = {
                let region = region.clone();
                thread::spawn(move || (0..2).for_each(|_| post(&region)))
            };
            take(&region, 0, false);
            other.join().unwrap();
            poster.join().unwrap();
        });
    }
}
