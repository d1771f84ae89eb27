//! Tests of a `topic` on memory of one process.

use crate::lane::Full;
use crate::ring::{APART, PUBLISHED};
use crate::topic_head::{Head, Unfit};
use crate::topic_layout::{Shape, lane, layout};
use crate::topic_members::{Ended, ended, free_seat, hold, leave_lane, leave_seat};
use crate::topic_members::{move_cursor, take_lane, take_seat};
use crate::topic_policy::{Policy, Start};
use crate::topic_reader::{Got, Reader, topic};
use crate::topic_tail::Tail;
use shmem::Region;
use shmem::sync::Ordering;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Bytes full of words that look like headers, and tell lane and number.
fn message(lane: usize, number: u64, length: usize) -> Vec<u8> {
    let word = (PUBLISHED | number << 8 | lane as u64).to_ne_bytes();
    word.iter().copied().cycle().take(length).collect()
}

struct Subscriber {
    seat: Option<usize>,
    me: u64,
    readers: Vec<Reader>,
    /// The number that comes next in each lane.
    expected: Vec<u64>,
}

/// Everything that was published, by lane: lengths by number.
type Published = Vec<Vec<usize>>;

struct World {
    shape: Shape,
    region: Region,
    tails: Vec<Tail>,
    published: Published,
    subscribers: Vec<Subscriber>,
    dead: Vec<u64>,
    next_identity: u64,
    state: u64,
    received: u64,
    lost: u64,
    freed: u64,
}

impl World {
    fn new(lanes: usize, capacity: usize, policy: Policy) -> Self {
        let (shape, region) = topic(lanes, 3, capacity, policy);
        region
            .u32(layout::USED)
            .store(lanes as u32, Ordering::Relaxed);
        let tails = (0..lanes).map(|lane| Tail::open(shape, &region, lane).unwrap());
        let tails = tails.collect();
        Self {
            shape,
            region,
            tails,
            published: vec![vec![]; lanes],
            subscribers: vec![],
            dead: vec![],
            next_identity: 10,
            state: capacity as u64 + lanes as u64,
            received: 0,
            lost: 0,
            freed: 0,
        }
    }

    fn random(&mut self, below: usize) -> usize {
        (random(&mut self.state) >> 8) as usize % below
    }

    fn publish(&mut self) {
        let lane = self.random(self.shape.lanes());
        let most = if self.random(3) == 0 {
            self.shape.longest()
        } else {
            80
        };
        let length = self.random(most + 1).min(self.shape.longest());
        let number = self.published[lane].len() as u64;
        let bytes = message(lane, number, length);
        let mut sent = self.tails[lane].send(&self.region, &bytes);
        if sent.is_err() {
            assert_eq!(self.shape.policy(), Policy::WaitForSlowest);
            let held: Vec<_> = self.tails[lane].held_by(&self.region, length).collect();
            assert!(!held.is_empty(), "somebody holds it up");
            let (region, dead) = (&self.region, &self.dead);
            let free =
                |seat: &usize| free_seat(&self.shape, region, *seat, 5, |who| dead.contains(&who));
            let freed = held.iter().filter(|seat| free(seat)).count();
            self.freed += freed as u64;
            if freed == held.len() {
                sent = self.tails[lane].send(&self.region, &bytes);
                assert_eq!(sent, Ok(()), "the dead hold nothing up");
            }
        }
        if sent == Err(Full) {
            return;
        }
        self.published[lane].push(length);
    }

    /// A publisher dies in the middle of a message, or before it makes a mark; its successor.
    fn publisher_dies(&mut self) {
        let lane = self.random(self.shape.lanes());
        let longest = self.shape.longest();
        if self.random(2) == 0 {
            self.forget_mark(lane);
        } else if let Ok(claim) = self.tails[lane].claim(&self.region, longest) {
            let junk = message(lane, 7, longest);
            self.region.copy_in(claim.offset, &junk).unwrap();
        }
        self.tails[lane] = Tail::open(self.shape, &self.region, lane).unwrap();
    }

