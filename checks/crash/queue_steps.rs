//! One process of a queue killed after each change that it makes.

use crate::kill::{Operation, Survey, everywhere, killed_after, killed_when};
use checks::message::{check, message};
use checks::process::shared_words;
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case};
use shmem::Region;
use std::sync::atomic::{AtomicI64, Ordering};
use tombolo::queue::{Consumer, Options, Producer, RecvError};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("queue::create", create),
    case("queue::producer_opens", producer_opens),
    case("queue::send", send),
    case("queue::send_batch", send_batch),
    case("queue::send_inherited", send_inherited),
    case("queue::consumer_opens", consumer_opens),
    case("queue::recv", recv),
    case("queue::recv_kept", recv_kept),
    case("queue::receive", receive),
    case("queue::recv_batch", recv_batch),
    case("queue::recv_inherited", recv_inherited),
    case("queue::leave_with_messages", leave_with_messages),
    case("queue::leave_empty", leave_empty),
    case("queue::reclaim", reclaim),
];

/// Messages that wait for the consumer that is killed.
const WAITING: u64 = 4;

fn name() -> Name {
    Name::mine("crash-queue").expect("a name")
}

/// Small, so that all bytes of a segment can be watched, and a lane is gone round soon.
fn options() -> Options {
    Options {
        capacity: 1024,
        producers: 2,
        consumers: 3,
        ..Options::default()
    }
}

/// Message `number`; lengths vary.
fn numbered(number: u64) -> Vec<u8> {
    message(number, 24 + (number as usize * 31) % 120)
}

fn producer() -> Producer {
    Producer::open_or_create(name(), &options()).expect("a producer")
}

fn consumer() -> Consumer {
    Consumer::open_or_create(name(), &options()).expect("a consumer")
}

/// What stands before, and what those who are killed have told.
struct Scene {
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    /// Number of the last message that whoever is killed has seen.
    seen: &'static AtomicI64,
    /// The queue's segment, where seeing a message leaves a mark, so that it is killed there too.
    mark: Option<Region>,
}

impl Scene {
    fn new() -> Self {
        thread_local! {
            static WORD: &'static AtomicI64 = &shared_words(1)[0];
        }
        let seen = WORD.with(|word| *word);
        seen.store(0, Ordering::SeqCst);
        Self {
            producer: None,
            consumer: None,
            seen,
            mark: None,
        }
    }

    /// A producer has sent and a consumer received, round the lane a few times.
    fn running() -> Self {
        let mut scene = Self::new();
        let (mut producer, mut consumer) = (producer(), consumer());
        let mut bytes = vec![];
        for number in 1000..1020 {
            producer.send(&numbered(number)).expect("send");
            consumer.recv(&mut bytes).expect("recv");
            assert_eq!(check(&bytes), Ok(number));
        }
        scene.producer = Some(producer);
        scene.consumer = Some(consumer);
        scene
    }

    /// The same, with messages that wait.
    fn waiting() -> Self {
        let mut scene = Self::running();
        let producer = scene.producer.as_mut().expect("it runs");
        for number in 1..=WAITING {
            producer.send(&message(number, 30)).expect("send");
        }
        scene.mark = Some(Region::attach(producer.id()).expect("attach"));
        scene
    }

    fn see(&self, bytes: &[u8]) {
        let number = check(bytes).expect("whole");
        self.seen.store(number as i64, Ordering::SeqCst);
        if let Some(mark) = &self.mark {
            mark.u64(Self::MARK).store(number, Ordering::SeqCst);
        }
    }

    /// Padding of the layout.
    const MARK: usize = 272;

    /// All that is there now, and whether it is marked.
    fn drain(&mut self, at: &str) -> Vec<(u64, bool)> {
        let consumer = self.consumer.get_or_insert_with(consumer);
        let (mut all, mut bytes) = (vec![], vec![]);
        loop {
            match consumer.try_recv(&mut bytes) {
                Ok(Some(received)) => {
                    let number = check(&bytes).unwrap_or_else(|torn| panic!("{at}: {torn}"));
                    all.push((number, received.redelivered));
                }
                Ok(None) | Err(RecvError::Closed | RecvError::ProducerDied) => return all,
                Err(error) => panic!("{at}: {error}"),
            }
        }
    }

