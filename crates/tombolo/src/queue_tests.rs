//! Models and tests of a `queue` on memory of one process.

use crate::lane::Tail;
#[cfg(not(loom))]
use crate::lane::{Filling, Full};
use crate::queue_layout::Shape;
#[cfg(loom)]
use crate::queue_layout::lane;
use crate::queue_members::take_seat;
use crate::queue_taker::Taking;
use shmem::{Region, Window};

const SEATS: usize = 3;

fn queue(lanes: usize, capacity: usize) -> (Shape, Region) {
    let (shape, length) = Shape::plan(lanes, SEATS, capacity).unwrap();
    (shape, Region::heap(length))
}

fn tail(shape: &Shape, region: &Region, lane: usize) -> Tail {
    Tail::open(shape.ring(lane), region, shape.marks(lane)).unwrap()
}

/// A consumer that takes a seat, from who is dead by its number if it must.
fn sit(shape: &Shape, region: &Region, me: u64) -> Taking {
    let seat = take_seat(shape, region, me, |word| word == 9).unwrap();
    Taking::new(*shape, region, seat)
}

/// Whether a consumer that died had the message in hand.
fn again(taking: &Taking) -> bool {
    taking.held().again >= taking.held().record.end
}

/// The first word of a message in hand.
#[cfg(loom)]
fn word(region: &Region, taking: &Taking) -> u64 {
    let mut bytes = [0; 8];
    region
        .copy_out(taking.held().record.offset, &mut bytes)
        .unwrap();
    u64::from_ne_bytes(bytes)
}

#[cfg(loom)]
mod models {
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

    #[test]
    fn a_run_is_taken_over_whose_next_message_is_there() {
        a_run_is_taken_over(3, 3, Taking::recv_short);
    }

    #[test]
    fn a_run_is_taken_over_whose_next_message_comes() {
        a_run_is_taken_over(2, 2, Taking::recv_short);
    }

    #[test]
    fn a_run_is_taken_over_from_one_that_looks_inside() {
        a_run_is_taken_over(2, 2, Taking::recv_soon);
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
}

#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::queue_layout::layout;
    use crate::queue_members::take_lane;
    use crate::queue_members::{End, buried, end, is_deserted, is_hung, leave_lane, leave_seat};
    use shmem::sync::Ordering;
    use std::collections::VecDeque;

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// A message whose bytes depend on its producer and its number.
    fn message(lane: usize, number: u64, length: usize) -> Vec<u8> {
        let word = (number << 8 | lane as u64 | 1 << 63).to_ne_bytes();
        word.iter().copied().cycle().take(length).collect()
    }

    struct Consumer {
        me: u64,
        taking: Taking,
        /// In which lane, and how many.
        held: Option<(usize, usize)>,
    }

