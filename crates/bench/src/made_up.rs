//! Records that are made up, for tests.

use crate::behaviour::Behaviour;
use crate::machine::Machine;
use crate::place::{Distance, Placement};
use crate::run::{Options, Record, Sample};
use crate::stats::Latency;
use crate::transport::{About, Topology};
use std::time::Duration;

/// A sample of messages of 64 bytes whose two probes read the same distance: each took `figure` nanoseconds
/// one way, or there were so many in a second.
pub fn sample(transport: &str, topology: Topology, distance: f64, figure: f64) -> Sample {
    let placement = Placement {
        before: Distance(distance),
        after: Distance(distance),
    };
    let is_stream = topology == Topology::Stream;
    Sample {
        transport: transport.to_owned(),
        topology,
        length: 64,
        at: 1.0,
        placement,
        counts: true,
        preemptions: 0,
        delayed: 0.0,
        messages: 1000,
        rate: is_stream.then_some(figure),
        latency: (!is_stream).then_some(Latency {
            p50: figure,
            p90: figure,
            p99: figure,
            p99_9: figure,
            max: figure,
        }),
        sleeps: 0,
    }
}

/// A run of these samples, and of nothing else.
pub fn record(topology: Topology, transports: Vec<About>, samples: Vec<Sample>) -> Record {
    Record {
        machine: Machine::here(),
        options: Options {
            topologies: vec![topology],
            lengths: vec![64],
            repetitions: 1,
            close_ones: 1,
            duration: Duration::from_millis(1),
            patience: Duration::ZERO,
            processors: [0, 1],
            only: Vec::new(),
        },
        transports,
        samples,
        skipped: Vec::new(),
        growth: Vec::new(),
        costs: Vec::new(),
        behaviour: Behaviour::default(),
        seconds: 1.0,
    }
}
