//! A process that writes all over a topic's segment while others publish, subscribe and open.

use crate::scribble::{Random, segments};
use crate::victim::{CREATOR, SLACK, Tally, WAIT, wipe};
use checks::process::{child, shared_words};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::header::{ENDED, READY};
use shmem::presence;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tombolo::topic::{self, Options, Policy, Publisher, Start, Subscriber};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("topic::words", || scribble(1, false, Policy::Overrun)),
    case("topic::words_waited", || {
        scribble(2, false, Policy::WaitForSlowest)
    }),
    case("topic::control", || scribble(3, true, Policy::Overrun)),
    case("topic::control_waited", || {
        scribble(4, true, Policy::WaitForSlowest)
    }),
];

pub fn name() -> Name {
    Name::mine("hostile-topic").expect("a name")
}

pub fn options(policy: Policy) -> Options {
    Options {
        capacity: 1024,
        publishers: 2,
        subscribers: 2,
        policy,
        ..Options::default()
    }
}

/// Writes until it is killed: random words anywhere, or words that mean something; now and then
/// everything as it was, so that the victims find a channel again.
pub fn scribbler(seed: u64, control: bool, whole: &[u8], living: u64) -> ! {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let published = 1 << 63;
    loop {
        let regions = segments();
        for _ in 0..2000 {
            let Some(region) = regions.get(random.below(regions.len().max(1))) else {
                break;
            };
            // Not the state word: opening would wait ten seconds for a creator that lives.
            let at = (8 + random.below(region.len() - 16)) & !7;
            let words = [
                0,
                1,
                READY,
                ENDED,
                living,
                u64::MAX,
                1 << 62,
                published | random.below(2000) as u64,
                random.below(8192) as u64 & !63 | 1,
                random.below(8192) as u64 & !63,
            ];
            let word = if control {
                words[random.below(words.len())]
            } else {
                random.next()
            };
            // Errors say that a segment is shorter than another, which is no matter.
            let _ = region.copy_in(at, &word.to_ne_bytes());
            if random.below(16) == 0 {
                let length = whole.len().min(region.len());
                let _ = region.copy_in(0, &whole[..length]);
            }
        }
        // The victims get their turn, on one processor too.
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Uses a publisher in every way that ends by itself.
pub fn publish(publisher: &mut Publisher, tally: &mut Tally) {
    let longest = publisher.longest();
    for length in [0, 1, 100, longest, longest + 1] {
        let message = vec![7; length];
        tally.run(SLACK, || publisher.try_publish(&message));
        tally.run(WAIT + SLACK, || publisher.publish_timeout(&message, WAIT));
    }
    if let Some(mut loan) = tally.run(WAIT + SLACK, || publisher.loan(99, WAIT.into())) {
        loan.copy_in(50, &[1; 49]).expect("inside");
        loan.publish();
    }
}

/// Uses a subscriber in every way that ends by itself.
pub fn receive(subscriber: &mut Subscriber, tally: &mut Tally) {
    // No message is longer than the segment, whatever the shape says that was opened.
    let fits = |length: usize| assert!(length <= 8192, "{length}");
    let mut bytes = vec![];
    for _ in 0..4 {
        tally.run(SLACK, || subscriber.try_recv(&mut bytes));
        fits(bytes.len());
        tally.run(WAIT + SLACK, || subscriber.recv_timeout(&mut bytes, WAIT));
        fits(bytes.len());
    }
    tally.run(WAIT + SLACK, || {
        subscriber.recv_batch(20, Patience::from(WAIT), |bytes, _| fits(bytes.len()))
    });
    let delivery = tally.run(WAIT + SLACK, || subscriber.receive(Patience::from(WAIT)));
    if let Some(Some(mut delivery)) = delivery {
        let mut bytes = vec![];
        delivery.append_to(&mut bytes);
        fits(bytes.len());
        // Spoilt or not.
        let _ = delivery.check();
    }
}

pub fn open_and_use(policy: Policy, tally: &mut Tally) {
    for start in [Start::Now, Start::Last(3), Start::Oldest] {
        let opened = tally.run(CREATOR + SLACK, || {
            Subscriber::open_or_create(name(), &options(policy), start)
        });
        if let Some(mut subscriber) = opened {
            receive(&mut subscriber, tally);
        }
    }
    let opened = tally.run(CREATOR + SLACK, || {
        Publisher::open_or_create(name(), &options(policy))
    });
    if let Some(mut publisher) = opened {
        publish(&mut publisher, tally);
    }
}

fn scribble(seed: u64, control: bool, policy: Policy) -> Outcome {
    let living = presence::mine().expect("presence").word();
    let long = quick_or_long(Duration::from_secs(4), Duration::from_secs(600));
    let end = Instant::now() + long;
    let counts = shared_words(2);
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        let mut publisher =
            Publisher::open_or_create(name(), &options(policy)).expect("a publisher");
        let mut subscriber = Subscriber::open(name(), Start::Now).expect("a subscriber");
        publisher.publish(&[7; 100]).expect("publish");
        let whole = {
            let region = shmem::Region::attach(publisher.id()).expect("attach");
            let mut whole = vec![0; region.len()];
            region.copy_out(0, &mut whole).expect("all");
            whole
        };
        let scribbler = child(|| scribbler(seed * 1000 + rounds, control, &whole, living));
        let victims: Vec<_> = (0..3)
            .map(|i| {
                child(|| {
                    let mut tally = Tally::default();
                    let turn = Instant::now();
                    // Handles of their own: those of the parent are refused here.
                    let mut mine = Subscriber::open(name(), Start::Oldest).ok();
                    let mut ours = Publisher::open(name()).ok();
                    while turn.elapsed() < Duration::from_millis(700) {
                        match (i, &mut mine, &mut ours) {
                            (0, Some(subscriber), _) => receive(subscriber, &mut tally),
                            (1, _, Some(publisher)) => publish(publisher, &mut tally),
                            _ => open_and_use(policy, &mut tally),
                        }
                    }
                    counts[0].fetch_add(tally.done as i64, Ordering::SeqCst);
                    counts[1].fetch_add(tally.refused as i64, Ordering::SeqCst);
                })
            })
            .collect();
        let mut tally = Tally::default();
        let turn = Instant::now();
        while turn.elapsed() < Duration::from_millis(500) {
            publish(&mut publisher, &mut tally);
            receive(&mut subscriber, &mut tally);
        }
        for victim in victims {
            let status = victim.join_status();
            assert!(
                status.success(),
                "round {rounds}: a victim ended with {status}"
            );
        }
        scribbler.kill();
        drop((publisher, subscriber));
        let _ = topic::remove(name());
        wipe();
    }
    let [done, refused] = [0, 1].map(|i| counts[i].load(Ordering::SeqCst));
    assert!(done > 100, "the victims did something: {done}, {refused}");
    Outcome::Pass(format!(
        "{rounds} rounds in {long:?}: {done} operations came through, {refused} were refused"
    ))
}
