//! One process of a topic killed after each change that it makes.

use crate::kill::{Operation, Survey, everywhere, killed_after};
use checks::message::{check, message};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case};
use tombolo::topic::{Options, Policy, Publisher, RecvError, Start, Subscriber};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("topic::create", || create(Policy::Overrun)),
    case("topic::create_waited", || create(Policy::WaitForSlowest)),
    case("topic::publisher_opens", || {
        publisher_opens(Policy::Overrun)
    }),
    case("topic::subscriber_opens", || {
        subscriber_opens(Policy::Overrun)
    }),
    case("topic::subscriber_opens_waited", || {
        subscriber_opens(Policy::WaitForSlowest)
    }),
    case("topic::publish", || publish(Policy::Overrun)),
    case("topic::publish_waited", || publish(Policy::WaitForSlowest)),
    case("topic::publish_batch", || publish_batch(Policy::Overrun)),
    case("topic::publish_inherited", || {
        publish_inherited(Policy::Overrun)
    }),
    case("topic::publish_inherited_waited", || {
        publish_inherited(Policy::WaitForSlowest)
    }),
    case("topic::publish_over_the_dead", publish_over_the_dead),
    case("topic::recv", || recv(Policy::Overrun)),
    case("topic::recv_waited", || recv(Policy::WaitForSlowest)),
    case("topic::recv_lapped", recv_lapped),
    case("topic::leave", || leave(Policy::WaitForSlowest)),
];

fn name() -> Name {
    Name::mine("crash-topic").expect("a name")
}

/// Small, so that all bytes of a segment can be watched, and a lane is gone round soon.
fn options(policy: Policy) -> Options {
    Options {
        capacity: 1024,
        publishers: 2,
        subscribers: 3,
        policy,
        ..Options::default()
    }
}

/// Message `number`; lengths vary.
fn numbered(number: u64) -> Vec<u8> {
    message(number, 24 + (number as usize * 31) % 120)
}

/// What stands before.
struct Scene {
    policy: Policy,
    publisher: Option<Publisher>,
    subscriber: Option<Subscriber>,
    /// By lane: the number that the subscriber expects.
    expected: [u64; 2],
}

impl Scene {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            publisher: None,
            subscriber: None,
            expected: [0; 2],
        }
    }

    fn publisher(&self) -> Publisher {
        Publisher::open_or_create(name(), &options(self.policy)).expect("a publisher")
    }

    fn subscriber(&self, start: Start) -> Subscriber {
        Subscriber::open_or_create(name(), &options(self.policy), start).expect("a subscriber")
    }

    /// A publisher has published and a subscriber received, round the lane a few times.
    fn running(policy: Policy) -> Self {
        let mut scene = Self::new(policy);
        let (mut publisher, mut subscriber) = (scene.publisher(), scene.subscriber(Start::Now));
        let mut bytes = vec![];
        for number in 0..20 {
            publisher.publish(&numbered(number)).expect("publish");
            subscriber.recv(&mut bytes).expect("recv");
            assert_eq!(check(&bytes), Ok(number));
        }
        scene.publisher = Some(publisher);
        scene.subscriber = Some(subscriber);
        scene.expected = [20, 0];
        scene
    }

    /// All that the subscriber finds now: whole, in order, and nothing lost that it is not told of.
    /// Answers how many it got or lost in the second lane.
    fn drain(&mut self, at: &str) -> u64 {
        if self.subscriber.is_none() {
            self.subscriber = Some(self.subscriber(Start::Oldest));
        }
        let before = self.expected[1];
        let mut bytes = vec![];
        let subscriber = self.subscriber.as_mut().expect("just made");
        loop {
            match subscriber.try_recv(&mut bytes) {
                Ok(Some(received)) => {
                    let number = check(&bytes).unwrap_or_else(|torn| panic!("{at}: {torn}"));
                    assert_eq!(number, received.number, "{at}: {received:?}");
                    let expected = &mut self.expected[received.lane];
                    assert_eq!(number, *expected + received.lost, "{at}: {received:?}");
                    assert!(
                        received.lost == 0 || self.policy == Policy::Overrun,
                        "{at}: {received:?}"
                    );
                    *expected = number + 1;
                }
                Ok(None) | Err(RecvError::Closed | RecvError::PublisherDied) => break,
                Err(error) => panic!("{at}: {error}"),
            }
        }
        self.expected[1] - before
    }

    /// Those who are left and those who come go on, round the lanes; then all close.
    fn go_on(mut self, survey: &mut Survey) {
        let at = survey.at.clone();
        let mut subscriber = self.subscriber.take().expect("it drained");
        let prompt = &mut survey.prompt;
        let mut new = prompt.time("open", || self.publisher());
        let mut third = prompt.time("open", || self.subscriber(Start::Now));
        let mut bytes = vec![];
        let lanes: Vec<&mut Publisher> = [Some(&mut new), self.publisher.as_mut()]
            .into_iter()
            .flatten()
            .collect();
        for publisher in lanes {
            for _ in 0..30 {
                let message = message(77, 100);
                let sent = prompt.time("publish", || publisher.publish(&message));
                sent.unwrap_or_else(|error| panic!("{at}: can't publish: {error}"));
                for subscriber in [&mut subscriber, &mut third] {
                    let got = prompt.time("recv", || subscriber.recv(&mut bytes));
                    let got = got.unwrap_or_else(|error| panic!("{at}: {error}"));
                    assert_eq!((check(&bytes), got.lost), (Ok(77), 0), "{at}: {got:?}");
                }
            }
        }
        drop((new, self.publisher));
        for subscriber in [&mut subscriber, &mut third] {
            let end = prompt.time("recv", || subscriber.recv(&mut bytes));
            // Both lanes were taken over or closed.
            assert!(
                matches!(end, Err(RecvError::Closed | RecvError::PublisherDied)),
                "{at}: no end but {end:?}"
            );
        }
        drop((subscriber, third));
        let orphans = left().orphans.len();
        assert!(
            orphans <= 1,
            "{at}: {orphans} presence orphans of one death"
        );
        survey.orphans += assert_nothing_left(&at);
    }
}

