//! A queue as its users see it.

use std::time::{Duration, Instant};
use sysv::Mode;
use tombolo::queue::{self, BatchError, Consumer, Options, Producer, RecvError, SendError};
use tombolo::{Lifetime, Name, Patience, Reason};

/// A name of this test's own, removed when it ends.
struct Mine(Name);

impl Mine {
    fn new(what: &str) -> Self {
        Self(Name::mine(&format!("test-queue-{what}-{}", std::process::id())).unwrap())
    }

    fn producer(&self, options: &Options) -> Producer {
        Producer::open_or_create(self.0.clone(), options).unwrap()
    }

    fn consumer(&self, options: &Options) -> Consumer {
        Consumer::open_or_create(self.0.clone(), options).unwrap()
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let _ = queue::remove(self.0.clone());
    }
}

const SMALL: Options = Options {
    capacity: 256,
    producers: 2,
    consumers: 1,
    mode: Mode::from_bits_truncate(0o600),
    lifetime: Lifetime::WhileUsed,
};

#[test]
fn the_end_of_each_side() {
    let mine = Mine::new("ends");
    let mut consumer = mine.consumer(&SMALL);
    let mut bytes = vec![1];
    assert_eq!(
        consumer.try_recv(&mut bytes),
        Ok(None),
        "no producer yet is no end"
    );
    assert!(bytes.is_empty());
    let mut producer = mine.producer(&SMALL);
    producer.send(b"one").unwrap();
    drop(producer);
    assert!(!consumer.recv(&mut bytes).unwrap().redelivered);
    assert_eq!(bytes, b"one");
    assert_eq!(consumer.recv(&mut bytes), Err(RecvError::Closed));
    let mut consumer = consumer.follow(true);
    let short = Duration::from_millis(5);
    assert_eq!(consumer.recv_timeout(&mut bytes, short), Ok(None));
    // Another producer: it goes on.
    let mut producer = mine.producer(&SMALL);
    producer.send(b"two").unwrap();
    consumer.recv(&mut bytes).unwrap();
    assert_eq!(bytes, b"two");
    drop(consumer);
    assert_eq!(producer.send(b"three"), Err(SendError::NoConsumers));
    let mut producer = producer.follow(true);
    producer.send(b"three").unwrap();
    mine.consumer(&SMALL).recv(&mut bytes).unwrap();
    assert_eq!(bytes, b"three");
    // A producer that comes when all consumers have gone has not lost any.
    let mut late = mine.producer(&SMALL);
    late.send(b"four").unwrap();
    mine.consumer(&SMALL).recv(&mut bytes).unwrap();
    assert_eq!(bytes, b"four");
    assert_eq!(late.send(b"five"), Err(SendError::NoConsumers));
}

#[test]
fn full_and_too_long() {
    let mine = Mine::new("full");
    let mut producer = mine.producer(&SMALL);
    let longest = producer.longest();
    let message = vec![7; longest];
    let too_long = SendError::TooLong {
        length: longest + 1,
        longest,
    };
    assert_eq!(producer.send(&vec![7; longest + 1]), Err(too_long));
    while producer.try_send(&message).is_ok() {}
    assert_eq!(producer.try_send(&message), Err(SendError::Full));
    let start = Instant::now();
    let wait = Duration::from_millis(20);
    assert_eq!(producer.send_timeout(&message, wait), Err(SendError::Full));
    assert!(start.elapsed() >= wait);
    // Somebody who receives makes room for who waits.
    let mut consumer = mine.consumer(&SMALL);
    let mut bytes = vec![];
    std::thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|_| producer.send(&message).unwrap()));
        for _ in 0..100 {
            consumer.recv(&mut bytes).unwrap();
        }
    });
    assert_eq!(bytes, message);
}

#[test]
fn places_are_limited() {
    let mine = Mine::new("crowded");
    let (first, second) = (mine.producer(&SMALL), mine.producer(&SMALL));
    let third = Producer::open(mine.0.clone()).unwrap_err();
    assert!(matches!(
        third.reason(),
        Reason::Crowded {
            what: "producers",
            limit: 2
        }
    ));
    assert!(third.to_string().contains("2 producers already"), "{third}");
    drop(first);
    drop(mine.producer(&SMALL));
    let consumer = mine.consumer(&SMALL);
    assert!(Consumer::open(mine.0.clone()).is_err());
    drop((second, consumer));
    let gone = Consumer::open(mine.0.clone());
    assert!(
        gone.is_err_and(|error| error.is_not_found()),
        "the last has left it empty"
    );
}

