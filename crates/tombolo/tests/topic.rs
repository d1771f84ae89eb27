//! A topic as its users see it.

use std::thread::{scope, yield_now};
use std::time::{Duration, Instant};
use sysv::Mode;
use tombolo::shmem::Waiting;
use tombolo::topic::{self, BatchError, Delivery, Lapped, Options, Policy, PublishError};
use tombolo::topic::{Publisher, Received, RecvError, Start, Subscriber};
use tombolo::{Address, Lifetime, Name, Patience, Reason};

/// A name of this test's own, removed when it ends.
struct Mine(Name);

impl Mine {
    fn new(what: &str) -> Self {
        Self(Name::mine(&format!("test-topic-{what}-{}", std::process::id())).unwrap())
    }

    fn publisher(&self, options: &Options) -> Publisher {
        Publisher::open_or_create(self.0.clone(), options).unwrap()
    }

    fn subscriber(&self, options: &Options, start: Start) -> Subscriber {
        Subscriber::open_or_create(self.0.clone(), options, start).unwrap()
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let _ = topic::remove(self.0.clone());
    }
}

const SMALL: Options = Options {
    capacity: 1024,
    publishers: 2,
    subscribers: 1,
    policy: Policy::Overrun,
    mode: Mode::from_bits_truncate(0o600),
    lifetime: Lifetime::WhileUsed,
};
const WAITING: Options = Options {
    policy: Policy::WaitForSlowest,
    ..SMALL
};

/// A message that says its number, and shows whether it is whole.
fn message(number: u64) -> Vec<u8> {
    number.to_ne_bytes().repeat(1 + number as usize % 12)
}

#[track_caller]
fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, message(number), "a torn message");
    number
}

fn drain(subscriber: &mut Subscriber) -> Vec<(u64, u64)> {
    let (mut all, mut bytes) = (vec![], vec![]);
    while let Ok(Some(received)) = subscriber.try_recv(&mut bytes) {
        assert_eq!(number(&bytes), received.number);
        all.push((received.number, received.lost));
    }
    all
}

#[test]
fn everybody_gets_everything_and_then_the_end() {
    for options in [SMALL, WAITING] {
        let options = Options {
            subscribers: 3,
            ..options
        };
        let mine = Mine::new("ends");
        let mut early = mine.subscriber(&options, Start::Now);
        let mut bytes = vec![1];
        assert_eq!(
            early.try_recv(&mut bytes),
            Ok(None),
            "no publisher yet is no end"
        );
        assert!(bytes.is_empty());
        let mut publisher = mine.publisher(&options);
        publisher.publish(&message(0)).unwrap();
        let mut late = mine.subscriber(&options, Start::Now);
        let mut other = mine.publisher(&options);
        other.publish(&message(0)).unwrap();
        publisher.publish(&message(1)).unwrap();
        drop((publisher, other));
        let mut got = drain(&mut early);
        got.sort_unstable();
        assert_eq!(got, [(0, 0), (0, 0), (1, 0)]);
        let mut got = drain(&mut late);
        got.sort_unstable();
        assert_eq!(got, [(0, 0), (1, 0)]);
        assert_eq!(early.recv(&mut bytes), Err(RecvError::Closed));
        assert_eq!(late.try_recv(&mut bytes), Err(RecvError::Closed));
        let mut early = early.follow(true);
        let short = Duration::from_millis(5);
        assert_eq!(early.recv_timeout(&mut bytes, short), Ok(None));
        // Another publisher: it goes on, in the lane that was free.
        let mut publisher = mine.publisher(&options);
        publisher.publish(&message(2)).unwrap();
        let next = early.recv(&mut bytes).unwrap();
        let expected = Received {
            lane: 0,
            number: 2,
            lost: 0,
        };
        assert_eq!(next, expected);
    }
}

