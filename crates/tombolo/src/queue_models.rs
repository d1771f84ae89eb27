//! Models of a `queue` in loom.

use super::*;
use crate::queue_hold::Hold;
use crate::queue_members::{End, end, is_hung, leave_lane, leave_seat, take_lane};
use loom::thread;
use shmem::barrier::Registered;
use shmem::sync::Ordering;
use shmem::wait::Patience;

/// [QUEUE_OWNER], [BELL_PARK], and a lane gone round: a consumer that sleeps gets all messages
/// in order, and then the end.
#[test]
fn one_producer_and_one_consumer() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (shape, region) = queue(1, 256);
        let producer = {
            let region = region.clone();
            thread::spawn(move || {
                let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
                let mut tail = tail(&shape, &region, lane);
                for number in 1..=4u64 {
                    let send = |_| tail.send(&region, &number.to_ne_bytes()).ok();
                    shape.space(&region, lane).wait(Patience::FOREVER, send);
                    shape.data(&region).ring_light(|| true);
                }
                leave_lane(&shape, &region, lane);
            })
        };
        let mut taking = sit(&shape, &region, 7);
        let mut expected = 1;
        let last = loop {
            let found = shape.data(&region).wait(Patience::FOREVER, |_| {
                match taking.find(&region, |_| false) {
                    Some(found) => Some(Ok(found.unwrap())),
                    None => end(&shape, &region, |_| false).map(Err),
                }
            });
            match found.unwrap() {
                Ok(()) => {
                    assert_eq!(word(&region, &taking), expected);
                    taking.finish(&region);
                    expected += 1;
                }
                Err(end) => break end,
            }
        };
        assert_eq!((last, expected), (End::Closed, 5));
        producer.join().unwrap();
    });
}

/// Who was there before the two consumers that try one lane.
enum Before {
    Nobody,
    /// One that died with the first message handed out, or just before.
    Dead {
        kept: bool,
        handed_out: bool,
    },
}

/// Two consumers try one lane; who has taken messages from it does not see them again.
fn share(before: &Before) {
    let (shape, region) = queue(1, 256);
    let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
    let mut tail = tail(&shape, &region, lane);
    for number in 1..=2u64 {
        tail.send(&region, &number.to_ne_bytes()).unwrap();
    }
    let mut marked = false;
    let sitting: Vec<_> = (1..=2).map(|me| sit(&shape, &region, me)).collect();
    if let Before::Dead { kept, handed_out } = *before {
        let seat = take_seat(&shape, &region, 9, |_| false).unwrap();
        region
            .u64(shape.at(0, lane::TAKER))
            .store(Hold::default().taken(seat, kept).word(), Ordering::Relaxed);
        region.u32(shape.busy(seat)).store(1, Ordering::Relaxed);
        marked = handed_out;
        let hand = if handed_out { 16 } else { 0 };
        region
            .u64(shape.at(0, lane::HAND))
            .store(hand, Ordering::Relaxed);
    }
    let threads: Vec<_> = sitting
        .into_iter()
        .map(|mut taking| {
            let region = region.clone();
            thread::spawn(move || {
                let mut got = Vec::new();
                for _ in 0..2 {
                    if let Some(found) = taking.find(&region, |word| word == 9) {
                        found.unwrap();
                        got.push((word(&region, &taking), again(&taking)));
                        taking.finish(&region);
                    }
                }
                got
            })
        })
        .collect();
    let mut got: Vec<_> = threads
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    let mut taking = sit(&shape, &region, 3);
    while let Some(found) = taking.find(&region, |word| word == 9) {
        found.unwrap();
        got.push((word(&region, &taking), again(&taking)));
        taking.finish(&region);
    }
    got.sort_unstable();
    assert_eq!(got, [(1, marked), (2, false)]);
}

fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// [QUEUE_TAKE]
#[test]
fn each_message_goes_to_one_consumer() {
    bounded(3, || share(&Before::Nobody));
}

#[test]
fn one_takes_over_from_the_dead() {
    for (kept, handed_out) in [(false, false), (false, true), (true, true)] {
        bounded(3, move || share(&Before::Dead { kept, handed_out }));
    }
}

/// One that keeps a lane of so many messages, of which it has received the first, and another.
fn keeper_and_other(shape: &Shape, region: &Region, messages: u64) -> (Taking, Taking) {
    let lane = take_lane(shape, region, 5, |_| false).unwrap();
    let mut tail = tail(shape, region, lane);
    for number in 1..=messages {
        tail.send(region, &number.to_ne_bytes()).unwrap();
    }
    let mut keeper = sit(shape, region, 1);
    keeper.set_alone(true);
    let other = sit(shape, region, 2);
    // It keeps the lane from its first message on.
    keeper.find(region, |_| false).unwrap().unwrap();
    keeper.finish(region);
    (keeper, other)
}

