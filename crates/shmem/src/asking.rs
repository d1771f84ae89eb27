//! One handle's ways of not blocking: a single look, or a task that is woken.
//!
//! What an operation looks for, and whom it watches meanwhile, is the same whether a thread sleeps
//! for it or a task does; [`Wait`] says which. A task that found nothing has registered, and looked
//! again after that, as a thread does before it sleeps; the `reactor` wakes it.

use crate::peers::Peers;
use crate::pulse;
use crate::reactor::Word;
use crate::region::View;
use crate::sync::Ordering;
use crate::wait::{Bell, FIRST_SLICE, LAST_SLICE, Moment, Patience};
use crate::waiter::Waiter;
use std::task::Waker;
use std::time::Duration;

/// What to do while there is nothing.
#[derive(Clone, Copy, Debug)]
pub enum Wait<'a> {
    /// Nothing: one look.
    Not,
    /// Wait as long as this lasts.
    While(Patience),
    /// Have this task woken when it is time to look again. Unless the handle is told that the task
    /// has [withdrawn](Waiter::withdraw), it may be woken for nothing later.
    Wake(&'a Waker),
}

impl Wait<'_> {
    /// As long as it takes.
    pub const FOREVER: Self = Self::While(Patience::FOREVER);

    /// Whether somebody waits, the caller or a task.
    pub fn is_waiting(&self) -> bool {
        !matches!(self, Self::Not)
    }

    /// Whether a task waits, which goes on doing so when the look is over.
    pub fn is_task(&self) -> bool {
        matches!(self, Self::Wake(_))
    }

    /// Whether the caller should not be kept busy any longer. A task is woken at once, to come
    /// back.
    pub fn gives_up(&self) -> bool {
        match self {
            Self::Not => true,
            Self::While(patience) => patience.is_over(),
            Self::Wake(waker) => {
                waker.wake_by_ref();
                true
            }
        }
    }
}

impl Waiter {
    /// [`wait`](Self::wait), or what else [`Wait`] says. `None` if there is nothing: now, in time,
    /// or before the task is woken.
    pub fn find<T>(
        &mut self,
        bell: Bell<'_>,
        wait: Wait<'_>,
        mut ready: impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        match wait {
            Wait::Not => ready(Moment::Parking, &mut self.peers),
            Wait::While(patience) => self.wait(bell, patience, ready),
            Wait::Wake(waker) => {
                let register = || bell.register();
                let place = (bell.view(), bell.offset());
                self.ask(place, register, Duration::MAX, waker, ready)
            }
        }
    }

    /// [`find`](Self::find) for who may not write, as [`wait_unregistered`](Self::wait_unregistered).
    /// A task looks again in slices then, too.
    pub fn find_unregistered<T>(
        &mut self,
        view: &View,
        offset: usize,
        wait: Wait<'_>,
        mut ready: impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        match wait {
            Wait::Not => ready(Moment::Parking, &mut self.peers),
            Wait::While(patience) => self.wait_unregistered(view, offset, patience, ready),
            Wait::Wake(waker) => {
                // Acquire: as in `Bell::register`.
                let register = || view.load_u32(offset, Ordering::Acquire);
                let slice = FIRST_SLICE * (1 << self.peers.slept().min(6));
                let slice = slice.min(LAST_SLICE);
                self.ask((view, offset), register, slice, waker, ready)
            }
        }
    }

    /// Says that no task waits by this handle any more: it has got something, or has given up.
    /// Answers whether one had been waiting.
    pub fn withdraw(&mut self) -> bool {
        self.ticket.withdraw()
    }

    /// Whether a task waits by this handle, or has been woken and not withdrawn.
    pub fn has_asked(&self) -> bool {
        self.ticket.is_out()
    }

