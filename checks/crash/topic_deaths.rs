//! Those who wait for somebody at a topic learn of its death by `SIGKILL` in time.

use checks::message::{check, message};
use checks::process::{BOUND, Child, Gate, child, child_as, is_asleep, wait_until};
use checks::space::{Prompt, assert_nothing_left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::time::Instant;
use sysv::Mode;
use tombolo::topic::{Options, Policy, PublishError, Publisher, RecvError, Start, Subscriber};
use tombolo::{Name, Reason};

pub const CASES: &[Case] = &[
    case(
        "topic::sleeping_subscriber_hears_of_the_publisher",
        publisher_dies,
    ),
    case(
        "topic::who_may_only_read_hears_of_the_publisher",
        publisher_of_a_reader_dies,
    ),
    case(
        "topic::sleeping_publisher_hears_of_the_slowest",
        slowest_dies,
    ),
    case("topic::who_may_only_read_is_not_waited_for", not_waited_for),
    case("topic::forked_handles_are_refused", forked),
];

const NO_USERS: &str = "needs root, to switch to other users";

fn name() -> Name {
    Name::of(0, "death-topic").expect("a name")
}

fn options(policy: Policy) -> Options {
    Options {
        capacity: 1024,
        policy,
        mode: Mode::from_bits_truncate(0o644),
        ..Options::default()
    }
}

fn publisher(policy: Policy) -> Publisher {
    Publisher::open_or_create(name(), &options(policy)).expect("a publisher")
}

fn subscriber(policy: Policy) -> Subscriber {
    Subscriber::open_or_create(name(), &options(policy), Start::Now).expect("a subscriber")
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

/// A publisher that publishes one message when it is told to, and stays.
fn staying(ready: &Gate, go: &Gate) -> Child {
    child(|| {
        let mut publisher = publisher(Policy::Overrun);
        ready.open();
        go.wait();
        publisher.publish(&message(1, 30)).expect("publish");
        Gate::new().wait();
    })
}

fn hears(mut subscriber: Subscriber, ready: &Gate) {
    let mut bytes = vec![];
    ready.open();
    subscriber.recv(&mut bytes).expect("recv");
    assert_eq!(check(&bytes), Ok(1));
    ready.open();
    let end = subscriber.recv(&mut bytes);
    assert_eq!(end, Err(RecvError::PublisherDied));
}

fn publisher_dies() -> Outcome {
    rounds(|prompt| {
        let (ready, go) = (Gate::new(), Gate::new());
        let victim = staying(&ready, &go);
        ready.wait();
        let sleeper = child(|| hears(subscriber(Policy::Overrun), &ready));
        ready.wait();
        go.open();
        ready.wait();
        kill_over(sleeper, victim, prompt);
        drop(subscriber(Policy::Overrun));
    })
}

fn publisher_of_a_reader_dies() -> Outcome {
    if !checks::process::can_switch_users() {
        return Outcome::Skip(NO_USERS.into());
    }
    rounds(|prompt| {
        let (ready, go) = (Gate::new(), Gate::new());
        let victim = staying(&ready, &go);
        ready.wait();
        let sleeper = child_as(2, 2, &[], || {
            let denied = Publisher::open(name()).expect_err("it may not write");
            assert!(matches!(denied.reason(), Reason::Denied(_)), "{denied}");
            hears(
                Subscriber::open(name(), Start::Now).expect("it may read"),
                &ready,
            );
        });
        let sleeper = sleeper.expect("users");
        ready.wait();
        go.open();
        ready.wait();
        kill_over(sleeper, victim, prompt);
        drop(subscriber(Policy::Overrun));
    })
}

fn slowest_dies() -> Outcome {
    rounds(|prompt| {
        let ready = Gate::new();
        let victim = child(|| {
            let _subscriber = subscriber(Policy::WaitForSlowest);
            ready.open();
            Gate::new().wait();
        });
        ready.wait();
        let sleeper = child(|| {
            let mut publisher = publisher(Policy::WaitForSlowest);
            while publisher.try_publish(&message(1, 100)).is_ok() {}
            ready.open();
            for _ in 0..50 {
                publisher.publish(&message(1, 100)).expect("publish");
            }
        });
        ready.wait();
        kill_over(sleeper, victim, prompt);
        // The publisher may have left before the kernel had freed all of the dead one.
        drop(subscriber(Policy::WaitForSlowest));
    })
}

fn not_waited_for() -> Outcome {
    if !checks::process::can_switch_users() {
        return Outcome::Skip(NO_USERS.into());
    }
    let publisher = publisher(Policy::WaitForSlowest);
    let reader = child_as(2, 2, &[], || {
        let denied = Subscriber::open(name(), Start::Now).expect_err("it can't hold anything");
        assert!(matches!(denied.reason(), Reason::Denied(_)), "{denied}");
    });
    reader.expect("users").join();
    drop(publisher);
    assert_nothing_left("after the reader");
    Outcome::Pass("refused".into())
}

/// A child that has the handles by a fork can do nothing with them, and does no harm by letting
/// them go.
fn forked() -> Outcome {
    let policy = Policy::WaitForSlowest;
    let mut handles = Some((publisher(policy), subscriber(policy)));
    let inherits = child(|| {
        let (mut publisher, mut subscriber) = handles.take().expect("inherited");
        assert_eq!(publisher.publish(b""), Err(PublishError::Forked));
        assert_eq!(subscriber.recv(&mut vec![]), Err(RecvError::Forked));
        drop((publisher, subscriber));
        let mut own = self::publisher(policy);
        own.publish(&message(3, 30)).expect("publish");
    });
    inherits.join();
    let (mut publisher, mut subscriber) = handles.expect("the child took its own");
    let mut bytes = vec![];
    subscriber.recv(&mut bytes).expect("recv");
    assert_eq!(check(&bytes), Ok(3));
    let nothing = subscriber.try_recv(&mut bytes);
    assert_eq!(nothing, Ok(None), "the parent's publisher is still there");
    while publisher.try_publish(&message(4, 100)).is_ok() {}
    let first = subscriber.recv(&mut bytes).expect("recv");
    assert_eq!((first.number, first.lost), (0, 0), "it was waited for");
    drop((publisher, subscriber));
    assert_nothing_left("after the fork");
    Outcome::Pass("refused".into())
}
