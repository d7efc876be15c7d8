//! What takes long to compute of a cluster map, once for each of them: the durability that is to be
//! expected, and whether single nodes can be done without.
//!
//! In: maps, how full the disks are, and what repair has come to. Out: figures and reasons. The
//! durability is `model::durability`'s: with the rate at which this gateway was last seen to rebuild,
//! else with the one that is set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::Engine;
use model::cluster_map::ClusterMap;
use model::durability::{Inputs, Measured, RebuildRate, Silent, TARGET_NINES, estimate};
use model::shard::DiskReport;
use serde::{Deserialize, Serialize};

use crate::admin::health::{self, Code, Reason};

/// The share of disks that fail in a year, as the largest published fleet saw it (reliability of
/// drives, Backblaze 2024): the cluster's own are too few to tell.
const DISK_AFR: f64 = 0.0157;

/// Silent failures, as `drystone durability` assumes them.
const SILENT: Silent = Silent { rate: 0.014, share: 0.01, scrub_days: 7.0 };

/// Bytes per second that each disk gives to a rebuild where nothing is set or measured.
const DISK_BYTES_PER_SECOND: f64 = 50e6;

/// Until a lost disk is given up, where nothing else is set.
const DETECT_HOURS: f64 = 1.0 / 6.0;

/// Disks are taken for at least so full: an empty cluster is rebuilt in no time, which says nothing.
const FILL_MIN: f64 = 0.01;

/// A coding that can't reach the target may fall short of what it can by so many nines before that is
/// told: the estimate isn't finer than this.
const NINES_SHORT_MAX: f64 = 0.5;

/// A rate is measured over at least this time, and this many bytes.
const MEASURE_TIME_MIN: Duration = Duration::from_secs(10);
const MEASURE_BYTES_MIN: u64 = 64 << 20;

/// How likely an object is to last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DurabilityStatus {
    /// Nines of one object's survival of a year.
    pub nines: f64,
    /// Those that the same disks and coding have at a rebuild rate of 50 MB/s for each disk.
    pub nines_attainable: f64,
    /// Those that it should have.
    pub nines_target: f64,
    /// Hours to rebuild a lost disk.
    pub rebuild_hours: f64,
    /// Whether that is by a rate that was measured, rather than the one that is set.
    pub is_measured: bool,
}

/// What is computed once for each map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MapFigures {
    /// The durability; `None` where there are too few disks for the coding.
    pub durability: Option<DurabilityStatus>,
    /// That single nodes can't be done without.
    pub tolerance_low: Option<Reason>,
}

/// The figures of the newest map.
#[derive(Debug, Default)]
pub struct Figures {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    meter: RebuildMeter,
    /// What they were computed of.
    of: Option<Basis>,
    figures: MapFigures,
}

/// What the figures follow from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Basis {
    epoch: u64,
    /// How full the disks are, in percent.
    fill_percent: u64,
    /// Bytes per second that are made anew, if that was measured.
    measured: Option<f64>,
    /// Bytes per second that repair reads and writes, as is set; 0 for no limit.
    set: u64,
}

impl Figures {
    /// The figures of a map; `is_rebuilding` says whether there is something to rebuild.
    pub fn of(
        &self,
        map: &ClusterMap,
        reports: &[DiskReport],
        is_rebuilding: bool,
        engine: Option<&Engine>,
        now: Duration,
    ) -> MapFigures {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engine {
            let bytes = engine.repair_progress().bytes + engine.rebalance_progress().bytes;
            known.meter.look(now, bytes, is_rebuilding);
        }
        let basis = Basis {
            epoch: map.epoch,
            fill_percent: fill_percent(reports),
            measured: known.meter.rate,
            set: engine.map_or(0, |engine| engine.repair_bytes_per_second(map)),
        };
        if known.of != Some(basis) {
            known.figures = MapFigures {
                durability: basis.durability(map),
                tolerance_low: health::tolerance_low(map),
            };
            known.of = Some(basis);
        }
        known.figures.clone()
    }
}