    /// Several producers and consumers against plain queues: sizes, wrap-around, deaths of both.
    #[test]
    fn it_agrees_with_plain_queues() {
        for (lanes, capacity) in [(1, 256), (3, 512), (4, 4096)] {
            let (shape, region) = queue(lanes, capacity);
            region
                .u32(layout::USED)
                .store(lanes as u32, Ordering::Relaxed);
            let longest = shape.ring(0).longest();
            let mut tails: Vec<_> = (0..lanes).map(|lane| tail(&shape, &region, lane)).collect();
            let mut models = vec![VecDeque::new(); lanes];
            let mut next_identity = 100;
            let mut consumers: Vec<Consumer> = (0..3)
                .map(|i| Consumer {
                    me: i + 1,
                    taking: sit(&shape, &region, i + 1),
                    held: None,
                })
                .collect();
            let mut dead: Vec<u64> = vec![];
            let (mut state, mut received, mut marked) = (capacity as u64, 0, 0);
            for number in 0..60_000u64 {
                let lane = random(&mut state) as usize % lanes;
                let who = random(&mut state) as usize % consumers.len();
                let consumer = &mut consumers[who];
                match random(&mut state) % 20 {
                    0..9 => {
                        let length = random(&mut state) as usize % (longest + 1);
                        let length = if number % 3 == 0 { length } else { length % 80 };
                        let length = length.min(longest);
                        let message = message(lane, number, length);
                        match tails[lane].send(&region, &message) {
                            Ok(()) => models[lane].push_back((message, false)),
                            Err(Full) => assert!(!models[lane].is_empty()),
                        }
                    }
                    9..17 => match consumer.held.take() {
                        // Finishes what it has; the model has forgotten it by then.
                        Some((lane, count)) => {
                            models[lane].drain(..count);
                            consumer.taking.finish(&region);
                        }
                        None => {
                            let found = consumer.taking.find(&region, |word| dead.contains(&word));
                            let Some(found) = found else { continue };
                            found.unwrap();
                            let taking = &mut consumer.taking;
                            let lane = taking.held().lane;
                            let most = 1 + random(&mut state) as usize % 4;
                            let mut count = 0;
                            for (bytes, marked_again) in models[lane].iter().take(most) {
                                if count > 0 && !taking.step(&region) {
                                    break;
                                }
                                count += 1;
                                let mut got = vec![];
                                let record = taking.held().record;
                                region
                                    .append_to(record.offset, record.length, &mut got)
                                    .unwrap();
                                assert_eq!(&got, bytes);
                                assert_eq!(again(taking), *marked_again);
                                marked += usize::from(*marked_again);
                            }
                            received += count;
                            for (_, again) in models[lane].iter_mut().take(count) {
                                *again = true;
                            }
                            consumer.held = Some((lane, count));
                        }
                    },
                    17 => {
                        // A producer dies in the middle of a message; its successor.
                        if let Ok(claim) = tails[lane].claim(&region, longest, Filling::Copied) {
                            let junk = message(lane, number, longest);
                            region.copy_in(claim.offset, &junk).unwrap();
                        }
                        tails[lane] = tail(&shape, &region, lane);
                    }
                    _ => {
                        // A consumer dies with what it has in hand; another comes.
                        next_identity += 1;
                        dead.push(consumer.me);
                        let is_dead = |word| dead.contains(&word);
                        let seat = take_seat(&shape, &region, next_identity, is_dead).unwrap();
                        *consumer = Consumer {
                            me: next_identity,
                            taking: Taking::new(shape, &region, seat),
                            held: None,
                        };
                        // Sometimes it keeps lanes, as if it were alone, and loses them again.
                        consumer.taking.set_alone(number % 2 == 0);
                    }
                }
            }
            assert!(
                received > 10_000 && marked > 100,
                "{received} received, {marked} again"
            );
        }
    }

    #[test]
    fn the_end_comes_when_all_have_left_and_nothing_waits() {
        let (shape, region) = queue(2, 256);
        let living = |_: u64| false;
        assert_eq!(end(&shape, &region, living), None, "nobody ever came");
        let first = take_lane(&shape, &region, 5, living).unwrap();
        let second = take_lane(&shape, &region, 6, living).unwrap();
        assert_eq!((first, second, shape.used(&region)), (0, 1, 2));
        assert_eq!(take_lane(&shape, &region, 7, living), None);
        tail(&shape, &region, first)
            .send(&region, b"last word")
            .unwrap();
        leave_lane(&shape, &region, first);
        assert_eq!(end(&shape, &region, living), None);
        assert_eq!(
            end(&shape, &region, |word| word == 6),
            None,
            "a message waits"
        );
        let mut taking = sit(&shape, &region, 1);
        taking.find(&region, living).unwrap().unwrap();
        assert_eq!(
            end(&shape, &region, |word| word == 6),
            None,
            "and is in hand"
        );
        taking.finish(&region);
        assert_eq!(end(&shape, &region, |word| word == 6), Some(End::Died));
        // Who comes now does not miss them; who came before does.
        assert_eq!(buried(&shape, &region, living), None);
        assert_eq!(buried(&shape, &region, |word| word == 6), Some(2));
        // The successor takes the dead one's lane, though another is free.
        assert_eq!(
            take_lane(&shape, &region, 7, |word| word == 6),
            Some(second)
        );
        leave_lane(&shape, &region, second);
        assert_eq!(end(&shape, &region, living), Some(End::Closed));
    }