#[test]
fn a_batch_is_made_from_one_buffer() {
    let mine = Mine::new("one-buffer");
    let options = Options {
        capacity: 4096,
        ..SMALL
    };
    let mut producer = mine.producer(&options);
    let mut consumer = mine.consumer(&options);
    // One that is forgotten never was, as far as it was not published.
    let mut forgotten = producer.batch();
    forgotten.send(b"nobody sees it").unwrap();
    std::mem::forget(forgotten);
    producer.send(b"one").unwrap();
    let mut buffer = vec![];
    let mut batch = producer.batch();
    for length in [0, 5, 600, 7, 63, 64, 512] {
        buffer.clear();
        buffer.resize(length, length as u8);
        batch.send(&buffer).unwrap();
    }
    let long = vec![0; 5000];
    assert!(matches!(batch.send(&long), Err(SendError::TooLong { .. })));
    batch.send(b"and on").unwrap();
    assert_eq!(batch.finish(), 8);
    // What was added is sent, however it ends.
    producer.batch().send(b"dropped").unwrap();
    let mut received = vec![];
    let mut next = || {
        consumer.recv(&mut received).unwrap();
        received.clone()
    };
    assert_eq!(next(), b"one");
    for length in [0, 5, 600, 7, 63, 64, 512] {
        assert_eq!(next(), vec![length as u8; length]);
    }
    assert_eq!(next(), b"and on");
    assert_eq!(next(), b"dropped");
}

#[test]
fn batches_and_loans() {
    let mine = Mine::new("batch");
    let options = Options {
        capacity: 4096,
        ..SMALL
    };
    let mut producer = mine.producer(&options);
    assert_eq!(producer.send_batch([&b"a"[..], b"", b"ccc"]), Ok(3));
    let long = vec![0; 5000];
    let error = producer.send_batch([&b"d"[..], &long]).unwrap_err();
    assert!(matches!(
        error,
        BatchError {
            sent: 1,
            error: SendError::TooLong { .. }
        }
    ));
    assert_eq!(producer.loan(10, Patience::none()).unwrap().len(), 10);
    let mut loan = producer.loan(4, Patience::none()).unwrap();
    assert!(loan.copy_in(3, b"xx").is_err());
    loan.copy_in(0, b"lo").unwrap();
    loan.copy_in(2, b"an").unwrap();
    loan.publish();
    let mut consumer = mine.consumer(&options);
    let mut got = vec![];
    let mut receive = |most| {
        let each = |message: queue::Message<'_>| {
            let mut bytes = vec![];
            message.append_to(&mut bytes);
            got.push(bytes);
        };
        consumer.recv_batch(most, Patience::none(), each)
    };
    assert_eq!(
        (receive(2), receive(10), receive(10)),
        (Ok(2), Ok(3), Ok(0))
    );
    assert_eq!(got, [&b"a"[..], b"", b"ccc", b"d", b"loan"]);
}

