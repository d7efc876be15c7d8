//! Plans of changes, on small clusters.

use model::extent::{Extent, SlotSet};
use model::ids::{ExtentId, NodeId, PgId, SessionId};
use model::upkeep::RepairItem;

use super::*;
use crate::admin::upkeep::change::Drained;
use crate::admin::upkeep::small_cluster::{add_disk, cluster, reports, voters};

fn planned(map: &ClusterMap, change: &Change) -> ChangePlan {
    change.check(map).expect("can be ordered");
    let (reports, voters) = (reports(map), voters(3));
    plan(map, &Known { reports: &reports, voters: Some(&voters), ..Known::default() }, change)
}

const fn drain(disk: u32) -> Change {
    Change::Drain { of: Drained::Disk(DiskId(disk)), is_draining: true }
}

#[test]
fn a_drained_disk_gives_all_its_slots_away() {
    let map = cluster(8, 1, "4+2");
    let found = planned(&map, &drain(3));
    let disk = found.disks[3];
    assert!(disk.slots_before > 50, "{disk:?}");
    assert_eq!(disk.slots_after, 0);
    assert_eq!(found.moves.drain.slots, disk.slots_before);
    // A KiB for each slot.
    assert_eq!(found.moves.drain.bytes, Some(disk.slots_before << 10));
    assert_eq!(disk.used_before, Some(10 << 30));
    assert_eq!(disk.used_after, Some((10 << 30) - (disk.slots_before << 10)));
    let grown: u64 = found.disks.iter().map(|disk| disk.slots_after).sum();
    let all: u64 = found.disks.iter().map(|disk| disk.slots_before).sum();
    assert_eq!(grown, all, "what one loses the others get");
    assert_eq!(found.anyway.all.slots, 0);
    assert_eq!((found.warnings.len(), found.refusal.as_ref()), (0, None), "{:?}", found.warnings);
    assert_eq!(found.tolerance_after.reading[0].survives, Some(2));
}

#[test]
fn slots_that_have_nowhere_to_go_are_told() {
    let map = cluster(6, 1, "4+2");
    let found = planned(&map, &drain(3));
    assert_eq!(found.moves.all.slots, 0);
    let warning = found.warnings.first().expect("a warning");
    assert!(warning.contains("slots of disk 3 can't leave it for now"), "{warning}");
}

#[test]
fn a_disk_without_room_is_told() {
    let map = cluster(7, 1, "4+2");
    let mut reports = reports(&map);
    reports[0].live_bytes = 80 << 30;
    reports[6].free_bytes = 2 << 30;
    let found = plan(&map, &Known { reports: &reports, ..Known::default() }, &drain(0));
    let told = found
        .warnings
        .iter()
        .any(|warning| warning == "Disk 6 has no room for all that would move to it.");
    assert!(told, "{:?}", found.warnings);
}

#[test]
fn a_disk_that_data_needs_is_not_given_up() {
    let out = Change::Out { disk: DiskId(2), is_out: true };
    let mut map = cluster(6, 1, "4+2");
    assert_eq!(planned(&map, &out).refusal, None);
    map.disks[0].state = DiskState::Down;
    assert_eq!(planned(&map, &out).refusal, None, "two may be lost");
    map.disks[1].state = DiskState::Down;
    let refusal = planned(&map, &out).refusal.expect("a refusal");
    assert!(refusal.contains("couldn't be read without disk 2"), "{refusal}");
    assert!(refusal.contains("3 of 6 shards would be left, and 4 are needed"), "{refusal}");
    // Even one that can't be read now: it may come back.
    map.disks[2].state = DiskState::Down;
    assert!(planned(&map, &out).refusal.is_some());
}

#[test]
fn a_disk_that_an_extent_waiting_for_repair_needs_is_not_given_up() {
    let map = cluster(6, 1, "4+2");
    let reports = reports(&map);
    let id = ExtentId { pg: PgId(0), session: SessionId(1), sequence: 1 };
    let mut missing = SlotSet::default();
    for slot in [0, 1] {
        missing.insert(slot);
    }
    let extent = Extent { id, coding: map.coding, length: 16 << 20, missing, epoch: 0 };
    let items = [RepairItem { extent, spare: 0 }];
    let refusal = |slot: usize, unlooked| {
        let lacking = Lacking { items: &items, unlooked };
        let known = Known { reports: &reports, lacking, ..Known::default() };
        let change = Change::Out { disk: map.pgs[0].disks[slot], is_out: true };
        plan(&map, &known, &change).refusal
    };
    assert_eq!(refusal(0, 0), None, "its shard there is lost anyway");
    let text = refusal(2, 0).expect("refused");
    assert!(text.starts_with("1 extents that wait for repair couldn't be read"), "{text}");
    let text = refusal(0, 8).expect("refused");
    assert!(text.starts_with("9 extents wait for repair, too many"), "{text}");
}

