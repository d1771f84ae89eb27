//! What the checks share.
//!
//! - `bin_under_test`: where the `tombolo` command is
//! - `process`: children, other users, gates, waiting for a state
//! - `processor`: keeping a process on one processor
//! - `isolate`: a process and a name space of its own for each test
//! - `refused`: a process to which the kernel's System V calls are refused
//! - `suite`: tables of cases
//! - `user_space`: a name space in user space for a case
//! - `step`: a process stopped after each instruction that changes shared memory
//! - `seen`: everything that can be seen of the objects of a name space
//! - `space`: what is in the name space, and what a suite may leave there
//! - `message`: messages that show whether they are whole
#![allow(missing_docs)]

pub mod bin_under_test;
pub mod isolate;
pub mod message;
pub mod process;
pub mod processor;
pub mod refused;
pub mod seen;
pub mod space;
pub mod step;
pub mod suite;
pub mod user_space;

/// README.md, whose examples compile and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
