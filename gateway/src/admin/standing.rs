//! What the cluster map and the disks' last reports say together: how each disk stands, and how much may
//! go before something can't be read.
//!
//! Pure. What always holds: what is not known for certain counts as lost.

use std::collections::{BTreeMap, HashSet};

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::ids::DiskId;
use model::shard::{DiskHealth, DiskReport};
use model::time::Timestamp;
use s3::date;

use crate::admin::status::DiskStanding;

/// The report of a disk among those of all disks, ascending by disk.
pub fn report_of(reports: &[DiskReport], disk: DiskId) -> Option<&DiskReport> {
    let at = reports.binary_search_by_key(&disk, |report| report.disk).ok()?;
    reports.get(at)
}

/// Whether shards can be read from a disk, as far as map and report tell.
///
/// A disk that its node calls read-only is down for writes but gives what it has. The last report
/// of a disk that is down may be older than its failure, so no other report counts then.
pub fn is_readable(disk: &Disk, report: Option<&DiskReport>) -> bool {
    let health = report.map(|report| report.health);
    match disk.state {
        DiskState::Up | DiskState::Full => health != Some(DiskHealth::Failed),
        DiskState::Down => health == Some(DiskHealth::ReadOnly),
        DiskState::Out => false,
    }
}

/// How many more disks each placement group can lose, at the least; below 0 how many too many one has
/// lost.
pub fn disks_to_lose(map: &ClusterMap, readable: impl Fn(DiskId) -> bool) -> Option<i64> {
    map.pgs.iter().map(|pg| pg.slack(&readable)).min()
}

/// What is known of each disk beside its state.
pub fn standings(map: &ClusterMap, suspects: &[DiskId]) -> BTreeMap<DiskId, DiskStanding> {
    let suspects: HashSet<DiskId> = suspects.iter().copied().collect();
    let of = |disk: &Disk| {
        let standing = disk.standing;
        let is_known = standing.since != Timestamp::default();
        DiskStanding {
            draining: standing.is_draining,
            given_up: standing.is_given_up,
            suspect: suspects.contains(&disk.id),
            since: is_known.then(|| date::iso8601(standing.since)),
            flaps: standing.flaps,
            weight: disk.weight,
            weight_set: standing.weight,
            ..DiskStanding::default()
        }
    };
    let mut all: BTreeMap<DiskId, DiskStanding> =
        map.disks.iter().map(|disk| (disk.id, of(disk))).collect();
    let mut count = |disk: Option<&DiskId>, count: fn(&mut DiskStanding) -> &mut u64| {
        if let Some(standing) = disk.and_then(|disk| all.get_mut(disk)) {
            *count(standing) += 1;
        }
    };
    for pg in &map.pgs {
        for disk in &pg.disks {
            count(Some(disk), |standing| &mut standing.slots);
        }
        for begun in &pg.moves {
            count(pg.disks.get(usize::from(begun.slot)), |standing| &mut standing.moving_out);
            count(Some(&begun.to), |standing| &mut standing.moving_in);
        }
    }
    all
}

/// How many more of `voters` metadata replicas may fail when `healthy` of them are well.
pub fn replicas_to_lose(voters: usize, healthy: usize) -> i64 {
    let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    signed(healthy) - (signed(voters) / 2 + 1)
}

#[cfg(test)]
mod tests {
    use model::cluster_map::Pg;
    use model::coding::Coding;
    use model::ids::PgId;
    use model::moves::MoveReason;

    use super::*;
    use crate::admin::status::{DiskStatus, MovesUnderWay};

    #[test]
    fn replicas() {
        assert_eq!(replicas_to_lose(5, 5), 2);
        assert_eq!(replicas_to_lose(5, 3), 0);
        assert_eq!(replicas_to_lose(3, 1), -1);
        assert_eq!(replicas_to_lose(1, 1), 0);
    }

    #[test]
    fn the_worst_group_counts() {
        let coding = Coding::new(2, 1).expect("valid");
        let pg = |id, disks: &[u32]| {
            Pg::new(PgId(id), coding, disks.iter().copied().map(DiskId).collect())
        };
        let map = ClusterMap {
            pgs: vec![pg(0, &[0, 1, 2]), pg(1, &[1, 2, 3])],
            ..ClusterMap::new(model::ids::ClusterId::default(), coding)
        };
        assert_eq!(disks_to_lose(&map, |_| true), Some(1));
        assert_eq!(disks_to_lose(&map, |disk| disk != DiskId(3)), Some(0));
        assert_eq!(disks_to_lose(&map, |disk| disk.0 > 1), Some(-1));
        assert_eq!(disks_to_lose(&ClusterMap { pgs: Vec::new(), ..map }, |_| true), None);
    }

    #[test]
    fn what_moves_is_counted_by_disk_and_reason() {
        let coding = Coding::new(2, 1).expect("valid");
        let mut pg = Pg::new(PgId(0), coding, [0, 1, 2].map(DiskId).to_vec());
        let (reason, since) = (MoveReason::Drain, Timestamp(5));
        pg.moves.push(model::moves::SlotMove {
            slot: 1,
            to: DiskId(3),
            reason,
            since,
            fault: None,
        });
        let disk = |id: u32| Disk {
            id: DiskId(id),
            uuid: model::ids::DiskUuid([id as u8; 16]),
            node: model::ids::NodeId(1),
            rack: String::new(),
            zone: String::new(),
            weight: 7,
            state: DiskState::Up,
            path: String::new(),
            standing: model::cluster_map::Standing::default(),
        };
        let mut map = ClusterMap {
            disks: (0..4).map(disk).collect(),
            pgs: vec![pg],
            ..ClusterMap::new(model::ids::ClusterId::default(), coding)
        };
        map.disks[1].standing.is_draining = true;
        let found = standings(&map, &[DiskId(2)]);
        let slots = |id: u32| {
            let found = &found[&DiskId(id)];
            (found.slots, found.moving_in, found.moving_out)
        };
        assert_eq!((slots(0), slots(1), slots(3)), ((1, 0, 0), (1, 0, 1), (0, 1, 0)));
        let words = |id: u32| {
            let standing = found[&DiskId(id)].clone();
            let status = DiskStatus::new(&map.disks[id as usize], None);
            DiskStatus { standing, ..status }.state_words()
        };
        assert_eq!([words(0), words(1), words(2)], ["up", "up, draining", "up, suspect"]);
        let moves = MovesUnderWay::new(&map);
        assert_eq!(moves, MovesUnderWay { drain: 1, ..MovesUnderWay::default() });
    }
}