    /// Those who are left and those who come go on, round the lanes; then all close.
    fn go_on(mut self, survey: &mut Survey) {
        drop(self.mark.take());
        let at = survey.at.clone();
        let prompt = &mut survey.prompt;
        let mut new = prompt.time("open", producer);
        let mut third = prompt.time("open", consumer);
        let mut first = self.consumer.take().unwrap_or_else(consumer);
        let mut bytes = vec![];
        for number in 2000..2030 {
            let message = numbered(number);
            let sent = prompt.time("send", || new.send(&message));
            sent.unwrap_or_else(|error| panic!("{at}: a new producer can't send: {error}"));
            let reader = if number % 2 == 0 {
                &mut first
            } else {
                &mut third
            };
            let got = prompt.time("recv", || reader.recv(&mut bytes));
            let got = got.unwrap_or_else(|error| panic!("{at}: message {number}: {error}"));
            assert_eq!(
                (check(&bytes), got.redelivered),
                (Ok(number), false),
                "{at}"
            );
            if let Some(old) = &mut self.producer {
                let sent = prompt.time("send", || old.send(&message));
                sent.unwrap_or_else(|error| panic!("{at}: the old producer can't send: {error}"));
                prompt
                    .time("recv", || reader.recv(&mut bytes))
                    .expect("recv");
                assert_eq!(check(&bytes), Ok(number), "{at}");
            }
        }
        drop((new, self.producer));
        let end = prompt.time("recv", || first.recv(&mut bytes));
        // Both lanes were taken over or closed.
        assert!(
            matches!(end, Err(RecvError::Closed | RecvError::ProducerDied)),
            "{at}: no end but {end:?}"
        );
        drop((first, third));
        let orphans = left().orphans.len();
        assert!(
            orphans <= 1,
            "{at}: {orphans} presence orphans of one death"
        );
        survey.orphans += assert_nothing_left(&at);
    }
}

fn nothing(_: &Scene) {}

fn unmarked(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, bool)> {
    numbers.into_iter().map(|number| (number, false)).collect()
}

/// Nobody has lost or got anything.
fn as_before(mut scene: Scene, _: bool, survey: &mut Survey) {
    let waiting = scene.drain(&survey.at);
    assert_eq!(waiting, [], "{}", survey.at);
    scene.go_on(survey);
}

fn create() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::new,
        prepare: &nothing,
        act: &|_, ()| drop((producer(), consumer())),
        survive: &as_before,
        each: 1,
    })
}

fn producer_opens() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::running,
        prepare: &nothing,
        act: &|_, ()| drop(producer()),
        survive: &as_before,
        each: 1,
    })
}

fn consumer_opens() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::running,
        prepare: &nothing,
        act: &|_, ()| drop(consumer()),
        survive: &as_before,
        each: 1,
    })
}

/// The producer that is killed had sent message 1 before, and sends 2 to 5.
fn sender(_: &Scene) -> Producer {
    let mut producer = producer();
    producer.send(&numbered(1)).expect("send");
    producer
}

fn sent(least: u64) -> impl Fn(Scene, bool, &mut Survey) {
    move |mut scene, completed, survey| {
        let at = survey.at.clone();
        let found = scene.drain(&at);
        let count = found.len() as u64;
        assert_eq!(found, unmarked(1..=count), "{at}");
        let fits = if completed {
            count == 5
        } else {
            (least..=5).contains(&count)
        };
        assert!(fits, "{at}: {count} messages");
        scene.go_on(survey);
    }
}

fn send() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::running,
        prepare: &sender,
        act: &|_, mut producer| {
            (2..=3).for_each(|number| producer.send(&numbered(number)).expect("send"));
            let mut loan = producer.loan(30, Patience::none()).expect("loan");
            let message = message(4, 30);
            loan.copy_in(0, &message[..11]).expect("inside");
            loan.copy_in(11, &message[11..]).expect("inside");
            loan.publish();
            // Dropped: nothing happened.
            assert!(producer.loan(100, Patience::none()).is_ok());
            producer.send(&numbered(5)).expect("send");
        },
        survive: &sent(1),
        each: 1,
    })
}

fn send_batch() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::running,
        prepare: &sender,
        act: &|_, mut producer| {
            assert_eq!(producer.send_batch((2..=5).map(numbered)), Ok(4));
        },
        survive: &sent(1),
        each: 1,
    })
}

/// The producer takes over from one that was killed in the middle of a message.
fn send_inherited() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = Scene::running();
            killed_after(
                3,
                || sender(&scene),
                |mut producer| {
                    producer.send(&message(9, 140)).expect("send");
                },
            );
            scene
        },
        prepare: &nothing,
        act: &|_, ()| {
            let mut producer = producer();
            (2..=5).for_each(|number| producer.send(&numbered(number)).expect("send"));
        },
        survive: &sent(1),
        each: 1,
    })
}

/// What a consumer that is killed leaves: all from what it was at, marked if it had seen it. It
/// may have been killed between finishing `untold` messages and telling so.
fn received(untold: u64) -> impl Fn(Scene, bool, &mut Survey) {
    move |mut scene, completed, survey| {
        let at = survey.at.clone();
        let seen = scene.seen.load(Ordering::SeqCst) as u64;
        let found = scene.drain(&at);
        let first = found.first().map_or(WAITING + 1, |(number, _)| *number);
        let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
        assert_eq!(
            numbers,
            (first..=WAITING).collect::<Vec<_>>(),
            "{at}: {found:?}"
        );
        assert!(
            first <= seen + 1 + untold,
            "{at}: {seen} seen, then {found:?}"
        );
        for (number, marked) in found {
            assert!(
                marked || number > seen,
                "{at}: {number} twice and not marked"
            );
            assert!(!marked || !completed, "{at}: {number} marked for nothing");
        }
        scene.go_on(survey);
    }
}

