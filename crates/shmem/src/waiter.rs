//! One handle's way of waiting: how it spins, and whose death ends its sleep.
//!
//! To spin is right if the answer comes before a sleep and a wake-up would be over, some 5 to 60 µs,
//! and if the one who is to answer has a processor meanwhile. Neither can be known, so an adaptive
//! waiter goes by its experience: it spins for a *budget* of 1 to 100 µs, which doubles when
//! spinning was rewarded and halves when a sleep followed. Who waits for something rare thus spins
//! for 1 µs each time; two who answer each other within a microsecond never sleep.
//!
//! More than 20 µs are for those only whom each wait rewards: who hands long messages to and fro,
//! 30 to 70 µs for 1 MiB, to which a sleep and a wake-up would add 20. One sleep takes what is above
//! away.
//!
//! Both could get stuck in sleeping: each takes longer to wake than the other spins. So each
//! sixteenth time one that has a small budget spins for 100 µs, longer than such an answer and a
//! wake-up take. If the other answers by then, both are back at spinning.
//!
//! Who was away for 100 µs between two looks had its processor taken by others; what spins then only
//! takes the time of the one it waits for, so it sleeps at once for the next 8 waits, and for twice as
//! many, up to 256, if that happens again before spinning was good for something as often.
//!
//! Before it sleeps an adaptive waiter gives way, up to `WAYS` times, as long as it sees that others want the
//! processor: among them may be the one it waits for, and who has not slept need not be woken. Where there
//! are more processes than processors each then finds many messages when its turn comes, where one that
//! sleeps is woken for the first of them, and each message wakes all that sleep. Measured, 64 bytes to
//! 64 subscribers that are waited for, on two processors: 0.1 million a second without it, 3.2 with it;
//! to 16, 2.8 and 12. Where nobody else wants the processor it costs one call.
//!
//! Measured on two processors that nothing else used, medians: round trips of a word 0.35 µs
//! (always spinning 0.34, always parking 24), 64 KiB blocks through eight slots 12.7 GB/s (12.9,
//! 9.2), 1 KiB blocks 2.4 GB/s (2.5, 0.37). On processors that a dozen others used too, round trips
//! 10 to 40 µs (4 to 400, 5 to 11): who knows that chooses [`Waiting::Park`].

use crate::parking::Parking;
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
    /// Sleeps after a few looks, or, while answers come at once, after at most 10 µs: see `parking`.
    Park,
}

/// Looks before a sleep, for who parks.
const FEW: u32 = 8;
/// Looks before the clock is read and the processor told that this is a loop that waits: some tenths of
/// a microsecond. An answer that comes at once is not to wait for the end of a pause, of some 30 ns.
const EAGER: u32 = 64;
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;
/// Readings of the clock between two times when others may have the processor: some 50 µs.
const YIELD: u32 = 64;
/// Largest and smallest budget, in nanoseconds, and the largest for whom the last wait was a sleep.
const LONGEST: u32 = 100_000;
const SHORTEST: u32 = 1_000;
const USUAL: u32 = 20_000;
/// How long one spins that tries whether spinning is good for something again, in nanoseconds, and
/// how often.
const TRIAL: u32 = LONGEST;
const TRIALS: u32 = 16;
/// Who was away for so long between two readings of the clock had its processor taken by others;
/// after that it does not spin in some waits: the first time in a few, again and again in more.
const AWAY: Duration = Duration::from_micros(100);
const CROWDED: [u32; 2] = [8, 256];
/// How often one gives way before it sleeps, and how soon it has the processor back if nobody else wants it.
const WAYS: u32 = 8;
const ALONE: Duration = Duration::from_micros(4);
/// How often one who spins looks for deaths and at the end of its patience.
const EVERY: Duration = Duration::from_millis(10);

