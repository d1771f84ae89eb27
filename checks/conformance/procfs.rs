use crate::harness::Statement;

pub const STATEMENTS: &[Statement] = &[];
