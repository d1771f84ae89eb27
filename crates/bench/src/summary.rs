//! What of a record is worth a glance: the bare limit, and some transports beside it.

use crate::figures::{Figures, is_better};
use crate::run::Record;
use crate::stats::Spread;
use crate::transport::{About, Family, Topology, Way};

/// What the faster of the bare rings that hand messages over in this way is called.
pub fn limit(way: Way) -> &'static str {
    match way {
        Way::OneByOne => "bare limit",
        Way::Batch => "bare limit, batches",
        Way::ReadInPlace => "bare limit, read in place",
        Way::InPlace => "bare limit, in place",
    }
}

/// The ways that have a limit.
pub const WAYS: [Way; 4] = [Way::OneByOne, Way::Batch, Way::ReadInPlace, Way::InPlace];

/// What a user is likely to compare: the channels, and the ways that the kernel offers.
pub const USUAL: [&str; 10] = [
    "queue",
    "queue, parking",
    "topic",
    "service",
    "value",
    "pipe",
    "FIFO",
    "Unix socket, stream",
    "System V queue",
    "POSIX queue",
];

/// A transport's figure at one shape and length.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub family: Family,
    /// Nanoseconds one way, or messages per second: the median and its spread.
    pub value: Spread,
    /// The multiple of the bare limit's; a limit has none.
    pub ratio: Option<Spread>,
    /// Whether no sample was left in peace.
    pub disturbed: bool,
}

/// The transports that were chosen and measured, in the record's order, below the bare limits of the
/// ways in which they hand messages over.
pub fn rows(
    record: &Record,
    figures: &Figures,
    topology: Topology,
    length: usize,
    chosen: impl Fn(&About) -> bool,
) -> Vec<Row> {
    let row = |about: &About| {
        let cell = figures.cell(&about.name, topology, length)?;
        Some(Row {
            name: about.name.clone(),
            family: about.family,
            value: cell.value,
            ratio: cell.ratio,
            disturbed: cell.disturbed,
        })
    };
    let wanted = |about: &&About| !about.is_ring() && chosen(about);
    let others = || record.transports.iter().filter(wanted);
    let faster = |way: Way| {
        others().find(|about| about.way == way && row(about).is_some())?;
        let rings = record.transports.iter().filter(|about| about.is_ring());
        let rings = rings.filter(|about| about.way == way).filter_map(row);
        let (name, ratio) = (limit(way).to_owned(), None);
        let fastest = rings.reduce(|a, b| {
            let is_better = is_better(topology, b.value.median, a.value.median);
            if is_better { b } else { a }
        })?;
        Some(Row {
            name,
            ratio,
            ..fastest
        })
    };
    let limits = WAYS.into_iter().filter_map(faster);
    limits.chain(others().filter_map(row)).collect()
}

/// How a transport is called on a command line: words in lower case, joined by hyphens.
pub fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_transport_has_a_name_of_its_own_on_the_command_line() {
        let names = crate::registry::runners().into_iter();
        let names: Vec<_> = names.map(|runner| runner.about().name).collect();
        let slugs: HashSet<_> = names.iter().map(|name| slug(name)).collect();
        assert_eq!(slugs.len(), names.len());
        assert_eq!(slug("Unix socket, stream"), "unix-socket-stream");
    }

    #[test]
    fn what_is_usual_exists() {
        let all = crate::registry::runners();
        let exists = |name: &&str| all.iter().any(|runner| runner.about().name == **name);
        assert!(USUAL.iter().all(exists));
    }
}
