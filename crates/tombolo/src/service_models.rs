//! Loom models of the edges of `service`: see `service_slot` and `service_members`.

use super::*;
use crate::service_layout::{layout, slot};
use crate::service_members::{leave_seat, leave_slot, somebody, take_seat, take_slot};
use crate::service_slot::{Extent, Fate, Taken};
use loom::thread;
use shmem::sync::{AtomicU32, Ordering};
use shmem::wait::{Moment, Patience};
use shmem::{Peers, Waiter};
use std::sync::Arc;

fn bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn word(region: &Region, offset: usize) -> u64 {
    u64::from_ne_bytes(bytes(region, offset, 8).try_into().unwrap())
}

/// A service with one slot, which is in use, and to which two servers came.
fn attended_by_two() -> (Shape, Region) {
    let (shape, region) = service(1, 8);
    region.u32(layout::USED).store(1, Ordering::Relaxed);
    region.u64(layout::ATTENDED).store(2, Ordering::Relaxed);
    (shape, region)
}

/// Takes the call that waits in slot 0 and replies with its request and 100.
fn serve(shape: &Shape, region: &Region, me: u64) -> Option<u64> {
    let taken = at(shape, region, 0).take(me, 0, |taker| taker == 9)?;
    execute(shape, region, &taken)
}

/// The same by who has the slot before the call comes.
fn serve_soon(shape: &Shape, region: &Region, me: u64) -> Option<u64> {
    let taken = at(shape, region, 0).take_soon(me, 0, Extent::new(0, 8))?;
    execute(shape, region, &taken)
}

fn execute(shape: &Shape, region: &Region, taken: &Taken) -> Option<u64> {
    let slot = at(shape, region, 0);
    let request = word(region, slot.room());
    reply(&slot, taken, &(request + 100).to_ne_bytes());
    Some(request)
}

/// Waits for the reply to a call in slot 0.
fn answer(shape: &Shape, region: &Region, number: u64) -> u64 {
    let slot = at(shape, region, 0);
    let bell = shape.answered(region, 0);
    let found = Waiter::judging_by(|_| false).wait(bell, Patience::FOREVER, |moment, _| {
        if slot.is_answered(number) {
            return Some(Fate::Answered);
        }
        match moment {
            Moment::Spinning => None,
            Moment::Parking => match slot.fate(number, |_| false) {
                Fate::Waits | Fate::InHand => None,
                fate => Some(fate),
            },
        }
    });
    assert_eq!(found, Some(Fate::Answered));
    word(region, slot.answer().unwrap().offset)
}

/// [SERVICE_ASK], [SERVICE_ANSWER], [BELL_PARK] on both sides: calls one after the other, each
/// with its own reply, whoever sleeps.
#[test]
fn a_client_and_a_server() {
    bounded(3, || {
        let (shape, region) = service(1, 8);
        region.u32(layout::USED).store(1, Ordering::Relaxed);
        let server = {
            let region = region.clone();
            thread::spawn(move || {
                for expected in 1..=2 {
                    let mut waiter = Waiter::judging_by(|_| false);
                    let door = shape.door(&region);
                    let served = waiter.wait(door, Patience::FOREVER, |_, _| {
                        (shape.used(&region) > 0)
                            .then(|| serve(&shape, &region, 7))
                            .flatten()
                    });
                    assert_eq!(served, Some(expected));
                }
            })
        };
        for number in 1..=2u64 {
            ask(&at(&shape, &region, 0), number, &number.to_ne_bytes());
            shape.door(&region).ring_light(|| true);
            assert_eq!(answer(&shape, &region, number), number + 100);
        }
        server.join().unwrap();
    });
}