impl Basis {
    fn durability(&self, map: &ClusterMap) -> Option<DurabilityStatus> {
        let moved_per_byte = f64::from(map.coding.data()) + 1.0;
        let rebuild = match (self.measured, self.set) {
            (Some(rate), _) => RebuildRate::Whole(rate),
            (None, 0) => RebuildRate::PerDisk(DISK_BYTES_PER_SECOND),
            (None, set) => RebuildRate::Whole(set as f64 / moved_per_byte),
        };
        let detect_hours = map.upkeep.out_after().as_secs_f64() / 3600.0;
        let now = self.estimate(map, rebuild, detect_hours)?;
        let usual = RebuildRate::PerDisk(DISK_BYTES_PER_SECOND);
        let attainable = self.estimate(map, usual, DETECT_HOURS)?;
        Some(DurabilityStatus {
            nines: now.nines,
            nines_attainable: attainable.nines,
            nines_target: TARGET_NINES,
            rebuild_hours: now.rebuild_hours,
            is_measured: self.measured.is_some(),
        })
    }

    fn estimate(
        &self,
        map: &ClusterMap,
        rebuild: RebuildRate,
        detect_hours: f64,
    ) -> Option<model::durability::Estimate> {
        let measured = Measured {
            fill: (self.fill_percent as f64 / 100.0).max(FILL_MIN),
            disk_afr: DISK_AFR,
            node_afr: 0.0,
            rebuild,
            detect_hours,
            silent: Some(SILENT),
            target_nines: TARGET_NINES,
        };
        estimate(&Inputs::of_map(map, &measured)?).ok()
    }
}

impl DurabilityStatus {
    /// That it is low: below the target, or where the coding can't reach that with these disks, below
    /// what it can.
    pub fn reason(&self) -> Option<Reason> {
        let Self { nines, nines_attainable, nines_target, rebuild_hours, .. } = *self;
        let (least, than) = if nines_attainable >= nines_target {
            (nines_target, format!("the target is {nines_target:.1}"))
        } else {
            let least = nines_attainable - NINES_SHORT_MAX;
            (
                least,
                format!("its coding has {nines_attainable:.1} with these disks at 50 MB/s each"),
            )
        };
        (nines < least).then(|| {
            let rate = if self.is_measured { "the measured rate" } else { "the rate that is set" };
            let message = format!(
                "An object has {nines:.1} nines of durability a year, and {than}: rebuilding a lost disk takes {rebuild_hours:.1} h at {rate}."
            );
            Reason::warning(Code::DurabilityLow, message)
        })
    }
}

/// How full the disks are altogether, in percent.
fn fill_percent(reports: &[DiskReport]) -> u64 {
    let sum =
        |of: fn(&DiskReport) -> u64| reports.iter().map(|one| u128::from(of(one))).sum::<u128>();
    let taken = sum(|report| report.live_bytes);
    let all = sum(|report| report.capacity_bytes);
    let percent = (taken * 100).checked_div(all).unwrap_or(0);
    u64::try_from(percent.min(100)).unwrap_or(100)
}

/// Measures how fast lost shards are made anew.
#[derive(Debug, Default)]
struct RebuildMeter {
    /// When something began to be rebuilt, as far as was looked, and the count of bytes then.
    since: Option<(Duration, u64)>,
    /// Bytes per second, as last measured.
    rate: Option<f64>,
}

