//! One process of a mailbox killed after each change that it makes.

use crate::kill::{Operation, Survey, everywhere};
use checks::message::{check, message};
use checks::process::{Gate, child, shared_words};
use checks::space::{assert_nothing_left, left};
use checks::suite::{Case, Outcome, case};
use shmem::Region;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tombolo::mailbox::{Options, PostError, Poster, TakeError, Taker, Wanted};
use tombolo::{Name, Patience};

pub const CASES: &[Case] = &[
    case("mailbox::create", create),
    case("mailbox::poster_opens", poster_opens),
    case("mailbox::inherit", inherit),
    case("mailbox::post", post),
    case("mailbox::post_in_place", post_in_place),
    case("mailbox::full", full),
    case("mailbox::take", take),
    case("mailbox::take_long", take_long),
    case("mailbox::take_in_place", take_in_place),
    case("mailbox::put_back", put_back),
    case("mailbox::nothing", nothing_comes),
    case("mailbox::leave_last", leave_last),
];

/// Messages that wait for whoever is killed.
const WAITING: u64 = 6;
const MEMBERS: usize = 5;

fn name() -> Name {
    Name::mine("crash-mailbox").expect("a name")
}

/// Small, so that all bytes of a segment can be watched.
fn options() -> Options {
    Options {
        capacity: 6000,
        messages: 12,
        members: MEMBERS,
        ..Options::default()
    }
}

fn poster() -> Poster {
    Poster::open_or_create(name(), &options()).expect("a poster")
}

fn taker() -> Taker {
    let taker = Taker::open_or_create(name(), &options()).expect("a taker");
    taker.follow(true)
}

/// Types repeat, and come in no order.
fn kind(number: u64) -> u64 {
    [3, 3, 1, 3, 1 << 40, 1][number as usize % 6]
}

/// Lengths vary.
fn text(number: u64) -> Vec<u8> {
    message(number, 24 + (number as usize * 31) % 90)
}

/// What stands before, and what those who are killed have told.
struct Scene {
    poster: Option<Poster>,
    taker: Option<Taker>,
    /// By message: whether its post has returned, and how often it was taken.
    posted: &'static [AtomicI64],
    taken: &'static [AtomicI64],
    /// The mailbox's segment, where taking leaves a mark, so that who does it is killed there.
    mark: Option<Region>,
}

impl Scene {
    fn new() -> Self {
        thread_local! {
            static WORDS: &'static [AtomicI64] = shared_words(64);
        }
        let words = WORDS.with(|words| *words);
        words
            .iter()
            .for_each(|word| word.store(0, Ordering::SeqCst));
        let (posted, taken) = words.split_at(32);
        Self {
            poster: None,
            taker: None,
            posted,
            taken,
            mark: None,
        }
    }

    /// A poster has posted to a taker a few times.
    fn running() -> Self {
        let mut scene = Self::new();
        let (mut poster, mut taker) = (poster(), taker());
        for number in 1000..1004 {
            exchange(&mut poster, &mut taker, number, "before");
        }
        scene.mark = Some(Region::attach(poster.id()).expect("attach"));
        scene.poster = Some(poster);
        scene.taker = Some(taker);
        scene
    }

    /// The same, with messages that wait.
    fn waiting() -> Self {
        let mut scene = Self::running();
        let mut poster = scene.poster.take().expect("it runs");
        (1..=WAITING).for_each(|number| scene.post(&mut poster, number));
        scene.poster = Some(poster);
        scene
    }

    fn post(&self, poster: &mut Poster, number: u64) {
        poster.try_post(kind(number), &text(number)).expect("room");
        self.posted[number as usize].store(1, Ordering::SeqCst);
    }

    /// Padding of the layout.
    const MARK: usize = 280;

    /// Looks at a message, and writes down that it was taken.
    fn take(&self, kind_seen: u64, bytes: &[u8]) {
        let number = check(bytes).expect("whole");
        assert_eq!(kind_seen, kind(number));
        self.taken[number as usize].fetch_add(1, Ordering::SeqCst);
        if let Some(mark) = &self.mark {
            mark.u64(Self::MARK).store(number, Ordering::SeqCst);
        }
    }

