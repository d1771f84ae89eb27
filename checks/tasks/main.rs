//! The task suite: channels awaited instead of blocked on, on tokio and on a runtime that is next
//! to nothing.
//!
//! - `queues`: messages, ends and deaths of a queue
//! - `cancelling`: waits that are given up while messages flow
//! - `values`: a value as a stream
//! - `topics`: a topic's messages, and what was lost
//! - `services`: calls of tasks, and tasks that serve
//! - `mailboxes`: tasks that post and take
//! - `reactor`: its thread, what it costs, and how many words it can sleep on
//! - `stage`: what stands around them
#![allow(missing_docs)]

mod cancelling;
mod mailboxes;
mod queues;
mod reactor;
mod services;
mod stage;
mod topics;
mod values;

use checks::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        queues::CASES,
        cancelling::CASES,
        values::CASES,
        topics::CASES,
        services::CASES,
        mailboxes::CASES,
        reactor::CASES,
    ])
}