/// [SERVICE_TAKE], [SERVICE_TAKEN]: two servers try one slot, which a dead one may have taken
/// before it saw the call. Each call is executed once, also when the client asks again before
/// the first has given the slot back.
fn share(first_taker: u64) {
    bounded(3, move || {
        let (shape, region) = attended_by_two();
        region
            .u64(shape.at(0, slot::TAKER))
            .store(first_taker, Ordering::Relaxed);
        let slot = at(&shape, &region, 0);
        ask(&slot, 1, &1u64.to_ne_bytes());
        let servers: Vec<_> = [7, 8]
            .map(|me| {
                let region = region.clone();
                thread::spawn(move || serve(&shape, &region, me))
            })
            .into_iter()
            .collect();
        while !slot.is_answered(1) {
            thread::yield_now();
        }
        assert_eq!(word(&region, slot.answer().unwrap().offset), 101);
        ask(&slot, 2, &2u64.to_ne_bytes());
        let mut served: Vec<_> = servers
            .into_iter()
            .filter_map(|server| server.join().unwrap())
            .collect();
        served.extend(serve(&shape, &region, 7));
        served.sort_unstable();
        assert_eq!(served, [1, 2]);
        assert_eq!(answer(&shape, &region, 2), 102);
    });
}

#[test]
fn each_call_goes_to_one_server() {
    share(0);
}

#[test]
fn one_takes_over_from_the_dead() {
    share(9);
}

/// [SERVICE_TAKE], [SERVICE_ASK]: one server has the slot before the call comes, and gives it back if it comes too late
/// for that; another takes what it leaves, also the call behind.
#[test]
fn who_has_the_slot_before_gets_a_call_or_leaves_it() {
    bounded(3, || {
        let (shape, region) = attended_by_two();
        let early = {
            let region = region.clone();
            thread::spawn(move || serve_soon(&shape, &region, 7))
        };
        let late = {
            let region = region.clone();
            thread::spawn(move || serve(&shape, &region, 8))
        };
        let slot = at(&shape, &region, 0);
        ask(&slot, 1, &1u64.to_ne_bytes());
        let again = slot.is_answered(1);
        if again {
            assert_eq!(word(&region, slot.answer().unwrap().offset), 101);
            ask(&slot, 2, &2u64.to_ne_bytes());
        }
        let mut served: Vec<_> = [early, late]
            .into_iter()
            .filter_map(|server| server.join().unwrap())
            .collect();
        served.extend(serve(&shape, &region, 7));
        served.sort_unstable();
        let last = 1 + u64::from(again);
        assert_eq!(served, Vec::from_iter(1..=last));
        assert!(slot.is_answered(last));
        assert_eq!(word(&region, slot.answer().unwrap().offset), last + 100);
    });
}

/// [BELL_PARK] of a slot that was taken before a call came, and is given back: a server that passed it by and slept
/// gets the call that came meanwhile.
#[test]
fn a_sleeper_gets_what_came_too_late_for_another() {
    bounded(3, || {
        let (shape, region) = attended_by_two();
        let slot = at(&shape, &region, 0);
        let other = {
            let region = region.clone();
            thread::spawn(move || serve_soon(&shape, &region, 7))
        };
        let server = {
            let region = region.clone();
            thread::spawn(move || {
                let door = shape.door(&region);
                let look = |_, _: &mut Peers| {
                    let slot = at(&shape, &region, 0);
                    // The other one's call is over as well.
                    slot.is_answered(1)
                        .then_some(1)
                        .or_else(|| serve(&shape, &region, 8))
                };
                let mut waiter = Waiter::judging_by(|_| false);
                waiter.wait(door, Patience::FOREVER, look).unwrap()
            })
        };
        ask(&slot, 1, &1u64.to_ne_bytes());
        shape.door(&region).ring_light(|| true);
        if other.join().unwrap().is_some() {
            shape.door(&region).ring_light(|| true);
        }
        assert_eq!(server.join().unwrap(), 1);
        assert!(slot.is_answered(1));
    });
}

