//! The durability that is to be expected of a running cluster, and whether that is low.
//!
//! In: the cluster map, how full the disks are, and the rate that is set for rebuilding. Out: the
//! estimate of `model::durability` for the class whose objects are the least likely to last. What
//! always holds: it goes by what a loss would get, which is the rate that is set. What was seen to be
//! rebuilt of late says little: a trickle of repairs isn't slow, and a moved slot isn't rebuilt.

use model::class::StorageClass;
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::durability::{Inputs, Measured, RebuildRate, Silent, TARGET_NINES, estimate};
use model::names::ClassName;
use model::shard::DiskReport;
use serde::{Deserialize, Serialize};

use crate::admin::health::{Code, Reason};

/// The share of disks that fail in a year, as the largest published fleet saw it (reliability of
/// drives, Backblaze 2024): the cluster's own are too few to tell.
const DISK_AFR: f64 = 0.0157;

/// Silent failures, as `drystone durability` assumes them.
const SILENT: Silent = Silent { rate: 0.014, share: 0.01, scrub_days: 7.0 };

/// Bytes per second that each disk gives to a rebuild where nothing is set.
const DISK_BYTES_PER_SECOND: f64 = 50e6;

/// Until a lost disk is given up, where nothing else is set.
const DETECT_HOURS: f64 = 1.0 / 6.0;

/// Disks are taken for at least so full: an empty cluster is rebuilt in no time, which says nothing.
const FILL_MIN: f64 = 0.01;

/// A coding that can't reach the target may fall short of what it can by so many nines before that is
/// told: the estimate isn't finer than this.
const NINES_SHORT_MAX: f64 = 0.5;

/// How likely an object is to last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DurabilityStatus {
    /// The class in use whose objects are the least likely to; empty for what is left in a coding that
    /// no class has any more.
    pub class: String,
    /// Its coding.
    pub coding: String,
    /// Nines of one object's survival of a year.
    pub nines: f64,
    /// Those that the same disks and coding have at a rebuild rate of 50 MB/s for each disk.
    pub nines_attainable: f64,
    /// Those that it should have.
    pub nines_target: f64,
    /// Hours to rebuild a lost disk.
    pub rebuild_hours: f64,
    /// Bytes a second that rebuilding reads and writes, as is set; `null` for no limit, which is taken
    /// for 50 MB/s of each disk.
    pub rebuild_bytes_per_second: Option<u64>,
}

/// What the estimates of a map follow from beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// How full the disks are, in percent.
    pub fill_percent: u64,
    /// Bytes per second that a rebuild reads and writes, as is set; 0 for no limit.
    pub rate: u64,
}

/// The durability of the classes in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durability {
    /// That of the class that has the least; `None` where there are too few disks for all of them.
    pub least: Option<DurabilityStatus>,
    /// That one of them has too little.
    pub low: Option<Reason>,
}

impl Durability {
    /// Of `STANDARD`, of the classes that buckets use, and of what has a coding that no class has.
    /// `map` is without groups that are out of use and empty.
    pub fn of(map: &ClusterMap, basis: Basis) -> Self {
        let is_used = |class: &&StorageClass| !class.buckets.is_empty();
        let used = map.classes.iter().filter(is_used);
        let used = used.map(|class| (class.name.as_str(), class.coding));
        let of_classes = map.codings();
        let older = map.pgs.iter().map(|pg| pg.coding).filter(|one| !of_classes.contains(one));
        let all = [(ClassName::STANDARD, map.coding)].into_iter().chain(used);
        let mut found: Vec<DurabilityStatus> = Vec::new();
        let mut codings = Vec::new();
        for (class, coding) in all.chain(older.map(|coding| ("", coding))) {
            // Two classes of one coding are told by the first.
            if !codings.contains(&coding) {
                codings.push(coding);
                found.extend(basis.durability(map, class, coding));
            }
        }
        found.sort_by(|one, other| one.nines.total_cmp(&other.nines));
        // One that has fewer nines than another may have all that its coding can.
        let low = found.iter().find_map(DurabilityStatus::reason);
        Self { least: found.into_iter().next(), low }
    }
}

