//! Models and tests of a `queue` on memory of one process.

#[cfg(not(loom))]
use crate::lane::Full;
use crate::lane::Tail;
use crate::queue_layout::{Shape, lane};
use crate::queue_taker::{Held, Taking};
use shmem::Region;

fn queue(lanes: usize, capacity: usize) -> (Shape, Region) {
    let (shape, length) = Shape::plan(lanes, 2, capacity).unwrap();
    (shape, Region::heap(length))
}

fn tail(shape: &Shape, region: &Region, lane: usize) -> Tail {
    Tail::open(shape.ring(lane), region, shape.at(lane, lane::RELEASED)).unwrap()
}

/// The first word of a message in hand.
#[cfg(loom)]
fn word(region: &Region, held: &Held) -> u64 {
    let mut bytes = [0; 8];
    region.copy_out(held.record.offset, &mut bytes).unwrap();
    u64::from_ne_bytes(bytes)
}

#[cfg(loom)]
mod models {
    use super::*;
    use crate::queue_layout::layout;
    use crate::queue_members::{End, end, is_hung, leave_lane, leave_seat, take_lane, take_seat};
    use loom::thread;
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
            let mut taking = Taking::new(shape, 7, 0);
            let mut expected = 1;
            let last = loop {
                let found = shape.data(&region).wait(Patience::FOREVER, |_| {
                    match taking.find(&region, |_| false) {
                        Some(held) => Some(Ok(held.unwrap())),
                        None => end(&shape, &region, |_| false).map(Err),
                    }
                });
                match found.unwrap() {
                    Ok(held) => {
                        assert_eq!(word(&region, &held), expected);
                        taking.finish(&region, &held);
                        expected += 1;
                    }
                    Err(end) => break end,
                }
            };
            assert_eq!((last, expected), (End::Closed, 5));
            producer.join().unwrap();
        });
    }

    /// Two consumers try one lane; who has taken messages from it does not see them again.
    fn share(first_taker: u64, handed_out: bool) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let (shape, region) = queue(1, 256);
            let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
            let mut tail = tail(&shape, &region, lane);
            for number in 1..=2u64 {
                tail.send(&region, &number.to_ne_bytes()).unwrap();
            }
            region
                .u64(shape.at(0, lane::TAKER))
                .store(first_taker, Ordering::Relaxed);
            if handed_out {
                region
                    .u64(shape.at(0, lane::HAND))
                    .store(64, Ordering::Relaxed);
            }
            let threads: Vec<_> = (1..=2)
                .map(|me| {
                    let region = region.clone();
                    thread::spawn(move || {
                        let mut taking = Taking::new(shape, me, 0);
                        let mut got = Vec::new();
                        for _ in 0..2 {
                            if let Some(held) = taking.find(&region, |word| word == 9) {
                                let held = held.unwrap();
                                let again = held.again >= held.end;
                                got.push((word(&region, &held), again));
                                taking.finish(&region, &held);
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
            let mut taking = Taking::new(shape, 3, 0);
            while let Some(held) = taking.find(&region, |word| word == 9) {
                let held = held.unwrap();
                got.push((word(&region, &held), held.again >= held.end));
                taking.finish(&region, &held);
            }
            got.sort_unstable();
            assert_eq!(got, [(1, handed_out), (2, false)]);
        });
    }

    /// [QUEUE_TAKE]
    #[test]
    fn each_message_goes_to_one_consumer() {
        share(0, false);
    }

    #[test]
    fn one_takes_over_from_the_dead() {
        share(9, false);
        share(9, true);
    }

    /// [BELL_PARK] of a lane that is given back: who slept over it wakes, or would for ever.
    #[test]
    fn a_sleeper_gets_what_another_leaves() {
        loom::model(|| {
            let (shape, region) = queue(1, 256);
            region.u64(layout::ATTENDED).store(2, Ordering::Relaxed);
            let lane = take_lane(&shape, &region, 5, |_| false).unwrap();
            let mut tail = tail(&shape, &region, lane);
            for number in 1..=2u64 {
                tail.send(&region, &number.to_ne_bytes()).unwrap();
            }
            let other = {
                let region = region.clone();
                thread::spawn(move || {
                    let mut taking = Taking::new(shape, 1, 0);
                    if let Some(held) = taking.find(&region, |_| false) {
                        taking.finish(&region, &held.unwrap());
                    }
                })
            };
            let mut taking = Taking::new(shape, 2, 0);
            let find = |_| taking.find(&region, |_| false);
            let found = shape.data(&region).wait(Patience::FOREVER, find);
            taking.finish(&region, &found.unwrap().unwrap());
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
                    assert!(!is_hung(&region, 0));
                    leave_seat(&shape, &region, seat, |_| false);
                })
            };
            leave_seat(&shape, &region, seat, |_| false);
            other.join().unwrap();
            assert!(is_hung(&region, 0));
        });
    }
}

