//! Who is ahead, like held against like.
//!
//! A figure of somebody else's is held against the best of ours that does the same job, hands
//! messages over in the same way, and waits in the same way:
//!
//! | theirs | ours |
//! | --- | --- |
//! | asks and is answered | `service` |
//! | System V queue | `queue` and `topic`; and, in a row of its own, `mailbox`, whose messages have types too |
//! | everything else | `queue` and `topic` |
//! | messages copied, or in place | in the same way; copied where ours was not measured in that way |
//! | looks again and again | adaptive or spinning |
//! | sleeps | adaptive, which is the default; and, in a row of its own, parking |
//!
//! `value` has no counterpart: it keeps the latest message only.

use crate::figures::{Cell, Figures};
use crate::run::Record;
use crate::transport::{About, Family, Topology, Waits, Way};

/// What two medians of one thing differ by at most: less than that is no lead.
pub const LEVEL: f64 = 1.05;

/// The same for readers of the page.
pub const RULES: &str = "\
Like is held against like: `service` against what asks and is answered, `queue` and `topic` against the
rest, `mailbox` as well against System V's queue, whose messages have types too; `value` has no
counterpart. What is copied against what is copied, what stays in place against the same (against
copies where ours was not measured so). Who looks again and again against our adaptive or spinning
channels; who sleeps against the adaptive ones, which are the default and take processor time while they
look, and against those that park. What was measured in the same round at the same distance, whichever that is, is held
against each other. A difference of less than 5 % is none: two medians of one thing differ by as
much.
";

/// A figure of somebody else's, and ours.
#[derive(Clone, Debug)]
pub struct Lead {
    /// The shape.
    pub topology: Topology,
    /// The length.
    pub length: usize,
    /// The best of ours: its name and figure.
    pub ours: (String, f64),
    /// The other: its name and figure.
    pub other: (String, f64),
    /// How many times as good ours is, by samples of the same round.
    pub by: f64,
    /// Whether ours sleeps instead of looking for a while.
    pub parked: bool,
}

/// Who is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ours.
    Ahead,
    /// Nobody, as far as can be told.
    Level,
    /// The other.
    Behind,
}

impl Lead {
    /// Who is ahead.
    pub fn standing(&self) -> Standing {
        match self.by {
            by if by > LEVEL => Standing::Ahead,
            by if by < 1.0 / LEVEL => Standing::Behind,
            _ => Standing::Level,
        }
    }
}

/// What a channel of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Messages,
    Typed,
    Requests,
}

fn ours(name: &str) -> Option<Job> {
    let (channel, _) = name.split_once(',').unwrap_or((name, ""));
    match channel {
        "queue" | "topic" => Some(Job::Messages),
        "mailbox" => Some(Job::Typed),
        "service" => Some(Job::Requests),
        _ => None,
    }
}

fn theirs(about: &About) -> &'static [Job] {
    match &*about.name {
        name if name.contains("request") => &[Job::Requests],
        "System V queue" => &[Job::Messages, Job::Typed],
        _ => &[Job::Messages],
    }
}

/// All figures of others, each with ours.
pub fn leads(record: &Record, figures: &Figures) -> Vec<Lead> {
    let mut all = Vec::new();
    for topology in record.options.topologies.iter().copied() {
        for length in record.options.lengths.iter().copied() {
            let cells = Cells {
                record,
                figures,
                topology,
                length,
            };
            let foreign = |about: &&About| !matches!(about.family, Family::Tombolo | Family::Bare);
            for other in record.transports.iter().filter(foreign) {
                all.extend(cells.leads(other));
            }
        }
    }
    all
}

/// The figures of one shape and length.
struct Cells<'a> {
    record: &'a Record,
    figures: &'a Figures,
    topology: Topology,
    length: usize,
}

impl Cells<'_> {
    fn cell(&self, about: &About) -> Option<&Cell> {
        self.figures.cell(&about.name, self.topology, self.length)
    }

    /// One for each job of the other's, and each way of waiting that compares to its own.
    fn leads(&self, other: &About) -> Vec<Lead> {
        let parked: &[bool] = match other.waits {
            Waits::Block => &[false, true],
            Waits::Spin | Waits::Adaptive => &[false],
        };
        let jobs = theirs(other).iter();
        let pairs = jobs.flat_map(|job| parked.iter().map(move |parked| (*job, *parked)));
        let lead = |(job, parked)| {
            let fits = |way| {
                let some = self.record.transports.iter();
                let some = some.filter(move |about| is_ours(about, job, way, parked));
                some.filter_map(|about| Some((about, self.cell(about)?)))
            };
            let same = fits(other.way).next().is_some();
            let way = if same { other.way } else { Way::OneByOne };
            let all = fits(way).filter_map(|ours| self.lead(ours, other, parked));
            all.max_by(|a, b| a.by.total_cmp(&b.by))
        };
        pairs.filter_map(lead).collect()
    }

    fn lead(&self, (about, own): (&About, &Cell), other: &About, parked: bool) -> Option<Lead> {
        let theirs = self.cell(other)?;
        let ratio = own.against(theirs)?.median;
        Some(Lead {
            topology: self.topology,
            length: self.length,
            ours: (about.name.clone(), own.value.median),
            other: (other.name.clone(), theirs.value.median),
            by: match self.topology {
                Topology::RoundTrip => 1.0 / ratio,
                Topology::Stream => ratio,
            },
            parked,
        })
    }
}

/// Whether it is a channel of ours that does a job in a way, and sleeps or does not.
fn is_ours(about: &About, job: Job, way: Way, parked: bool) -> bool {
    about.family == Family::Tombolo
        && ours(&about.name) == Some(job)
        && about.way == way
        && (about.waits == Waits::Block) == parked
}

#[cfg(test)]
#[path = "rivalry_tests.rs"]
mod tests;
