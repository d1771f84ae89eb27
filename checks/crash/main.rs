//! The crash suite: processes killed, stopped and raced at every point where it matters, and those
//! left that must go on.
//!
//! - `kill`: one process killed after each change of one operation
//! - `operations`: the operations
//! - `stopped`: a writer that is stopped, not dead
//! - `presence`: who counts as alive
//! - `race`: many that create one name at once
//! - `watch`: readers that watch while writers put, grow and die
//! - `lifetime`: channels that live while they are used
//! - `names`: whose a name is, and limits of the kernel
//! - `scene`: what stands around them, and what the survivors must be able to do
#![allow(missing_docs)]

mod kill;
mod lifetime;
mod names;
mod operations;
mod presence;
mod race;
mod scene;
mod stopped;
mod watch;

use checks::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        operations::CASES,
        stopped::CASES,
        presence::CASES,
        race::CASES,
        watch::CASES,
        lifetime::CASES,
        names::CASES,
    ])
}
