//! Messages, ends and deaths of a queue.

use crate::stage::{consumer, median_and_tail, name, on_threads, on_tokio, producer};
use checks::message::{check, message};
use checks::process::{BOUND, Gate, child, wait_until};
use checks::space::{Prompt, assert_nothing_left};
use checks::suite::{Case, Outcome, case, quick_or_long};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tombolo::asynchronous::{AsyncConsumer, AsyncProducer};
use tombolo::queue::{Consumer, Producer, RecvError, SendError};

pub const CASES: &[Case] = &[
    case("queue::messages_reach_a_task", messages),
    case("queue::messages_of_a_task_are_received", room),
    case("queue::tasks_share_a_queue", shared),
    case("queue::death_of_the_producer", producer_dies),
    case("queue::death_of_the_consumer", consumer_dies),
    case("queue::removal", removal),
    case("queue::round_trips", round_trips),
];

const _: () = {
    const fn sendable<T: Send>() {}
    sendable::<AsyncConsumer>();
    sendable::<AsyncProducer>();
};

/// A consumer's next item as a stream.
pub async fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// What one process sends, tasks of another receive: by copy, in place, in batches, as a stream.
fn messages() -> Outcome {
    let count = quick_or_long(20_000, 1_000_000);
    let ready = Gate::new();
    let sender = child(|| {
        let mut producer = producer(0);
        ready.wait();
        for number in 0..count {
            producer
                .send(&message(number, number as usize % 200))
                .expect("send");
        }
    });
    let mut consumer = AsyncConsumer::from(consumer(0));
    ready.open();
    let received = on_tokio(async {
        let mut bytes = Vec::new();
        let mut expected = 0;
        while expected < count - 4 {
            match expected % 4 {
                0 => drop(consumer.recv(&mut bytes).await.expect("recv")),
                1 => {
                    bytes.clear();
                    consumer
                        .receive()
                        .await
                        .expect("receive")
                        .append_to(&mut bytes);
                }
                2 => {
                    let each = |part: tombolo::queue::Message<'_>| {
                        bytes.clear();
                        part.append_to(&mut bytes);
                        assert_eq!(check(&bytes), Ok(expected));
                        expected += 1;
                    };
                    let got = consumer.recv_batch(3, each).await.expect("batch");
                    assert!((1..=3).contains(&got));
                    continue;
                }
                _ => {
                    bytes = next(&mut consumer)
                        .await
                        .expect("an item")
                        .expect("a message")
                        .0
                }
            }
            assert_eq!(check(&bytes), Ok(expected));
            expected += 1;
        }
        while let Some(item) = next(&mut consumer).await {
            assert_eq!(check(&item.expect("a message").0), Ok(expected));
            expected += 1;
        }
        assert!(next(&mut consumer).await.is_none());
        expected
    });
    assert_eq!(received, count);
    sender.join();
    drop(consumer);
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} messages"))
}

/// A task waits for room, which a process makes; on a runtime that is next to nothing.
fn room() -> Outcome {
    let count = quick_or_long(5_000, 500_000);
    let receiver = child(|| {
        let mut consumer = consumer(0);
        let mut bytes = vec![];
        for number in 0..count {
            consumer.recv(&mut bytes).expect("recv");
            assert_eq!(check(&bytes), Ok(number));
        }
        assert_eq!(consumer.recv(&mut bytes), Err(RecvError::Closed));
    });
    let mut producer = AsyncProducer::from(producer(0));
    pollster::block_on(async {
        for number in 0..count {
            let bytes = message(number, 1000);
            if number % 2 == 0 {
                producer.send(&bytes).await.expect("send");
            } else {
                let mut loan = producer.loan(bytes.len()).await.expect("loan");
                loan.copy_in(0, &bytes).expect("copy");
                loan.publish();
            }
        }
    });
    drop(producer);
    receiver.join();
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} messages"))
}

/// Several tasks on several threads receive from one queue: each message once.
fn shared() -> Outcome {
    let count = quick_or_long(20_000, 1_000_000);
    let ready = Gate::new();
    let senders = [0, 1].map(|half| {
        let ready = &ready;
        child(move || {
            let mut producer = producer(0);
            ready.wait();
            for number in (half..count).step_by(2) {
                producer.send(&message(number, 20)).expect("send");
            }
        })
    });
    let consumers: Vec<_> = (0..6).map(|_| consumer(0).into_async()).collect();
    let keeper = producer(0);
    senders.iter().for_each(|_| ready.open());
    let mut all = on_threads(async {
        let tasks: Vec<_> = consumers
            .into_iter()
            .map(|mut consumer| {
                tokio::spawn(async move {
                    let mut numbers = vec![];
                    let mut bytes = vec![];
                    while consumer.recv(&mut bytes).await.is_ok() {
                        numbers.push(check(&bytes).expect("a whole message"));
                    }
                    numbers
                })
            })
            .collect();
        tokio::task::spawn_blocking(move || {
            senders.into_iter().for_each(checks::process::Child::join);
            drop(keeper);
        });
        let mut all = vec![];
        for task in tasks {
            all.extend(task.await.expect("a task"));
        }
        all
    });
    all.sort_unstable();
    assert!(all.into_iter().eq(0..count), "each message once");
    assert_nothing_left("at the end");
    Outcome::Pass(format!("{count} messages, six tasks"))
}