#[test]
fn what_is_put_back_comes_again() {
    let mine = Mine::new("again");
    let options = Options {
        capacity: 4096,
        consumers: 2,
        ..SMALL
    };
    let mut producer = mine.producer(&options);
    let mut consumer = mine.consumer(&options);
    // Also with another there, when no lane is kept.
    for other in [false, true] {
        let other = other.then(|| mine.consumer(&options));
        for number in 0..5u64 {
            producer.send_value(&number).unwrap();
        }
        let mut batch = consumer.batch(3, Patience::none()).unwrap().unwrap();
        assert_eq!(batch.next().unwrap().bytes().read(), Ok(0u64));
        assert_eq!(batch.next().unwrap().bytes().read(), Ok(1u64));
        batch.put_back();
        let mut batch = consumer.batch(3, Patience::none()).unwrap().unwrap();
        let message = batch.next().unwrap();
        assert!(message.redelivered() && message.bytes().read() == Ok(0u64));
        // What was answered is finished, what was not is as before.
        drop(batch);
        drop(consumer.batch(9, Patience::none()).unwrap().unwrap());
        let mut rest = vec![];
        let mut batch = consumer.batch(9, Patience::none()).unwrap().unwrap();
        while let Some(message) = batch.next() {
            rest.push((message.bytes().read().unwrap(), message.redelivered()));
        }
        drop(batch);
        let marked: Vec<_> = rest
            .iter()
            .filter(|(_, again)| *again)
            .map(|(n, _)| *n)
            .collect();
        let rest: Vec<u64> = rest.into_iter().map(|(number, _)| number).collect();
        assert_eq!(rest, [1, 2, 3, 4]);
        assert_eq!(marked, [1], "what was seen and not finished");
        assert!(consumer.batch(9, Patience::none()).unwrap().is_none());
        drop(other);
    }
    let mut loan = producer.loan(8, Patience::none()).unwrap();
    loan.copy_in(0, b"part way").unwrap();
    loan.publish_part(4).unwrap();
    assert!(
        producer
            .loan(8, Patience::none())
            .unwrap()
            .publish_part(9)
            .is_err()
    );
    assert_eq!(consumer.recv_value(), Ok(*b"part"));
    producer.send(b"12").unwrap();
    let wrong = consumer.recv_value::<u64>().unwrap_err();
    assert!(matches!(wrong, RecvError::WrongSize(_)), "{wrong}");
}

#[test]
fn messages_keep_a_queue_that_nobody_uses() {
    let mine = Mine::new("kept");
    mine.producer(&SMALL).send(b"still here").unwrap();
    // Opened and left once more: it stays.
    drop(mine.producer(&SMALL));
    let mut consumer = Consumer::wait(mine.0.clone(), Patience::none()).unwrap();
    let delivery = consumer.receive(Patience::none()).unwrap().unwrap();
    let mut part = [0; 4];
    delivery.copy_out(6, &mut part).unwrap();
    assert_eq!((&part, delivery.len()), (b"here", 10));
    assert!(delivery.copy_out(7, &mut part).is_err());
    drop(delivery);
    drop(consumer);
    assert!(Consumer::open(mine.0.clone()).is_err());
}

#[test]
fn who_waits_learns_of_the_removal() {
    let mine = Mine::new("removed");
    let mut producer = mine.producer(&SMALL);
    let mut consumer = mine.consumer(&SMALL);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| consumer.recv(&mut vec![]));
        queue::remove(mine.0.clone()).unwrap();
        assert_eq!(waits.join().unwrap(), Err(RecvError::Removed));
    });
    assert_eq!(producer.send(b"late"), Err(SendError::Removed));
}

/// Receipts by copy, in place and in batches in any order: a quota that one way uses up is used up for
/// the others.
#[test]
fn all_ways_to_receive_go_together() {
    let mine = Mine::new("ways");
    let options = Options::default();
    let mut producer = mine.producer(&options);
    let mut consumer = mine.consumer(&options);
    // From here on messages go the short way.
    shmem::barrier::register();
    let (mut sent, mut next, mut bytes) = (0u64, 0u64, Vec::with_capacity(64));
    for round in 0..5_000u64 {
        while sent < next + 10 {
            producer.send(&sent.to_ne_bytes()).unwrap();
            sent += 1;
        }
        let check = |bytes: &[u8], next: &mut u64| {
            assert_eq!(bytes, next.to_ne_bytes());
            *next += 1;
        };
        // In place for a while, so that quotas end there, and in between by copy.
        match (round / 70 + round) % 3 {
            0 => {
                consumer.recv(&mut bytes).unwrap();
                check(&bytes, &mut next);
            }
            1 => {
                let delivery = consumer.receive(Patience::FOREVER).unwrap().unwrap();
                bytes.clear();
                delivery.message().append_to(&mut bytes);
                check(&bytes, &mut next);
            }
            _ => {
                let most = round as usize % 3 + 1;
                let each = |message: queue::Message<'_>| {
                    bytes.clear();
                    message.append_to(&mut bytes);
                    check(&bytes, &mut next);
                };
                consumer.recv_batch(most, Patience::FOREVER, each).unwrap();
            }
        }
    }
}
