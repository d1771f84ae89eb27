//! The hostile suite: segments that hold what no writer writes, and processes that write it while
//! others work.
//!
//! Wrong messages and errors are allowed; a crash, a panic, or a wait past its time-out is not.
//!
//! - `victim`: what is done with a channel that is not to be trusted
//! - `fields`: each field of the layouts set to each value that may hurt; segments of wrong sizes
//! - `scribble`: a process that writes all over the segment meanwhile
//! - `mailbox`, `queue`, `service`, `topic`: the same for those channels
//! - `registry`: the same for a name space in user space
//! - `tables`: their fields, as `fields` does it for a value
#![allow(missing_docs)]

mod fields;
mod mailbox;
mod queue;
mod registry;
mod scribble;
mod service;
mod tables;
mod topic;
mod victim;

use checks::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        fields::CASES,
        mailbox::CASES,
        queue::CASES,
        registry::CASES,
        scribble::CASES,
        service::CASES,
        tables::CASES,
        topic::CASES,
    ])
}
