//! What is held against what.

use super::*;
use crate::behaviour::Behaviour;
use crate::machine::Machine;
use crate::place::Placement;
use crate::run::{Options, Sample};
use crate::stats::Latency;
use std::time::Duration;

/// Round trips of 64 bytes: what each transport takes one way, in nanoseconds.
fn record(figures: &[(About, f64)]) -> Record {
    let sample = |(about, nanoseconds): &(About, f64)| {
        let placement = Placement {
            before: 60.0,
            after: 61.0,
        };
        let [p50, p90, p99, p99_9, max] = [1.0; 5].map(|x| x * nanoseconds);
        Sample {
            transport: about.name.clone(),
            topology: Topology::RoundTrip,
            length: 64,
            at: 1.0,
            placement,
            class: placement.class(),
            preemptions: 0,
            delayed: 0.0,
            messages: 1000,
            rate: None,
            latency: Some(Latency {
                p50,
                p90,
                p99,
                p99_9,
                max,
            }),
            sleeps: 0,
        }
    };
    Record {
        machine: Machine::here(),
        options: Options {
            topologies: vec![Topology::RoundTrip],
            lengths: vec![64],
            repetitions: 1,
            duration: Duration::from_millis(1),
            patience: Duration::ZERO,
            processors: [0, 1],
            only: Vec::new(),
        },
        transports: figures.iter().map(|(about, _)| about.clone()).collect(),
        samples: figures.iter().map(sample).collect(),
        skipped: Vec::new(),
        growth: Vec::new(),
        costs: Vec::new(),
        behaviour: Behaviour::default(),
        seconds: 1.0,
    }
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
