//! Waits that are given up while messages flow: nothing is lost, nothing comes twice.
//!
//! However busy the machine is, some waits are given up: the other side stops before each
//! [`STRETCH`] of messages until one was.

use crate::stage::{consumer, on_tokio, producer};
use checks::message::{check, message};
use checks::process::{Gate, child};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::time::Duration;
use tombolo::queue::RecvError;

pub const CASES: &[Case] = &[
    case("cancelling::receipts", receipts),
    case("cancelling::sends", sends),
    case("cancelling::dropped_handles", dropped),
];

/// Messages between two stops.
const STRETCH: u64 = 100;

/// A sequence of small numbers that looks like chance.
fn chance(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Gives way a few times, or waits for some microseconds.
async fn a_moment(state: &mut u64) {
    match chance(state) % 8 {
        0 => tokio::time::sleep(Duration::from_micros(chance(state) % 300)).await,
        times => {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn receipts() -> Outcome {
    let count = quick_or_long(20_000u64, 1_000_000);
    let given_one_up = Gate::new();
    let sender = child(|| {
        let mut producer = producer(0);
        let mut state = 88_172_645_463_325_252;
        for number in 0..count {
            if number.is_multiple_of(STRETCH) {
                given_one_up.wait();
            }
            producer.send(&message(number, 30)).expect("send");
            if chance(&mut state).is_multiple_of(16) {
                // So that the receiver has to wait now and then.
                std::thread::sleep(Duration::from_micros(chance(&mut state) % 100));
            }
        }
    });
    let mut consumer = consumer(0).into_async();
    let given_up = on_tokio(async {
        let (mut expected, mut given_up, mut stops) = (0u64, 0u64, 0u64);
        let mut state = 11;
        let mut bytes = vec![];
        loop {
            let received = tokio::select! {
                biased;
                received = consumer.recv(&mut bytes) => received,
                () = a_moment(&mut state) => {
                    given_up += 1;
                    if expected == stops * STRETCH {
                        stops += 1;
                        given_one_up.open();
                    }
                    continue;
                }
            };
            match received {
                Ok(_) => assert_eq!(check(&bytes), Ok(expected)),
                Err(end) => {
                    assert_eq!((end, expected), (RecvError::Closed, count));
                    break;
                }
            }
            expected += 1;
        }
        given_up
    });
    sender.join();
    drop(consumer);
    assert_nothing_left("at the end");
    assert!(
        given_up >= count / STRETCH,
        "only {given_up} waits were given up"
    );
    Outcome::Pass(format!("{count} messages, {given_up} waits given up"))
}

fn sends() -> Outcome {
    let count = quick_or_long(5_000u64, 500_000);
    let given_one_up = Gate::new();
    let receiver = child(|| {
        let mut consumer = consumer(0);
        let mut bytes = vec![];
        for number in 0..count {
            if number.is_multiple_of(STRETCH) {
                given_one_up.wait();
            }
            consumer.recv(&mut bytes).expect("recv");
            assert_eq!(check(&bytes), Ok(number));
        }
        assert_eq!(consumer.recv(&mut bytes), Err(RecvError::Closed));
    });
    let mut producer = producer(0).into_async();
    let given_up = on_tokio(async {
        let (mut given_up, mut stops) = (0u64, 0u64);
        let mut state = 12;
        for number in 0..count {
            let bytes = message(number, 1000);
            loop {
                tokio::select! {
                    biased;
                    sent = producer.send(&bytes) => break sent.expect("send"),
                    () = a_moment(&mut state) => {
                        given_up += 1;
                        // The lane is full behind the message where the receiver stops.
                        if number > stops * STRETCH {
                            stops += 1;
                            given_one_up.open();
                        }
                    }
                }
            }
        }
        given_up
    });
    drop(producer);
    receiver.join();
    assert_nothing_left("at the end");
    assert!(
        given_up >= count / STRETCH,
        "only {given_up} waits were given up"
    );
    Outcome::Pass(format!("{count} messages, {given_up} waits given up"))
}

/// A handle that goes while its task waits takes everything with it: the segment, too.
fn dropped() -> Outcome {
    let rounds = quick_or_long(300, 10_000);
    on_tokio(async {
        for round in 0..rounds {
            let keeper = producer(round % 3);
            let mut consumer = consumer(round % 3).into_async();
            let task = tokio::spawn(async move {
                let mut bytes = vec![];
                consumer.recv(&mut bytes).await
            });
            tokio::task::yield_now().await;
            task.abort();
            assert!(task.await.expect_err("it was given up").is_cancelled());
            drop(keeper);
            assert_nothing_left("after a round");
        }
    });
    Outcome::Pass(format!("{rounds} rounds"))
}