/// A consumer that takes a message, if there is one that it gets, at the same time.
fn take_one(mut other: Taking, region: &Region) -> thread::JoinHandle<Option<u64>> {
    let region = region.clone();
    thread::spawn(move || {
        let found = other.find(&region, |_| false)?;
        found.unwrap();
        let got = word(&region, &other);
        other.finish(&region);
        Some(got)
    })
}

/// [QUEUE_KEEP]: the same, the keeper receiving on the way of most messages.
#[test]
fn a_kept_lane_is_taken_over_from_one_that_receives() {
    bounded(3, || {
        let (shape, region) = queue(1, 512);
        let (mut keeper, other) = keeper_and_other(&shape, &region, 3);
        let other = take_one(other, &region);
        let mut got = vec![1];
        let registered = shmem::barrier::registered().unwrap();
        keeper.left = 2;
        let received = keeper.recv_any(&region, registered, |_, record| {
            let mut bytes = [0; 8];
            region.copy_out(record.offset, &mut bytes).unwrap();
            got.push(u64::from_ne_bytes(bytes));
        });
        assert!(received != Some(true));
        got.extend(other.join().unwrap());
        while let Some(found) = keeper.find(&region, |_| false) {
            found.unwrap();
            got.push(word(&region, &keeper));
            keeper.finish(&region);
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3]);
    });
}

type Receive = fn(&mut Taking, &Region, Registered, &mut Vec<u8>) -> bool;

/// [QUEUE_KEEP], [QUEUE_TAKE], [LANE_PUBLISH]: the same in a run, whose next message may be there already or is
/// published meanwhile; the keeper looks and goes in, or goes in and looks for a moment. That the look of the first
/// acquires is beyond loom, where a fence follows it.
fn a_run_is_taken_over(preemptions: usize, before: u64, receive: Receive) {
    bounded(preemptions, move || {
        let (shape, region) = queue(1, 512);
        let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
        let mut tail = tail(&shape, &region, lane);
        let mut keeper = sit(&shape, &region, 1);
        keeper.set_alone(true);
        let other = sit(&shape, &region, 2);
        let registered = shmem::barrier::registered().unwrap();
        let mut got = vec![];
        for number in 1..=before {
            tail.send(&region, &number.to_ne_bytes()).unwrap();
        }
        // It keeps the lane from its first message on, and its second begins a run.
        keeper.find(&region, |_| false).unwrap().unwrap();
        got.push(word(&region, &keeper));
        keeper.finish(&region);
        keeper.left = 4;
        let received = keeper.recv_any(&region, registered, |_, _| got.push(2));
        assert_eq!(received, Some(false));
        assert!(keeper.run.is_any());

        let taker = take_one(other, &region);
        let producer = {
            let region = region.clone();
            thread::spawn(move || {
                for number in before + 1..=3 {
                    tail.send(&region, &number.to_ne_bytes()).unwrap();
                }
            })
        };
        let mut bytes = Vec::with_capacity(8);
        if receive(&mut keeper, &region, registered, &mut bytes) {
            got.push(u64::from_ne_bytes(bytes[..].try_into().unwrap()));
        }
        producer.join().unwrap();
        got.extend(taker.join().unwrap());
        while let Some(found) = keeper.find(&region, |_| false) {
            found.unwrap();
            assert!(!again(&keeper), "nobody died");
            got.push(word(&region, &keeper));
            keeper.finish(&region);
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2, 3]);
    });
}

fn recv_short(
    taking: &mut Taking,
    region: &Region,
    registered: Registered,
    to: &mut Vec<u8>,
) -> bool {
    let short = taking.recv_short(registered, to);
    taking.settle_short(region, short)
}

#[test]
fn a_run_is_taken_over_whose_next_message_is_there() {
    a_run_is_taken_over(3, 3, recv_short);
}

#[test]
fn a_run_is_taken_over_whose_next_message_comes() {
    a_run_is_taken_over(2, 2, recv_short);
}

#[test]
fn a_run_is_taken_over_from_one_that_looks_inside() {
    a_run_is_taken_over(2, 2, Taking::recv_soon);
}

