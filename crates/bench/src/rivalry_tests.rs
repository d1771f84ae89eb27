//! What is held against what.

use super::*;
use crate::made_up;
use crate::run::Sample;

/// Round trips of 64 bytes: what each transport takes one way, in nanoseconds.
fn record(figures: &[(About, f64)]) -> Record {
    let shape = Topology::RoundTrip;
    let samples = figures
        .iter()
        .map(|(about, figure)| made_up::sample(&about.name, shape, 60.0, *figure));
    let transports = figures.iter().map(|(about, _)| about.clone()).collect();
    made_up::record(shape, transports, samples.collect())
}

fn about(name: &str, family: Family, waits: Waits, way: Way) -> About {
    About::new(name, family, waits, way)
}

#[test]
fn like_is_held_against_like() {
    use Family::{Kernel, Rival, Tombolo};
    use Waits::{Adaptive, Block, Spin};
    use Way::{InPlace, OneByOne};
    let record = record(&[
        (about("queue", Tombolo, Adaptive, OneByOne), 60.0),
        (about("queue, parking", Tombolo, Block, OneByOne), 9000.0),
        (about("queue, in place", Tombolo, Adaptive, InPlace), 50.0),
        (about("mailbox", Tombolo, Adaptive, OneByOne), 400.0),
        (about("service", Tombolo, Adaptive, OneByOne), 70.0),
        (about("value", Tombolo, Adaptive, OneByOne), 1.0),
        (about("pipe", Kernel, Block, OneByOne), 8000.0),
        (about("System V queue", Kernel, Block, OneByOne), 300.0),
        (about("other, in place", Rival, Spin, InPlace), 51.0),
        (about("other requests", Rival, Spin, OneByOne), 65.0),
        (
            about("other requests, in place", Rival, Spin, InPlace),
            200.0,
        ),
    ]);
    let found = leads(&record, &Figures::of(&record));
    let found: Vec<_> = found
        .iter()
        .map(|lead| (&*lead.other.0, &*lead.ours.0, lead.standing()))
        .collect();
    use Standing::{Ahead, Behind, Level};
    assert_eq!(
        found,
        [
            ("pipe", "queue", Ahead),
            ("pipe", "queue, parking", Behind),
            ("System V queue", "queue", Ahead),
            ("System V queue", "queue, parking", Behind),
            ("System V queue", "mailbox", Behind),
            ("other, in place", "queue, in place", Level),
            ("other requests", "service", Behind),
            ("other requests, in place", "service", Ahead),
        ]
    );
}

#[test]
fn what_was_taken_in_the_same_round_is_held_against_each_other() {
    let shape = Topology::RoundTrip;
    let abouts = [("queue", Family::Tombolo), ("pipe", Family::Kernel)]
        .map(|(name, family)| about(name, family, Waits::Spin, Way::OneByOne));
    let by = |samples: &[(&str, f64, f64)]| {
        let sample = |(name, at, figure): &(&str, f64, f64)| Sample {
            at: *at,
            ..made_up::sample(name, shape, 60.0, *figure)
        };
        let samples = samples.iter().map(sample).collect();
        let record = made_up::record(shape, abouts.to_vec(), samples);
        let found = leads(&record, &Figures::of(&record));
        found.iter().map(|lead| lead.by).collect::<Vec<_>>()
    };
    // The second round was slow, and the pipe has no sample of the first.
    assert_eq!(
        by(&[
            ("queue", 1.0, 10.0),
            ("queue", 40.0, 100.0),
            ("pipe", 43.0, 200.0)
        ]),
        [2.0]
    );
    assert_eq!(by(&[("queue", 1.0, 10.0), ("pipe", 43.0, 200.0)]), [0.0; 0]);
}