#[test]
fn a_disk_that_a_lost_extent_does_not_need_is_given_up() {
    let mut map = cluster(8, 1, "4+2");
    let id = ExtentId { pg: PgId(0), session: SessionId(1), sequence: 1 };
    let item = |slots: std::ops::Range<u8>| {
        let mut missing = SlotSet::default();
        slots.clone().for_each(|slot| missing.insert(slot));
        let extent = Extent { id, coding: map.coding, length: 16 << 20, missing, epoch: 0 };
        [RepairItem { extent, spare: 2 - i16::from(slots.end) }]
    };
    let (short, lost) = (item(0..2), item(0..3));
    let disks = map.pgs[0].disks.clone();
    map.disk_mut(disks[2]).expect("a disk").state = DiskState::Down;
    let reports = reports(&map);
    let refusal = |items: &[RepairItem], disk: DiskId| {
        let known = Known {
            reports: &reports,
            lacking: Lacking { items, unlooked: 0 },
            ..Known::default()
        };
        plan(&map, &known, &Change::Out { disk, is_out: true }).refusal
    };
    let other = map.disks.iter().map(|disk| disk.id).find(|disk| !disks.contains(disk));
    let other = other.expect("two of eight");
    assert_eq!(refusal(&short, other), None, "it has no shard of it");
    assert!(refusal(&short, disks[3]).is_some());
    assert!(refusal(&short, disks[2]).is_some(), "it may come back, and is needed then");
    for disk in &map.disks {
        assert_eq!(refusal(&lost, disk.id), None, "what is lost stays so: {disk:?}");
    }
}

#[test]
fn what_is_rebuilt_and_what_may_be_lost_meanwhile_is_told() {
    let map = cluster(8, 1, "4+2");
    let found = planned(&map, &Change::Out { disk: DiskId(2), is_out: true });
    assert_eq!(found.moves.lost.slots, found.disks[2].slots_before);
    assert_eq!(found.tolerance_before.reading[0].survives, Some(2));
    assert_eq!(found.tolerance_at_once.reading[0].survives, Some(1));
    assert_eq!(found.tolerance_after.reading[0].survives, Some(2));
    assert_eq!(found.warnings, ["Less may be lost than now until all has moved."]);
}

#[test]
fn a_rack_that_gets_too_much_is_emptied_in_part() {
    let map = cluster(6, 2, "4+2");
    let place = |node: u32, rack: &str| Change::Place {
        node: NodeId(node),
        rack: rack.to_owned(),
        zone: None,
    };
    // Three nodes of six in one rack: groups may have two of six slots there, no more.
    let changed = place(2, "r1").applied(&map);
    let found = planned(&changed, &place(3, "r1"));
    assert!(found.moves.spread.slots > 0, "{:?}", found.moves);
    assert!(place(2, "r1").is_made(&changed) && !place(3, "r1").is_made(&changed));
}

#[test]
fn a_new_disk_gets_its_share_and_a_heavier_one_more() {
    let mut map = cluster(7, 1, "4+2");
    add_disk(&mut map, 7);
    let weigh = |weight| Change::Weigh { disk: DiskId(7), weight };
    let as_is = planned(&map, &weigh(None));
    assert_eq!(as_is.moves, as_is.anyway, "that is its weight already");
    assert!(as_is.disks[7].slots_after > 20);
    let lighter = planned(&map, &weigh(Some(20)));
    assert!(lighter.disks[7].slots_after < as_is.disks[7].slots_after);
}

#[test]
fn what_cannot_be_ordered_says_why() {
    let mut map = cluster(6, 1, "4+2");
    map.disks[1].state = DiskState::Out;
    let check = |map: &ClusterMap, change: Change, expected: (u16, &str)| {
        let error = change.check(map).expect_err("refused");
        assert_eq!(error.status().as_u16(), expected.0, "{error}");
        assert!(error.to_string().contains(expected.1), "{error}");
    };
    check(&map, drain(99), (404, "There is no disk 99."));
    check(&map, drain(1), (409, "Disk 1 is out"));
    let node = |node| Change::Drain { of: Drained::Node(NodeId(node)), is_draining: true };
    check(&map, node(99), (404, "There is no node 99."));
    let weigh = |weight| Change::Weigh { disk: DiskId(0), weight: Some(weight) };
    check(&map, weigh(0), (400, "A weight is from 1"));
    check(&map, weigh(u32::MAX), (400, "A weight is from 1"));
    let place = |node, rack: String| Change::Place { node: NodeId(node), rack, zone: None };
    check(&map, place(99, "r".to_owned()), (404, "There is no node 99."));
    check(&map, place(1, "r".repeat(257)), (400, "at most 256 bytes"));
    check(&map, place(1, "a\nb".to_owned()), (400, "no control characters"));
    map.disks.retain(|disk| disk.node != NodeId(6));
    check(&map, node(6), (409, "Node 6 keeps no disks."));
    map.level = 1;
    check(&map, drain(0), (409, "Not every node is of a release"));
}

#[test]
fn a_node_is_drained_with_all_disks_that_are_not_out() {
    let mut map = cluster(8, 2, "4+2");
    map.disks[1].state = DiskState::Out;
    let change = Change::Drain { of: Drained::Node(NodeId(1)), is_draining: true };
    let commands = change.commands(&map);
    let expected = model::command::Command::DrainDisk { disk: DiskId(0), is_draining: true };
    assert_eq!(commands, [expected]);
    let after = change.applied(&map);
    assert!(change.is_made(&after) && !change.is_made(&map));
    assert!(change.commands(&after).is_empty(), "nothing is left to do");
}