/// [LANE_PUBLISH]: messages in hand that are alike, the last of which is published meanwhile, or received after.
#[test]
fn a_row_goes_on_with_what_is_published() {
    bounded(3, || {
        let (shape, region) = queue(1, 512);
        let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
        let mut tail = tail(&shape, &region, lane);
        let mut taking = sit(&shape, &region, 1);
        for number in 1..=2u64 {
            tail.send(&region, &number.to_ne_bytes()).unwrap();
        }
        taking.find(&region, |_| false).unwrap().unwrap();
        assert!(taking.step(&region) && taking.row.is_any());
        let producer = {
            let region = region.clone();
            thread::spawn(move || tail.send(&region, &3u64.to_ne_bytes()).unwrap())
        };
        let is_there = taking.step(&region);
        if is_there {
            assert_eq!(
                word(&region, &taking),
                3,
                "a message that is not there whole"
            );
        }
        producer.join().unwrap();
        taking.finish(&region);
        let found = taking.find(&region, |_| false);
        assert_eq!(found.is_none(), is_there);
    });
}

/// [QUEUE_KEEP]: one keeps the lane, another comes and takes it over, and back.
#[test]
fn a_kept_lane_is_taken_over() {
    bounded(3, || {
        let (shape, region) = queue(1, 512);
        let (mut keeper, mut other) = keeper_and_other(&shape, &region, 4);
        let take = |taking: &mut Taking, region: &Region, tries| {
            let mut got = vec![];
            for _ in 0..tries {
                if let Some(found) = taking.find(region, |_| false) {
                    found.unwrap();
                    assert!(!again(taking), "nobody died");
                    got.push(word(region, taking));
                    taking.finish(region);
                }
            }
            got
        };
        let thread = {
            let region = region.clone();
            thread::spawn(move || take(&mut other, &region, 2))
        };
        let mut got = take(&mut keeper, &region, 2);
        got.extend(thread.join().unwrap());
        let mut third = sit(&shape, &region, 3);
        got.extend(take(&mut third, &region, 4));
        got.sort_unstable();
        assert_eq!(got, [2, 3, 4]);
    });
}

/// [QUEUE_KEEP] and [BELL_PARK]: who finds the keeper inside sleeps, and is woken by it.
#[test]
fn a_sleeper_gets_what_a_keeper_leaves() {
    bounded(3, || {
        // Room enough that none is given back: that would pass a fence.
        let (shape, region) = queue(1, 1024);
        let (mut keeper, mut other) = keeper_and_other(&shape, &region, 3);
        let thread = {
            let region = region.clone();
            thread::spawn(move || {
                if let Some(found) = keeper.find(&region, |_| false) {
                    found.unwrap();
                    keeper.finish(&region);
                }
            })
        };
        let find = |_| other.find(&region, |_| false);
        let found = shape.data(&region).wait(Patience::FOREVER, find);
        found.unwrap().unwrap();
        other.finish(&region);
        thread.join().unwrap();
    });
}

/// [BELL_PARK] of a lane that is given back: who slept over it wakes, or would for ever.
#[test]
fn a_sleeper_gets_what_another_leaves() {
    loom::model(|| {
        let (shape, region) = queue(1, 256);
        let (mut first, mut second) = (sit(&shape, &region, 1), sit(&shape, &region, 2));
        let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
        let mut tail = tail(&shape, &region, lane);
        for number in 1..=2u64 {
            tail.send(&region, &number.to_ne_bytes()).unwrap();
        }
        let other = {
            let region = region.clone();
            thread::spawn(move || {
                if let Some(found) = first.find(&region, |_| false) {
                    found.unwrap();
                    first.finish(&region);
                }
            })
        };
        let find = |_| second.find(&region, |_| false);
        let found = shape.data(&region).wait(Patience::FOREVER, find);
        found.unwrap().unwrap();
        second.finish(&region);
        other.join().unwrap();
    });
}

/// [QUEUE_HUNG]: while a consumer sits there, nobody is told that none does.
#[test]
fn the_last_to_leave_does_not_hang_up_over_one_that_comes() {
    loom::model(|| {
        let (shape, region) = queue(1, 256);
        let seat = take_seat(&shape, &region, 1, |_| false).unwrap();
        let other = {
            let region = region.clone();
            thread::spawn(move || {
                let seat = take_seat(&shape, &region, 2, |_| false).unwrap();
                assert!(!is_hung(&Window::new(&region, 0), 0));
                leave_seat(&shape, &region, seat, |_| false);
            })
        };
        leave_seat(&shape, &region, seat, |_| false);
        other.join().unwrap();
        assert!(is_hung(&Window::new(&region, 0), 0));
    });
}
