//! A process that writes all over a queue's segment while others send, receive and open.

use crate::topic::scribbler;
use crate::victim::{CREATOR, SLACK, Tally, WAIT, wipe};
use checks::process::{child, shared_words};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::{Region, Waiting, presence};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tombolo::queue::{Consumer, Message, Options, Producer, RecvError};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("queue::scribble_words", || scribble(1, false, true)),
    case("queue::scribble_control", || scribble(2, true, true)),
    case("queue::scribble_alone", || scribble(3, true, false)),
];

/// Bytes of a lane's ring.
const CAPACITY: usize = 1024;
/// No message is longer than the segment, whatever the shape says that was opened.
const SEGMENT: usize = 8192;

pub fn name() -> Name {
    Name::mine("hostile-queue").expect("a name")
}

pub fn options() -> Options {
    Options {
        capacity: CAPACITY,
        producers: 3,
        consumers: 3,
        ..Options::default()
    }
}

/// Uses a producer in every way that ends by itself.
pub fn send(producer: &mut Producer, tally: &mut Tally) {
    let longest = producer.longest();
    for length in [0, 1, 100, longest, longest + 1] {
        let message = vec![7; length];
        tally.run(SLACK, || producer.try_send(&message));
        tally.run(WAIT + SLACK, || producer.send_timeout(&message, WAIT));
    }
    if let Some(mut loan) = tally.run(WAIT + SLACK, || producer.loan(99, WAIT.into())) {
        loan.copy_in(50, &[1; 49]).expect("inside");
        loan.publish();
    }
    // Dropped: nothing has happened.
    tally.run(WAIT + SLACK, || producer.loan(300, WAIT.into()).map(drop));
}

/// Uses a consumer in every way that ends by itself.
pub fn receive(consumer: &mut Consumer, tally: &mut Tally) {
    let fits = |message: Message<'_>| {
        assert!(message.len() <= SEGMENT, "{}", message.len());
        let mut bytes = vec![0; message.len()];
        message.copy_out(0, &mut bytes).expect("all of it");
        message.redelivered();
    };
    let mut bytes = vec![];
    // More than a quota, so that lanes are kept and gone into without a look at the others.
    for _ in 0..80 {
        tally.run(SLACK, || consumer.try_recv(&mut bytes));
        assert!(bytes.len() <= SEGMENT, "{}", bytes.len());
    }
    tally.run(WAIT + SLACK, || consumer.recv_timeout(&mut bytes, WAIT));
    tally.run(WAIT + SLACK, || {
        consumer.recv_batch(20, Patience::from(WAIT), fits)
    });
    for forgets in [false, true] {
        tally.run(WAIT + SLACK, || {
            let delivery = consumer.receive(Patience::from(WAIT))?;
            if let Some(delivery) = delivery {
                fits(delivery.message());
                std::thread::yield_now();
                fits(delivery.message());
                if forgets {
                    std::mem::forget(delivery);
                }
            }
            Ok::<_, RecvError>(())
        });
    }
}

/// Opens the channel, and uses it.
pub fn open_and_use(tally: &mut Tally) {
    let opened = tally.run(CREATOR + SLACK, || {
        Producer::open_or_create(name(), &options())
    });
    if let Some(mut producer) = opened {
        send(&mut producer, tally);
    }
    if let Some(mut consumer) = tally.run(CREATOR + SLACK, || Consumer::open(name())) {
        receive(&mut consumer, tally);
    }
}

/// Everybody over one queue while one scribbles; `crowded` or each consumer alone.
fn scribble(seed: u64, control: bool, crowded: bool) -> Outcome {
    let living = presence::mine().expect("presence").word();
    let long = quick_or_long(Duration::from_secs(5), Duration::from_secs(600));
    let end = Instant::now() + long;
    let counts = shared_words(2);
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        let mut producer = Producer::open_or_create(name(), &options()).expect("a producer");
        producer.send(&[7; 100]).expect("room");
        let whole = {
            let region = Region::attach(producer.id()).expect("attach");
            let mut whole = vec![0; region.len()];
            region.copy_out(0, &mut whole).expect("all");
            whole
        };
        let victims: Vec<_> = (0..4)
            .filter(|i| crowded || i % 2 == 0)
            .map(|i| {
                child(|| {
                    let mut tally = Tally::default();
                    let turn = Instant::now();
                    let waiting = [Waiting::Adaptive, Waiting::Park][rounds as usize % 2];
                    // Handles of their own: those of the parent are refused here.
                    let consumer = Consumer::open(name()).ok().filter(|_| i < 2);
                    let mut mine = consumer.map(|mine| mine.follow(i == 0).waiting(waiting));
                    let producer = Producer::open(name()).ok().filter(|_| i >= 2);
                    let mut ours = producer.map(|ours| ours.follow(i == 2).waiting(waiting));
                    while turn.elapsed() < Duration::from_millis(700) {
                        match (i, &mut mine, &mut ours) {
                            (0, Some(consumer), _) => receive(consumer, &mut tally),
                            (2, _, Some(producer)) => send(producer, &mut tally),
                            _ => open_and_use(&mut tally),
                        }
                    }
                    counts[0].fetch_add(tally.done as i64, Ordering::SeqCst);
                    counts[1].fetch_add(tally.refused as i64, Ordering::SeqCst);
                })
            })
            .collect();
        let scribbler = child(|| scribbler(seed * 1000 + rounds, control, &whole, living));
        for victim in victims {
            let status = victim.join_status();
            assert!(
                status.success(),
                "round {rounds}: a victim ended with {status}"
            );
        }
        scribbler.kill();
        drop(producer);
        wipe();
    }
    let [done, refused] = [0, 1].map(|i| counts[i].load(Ordering::SeqCst));
    assert!(done > 100, "the victims did something: {done}, {refused}");
    Outcome::Pass(format!(
        "{rounds} rounds in {long:?}: {done} operations came through, {refused} were refused"
    ))
}