    /// Takes the last record's mark back, if it has one, and nothing was claimed since.
    fn forget_mark(&mut self, lane: usize) {
        let marks = (0..self.shape.marks()).map(|mark| self.shape.mark(lane, mark));
        let newest = marks.max_by_key(|at| self.region.load_u64(*at, Ordering::Relaxed));
        let at = newest.expect("some marks");
        let word = self.region.load_u64(at, Ordering::Relaxed);
        let claimed = self
            .region
            .load_u64(self.shape.at(lane, lane::CLAIMED), Ordering::Relaxed);
        let Some(position) = word.checked_sub(1) else {
            return;
        };
        let ring = self.shape.ring(lane);
        let record = ring.record(&self.region, position).unwrap().unwrap();
        let is_last = ring.record(&self.region, record.end) == Ok(None);
        if is_last && claimed <= record.end + 64 + self.shape.step() {
            self.region.u64(at).store(0, Ordering::Relaxed);
        }
    }

    fn subscribe(&mut self) {
        self.next_identity += 1;
        let (me, shape, region) = (self.next_identity, self.shape, self.region.clone());
        let dead = self.dead.clone();
        let seat = take_seat(&shape, &region, me, |who| dead.contains(&who));
        if seat.is_none() && shape.policy() == Policy::WaitForSlowest {
            assert!(self.subscribers.len() >= 3);
            return;
        }
        let count = self.random(20) as u64;
        let start = [Start::Now, Start::Oldest, Start::Last(count)][self.random(3)];
        let mut readers = vec![];
        for lane in 0..shape.lanes() {
            let head = match (shape.policy(), seat) {
                (Policy::WaitForSlowest, Some(seat)) => {
                    hold(&shape, &region, seat, lane, start, 20)
                }
                _ => Head::seek(shape, &region, lane, start, 0),
            };
            let head = head.expect("nobody publishes meanwhile");
            self.check_start(lane, head.point().number, start);
            readers.push(Reader::new(head));
        }
        let expected = readers.iter().map(|r| r.head.point().number).collect();
        self.subscribers.push(Subscriber {
            seat,
            me,
            readers,
            expected,
        });
    }

    fn check_start(&self, lane: usize, first: u64, start: Start) {
        let published = &self.published[lane];
        let wanted = match start {
            Start::Now => published.len() as u64,
            Start::Oldest => 0,
            Start::Last(count) => (published.len() as u64).saturating_sub(count),
        };
        assert!(wanted <= first && first <= published.len() as u64);
        // Records, and the padding that there may be. Beyond that are the claim, which may have
        // grown by the longest message that nobody finished, and a step without a mark.
        let size = |length: &usize| (*length as u64 + 16).next_multiple_of(64);
        let bytes: u64 = published[wanted as usize..].iter().map(size).sum();
        let capacity = self.shape.capacity();
        if capacity >= 1024 && bytes <= capacity / 8 {
            assert_eq!(first, wanted, "{start:?}: {bytes} bytes of {capacity}");
        }
    }

    fn receive(&mut self) {
        if self.subscribers.is_empty() {
            return;
        }
        let who = self.random(self.subscribers.len());
        let lane = self.random(self.shape.lanes());
        let most = self.random(6);
        let subscriber = &mut self.subscribers[who];
        for _ in 0..most {
            let expected = &mut subscriber.expected[lane];
            match subscriber.readers[lane].recv(&self.region) {
                Got::Message(number, lost, bytes) => {
                    assert_eq!(number, *expected + lost);
                    assert!(lost == 0 || self.shape.policy() == Policy::Overrun);
                    let length = self.published[lane][number as usize];
                    assert_eq!(bytes, message(lane, number, length));
                    *expected = number + 1;
                    self.received += 1;
                    self.lost += lost;
                }
                Got::Nothing => {
                    assert_eq!(*expected, self.published[lane].len() as u64, "all received");
                    break;
                }
                Got::Damaged => panic!("nothing is damaged here"),
            }
        }
        if let Some(seat) = subscriber.seat {
            let head = &subscriber.readers[lane].head;
            move_cursor(&self.shape, &self.region, seat, lane, head);
        }
    }

