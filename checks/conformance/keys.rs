//! F: `ftok`. I: keys and identifiers of all three kinds.

use crate::harness::{Outcome, Statement, Target};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub const STATEMENTS: &[Statement] = &[Statement {
    id: "F-1",
    run: formula,
}];

fn formula(t: &Target) -> Outcome {
    std::fs::write("file", "").expect("write");
    let status = std::fs::metadata("file").expect("stat");
    let expected = status.ino() as u32 & 0xffff | (status.dev() as u32 & 0xff) << 16 | 0x41 << 24;
    assert_eq!((t.ftok)(Path::new("file"), 0x41), Ok(expected as i32));
    Outcome::Pass
}