/// [BELL_PARK] of a slot that is given back: a server that slept over it gets the call that was
/// made meanwhile, though the other one looks no more.
#[test]
fn a_sleeper_gets_what_another_leaves() {
    bounded(3, || {
        let (shape, region) = attended_by_two();
        ask(&at(&shape, &region, 0), 1, &1u64.to_ne_bytes());
        let client = {
            let region = region.clone();
            thread::spawn(move || {
                assert_eq!(answer(&shape, &region, 1), 101);
                ask(&at(&shape, &region, 0), 2, &2u64.to_ne_bytes());
                shape.door(&region).ring_light(|| true);
            })
        };
        let other = {
            let region = region.clone();
            thread::spawn(move || serve(&shape, &region, 7))
        };
        let mut waiter = Waiter::judging_by(|_| false);
        let door = shape.door(&region);
        let look = |_, _: &mut Peers| serve(&shape, &region, 8);
        let mine = waiter.wait(door, Patience::FOREVER, look).unwrap();
        match other.join().unwrap() {
            Some(others) => assert_eq!(mine + others, 3, "one each"),
            None => assert_eq!(mine, 1),
        }
        client.join().unwrap();
    });
}

/// A client that gives up while a server takes and replies: a call that was taken back is never
/// executed, one that was not is executed once, and the next call in the slot has its own
/// reply.
fn take_back(serve_once: fn(&Shape, &Region, u64) -> Option<u64>) {
    bounded(3, move || {
        let (shape, region) = service(1, 8);
        ask(&at(&shape, &region, 0), 1, &1u64.to_ne_bytes());
        let executed = Arc::new(AtomicU32::new(0));
        let server = {
            let (region, executed) = (region.clone(), executed.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(request) = serve_once(&shape, &region, 7) {
                        // Relaxed: read after the join.
                        executed.fetch_add(1 << (8 * (request - 1)), Ordering::Relaxed);
                    }
                }
            })
        };
        let slot = at(&shape, &region, 0);
        let fate = slot.take_back(5, 1, |_| false);
        let quiet = match fate {
            Fate::Answered => {
                assert_eq!(word(&region, slot.answer().unwrap().offset), 101);
                true
            }
            Fate::TakenBack => true,
            Fate::InHand => slot.quieten(5, |_| false),
            other => panic!("{other:?}"),
        };
        if quiet {
            ask(&slot, 2, &2u64.to_ne_bytes());
        }
        server.join().unwrap();
        let second = if quiet {
            serve(&shape, &region, 8)
        } else {
            None
        };
        let executed = executed.load(Ordering::Relaxed);
        let (first, at_once) = (executed & 255, executed >> 8);
        assert_eq!(first, u32::from(fate != Fate::TakenBack));
        if quiet {
            assert_eq!(at_once + u32::from(second.is_some()), 1);
            assert!(slot.is_answered(2));
            assert_eq!(word(&region, slot.answer().unwrap().offset), 102);
        }
    });
}

#[test]
fn a_call_is_taken_back_or_executed() {
    take_back(serve);
}

#[test]
fn a_call_that_was_waited_for_is_taken_back_or_executed() {
    take_back(serve_soon);
}

/// A server that died with a call in hand (9): its client and a server that looks for the next
/// call try to take the slot over. The call fails once, and is not executed again.
#[test]
fn a_dead_servers_call_fails() {
    bounded(3, || {
        let (shape, region) = service(1, 8);
        let slot = at(&shape, &region, 0);
        ask(&slot, 1, &1u64.to_ne_bytes());
        assert!(slot.take(9, 0, |_| false).is_some());
        let server = {
            let region = region.clone();
            thread::spawn(move || serve(&shape, &region, 7))
        };
        let fate = slot.take_back(5, 1, |taker| taker == 9);
        assert_eq!(fate, Fate::Died);
        ask(&slot, 2, &2u64.to_ne_bytes());
        let mut served: Vec<_> = server.join().unwrap().into_iter().collect();
        served.extend(serve(&shape, &region, 8));
        assert_eq!(served, [2]);
        assert_eq!(word(&region, slot.answer().unwrap().offset), 102);
    });
}

/// [SERVICE_TAKEN]: who sees its call as taken sees by whom.
#[test]
fn a_taken_call_has_a_taker() {
    loom::model(|| {
        let (shape, region) = service(1, 8);
        let slot = at(&shape, &region, 0);
        ask(&slot, 1, &1u64.to_ne_bytes());
        let server = {
            let region = region.clone();
            thread::spawn(move || serve(&shape, &region, 7))
        };
        let fate = slot.fate(1, |taker| {
            assert_eq!(taker, 7);
            false
        });
        assert!(matches!(fate, Fate::Waits | Fate::InHand | Fate::Answered));
        server.join().unwrap();
    });
}