    fn subscriber_goes(&mut self) {
        if self.subscribers.is_empty() {
            return;
        }
        let who = self.random(self.subscribers.len());
        let gone = self.subscribers.swap_remove(who);
        match gone.seat {
            Some(seat) if self.random(2) == 0 => leave_seat(&self.shape, &self.region, seat),
            _ => self.dead.push(gone.me),
        }
    }
}

/// Publishers and subscribers against plain lists: sizes, laps, deaths, latecomers.
#[test]
fn it_agrees_with_plain_lists() {
    for (lanes, capacity) in [(1, 256), (2, 512), (3, 1024), (2, 8192)] {
        for policy in [Policy::Overrun, Policy::WaitForSlowest] {
            let mut world = World::new(lanes, capacity, policy);
            let steps = if cfg!(miri) { 2_000 } else { 60_000 };
            for _ in 0..steps {
                match world.random(100) {
                    0..50 => world.publish(),
                    50..95 => world.receive(),
                    95 => world.publisher_dies(),
                    96..98 => world.subscriber_goes(),
                    _ => world.subscribe(),
                }
            }
            let World {
                received,
                lost,
                freed,
                ..
            } = world;
            assert!(received > steps / 10, "{received} received");
            match policy {
                Policy::Overrun => assert!(lost > steps / 100, "{lost} lost"),
                Policy::WaitForSlowest => assert!(freed > steps / 2000, "{freed} freed"),
            }
        }
    }
}

#[test]
fn the_end_comes_when_all_have_left() {
    let (shape, region) = topic(2, 1, 256, Policy::Overrun);
    let living = |_: u64| false;
    let head = || Head::seek(shape, &region, 0, Start::Now, 0).unwrap();
    let end = |head: &Head, is_dead: fn(u64) -> bool| {
        ended(&shape, &region, is_dead, |lane| {
            lane == 1 || head.is_empty(&region)
        })
    };
    let early = head();
    assert_eq!(end(&early, living), None, "nobody ever came");
    let first = take_lane(&shape, &region, 5, living).unwrap();
    let second = take_lane(&shape, &region, 6, living).unwrap();
    assert_eq!((first, second, shape.used(&region)), (0, 1, 2));
    assert_eq!(take_lane(&shape, &region, 7, living), None);
    let mut tail = Tail::open(shape, &region, first).unwrap();
    tail.send(&region, b"last word").unwrap();
    leave_lane(&shape, &region, first);
    assert_eq!(end(&head(), living), None);
    assert_eq!(end(&early, |word| word == 6), None, "a message waits");
    assert_eq!(end(&head(), |word| word == 6), Some(Ended::Died));
    // The successor takes the dead one's lane, though another is free.
    assert_eq!(
        take_lane(&shape, &region, 7, |word| word == 6),
        Some(second)
    );
    leave_lane(&shape, &region, second);
    assert_eq!(end(&head(), living), Some(Ended::Closed));
}

#[test]
fn a_long_message_begins_on_a_line_and_has_its_number() {
    let (shape, region) = topic(1, 1, 8192, Policy::WaitForSlowest);
    let mut tail = Tail::open(shape, &region, 0).unwrap();
    let head = || Head::seek(shape, &region, 0, Start::Now, 0).unwrap();
    let mut reader = Reader::new(head());
    for (number, length) in (0..).zip([511, 512, 0, 513, 1984, 496, 2000, 64].repeat(9)) {
        let number: u64 = number;
        let length = length.min(shape.longest());
        let bytes = message(0, number, length);
        let at = tail.claim(&region, length).unwrap().offset;
        assert_eq!(at.is_multiple_of(64), length >= 512, "{length}");
        tail.send(&region, &bytes).unwrap();
        assert_eq!(reader.recv(&region), Got::Message(number, 0, bytes));
        // Who comes walks over it, and finds the next number.
        assert_eq!(head().point().number, number + 1);
    }
}

