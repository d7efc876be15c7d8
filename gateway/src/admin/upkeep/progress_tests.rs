//! How far moves are, by the map and by the gateway that does them.

use std::sync::Arc;

use engine::MoveProgress;
use model::ids::DiskId;
use model::moves::{MoveReason, SlotMove};
use model::time::Timestamp;

use super::*;
use crate::admin::upkeep::small_cluster::{add_disk, cluster, reports};

#[test]
fn speed_is_measured_between_readings() {
    let meter = MoveMeter::default();
    let at = Duration::from_secs;
    assert_eq!(meter.read(at(100), 5000), None, "one reading tells nothing");
    assert_eq!(meter.read(at(100) + Duration::from_millis(900), 6000), None, "too soon");
    assert_eq!(meter.read(at(102), 9000), Some(2000));
    assert_eq!(meter.read(at(110), 9000), Some(400), "over the whole window");
    assert_eq!(meter.read(at(300), 9000), None, "what was long ago doesn't count");
    assert_eq!(meter.read(at(310), 10), None, "another engine began to count");
}

fn told(map: &ClusterMap, known: &Known<'_>, doer: &Doer) -> MovesStatus {
    MovesStatus::new(map, &WholePlan::new(&Arc::new(map.clone())), known, doer)
}

fn with_a_move(reason: MoveReason) -> ClusterMap {
    let mut map = cluster(8, 1, "4+2");
    let pg = &mut map.pgs[0];
    let to = (0..8).map(DiskId).find(|disk| !pg.disks.contains(disk)).expect("a disk");
    pg.moves.push(SlotMove {
        slot: 2,
        to,
        reason,
        since: Timestamp::from_seconds(1_000_000),
        fault: None,
    });
    map
}

#[test]
fn whoever_is_asked_tells_what_is_under_way() {
    let map = with_a_move(MoveReason::Drain);
    let reports = reports(&map);
    let known = Known { reports: &reports, ..Known::default() };
    let found = told(&map, &known, &Doer::default());
    let one = found.under_way.first().expect("a move");
    assert_eq!((one.pg, one.slot, one.reason.as_str()), (0, 2, "drain"));
    assert_eq!(one.from, map.pgs[0].disks[2].0);
    assert_eq!(one.since, "1970-01-12T13:46:40.000Z");
    assert_eq!((one.extents_total, found.done), (None, None));
    assert_eq!(found.under_way_sums.drain.slots, 1);
    assert_eq!(found.under_way_sums.all.bytes, Some(1 << 10));
}

#[test]
fn the_gateway_that_moves_tells_how_long_it_takes() {
    let mut map = with_a_move(MoveReason::Balance);
    add_disk(&mut map, 8);
    let reports = reports(&map);
    let known = Known { reports: &reports, ..Known::default() };
    let begun = map.pgs[0].moves[0];
    let what = Move {
        pg: map.pgs[0].id,
        slot: 2,
        from: map.pgs[0].disks[2],
        to: begun.to,
        reason: begun.reason,
    };
    let work = MoveProgress { what, extents_total: 8, extents_done: 2, bytes: 256 };
    let doer = |paused| Doer {
        progress: Some(RebalanceProgress {
            under_way: vec![work],
            bytes: 256,
            paused,
            ..RebalanceProgress::default()
        }),
        is_here: true,
        node: Some(3),
        bytes_per_second: Some(512),
    };
    let found = told(&map, &known, &doer(None));
    let one = &found.under_way[0];
    assert_eq!((one.extents_done, one.extents_total, one.bytes), (Some(2), Some(8), Some(256)));
    let wanted = found.wanted.all.bytes.expect("known");
    assert!(wanted > 10 << 10, "the new disk gets its share: {:?}", found.wanted);
    assert_eq!(found.eta_seconds, Some((wanted + (1 << 10) - 256).div_ceil(512)));
    assert_eq!(found.done.expect("a gateway").bytes, 256);

    let found = told(&map, &known, &doer(Some(PauseReason::RepairsWaiting)));
    assert_eq!(found.paused.expect("paused").reason, "repairs-waiting");
    assert_eq!(found.eta_seconds, None);
}

#[test]
fn a_pause_is_known_to_all() {
    let mut map = with_a_move(MoveReason::Balance);
    map.upkeep.is_paused = true;
    let known = Known { reports: &[], ..Known::default() };
    let found = told(&map, &known, &Doer::default());
    assert_eq!(found.paused.expect("paused").reason, "operator");
    let doer =
        Doer { progress: Some(RebalanceProgress::default()), is_here: true, ..Doer::default() };
    let here = told(&map, &known, &doer);
    assert_eq!(here.paused.expect("paused").reason, "operator", "even with nothing to begin");
    assert_eq!(found.under_way_sums.all.bytes, None, "no disk has reported");
}

#[test]
fn what_cannot_move_is_told() {
    let mut map = cluster(6, 1, "4+2");
    let known = Known { reports: &[], ..Known::default() };
    assert!(told(&map, &known, &Doer::default()).stuck.is_empty());
    map.disks[2].standing.is_draining = true;
    let stuck = told(&map, &known, &Doer::default()).stuck;
    assert!(stuck.len() == 1 && stuck[0].contains("slots of disk 2 can't leave it"), "{stuck:?}");
}
