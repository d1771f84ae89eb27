//! Many processes over one queue, and processes killed at random moments: every message accounted
//! for.

use crate::crowd::{MARKED, accounted_for, killed_at_random, random};
use checks::message::{check, message};
use checks::process::{Child, Gate, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::layout::{FNV_START, fnv};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tombolo::queue::{Consumer, Options, Producer, RecvError};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("queue::sixty_four_processes", crowd),
    case("queue::random_kills", || {
        let kills = quick_or_long(2_000, 100_000);
        random_kills(kills, 4096, |random| random % 400)
    }),
    // They begin the ring again, and meet where they did; nearly half of them are announced.
    case("queue::random_kills_of_long_messages", || {
        let kills = quick_or_long(500, 20_000);
        random_kills(kills, 2 << 20, |random| match random % 8 {
            0 => random / 8 % 400,
            _ => random / 8 % (1 << 18),
        })
    }),
    // Also where some of them wait.
    case("queue::random_kills_of_long_messages_in_a_row", || {
        let kills = quick_or_long(500, 20_000);
        random_kills(kills, 32 << 20, |random| match random % 8 {
            0 => random / 8 % 400,
            _ => random / 8 % (1 << 19),
        })
    }),
];

fn name() -> Name {
    Name::mine("crowd-queue").expect("a name")
}

