//! The hostile suite.
#![allow(missing_docs)]
use checks::suite;
use std::process::ExitCode;
fn main() -> ExitCode {
    suite::main(&[])
}
