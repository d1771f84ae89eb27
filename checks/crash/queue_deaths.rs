//! Those who wait for somebody learn of its death by `SIGKILL` in time.

use crate::crowd::random;
use checks::message::{check, message};
use checks::process::{BOUND, Child, Gate, child, is_asleep, shared_words, task_state, wait_until};
use checks::space::{Prompt, assert_nothing_left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tombolo::queue::{Consumer, Options, Producer, RecvError, SendError};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case(
        "queue::sleeping_consumer_hears_of_the_producer",
        producer_dies,
    ),
    case(
        "queue::sleeping_producer_hears_of_the_consumer",
        consumer_dies,
    ),
    case("queue::sleeping_consumer_takes_over", taker_dies),
    case("queue::who_is_woken_dies", woken_dies),
    case("queue::who_sleeps_is_stopped", sleeper_is_stopped),
    case("queue::forked_handles_are_refused", forked),
];

fn name() -> Name {
    Name::mine("death-queue").expect("a name")
}

fn options() -> Options {
    Options {
        capacity: 1024,
        ..Options::default()
    }
}

fn producer() -> Producer {
    Producer::open_or_create(name(), &options()).expect("a producer")
}

fn consumer() -> Consumer {
    Consumer::open_or_create(name(), &options()).expect("a consumer")
}

fn rounds(mut round: impl FnMut(&mut Prompt)) -> Outcome {
    let mut prompt = Prompt::default();
    let start = Instant::now();
    for _ in 0..quick_or_long(20, 500) {
        round(&mut prompt);
        assert_nothing_left("after a round");
    }
    Outcome::Pass(format!("{prompt:?}, {:?}", start.elapsed()))
}

/// Kills `victim` when `sleeper` sleeps, and times how long the sleeper takes to come through.
fn kill_over(sleeper: Child, victim: Child, prompt: &mut Prompt) {
    wait_until(BOUND, || is_asleep(sleeper.pid()));
    victim.kill();
    prompt.time("noticing a death", || sleeper.join());
}

fn producer_dies() -> Outcome {
    rounds(|prompt| {
        let ready = Gate::new();
        let victim = child(|| {
            let mut producer = producer();
            producer.send(&message(1, 30)).expect("send");
            ready.open();
            Gate::new().wait();
        });
        ready.wait();
        let mut reader = consumer();
        let mut bytes = vec![];
        reader.recv(&mut bytes).expect("recv");
        drop(reader);
        let sleeper = child(|| {
            let mut consumer = consumer();
            ready.open();
            let end = consumer.recv(&mut vec![]);
            assert_eq!(end, Err(RecvError::ProducerDied));
        });
        ready.wait();
        kill_over(sleeper, victim, prompt);
        drop(consumer());
    })
}

fn consumer_dies() -> Outcome {
    rounds(|prompt| {
        let ready = Gate::new();
        let victim = child(|| {
            let _consumer = consumer();
            ready.open();
            Gate::new().wait();
        });
        ready.wait();
        let sleeper = child(|| {
            let mut producer = producer();
            while producer.try_send(&message(1, 100)).is_ok() {}
            ready.open();
            let end = producer.send(&message(1, 100));
            assert_eq!(end, Err(SendError::NoConsumers));
        });
        ready.wait();
        kill_over(sleeper, victim, prompt);
        let mut last = consumer();
        while let Ok(Some(_)) = last.try_recv(&mut vec![]) {}
    })
}

fn taker_dies() -> Outcome {
    rounds(|prompt| {
        let ready = Gate::new();
        let mut producer = producer();
        producer.send(&message(1, 100)).expect("send");
        producer.send(&message(2, 100)).expect("send");
        let victim = child(|| {
            let mut consumer = consumer();
            let delivery = consumer.receive(Patience::FOREVER).expect("receive");
            ready.open();
            Gate::new().wait();
            drop(delivery);
        });
        ready.wait();
        let taken = Gate::new();
        let sleeper = child(|| {
            let mut consumer = consumer();
            let mut bytes = vec![];
            ready.open();
            for (number, again) in [(1, true), (2, false)] {
                let got = consumer.recv(&mut bytes);
                taken.open();
                let got = got.expect("recv");
                assert_eq!((check(&bytes), got.redelivered), (Ok(number), again));
            }
        });
        ready.wait();
        wait_until(BOUND, || is_asleep(sleeper.pid()));
        prompt.time("taking over", || {
            victim.kill();
            taken.wait();
        });
        // Not timed: who leaves soon after a death waits for the dead one's attaches to go.
        sleeper.join();
    })
}

