//! Killing a process after each change of one operation, and looking how the others fare.
//!
//! A run kills one process after its first change, the next one after its second, and so on, until
//! one comes through. What stood before, and what the survivors must be able to do, is the
//! `scene`'s to say. The long version also kills between changes.

use crate::scene::{After, Scene};
use checks::space::Prompt;
use checks::step::{Change, Grain, Stepped};
use checks::suite::{Outcome, is_long};
use std::time::Instant;

/// What is done and killed.
pub struct Operation<P> {
    /// What stands before.
    pub scene: fn() -> Scene,
    /// What the process does before it is watched.
    pub prepare: fn(&Scene) -> P,
    /// What it does then.
    pub act: fn(&Scene, P),
    /// What may hold afterwards.
    pub after: After,
}

/// Kills the operation everywhere.
pub fn everywhere<P>(operation: &Operation<P>) -> Outcome {
    let start = Instant::now();
    let mut survey = Survey::default();
    let mut points = 0;
    let steps = loop {
        match kill_at(operation, Grain::Change, points, &mut survey) {
            Ok(Killed::Before) => points += 1,
            Ok(Killed::Never(steps)) => break steps,
            Err(reason) => return Outcome::Skip(reason),
        }
    };
    let mut between = 0;
    if is_long() {
        // About a thousand kills; all instructions where an operation has no more.
        let stride = (steps / 1000).max(1);
        let mut at = 0;
        while let Ok(Killed::Before) = kill_at(operation, Grain::Instruction, at, &mut survey) {
            at += stride;
            between += 1;
        }
    }
    let Survey {
        prompt, orphans, ..
    } = survey;
    Outcome::Pass(format!(
        "{points} kill points in {steps} steps, {between} kills between, {orphans} presence \
         orphans; {} timed operations, the slowest {:?}; {:?}",
        prompt.count,
        prompt.slowest,
        start.elapsed()
    ))
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

enum Killed {
    Before,
    Never(u64),
}

fn kill_at<P>(
    operation: &Operation<P>,
    grain: Grain,
    count: u64,
    survey: &mut Survey,
) -> Result<Killed, String> {
    let scene = (operation.scene)();
    let mut stepped = Stepped::new(
        || (operation.prepare)(&scene),
        |prepared| (operation.act)(&scene, prepared),
    )?;
    let mut last = None;
    let mut ended = None;
    for _ in 0..count {
        last = stepped.step(grain);
        if let Some(Change::Ended(status)) = last {
            ended = Some(status);
            break;
        }
    }
    survey.at = format!("killed after {count} of {grain:?}, the last {last:?}");
    let steps = stepped.steps;
    match ended {
        None => stepped.kill(),
        Some(status) => assert_eq!(status, 0, "the operation failed when nobody killed it"),
    }
    scene.survive(operation.after, ended.is_some(), survey);
    Ok(ended.map_or(Killed::Before, |_| Killed::Never(steps)))
}
