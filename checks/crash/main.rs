//! The crash suite: processes killed, stopped and raced at every point where it matters, and those
//! left that must go on.
//!
//! - `kill`: one process killed after each change of one operation
//! - `operations`: the operations
//! - `scene`: what stands around them, and what the survivors must be able to do
#![allow(missing_docs)]

mod kill;
mod operations;
mod scene;

use checks::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[operations::CASES])
}