#[test]
fn latecomers_have_history() {
    for options in [SMALL, WAITING] {
        let options = Options {
            capacity: 8192,
            subscribers: 9,
            ..options
        };
        let mine = Mine::new("history");
        let mut publisher = mine.publisher(&options);
        (0..20).for_each(|n| publisher.publish(&message(n)).unwrap());
        for (start, first) in [
            (Start::Now, 20),
            (Start::Last(0), 20),
            (Start::Last(1), 19),
            (Start::Last(7), 13),
            (Start::Last(100), 0),
            (Start::Oldest, 0),
        ] {
            let got = drain(&mut mine.subscriber(&options, start));
            let expected: Vec<_> = (first..20).map(|n| (n, 0)).collect();
            assert_eq!(got, expected, "{start:?}");
        }
        // Round the ring: the last few are there, the first are not.
        (20..500).for_each(|n| publisher.publish(&message(n)).unwrap());
        let got = drain(&mut mine.subscriber(&options, Start::Last(10)));
        assert_eq!(got.first(), Some(&(490, 0)));
        let got = drain(&mut mine.subscriber(&options, Start::Oldest));
        let (first, lost) = got[0];
        assert!(lost == 0 && (400..480).contains(&first), "{first}");
        assert_eq!(got.len() as u64, 500 - first);
    }
}

#[test]
fn who_is_lapped_is_told_how_many_it_lost() {
    let mine = Mine::new("lapped");
    let mut publisher = mine.publisher(&SMALL);
    let mut subscriber = mine.subscriber(&SMALL, Start::Now);
    let (mut expected, mut lost) = (0, 0);
    for round in 0..50u64 {
        let count = round * 7 % 60;
        let first = expected;
        (first..first + count).for_each(|n| publisher.publish(&message(n)).unwrap());
        for (number, gone) in drain(&mut subscriber) {
            assert_eq!(number, expected + gone);
            (expected, lost) = (number + 1, lost + gone);
        }
        assert_eq!(expected, first + count, "the last are always there");
        assert_eq!(subscriber.lost(), lost);
    }
    assert!(lost > 500, "{lost}");
    // The count goes on when another publisher takes the lane.
    drop(publisher);
    let mut publisher = mine.publisher(&SMALL);
    (expected..expected + 100).for_each(|n| publisher.publish(&message(n)).unwrap());
    let (number, gone) = drain(&mut subscriber)[0];
    assert_eq!((number - gone, gone > 50), (expected, true));
}

#[test]
fn who_reads_in_place_is_told_whether_it_was_whole() {
    let mine = Mine::new("place");
    let mut publisher = mine.publisher(&SMALL);
    let mut subscriber = mine.subscriber(&SMALL, Start::Now);
    publisher.publish(&message(0)).unwrap();
    let read = |delivery: &mut Delivery<'_>| {
        let mut bytes = vec![];
        delivery.append_to(&mut bytes);
        bytes
    };
    let mut delivery = subscriber.receive(Patience::none()).unwrap().unwrap();
    assert_eq!(read(&mut delivery), message(0));
    assert_eq!((delivery.len(), delivery.check()), (8, Ok(())));
    assert!(delivery.copy_out(1, &mut [0; 8]).is_err());
    drop(delivery);
    publisher.publish(&message(1)).unwrap();
    let mut delivery = subscriber.receive(Patience::none()).unwrap().unwrap();
    assert_eq!(delivery.received().number, 1);
    (2..40).for_each(|n| publisher.publish(&message(n)).unwrap());
    assert_eq!(delivery.check(), Err(Lapped));
    drop(delivery);
    let got = drain(&mut subscriber);
    let (first, lost) = got[0];
    assert_eq!(first - lost, 1, "the one that was spoilt counts as lost");
    assert_eq!(got.last(), Some(&(39, 0)));
}

#[test]
fn the_slowest_is_waited_for_as_long_as_it_is_there() {
    let mine = Mine::new("slowest");
    let options = Options {
        subscribers: 2,
        ..WAITING
    };
    let mut publisher = mine.publisher(&options);
    let mut slow = mine.subscriber(&options, Start::Now);
    let mut quick = mine.subscriber(&options, Start::Now);
    let mut next = 0;
    let mut publish_all = |publisher: &mut Publisher| {
        let first = next;
        while publisher.try_publish(&message(next)).is_ok() {
            next += 1;
            assert!(next < 1000);
        }
        next - first
    };
    assert!(publish_all(&mut publisher) > 3);
    drain(&mut quick);
    assert_eq!(publish_all(&mut publisher), 0);
    let start = Instant::now();
    let wait = Duration::from_millis(20);
    let full = publisher.publish_timeout(&message(11), wait);
    assert_eq!(full, Err(PublishError::Full));
    assert!(start.elapsed() >= wait);
    let got = drain(&mut slow);
    assert!(got.iter().map(|got| got.0).eq(0..got.len() as u64));
    assert!(publish_all(&mut publisher) > 3);
    drain(&mut quick);
    drop(slow);
    assert!(publish_all(&mut publisher) > 3, "nobody is slow any more");
    drop(quick);
    for _ in 0..100 {
        publisher.publish(&message(5)).unwrap();
    }
}