    #[test]
    fn producers_learn_that_nobody_is_left() {
        let (shape, region) = queue(1, 256);
        let living = |_: u64| false;
        assert!(!is_hung(&Window::new(&region, 0), 0) && !is_deserted(&shape, &region, 0, living));
        let first = take_seat(&shape, &region, 1, living).unwrap();
        let second = take_seat(&shape, &region, 2, living).unwrap();
        let third = take_seat(&shape, &region, 3, living).unwrap();
        assert_eq!(take_seat(&shape, &region, 4, living), None);
        leave_seat(&shape, &region, third, living);
        leave_seat(&shape, &region, first, living);
        assert!(!is_hung(&Window::new(&region, 0), 0) && !is_deserted(&shape, &region, 0, living));
        assert!(is_deserted(&shape, &region, 0, |word| word == 2));
        assert_eq!(take_seat(&shape, &region, 3, living), Some(first));
        leave_seat(&shape, &region, first, living);
        leave_seat(&shape, &region, second, living);
        assert!(is_hung(&Window::new(&region, 0), 0) && is_deserted(&shape, &region, 0, living));
        take_seat(&shape, &region, 4, living).unwrap();
        assert!(!is_hung(&Window::new(&region, 0), 0) && !is_deserted(&shape, &region, 0, living));
    }

    /// Every word of the control part, and headers of records, set to what no honest peer writes.
    #[test]
    fn hostile_words_are_errors_or_wrong_data() {
        let mut state = 7;
        let (shape, region) = queue(2, 256);
        let control = shape.at(2, 0);
        let values = |state: &mut u64| {
            let near = (1 << 62) - 64 + random(state) % 128;
            [
                0,
                1,
                63,
                64,
                1 << 62,
                1 << 63,
                u64::MAX,
                u64::MAX - 63,
                near,
                random(state),
            ]
        };
        for at in (layout::DATA..control + 512).step_by(8) {
            for value in values(&mut state) {
                let region = Region::heap(region.len());
                region.u32(layout::USED).store(2, Ordering::Relaxed);
                let mut tails = [tail(&shape, &region, 0), tail(&shape, &region, 1)];
                let mut taking = sit(&shape, &region, 1);
                taking.set_alone(value % 2 == 0);
                for round in 0..12 {
                    if round == 3 {
                        region.u64(at).store(value, Ordering::Relaxed);
                    }
                    for (lane, tail) in tails.iter_mut().enumerate() {
                        let _ = tail.send(&region, &[round; 40]);
                        if round % 5 == 4 {
                            let marks = shape.marks(lane);
                            if let Ok(next) = Tail::open(shape.ring(lane), &region, marks) {
                                *tail = next;
                            }
                        }
                    }
                    let found = taking.find(&region, |word| word != 1);
                    if let Some(Ok(())) = found {
                        for _ in 0..10 {
                            let mut got = vec![];
                            let record = taking.held().record;
                            region
                                .append_to(record.offset, record.length, &mut got)
                                .unwrap();
                            if !taking.step(&region) {
                                break;
                            }
                        }
                        taking.finish(&region);
                    }
                    end(&shape, &region, |word| word > 9);
                    is_hung(&Window::new(&region, 0), 0);
                    is_deserted(&shape, &region, 0, |word| word > 9);
                    if let Some(lane) = take_lane(&shape, &region, 3, |word| word > 9) {
                        leave_lane(&shape, &region, lane);
                    }
                    if let Some(seat) = take_seat(&shape, &region, 3, |word| word > 9) {
                        leave_seat(&shape, &region, seat, |word| word > 9);
                    }
                }
            }
        }
    }
}
