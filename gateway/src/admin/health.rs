//! Whether the cluster can serve, and if not, why, in words for people and codes for machines.
//!
//! In: what is known of disks and replicas. Out: reasons. A reason either stops clients from being
//! served, or warns of what would at the next failure.

use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::ids::DiskId;
use model::recovery::Held;
use model::shard::{DiskHealth, DiskReport};
use s3::date;
use serde::{Deserialize, Serialize};

use crate::admin::status::slack;

/// Something that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word: `metadata_unavailable`, `no_cluster_map`, `map_too_old`, `stopping`,
    /// `reads_fail`, `no_open_group`, `disks_missing`, `disks_damaged`, `metadata_degraded`,
    /// `digests_differ`, `metadata_held`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// Whether clients can't be served because of it.
    pub blocking: bool,
}

impl Reason {
    fn blocking(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, blocking: true }
    }

    fn warning(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, blocking: false }
    }

    /// The metadata service doesn't answer, for this long, because of that.
    pub fn metadata_unavailable(silence: Duration, cause: &str) -> Self {
        let seconds = silence.as_secs();
        let message = format!("The metadata has not answered for {seconds} s: {cause}.");
        Self::blocking("metadata_unavailable", message)
    }

    /// The gateway's copy of the cluster map wasn't confirmed for this long, or never was.
    pub fn map_too_old(age: Option<Duration>) -> Self {
        let message = match age {
            Some(age) => format!(
                "This gateway's cluster map was last known to be the newest {} s ago.",
                age.as_secs()
            ),
            None => "This gateway has no cluster map yet.".to_owned(),
        };
        Self::blocking("map_too_old", message)
    }

    /// The process was told to stop.
    pub fn stopping() -> Self {
        let message = "This process was told to stop and takes no new work.";
        Self::blocking("stopping", message.to_owned())
    }

    /// The metadata was put back, or begun anew, and not everything is found again for certain.
    pub fn metadata_held(held: &Held) -> Self {
        let what = if held.from_shards {
            "The metadata was begun anew from the disks".to_owned()
        } else {
            format!("The metadata was put back as it was at {}", date::iso8601(held.since))
        };
        let message = format!(
            "{what}: have what it doesn't know recovered from the shards, then release what is held; until then no space of it is reclaimed."
        );
        Self::warning("metadata_held", message)
    }

    /// Says it as something that is in nobody's way.
    pub fn as_warning(self) -> Self {
        Self { blocking: false, ..self }
    }

    /// The metadata service answers, but nobody has made the cluster yet.
    pub fn no_cluster_map() -> Self {
        let message = "The cluster has no disks yet.";
        Self::blocking("no_cluster_map", message.to_owned())
    }
}

/// The answer to `/health/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether clients can be served.
    pub ready: bool,
    /// What isn't as it should be.
    pub reasons: Vec<Reason>,
}

impl Health {
    /// Ready, unless one of the reasons is in the way.
    pub fn new(reasons: Vec<Reason>) -> Self {
        Self { ready: !reasons.iter().any(|reason| reason.blocking), reasons }
    }
}

/// What the cluster map and the disks give reason for.
pub fn of_disks(map: &ClusterMap, readable: impl Fn(DiskId) -> bool) -> Vec<Reason> {
    if map.disks.is_empty() || map.pgs.is_empty() {
        return vec![Reason::no_cluster_map()];
    }
    let mut reasons = Vec::new();
    let lost = map.pgs.iter().flat_map(|pg| &pg.disks).filter(|disk| !readable(**disk));
    let lost: std::collections::BTreeSet<DiskId> = lost.copied().collect();
    let unreadable = map.pgs.iter().filter(|pg| slack(pg, &readable) < 0).count();
    if unreadable > 0 {
        reasons.push(Reason::blocking(
            "reads_fail",
            format!(
                "{unreadable} of {} placement groups have lost more disks than their coding allows (disks {} can't be read), so objects in them can't be read.",
                map.pgs.len(),
                listed(&lost),
            ),
        ));
    } else if !lost.is_empty() {
        reasons.push(Reason::warning(
            "disks_missing",
            format!(
                "Disks {} can't be read; objects are read with the help of parity.",
                listed(&lost)
            ),
        ));
    }
    if map.open_pgs(&[]).is_empty() {
        // A writer goes on with missing shards where its quorum is still met, so this alone
        // doesn't stop writes; with too few disks for a quorum it does.
        let writable = |id: DiskId| {
            map.disk(id).is_some_and(|disk| disk.state == model::cluster_map::DiskState::Up)
        };
        let meets_quorum = map.pgs.iter().any(|pg| {
            let up = pg.disks.iter().filter(|disk| writable(**disk)).count();
            up >= usize::from(pg.coding.write_quorum(pg.coding.data()))
        });
        let message = "No placement group has all of its disks up";
        reasons.push(if meets_quorum {
            Reason::warning(
                "no_open_group",
                format!("{message}; objects are written with shards missing."),
            )
        } else {
            Reason::blocking(
                "no_open_group",
                format!(
                    "{message}, nor enough of them for a write quorum; nothing can be written."
                ),
            )
        });
    }
    reasons
}