/// One handle's way of waiting: its policy, what spinning has lately been good for, and the peers
/// it watches.
#[derive(Debug)]
pub struct Waiter {
    waiting: Waiting,
    /// How long it spins, in nanoseconds.
    budget: u32,
    /// Times that spinning was good for nothing, since it last was.
    failures: u32,
    /// Waits in which it does not spin, because others want the processor.
    crowded: u32,
    /// How many those were the last time, less the times that spinning was good for something since.
    crowd: u32,
    /// What one that parks goes by instead.
    parking: Parking,
    pub(crate) peers: Peers,
    /// The task that waits by this handle, if one does.
    #[cfg(not(loom))]
    pub(crate) ticket: crate::reactor::Ticket,
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
            budget: USUAL,
            failures: 0,
            crowded: 0,
            crowd: 0,
            parking: Parking::default(),
            peers: Peers::new(is_dead),
            #[cfg(not(loom))]
            ticket: crate::reactor::Ticket::default(),
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
        if let found @ Some(_) = self.spin(&mut ready) {
            return found;
        }
        let start = self.parks().then(Instant::now);
        let found = self.park(bell, patience, &mut ready);
        if let (Some(_), Some(start)) = (&found, start) {
            self.parking.slept(start.elapsed());
        }
        found
    }

    /// Sleeps, if it may, until there is something.
    fn park<T>(
        &mut self,
        bell: Bell<'_>,
        patience: Patience,
        ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        loop {
            pulse::keep();
            let rings = (self.waiting != Waiting::Spin).then(|| bell.register());
            self.peers.clear();
            if let found @ Some(_) = ready(Moment::Parking, &mut self.peers) {
                return found;
            }
            if patience.is_over() {
                return None;
            }
            let found = match rings {
                Some(rings) => {
                    let most = patience.left().unwrap_or(Duration::MAX);
                    self.peers.sleep(bell.view(), bell.offset(), rings, most);
                    self.look(1, ready)
                }
                None => self.spin(ready),
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// Whether it goes by how soon answers come to one that parks. Loom has no clock.
    fn parks(&self) -> bool {
        !cfg!(loom) && self.waiting == Waiting::Park
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
        if let found @ Some(_) = self.spin(&mut ready) {
            return found;
        }
        let mut slice = FIRST_SLICE;
        loop {
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
            let found = if self.waiting == Waiting::Spin {
                self.spin(&mut ready)
            } else {
                self.peers.sleep(view, offset, rings, patience.slice(slice));
                slice = (slice * 2).min(LAST_SLICE);
                self.look(1, &mut ready)
            };
            if found.is_some() {
                return found;
            }
        }
    }

    /// Looks before a sleep.
    fn spin<T>(&mut self, ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>) -> Option<T> {
        if cfg!(loom) {
            return self.look(1, ready);
        }
        match self.waiting {
            Waiting::Park => match self.parking.time() {
                Some(time) => {
                    let found = self.spin_for(time, ready);
                    self.parking.looked(found.as_ref().map(|(_, took)| *took));
                    found.map(|(found, _)| found)
                }
                None => self.look(FEW, ready),
            },
            Waiting::Adaptive => self.spin_adaptively(ready),
            Waiting::Spin => self.spin_for(EVERY, ready).map(|(found, _)| found),
        }
    }

    fn spin_adaptively<T>(
        &mut self,
        ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        if self.crowded > 0 {
            self.crowded -= 1;
            return self.look(FEW, ready).or_else(|| self.give_way(ready));
        }
        let is_trial = self.failures % TRIALS == TRIALS - 1;
        let time = if is_trial { TRIAL } else { self.budget };
        let found = self.spin_for(Duration::from_nanos(time.into()), ready);
        self.learn(found.as_ref().map(|(_, took)| *took));
        found
            .map(|(found, _)| found)
            .or_else(|| self.give_way(ready))
    }

    /// Lets others have the processor before a sleep, as long as there are any: the one it waits for may be
    /// among them.
    fn give_way<T>(
        &mut self,
        ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..WAYS {
            let start = Instant::now();
            std::thread::yield_now();
            if let found @ Some(_) = self.look(FEW, ready) {
                return found;
            }
            if start.elapsed() < ALONE {
                break;
            }
        }
        None
    }

    /// Spinning was rewarded after some time, or for nothing.
    fn learn(&mut self, rewarded: Option<Duration>) {
        let Some(took) = rewarded else {
            self.budget = (self.budget / 2).clamp(SHORTEST, USUAL);
            self.failures = self.failures.wrapping_add(1);
            return;
        };
        let took = took.as_nanos().min(LONGEST.into()) as u32;
        let doubled = (self.budget * 2).min(USUAL).max(self.budget);
        self.budget = doubled.max(took * 2).min(LONGEST);
        self.failures = 0;
        self.crowd = self.crowd.saturating_sub(1);
    }

    /// Looks for that time; answers what was found, and after which time.
    fn spin_for<T>(
        &mut self,
        time: Duration,
        ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<(T, Duration)> {
        for _ in 0..EAGER {
            if let Some(found) = ready(Moment::Spinning, &mut self.peers) {
                return Some((found, Duration::ZERO));
            }
        }
        let start = Instant::now();
        let mut last = Duration::ZERO;
        for rounds in 1u32.. {
            let found = self.look(LOOKS, ready);
            let took = start.elapsed();
            if took - last > AWAY {
                self.crowd = (self.crowd * 2).clamp(CROWDED[0], CROWDED[1]);
                (self.crowded, self.failures) = (self.crowd, TRIALS - 1);
            }
            last = took;
            if let Some(found) = found {
                return Some((found, took));
            }
            if took >= time {
                break;
            }
            if rounds.is_multiple_of(YIELD) {
                std::thread::yield_now();
            }
        }
        None
    }

    fn look<T>(
        &mut self,
        looks: u32,
        ready: &mut impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        for _ in 0..looks {
            if let found @ Some(_) = ready(Moment::Spinning, &mut self.peers) {
                return found;
            }
            spin_loop();
        }
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
    fn a_budget_goes_by_what_spinning_was_good_for() {
        let mut waiter = Waiter::new();
        let reward = |micros| Some(Duration::from_micros(micros));
        let budgets = |waiter: &mut Waiter, rewards: &[Option<Duration>]| -> Vec<u32> {
            let learn = |reward: &Option<Duration>| {
                waiter.learn(*reward);
                waiter.budget / 1000
            };
            rewards.iter().map(learn).collect()
        };
        // Who waits for something rare.
        assert_eq!(budgets(&mut waiter, &[None; 6]), [10, 5, 2, 1, 1, 1]);
        assert_eq!(waiter.failures, 6);
        // What comes soon, again and again.
        let soon = [reward(0), reward(1), reward(3), reward(3), reward(1)];
        assert_eq!(budgets(&mut waiter, &soon), [2, 4, 8, 16, 20]);
        assert_eq!(waiter.failures, 0);
        // What takes longer, as long as it always comes.
        let long = [reward(15), reward(1), reward(40), reward(30), reward(99)];
        assert_eq!(budgets(&mut waiter, &long), [30, 30, 80, 80, 100]);
        assert_eq!(budgets(&mut waiter, &[None, None]), [20, 10]);
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