    fn ask<T>(
        &mut self,
        (view, offset): (&View, usize),
        register: impl FnOnce() -> u32,
        most: Duration,
        waker: &Waker,
        mut ready: impl FnMut(Moment, &mut Peers) -> Option<T>,
    ) -> Option<T> {
        if let found @ Some(_) = ready(Moment::Spinning, &mut self.peers) {
            return found;
        }
        if !self.ticket.is_out() {
            self.peers.begin();
        } else if self.ticket.is_good(waker) {
            return None;
        }
        pulse::keep();
        let rings = register();
        self.peers.clear();
        if let found @ Some(_) = ready(Moment::Parking, &mut self.peers) {
            return found;
        }
        let mut words = vec![Word {
            view: view.clone(),
            offset,
            expected: rings,
            is_pulse: false,
        }];
        let slice = self.peers.arm(&mut words).min(most);
        self.ticket.arm(words, slice, waker);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Region;
    use crate::wait::BELL_SIZE;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;
    use std::time::Instant;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn now(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }

        fn wait_for(&self, count: u32) {
            let start = Instant::now();
            while self.now() < count {
                assert!(start.elapsed() < Duration::from_secs(10), "not woken");
                std::thread::yield_now();
            }
        }
    }

    /// A bell for each of so many, and behind the last a word that is published.
    fn bells(count: usize) -> Region {
        Region::heap(count * BELL_SIZE + 8)
    }

    fn ask(waiter: &mut Waiter, region: &Region, bell: usize, waker: &Waker) -> Option<u32> {
        let bell = Bell::new(region, bell * BELL_SIZE);
        waiter.find(bell, Wait::Wake(waker), |_, _| {
            let word = region.load_u32(region.len() - 8, Ordering::Acquire);
            (word != 0).then_some(word)
        })
    }

    #[test]
    fn a_ring_wakes_and_a_look_takes() {
        let region = bells(1);
        let (count, mut waiter) = (Arc::new(Count::default()), Waiter::new());
        let waker = Waker::from(count.clone());
        for round in 1..=100 {
            region.u32(BELL_SIZE).store(0, Ordering::Release);
            assert_eq!(ask(&mut waiter, &region, 0, &waker), None);
            // Asked twice: one entry.
            assert_eq!(ask(&mut waiter, &region, 0, &waker), None);
            region.u32(BELL_SIZE).store(round, Ordering::Release);
            Bell::new(&region, 0).ring();
            count.wait_for(round);
            assert_eq!(ask(&mut waiter, &region, 0, &waker), Some(round));
        }
        assert!(waiter.withdraw());
        assert!(!waiter.withdraw());
    }

    #[test]
    fn who_has_withdrawn_is_left_alone() {
        let region = bells(2);
        let (gone, there) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let (mut first, mut second) = (Waiter::new(), Waiter::new());
        assert_eq!(ask(&mut first, &region, 0, &gone.clone().into()), None);
        assert_eq!(ask(&mut second, &region, 1, &there.clone().into()), None);
        assert!(first.withdraw());
        // Its waker is gone, and the test's own is left.
        assert_eq!(Arc::strong_count(&gone), 1);
        Bell::new(&region, 0).ring();
        Bell::new(&region, BELL_SIZE).ring();
        there.wait_for(1);
        assert_eq!(gone.now(), 0);
    }

    #[test]
    fn more_bells_than_the_kernel_takes() {
        let region = bells(300);
        let counts: Vec<_> = (0..300).map(|_| Arc::new(Count::default())).collect();
        let mut waiters: Vec<_> = counts.iter().map(|_| Waiter::new()).collect();
        for (at, (count, waiter)) in counts.iter().zip(&mut waiters).enumerate() {
            assert_eq!(ask(waiter, &region, at, &count.clone().into()), None);
        }
        for (at, count) in counts.iter().enumerate() {
            Bell::new(&region, at * BELL_SIZE).ring();
            count.wait_for(1);
        }
    }

    #[test]
    fn a_time_that_is_over_wakes() {
        let region = bells(1);
        let (count, mut waiter) = (Arc::new(Count::default()), Waiter::new());
        let waker = Waker::from(count.clone());
        let found = waiter.find_unregistered(&region, 0, Wait::Wake(&waker), |_, _| None::<()>);
        assert_eq!(found, None);
        count.wait_for(1);
    }
}
