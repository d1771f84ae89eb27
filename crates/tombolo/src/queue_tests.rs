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
#[path = "queue_models.rs"]
mod models;

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
                        let length = match number / 512 % 2 {
                            // Alike, but for a few.
                            0 if number % 16 > 0 => (number / 1024) as usize % 80,
                            _ if number % 3 == 0 => length,
                            _ => length % 80,
                        };
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
                            let most = 1 + random(&mut state) as usize % 12;
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
