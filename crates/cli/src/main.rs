//! The `tombolo` command.
#![forbid(unsafe_code)]

fn main() {}