impl RebuildMeter {
    /// Takes the count of bytes that were made anew so far.
    fn look(&mut self, now: Duration, bytes: u64, is_rebuilding: bool) {
        let Some((since, before)) = self.since.filter(|_| is_rebuilding) else {
            self.since = is_rebuilding.then_some((now, bytes));
            return;
        };
        let (time, done) = (now.saturating_sub(since), bytes.saturating_sub(before));
        if time >= MEASURE_TIME_MIN && done >= MEASURE_BYTES_MIN {
            // To two digits, so that what follows from it isn't computed anew for a trifle.
            let rate = done as f64 / time.as_secs_f64();
            let unit = 10f64.powf(rate.log10().floor() - 1.0);
            self.rate = Some((rate / unit).round() * unit);
            self.since = Some((now, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::durability::Topology;

    use super::*;

    fn map(disks: u32, coding: &str) -> ClusterMap {
        let coding = Coding::parse(coding).expect("valid");
        Topology { disks, nodes: disks, racks: 1 }.placed(coding)
    }

    fn durability(disks: u32, coding: &str, measured: Option<f64>) -> DurabilityStatus {
        let basis = Basis { epoch: 1, fill_percent: 70, measured, set: 0 };
        basis.durability(&map(disks, coding)).expect("an estimate")
    }

    #[test]
    fn a_cluster_that_can_reach_the_target_is_told_when_it_does_not() {
        let well = durability(40, "8+4", None);
        assert!(well.nines >= 11.0 && well.nines_attainable >= 11.0, "{well:?}");
        assert_eq!(well.reason(), None);
        let slow = durability(40, "8+4", Some(1e4));
        assert!(slow.nines < 11.0 && slow.is_measured, "{slow:?}");
        let reason = slow.reason().expect("a reason");
        assert_eq!((&*reason.code, reason.blocking), ("DURABILITY_LOW", false));
        assert!(reason.message.contains("and the target is 11.0: rebuilding"), "{reason:?}");
    }

    #[test]
    fn one_that_can_not_is_measured_by_its_coding() {
        let small = durability(3, "2+1", None);
        assert!(small.nines < 11.0, "{small:?}");
        assert_eq!(small.reason(), None, "nothing that anybody could mend");
        let slow = durability(3, "2+1", Some(1e5));
        let reason = slow.reason().expect("a reason");
        assert!(reason.message.contains("with these disks at 50 MB/s each"), "{reason:?}");
    }

    #[test]
    fn a_long_wait_before_rebuilding_lowers_it() {
        let basis = Basis { epoch: 1, fill_percent: 1, measured: None, set: 64 << 20 };
        let mut map = map(6, "4+2");
        let soon = basis.durability(&map).expect("an estimate");
        map.upkeep.out_after_seconds = Some(30 * 24 * 3600);
        let late = basis.durability(&map).expect("an estimate");
        assert!(late.nines < soon.nines - 1.0, "{soon:?} {late:?}");
        assert!(late.reason().is_some() && soon.reason().is_none());
    }

    #[test]
    fn too_few_disks_have_no_estimate() {
        let basis = Basis { epoch: 1, fill_percent: 0, measured: None, set: 0 };
        let coding = Coding::parse("4+2").expect("valid");
        assert_eq!(
            basis.durability(&ClusterMap::new(model::ids::ClusterId::default(), coding)),
            None
        );
    }

    #[test]
    fn rates_are_measured_while_there_is_something_to_rebuild() {
        let second = Duration::from_secs;
        let mut meter = RebuildMeter::default();
        meter.look(second(0), 0, false);
        meter.look(second(100), 1 << 30, false);
        assert_eq!(meter.rate, None, "nothing was to be rebuilt");
        meter.look(second(200), 1 << 30, true);
        meter.look(second(205), 2 << 30, true);
        assert_eq!(meter.rate, None, "too short");
        meter.look(second(210), 3 << 30, true);
        assert_eq!(meter.rate, Some(210e6), "2 GiB in 10 s");
        meter.look(second(230), (3 << 30) + 1, true);
        assert_eq!(meter.rate, Some(210e6), "too little to tell");
        meter.look(second(240), 4 << 30, false);
        meter.look(second(250), 5 << 30, true);
        assert_eq!(meter.rate, Some(210e6), "it stopped in between");
    }
}
