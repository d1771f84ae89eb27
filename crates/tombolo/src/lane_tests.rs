//! A lane against a plain queue, its models, and hostile headers.

use super::*;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::thread;

    const MARKS: Marks = Marks {
        released: RELEASED,
        finished: RELEASED,
    };
    const RELEASED: usize = 0;

    /// How long the messages are: there is no room for the last one before the ring's end.
    const LENGTHS: [usize; 4] = [8, 8, 8, 16];

    /// [LANE_PUBLISH] and [LANE_RELEASE], with the ring gone round, and padding at its end.
    #[test]
    fn messages_arrive_whole_and_in_order() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let region = Region::heap(64 + 64);
            let ring = Ring::new(64, 64).unwrap();
            let producer = {
                let region = region.clone();
                thread::spawn(move || {
                    let mut tail = Tail::open(ring, &region, MARKS).unwrap();
                    for length in LENGTHS {
                        let mut tries = 0;
                        while tail.send(&region, &vec![length as u8; length]).is_err() {
                            tries += 1;
                            assert!(tries < 100);
                            thread::yield_now();
                        }
                    }
                })
            };
            let mut head = 0;
            for length in LENGTHS {
                let record = loop {
                    match ring.record(&region, head).unwrap() {
                        Some(record) => break record,
                        None => thread::yield_now(),
                    }
                };
                let mut bytes = vec![0; length];
                assert_eq!(record.length, length);
                region.copy_out(record.offset, &mut bytes).unwrap();
                assert_eq!(bytes, vec![length as u8; length]);
                head = record.end;
                region.u64(RELEASED).store(head, Ordering::Release);
            }
            assert_eq!(ring.record(&region, head), Ok(None));
            producer.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::LENGTH;
    use std::collections::VecDeque;

    const MARKS: Marks = Marks {
        released: RELEASED,
        finished: RELEASED,
    };
    const RELEASED: usize = 0;

    fn new(capacity: u64) -> (Ring, Region) {
        let region = Region::heap(64 + capacity as usize);
        (Ring::new(64, capacity).unwrap(), region)
    }

    /// Bytes full of words that look like headers.
    fn message(number: u64, length: usize) -> Vec<u8> {
        let word = (PUBLISHED | number).to_ne_bytes();
        word.iter().copied().cycle().take(length).collect()
    }

    /// A small generator of numbers, the same in each run.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn it_agrees_with_a_plain_queue() {
        for capacity in [256, 512, 4096, 65536] {
            let (ring, region) = new(capacity);
            let mut tail = Tail::open(ring, &region, MARKS).unwrap();
            let mut model: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut head, mut state) = (0, capacity);
            for number in 0..20_000u64 {
                if random(&mut state).is_multiple_of(2) {
                    let length = random(&mut state) as usize % (ring.longest() + 1);
                    let length = if number % 3 == 0 { length } else { length % 80 };
                    let length = length.min(ring.longest());
                    let message = message(number, length);
                    let sent = if number % 5 == 0 {
                        // More is written than published.
                        let claim = tail.claim(&region, length);
                        claim.map(|claim| {
                            region.copy_in(claim.offset, &message).unwrap();
                            tail.publish_part(claim, length / 3);
                            length / 3
                        })
                    } else {
                        tail.send(&region, &message).map(|()| length)
                    };
                    if let Ok(length) = sent {
                        model.push_back((number, length));
                    } else {
                        assert!(!model.is_empty(), "an empty lane takes any message");
                    }
                } else {
                    let found = ring.record(&region, head).unwrap();
                    assert_eq!(
                        found.map(|r| r.length),
                        model.front().map(|(_, length)| *length)
                    );
                    if let (Some(record), Some((number, length))) = (found, model.pop_front()) {
                        let mut bytes = vec![0; length];
                        region.copy_out(record.offset, &mut bytes).unwrap();
                        assert_eq!(bytes, message(number, length));
                        head = record.end;
                        region.u64(RELEASED).store(head, Ordering::Release);
                    }
                }
                if number % 1000 == 0 {
                    // A producer that died in the middle of a message, and its successor.
                    if let Ok(claim) = tail.claim(&region, ring.longest()) {
                        region
                            .copy_in(claim.offset, &message(number, claim.length))
                            .unwrap();
                    }
                    tail = Tail::open(ring, &region, MARKS).unwrap();
                }
            }
        }
    }

    /// Batches of short messages in groups, others between them, and a producer that dies with
    /// a group unpublished.
    #[test]
    fn groups_agree_with_a_plain_queue() {
        for capacity in [1024, 4096, 65536] {
            let (ring, region) = new(capacity);
            let mut tail = Tail::open(ring, &region, MARKS).unwrap();
            let mut model: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut head, mut state, mut number, mut received) = (0, capacity, 0, 0);
            for round in 0..20_000u64 {
                let mut open = 0;
                for _ in 0..random(&mut state) % 60 {
                    number += 1;
                    let length = random(&mut state) as usize % 72;
                    let message = message(number, length);
                    if !tail.add(&region, &message) {
                        open = 0;
                        tail.publish_group();
                        let Ok(_) = tail.claim(&region, length) else {
                            break;
                        };
                        tail.begin_group(&region, &message);
                    }
                    open += 1;
                    model.push_back((number, length));
                }
                if round % 7 == 3 {
                    // It dies; what it had not published is lost.
                    model.truncate(model.len() - open);
                    tail = Tail::open(ring, &region, MARKS).unwrap();
                } else {
                    tail.publish_group();
                }
                if round % 5 == 4 && tail.send(&region, &message(number + 1, 90)).is_ok() {
                    number += 1;
                    model.push_back((number, 90));
                }
                for _ in 0..random(&mut state) % 80 {
                    let found = ring.record(&region, head).unwrap();
                    let expected = model.pop_front();
                    assert_eq!(found.map(|r| r.length), expected.map(|(_, length)| length));
                    let (Some(record), Some((number, length))) = (found, expected) else {
                        break;
                    };
                    let mut bytes = vec![0; length];
                    region.copy_out(record.offset, &mut bytes).unwrap();
                    assert_eq!(bytes, message(number, length));
                    (head, received) = (record.end, received + 1);
                    region.u64(RELEASED).store(head, Ordering::Release);
                }
            }
            assert!(received > 100_000, "{received}");
        }
    }

    #[test]
    fn the_longest_message_fits_wherever_the_lane_stands() {
        let (ring, region) = new(1024);
        let mut tail = Tail::open(ring, &region, MARKS).unwrap();
        let mut head = 0;
        for step in 0..200usize {
            for length in [ring.longest(), step % 200] {
                tail.send(&region, &message(1, length)).unwrap();
                head = ring.record(&region, head).unwrap().unwrap().end;
                region.u64(RELEASED).store(head, Ordering::Release);
            }
        }
    }

    #[test]
    fn what_a_dropped_claim_held_is_never_a_header() {
        let (ring, region) = new(4096);
        let mut tail = Tail::open(ring, &region, MARKS).unwrap();
        tail.send(&region, b"one").unwrap();
        for length in [400, 1000] {
            let claim = tail.claim(&region, length).unwrap();
            let junk = message(7, length);
            region.copy_in(claim.offset, &junk).unwrap();
        }
        tail.send(&region, b"two").unwrap();
        let first = ring.record(&region, 0).unwrap().unwrap();
        let second = ring.record(&region, first.end).unwrap().unwrap();
        assert_eq!(ring.record(&region, second.end), Ok(None));
    }

    #[test]
    fn hostile_headers_are_damage() {
        let (ring, region) = new(256);
        for word in [
            1,
            LENGTH,
            PUBLISHED | LENGTH,
            PUBLISHED | 256,
            PUBLISHED | PADDING | 8,
        ] {
            region.u64(64).store(word, Ordering::Relaxed);
            assert_eq!(ring.record(&region, 0), Err(Damaged), "{word:x}");
        }
        assert_eq!(Ring::new(64, 100), None);
        assert_eq!(Ring::new(64, 128), None);
        assert_eq!(Ring::new(1, 256), None);
    }
}
