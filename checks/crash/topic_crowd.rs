//! Publishers and subscribers of a topic killed at random moments: every message accounted for.

use crate::crowd::{killed_at_random, random};
use checks::message::{check, message};
use checks::process::{Child, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tombolo::Name;
use tombolo::topic::{Options, Policy, Publisher, Start, Subscriber};

pub const CASES: &[Case] = &[
    case("topic::random_kills", || random_kills(Policy::Overrun)),
    case("topic::random_kills_waited", || {
        random_kills(Policy::WaitForSlowest)
    }),
];

const PUBLISHERS: usize = 2;
const SUBSCRIBERS: usize = 2;
/// Values of [`Log::stop`].
const GO_ON: i64 = 0;
const PUBLISHERS_STOP: i64 = 1;
const STOP: i64 = 2;

fn name() -> Name {
    Name::mine("crowd-topic").expect("a name")
}

fn options(policy: Policy) -> Options {
    Options {
        capacity: 4096,
        publishers: PUBLISHERS,
        subscribers: 5,
        policy,
        ..Options::default()
    }
}

/// What all processes of the case share.
#[derive(Clone, Copy)]
struct Log {
    policy: Policy,
    /// How many messages were published, at least, by publishers that lived to tell.
    told: &'static [AtomicI64],
    /// How many messages were begun.
    begun: &'static [AtomicI64],
    /// How many were received and lost by who stayed, and by those who were killed.
    received: &'static [AtomicI64],
    stop: &'static AtomicI64,
}

impl Log {
    fn publish(self, me: usize) {
        let mut publisher =
            Publisher::open_or_create(name(), &options(self.policy)).expect("a publisher");
        let mut state = self.begun[me].load(Ordering::SeqCst) as u64 | 1;
        while self.stop.load(Ordering::SeqCst) == GO_ON {
            let number = self.begun[me].fetch_add(1, Ordering::SeqCst) + 1;
            let message = message(number as u64, random(&mut state) as usize % 400);
            match random(&mut state) % 4 {
                0 => {
                    let loan = publisher.loan(message.len(), tombolo::Patience::FOREVER);
                    let mut loan = loan.expect("loan");
                    loan.copy_in(0, &message).expect("inside");
                    loan.publish();
                }
                _ => publisher.publish(&message).expect("publish"),
            }
            self.told[me].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Receives until it is told to stop and nothing is left; answers how many it got or lost.
    fn subscribe(self, mut subscriber: Subscriber, at: usize) -> u64 {
        let mut bytes = vec![];
        let mut expected = [None; PUBLISHERS];
        let mut count = 0;
        loop {
            // Before the look: what is published later is not expected.
            let stop = self.stop.load(Ordering::SeqCst) == STOP;
            let patience = Duration::from_millis(100);
            match subscriber.recv_timeout(&mut bytes, patience) {
                Ok(Some(received)) => {
                    check(&bytes).expect("whole");
                    let next = &mut expected[received.lane];
                    if let Some(next) = *next {
                        assert_eq!(received.number, next + received.lost, "exact");
                    }
                    assert!(received.lost == 0 || self.policy == Policy::Overrun);
                    *next = Some(received.number + 1);
                    count += 1 + received.lost;
                    self.received[at].fetch_add(1, Ordering::Relaxed);
                    self.received[2].fetch_add(received.lost as i64, Ordering::Relaxed);
                }
                Ok(None) if stop => return count,
                Ok(None) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn random_kills(policy: Policy) -> Outcome {
    let kills = quick_or_long(300, 15_000);
    let log = Log {
        policy,
        told: shared_words(PUBLISHERS),
        begun: shared_words(PUBLISHERS),
        received: shared_words(3),
        stop: &shared_words(1)[0],
    };
    let began = Instant::now();
    // Comes first and stays until the end: it gets, or is told that it lost, every message.
    let ready = checks::process::Gate::new();
    let total = &shared_words(1)[0];
    let witness = child(|| {
        let opened = Subscriber::open_or_create(name(), &options(policy), Start::Oldest);
        let subscriber = opened.expect("a subscriber").follow(true);
        ready.open();
        let count = log.subscribe(subscriber, 0);
        total.store(count as i64, Ordering::SeqCst);
    });
    ready.wait();
    let spawn = |who: usize| {
        child(|| match who.checked_sub(PUBLISHERS) {
            None => log.publish(who),
            Some(me) => {
                let start = [Start::Now, Start::Oldest][me % 2];
                let opened = Subscriber::open_or_create(name(), &options(policy), start);
                log.subscribe(opened.expect("a subscriber").follow(true), 1);
            }
        })
    };
    let mut children = killed_at_random(kills, PUBLISHERS + SUBSCRIBERS, spawn);
    // Publishers may wait for subscribers, so those go on until no publisher is left.
    log.stop.store(PUBLISHERS_STOP, Ordering::SeqCst);
    let subscribers = children.split_off(PUBLISHERS);
    children.into_iter().for_each(Child::join);
    log.stop.store(STOP, Ordering::SeqCst);
    subscribers.into_iter().for_each(Child::join);
    witness.join();
    let sum = |words: &[AtomicI64]| -> i64 { words.iter().map(|w| w.load(Ordering::SeqCst)).sum() };
    let (told, begun) = (sum(log.told), sum(log.begun));
    let total = total.load(Ordering::SeqCst);
    // A publisher that is killed may have published what it did not tell.
    assert!(
        (told..=begun).contains(&total),
        "{total} received or told lost, of {told} to {begun} published"
    );
    let [received, by_others, lost] = [0, 1, 2].map(|at| log.received[at].load(Ordering::SeqCst));
    let orphans = left().orphans.len();
    assert_nothing_left("after the kills");
    Outcome::Pass(format!(
        "{kills} kills, {told} messages, {received} and {by_others} received, {lost} told lost, \
         {orphans} presence orphans, {:?}",
        began.elapsed()
    ))
}
