//! Producers that are killed while their long message is copied out as it comes: what one began never goes
//! before what its successor writes at the same place. Who copies it out does not wait long, so it is stopped
//! until the successor has written.

use crate::crowd::{accounted_for, random};
use checks::message::{check, message};
use checks::process::{child, shared_words};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use tombolo::Name;
use tombolo::queue::{Consumer, Options, Producer};

pub const CASES: &[Case] = &[case("queue::killed_while_it_is_followed", followed)];

/// All of one length: nothing else tells them apart.
const LENGTH: usize = 500_000;
/// More than are ever sent.
const NUMBERS: usize = 1 << 20;

fn name() -> Name {
    Name::mine("coming-queue").expect("a name")
}

fn followed() -> Outcome {
    let kills = quick_or_long(400, 20_000);
    let options = Options {
        capacity: 4 << 20,
        ..Options::default()
    };
    let (receipts, told) = (shared_words(NUMBERS), shared_words(NUMBERS));
    let [next, count, stop] = shared_words(3) else {
        unreachable!("three words")
    };
    let start = Instant::now();
    let consumer = child(|| {
        let mut consumer = Consumer::open_or_create(name(), &options).expect("a consumer");
        let mut bytes = Vec::with_capacity(LENGTH);
        loop {
            let over = stop.load(Ordering::SeqCst) == 1;
            match consumer.recv_timeout(&mut bytes, Duration::from_millis(100)) {
                Ok(Some(_)) => {
                    let number = check(&bytes).expect("whole") as usize;
                    assert_eq!(bytes.len(), LENGTH, "{number}");
                    receipts[number].fetch_add(1, Ordering::SeqCst);
                }
                // A producer that dies is no end while another comes.
                _ if over => break,
                _ => {}
            }
        }
    });
    let spawn = || {
        child(|| {
            let producer = Producer::open_or_create(name(), &options).expect("a producer");
            let mut producer = producer.follow(true);
            while stop.load(Ordering::SeqCst) == 0 {
                let number = next.fetch_add(1, Ordering::SeqCst);
                assert!((number as usize) < NUMBERS);
                let message = message(number as u64, LENGTH);
                producer.send(&message).expect("send");
                told[number as usize].store(1, Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let mut state = 7;
    let mut producer = spawn();
    for _ in 0..kills {
        thread::sleep(Duration::from_micros(random(&mut state) % 3000));
        consumer.signal(libc::SIGSTOP);
        producer.kill();
        let before = count.load(Ordering::SeqCst);
        producer = spawn();
        // Or there is no room for it.
        let until = Instant::now() + Duration::from_millis(20);
        while count.load(Ordering::SeqCst) == before && Instant::now() < until {
            thread::sleep(Duration::from_micros(50));
        }
        consumer.signal(libc::SIGCONT);
    }
    stop.store(1, Ordering::SeqCst);
    producer.join();
    consumer.join();
    let (sent, _) = accounted_for(receipts, told);
    assert_nothing_left("after the kills");
    Outcome::Pass(format!(
        "{kills} kills, {sent} messages, {:?}",
        start.elapsed()
    ))
}