fn crowd() -> Outcome {
    const EACH: usize = 32;
    let count = quick_or_long(2_000, 100_000);
    let options = Options {
        capacity: 16 * 1024,
        ..Options::default()
    };
    let (ready, start) = (&Gate::new(), &Gate::new());
    // How many were sent and received, and the sums of their digests.
    let words = shared_words(4);
    let tell = |at: usize, digest: u64| {
        words[at].fetch_add(1, Ordering::Relaxed);
        words[at + 1].fetch_add(digest as i64, Ordering::Relaxed);
    };
    let began = Instant::now();
    let producers: Vec<_> = (0..EACH as u64)
        .map(|me| {
            child(|| {
                let mut producer = Producer::open_or_create(name(), &options).expect("a producer");
                ready.open();
                start.wait();
                let mut state = me + 1;
                for number in 0..count {
                    let length = random(&mut state) as usize % 200;
                    let message = message(me << 32 | number, length);
                    producer.send(&message).expect("send");
                    tell(0, fnv(FNV_START, &message));
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..EACH)
        .map(|me| {
            child(|| {
                let mut consumer = Consumer::open_or_create(name(), &options).expect("a consumer");
                ready.open();
                start.wait();
                let mut last = [-1i64; EACH];
                let mut see = |bytes: &[u8]| {
                    let number = check(bytes).expect("whole");
                    let (from, number) = ((number >> 32) as usize, number as u32 as i64);
                    assert!(
                        number > last[from],
                        "out of order: {number} after {}",
                        last[from]
                    );
                    last[from] = number;
                    tell(2, fnv(FNV_START, bytes));
                };
                let mut bytes = vec![];
                loop {
                    let got = match me % 2 {
                        0 => consumer.recv(&mut bytes).map(|_| see(&bytes)),
                        _ => consumer
                            .recv_batch(7, Patience::FOREVER, |message| {
                                bytes.clear();
                                message.append_to(&mut bytes);
                                see(&bytes);
                            })
                            .map(drop),
                    };
                    match got {
                        Ok(()) => {}
                        Err(RecvError::Closed) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    (0..2 * EACH).for_each(|_| ready.wait());
    (0..2 * EACH).for_each(|_| start.open());
    producers.into_iter().chain(consumers).for_each(Child::join);
    let [sent, sent_sum, received, received_sum] =
        [0, 1, 2, 3].map(|at| words[at].load(Ordering::SeqCst));
    assert_eq!(sent, (EACH as u64 * count) as i64);
    assert_eq!((received, received_sum), (sent, sent_sum));
    assert_nothing_left("after the crowd");
    Outcome::Pass(format!("{sent} messages in {:?}", began.elapsed()))
}

/// Numbers that one producer may use.
const NUMBERS: usize = 1 << 20;
const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;

/// What all processes of the case share.
#[derive(Clone, Copy)]
struct Log {
    /// How long a message is, by a random number.
    length: fn(usize) -> usize,
    /// By producer and number: receipts.
    receipts: &'static [AtomicI64],
    /// By producer: the last number that it began to send.
    begun: &'static [AtomicI64],
    /// By producer and number: 1 if its sending was told of.
    told: &'static [AtomicI64],
    stop: &'static AtomicI64,
}

impl Log {
    fn produce(self, me: usize, options: &Options) {
        let opened = Producer::open_or_create(name(), options).expect("a producer");
        let mut producer = opened.follow(true);
        // The last that was begun may have been sent: no number is used twice.
        let mut number = self.begun[me].load(Ordering::SeqCst) as usize + 1;
        let mut state = number as u64 | 1;
        while self.stop.load(Ordering::SeqCst) == 0 && number < NUMBERS {
            let length = (self.length)(random(&mut state) as usize);
            let message = message((me * NUMBERS + number) as u64, length);
            self.begun[me].store(number as i64, Ordering::SeqCst);
            match random(&mut state) % 4 {
                0 => {
                    let loan = producer.loan(message.len(), Patience::FOREVER);
                    let mut loan = loan.expect("loan");
                    loan.copy_in(0, &message).expect("inside");
                    loan.publish();
                }
                _ => producer.send(&message).expect("send"),
            }
            self.told[me * NUMBERS + number].store(1, Ordering::SeqCst);
            number += 1;
        }
    }

    fn see(self, bytes: &[u8], redelivered: bool) {
        let number = check(bytes).expect("whole") as usize;
        let receipt = if redelivered { MARKED } else { 1 };
        self.receipts[number].fetch_add(receipt, Ordering::SeqCst);
    }

    /// Receives; the receipt is written down before the message is finished.
    fn consume(self, options: &Options, follow: bool) {
        let opened = Consumer::open_or_create(name(), options).expect("a consumer");
        let mut consumer = opened.follow(follow);
        let mut bytes = vec![];
        let mut state = 1;
        while self.stop.load(Ordering::SeqCst) == 0 || !follow {
            let most = random(&mut state) as usize % 3 + 1;
            let patience = Patience::from(Duration::from_millis(100));
            let got = consumer.recv_batch(most, patience, |message| {
                bytes.clear();
                message.append_to(&mut bytes);
                self.see(&bytes, message.redelivered());
            });
            match got {
                Ok(_) => {}
                Err(RecvError::Closed | RecvError::ProducerDied) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn random_kills(kills: usize, capacity: usize, length: fn(usize) -> usize) -> Outcome {
    let options = Options {
        capacity,
        producers: 3,
        consumers: 3,
        ..Options::default()
    };
    let log = Log {
        length,
        receipts: shared_words(PRODUCERS * NUMBERS),
        told: shared_words(PRODUCERS * NUMBERS),
        begun: shared_words(PRODUCERS),
        stop: &shared_words(1)[0],
    };
    let spawn = |who: usize| {
        child(|| match who.checked_sub(PRODUCERS) {
            None => log.produce(who, &options),
            Some(_) => log.consume(&options, true),
        })
    };
    let began = Instant::now();
    // Somebody stays, so that the queue does.
    let stays = Producer::open_or_create(name(), &options).expect("a producer");
    let mut children = killed_at_random(kills, PRODUCERS + CONSUMERS, spawn);
    log.stop.store(1, Ordering::SeqCst);
    // Producers may wait for room, so somebody must go on consuming: this process, at the end.
    children.drain(PRODUCERS..).for_each(Child::join);
    let rest = child(|| log.consume(&options, false));
    children.into_iter().for_each(Child::join);
    drop(stays);
    rest.join();
    // That child had the attach of the producer that stayed as well: somebody else is the last.
    drop(Consumer::open_or_create(name(), &options).expect("a consumer"));
    let (told, again) = accounted_for(log.receipts, log.told);
    let orphans = left().orphans.len();
    assert_nothing_left("after the kills");
    Outcome::Pass(format!(
        "{kills} kills, {told} messages, {again} receipts marked, {orphans} presence orphans, {:?}",
        began.elapsed()
    ))
}
