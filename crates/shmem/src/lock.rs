//! A lock that outlives its holder.
//!
//! - `[LOCK]` The holder's stores, up to its unlock, are seen by the next holder: released by the
//!   store of zero (or by nothing, when the holder died: then its successor takes the word over
//!   from it and mends what it left), acquired by the compare-exchange that takes the word.
//!
//! **Crash.** Whoever waits looks every slice whether the holder lives, and takes the lock over
//! from a dead one by a compare-exchange from that very identity; only one can win. The winner is
//! told that it inherited the lock, and mends what the lock guards before it goes on.
//!
//! **A peer that lies** can keep the lock by writing an identity that lives; then patience ends.
//! A word that is no identity counts as the mark of a dead holder.

use crate::region::Region;
use crate::sync::Ordering;
use crate::wait::{BELL_SIZE, Bell, Moment, Patience};
use std::time::Duration;

/// Bytes of a lock in a layout.
pub const LOCK_SIZE: usize = layout::LAYOUT.size;

/// What stands where in a lock.
pub mod layout {
    use super::BELL_SIZE;

    crate::layout! {
        "lock", 16;
        HOLDER: 8 @ 0, "who takes it, by compare-exchange from 0 or from a dead one; 0 by the holder [LOCK]", "0: free; otherwise the identity of the process that holds it, or held it when it died";
        BELL: (BELL_SIZE) @ 8, "waiters register, the holder rings", "rung at unlock";
    }
}

/// How soon a waiter notices that the holder died. What the lock guards is short, so hardly
/// anybody ever waits so long.
const SLICE: Duration = Duration::from_millis(50);

/// How the lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was free: what it guards is whole.
    Clean,
    /// Its holder died: what it guards may be half changed.
    Inherited,
}

/// A lock at an offset of a region.
#[derive(Clone, Copy, Debug)]
pub struct Lock<'a> {
    region: &'a Region,
    offset: usize,
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    lock: Lock<'a>,
    /// How it was taken.
    pub taken: Taken,
}

impl<'a> Lock<'a> {
    /// The lock at `offset` bytes, a multiple of eight.
    #[inline]
    pub fn new(region: &'a Region, offset: usize) -> Self {
        Self { region, offset }
    }

    /// Who holds it, or held it when it died; 0 if nobody. It may be free before the answer is used.
    pub fn holder(&self) -> u64 {
        // Relaxed: a hint.
        self.region
            .load_u64(self.offset + layout::HOLDER, Ordering::Relaxed)
    }

    #[inline]
    fn bell(&self) -> Bell<'a> {
        Bell::new(self.region, self.offset + layout::BELL)
    }

    /// Takes the lock for `me` if nobody has it.
    #[inline]
    pub fn take_if_free(&self, me: u64) -> Option<Held<'a>> {
        // Made only if it is held: its drop unlocks.
        self.exchange(0, me).then(|| Held {
            lock: *self,
            taken: Taken::Clean,
        })
    }

    /// Takes the lock for `me`, or answers `None` when patience ends.
    ///
    /// `is_dead` says whether the holder with that word is dead; it is asked only while the lock
    /// is held by somebody.
    #[inline]
    pub fn take(
        &self,
        me: u64,
        patience: Patience,
        is_dead: impl FnMut(u64) -> bool,
    ) -> Option<Held<'a>> {
        match self.take_if_free(me) {
            None => self.take_slowly(me, patience, is_dead),
            held => held,
        }
    }

    #[cold]
    fn take_slowly(
        &self,
        me: u64,
        patience: Patience,
        mut is_dead: impl FnMut(u64) -> bool,
    ) -> Option<Held<'a>> {
        let taken = self.bell().wait_in_slices(SLICE, patience, |moment| {
            // Relaxed: only the compare-exchange below decides.
            let holder = self
                .region
                .load_u64(self.offset + layout::HOLDER, Ordering::Relaxed);
            if holder == 0 {
                return self.exchange(0, me).then_some(Taken::Clean);
            }
            let inherit = moment == Moment::Parking && is_dead(holder) && self.exchange(holder, me);
            inherit.then_some(Taken::Inherited)
        })?;
        Some(Held { lock: *self, taken })
    }

    #[inline]
    fn exchange(&self, from: u64, to: u64) -> bool {
        // [LOCK] acquire: what the last holder stored. Relaxed on failure: nothing is read then.
        self.region
            .u64(self.offset + layout::HOLDER)
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // [LOCK] release. SeqCst, and a read-modify-write, because it is also the full fence of
        // [BELL_PARK]: one instruction on x86 where a store and a fence would be two.
        self.lock
            .region
            .u64(self.lock.offset + layout::HOLDER)
            .swap(0, Ordering::SeqCst);
        self.lock.bell().ring_after_exchange();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    /// Two threads count under the lock; a dead holder is at the door.
    fn count(first_holder: u64) {
        loom::model(move || {
            let region = Region::heap(24);
            region.u64(0).store(first_holder, Ordering::Relaxed);
            let threads: Vec<_> = (1..=2)
                .map(|me| {
                    let region = region.clone();
                    thread::spawn(move || {
                        let lock = Lock::new(&region, 0);
                        let held = lock.take(me, Patience::FOREVER, |word| word == 9).unwrap();
                        // Relaxed on purpose: the lock alone must order these.
                        let count = region.load_u64(16, Ordering::Relaxed);
                        region.u64(16).store(count + 1, Ordering::Relaxed);
                        (held.taken == Taken::Inherited) as u32
                    })
                })
                .collect();
            let inherited: u32 = threads.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(region.load_u64(16, Ordering::Relaxed), 2);
            assert_eq!(inherited, (first_holder == 9) as u32);
        });
    }

    #[test]
    fn holders_exclude_each_other() {
        count(0);
    }

    #[test]
    fn one_inherits_from_the_dead() {
        count(9);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_living_holder_is_waited_for() {
        let region = Region::heap(16);
        let lock = Lock::new(&region, 0);
        let held = lock.take(1, Patience::FOREVER, |_| false).unwrap();
        assert_eq!(held.taken, Taken::Clean);
        assert!(lock.take_if_free(2).is_none());
        assert_eq!(lock.holder(), 1);
        assert!(
            lock.take(2, Patience::from(Duration::from_millis(5)), |_| false)
                .is_none()
        );
        drop(held);
        assert_eq!(
            lock.take(2, Patience::none(), |_| false).unwrap().taken,
            Taken::Clean
        );
    }

    #[test]
    fn a_dead_holder_is_inherited_from() {
        let region = Region::heap(16);
        region.u64(0).store(7, Ordering::Relaxed);
        let held = Lock::new(&region, 0)
            .take(1, Patience::none(), |word| word == 7)
            .unwrap();
        assert_eq!(held.taken, Taken::Inherited);
    }
}
