//! The differential suite: random calls of several processes, on the kernel and in user space;
//! results and states must be the same.
//!
//! - `call`: a call as numbers, and how it is made
//! - `pair`: two processes that make the same calls, one on either side
//! - `play`: what is called, by chance, and the comparison
#![allow(missing_docs)]

mod call;
mod pair;
mod play;

use checks::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[play::CASES])
}