/// A consumer that receives one message, tells that it did, and ends.
fn receives(done: &AtomicI64) -> Child {
    let child = child(|| {
        let mut consumer = consumer();
        let mut bytes = vec![];
        consumer.recv(&mut bytes).expect("recv");
        assert_eq!(check(&bytes), Ok(1));
        done.store(1, Ordering::SeqCst);
    });
    child.wait_asleep();
    child
}

/// A message wakes one of two that sleep, which is killed at once: the other gets it, or if that one had it
/// already, the next.
fn woken_dies() -> Outcome {
    let mut state = 1;
    rounds(|prompt| {
        let mut producer = producer();
        let done = &shared_words(2);
        let victim = receives(&done[0]);
        let sleeper = receives(&done[1]);
        let delay = Duration::from_nanos(random(&mut state) % 60_000);
        producer.send(&message(1, 30)).expect("send");
        let start = Instant::now();
        while start.elapsed() < delay {}
        victim.kill();
        // Nobody may be left.
        let _ = producer.send(&message(1, 30));
        prompt.time("the other's receipt", || sleeper.join());
        // What both have got.
        while let Ok(Some(_)) = consumer().try_recv(&mut vec![]) {}
    })
}

/// One of two that sleep is stopped: the message wakes the other.
fn sleeper_is_stopped() -> Outcome {
    rounds(|prompt| {
        let mut producer = producer();
        let done = &shared_words(2);
        let stopped = receives(&done[0]);
        let sleeper = receives(&done[1]);
        stopped.signal(libc::SIGSTOP);
        wait_until(BOUND, || task_state(stopped.pid()) == Some('T'));
        producer.send(&message(1, 30)).expect("send");
        prompt.time("the other's receipt", || sleeper.join());
        assert_eq!(done[0].load(Ordering::SeqCst), 0);
        stopped.kill();
    })
}

/// A child that has the handles by a fork, and a message in hand, can do nothing with them and
/// does no harm by letting them go.
fn forked() -> Outcome {
    let (mut producer, mut consumer) = (producer(), consumer());
    producer.send(&message(1, 30)).expect("send");
    producer.send(&message(2, 30)).expect("send");
    let delivery = consumer
        .receive(Patience::none())
        .expect("receive")
        .expect("a message");
    // Still in hand when the child lets the consumer go.
    std::mem::forget(delivery);
    let mut handles = Some((producer, consumer));
    let inherits = child(|| {
        let (mut producer, mut consumer) = handles.take().expect("inherited");
        assert_eq!(producer.send(b""), Err(SendError::Forked));
        assert_eq!(consumer.recv(&mut vec![]), Err(RecvError::Forked));
        drop((producer, consumer));
        let mut own = self::producer();
        own.send(&message(3, 30)).expect("send");
    });
    inherits.join();
    let (mut producer, mut consumer) = handles.expect("the child took its own");
    let mut bytes = vec![];
    for number in [2, 3] {
        assert!(!consumer.recv(&mut bytes).expect("recv").redelivered);
        assert_eq!(check(&bytes), Ok(number));
    }
    assert_eq!(
        consumer.try_recv(&mut bytes),
        Ok(None),
        "the parent's producer is still there"
    );
    producer
        .send(&message(4, 30))
        .expect("the parent's consumer is still there");
    consumer.recv(&mut bytes).expect("recv");
    drop((producer, consumer));
    assert_nothing_left("after the fork");
    Outcome::Pass("refused".into())
}