#[test]
fn nobody_listens_and_nothing_waits() {
    for options in [SMALL, WAITING] {
        let mine = Mine::new("alone");
        let mut publisher = mine.publisher(&options);
        (0..1000).for_each(|n| publisher.try_publish(&message(n)).unwrap());
    }
}

#[test]
fn too_long() {
    let mine = Mine::new("long");
    let mut publisher = mine.publisher(&SMALL);
    let longest = publisher.longest();
    assert_eq!(longest, 1024 / 4 - 16);
    let error = PublishError::TooLong {
        length: longest + 1,
        longest,
    };
    assert_eq!(publisher.publish(&vec![7; longest + 1]), Err(error));
    let mut subscriber = mine.subscriber(&SMALL, Start::Now);
    let mut bytes = vec![];
    for number in 0..100 {
        let message = vec![number; longest];
        publisher.publish(&message).unwrap();
        assert_eq!(subscriber.recv(&mut bytes).unwrap().lost, 0);
        assert_eq!(bytes, message);
    }
}

#[test]
fn places_are_limited() {
    let mine = Mine::new("crowded");
    let (first, _second) = (mine.publisher(&WAITING), mine.publisher(&WAITING));
    let third = Publisher::open(mine.0.clone()).unwrap_err();
    assert!(
        third.to_string().contains("2 publishers already"),
        "{third}"
    );
    drop(first);
    drop(mine.publisher(&WAITING));
    let subscriber = mine.subscriber(&WAITING, Start::Now);
    let other = Subscriber::open(mine.0.clone(), Start::Now).unwrap_err();
    assert!(matches!(
        other.reason(),
        Reason::Crowded {
            what: "subscribers",
            limit: 1
        }
    ));
    drop(subscriber);
    Subscriber::open(mine.0.clone(), Start::Now).unwrap();
    // Who is overrun can do without a seat.
    let mine = Mine::new("not-crowded");
    let mut publisher = mine.publisher(&SMALL);
    let mut all: Vec<_> = (0..9)
        .map(|_| mine.subscriber(&SMALL, Start::Now))
        .collect();
    publisher.publish(&message(0)).unwrap();
    for subscriber in &mut all {
        assert_eq!(drain(subscriber), [(0, 0)]);
    }
}

#[test]
fn a_batch_is_made_from_one_buffer() {
    let mine = Mine::new("one-buffer");
    let options = Options {
        capacity: 8192,
        ..WAITING
    };
    let mut publisher = mine.publisher(&options);
    let mut subscriber = mine.subscriber(&options, Start::Now);
    let mut buffer = vec![];
    let mut batch = publisher.batch();
    for length in [0, 5, 600, 512] {
        buffer.clear();
        buffer.resize(length, length as u8);
        batch.publish(&buffer).unwrap();
    }
    let long = vec![0; 5000];
    assert!(matches!(
        batch.publish(&long),
        Err(PublishError::TooLong { .. })
    ));
    assert_eq!(batch.finish(), 4);
    let mut received = vec![];
    for length in [0, 5, 600, 512] {
        subscriber.recv(&mut received).unwrap();
        assert_eq!(received, vec![length as u8; length]);
    }
}

