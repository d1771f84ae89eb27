//! One handle's way of waiting: how it spins, and whose death ends its sleep.

use crate::peers::{self, Peers};
use crate::pulse;
use crate::region::View;
use crate::sync::{Ordering, spin_loop};
use crate::wait::{Bell, FIRST_SLICE, LAST_SLICE, Moment, Patience};
use std::time::{Duration, Instant};

/// How a caller wants to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Looks all the time and never sleeps: the shortest delay, for a processor of its own.
    Spin,
    /// Looks for some microseconds if that has been good for something lately, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps after a few looks.
    Park,
}

/// Looks before a sleep, for who parks.
const FEW: u32 = 8;
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;
/// Longest and shortest time of spinning, in nanoseconds.
const LONGEST: u32 = 20_000;
const SHORTEST: u32 = 1_000;
/// How often one who spins looks for deaths and at the end of its patience.
const EVERY: Duration = Duration::from_millis(10);

/// One handle's way of waiting: its policy, what spinning has lately been good for, and the peers
/// it watches.
#[derive(Debug)]
pub struct Waiter {
    waiting: Waiting,
    /// How long it spins, in nanoseconds.
    budget: u32,
    peers: Peers,
}

impl Default for Waiter {
    fn default() -> Self {
        Self::new()
    }
}

impl Waiter {
    /// One that is [`Waiting::Adaptive`].
    pub fn new() -> Self {
        Self::judging_by(peers::by_presence)
    }

    /// One that asks `is_dead` instead of the kernel: for tests and models.
    pub fn judging_by(is_dead: fn(u64) -> bool) -> Self {
        Self {
            waiting: Waiting::default(),
            budget: LONGEST,
            peers: Peers::new(is_dead),
        }
    }

    /// Chooses how to wait from now on.
    pub fn set_waiting(&mut self, waiting: Waiting) {
        self.waiting = waiting;
    }

    /// The peers, for a look outside of a wait.
    pub fn peers(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// Waits on a bell until `ready` answers something, or patience ends.
    ///
    /// `ready` is asked again after each wake, after the death of a peer that it
    /// [watches](Peers::watch), and now and then.
    pub fn wait<T>(
        &mut self,
        bell: Bell<'_>,
        patience: Patience,
        mut ready: impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        self.peers.begin();
        loop {
            if let found @ Some(_) = self.spin(&mut ready) {
                return found;
            }
            pulse::keep();
            let rings = (self.waiting != Waiting::Spin).then(|| bell.register());
            self.peers.clear();
            if let found @ Some(_) = ready(Moment::Parking, &mut self.peers) {
                return found;
            }
            if patience.is_over() {
                return None;
            }
            if let Some(rings) = rings {
                let most = patience.left().unwrap_or(Duration::MAX);
                self.peers.sleep(bell.view(), bell.offset(), rings, most);
            }
        }
    }

    /// [`wait`](Self::wait) on the bell at `offset` for who may not write, and so can't register:
    /// it sleeps in slices, see [`wait`](crate::wait).
    pub fn wait_unregistered<T>(
        &mut self,
        view: &View,
        offset: usize,
        patience: Patience,
        mut ready: impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        self.peers.begin();
        let mut slice = FIRST_SLICE;
        loop {
            if let found @ Some(_) = self.spin(&mut ready) {
                return found;
            }
            pulse::keep();
            // Acquire: as in `Bell::register`.
            let rings = view.load_u32(offset, Ordering::Acquire);
            self.peers.clear();
            if let found @ Some(_) = ready(Moment::Parking, &mut self.peers) {
                return found;
            }
            if patience.is_over() {
                return None;
            }
            if self.waiting != Waiting::Spin {
                self.peers.sleep(view, offset, rings, patience.slice(slice));
                slice = (slice * 2).min(LAST_SLICE);
            }
        }
    }

    fn spin<T>(&mut self, ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>) -> Option<T> {
        let mut look = |looks: u32| {
            for _ in 0..looks {
                if let found @ Some(_) = ready(Moment::Spinning, &mut self.peers) {
                    return found;
                }
                spin_loop();
            }
            None
        };
        if cfg!(loom) {
            return look(1);
        }
        let time = match self.waiting {
            Waiting::Park => return look(FEW),
            Waiting::Adaptive => Duration::from_nanos(self.budget.into()),
            Waiting::Spin => EVERY,
        };
        let start = Instant::now();
        let mut rounds = 0u32;
        while start.elapsed() < time {
            if let found @ Some(_) = look(LOOKS) {
                self.budget = (self.budget * 2).min(LONGEST);
                return found;
            }
            rounds += 1;
            if rounds.is_multiple_of(64) {
                std::thread::yield_now();
            }
        }
        self.budget = (self.budget / 2).max(SHORTEST);
        None
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::region::Region;
    use loom::thread;

    /// A published value reaches a waiter that parks at any moment, through two publications.
    #[test]
    fn nobody_sleeps_through_a_publication() {
        loom::model(|| {
            let region = Region::heap(16);
            let waiter = {
                let region = region.clone();
                thread::spawn(move || {
                    let mut waiter = Waiter::judging_by(|_| false);
                    for n in 1..=2 {
                        let bell = Bell::new(&region, 0);
                        waiter.wait(bell, Patience::FOREVER, |_, peers| {
                            peers.watch(7, 0);
                            (region.load_u32(8, Ordering::Acquire) >= n).then_some(())
                        });
                    }
                })
            };
            for n in 1..=2 {
                region.u32(8).store(n, Ordering::Release);
                Bell::new(&region, 0).ring();
            }
            waiter.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::region::Region;
    use crate::wait::layout;
    use std::thread;

    const ALL: [Waiting; 3] = [Waiting::Spin, Waiting::Adaptive, Waiting::Park];

    #[test]
    fn patience_ends() {
        let region = Region::heap(16);
        for waiting in ALL {
            let mut waiter = Waiter::new();
            waiter.set_waiting(waiting);
            let time = Duration::from_millis(20);
            let start = Instant::now();
            let bell = Bell::new(&region, 0);
            let found = waiter.wait(bell, Patience::from(time), |_, _| None::<()>);
            assert_eq!(found, None);
            assert!(start.elapsed() >= time);
            let patience = Patience::from(time);
            let found = waiter.wait_unregistered(&region, 0, patience, |_, _| None::<()>);
            assert_eq!(found, None);
            assert!(start.elapsed() >= time * 2);
        }
    }

    #[test]
    fn who_is_parked_is_woken_and_who_spins_sees() {
        for waiting in ALL {
            let region = Region::heap(16);
            thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let mut waiter = Waiter::new();
                    waiter.set_waiting(waiting);
                    let patience = Patience::from(Duration::from_secs(10));
                    waiter.wait(Bell::new(&region, 0), patience, |_, _| {
                        (region.load_u32(8, Ordering::Acquire) == 1).then_some(())
                    })
                });
                if waiting != Waiting::Spin {
                    // Parked, or about to be: the fence protocol covers both.
                    while region.load_u32(layout::PARKED, Ordering::Relaxed) == 0 {
                        thread::yield_now();
                    }
                }
                region.u32(8).store(1, Ordering::Release);
                Bell::new(&region, 0).ring();
                assert_eq!(thread.join().unwrap(), Some(()));
            });
        }
    }
}
