//! Pairs are of one distance and near in time, and are held against the faster ring.

use super::*;
use crate::made_up;
use crate::transport::{Family, Waits};

fn sample(transport: &str, at: f64, distance: f64, rate: f64) -> Sample {
    let sample = made_up::sample(transport, Topology::Stream, distance, rate);
    Sample { at, ..sample }
}

fn rings() -> Vec<About> {
    let ring = |name| About::new(name, Family::Bare, Waits::Spin, Way::OneByOne);
    vec![ring("ring a"), ring("ring b")]
}

fn ratios(samples: &[Sample]) -> Vec<f64> {
    let samples: Vec<_> = samples.iter().collect();
    let rings = rings();
    pairs(&samples, "queue", &rings)
        .map(|pair| pair.ratio())
        .collect()
}

#[test]
fn a_pair_is_held_against_the_faster_ring() {
    let samples = [
        sample("ring a", 1.0, 60.0, 100.0),
        sample("ring b", 1.1, 60.0, 200.0),
        sample("queue", 1.2, 60.0, 150.0),
    ];
    assert_eq!(ratios(&samples), [0.75]);
}

#[test]
fn only_samples_of_one_distance_make_a_pair() {
    let samples = [
        sample("ring a", 1.0, 30.0, 300.0),
        sample("queue", 1.2, 60.0, 150.0),
        sample("ring a", 2.0, 60.0, 150.0),
    ];
    assert_eq!(ratios(&samples), [1.0]);
    assert_eq!(ratios(&samples[..2]), [0.0; 0]);
}

#[test]
fn only_samples_that_were_taken_about_the_same_time_make_a_pair() {
    let samples = [
        sample("ring a", 1.0, 60.0, 300.0),
        sample("queue", 100.0, 60.0, 150.0),
    ];
    assert_eq!(ratios(&samples), [0.0; 0]);
}

#[test]
fn a_sample_whose_probes_disagree_makes_no_pair() {
    let mut samples = [
        sample("ring a", 1.0, 60.0, 300.0),
        sample("queue", 1.0, 60.0, 150.0),
    ];
    samples[1].placement.after = 250.0;
    samples[1].class = samples[1].placement.class();
    assert_eq!(ratios(&samples), [0.0; 0]);
}