#[test]
fn what_a_dropped_claim_held_is_never_a_header() {
    let (shape, region) = topic(1, 1, 8192, Policy::Overrun);
    let mut tail = Tail::open(shape, &region, 0).unwrap();
    let mut reader = Reader::new(Head::seek(shape, &region, 0, Start::Now, 0).unwrap());
    for number in 0..300 {
        for length in [400, 1000] {
            let claim = tail.claim(&region, length).unwrap();
            region
                .copy_in(claim.offset, &message(0, 7, length))
                .unwrap();
        }
        tail.send(&region, b"short").unwrap();
        assert_eq!(
            reader.recv(&region),
            Got::Message(number, 0, b"short".to_vec())
        );
        assert_eq!(reader.recv(&region), Got::Nothing);
    }
}

/// Every word of the control part, and headers and numbers of records, set to what no honest
/// peer writes.
#[test]
fn hostile_words_are_errors_or_wrong_data() {
    for policy in [Policy::Overrun, Policy::WaitForSlowest] {
        let (shape, region) = topic(2, 2, 256, policy);
        let end = shape.at(2, 0) + 512;
        let mut state = 7;
        for at in (layout::DATA..end).step_by(8) {
            for value in hostile(&mut state) {
                torture(shape, region.len(), at, value);
            }
        }
    }
}

fn hostile(state: &mut u64) -> [u64; 13] {
    let near = (1 << 62) - 64 + random(state) % 128;
    [
        0,
        1,
        63,
        64,
        65,
        1 << 62,
        1 << 63,
        u64::MAX,
        u64::MAX - 63,
        PUBLISHED | (random(state) % 300),
        PUBLISHED | APART | (random(state) % 300),
        near,
        random(state),
    ]
}

fn torture(shape: Shape, length: usize, at: usize, value: u64) {
    let region = Region::heap(length);
    region.u32(layout::USED).store(2, Ordering::Relaxed);
    let mut tails = [0, 1].map(|lane| Tail::open(shape, &region, lane).unwrap());
    let seat = take_seat(&shape, &region, 1, |_| false).unwrap();
    let mut heads: Vec<_> = (0..2)
        .filter_map(|lane| hold(&shape, &region, seat, lane, Start::Now, 3).ok())
        .map(Reader::new)
        .collect();
    for round in 0..16u8 {
        if round == 6 {
            region.u64(at).store(value, Ordering::Relaxed);
        }
        for (lane, tail) in tails.iter_mut().enumerate() {
            if tail.send(&region, &[round; 40]).is_err() {
                for seat in tail.held_by(&region, 40).collect::<Vec<_>>() {
                    free_seat(&shape, &region, seat, 3, |who| who > 9);
                }
            }
            if round % 5 == 4
                && let Ok(next) = Tail::open(shape, &region, lane)
            {
                *tail = next;
            }
        }
        for (lane, reader) in heads.iter_mut().enumerate() {
            for _ in 0..3 {
                if let Got::Message(_, _, bytes) = reader.recv(&region) {
                    assert!(bytes.len() < 256);
                }
            }
            if round % 3 == 0 {
                move_cursor(&shape, &region, seat, lane, &reader.head);
            }
        }
        for start in [Start::Now, Start::Last(3), Start::Oldest] {
            let _ = Head::seek(shape, &region, 1, start, u64::from(round));
        }
        ended(
            &shape,
            &region,
            |who| who > 9,
            |lane| heads[lane].head.is_empty(&region),
        );
        if let Some(lane) = take_lane(&shape, &region, 3, |who| who > 9) {
            leave_lane(&shape, &region, lane);
        }
        if let Some(seat) = take_seat(&shape, &region, 3, |who| who > 9) {
            let _ = hold(&shape, &region, seat, 0, Start::Oldest, 3);
            leave_seat(&shape, &region, seat);
        }
        let _ = region.load_u64(shape.at(0, lane::CLAIMED), Ordering::Relaxed);
    }
}