    /// Everything that was posted was taken once, but for one that a killed taker may have had.
    fn account(&mut self, completed: bool, survey: &mut Survey) {
        let at = survey.at.clone();
        let mut taker = self.taker.take().unwrap_or_else(taker);
        let (mut bytes, mut again) = (vec![], 0);
        let mut last = std::collections::BTreeMap::new();
        loop {
            let found = || taker.try_take(Wanted::Any, &mut bytes);
            let found = survey.prompt.time("take", found);
            let found = found.unwrap_or_else(|error| panic!("{at}: {error}"));
            let Some(found) = found else { break };
            let number = check(&bytes).unwrap_or_else(|error| panic!("{at}: {error:?}"));
            assert_eq!(found.kind, kind(number), "{at}");
            // What was in a dead hand comes when somebody has noticed the death.
            if !found.redelivered {
                let before = last.insert(found.kind, number);
                assert!(before < Some(number), "{at}: {before:?} before {number}");
            }
            let taken = self.taken[number as usize].fetch_add(1, Ordering::SeqCst);
            again += usize::from(found.redelivered);
            assert!(taken == 0 || found.redelivered, "{at}: {number} twice");
        }
        assert!(again <= usize::from(!completed), "{at}: {again} again");
        let mut lost = 0;
        let mut more = 0;
        for (posted, taken) in self.posted.iter().zip(self.taken) {
            let [posted, taken] = [posted, taken].map(|word| word.load(Ordering::SeqCst));
            lost += usize::from(posted > 0 && taken == 0);
            more += usize::from(posted == 0 && taken > 0);
        }
        // Taken, and killed before it could say so; posted, and killed before.
        let excused = usize::from(!completed);
        assert!(lost <= excused, "{at}: {lost} lost");
        assert!(more <= excused, "{at}: {more} were posted that were not");
        self.taker = Some(taker);
    }

    /// Those who are left and those who come go on; all seats are to be had; then all leave.
    fn go_on(mut self, survey: &mut Survey) {
        let at = survey.at.clone();
        self.mark = None;
        let prompt = &mut survey.prompt;
        let mut new = prompt.time("open", poster);
        let mut other = self.taker.take().unwrap_or_else(taker);
        for number in 2000..2006 {
            prompt.time("exchange", || exchange(&mut new, &mut other, number, &at));
            if let Some(old) = &mut self.poster {
                prompt.time("exchange", || exchange(old, &mut other, number, &at));
            }
        }
        // All of the capacity can be used, in one piece or in many.
        for length in [6000, 5900] {
            new.try_post(5, &vec![1; length])
                .unwrap_or_else(|error| panic!("{at}: {length} bytes: {error}"));
            assert_eq!(new.try_post(5, &[1; 101]), Err(PostError::Full), "{at}");
            let mut bytes = vec![];
            let taken = other.try_take(Wanted::Type(5), &mut bytes);
            assert!(matches!(taken, Ok(Some(_))), "{at}: {taken:?}");
        }
        drop((new, other, self.poster));
        let all: Vec<_> = (0..MEMBERS).map(|_| prompt.time("open", taker)).collect();
        drop(all);
        let orphans = left().orphans.len();
        assert!(
            orphans <= 2,
            "{at}: {orphans} presence orphans of one death"
        );
        survey.orphans += assert_nothing_left(&at);
    }
}

fn exchange(poster: &mut Poster, taker: &mut Taker, number: u64, at: &str) {
    let posted = poster.try_post(kind(number), &text(number));
    posted.unwrap_or_else(|error| panic!("{at}: {number}: {error}"));
    let mut bytes = vec![];
    let taken = taker.try_take(Wanted::Type(kind(number)), &mut bytes);
    assert!(matches!(taken, Ok(Some(_))), "{at}: {taken:?}");
    assert_eq!(check(&bytes), Ok(number), "{at}");
}

fn nothing(_: &Scene) {}

fn accounted(mut scene: Scene, completed: bool, survey: &mut Survey) {
    scene.account(completed, survey);
    scene.go_on(survey);
}

fn operation<P>(
    scene: &dyn Fn() -> Scene,
    prepare: &dyn Fn(&Scene) -> P,
    act: &dyn Fn(&Scene, P),
    each: usize,
) -> Outcome {
    everywhere(&Operation {
        scene,
        prepare,
        act,
        survive: &accounted,
        each,
    })
}

fn create() -> Outcome {
    let act = |_: &Scene, ()| drop((poster(), taker()));
    operation(&Scene::new, &nothing, &act, 3)
}

fn poster_opens() -> Outcome {
    operation(&Scene::waiting, &nothing, &|_, ()| drop(poster()), 1)
}

/// The seats were others', killed with something in hand.
fn inherit() -> Outcome {
    let scene = || {
        let scene = Scene::waiting();
        let ready = Gate::new();
        let dies = child(|| {
            let (mut poster, mut taker) = (poster(), taker());
            let in_hand = taker.receive(Wanted::Any, Patience::none()).expect("take");
            let draft = poster.loan(9, 50, Patience::none()).expect("room");
            ready.open();
            Gate::new().wait();
            drop((in_hand, draft));
        });
        ready.wait();
        dies.kill();
        scene
    };
    everywhere(&Operation {
        scene: &scene,
        prepare: &nothing,
        act: &|_, ()| drop((taker(), poster())),
        survive: &|mut scene: Scene, _, survey: &mut Survey| {
            // The message of the one that died before is delivered again.
            scene.account(false, survey);
            scene.go_on(survey);
        },
        each: 3,
    })
}