/// [SERVICE_OWNER], [SERVICE_TAKE]: a client leaves a call behind that a server is executing;
/// the next one gets the slot when it is quiet, with a number of its own, and its own reply.
fn change_hands(serve_once: fn(&Shape, &Region, u64) -> Option<u64>) {
    bounded(3, move || {
        let (shape, region) = service(1, 8);
        let first = take_slot(&shape, &region, 5, |_| false).unwrap();
        let slot = at(&shape, &region, first);
        ask(&slot, 1, &1u64.to_ne_bytes());
        let taken = slot.take(7, 0, |_| false).unwrap();
        let server = {
            let region = region.clone();
            thread::spawn(move || {
                let slot = at(&shape, &region, 0);
                assert_eq!(word(&region, slot.room()), 1, "it is still there");
                reply(&slot, &taken, &101u64.to_ne_bytes());
                serve_once(&shape, &region, 7)
            })
        };
        let leaver = {
            let region = region.clone();
            thread::spawn(move || leave_slot(&shape, &region, 0))
        };
        let got = take_slot(&shape, &region, 6, |_| false);
        let mut served = vec![];
        if got.is_some() {
            assert_eq!(slot.last(), 1);
            ask(&slot, 2, &2u64.to_ne_bytes());
        }
        leaver.join().unwrap();
        served.extend(server.join().unwrap());
        served.extend(serve(&shape, &region, 8));
        assert_eq!(served, if got.is_some() { vec![2] } else { vec![] });
        if got.is_some() {
            assert_eq!(word(&region, slot.answer().unwrap().offset), 102);
        }
    });
}

#[test]
fn a_slot_changes_hands() {
    change_hands(serve);
}

/// Also while a server has the slot that waits for the next call in it.
#[test]
fn a_slot_changes_hands_while_a_call_is_waited_for() {
    change_hands(serve_soon);
}

/// [SERVICE_GONE]: while servers hand over, no client is told that nobody serves.
#[test]
fn one_server_hands_over_to_the_next() {
    bounded(3, || {
        let (shape, region) = service(1, 8);
        let first = take_seat(&shape, &region, 1, |_| false).unwrap();
        let servers = {
            let region = region.clone();
            thread::spawn(move || {
                let second = take_seat(&shape, &region, 2, |_| false).unwrap();
                leave_seat(&shape, &region, first);
                take_seat(&shape, &region, 3, |_| false).unwrap();
                leave_seat(&shape, &region, second);
            })
        };
        assert!(somebody(&shape, &region, |_| false).is_some());
        servers.join().unwrap();
    });
}

/// [BELL_PARK] of a server that leaves: a client that sleeps over its call looks again, takes
/// the call back, and nobody executes it.
#[test]
fn a_sleeping_client_hears_that_the_last_server_left() {
    loom::model(|| {
        let (shape, region) = service(1, 8);
        let slot = take_slot(&shape, &region, 5, |_| false).unwrap();
        let seat = take_seat(&shape, &region, 7, |_| false).unwrap();
        let server = {
            let region = region.clone();
            thread::spawn(move || leave_seat(&shape, &region, seat))
        };
        let slot = at(&shape, &region, slot);
        ask(&slot, 1, &1u64.to_ne_bytes());
        let bell = shape.answered(&region, 0);
        let mut waiter = Waiter::judging_by(|_| false);
        let fate = waiter.wait(bell, Patience::FOREVER, |_, _| {
            let nobody = somebody(&shape, &region, |_| false).is_none();
            nobody.then(|| slot.take_back(5, 1, |_| false))
        });
        assert_eq!(fate, Some(Fate::TakenBack));
        server.join().unwrap();
        assert_eq!(serve(&shape, &region, 8), None);
    });
}