fn nothing(_: &Scene) {}

/// Nobody has lost or got anything.
fn as_before(mut scene: Scene, _: bool, survey: &mut Survey) {
    assert_eq!(scene.drain(&survey.at), 0, "{}", survey.at);
    scene.go_on(survey);
}

fn create(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::new(policy),
        prepare: &nothing,
        act: &|scene, ()| drop((scene.publisher(), scene.subscriber(Start::Oldest))),
        survive: &as_before,
        // Making a segment is killed everywhere in the cases of value and queue.
        each: 4,
    })
}

fn publisher_opens(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::running(policy),
        prepare: &nothing,
        act: &|scene, ()| drop(scene.publisher()),
        survive: &as_before,
        each: 1,
    })
}

fn subscriber_opens(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::running(policy),
        prepare: &nothing,
        act: &|scene, ()| drop(scene.subscriber(Start::Oldest)),
        survive: &as_before,
        each: 1,
    })
}

/// The publisher that is killed had published message 0 before.
fn sender(scene: &Scene) -> Publisher {
    let mut publisher = scene.publisher();
    publisher.publish(&numbered(0)).expect("publish");
    publisher
}

/// Messages 0 to `last` were published, or the first of them.
fn published(last: u64) -> impl Fn(Scene, bool, &mut Survey) {
    move |mut scene, completed, survey| {
        let at = survey.at.clone();
        let count = scene.drain(&at);
        let fits = if completed {
            count == last + 1
        } else {
            (1..=last + 1).contains(&count)
        };
        assert!(fits, "{at}: {count} messages");
        scene.go_on(survey);
    }
}

fn publish(policy: Policy) -> Outcome {
    // Where nobody waits, far enough to lap the subscriber.
    let last = if policy == Policy::Overrun { 9 } else { 4 };
    everywhere(&Operation {
        scene: &|| Scene::running(policy),
        prepare: &sender,
        act: &|_, mut publisher| {
            publisher.publish(&numbered(1)).expect("publish");
            let mut loan = publisher.loan(30, Patience::none()).expect("loan");
            let message = message(2, 30);
            loan.copy_in(0, &message[..11]).expect("inside");
            loan.copy_in(11, &message[11..]).expect("inside");
            loan.publish();
            // Dropped: nothing happened.
            let mut loan = publisher.loan(200, Patience::none()).expect("loan");
            loan.copy_in(0, &[0xff; 200]).expect("inside");
            let _ = loan;
            (3..=last).for_each(|number| publisher.publish(&numbered(number)).expect("publish"));
        },
        survive: &published(last),
        each: 1,
    })
}

fn publish_batch(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::running(policy),
        prepare: &sender,
        act: &|_, mut publisher| {
            assert_eq!(publisher.publish_batch((1..=9).map(numbered)), Ok(9));
        },
        survive: &published(9),
        each: 1,
    })
}

/// The publisher takes over from one that was killed between a message and its mark.
fn publish_inherited(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let scene = Scene::running(policy);
            let open = || sender(&scene);
            // After its number, its bytes and its header.
            killed_after(5, open, |mut publisher| {
                publisher.publish(&message(1, 30)).expect("publish");
            });
            scene
        },
        prepare: &nothing,
        act: &|scene, ()| {
            let mut publisher = scene.publisher();
            // Whatever of it was published, the numbers go on.
            let mut subscriber = scene.subscriber(Start::Last(1));
            let mut bytes = vec![];
            let mut last = 0;
            while let Ok(Some(received)) = subscriber.try_recv(&mut bytes) {
                if received.lane == 1 {
                    last = received.number;
                }
            }
            drop(subscriber);
            for number in last + 1..=4 {
                publisher.publish(&numbered(number)).expect("publish");
            }
        },
        survive: &published(4),
        each: 1,
    })
}