#[test]
fn batches_and_loans() {
    let mine = Mine::new("batch");
    let options = Options {
        capacity: 8192,
        ..WAITING
    };
    let mut publisher = mine.publisher(&options);
    let mut subscriber = mine.subscriber(&options, Start::Now);
    assert_eq!(publisher.publish_batch([&b"a"[..], b"", b"ccc"]), Ok(3));
    let long = vec![0; 5000];
    let error = publisher.publish_batch([&b"d"[..], &long]).unwrap_err();
    assert!(matches!(
        error,
        BatchError {
            published: 1,
            error: PublishError::TooLong { .. }
        }
    ));
    let mut loan = publisher.loan(300, Patience::none()).unwrap();
    loan.copy_in(0, &[0xff; 300]).unwrap();
    let _ = loan;
    let mut loan = publisher.loan(4, Patience::none()).unwrap();
    assert_eq!(loan.len(), 4);
    assert!(loan.copy_in(3, b"xx").is_err());
    loan.copy_in(0, b"lo").unwrap();
    loan.copy_in(2, b"an").unwrap();
    loan.publish();
    let mut got = vec![];
    let mut receive = |most| {
        let each = |bytes: &[u8], _| got.push(bytes.to_vec());
        subscriber.recv_batch(most, Patience::none(), each)
    };
    assert_eq!(
        (receive(2), receive(0), receive(10), receive(10)),
        (Ok(2), Ok(0), Ok(3), Ok(0))
    );
    assert_eq!(got, [&b"a"[..], b"", b"ccc", b"d", b"loan"]);
}

#[test]
fn who_waits_learns_of_the_removal() {
    let mine = Mine::new("removed");
    let mut publisher = mine.publisher(&WAITING);
    let mut subscriber = mine.subscriber(&WAITING, Start::Now);
    scope(|scope| {
        let waits = scope.spawn(|| subscriber.recv(&mut vec![]));
        topic::remove(mine.0.clone()).unwrap();
        assert_eq!(waits.join().unwrap(), Err(RecvError::Removed));
    });
    assert_eq!(publisher.publish(b"late"), Err(PublishError::Removed));
}

#[test]
fn an_anonymous_topic_is_reached_by_its_id() {
    let options = Options {
        lifetime: Lifetime::Anonymous,
        ..SMALL
    };
    let mut publisher = Publisher::open_or_create(Address::Id(0), &options).unwrap();
    let mut subscriber = Subscriber::open(Address::Id(publisher.id()), Start::Now).unwrap();
    publisher.publish(&message(0)).unwrap();
    assert_eq!(drain(&mut subscriber), [(0, 0)]);
    let segment = sysv::Segment::from_id(publisher.id());
    drop(subscriber);
    drop(publisher);
    assert_eq!(segment.status_any(), Err(sysv::Errno::INVAL));
}

/// Threads, of which some are slow: whole messages, in order, and counts that add up.
#[test]
fn a_stream_to_quick_and_slow_subscribers() {
    const COUNT: u64 = 50_000;
    for policy in [Policy::Overrun, Policy::WaitForSlowest] {
        let options = Options {
            capacity: 4096,
            subscribers: 4,
            policy,
            ..SMALL
        };
        let mine = Mine::new("stream");
        let publishers = [(); 2].map(|()| mine.publisher(&options));
        let ways = [Waiting::Adaptive, Waiting::Park, Waiting::Adaptive];
        let subscribers = ways.map(|way| mine.subscriber(&options, Start::Now).waiting(way));
        scope(|scope| {
            for mut publisher in publishers {
                scope.spawn(move || {
                    for n in 0..COUNT {
                        publisher.publish(&message(n)).unwrap();
                        if n % 64 == 0 {
                            yield_now();
                        }
                    }
                });
            }
            for (me, mut subscriber) in subscribers.into_iter().enumerate() {
                scope.spawn(move || {
                    let (mut expected, mut lost, mut bytes) = ([0; 2], 0, vec![]);
                    loop {
                        let received = match subscriber.recv(&mut bytes) {
                            Ok(received) => received,
                            Err(end) => {
                                assert_eq!(end, RecvError::Closed);
                                break;
                            }
                        };
                        assert_eq!(number(&bytes), received.number);
                        let expected = &mut expected[received.lane];
                        assert_eq!(received.number, *expected + received.lost);
                        *expected = received.number + 1;
                        lost += received.lost;
                        if me == 2 && received.number % 500 == 0 {
                            yield_now();
                        }
                    }
                    assert_eq!(expected, [COUNT; 2]);
                    assert_eq!(subscriber.lost(), lost);
                    assert!(lost == 0 || policy == Policy::Overrun);
                });
            }
        });
    }
}