/// What disks give reason for that work, but have lost some of their content. It never stops
/// clients from being served: how much of which object is hit shows only when it is read.
pub fn of_damage(reports: &[DiskReport]) -> Option<Reason> {
    let damage = |report: &DiskReport| {
        let (disk, shards) = (report.disk, report.damaged_shards);
        match report.reason.as_ref().filter(|_| report.health == DiskHealth::Ok) {
            Some(reason) => Some(format!("disk {disk}: {reason}")),
            None if shards > 0 => Some(format!("disk {disk}: {shards} shards wait for repair")),
            None => None,
        }
    };
    let damaged: Vec<String> = reports.iter().filter_map(damage).collect();
    (!damaged.is_empty()).then(|| {
        let message = format!(
            "Disks hold damaged data, which is read with the help of parity where enough of it is whole ({}).",
            damaged.join("; ")
        );
        Reason::warning("disks_damaged", message)
    })
}

/// What the metadata replicas give reason for: how many vote, are well, and differ from the leader.
pub fn of_replicas(voters: usize, healthy: usize, differing: &[u64]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if healthy < voters {
        reasons.push(Reason::warning(
            "metadata_degraded",
            format!("{} of {voters} metadata replicas are not well.", voters - healthy),
        ));
    }
    if !differing.is_empty() {
        let differing: Vec<String> = differing.iter().map(u64::to_string).collect();
        reasons.push(Reason::warning(
            "digests_differ",
            format!(
                "Metadata replicas {} differ from the leader in content.",
                differing.join(", ")
            ),
        ));
    }
    reasons
}

fn listed(disks: &std::collections::BTreeSet<DiskId>) -> String {
    disks.iter().map(DiskId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use model::cluster_map::{Disk, DiskState, Pg};
    use model::coding::Coding;
    use model::ids::{ClusterId, DiskUuid, Incarnation, NodeId, PgId};

    use super::*;

    fn map(states: &[DiskState]) -> ClusterMap {
        let coding = Coding::new(4, 2).expect("valid");
        let disk = |(id, state): (u32, &DiskState)| Disk {
            id: DiskId(id),
            uuid: DiskUuid::default(),
            node: NodeId(0),
            rack: String::new(),
            zone: String::new(),
            weight: 1,
            state: *state,
            path: String::new(),
        };
        ClusterMap {
            disks: (0u32..).zip(states).map(disk).collect(),
            pgs: vec![Pg { id: PgId(0), coding, disks: (0..6).map(DiskId).collect() }],
            ..ClusterMap::new(ClusterId::default(), coding)
        }
    }

    fn codes(map: &ClusterMap) -> Vec<(String, bool)> {
        let up = |id: DiskId| map.disk(id).is_some_and(|disk| disk.state == DiskState::Up);
        of_disks(map, up).into_iter().map(|reason| (reason.code, reason.blocking)).collect()
    }

    #[test]
    fn from_all_well_to_too_many_gone() {
        use DiskState::{Down, Up};
        let expect = |states: &[DiskState], expected: &[(&str, bool)]| {
            let found = codes(&map(states));
            let found: Vec<(&str, bool)> =
                found.iter().map(|(code, blocking)| (code.as_str(), *blocking)).collect();
            assert_eq!(found, expected, "{states:?}");
        };
        expect(&[Up; 6], &[]);
        expect(&[Up, Up, Up, Up, Up, Down], &[("disks_missing", false), ("no_open_group", false)]);
        expect(&[Up, Up, Up, Up, Down, Down], &[("disks_missing", false), ("no_open_group", true)]);
        expect(&[Up, Up, Up, Down, Down, Down], &[("reads_fail", true), ("no_open_group", true)]);
        expect(&[], &[("no_cluster_map", true)]);
    }

    #[test]
    fn damage_is_told_and_stops_nobody() {
        let report = |disk: u32, health: DiskHealth, reason: Option<&str>| DiskReport {
            disk: DiskId(disk),
            uuid: DiskUuid::default(),
            cluster: ClusterId::default(),
            health,
            reason: reason.map(str::to_owned),
            capacity_bytes: 0,
            free_bytes: 0,
            live_bytes: 0,
            garbage_bytes: 0,
            shards: 0,
            incarnation: Incarnation::default(),
            reserve_bytes: 0,
            damaged_shards: 0,
            scrub: model::shard::ScrubReport::default(),
            compaction: model::shard::CompactionReport::default(),
        };
        let well = report(1, DiskHealth::Ok, None);
        let full = report(2, DiskHealth::Full, Some("no space"));
        assert_eq!(of_damage(&[well.clone(), full.clone()]), None);
        let damaged = report(3, DiskHealth::Ok, Some("2 damaged regions are quarantined"));
        let mut rotten = report(4, DiskHealth::Ok, None);
        rotten.damaged_shards = 7;
        let reason = of_damage(&[well, full, damaged, rotten]).expect("a reason");
        assert!(!reason.blocking && reason.message.contains("(disk 3: 2 damaged regions"));
        assert!(reason.message.contains("; disk 4: 7 shards wait for repair)"));
    }
}
