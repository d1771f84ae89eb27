//! A topic's messages reach tasks, and what was lost is told.

use crate::queues::next;
use crate::stage::{name, on_tokio};
use checks::message::{check, message};
use checks::process::{Gate, child};
use checks::space::assert_nothing_left;
use checks::suite::{Case, Outcome, case, quick_or_long};
use tombolo::topic::{Options, Policy, Publisher, RecvError, Start, Subscriber};

pub const CASES: &[Case] = &[
    case("topic::waited_for", waited_for),
    case("topic::overrun", overrun),
    case("topic::death_of_the_publisher", publisher_dies),
];

fn options(policy: Policy) -> Options {
    Options {
        capacity: 8192,
        publishers: 2,
        subscribers: 4,
        policy,
        ..Options::default()
    }
}

/// Two tasks get all messages of a process, one as a stream, while a task publishes to it, too.
fn waited_for() -> Outcome {
    let count = quick_or_long(5_000u64, 500_000);
    let ready = Gate::new();
    let options = options(Policy::WaitForSlowest);
    let publisher = child(|| {
        let mut publisher = Publisher::open_or_create(name(0), &options).expect("a publisher");
        ready.wait();
        for number in 0..count {
            publisher.publish(&message(number, 50)).expect("publish");
        }
    });
    let open = || Subscriber::open_or_create(name(0), &options, Start::Now).expect("a subscriber");
    let (mut by_recv, mut as_stream) = (open().into_async(), open().into_async());
    let mut mine = Publisher::open(name(0)).expect("a publisher").into_async();
    ready.open();
    on_tokio(async {
        let publish = async move {
            for number in 0..count {
                mine.publish(&message(number, 1000)).await.expect("publish");
            }
        };
        let recv = async {
            let mut bytes = vec![];
            let mut expected = [0; 2];
            loop {
                match by_recv.recv(&mut bytes).await {
                    Ok(received) => {
                        assert_eq!(check(&bytes), Ok(expected[received.lane]));
                        expected[received.lane] += 1;
                    }
                    Err(end) => break assert_eq!((end, expected), (RecvError::Closed, [count; 2])),
                }
            }
        };
        let stream = async {
            let mut expected = [0; 2];
            while let Some(item) = next(&mut as_stream).await {
                let (bytes, received) = item.expect("a message");
                assert_eq!(check(&bytes), Ok(expected[received.lane]));
                expected[received.lane] += 1;
            }
            assert_eq!(expected, [count; 2]);
        };
        tokio::join!(publish, recv, stream)
    });
    publisher.join();
    drop((by_recv, as_stream));
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} messages of two publishers to two tasks"))
}

/// What comes and what is told to be lost is everything.
fn overrun() -> Outcome {
    let count = quick_or_long(50_000u64, 2_000_000);
    let ready = Gate::new();
    let options = options(Policy::Overrun);
    let publisher = child(|| {
        let mut publisher = Publisher::open_or_create(name(0), &options).expect("a publisher");
        ready.wait();
        for number in 0..count {
            publisher.publish(&message(number, 50)).expect("publish");
        }
    });
    let subscriber = Subscriber::open_or_create(name(0), &options, Start::Now);
    let mut subscriber = subscriber.expect("a subscriber").into_async();
    ready.open();
    let (seen, lost) = on_tokio(async {
        let (mut seen, mut lost) = (0, 0);
        while let Some(item) = next(&mut subscriber).await {
            let (bytes, received) = item.expect("a message");
            lost += received.lost;
            assert_eq!(check(&bytes), Ok(seen + lost));
            seen += 1;
        }
        (seen, lost)
    });
    // What is lost behind the last message is not told with one.
    assert!(
        seen + lost <= count && seen + subscriber.lost() == count,
        "{seen}, {lost}"
    );
    publisher.join();
    drop(subscriber);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{seen} of {count} messages, {lost} lost"))
}

fn publisher_dies() -> Outcome {
    let options = options(Policy::Overrun);
    let ready = Gate::new();
    let victim = child(|| {
        let _publisher = Publisher::open_or_create(name(0), &options).expect("a publisher");
        ready.open();
        Gate::new().wait();
    });
    ready.wait();
    let mut subscriber = Subscriber::open(name(0), Start::Now)
        .expect("open")
        .into_async();
    let end = on_tokio(async {
        let task = tokio::spawn(async move { (next(&mut subscriber).await, subscriber) });
        tokio::task::yield_now().await;
        victim.signal(libc::SIGKILL);
        task.await.expect("a task").0
    });
    assert_eq!(end, Some(Err(RecvError::PublisherDied)));
    victim.join_status();
    assert_nothing_left("at the end");
    Outcome::Pass(String::new())
}
