//! `tombolo::mailbox` on memory that lies: see `tombolo::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tombolo::fuzzing::mailbox(bytes));
