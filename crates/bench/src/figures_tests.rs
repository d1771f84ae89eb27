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
    let (rings, at) = (rings(), Distance(60.0));
    let ring = bare_ring(&rings, &samples, Way::OneByOne, at).unwrap_or("none");
    pairs(&samples, "queue", ring, at)
        .map(|pair| pair.ratio())
        .collect()
}

#[test]
fn a_pair_is_held_against_the_ring_that_is_faster_most_of_the_time() {
    let samples = [
        sample("ring a", 1.0, 60.0, 100.0),
        sample("ring b", 1.1, 60.0, 200.0),
        sample("queue", 1.2, 60.0, 150.0),
        sample("ring a", 6.0, 60.0, 250.0),
        sample("ring b", 6.1, 60.0, 200.0),
        sample("queue", 6.2, 60.0, 100.0),
        sample("ring a", 9.5, 60.0, 150.0),
        sample("ring b", 9.5, 60.0, 220.0),
    ];
    assert_eq!(ratios(&samples), [0.75, 0.5]);
}

#[test]
fn a_pair_is_held_against_what_was_before_and_after() {
    let samples = [
        sample("ring a", 1.0, 60.0, 1000.0),
        sample("ring a", 2.0, 60.0, 100.0),
        sample("queue", 2.5, 60.0, 150.0),
        sample("ring a", 3.0, 60.0, 400.0),
        sample("ring a", 4.0, 60.0, 1000.0),
    ];
    assert_eq!(ratios(&samples), [0.75]);
}

#[test]
fn only_samples_of_one_distance_make_a_pair() {
    let samples = [
        sample("ring a", 1.0, 30.0, 300.0),
        sample("queue", 1.2, 60.0, 150.0),
        sample("ring a", 2.0, 62.0, 150.0),
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
    samples[1].placement.after = Distance(250.0);
    assert_eq!(ratios(&samples), [0.0; 0]);
}

#[test]
fn what_has_a_ring_of_its_way_is_held_against_no_other() {
    let ring = |name, way| About::new(name, Family::Bare, Waits::Spin, way);
    let rings = [ring("ring a", Way::OneByOne), ring("ring b", Way::InPlace)];
    let samples = [
        sample("ring a", 1.0, 60.0, 100.0),
        sample("ring b", 1.1, 200.0, 100.0),
    ];
    let against = |samples: &[Sample], way| {
        let samples: Vec<_> = samples.iter().collect();
        bare_ring(&rings, &samples, way, Distance(60.0)).map(str::to_owned)
    };
    assert_eq!(against(&samples, Way::OneByOne).as_deref(), Some("ring a"));
    // Its samples were taken elsewhere.
    assert_eq!(against(&samples, Way::InPlace), None);
    // It has none at this shape and length.
    assert_eq!(
        against(&samples[..1], Way::InPlace).as_deref(),
        Some("ring a")
    );
}
