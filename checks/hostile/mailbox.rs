//! A process that writes all over a mailbox's segment while others post and take.

use crate::service::{Way, scribbler};
use crate::victim::{SLACK, Tally, WAIT, wipe};
use checks::process::{child, shared_words};
use checks::suite::{Case, Outcome, case, quick_or_long};
use shmem::{Region, presence};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tombolo::mailbox::{Options, Poster, TakeError, Taker, Wanted};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("mailbox::scribble_bytes", || scribble(1, Way::Bytes)),
    case("mailbox::scribble_words", || scribble(2, Way::Words)),
    case("mailbox::scribble_control", || scribble(3, Way::Control)),
];

/// Longest message.
const LONGEST: usize = 6000;
/// A process that is said to have the lock, and lives, is waited for so long by who would not wait.
pub const GRACE: Duration = Duration::from_secs(2);

pub fn name() -> Name {
    Name::mine("hostile-mailbox").expect("a name")
}

pub fn options() -> Options {
    Options {
        capacity: LONGEST,
        messages: 8,
        members: 4,
        ..Options::default()
    }
}

pub fn post(poster: &mut Poster, tally: &mut Tally) {
    for (kind, length) in [(3, 0), (1, 20), (3, 5000), (i64::MAX as u64, 64)] {
        let message = vec![7; length];
        tally.run(WAIT + SLACK, || poster.post_timeout(kind, &message, WAIT));
        tally.run(2 * GRACE + WAIT + SLACK, || {
            let mut loan = poster.loan(kind, length, Patience::from(WAIT))?;
            loan.copy_in(0, &message).expect("as long as it was lent");
            loan.post()
        });
    }
}

pub fn take(taker: &mut Taker, tally: &mut Tally) {
    let mut bytes = vec![];
    let all = [
        Wanted::Any,
        Wanted::Type(3),
        Wanted::UpTo(2),
        Wanted::Except(1),
    ];
    for wanted in all {
        // Long ones are finished with the lock taken again.
        tally.run(GRACE + WAIT + SLACK, || {
            taker.take_timeout(wanted, &mut bytes, WAIT)
        });
        tally.run(WAIT + SLACK, || {
            taker.peek(wanted, Patience::from(WAIT), &mut bytes)
        });
        tally.run(GRACE + SLACK, || taker.peek_at(1, &mut bytes));
        tally.run(2 * GRACE + WAIT + SLACK, || {
            if let Some(delivery) = taker.receive(wanted, Patience::from(WAIT))? {
                bytes.clear();
                delivery.append_to(&mut bytes);
                assert_eq!(bytes.len(), delivery.len());
                delivery.put_back();
            }
            Ok::<(), TakeError>(())
        });
    }
}

fn scribble(seed: u64, way: Way) -> Outcome {
    let living = presence::mine().expect("presence").word();
    let long = quick_or_long(Duration::from_secs(5), Duration::from_secs(600));
    let end = Instant::now() + long;
    let counts = shared_words(2);
    let mut rounds = 0;
    while Instant::now() < end {
        rounds += 1;
        let keeps = Poster::open_or_create(name(), &options()).expect("open");
        let whole = {
            let region = Region::attach(keeps.id()).expect("attach");
            let mut whole = vec![0; region.len()];
            region.copy_out(0, &mut whole).expect("all");
            whole
        };
        let victims: Vec<_> = (0..2)
            .map(|i| {
                child(|| {
                    let mut tally = Tally::default();
                    let turn = Instant::now();
                    while turn.elapsed() < Duration::from_millis(700) {
                        if i == 0 {
                            let opened = tally.run(GRACE + SLACK, || Poster::open(name()));
                            if let Some(mut poster) = opened {
                                post(&mut poster, &mut tally);
                            }
                        } else {
                            let opened = tally.run(GRACE + SLACK, || Taker::open(name()));
                            if let Some(taker) = opened {
                                take(&mut taker.follow(rounds % 2 == 0), &mut tally);
                            }
                        }
                    }
                    counts[0].fetch_add(tally.done as i64, Ordering::SeqCst);
                    counts[1].fetch_add(tally.refused as i64, Ordering::SeqCst);
                })
            })
            .collect();
        let others = [living, living ^ (1 << 40)];
        let scribbler = child(|| scribbler(seed * 1000 + rounds, way, &whole, &others));
        for victim in victims {
            let status = victim.join_status();
            assert!(
                status.success(),
                "round {rounds}: a victim ended with {status}"
            );
        }
        scribbler.kill();
        // Its segment says anything by now.
        drop(keeps);
        wipe();
    }
    let [done, refused] = [0, 1].map(|i| counts[i].load(Ordering::SeqCst));
    assert!(done > 20, "the victims did something: {done}, {refused}");
    Outcome::Pass(format!(
        "{rounds} rounds in {long:?}: {done} operations came through, {refused} were refused"
    ))
}