fn producer_dies() -> Outcome {
    let mut prompt = Prompt::default();
    for _ in 0..quick_or_long(20, 500) {
        let ready = Gate::new();
        let victim = child(|| {
            let _producer = producer(0);
            ready.open();
            Gate::new().wait();
        });
        ready.wait();
        let mut consumer = consumer(0).into_async();
        on_tokio(async {
            let mut bytes = vec![];
            // It waits when it has been asked once; then comes the death.
            let recv = consumer.recv(&mut bytes);
            tokio::pin!(recv);
            tokio::select! {
                biased;
                _ = &mut recv => panic!("nothing was sent"),
                () = std::future::ready(()) => {}
            }
            victim.signal(libc::SIGKILL);
            let end = prompt_end(&mut prompt, recv).await;
            assert_eq!(end, Err(RecvError::ProducerDied));
        });
        victim.join_status();
        drop(consumer);
        assert_nothing_left("after a round");
    }
    Outcome::Pass(format!("{prompt:?}"))
}

async fn prompt_end<T>(prompt: &mut Prompt, future: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let end = future.await;
    prompt.add("noticing a death", start.elapsed());
    end
}

fn consumer_dies() -> Outcome {
    let mut prompt = Prompt::default();
    for _ in 0..quick_or_long(20, 500) {
        let ready = Gate::new();
        let victim = child(|| {
            let _consumer = consumer(0);
            ready.open();
            Gate::new().wait();
        });
        ready.wait();
        let mut producer = producer(0).into_async();
        on_tokio(async {
            while producer.try_send(&[1; 500]).is_ok() {}
            let send = producer.send(&[1; 500]);
            tokio::pin!(send);
            tokio::select! {
                biased;
                _ = &mut send => panic!("there is no room"),
                () = std::future::ready(()) => {}
            }
            victim.signal(libc::SIGKILL);
            let end = prompt_end(&mut prompt, send).await;
            assert_eq!(end, Err(SendError::NoConsumers));
        });
        victim.join_status();
        drop(producer);
        tombolo::queue::remove(name(0)).expect("remove");
        assert_nothing_left("after a round");
    }
    Outcome::Pass(format!("{prompt:?}"))
}

fn removal() -> Outcome {
    let mut consumer = AsyncConsumer::from(consumer(0).follow(true));
    let gone = on_tokio(async {
        let waiting = tokio::spawn(async move {
            let mut bytes = vec![];
            (consumer.recv(&mut bytes).await, consumer)
        });
        tokio::task::yield_now().await;
        tombolo::queue::remove(name(0)).expect("remove");
        waiting.await.expect("a task").0
    });
    assert_eq!(gone, Err(RecvError::Removed));
    assert_nothing_left("at the end");
    Outcome::Pass(String::new())
}

/// How long a message takes to a task and back, beside the same between threads that park.
fn round_trips() -> Outcome {
    let count = quick_or_long(2_000, 100_000);
    let echo = child(|| {
        let mut requests = consumer(0).waiting(shmem::Waiting::Park);
        let mut replies = producer(1);
        let mut bytes = vec![];
        while requests.recv(&mut bytes).is_ok() {
            if replies.send(&bytes).is_err() {
                break;
            }
        }
    });
    let mut requests = producer(0);
    let mut replies = Consumer::wait(name(1), shmem::wait::Patience::from(BOUND)).expect("open");
    replies = replies.waiting(shmem::Waiting::Park);
    let mut bytes = vec![];
    let mut time = |round: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            round(&mut bytes);
            times.push(start.elapsed());
        }
        median_and_tail(times)
    };
    let threads = time(&mut |bytes| {
        requests.send(b"there and back").expect("send");
        replies.recv(bytes).expect("recv");
    });
    let mut requests: AsyncProducer = requests.into_async();
    let mut replies: AsyncConsumer = replies.into_async();
    let (tokio, used) = on_tokio(async {
        let before = crate::stage::run_time();
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            requests.send(b"there and back").await.expect("send");
            replies.recv(&mut bytes).await.expect("recv");
            times.push(start.elapsed());
        }
        (median_and_tail(times), crate::stage::run_time() - before)
    });
    let _: (Producer, Consumer) = (requests.into_inner(), replies.into_inner());
    echo.join_status();
    wait_until(BOUND, || crate::stage::reactors() == 1);
    assert!(tokio.0 < Duration::from_millis(5), "{tokio:?}");
    Outcome::Pass(format!(
        "there and back, median and 99 of 100: threads {threads:?}, a task on tokio {tokio:?}, \
         {:?} of processor for each",
        used / count as u32
    ))
}