impl Basis {
    fn durability(self, map: &ClusterMap, class: &str, coding: Coding) -> Option<DurabilityStatus> {
        let usual = RebuildRate::PerDisk(DISK_BYTES_PER_SECOND);
        let moved_per_byte = f64::from(coding.data()) + 1.0;
        let rebuild = match self.rate {
            0 => usual,
            rate => RebuildRate::Whole(rate as f64 / moved_per_byte),
        };
        let measured = Measured {
            fill: (self.fill_percent as f64 / 100.0).max(FILL_MIN),
            disk_afr: DISK_AFR,
            node_afr: 0.0,
            rebuild,
            detect_hours: map.upkeep.out_after().as_secs_f64() / 3600.0,
            silent: Some(SILENT),
            target_nines: TARGET_NINES,
        };
        let inputs = Inputs::of_map(map, coding, &measured)?;
        let now = estimate(&inputs).ok()?;
        let usual = Inputs { rebuild: usual, detect_hours: DETECT_HOURS, ..inputs };
        let attainable = estimate(&usual).ok()?;
        Some(DurabilityStatus {
            class: class.to_owned(),
            coding: coding.to_string(),
            nines: now.nines,
            nines_attainable: attainable.nines,
            nines_target: TARGET_NINES,
            rebuild_hours: now.rebuild_hours,
            rebuild_bytes_per_second: (self.rate > 0).then_some(self.rate),
        })
    }
}

impl DurabilityStatus {
    /// The rate that it goes by, in words.
    pub const fn rate_words(&self) -> &'static str {
        match self.rebuild_bytes_per_second {
            Some(_) => "at the rate that is set",
            None => "at 50 MB/s of each disk",
        }
    }

    /// Whose it is, in words.
    pub fn whose(&self) -> String {
        match self.class.as_str() {
            "" => format!("of no class ({})", self.coding),
            class => format!("of class {class} ({})", self.coding),
        }
    }

    /// That it is low: below the target, or where the coding can't reach that with these disks, below
    /// what it can.
    fn reason(&self) -> Option<Reason> {
        let Self { nines, nines_attainable, nines_target, rebuild_hours, .. } = self;
        let (least, than) = if nines_attainable >= nines_target {
            (*nines_target, format!("the target is {nines_target:.1}"))
        } else {
            let least = nines_attainable - NINES_SHORT_MAX;
            (
                least,
                format!("its coding has {nines_attainable:.1} with these disks at 50 MB/s each"),
            )
        };
        (*nines < least).then(|| {
            let rate = self.rate_words();
            let message = format!(
                "An object {} has {nines:.1} nines of durability a year, and {than}: rebuilding a lost disk takes {rebuild_hours:.1} h {rate}.",
                self.whose(),
            );
            Reason::warning(Code::DurabilityLow, message)
        })
    }
}