/// The publisher finds that a dead subscriber holds it up, and frees what it held.
fn publish_over_the_dead() -> Outcome {
    everywhere(&Operation {
        scene: &|| {
            let mut scene = Scene::running(Policy::WaitForSlowest);
            killed_after(0, || scene.subscriber(Start::Now), drop);
            // The ring is full of what only the dead one has not received.
            let publisher = scene.publisher.as_mut().expect("it runs");
            let subscriber = scene.subscriber.as_mut().expect("it runs");
            let mut bytes = vec![];
            for number in 20..24 {
                publisher.publish(&numbered(number)).expect("publish");
                subscriber.recv(&mut bytes).expect("recv");
            }
            // Flushes the cursor.
            assert_eq!(subscriber.try_recv(&mut bytes), Ok(None));
            scene.expected[0] = 24;
            scene
        },
        prepare: &sender,
        act: &|_, mut publisher| {
            // More than a ring: the scene's subscriber, which is alive, holds the rest.
            for number in 1..=30 {
                if publisher.try_publish(&numbered(number)).is_err() {
                    break;
                }
            }
        },
        survive: &|mut scene, _, survey| {
            let at = survey.at.clone();
            let count = scene.drain(&at);
            assert!((1..30).contains(&count), "{at}: {count} messages");
            scene.go_on(survey);
        },
        each: 1,
    })
}

/// Receives in every way.
fn take(subscriber: &mut Subscriber) {
    let mut bytes = vec![];
    subscriber.recv(&mut bytes).expect("recv");
    check(&bytes).expect("whole");
    let delivery = subscriber.receive(Patience::none()).expect("receive");
    let mut delivery = delivery.expect("a message");
    bytes.clear();
    delivery.append_to(&mut bytes);
    assert_eq!(delivery.check(), Ok(()));
    check(&bytes).expect("whole");
    drop(delivery);
    let each = |bytes: &[u8], _| assert!(check(bytes).is_ok());
    assert!(
        subscriber
            .recv_batch(3, Patience::none(), each)
            .expect("a batch")
            > 0
    );
    let mut bytes = vec![];
    while let Ok(Some(_)) = subscriber.try_recv(&mut bytes) {}
}

/// Nobody else notices that a subscriber was killed.
fn unnoticed(count: u64) -> impl Fn(Scene, bool, &mut Survey) {
    move |mut scene, _, survey| {
        let at = survey.at.clone();
        assert_eq!(scene.drain(&at), 0, "{at}");
        assert_eq!(scene.expected[0], 20 + count, "{at}");
        scene.go_on(survey);
    }
}

/// Messages wait for all subscribers.
fn waiting(policy: Policy, count: u64) -> Scene {
    let mut scene = Scene::running(policy);
    let publisher = scene.publisher.as_mut().expect("it runs");
    for number in 20..20 + count {
        publisher.publish(&message(number, 30)).expect("publish");
    }
    scene
}

fn recv(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| waiting(policy, 6),
        prepare: &|scene| scene.subscriber(Start::Last(6)),
        act: &|_, mut subscriber| take(&mut subscriber),
        survive: &unnoticed(6),
        each: 1,
    })
}

/// The one that is killed was lapped before.
fn recv_lapped() -> Outcome {
    everywhere(&Operation {
        scene: &|| Scene::running(Policy::Overrun),
        prepare: &|scene| {
            let subscriber = scene.subscriber(Start::Now);
            // In the second lane, whose publisher dies with this process.
            let mut publisher = scene.publisher();
            for number in 0..40 {
                publisher.publish(&message(number, 60)).expect("publish");
            }
            (publisher, subscriber)
        },
        act: &|_, (publisher, mut subscriber)| {
            let mut bytes = vec![];
            let first = subscriber.recv(&mut bytes).expect("recv");
            assert!(first.lost > 20 && first.lost == first.number, "{first:?}");
            take(&mut subscriber);
            drop((publisher, subscriber));
        },
        survive: &published(39),
        each: 1,
    })
}

/// All leave in good order; who stays is not held up.
fn leave(policy: Policy) -> Outcome {
    everywhere(&Operation {
        scene: &|| waiting(policy, 6),
        prepare: &|scene| (scene.publisher(), scene.subscriber(Start::Oldest)),
        act: &|_, both| drop(both),
        survive: &unnoticed(6),
        each: 1,
    })
}
