//! Durability in numbers: how likely stored data is to be lost to failing disks, and why.
//!
//! In go the coding, the disks and how often they fail, how fast they are rebuilt and how often
//! they are read through; out comes an [`Estimate`]. Pure arithmetic: the same function answers
//! `drystone durability` for a cluster that is thought of and the metric of one that runs.
//!
//! # The model
//!
//! A stripe has `n = k+m` shards on different disks and is lost when `m+1` of them are. Each disk
//! fails as a Poisson process of rate `L = -ln(1-AFR)/8766` per hour, and what is lost is there
//! again after a mean time of `1/M = detection + rebuild` ([`RebuildRate::hours`]). The number of
//! lost shards is then a birth-death chain with rates `(n-i)L` up and `M` down (one rebuild at a
//! time), absorbing at `m+1`; its mean time to data loss has a closed form
//! ([`Rates::birth_death_hours`], with the sources), for `L << M` about
//! `M^m / (L^(m+1) n(n-1)...(n-m))`. From it
//!
//! - an object's loss in a year is `P = 1 - exp(-8766/MTTDL)`, its *nines* are `-log10 P`;
//! - a cluster's, with `G` groups of different disks ([`Spread`]), is at most
//!   `1 - exp(-8766 G/MTTDL)`: groups that share disks fail together rather than one by one, so
//!   the truth is somewhat better.
//!
//! Silent failures (bad sectors, bit rot: [`Silent`]) add a second dimension: shards that are lost
//! and not yet known to be, for half a scrub interval on average, until a scrub or the loss of the
//! whole disk tells. Lost nodes add jumps of as many shards as a node keeps of one stripe.
//!
//! What holds: failures are independent and exponential, rebuilds exponential in the chain (their
//! mean decides, not their shape: [`simulation`] checks it with the real placement). What doesn't
//! enter: power, fire, firmware of one lot, operators, bugs. Independent nines are an upper bound.

use crate::cluster_map::{ClusterMap, Disk};
use crate::coding::Coding;

pub mod chain;
pub mod degraded;
mod inputs;
pub mod rebuild;
pub mod simulation;
pub mod spread;

pub use chain::{HOURS_PER_YEAR, Jump, Rates, Rebuilds};
pub use inputs::{Inputs, InputsError, Measured, Silent};
pub use rebuild::{RebuildRate, RebuildWork};
pub use spread::{Spread, Topology};

/// The nines that a cluster should have where nobody says otherwise.
pub const TARGET_NINES: f64 = 11.0;

/// Steps of the search for the longest rebuild time: each halves the interval, so that these give
/// it to 12 digits.
const SEARCH_STEPS: u32 = 60;

/// The longest time to repair that the search looks at, in hours: a century.
const REPAIR_HOURS_MAX: f64 = 876_600.0;

/// What [`estimate`] says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean time to data loss of one group, in hours.
    pub hours_to_loss: f64,
    /// Nines of one object's survival of a year: `-log10` of the probability of its loss.
    pub nines: f64,
    /// The probability that an object is lost within a year, if it lies in one group.
    pub probability_of_loss_per_year: f64,
    /// The probability that anything at all is lost within a year in the cluster, at most.
    pub probability_of_any_loss_per_year: f64,
    /// Groups of different disks.
    pub groups: u64,
    /// Hours to rebuild a lost disk, without detection.
    pub rebuild_hours: f64,
    /// Hours from a loss until all is whole again, detection and lost nodes included, on average.
    pub repair_hours: f64,
    /// The longest rebuild, without detection, with which the target is still met; `None` when no
    /// rebuild is fast enough.
    pub rebuild_hours_max: Option<f64>,
    /// Bytes that rebuilds read and write in a year.
    pub repair_bytes_per_year: f64,
    /// Nines of a write that was acknowledged with as few shards as invariant I-1 allows, until
    /// its missing shards are there.
    pub degraded_write_nines: f64,
    /// Stored bytes per byte of the user: `(k+m)/k`.
    pub overhead: f64,
}