#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::queue_layout::layout;
    use crate::queue_members::{End, end, is_deserted, is_hung, leave_lane, leave_seat};
    use crate::queue_members::{take_lane, take_seat};
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
        taking: Taking,
        held: Option<(Held, usize)>,
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
            let mut next_identity = 10;
            let mut consumers: Vec<Consumer> = (0..3)
                .map(|i| Consumer {
                    taking: Taking::new(shape, i + 1, i as usize),
                    held: None,
                })
                .collect();
            let mut dead = vec![];
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
                        Some((held, count)) => {
                            models[held.lane].drain(..count);
                            consumer.taking.finish(&region, &held);
                        }
                        None => {
                            let found = consumer.taking.find(&region, |word| dead.contains(&word));
                            let Some(found) = found else { continue };
                            let mut held = found.unwrap();
                            let most = 1 + random(&mut state) as usize % 4;
                            let count = consumer.taking.take_more(&region, &held, most);
                            let handed = models[held.lane].iter().take(count).enumerate();
                            for (at, (bytes, again)) in handed {
                                let mut got = vec![];
                                let record = held.record;
                                region
                                    .append_to(record.offset, record.length, &mut got)
                                    .unwrap();
                                assert_eq!(&got, bytes);
                                assert_eq!(held.again >= held.end, *again);
                                marked += usize::from(*again);
                                if at + 1 < count {
                                    held.record = consumer.taking.next(&region, &held).unwrap();
                                    held.end = held.record.end;
                                }
                            }
                            received += count;
                            for (_, again) in models[held.lane].iter_mut().take(count) {
                                *again = true;
                            }
                            consumer.held = Some((held, count));
                        }
                    },
                    17 => {
                        // A producer dies in the middle of a message; its successor.
                        if let Ok(claim) = tails[lane].claim(&region, longest) {
                            let junk = message(lane, number, longest);
                            region.copy_in(claim.offset, &junk).unwrap();
                        }
                        tails[lane] = tail(&shape, &region, lane);
                    }
                    _ => {
                        // A consumer dies with what it has in hand; another comes.
                        next_identity += 1;
                        let gone = Taking::new(shape, next_identity, lane);
                        let gone = std::mem::replace(&mut consumer.taking, gone);
                        consumer.held = None;
                        dead.push(gone.me());
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
        let mut taking = Taking::new(shape, 1, 0);
        let held = taking.find(&region, living).unwrap().unwrap();
        assert_eq!(
            end(&shape, &region, |word| word == 6),
            None,
            "and is in hand"
        );
        taking.finish(&region, &held);
        assert_eq!(end(&shape, &region, |word| word == 6), Some(End::Died));
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
        assert!(!is_hung(&region, 0) && !is_deserted(&shape, &region, 0, living));
        let first = take_seat(&shape, &region, 1, living).unwrap();
        let second = take_seat(&shape, &region, 2, living).unwrap();
        assert_eq!(take_seat(&shape, &region, 3, living), None);
        leave_seat(&shape, &region, first, living);
        assert!(!is_hung(&region, 0) && !is_deserted(&shape, &region, 0, living));
        assert!(is_deserted(&shape, &region, 0, |word| word == 2));
        assert_eq!(take_seat(&shape, &region, 3, living), Some(first));
        leave_seat(&shape, &region, first, living);
        leave_seat(&shape, &region, second, living);
        assert!(is_hung(&region, 0) && is_deserted(&shape, &region, 0, living));
        take_seat(&shape, &region, 4, living).unwrap();
        assert!(!is_hung(&region, 0) && !is_deserted(&shape, &region, 0, living));
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
                let mut taking = Taking::new(shape, 1, 0);
                for round in 0..12 {
                    if round == 3 {
                        region.u64(at).store(value, Ordering::Relaxed);
                    }
                    for (lane, tail) in tails.iter_mut().enumerate() {
                        let _ = tail.send(&region, &[round; 40]);
                        if round % 5 == 4 {
                            let at = shape.at(lane, lane::RELEASED);
                            if let Ok(next) = Tail::open(shape.ring(lane), &region, at) {
                                *tail = next;
                            }
                        }
                    }
                    let found = taking.find(&region, |word| word != 1);
                    if let Some(Ok(mut held)) = found {
                        let count = taking.take_more(&region, &held, 10);
                        for _ in 0..count {
                            let mut got = vec![];
                            let record = held.record;
                            region
                                .append_to(record.offset, record.length, &mut got)
                                .unwrap();
                            let Some(next) = taking.next(&region, &held) else {
                                break;
                            };
                            (held.record, held.end) = (next, next.end);
                        }
                        taking.finish(&region, &held);
                    }
                    end(&shape, &region, |word| word > 9);
                    is_hung(&region, 0);
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
