//! The crash suite: processes killed, stopped and raced at every point where it matters, and those
//! left that must go on.
//!
//! - `kill`: one process killed after each change of one operation
//! - `operations`: the operations
//! - `stopped`: a writer that is stopped, not dead
//! - `presence`: who counts as alive
//! - `watching`: who sleeps while a peer dies
//! - `pulses`: the word that wakes them, and who might forge it
//! - `mutexes`: that the C library's own robust mutexes stay robust
//! - `parked`: what many cost that sleep
//! - `board`: what these share
//! - `race`: many that create one name at once
//! - `watch`: readers that watch while writers put, grow and die
//! - `lifetime`: channels that live while they are used
//! - `names`: whose a name is, and limits of the kernel
//! - `crowd`: many processes, killed at random moments
//! - `queue_steps`: the same for a queue
//! - `queue_deaths`: what waits for somebody who is killed
//! - `queue_coming`: those killed in the middle of a message that is copied out meanwhile
//! - `queue_crowd`: many processes over one queue, and kills at random moments
//! - `mailbox_steps`, `mailbox_crowd`: the same for a mailbox
//! - `service_steps`, `service_deaths`, `service_crowd`: the same for a service
//! - `topic_steps`, `topic_deaths`, `topic_crowd`: the same for a topic
//! - `space_steps`: one process killed after each change of one call in user space
//! - `scene`: what stands around them, and what the survivors must be able to do
#![allow(missing_docs)]

mod board;
mod crowd;
mod kill;
mod lifetime;
mod mailbox_crowd;
mod mailbox_steps;
mod mutexes;
mod names;
mod operations;
mod parked;
mod presence;
mod pulses;
mod queue_coming;
mod queue_crowd;
mod queue_deaths;
mod queue_steps;
mod race;
mod scene;
mod service_crowd;
mod service_deaths;
mod service_steps;
mod space_lanes;
mod space_steps;
mod stopped;
mod topic_crowd;
mod topic_deaths;
mod topic_steps;
mod watch;
mod watching;

use checks::suite;
use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(&[
        operations::CASES,
        stopped::CASES,
        presence::CASES,
        watching::CASES,
        pulses::CASES,
        mutexes::CASES,
        parked::CASES,
        race::CASES,
        watch::CASES,
        lifetime::CASES,
        names::CASES,
        queue_steps::CASES,
        queue_deaths::CASES,
        queue_crowd::CASES,
        queue_coming::CASES,
        mailbox_steps::CASES,
        mailbox_crowd::CASES,
        service_steps::CASES,
        service_deaths::CASES,
        service_crowd::CASES,
        topic_steps::CASES,
        topic_deaths::CASES,
        topic_crowd::CASES,
        space_steps::CASES,
    ])
}
