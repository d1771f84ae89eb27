//! Who is woken when there is something to receive: one consumer for a message, all for the end.
//!
//! To wake all for each message does badly where they are many: one gets it, the others have taken the
//! processors for nothing, and go to sleep again, each of them saying that it is parked, so that the next
//! message wakes all of them once more. Measured on two processors, 64 bytes from one producer: 64
//! consumers 0.1 million a second, where one that is woken at a time gives 11.
//!
//! # Protocol
//! Who rings the data bell for a message takes PARKED back and wakes one. From then on nobody rings for
//! those who sleep on, so who was woken *passes it on* when it has stopped waiting, whatever it has found:
//! if others sleep, it says in PARKED that somebody is parked, fences as who parks does, and looks
//! whether any lane has a message, for which it rings itself. And who frees a lane in which there is more
//! rings as ever. So whenever a message waits and somebody sleeps, PARKED is set, or somebody is awake who
//! will look (`[BELL_PARK]`).
//!
//! That others sleep is told by ASLEEP in their seats, which each stores before it sleeps: it is on the
//! futex's queue before it can be passed over, so who is woken there sees it.
//!
//! A long message is rung for twice where a sleeper would follow it (see `coming`): when it is announced and, if
//! somebody is parked then, when it is there.
//!
//! # Crash
//! One that dies between being woken and passing it on, or is stopped just there, leaves the others asleep
//! while a message waits: those who watch it, the sixteen before it in the table, wake over its death; and
//! all at the end of their slice, of 2 s at most. One that is stopped while it sleeps is not woken for a
//! message.

use crate::queue_layout::layout;
use crate::queue_taker::{Taking, is_empty};
use shmem::Region;
use shmem::sync::Ordering;
use shmem::wait::is_parked;

impl Taking {
    /// Another consumer may have gone to sleep over what this one held: one is enough for a message, the
    /// end is for all.
    #[inline]
    pub(crate) fn ring(&self, region: &Region, lane: usize) {
        if is_parked(self.shape.data_parked(region)) {
            self.wake(region, lane);
        }
    }

    #[cold]
    fn wake(&self, region: &Region, lane: usize) {
        // Relaxed: as in `queue_members`.
        if region.load_u64(layout::ATTENDED, Ordering::Relaxed) <= 1 {
            return;
        }
        let data = self.shape.data(region);
        if self.shape.owner(lane).who(region) == 0 {
            data.ring_light(|| true);
        } else {
            data.ring_one(|| !is_empty(&self.shape, region, lane));
        }
    }

    /// Passes on what woke this consumer, which has slept, if others sleep: only one is woken for a
    /// message.
    #[cold]
    pub(crate) fn pass_on(&self, region: &Region) {
        let mut others = (0..self.shape.seats()).filter(|seat| *seat != self.seat);
        if !others.any(|seat| self.shape.seat(seat).is_asleep(region)) {
            return;
        }
        let data = self.shape.data(region);
        data.arm();
        let used = self.shape.used(region);
        data.ring_one(|| (0..used).any(|lane| !is_empty(&self.shape, region, lane)));
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::lane::Tail;
    use crate::queue_layout::Shape;
    use crate::queue_members::{take_lane, take_seat};
    use loom::thread;
    use shmem::Waiter;
    use shmem::wait::{Moment, Patience};

    /// [BELL_PARK] where a message wakes one of several: none of two consumers sleeps while a message
    /// waits, whichever is woken, and whatever the other does with its own.
    fn who_is_woken_passes_it_on(lanes: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(move || {
            let (shape, length) = Shape::plan(lanes, 2, 256).unwrap();
            let region = Region::heap(length);
            let consumer = |who| {
                let seat = take_seat(&shape, &region, who, |_| false).unwrap();
                let mut taking = Taking::new(shape, &region, seat);
                let region = region.clone();
                move || {
                    let mut slept = false;
                    let mut waiter = Waiter::judging_by(|_| false);
                    let data = shape.data(&region);
                    let found = waiter.wait(data, Patience::FOREVER, |moment, _| {
                        let found = taking.find(&region, |_| false);
                        if found.is_none() && moment == Moment::Parking {
                            shape.seat(taking.seat).set_asleep(&region, true);
                            slept = true;
                        }
                        found
                    });
                    if slept {
                        shape.seat(taking.seat).set_asleep(&region, false);
                        taking.pass_on(&region);
                    }
                    found.unwrap().unwrap();
                    taking.finish(&region);
                }
            };
            let mut tails: Vec<_> = (0..lanes)
                .map(|_| {
                    let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
                    Tail::open(shape.ring(lane), &region, shape.marks(lane)).unwrap()
                })
                .collect();
            let (first, second) = (consumer(1), consumer(2));
            let threads = [thread::spawn(first), thread::spawn(second)];
            for number in 0..2u64 {
                let tail = &mut tails[number as usize % lanes];
                tail.send(&region, &number.to_ne_bytes()).unwrap();
                shape.data(&region).ring_one(|| true);
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[test]
    fn who_is_woken_passes_a_lane_on() {
        who_is_woken_passes_it_on(1);
    }

    #[test]
    fn who_is_woken_passes_other_lanes_on() {
        who_is_woken_passes_it_on(2);
    }
}