/// The last number that there is, as a liar has it, and the publisher who comes after it.
#[test]
fn numbers_may_wrap() {
    let (shape, region) = topic(1, 1, 256, Policy::Overrun);
    let mut tail = Tail::open(shape, &region, 0).unwrap();
    tail.send(&region, b"one").unwrap();
    let number = shape.ring(0).at(0) + 8;
    region.u64(number).store(u64::MAX - 1, Ordering::Relaxed);
    let mut tail = Tail::open(shape, &region, 0).unwrap();
    for _ in 0..3 {
        tail.send(&region, b"more").unwrap();
    }
}

/// A ring that is all headers has no end. Whoever seeks it is told so, and does not walk it again:
/// it may be a gigabyte.
#[test]
fn a_lane_without_an_end_is_damaged_at_once() {
    for marked in [false, true] {
        let (shape, region) = topic(1, 1, 1 << 16, Policy::Overrun);
        let ring = shape.ring(0);
        for position in (0..1 << 16).step_by(64) {
            let header = region.u64(ring.at(position));
            header.store(PUBLISHED | 8, Ordering::Relaxed);
        }
        // Something was written, or nobody would look.
        let claimed = region.u64(shape.at(0, lane::CLAIMED));
        claimed.store(64, Ordering::Relaxed);
        if marked {
            region.u64(shape.mark(0, 0)).store(1, Ordering::Relaxed);
        }
        let many = u64::MAX;
        for start in [Start::Now, Start::Last(3), Start::Oldest] {
            let seat = take_seat(&shape, &region, 1, |_| true).unwrap();
            let held = hold(&shape, &region, seat, 0, start, many);
            assert_eq!(held.err(), Some(Unfit::Damaged));
        }
        assert!(Tail::open(shape, &region, 0).is_err());
    }
}

/// Of a position before the first one, so to speak: it is not reached from there by going round.
#[test]
fn a_mark_beyond_what_is_claimed_is_none() {
    let (shape, region) = topic(1, 1, 1 << 16, Policy::Overrun);
    let position = u64::MAX - 63;
    let header = region.u64(shape.ring(0).at(position));
    header.store(PUBLISHED | 8, Ordering::Relaxed);
    let claimed = region.u64(shape.at(0, lane::CLAIMED));
    claimed.store(64, Ordering::Relaxed);
    let mark = (position / shape.step()) % shape.marks();
    let mark = region.u64(shape.mark(0, mark));
    mark.store(position + 1, Ordering::Relaxed);
    assert!(Tail::open(shape, &region, 0).is_err());
}

/// While a subscriber goes from lane to lane, a publisher that waits for room does not get it by the
/// quota; when there is nothing more, all of it.
#[test]
fn room_is_not_given_back_by_the_quota() {
    use crate::channel::{Channel, Shape as _};
    use crate::topic::{PublishError, Publisher, Subscriber};

    let (shape, length) = Shape::plan(2, 1, 1 << 17, Policy::WaitForSlowest).unwrap();
    let region = crate::fuzzing::region(&Shape::EXPECTED, length);
    shape.format(&region).unwrap();
    let publisher = || Publisher::of(Channel::on(&region).unwrap()).unwrap();
    let (mut full, mut other) = (publisher(), publisher());
    let (channel, door) = Channel::<Shape>::on(&region).unwrap().into_reader();
    let mut subscriber = Subscriber::through(channel, Some(door), Start::Now).unwrap();
    let fill = |publisher: &mut Publisher| {
        let sent = (0..).take_while(|_| publisher.try_publish(&[1; 8]).is_ok());
        sent.count()
    };
    let all = fill(&mut full);
    other.try_publish(&[2]).unwrap();
    let (mut bytes, mut lanes) = (vec![], vec![]);
    // Less than a quarter, through the lane, the other one, and the lane again.
    for _ in 0..all / 5 {
        subscriber.try_recv(&mut bytes).unwrap().unwrap();
        lanes.push(bytes.len());
    }
    assert_eq!(lanes.iter().filter(|length| **length == 1).count(), 1);
    assert_eq!(full.try_publish(&[1; 8]), Err(PublishError::Full));
    while subscriber.try_recv(&mut bytes).unwrap().is_some() {}
    assert_eq!(fill(&mut full), all);
}
