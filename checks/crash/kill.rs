//! Killing a process after each change of one operation, and looking how the others fare.
//!
//! A run kills one process after its first change, the next one after its second, and so on, until
//! one comes through. What stood before, and what the survivors must be able to do, is the
//! `scene`'s to say. The long version also kills between changes.

use checks::space::Prompt;
use checks::step::{Change, Grain, Stepped};
use checks::suite::{Outcome, is_long, quick_or_long};
use std::time::Instant;

/// What is done and killed.
pub struct Operation<'a, S, P> {
    /// What stands before.
    pub scene: &'a dyn Fn() -> S,
    /// What the process does before it is watched.
    pub prepare: &'a dyn Fn(&S) -> P,
    /// What it does then.
    pub act: &'a dyn Fn(&S, P),
    /// Asserts what holds afterwards, told whether the operation came through.
    pub survive: &'a dyn Fn(S, bool, &mut Survey),
    /// In the quick version it is killed at each point, at each second, …
    pub each: usize,
}

/// Kills the operation everywhere.
pub fn everywhere<S, P>(operation: &Operation<'_, S, P>) -> Outcome {
    let start = Instant::now();
    let mut survey = Survey::default();
    let Learned { points, steps } = match learn(operation, &mut survey) {
        Ok(learned) => learned,
        Err(reason) => return Outcome::Skip(reason),
    };
    let stride = quick_or_long(operation.each, 1);
    kill_at(operation, &mut survey, "before anything", |_| true);
    for (i, point) in points.iter().enumerate().step_by(stride) {
        kill_at(operation, &mut survey, &format!("change {i}"), |stepped| {
            let mut changes = 0..=point.changes;
            stepped.skip_calls(point.calls)
                && changes.all(|_| !matches!(stepped.step(Grain::Change), Some(Change::Ended(_))))
        });
    }
    let mut between = 0;
    if is_long() {
        // About a thousand kills; all instructions where an operation has no more.
        for at in (0..steps).step_by((steps / 1000).max(1) as usize) {
            between += 1;
            kill_at(operation, &mut survey, &format!("step {at}"), |stepped| {
                (0..at).all(|_| {
                    let change = stepped.step(Grain::Instruction);
                    !matches!(change, Some(Change::Ended(_)))
                })
            });
        }
    }
    let Survey {
        prompt, orphans, ..
    } = survey;
    Outcome::Pass(format!(
        "{} kill points in {steps} steps, {between} kills between, {orphans} presence \
         orphans; {} timed operations, the slowest {:?}; {:?}",
        1 + points.len().div_ceil(stride),
        prompt.count,
        prompt.slowest,
        start.elapsed()
    ))
}

/// A change that an operation makes.
struct Point {
    /// How many System V calls were made before the step that made it.
    calls: u64,
    /// How many changes between the last of those calls and it.
    changes: usize,
}

/// Where an operation changes something.
struct Learned {
    points: Vec<Point>,
    /// All steps.
    steps: u64,
}

/// Watches the operation come through.
fn learn<S, P>(operation: &Operation<'_, S, P>, survey: &mut Survey) -> Result<Learned, String> {
    let scene = (operation.scene)();
    let mut stepped = start(operation, &scene)?;
    let mut points: Vec<Point> = Vec::new();
    loop {
        let calls = stepped.calls;
        match stepped.step(Grain::Instruction) {
            Some(Change::Ended(status)) => {
                assert_eq!(status, 0, "the operation failed when nobody killed it");
                break;
            }
            Some(_) => {
                let changes = points.iter().filter(|point| point.calls == calls).count();
                points.push(Point { calls, changes });
            }
            None => {}
        }
    }
    let steps = stepped.steps;
    drop(stepped);
    survey.at = "not killed".into();
    (operation.survive)(scene, true, survey);
    Ok(Learned { points, steps })
}

fn start<S, P>(operation: &Operation<'_, S, P>, scene: &S) -> Result<Stepped, String> {
    Stepped::new(
        || (operation.prepare)(scene),
        |prepared| (operation.act)(scene, prepared),
    )
}

/// Kills the operation where `go` leaves it, unless that answers that it has come through.
fn kill_at<S, P>(
    operation: &Operation<'_, S, P>,
    survey: &mut Survey,
    at: &str,
    go: impl FnOnce(&mut Stepped) -> bool,
) {
    let scene = (operation.scene)();
    let mut stepped = start(operation, &scene).expect("it went before");
    let alive = go(&mut stepped);
    survey.at = format!("killed at {at}, {} calls", stepped.calls);
    drop(stepped);
    (operation.survive)(scene, !alive, survey);
}

/// Does something in a process of its own that is killed after `changes` changes.
pub fn killed_after<P>(changes: u64, prepare: impl FnOnce() -> P, act: impl FnOnce(P)) {
    let mut stepped = Stepped::new(prepare, act).expect("a stepped process");
    for _ in 0..changes {
        let change = stepped.step(Grain::Change);
        assert!(!matches!(change, Some(Change::Ended(_))), "it ended before");
    }
    stepped.kill();
}

/// Does something in a process of its own that is killed at the first change after which `now`
/// holds.
pub fn killed_when<P>(now: impl Fn() -> bool, prepare: impl FnOnce() -> P, act: impl FnOnce(P)) {
    let mut stepped = Stepped::new(prepare, act).expect("a stepped process");
    while !now() {
        let change = stepped.step(Grain::Change);
        assert!(!matches!(change, Some(Change::Ended(_))), "it ended before");
    }
    stepped.kill();
}

/// What all kills of one operation add up to.
#[derive(Default)]
pub struct Survey {
    /// Times what must be prompt.
    pub prompt: Prompt,
    /// Presence orphans found.
    pub orphans: usize,
    /// Which kill this is, for messages.
    pub at: String,
}
