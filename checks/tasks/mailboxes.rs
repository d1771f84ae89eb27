//! Tasks that post and take.

use crate::stage::{name, on_tokio};
use checks::message::{check, message};
use checks::process::child;
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::time::Duration;
use tombolo::mailbox::{Options, Poster, TakeError, Taker, Wanted};

pub const CASES: &[Case] = &[
    case("mailbox::tasks_take_by_type", by_type),
    case("mailbox::a_task_waits_for_room", full),
    case("mailbox::taking_given_up", given_up),
];

fn poster(options: &Options) -> Poster {
    Poster::open_or_create(name(0), options).expect("a poster")
}

fn taker(options: &Options) -> Taker {
    Taker::open_or_create(name(0), options).expect("a taker")
}

fn by_type() -> Outcome {
    let count = quick_or_long(3_000u64, 100_000);
    let options = Options::default();
    let mut takers: Vec<_> = (0..2).map(|_| taker(&options).into_async()).collect();
    let posts = child(|| {
        let mut poster = poster(&options);
        for number in 0..count {
            let posted = poster.post(1 + number % 2, &message(number, 40));
            posted.expect("room");
        }
    });
    on_tokio(async {
        let mut reply = vec![];
        for number in 0..count {
            let kind = 1 + number % 2;
            let taker = &mut takers[number as usize % 2];
            let taken = taker.take(Wanted::Type(kind), &mut reply).await;
            assert_eq!(taken.expect("one").kind, kind);
            assert_eq!(check(&reply), Ok(number));
        }
        let end = takers[0].take(Wanted::Any, &mut reply).await;
        assert_eq!(end, Err(TakeError::Closed));
    });
    posts.join();
    drop(takers);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} messages"))
}

fn full() -> Outcome {
    let count = quick_or_long(500u64, 20_000);
    let options = Options {
        messages: 2,
        ..Options::default()
    };
    let mut poster = poster(&options).into_async();
    let takes = child(|| {
        let mut taker = taker(&options);
        let mut bytes = vec![];
        for number in 0..count {
            taker.take(Wanted::Any, &mut bytes).expect("one");
            assert_eq!(check(&bytes), Ok(number));
        }
    });
    on_tokio(async {
        for number in 0..count {
            let bytes = message(number, 40);
            if number % 3 == 0 {
                let mut loan = poster.loan(7, bytes.len()).await.expect("room");
                loan.copy_in(0, &bytes).expect("as long as it was lent");
                loan.post().expect("posted");
            } else {
                poster.post(7, &bytes).await.expect("room");
            }
        }
    });
    takes.join();
    drop(poster);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} messages"))
}

/// A future that is dropped before it is ready has taken nothing.
fn given_up() -> Outcome {
    let options = Options::default();
    let mut poster = poster(&options);
    let mut taker = taker(&options).into_async();
    on_tokio(async {
        let mut bytes = vec![];
        for number in 0..20 {
            let time = Duration::from_millis(1);
            let late = tokio::time::timeout(time, taker.take(Wanted::Type(2), &mut bytes));
            assert!(late.await.is_err(), "nothing was posted");
            poster.post(2, &message(number, 30)).expect("room");
            poster.post(1, b"not this").expect("room");
            let delivery = taker.receive(Wanted::Type(2)).await.expect("one");
            assert_eq!((delivery.kind(), delivery.redelivered()), (2, false));
            drop(delivery);
            let peeked = taker.peek(Wanted::Any, &mut bytes).await.expect("one");
            assert_eq!((peeked.kind, bytes.as_slice()), (1, b"not this".as_slice()));
            taker.take(Wanted::Any, &mut bytes).await.expect("one");
        }
    });
    drop((poster, taker));
    assert_nothing_left("at the end");
    Outcome::Pass("20 given up".into())
}