/// How full the disks are altogether, in percent.
pub fn fill_percent(reports: &[DiskReport]) -> u64 {
    let sum =
        |of: fn(&DiskReport) -> u64| reports.iter().map(|one| u128::from(of(one))).sum::<u128>();
    let taken = sum(|report| report.live_bytes);
    let all = sum(|report| report.capacity_bytes);
    let percent = (taken * 100).checked_div(all).unwrap_or(0);
    u64::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use model::durability::Topology;
    use model::ids::{ClusterId, PgId};
    use model::names::BucketName;
    use model::placement::pgs_to_add;

    use super::*;

    fn coding(text: &str) -> Coding {
        Coding::parse(text).expect("valid")
    }

    fn map(disks: u32, text: &str) -> ClusterMap {
        Topology { disks, nodes: disks, racks: 1 }.placed(coding(text))
    }

    fn durability(map: &ClusterMap, rate: u64) -> Durability {
        Durability::of(map, Basis { fill_percent: 70, rate })
    }

    #[test]
    fn a_cluster_that_can_reach_the_target_is_told_when_it_does_not() {
        let map = map(40, "8+4");
        let found = durability(&map, 0);
        let well = found.least.expect("an estimate");
        assert!(well.nines >= 11.0 && well.nines_attainable >= 11.0, "{well:?}");
        assert_eq!((found.low, well.rebuild_bytes_per_second), (None, None));
        let found = durability(&map, 90_000);
        let slow = found.least.expect("an estimate");
        assert!(slow.nines < 11.0 && slow.rebuild_hours > 1000.0, "{slow:?}");
        let reason = found.low.expect("a reason");
        assert_eq!((&*reason.code, reason.blocking), ("DURABILITY_LOW", false));
        assert!(reason.message.contains("class STANDARD (8+4) has"), "{reason:?}");
        assert!(reason.message.contains("and the target is 11.0: rebuilding"), "{reason:?}");
        assert!(reason.message.ends_with("h at the rate that is set."), "{reason:?}");
    }

    #[test]
    fn one_that_can_not_is_measured_by_its_coding() {
        let map = map(3, "2+1");
        let small = durability(&map, 0);
        assert!(small.least.expect("an estimate").nines < 11.0);
        assert_eq!(small.low, None, "nothing that anybody could mend");
        let reason = durability(&map, 300_000).low.expect("a reason");
        assert!(reason.message.contains("with these disks at 50 MB/s each"), "{reason:?}");
    }

    #[test]
    fn a_greater_rate_ends_what_a_small_one_brought() {
        let map = map(40, "8+4");
        let nines = |rate| durability(&map, rate).least.expect("an estimate").nines;
        assert!(nines(90_000) + 1.0 < nines(64 << 20), "{} {}", nines(90_000), nines(64 << 20));
        assert!(durability(&map, 90_000).low.is_some());
        assert_eq!(durability(&map, 512 << 20).low, None, "the remedy helps at once");
    }

    #[test]
    fn a_long_wait_before_rebuilding_lowers_it() {
        let basis = Basis { fill_percent: 1, rate: 64 << 20 };
        let mut map = map(6, "4+2");
        let soon = Durability::of(&map, basis);
        map.upkeep.out_after_seconds = Some(30 * 24 * 3600);
        let late = Durability::of(&map, basis);
        let nines = |found: &Durability| found.least.as_ref().expect("an estimate").nines;
        assert!(nines(&late) < nines(&soon) - 1.0, "{soon:?} {late:?}");
        assert!(late.low.is_some() && soon.low.is_none());
    }

    #[test]
    fn the_weakest_class_in_use_counts() {
        let mut map = map(40, "8+4");
        let copies = |buckets: &[&str]| StorageClass {
            name: ClassName::parse("COPIES").expect("valid"),
            coding: coding("1+1"),
            buckets: buckets.iter().map(|name| BucketName::parse(name).expect("valid")).collect(),
        };
        map.classes.push(copies(&[]));
        let of_copies = ClusterMap { coding: coding("1+1"), pgs: Vec::new(), ..map.clone() };
        let next = map.pgs.len() as u32;
        for (number, pg) in (next..).zip(pgs_to_add(&of_copies)) {
            map.pgs.push(model::cluster_map::Pg { id: PgId(number), ..pg });
        }
        let least = |map: &ClusterMap| durability(map, 64 << 20).least.expect("an estimate");
        let unused = least(&map);
        assert_eq!((&*unused.class, &*unused.coding), ("STANDARD", "8+4"));
        map.classes[0] = copies(&["abc"]);
        let used = least(&map);
        assert_eq!((&*used.class, &*used.coding), ("COPIES", "1+1"));
        assert!(used.nines < unused.nines - 3.0, "{used:?} {unused:?}");
        let reason = durability(&map, 2_000_000).low.expect("a reason");
        assert!(reason.message.contains("class COPIES (1+1)"), "{reason:?}");
    }

    #[test]
    fn what_was_not_recoded_yet_counts() {
        let mut map = map(40, "2+1");
        let before = durability(&map, 64 << 20).least.expect("an estimate");
        let placed = self::map(40, "8+4");
        let pgs = placed
            .pgs
            .into_iter()
            .map(|pg| model::cluster_map::Pg { id: PgId(pg.id.0 + map.pgs.len() as u32), ..pg });
        let both = map.pgs.iter().cloned().chain(pgs).collect();
        (map.coding, map.pgs) = (coding("8+4"), both);
        let found = durability(&map, 64 << 20).least.expect("an estimate");
        assert_eq!((&*found.class, &*found.coding, found.nines), ("", "2+1", before.nines));
        assert_eq!(found.whose(), "of no class (2+1)");
    }

    #[test]
    fn too_few_disks_have_no_estimate() {
        let map = ClusterMap::new(ClusterId::default(), coding("4+2"));
        assert_eq!(durability(&map, 0), Durability::default());
    }
}
