//! Measures ways between two processes, beside what the machine itself can do.
//!
//! A *sample* is one transport, moving messages of one length in one shape (a round trip, or a
//! stream) between two processes that are pinned to two processors. Beside it, in the same run,
//! the *bare rings* are sampled, which do nothing but move bytes; what counts is the ratio of two
//! samples that were taken a moment apart at the same distance between the processors.
//!
//! ```text
//! command ──► run ──► conduct ══► body ──► transport          table, report
//! what to      samples   one        in two     queue, fd, …      ▲
//! measure      in turn   sample     processes  bare              │
//!                └──────────────── Record ──► figures ───────────┘
//! ```
//!
//! - `transport`: what a transport offers; `body`: what is done with it while time is taken
//! - `content`: what messages hold and how they are checked
//! - `place`: pinning, and the ping-pong that tells how far apart the processors are
//! - `bare`: the limit; `queue`, `topic`, `service`, `mailbox`, `value`, `fd`, `queues`, `signalled`: the transports
//! - `conduct`: one sample; `run`: all of them; `figures`: what they say
//! - `rows`: what each row is, in words; `rivalry`: who is ahead, like held against like
//! - `growth`: what becomes of it when there is more of something; `costs`: single operations
//! - `behaviour`: system calls (`calls`), a thousand sleepers (`idle`), what it takes to wake one (`woken`), a
//!   further subscriber (`audience`)
//! - `interrupts`: what becomes of Ctrl-C meanwhile
//!
//! # How to
//! ```text
//! cargo bench -p checks --bench transports -- --quick
//! cargo bench -p checks --bench transports -- --only queue --size 64 --json record.json
//! ```
//!
//! Measuring keeps two processors busy; whatever else runs meanwhile spoils it. Samples whose
//! processes were preempted, or moved on their host, are not counted.
//!
//! To add a transport: implement [`Transport`](transport::Transport) (or
//! [`Service`](transport::Service)), wrap it in [`OneWay`](body::OneWay) (or
//! [`Asked`](body::Asked)) and put it into the list that the program gives to
//! [`play_role`](conduct::play_role) and [`run`](run::run).

pub mod audience;
pub mod bare;
pub mod bare_in_band;
pub mod bare_index;
pub mod behaviour;
pub mod body;
pub mod calls;
pub mod clock;
pub mod command;
pub mod conduct;
pub mod content;
pub mod costs;
pub mod fd;
pub mod figures;
pub mod growth;
pub mod idle;
pub mod in_place;
pub mod interrupts;
pub mod machine;
#[cfg(test)]
mod made_up;
pub mod mailbox;
pub mod place;
pub mod plot;
pub mod queue;
pub mod queues;
pub mod raw;
pub mod reach;
pub mod readme;
pub mod registry;
pub mod report;
pub mod rivalry;
pub mod rows;
pub mod run;
pub mod service;
pub mod signalled;
pub mod stats;
pub mod summary;
pub mod table;
pub mod targets;
pub mod topic;
pub mod transport;
pub mod value;
pub mod woken;