fn recv() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::waiting,
        prepare: &|_| consumer(),
        act: &|scene, mut consumer| {
            let mut bytes = vec![];
            for _ in 0..2 {
                consumer.recv(&mut bytes).expect("recv");
                scene.see(&bytes);
            }
        },
        survive: &received(1),
        each: 1,
    })
}

/// The consumer is alone and so keeps the lane: it gets its second message without taking it again.
fn recv_kept() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let mut scene = Scene::waiting();
            scene.consumer = None;
            scene
        },
        prepare: &|scene| {
            let (mut consumer, mut bytes) = (consumer(), vec![]);
            consumer.recv(&mut bytes).expect("recv");
            scene.see(&bytes);
            consumer
        },
        act: &|scene, mut consumer| {
            let mut bytes = vec![];
            for _ in 0..2 {
                consumer.recv(&mut bytes).expect("recv");
                scene.see(&bytes);
            }
        },
        survive: &received(1),
        each: 1,
    })
}

fn take(scene: &Scene, consumer: &mut Consumer) {
    let mut bytes = vec![];
    let delivery = consumer
        .receive(Patience::none())
        .expect("receive")
        .expect("a message");
    delivery.append_to(&mut bytes);
    scene.see(&bytes);
}

fn receive() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::waiting,
        prepare: &|_| consumer(),
        act: &|scene, mut consumer| (0..3).for_each(|_| take(scene, &mut consumer)),
        survive: &received(0),
        each: 1,
    })
}

fn recv_batch() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::waiting,
        prepare: &|_| consumer(),
        act: &|scene, mut consumer| {
            let see = |message: tombolo::queue::Message<'_>| {
                let mut bytes = vec![];
                message.append_to(&mut bytes);
                scene.see(&bytes);
            };
            assert!(
                consumer
                    .recv_batch(3, Patience::none(), see)
                    .expect("a batch")
                    > 0
            );
        },
        survive: &received(0),
        each: 1,
    })
}

/// The consumer takes over from one that was killed with a message in hand.
fn recv_inherited() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = Scene::waiting();
            let seen = || scene.seen.load(Ordering::SeqCst) == 1;
            killed_when(seen, consumer, |mut consumer| take(&scene, &mut consumer));
            // Its, not that of whoever is killed next.
            scene.seen.store(0, Ordering::SeqCst);
            scene
        },
        prepare: &|_| consumer(),
        act: &|scene, mut consumer| {
            let delivery = consumer
                .receive(Patience::none())
                .expect("receive")
                .expect("1");
            assert!(delivery.redelivered());
            drop(delivery);
            scene.seen.store(1, Ordering::SeqCst);
            take(scene, &mut consumer);
        },
        survive: &|mut scene, completed, survey| {
            // Of what the first had in hand, one is marked though it was not seen.
            if !completed {
                scene.seen.fetch_max(0, Ordering::SeqCst);
            }
            let seen = scene.seen.load(Ordering::SeqCst) as u64;
            let at = survey.at.clone();
            let found = scene.drain(&at);
            let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
            let first = found.first().map_or(WAITING + 1, |(number, _)| *number);
            assert_eq!(
                numbers,
                (first..=WAITING).collect::<Vec<_>>(),
                "{at}: {found:?}"
            );
            assert!(first <= seen + 2, "{at}: {seen} seen, then {found:?}");
            for (number, marked) in found {
                assert!(marked || number > seen.max(1), "{at}: {number} not marked");
                assert!(!marked || number <= 2, "{at}: {number} marked for nothing");
            }
            scene.go_on(survey);
        },
        each: 1,
    })
}

/// The last to leave leaves messages: they wait for who comes.
fn leave_with_messages() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::new,
        prepare: &|_| {
            let mut producer = producer();
            (1..=WAITING).for_each(|number| producer.send(&message(number, 30)).expect("send"));
            producer
        },
        act: &|_, producer| drop(producer),
        survive: &received(0),
        each: 1,
    })
}

/// The last to leave leaves nothing.
fn leave_empty() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::new,
        prepare: &|_| consumer(),
        act: &|_, consumer| drop(consumer),
        survive: &|mut scene, completed, survey| {
            if completed {
                let opened = Consumer::open(name());
                assert!(
                    opened.is_err_and(|error| error.is_not_found()),
                    "{}",
                    survey.at
                );
            }
            assert_eq!(scene.drain(&survey.at), []);
            scene.go_on(survey);
        },
        each: 1,
    })
}

/// Opening what a producer left by dying: with messages it stays, without it goes.
fn reclaim() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = Scene::new();
            let prepare = || {
                let mut producer = producer();
                (1..=WAITING).for_each(|n| producer.send(&message(n, 30)).expect("send"));
                producer
            };
            killed_after(0, prepare, drop);
            scene
        },
        prepare: &nothing,
        act: &|_, ()| drop(consumer()),
        survive: &received(0),
        each: 1,
    })
}