/// Estimates the durability of a cluster. See the module for the model.
pub fn estimate(inputs: &Inputs) -> Result<Estimate, InputsError> {
    inputs.check()?;
    let coding = inputs.coding;
    let hours_to_loss = inputs.rates(inputs.repair_hours()).hours_to_loss();
    let probability = chain::loss_per_year(hours_to_loss);
    let degraded = degraded::loss_of_write(
        coding,
        coding.write_quorum(coding.data()),
        inputs.shard_failures_per_hour(),
        inputs.repair_hours(),
    );
    Ok(Estimate {
        hours_to_loss,
        nines: chain::nines(probability),
        probability_of_loss_per_year: probability,
        probability_of_any_loss_per_year: chain::loss_per_year(
            hours_to_loss / inputs.spread.groups.max(1) as f64,
        ),
        groups: inputs.spread.groups,
        rebuild_hours: inputs.rebuild_hours(),
        repair_hours: inputs.repair_hours(),
        rebuild_hours_max: repair_hours_max(inputs)
            .map(|hours| hours - inputs.detect_hours)
            .filter(|hours| *hours > 0.0),
        repair_bytes_per_year: inputs.repair_bytes_per_year(),
        degraded_write_nines: chain::nines(degraded),
        overhead: f64::from(coding.width()) / f64::from(coding.data()),
    })
}

/// The longest mean time to repair that meets the target; `None` when none does.
fn repair_hours_max(inputs: &Inputs) -> Option<f64> {
    let meets = |hours: f64| {
        let probability = chain::loss_per_year(inputs.rates(hours).hours_to_loss());
        chain::nines(probability) >= inputs.target_nines
    };
    let (mut met, mut missed) = (1e-9, REPAIR_HOURS_MAX);
    if !meets(met) {
        return None;
    }
    if meets(missed) {
        return Some(missed);
    }
    for _ in 0..SEARCH_STEPS {
        // Times from a second to a century: halved on a logarithmic scale.
        let middle = (met * missed).sqrt();
        if meets(middle) {
            met = middle;
        } else {
            missed = middle;
        }
    }
    Some(met)
}

/// The codings to set beside each other for a cluster of so many disks: copies, narrow codes and
/// wide codes, as far as there are disks for them, and `wanted`, ascending by width.
pub fn codings_to_compare(wanted: Coding, disks: u32) -> Vec<Coding> {
    const USUAL: [(u8, u8); 13] = [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (4, 2),
        (6, 3),
        (8, 3),
        (8, 4),
        (10, 4),
        (12, 4),
        (16, 3),
        (16, 4),
    ];
    let usual = USUAL.into_iter().filter_map(|(data, parity)| Coding::new(data, parity).ok());
    let mut codings: Vec<Coding> =
        usual.chain([wanted]).filter(|coding| u32::from(coding.width()) <= disks).collect();
    codings.sort_unstable_by_key(|coding| (coding.data() > 1, coding.width(), coding.parity()));
    codings.dedup();
    codings
}

impl Inputs {
    /// What the estimate of a running cluster's stripes of one coding is made from; `None` while it
    /// has no PG of that coding.
    ///
    /// Disks that were given up or are to be empty don't count. Where disks differ in their share of
    /// the data, a shard's disk is as large as its share makes it likely: a larger one has more
    /// shards and takes longer.
    pub fn of_map(map: &ClusterMap, coding: Coding, measured: &Measured) -> Option<Self> {
        const GIB: f64 = 1_073_741_824.0;
        let disks: Vec<_> = map.disks.iter().filter(|disk| disk.share() > 0).collect();
        let sum = |value: &dyn Fn(&Disk) -> f64| disks.iter().map(|disk| value(disk)).sum::<f64>();
        let shares = sum(&|disk| f64::from(disk.share()));
        let squares = sum(&|disk| f64::from(disk.share()).powi(2));
        let stored_bytes = sum(&|disk| f64::from(disk.weight)) * GIB * measured.fill;
        let spread = Spread::of_map(map, coding);
        if spread.groups == 0 || disks.is_empty() {
            return None;
        }
        let mut nodes: Vec<_> = disks.iter().map(|disk| disk.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Some(Self {
            coding,
            disks: disks.len() as u32,
            nodes: nodes.len() as u32,
            disk_bytes: stored_bytes * squares / (shares * shares),
            stored_bytes,
            disk_afr: measured.disk_afr,
            node_afr: measured.node_afr,
            rebuild: measured.rebuild,
            detect_hours: measured.detect_hours,
            silent: measured.silent,
            rebuilds: Rebuilds::OneAtATime,
            spread,
            target_nines: measured.target_nines,
        })
    }
}

#[cfg(test)]
mod tests;