fn post() -> Outcome {
    let act = |scene: &Scene, mut poster: Poster| {
        (7..=11).for_each(|number| scene.post(&mut poster, number));
    };
    operation(&Scene::waiting, &|_| poster(), &act, 5)
}

fn post_in_place() -> Outcome {
    let act = |scene: &Scene, mut poster: Poster| {
        for number in 7..=8 {
            let bytes = text(number);
            let loan = poster.loan(kind(number), 200, Patience::none());
            let mut loan = loan.expect("room");
            loan.copy_in(0, &bytes[..11]).expect("inside");
            loan.copy_in(11, &bytes[11..]).expect("inside");
            loan.post_part(bytes.len()).expect("posted");
            scene.posted[number as usize].store(1, Ordering::SeqCst);
            drop(poster.loan(5, 300, Patience::none()).expect("room"));
        }
    };
    operation(&Scene::waiting, &|_| poster(), &act, 4)
}

fn full() -> Outcome {
    operation(
        &Scene::waiting,
        &|_| poster(),
        &|_, mut poster| {
            let late = poster.post_timeout(1, &[1; 6000], Duration::from_millis(1));
            assert_eq!(late, Err(PostError::Full));
        },
        1,
    )
}

fn take() -> Outcome {
    let act = |scene: &Scene, mut taker: Taker| {
        let mut bytes = vec![];
        for wanted in [
            Wanted::Type(1 << 40),
            Wanted::UpTo(3),
            Wanted::Except(1),
            Wanted::Any,
            Wanted::Any,
            Wanted::Any,
        ] {
            let taken = taker.take(wanted, &mut bytes).expect("there is one");
            scene.take(taken.kind, &bytes);
        }
    };
    operation(&Scene::waiting, &|_| taker(), &act, 5)
}

/// One that is copied outside the lock.
fn take_long() -> Outcome {
    const NUMBER: u64 = 20;
    let scene = || {
        let mut scene = Scene::running();
        let mut poster = scene.poster.take().expect("it runs");
        let long = message(NUMBER, 4500);
        poster.try_post(kind(NUMBER), &long).expect("room");
        scene.posted[NUMBER as usize].store(1, Ordering::SeqCst);
        scene.poster = Some(poster);
        scene
    };
    let act = |scene: &Scene, mut taker: Taker| {
        let mut bytes = vec![];
        let taken = taker.take(Wanted::Any, &mut bytes).expect("there is one");
        scene.take(taken.kind, &bytes);
    };
    operation(&scene, &|_| taker(), &act, 2)
}

fn take_in_place() -> Outcome {
    let act = |scene: &Scene, mut taker: Taker| {
        for _ in 0..3 {
            let taken = taker.receive(Wanted::UpTo(3), Patience::none());
            let delivery = taken.expect("take").expect("there is one");
            let mut bytes = vec![];
            delivery.append_to(&mut bytes);
            scene.take(delivery.kind(), &bytes);
        }
    };
    operation(&Scene::waiting, &|_| taker(), &act, 4)
}

fn put_back() -> Outcome {
    everywhere(&Operation {
        scene: &Scene::waiting,
        prepare: &|_| taker(),
        act: &|_, mut taker: Taker| {
            let taken = taker.receive(Wanted::Any, Patience::none());
            taken.expect("take").expect("there is one").put_back();
        },
        survive: &|mut scene: Scene, _, survey: &mut Survey| {
            scene.account(false, survey);
            scene.go_on(survey);
        },
        each: 2,
    })
}

/// A taker waits in vain, and leaves.
fn nothing_comes() -> Outcome {
    operation(
        &Scene::waiting,
        &|_| taker(),
        &|_, mut taker| {
            let time = Duration::from_millis(1);
            let late = taker.take_timeout(Wanted::Type(77), &mut vec![], time);
            assert_eq!(late, Ok(None));
        },
        1,
    )
}

/// The last poster leaves: who waits learns of it.
fn leave_last() -> Outcome {
    let scene = || Scene {
        poster: None,
        ..Scene::running()
    };
    everywhere(&Operation {
        scene: &scene,
        prepare: &|_| poster(),
        act: &|_, poster| drop(poster),
        survive: &|mut scene: Scene, completed, survey: &mut Survey| {
            let mut waits = scene.taker.take().expect("it runs").follow(false);
            let end = || waits.take(Wanted::Any, &mut vec![]);
            let end = survey.prompt.time("waiting for the end", end);
            let expected = match end {
                Err(TakeError::PosterDied) => !completed,
                end => end == Err(TakeError::Closed),
            };
            assert!(expected, "{}", survey.at);
            scene.taker = Some(waits.follow(true));
            scene.go_on(survey);
        },
        each: 1,
    })
}
