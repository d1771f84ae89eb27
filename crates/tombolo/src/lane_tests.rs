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

    /// [LANE_PUBLISH] and [LANE_RELEASE], with the ring gone round, and padding at its end: there is no room
    /// for the last message before that.
    #[test]
    fn messages_arrive_whole_and_in_order() {
        arrive(64, &[8, 8, 8, 16], 3);
    }

    /// The same where the ring is begun again with the third message, if the first two are finished, and gone
    /// round, over the gap: the fourth does not fit before it.
    #[test]
    fn a_ring_is_begun_again() {
        arrive(64, &[8, 8, 16, 8, 8], 2);
    }

    /// The same with the fourth message, if of those before all but the third are finished. The next goes over
    /// that, if it is not finished yet.
    #[test]
    fn a_ring_is_begun_again_before_all_is_finished() {
        arrive(128, &[16, 8, 24, 16, 8], 2);
    }

    /// So many bytes each go through a ring of so many.
    fn arrive(capacity: u64, lengths: &'static [usize], preemptions: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(move || {
            let region = Region::heap(64 + capacity as usize);
            let ring = Ring::new(64, capacity).unwrap();
            let producer = {
                let region = region.clone();
                thread::spawn(move || {
                    let mut tail = Tail::open(ring, &region, MARKS).unwrap();
                    for (number, length) in lengths.iter().enumerate() {
                        let mut tries = 0;
                        while tail.send(&region, &vec![number as u8; *length]).is_err() {
                            tries += 1;
                            assert!(tries < 100);
                            thread::yield_now();
                        }
                    }
                })
            };
            let mut head = 0;
            for (number, length) in lengths.iter().enumerate() {
                let record = loop {
                    match ring.record(&region, head).unwrap() {
                        Some(record) => break record,
                        None => thread::yield_now(),
                    }
                };
                let mut bytes = vec![0; *length];
                assert_eq!(record.length, *length);
                region.copy_out(record.offset, &mut bytes).unwrap();
                assert_eq!(bytes, vec![number as u8; *length]);
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
    use super::Filling::{Copied, InPlace};
    use super::*;
    use crate::ring::{LENGTH, LINE};
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
        let mut bytes = (PUBLISHED | number).to_ne_bytes().repeat(length / 8 + 1);
        bytes.truncate(length);
        bytes
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
        for (capacity, rounds) in [
            (256, 20_000),
            (512, 20_000),
            (4096, 20_000),
            (65536, 20_000),
            (4 << 20, 4000),
            (32 << 20, 10_000),
        ] {
            let (ring, region) = new(capacity);
            let mut tail = Tail::open(ring, &region, MARKS).unwrap();
            let mut model: VecDeque<(u64, usize)> = VecDeque::new();
            let (mut head, mut state) = (0, capacity);
            for number in 0..rounds {
                if random(&mut state).is_multiple_of(2) {
                    let length = random(&mut state) as usize % (ring.longest() + 1);
                    let length = if number % 3 == 0 { length } else { length % 80 };
                    let length = length.min(ring.longest()).min(1 << 20);
                    let message = message(number, length);
                    let sent = if number % 5 < 2 {
                        let filling = [Copied, InPlace][number as usize % 5];
                        // More is written than published.
                        let claim = tail.claim(&region, length, filling);
                        claim.map(|claim| {
                            region.copy_in(claim.offset, &message).unwrap();
                            tail.publish(claim.part(length / 3));
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
                    if let Ok(claim) = tail.claim(&region, ring.longest(), InPlace) {
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
                    if !tail.add(&message) {
                        open = 0;
                        tail.publish_group();
                        let Ok(claim) = tail.claim(&region, length, Copied) else {
                            break;
                        };
                        tail.begin_group(claim, &message);
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

    /// Both ends of a lane.
    struct Ends {
        ring: Ring,
        region: Region,
        tail: Tail,
        head: u64,
        filling: Filling,
    }

    impl Ends {
        /// Those whose messages are written in place.
        fn new(capacity: u64) -> Self {
            let (ring, region) = new(capacity);
            Self {
                tail: Tail::open(ring, &region, MARKS).unwrap(),
                ring,
                region,
                head: 0,
                filling: InPlace,
            }
        }

        fn send(&mut self, number: u64, length: usize) -> Result<(), Full> {
            let message = message(number, length);
            self.tail.send_filled(&self.region, &message, self.filling)
        }

        /// Receives that message; answers where in the ring it ended. The room is given back later.
        fn recv(&mut self, number: u64, length: usize) -> u64 {
            let record = self.ring.record(&self.region, self.head).unwrap().unwrap();
            let mut bytes = vec![0; record.length];
            self.region.copy_out(record.offset, &mut bytes).unwrap();
            assert!(bytes == message(number, length), "{number}");
            self.head = record.end;
            (record.offset + record.length - self.ring.at(0)) as u64
        }

        /// Gives back the room of what was received.
        fn release(&self) {
            let released = self.region.u64(RELEASED);
            released.store(self.head, Ordering::Release);
        }

        /// A message there and away.
        fn pass(&mut self, length: usize) -> u64 {
            self.send(5, length).unwrap();
            let end = self.recv(5, length);
            self.release();
            end
        }

        /// A stream of so many bytes, so many messages of which are always under way; answers where in the ring
        /// the furthest ended.
        fn stream(&mut self, length: usize, behind: u64, bytes: u64) -> u64 {
            let mut furthest = 0;
            for number in 0..bytes / length as u64 + behind {
                self.send(number, length).unwrap();
                if number >= behind {
                    furthest = furthest.max(self.recv(number - behind, length));
                    self.release();
                }
            }
            for number in bytes / length as u64..bytes / length as u64 + behind {
                self.recv(number, length);
            }
            self.release();
            furthest
        }

        /// So many, until the next long one would begin the ring again.
        fn pass_until_warm(&mut self) {
            while self.pass(FAR) < self.filling.warm() {}
        }
    }

    #[test]
    fn long_messages_go_through_the_beginning_of_a_large_ring() {
        for length in [FAR, 100_000, 1 << 20] {
            let mut ends = Ends::new(8 << 20);
            // Those that do not fit before where the tail was go behind each other once.
            let size = length as u64 + 2 * LINE;
            let most = WARM_IN_PLACE.max(size) + size;
            for _ in 0..500 {
                let end = ends.pass(length);
                assert!(end <= most, "{end} of {length}");
            }
            assert!(ends.tail.begun().at >= (3 * 8) << 20);
            // Where one is always under way the ring is gone round.
            let begun = ends.tail.begun().at;
            let furthest = ends.stream(length, 1, 20 << 20);
            assert!(
                furthest + 2 * length as u64 > 8 << 20,
                "{furthest} of {length}"
            );
            assert!(ends.tail.begun().at <= begun + (8 << 20));
        }
    }

    /// What is copied goes through fewer lines, also where a few are always under way, and not if many are.
    #[test]
    fn a_stream_of_copies_goes_through_the_beginning() {
        for (length, behind) in [(FAR, 1), (FAR, 30), (4 * FAR, 1), (4 * FAR, 7), (MIB, 1)] {
            let mut ends = Ends::new(8 << 20);
            ends.filling = Copied;
            let furthest = ends.stream(length, behind, 40 << 20);
            let size = length as u64 + 2 * LINE;
            let most = WARM.max(2 * (behind + 1) * size) + size;
            assert!(furthest <= most, "{furthest} of {length}");
            let begun = ends.tail.begun();
            assert!(begun.at > (3 * 8) << 20, "{begun:?}");
        }
        let mut ends = Ends::new(4 << 20);
        ends.filling = Copied;
        let furthest = ends.stream(4 * FAR, 40, 20 << 20);
        assert!(furthest > 15 << 18, "{furthest}");
    }

    #[test]
    fn a_stream_goes_through_the_beginning_of_a_very_large_ring() {
        let most = |capacity, length, behind| {
            let mut ends = Ends::new(capacity);
            // As much of it as may be.
            let furthest = ends.stream(length, behind, 2 * capacity);
            let begun = ends.tail.begun();
            assert!(begun.at > 0, "{length}, {behind} behind");
            assert_eq!(begun.at % capacity, 0);
            assert!(begun.from < begun.at);
            furthest
        };
        for (length, behind) in [(FAR, 1), (FAR, 200), (1 << 20, 1), (1 << 20, 3)] {
            let furthest = most(32 << 20, length, behind);
            let size = length as u64 + 2 * LINE;
            assert!(furthest <= LONG_STRETCH + size, "{furthest} of {length}");
        }
        // Half of what there is between may be under way, and no more.
        let (length, capacity) = (1 << 20, 32 << 20);
        assert!(most(capacity, length, 5) <= LONG_STRETCH + (4 << 20));
        let mut ends = Ends::new(capacity);
        let furthest = ends.stream(length, 17, 2 * capacity);
        assert!(furthest > capacity - (2 << 20), "{furthest}");
    }

    const MIB: usize = 1 << 20;

    /// A lane that was just begun again behind four messages; answers how many were sent.
    fn begun_behind_four(capacity: u64, length: usize, filling: Filling) -> (Ends, u64) {
        let mut ends = Ends::new(capacity);
        ends.filling = filling;
        let mut sent = 0;
        while ends.tail.begun().at == 0 {
            if sent > 4 {
                ends.recv(sent - 5, length);
                ends.release();
            }
            ends.send(sent, length).unwrap();
            sent += 1;
        }
        (ends, sent)
    }

    /// So there is as much room beside them as ever, but for a message more at each end of them.
    #[test]
    fn a_ring_begun_again_behind_messages_takes_nearly_as_much() {
        for (length, capacity, before, filling) in [
            (1000, 32 << 20, MIB, InPlace),
            (30_000, 32 << 20, MIB, InPlace),
            (MIB, 32 << 20, MIB, InPlace),
            (1000, 4 << 20, 4 * FAR, Copied),
            (30_000, 4 << 20, 4 * FAR, Copied),
            (4 * FAR, 4 << 20, 4 * FAR, Copied),
        ] {
            let (mut ends, sent) = begun_behind_four(capacity, before, filling);
            let mut number = sent;
            while ends.send(number, length).is_ok() {
                number += 1;
            }
            let room = capacity as usize - 5 * before;
            let (took, size) = ((number - sent) as usize, length + LINE as usize);
            assert!(took * length <= room, "{took}");
            assert!((took + 3) * size + 5 * LINE as usize >= room, "{took}");
            for waiting in sent - 5..sent {
                ends.recv(waiting, before);
            }
            for waiting in sent..number {
                ends.recv(waiting, length);
            }
            ends.release();
            ends.pass(before);
        }
    }

    /// And what each of them took is room when it is finished, before the others are.
    #[test]
    fn what_waits_where_a_ring_was_begun_again_gives_room_one_by_one() {
        for finished in 0..=4 {
            let (mut ends, sent) = begun_behind_four(32 << 20, MIB, InPlace);
            for waiting in 0..finished {
                ends.recv(sent - 5 + waiting, MIB);
                ends.release();
            }
            for number in sent..sent + 10 {
                ends.send(number, MIB).unwrap();
            }
            for waiting in finished..5 {
                ends.recv(sent - 5 + waiting, MIB);
            }
            // Where there is no room before those that wait any more, the next goes behind them.
            let beside = (0..10).take_while(|number| {
                let end = ends.recv(sent + number, MIB);
                end < ((number + 2) << 20) + 64 * LINE
            });
            // With the first, one less than there are where they would go: a word is polled behind the last.
            assert_eq!(beside.count() as u64, 2 + finished, "{finished}");
        }
    }

    #[test]
    fn short_messages_and_small_rings_are_gone_round() {
        for (capacity, length) in [
            (1 << 20, 100_000),
            (8 << 20, FAR - 1),
            (8 << 20, (1 << 20) + 1),
        ] {
            let mut ends = Ends::new(capacity);
            let most = (0..2 * capacity / length as u64)
                .map(|_| ends.pass(length))
                .max();
            assert!(most.unwrap() + 2 * length as u64 > capacity, "{most:?}");
        }
    }

    /// Right after a ring was begun again there is as much room in it as ever, but for the gap and what a message
    /// more would need.
    #[test]
    fn a_ring_begun_again_takes_nearly_as_much() {
        for length in [8, 100, 1000, 30_000] {
            let mut ends = Ends::new(4 << 20);
            for _ in 0..2 {
                ends.pass_until_warm();
                let before = ends.tail.position();
                ends.send(0, 2 * FAR).unwrap();
                assert!(ends.tail.begun().at > before);
                let mut sent = 1;
                while ends.send(sent, length).is_ok() {
                    sent += 1;
                }
                let size = Ring::size(0, Ring::flags(length), length);
                let all = ((4 << 20) - 2 * FAR as u64 - LINE) / size;
                assert!(sent + 3 >= all, "{sent} of {all}");
                // Its producer dies, and the successor can't know how little is in use.
                ends.tail = Tail::open(ends.ring, &ends.region, MARKS).unwrap();
                assert_eq!(ends.send(sent, length), Err(Full));
                ends.recv(0, 2 * FAR);
                ends.release();
                while ends.send(sent, length).is_ok() {
                    sent += 1;
                }
                for number in 1..sent {
                    ends.recv(number, length);
                }
                ends.release();
            }
        }
    }

    /// A long message had to go round, and less of it was published than was claimed.
    #[test]
    fn a_part_of_what_had_to_go_round_takes_no_room() {
        let mut ends = Ends::new(4 << 20);
        let mut sent = 0;
        while ends.tail.position() < 7 << 19 {
            ends.send(sent, 4 * FAR).unwrap();
            if sent > 0 {
                ends.recv(sent - 1, 4 * FAR);
                ends.release();
            }
            sent += 1;
        }
        let claim = ends.tail.claim(&ends.region, MIB, InPlace).unwrap();
        assert_eq!(claim.offset, ends.ring.at(LINE));
        let part = claim.part(1000);
        ends.region
            .copy_in(part.offset, &message(sent, 1000))
            .unwrap();
        ends.tail.publish(part);
        let mut number = sent + 1;
        while ends.send(number, 1000).is_ok() {
            number += 1;
        }
        let took = (number - sent) as usize * (1000 + LINE as usize);
        assert!(took > (4 << 20) - 12 * FAR, "{took}");
        ends.recv(sent - 1, 4 * FAR);
        for waiting in sent..number {
            ends.recv(waiting, 1000);
        }
        ends.release();
        ends.pass(MIB);
    }

    #[test]
    fn a_dropped_claim_begins_nothing_again() {
        let mut ends = Ends::new(4 << 20);
        ends.pass_until_warm();
        let claim = ends.tail.claim(&ends.region, FAR, InPlace).unwrap();
        assert_eq!(claim.offset, ends.ring.at(LINE));
        let junk = message(7, FAR);
        ends.region.copy_in(claim.offset, &junk).unwrap();
        assert_eq!(ends.ring.record(&ends.region, ends.head), Ok(None));
        assert!(ends.pass(8) > WARM_IN_PLACE);
        assert_eq!(ends.pass(FAR), LINE + FAR as u64);
    }

    #[test]
    fn what_a_dropped_claim_held_is_never_a_header() {
        let (ring, region) = new(4096);
        let mut tail = Tail::open(ring, &region, MARKS).unwrap();
        tail.send(&region, b"one").unwrap();
        for length in [400, 1000] {
            let claim = tail.claim(&region, length, InPlace).unwrap();
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
