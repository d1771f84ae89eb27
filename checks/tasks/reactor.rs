//! The reactor: its thread, what it costs, and how many words it can sleep on.

use crate::stage::{consumer, median_and_tail, on_tokio, producer, reactors, run_time};
use checks::process::{BOUND, Gate, child, wait_until};
use checks::space::{PROMPT, assert_nothing_left};
use checks::suite::{Case, Outcome, case};
use std::time::{Duration, Instant};

pub const CASES: &[Case] = &[
    case("reactor::one_thread_and_none_unused", one_thread),
    case("reactor::a_child_has_its_own", forked),
    case("reactor::idle_tasks_cost_little", idle),
    case("reactor::more_words_than_the_kernel_takes", many),
];

fn one_thread() -> Outcome {
    let mut sender = producer(0);
    let mut receiver = consumer(0).into_async();
    assert_eq!(reactors(), 0, "with a channel open");
    on_tokio(async {
        let mut bytes = vec![];
        sender.send(b"at once").expect("send");
        receiver.recv(&mut bytes).await.expect("recv");
        assert_eq!(reactors(), 0, "nobody had to wait");
        let others: Vec<_> = (1..20)
            .map(|number| {
                let mut consumer = consumer(number).follow(true).into_async();
                tokio::spawn(async move { consumer.recv(&mut vec![]).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        wait_until(BOUND, || reactors() == 1);
        others.iter().for_each(tokio::task::JoinHandle::abort);
        for other in others {
            assert!(other.await.is_err_and(|error| error.is_cancelled()));
        }
        assert_eq!(reactors(), 1);
    });
    drop((sender, receiver));
    assert_nothing_left("at the end");
    Outcome::Pass(String::new())
}

/// A task of this process waits while a child is forked, in which tasks wait, too. The parent's
/// handle is refused there, and goes.
fn forked() -> Outcome {
    let mut mine = consumer(0).into_async();
    let mut keeper = producer(0);
    let mut for_the_child = producer(1);
    let (ready, done) = (Gate::new(), Gate::new());
    on_tokio(async {
        let mut bytes = vec![];
        let mut recv = Box::pin(mine.recv(&mut bytes));
        tokio::select! {
            biased;
            _ = &mut recv => panic!("nothing was sent"),
            () = std::future::ready(()) => {}
        }
        wait_until(BOUND, || reactors() == 1);
        let mut slot = Some(recv);
        let child = child(|| {
            let mut recv = slot.take().expect("not taken");
            let refused = pollster::block_on(&mut recv);
            assert_eq!(refused, Err(tombolo::queue::RecvError::Forked));
            drop(recv);
            assert_eq!(reactors(), 0);
            let mut own = consumer(1).into_async();
            ready.open();
            let mut bytes = vec![];
            pollster::block_on(own.recv(&mut bytes)).expect("recv");
            assert_eq!((bytes.as_slice(), reactors()), (&b"child"[..], 1));
            done.wait();
        });
        ready.wait();
        child.wait_asleep();
        for_the_child.send(b"child").expect("send");
        done.open();
        child.join();
        keeper.send(b"parent").expect("send");
        slot.take().expect("still here").await.expect("recv");
        drop(slot);
        assert_eq!(bytes, b"parent");
    });
    drop((mine, keeper, for_the_child));
    assert_nothing_left("at the end");
    Outcome::Pass(String::new())
}

/// A process that has a producer for each of so many queues, and sends what it is told to.
fn with_producers<T>(count: usize, body: impl FnOnce(&Gate) -> T) -> T {
    let (ready, order) = (Gate::new(), Gate::new());
    let sender = child(|| {
        let mut producers: Vec<_> = (0..count).map(producer).collect();
        ready.open();
        loop {
            let number = order.receive();
            let Ok(number) = usize::try_from(number) else {
                break;
            };
            let now = crate::stage::monotonic().as_nanos() as u64;
            producers[number].send(&now.to_ne_bytes()).expect("send");
        }
    });
    ready.wait();
    let answer = body(&order);
    order.send(-1);
    sender.join();
    answer
}

/// A thousand tasks that wait for messages of another process take less than 1 % of a processor; of one that is
/// a third as fast, less than 2 %.
fn idle() -> Outcome {
    let count = 1000;
    let percent = with_producers(count, |_| {
        on_tokio(async {
            let tasks: Vec<_> = (0..count)
                .map(|number| {
                    let mut consumer = consumer(number).into_async();
                    tokio::spawn(async move { consumer.recv(&mut vec![]).await.map(drop) })
                })
                .collect();
            // They look sooner at first; what is wanted is what it costs in the long run.
            tokio::time::sleep(Duration::from_secs(3)).await;
            // The least of some times: what else runs only adds to it.
            let mut share = f64::INFINITY;
            for _ in 0..3 {
                let (start, before) = (Instant::now(), run_time());
                tokio::time::sleep(Duration::from_secs(4)).await;
                let spent = (run_time() - before).as_secs_f64();
                share = share.min(spent / start.elapsed().as_secs_f64());
            }
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            for task in tasks {
                assert!(task.await.is_err_and(|error| error.is_cancelled()));
            }
            share * 100.0
        })
    });
    assert_nothing_left("at the end");
    assert!(percent < 2.0, "{percent:.2} % of a processor");
    Outcome::Pass(format!("{percent:.2} % of a processor for 1,000 tasks"))
}

/// Each of 300 tasks waits for a bell of its own, and each is woken.
fn many() -> Outcome {
    let count = 300;
    let times = with_producers(count, |order| {
        on_tokio(async {
            let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
            let tasks: Vec<_> = (0..count)
                .map(|number| {
                    let mut consumer = consumer(number).into_async();
                    let told = told.clone();
                    tokio::spawn(async move {
                        let mut bytes = vec![];
                        while consumer.recv(&mut bytes).await.is_ok() {
                            let sent = bytes.as_slice().try_into().expect("a time");
                            let sent = Duration::from_nanos(u64::from_ne_bytes(sent));
                            let took = crate::stage::monotonic().saturating_sub(sent);
                            told.send((number, took)).expect("told");
                        }
                    })
                })
                .collect();
            tokio::task::yield_now().await;
            let mut times = vec![];
            for number in (0..count).chain((0..count).rev()) {
                order.send(number as i64);
                let (told, took) = heard.recv().await.expect("a message");
                assert_eq!(told, number);
                times.push(took);
            }
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            for task in tasks {
                assert!(task.await.is_err_and(|error| error.is_cancelled()));
            }
            times
        })
    });
    assert_nothing_left("at the end");
    let (median, tail) = median_and_tail(times);
    assert!(tail < PROMPT, "{tail:?}");
    Outcome::Pass(format!(
        "300 tasks, median {median:?}, 99 of 100 below {tail:?}"
    ))
}
