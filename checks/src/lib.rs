//! What the checks share.
//!
//! - `bin_under_test`: where the `tombolo` command is
//! - `process`: children, other users, gates, waiting for a state
//! - `isolate`: a process and a name space of its own for each test
#![allow(missing_docs)]

pub mod bin_under_test;
pub mod isolate;
pub mod process;

/// README.md, whose examples compile and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
