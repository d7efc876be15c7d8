//! The simulation by itself, and against the chain.

use super::super::chain::{Jump, Rebuilds};
use super::super::spread::Topology;
use super::*;

/// Losses of a fast run that a comparison must have seen, so that its error is small.
const LOSSES_MIN: u64 = 1000;

fn coding(text: &str) -> Coding {
    Coding::parse(text).expect("valid")
}

fn rates(coding: Coding, failure: f64) -> Rates {
    Rates {
        width: coding.width(),
        parity: coding.parity(),
        failure,
        silent: 0.0,
        discovery: 0.0,
        repair: 1.0,
        rebuilds: Rebuilds::OneAtATime,
        jumps: Vec::new(),
    }
}

fn observe(topology: Topology, rates: &Rates, coding: Coding, node: f64, seed: u64) -> Observed {
    let simulation = Simulation::new(&topology.placed(coding), coding, rates, node);
    let seen = simulation.run(simulation.watch(200, 20.0), seed);
    assert!(seen.losses > LOSSES_MIN, "{seen:?}");
    assert!(seen.standard_error < 0.08 * seen.losses_per_hour, "{seen:?}");
    seen
}

fn flat(disks: u32) -> Topology {
    Topology { disks, nodes: disks, racks: 1 }
}

/// The model lies within the simulation's 99.7 % confidence interval.
fn check(disks: u32, rates: &Rates, data: u8, seed: u64) {
    let coding = Coding::new(data, rates.parity).expect("valid");
    let seen = observe(flat(disks), rates, coding, 0.0, seed);
    let expected = 1.0 / rates.hours_to_loss();
    let deviation = seen.deviation(expected);
    assert!(deviation.abs() < 3.0, "{coding}: {seen:?}, expected {expected}: {deviation}");
}

#[test]
fn simulation_and_model_agree_with_one_rebuild_at_a_time() {
    for (seed, (disks, text, failure)) in [
        (6, "4+2", 0.03),
        (12, "4+2", 0.05),
        (20, "1+1", 0.04),
        (30, "6+3", 0.05),
        (24, "8+4", 0.06),
    ]
    .into_iter()
    .enumerate()
    {
        let coding = coding(text);
        check(disks, &rates(coding, failure), coding.data(), seed as u64);
    }
}

#[test]
fn simulation_and_model_agree_with_rebuilds_side_by_side() {
    for (seed, (disks, text, failure)) in
        [(9, "4+2", 0.05), (18, "1+2", 0.1), (30, "6+3", 0.07)].into_iter().enumerate()
    {
        let coding = coding(text);
        let rates = Rates { rebuilds: Rebuilds::SideBySide, ..rates(coding, failure) };
        check(disks, &rates, coding.data(), 10 + seed as u64);
    }
}

#[test]
fn simulation_and_model_agree_on_silent_failures() {
    for (seed, (disks, text, failure, silent, discovery)) in
        [(10, "4+2", 0.01, 0.01, 0.4), (12, "2+1", 0.004, 0.004, 0.2), (24, "6+3", 0.02, 0.01, 0.3)]
            .into_iter()
            .enumerate()
    {
        let coding = coding(text);
        let rates = Rates { silent, discovery, ..rates(coding, failure) };
        check(disks, &rates, coding.data(), 20 + seed as u64);
    }
}

#[test]
fn simulation_and_model_agree_on_nodes_with_one_shard_each() {
    let (coding, node) = (coding("4+2"), 0.02);
    let mut rates = rates(coding, 0.02);
    rates.jumps = vec![Jump { shards: 1, per_hour: 6.0 * node }];
    let seen = observe(Topology { disks: 24, nodes: 8, racks: 1 }, &rates, coding, node, 30);
    assert!(seen.deviation(1.0 / rates.hours_to_loss()).abs() < 3.0, "{seen:?}");
}

#[test]
fn the_model_is_cautious_where_nodes_keep_two_shards() {
    let (coding, node) = (coding("4+2"), 0.002);
    let mut rates = rates(coding, 0.004);
    rates.jumps = vec![Jump { shards: 2, per_hour: 3.0 * node }];
    let seen = observe(Topology { disks: 12, nodes: 3, racks: 1 }, &rates, coding, node, 40);
    let expected = 1.0 / rates.hours_to_loss();
    assert!(expected > seen.losses_per_hour - 3.0 * seen.standard_error, "{seen:?}");
    assert!(expected < 1.5 * seen.losses_per_hour, "{seen:?}, expected {expected}");
}

#[test]
fn any_loss_in_the_cluster_is_at_most_that_of_independent_groups() {
    for (disks, seed) in [(6, 1), (7, 2), (12, 3), (30, 4)] {
        let coding = coding("4+2");
        let rates = rates(coding, 0.02);
        let simulation = Simulation::new(&flat(disks).placed(coding), coding, &rates, 0.0);
        let watch = simulation.watch(1500, 0.7);
        let seen = simulation.run(watch, seed);
        let groups = simulation.groups as f64;
        let bound = 1.0 - (-groups * watch.hours / rates.hours_to_loss()).exp();
        let error = (bound * (1.0 - bound) / 1500.0).sqrt();
        assert!(seen.any_loss_share < bound + 3.0 * error, "{disks}: {seen:?} {bound}");
        assert!(seen.any_loss_share > 0.0, "{disks}: {seen:?}");
        if simulation.groups == 1 {
            assert!((seen.any_loss_share - bound).abs() < 3.0 * error, "{seen:?} {bound}");
        }
    }
}

#[test]
fn a_wrong_model_is_found_out() {
    let coding = coding("4+2");
    let seen = observe(flat(12), &rates(coding, 0.05), coding, 0.0, 50);
    let wrong = rates(coding, 0.06);
    assert!(seen.deviation(1.0 / wrong.hours_to_loss()).abs() > 5.0, "{seen:?}");
    let wrong = Rates { rebuilds: Rebuilds::SideBySide, ..rates(coding, 0.05) };
    assert!(seen.deviation(1.0 / wrong.hours_to_loss()).abs() > 5.0, "{seen:?}");
}

#[test]
fn acceleration_keeps_all_but_the_failures() {
    let slow = rates(coding("8+4"), 1e-8);
    let (factor, fast) = accelerate(&slow);
    assert!((fast.failure / slow.failure / factor - 1.0).abs() < 1e-9);
    assert!((fast.hours_to_loss() / 300.0 - 1.0).abs() < 1e-6);
    assert!((fast.repair - slow.repair).abs() < f64::EPSILON);
}

#[test]
fn a_seed_replays_the_world() {
    let coding = coding("2+1");
    let rates = rates(coding, 0.05);
    let simulation = Simulation::new(&flat(6).placed(coding), coding, &rates, 0.0);
    let watch = simulation.watch(20, 5.0);
    assert_eq!(simulation.run(watch, 7), simulation.run(watch, 7));
    assert_ne!(simulation.run(watch, 7).losses, simulation.run(watch, 8).losses);
}

#[test]
fn the_generator_gives_what_its_authors_give() {
    // First outputs of xoshiro256++ from the state 1, 2, 3, 4, as in the reference code.
    let mut random = Random([1, 2, 3, 4]);
    let drawn: Vec<u64> = (0..4).map(|_| random.next()).collect();
    assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
}
