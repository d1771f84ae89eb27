//! Writers that are stopped, not dead, in the middle of a put: the others are told, and go on as
//! soon as it dies.

use crate::operations::{before_keeper, keeper, one_put_ahead, writer};
use crate::scene::{Scene, numbered};
use checks::message::check;
use checks::or_skip;
use checks::process::{BOUND, child, shared_words, wait_until};
use checks::space::{PROMPT, assert_nothing_left};
use checks::step::{Change, Grain, Stepped};
use checks::suite::{Case, Outcome, case};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tombolo::value::{self, PutError, Writer};

pub const CASES: &[Case] = &[
    case("stopped::another_is_told", || another_is_told(&HOLDER)),
    case("stopped::another_is_told_by_a_keeper", || {
        another_is_told(&KEEPER)
    }),
    case("stopped::a_waiter_goes_on", || a_waiter_goes_on(&HOLDER)),
    case("stopped::a_waiter_goes_on_after_a_keeper", || {
        a_waiter_goes_on(&KEEPER)
    }),
];

/// Who is stopped: a writer, and the scene before it.
struct Stopped {
    scene: fn() -> Scene,
    writer: fn(&Scene) -> Writer,
}

/// One that puts with the lock.
const HOLDER: Stopped = Stopped {
    scene: one_put_ahead,
    writer,
};
/// One that keeps the value.
const KEEPER: Stopped = Stopped {
    scene: before_keeper,
    writer: keeper,
};

/// A process in the middle of a put, standing at its change number `changes`; `None` if the put
/// has fewer.
fn in_a_put(who: &Stopped, scene: &Scene, changes: usize) -> Result<Option<Stepped>, String> {
    let prepare = || (who.writer)(scene);
    let put = |mut writer: Writer| drop(writer.put(&numbered(scene.last + 1)));
    let mut stepped = Stepped::new(prepare, put)?;
    for _ in 0..changes {
        if let Some(Change::Ended(_)) = stepped.step(Grain::Change) {
            return Ok(None);
        }
    }
    stepped.leave_stopped();
    Ok(Some(stepped))
}

/// The messages that a put writes and the one before stay readable.
fn readable(scene: &mut Scene) {
    let last = scene.last;
    for reader in &mut scene.readers {
        let found = reader.get().expect("get").expect("a message");
        let number = check(&found.bytes).expect("whole");
        assert!(
            number == last || number == last + 1,
            "{number} after {last}"
        );
    }
}

fn another_is_told(who: &Stopped) -> Outcome {
    let mut busy = 0;
    let mut free = 0;
    for changes in 1.. {
        let mut scene = (who.scene)();
        let Some(stepped) = or_skip!(in_a_put(who, &scene, changes)) else {
            value::remove(scene.name.clone()).expect("remove");
            break;
        };
        readable(&mut scene);
        let mut writer = scene.writer();
        let start = Instant::now();
        let told = writer.put_timeout(&numbered(scene.last + 1), Duration::from_millis(20));
        match told {
            Err(PutError::Busy(pid)) => {
                assert_eq!(pid, Some(stepped.pid()), "who is busy");
                assert!(start.elapsed() >= Duration::from_millis(20), "too early");
                busy += 1;
            }
            Ok(_) => free += 1,
            Err(error) => panic!("after {changes} changes: {error}"),
        }
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "the time-out is kept"
        );
        readable(&mut scene);
        drop(stepped);
        let start = Instant::now();
        writer.put(&numbered(scene.last + 1)).expect("put");
        assert!(
            start.elapsed() < PROMPT,
            "after a death: {:?}",
            start.elapsed()
        );
        readable(&mut scene);
        value::remove(scene.name.clone()).expect("remove");
        drop((scene, writer));
        assert_nothing_left("stopped");
    }
    assert!(
        busy >= 5,
        "a put has more changes than {busy} under its lock"
    );
    Outcome::Pass(format!("{busy} times busy, {free} times not any more"))
}

fn a_waiter_goes_on(who: &Stopped) -> Outcome {
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let mut scene = (who.scene)();
        let stepped = or_skip!(in_a_put(who, &scene, 4)).expect("a put has four changes");
        let done = &shared_words(1)[0];
        let mut writer = scene.writers.pop().expect("a writer");
        let waiter = child(|| {
            writer.put(&numbered(scene.last + 1)).expect("put");
            done.store(1, Ordering::SeqCst);
        });
        scene.writers.push(writer);
        waiter.wait_asleep();
        assert_eq!(
            done.load(Ordering::SeqCst),
            0,
            "it waits for the one that is stopped"
        );
        let start = Instant::now();
        drop(stepped);
        wait_until(BOUND, || done.load(Ordering::SeqCst) == 1);
        slowest = slowest.max(start.elapsed());
        waiter.join();
        readable(&mut scene);
        assert!(
            slowest < PROMPT * 3,
            "round {round}: it noticed after {slowest:?}"
        );
        value::remove(scene.name.clone()).expect("remove");
    }
    Outcome::Pass(format!("slowest {slowest:?}"))
}
