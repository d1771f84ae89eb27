//! Whether every statement of `docs/semantics.md` has a test, and every test a statement.

use crate::harness::Statement;
use libtest_mimic::Failed;
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../docs/semantics.md");

/// The number of the statement that a line of the page states.
fn number(line: &str) -> Option<&str> {
    let (number, _) = line.strip_prefix("- **")?.split_once("**")?;
    let (group, serial) = number.split_once('-')?;
    let is_number = group.bytes().all(|byte| byte.is_ascii_uppercase())
        && serial.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(number)
}

/// Compares the page with the tests.
pub fn check(groups: &[&[Statement]]) -> Result<(), Failed> {
    // How often the page states it, how many tests it has.
    let mut found: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for number in PAGE.lines().filter_map(number) {
        found.entry(number).or_default().0 += 1;
    }
    for statement in groups.iter().copied().flatten() {
        found.entry(statement.id).or_default().1 += 1;
    }
    let wrong: Vec<String> = found
        .iter()
        .filter(|(_, counts)| **counts != (1, 1))
        .map(|(id, (stated, tested))| format!("{id}: stated {stated} times, tests: {tested}"))
        .collect();
    if wrong.is_empty() && !found.is_empty() {
        return Ok(());
    }
    Err(format!(
        "docs/semantics.md and the suite differ ({} statements):\n{}",
        found.len(),
        wrong.join("\n")
    )
    .into())
}
