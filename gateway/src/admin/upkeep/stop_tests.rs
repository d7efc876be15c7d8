//! Which nodes may be stopped, of small clusters.

use model::coding::Coding;
use model::extent::{Extent, SlotSet};
use model::ids::{ExtentId, SessionId};
use model::moves::{MoveReason, SlotMove};
use model::node::Node;
use model::placement::pgs_to_add;
use model::time::Timestamp;
use model::upkeep::RepairItem;

use super::*;
use crate::admin::upkeep::small_cluster::{cluster, reports, voters};

/// A cluster, and what is known of it.
struct Case {
    map: ClusterMap,
    voters: Vec<Voter>,
    suspects: Vec<DiskId>,
    unused: Vec<PgId>,
    lacking: Vec<RepairItem>,
    unlooked: u64,
}

impl Case {
    fn new(nodes: u32, disks_each: u32, coding: &str) -> Self {
        Self {
            map: cluster(nodes, disks_each, coding),
            voters: voters(3),
            suspects: Vec::new(),
            unused: Vec::new(),
            lacking: Vec::new(),
            unlooked: 0,
        }
    }

    fn ask(&self, node: u32) -> StopAnswer {
        let reports = reports(&self.map);
        let present = Present {
            map: &self.map,
            unused: &self.unused,
            reports: &reports,
            suspects: &self.suspects,
            voters: &self.voters,
            lacking: Lacking { items: &self.lacking, unlooked: self.unlooked },
        };
        ok_to_stop(&present, NodeId(node))
    }

    /// Asks, and expects a no for one reason.
    fn no(&self, node: u32, expected: &str) {
        let found = self.ask(node);
        assert!(!found.ok, "{found:?}");
        assert!(found.reasons.len() == 1 && found.reasons[0].contains(expected), "{found:?}");
    }

    fn yes(&self, node: u32) -> StopAnswer {
        let found = self.ask(node);
        assert!(found.ok && found.reasons.len() == 1, "{found:?}");
        found
    }
}

#[test]
fn one_node_of_six_may_stop() {
    let found = Case::new(6, 1, "4+2").yes(1);
    assert!(found.reasons[0].ends_with("the metadata keeps its majority."), "{found:?}");
    assert!(found.notes.is_empty(), "{found:?}");
    let found = Case::new(6, 1, "4+2").yes(6);
    assert!(!found.reasons[0].contains("metadata"), "it keeps no replica: {found:?}");
}

#[test]
fn no_more_may_stop_than_can_be_lost() {
    let mut case = Case::new(8, 1, "4+2");
    case.map.disks[6].state = DiskState::Down;
    case.yes(5);
    case.map.disks[7].state = DiskState::Down;
    case.no(5, "couldn't be read without it");
    // It is down itself: nothing is lost by stopping it.
    case.yes(8);
    // A silent disk may be down.
    case.map.disks[7].state = DiskState::Up;
    case.suspects = vec![DiskId(7)];
    case.no(5, "couldn't be read without it");
}

#[test]
fn data_that_is_out_of_reach_already_is_told() {
    let mut case = Case::new(7, 1, "4+2");
    case.map.disks[..3].iter_mut().for_each(|disk| disk.state = DiskState::Down);
    case.voters.clear();
    let found = case.ask(1);
    assert!(!found.ok && found.reasons[0].contains("can't be read even now"), "{found:?}");
    // A node without disks may stop all the same.
    let gateway = Node { id: NodeId(8), ..case.map.nodes[0].clone() };
    case.map.nodes.push(gateway);
    case.voters = voters(3);
    let found = case.yes(8);
    assert_eq!(found.reasons, ["It keeps neither disks nor a metadata replica that votes."]);
}

#[test]
fn where_each_group_has_two_slots_on_a_node_others_are_made_to_write_to() {
    let found = Case::new(3, 2, "4+2").yes(1);
    assert!(found.notes[0].contains("writes wait for about 10 s"), "{found:?}");
    assert!(found.notes[0].contains("(2+2)"), "{found:?}");
    let found = Case::new(3, 1, "2+1").yes(1);
    assert!(found.notes[0].contains("(1+1)"), "{found:?}");
    let mut two = Case::new(2, 1, "1+1");
    two.voters = voters(2).split_off(1);
    two.no(1, "Nothing could be written");
}

#[test]
fn the_metadata_keeps_its_majority() {
    let mut case = Case::new(6, 1, "4+2");
    case.voters[1].is_well = false;
    case.no(1, "of 3 voters, 1 would be left, and 2 are needed");
    case.yes(2);
    case.yes(6);
    case.voters = voters(1);
    case.no(1, "of 1 voters, 0 would be left");
}

#[test]
fn what_waits_for_repair_counts_as_lost() {
    let mut case = Case::new(6, 1, "4+2");
    let pg = case.map.pgs[0].clone();
    let item = |slots: &[u8], length: u64| {
        let mut missing = SlotSet::default();
        for slot in slots {
            missing.insert(*slot);
        }
        let id = ExtentId { pg: PgId(0), session: SessionId(1), sequence: 1 };
        let coding = Coding::new(4, 2).expect("valid");
        let extent = Extent { id, coding, length, missing, epoch: 0 };
        RepairItem { extent, spare: 2 - i16::from(slots.len() as u8) }
    };
    let on_first = |slot: usize| pg.disks[slot].0 + 1;
    let whole = 16 << 20;
    case.lacking = vec![item(&[0], whole)];
    case.yes(on_first(1));
    case.lacking = vec![item(&[0, 1], whole)];
    case.no(on_first(2), "1 extents that wait for repair couldn't be read without it");
    // The slot that is on it is lost anyway.
    case.yes(on_first(0));
    case.unlooked = 9;
    case.no(on_first(0), "10 extents wait for repair, too many");
}

#[test]
fn what_is_lost_for_good_keeps_no_node_from_stopping() {
    let mut case = Case::new(7, 1, "4+2");
    let mut missing = SlotSet::default();
    (0..3).for_each(|slot| missing.insert(slot));
    let id = ExtentId { pg: PgId(0), session: SessionId(1), sequence: 1 };
    let coding = Coding::new(4, 2).expect("valid");
    let extent = Extent { id, coding, length: 16 << 20, missing, epoch: 0 };
    case.lacking = vec![RepairItem { extent: extent.clone(), spare: -1 }];
    for node in 1..=7 {
        let found = case.yes(node);
        let note = "1 extents that wait for repair can't be read with it either.";
        assert_eq!(found.notes, [note], "{node}");
    }
    // The same while a disk is down that it needs; others need that one, too.
    let pg = case.map.pgs[0].clone();
    missing = SlotSet::default();
    (0..2).for_each(|slot| missing.insert(slot));
    case.lacking = vec![RepairItem { extent: Extent { missing, ..extent }, spare: 0 }];
    case.map.disk_mut(pg.disks[2]).expect("a disk").state = DiskState::Down;
    let found = case.yes(pg.disks[3].0 + 1);
    assert!(found.notes[0].contains("can't be read with it either"), "{found:?}");
    case.map.disk_mut(pg.disks[2]).expect("a disk").state = DiskState::Up;
    case.no(pg.disks[3].0 + 1, "1 extents that wait for repair couldn't be read without it");
}

#[test]
fn groups_that_nobody_uses_keep_no_node_from_stopping() {
    let mut case = Case::new(3, 4, "4+2");
    case.yes(1);
    // A wide class, taken away again.
    let standard = std::mem::replace(&mut case.map.coding, Coding::new(8, 2).expect("valid"));
    let wide = pgs_to_add(&case.map);
    case.map.coding = standard;
    case.map.pgs.extend(wide);
    case.no(1, "placement groups couldn't be read without it");
    case.unused = case.map.pgs_out_of_use().iter().map(|pg| pg.id).collect();
    assert!(!case.unused.is_empty() && case.unused.len() < case.map.pgs.len());
    for node in 1..=3 {
        case.yes(node);
    }
    // Those that are used count, of which one is the last here.
    case.unused.pop();
    case.no(1, "1 of ");
}

#[test]
fn moves_and_gateways_are_noted() {
    let mut case = Case::new(7, 1, "4+2");
    let spare = (0..7).map(DiskId).find(|disk| !case.map.pgs[0].disks.contains(disk));
    let to = spare.expect("one disk of seven");
    let (reason, since) = (MoveReason::Balance, Timestamp(1));
    case.map.pgs[0].moves.push(SlotMove { slot: 0, to, reason, since, fault: None });
    let found = case.yes(to.0 + 1);
    assert_eq!(found.notes, ["1 moves from or to its disks would wait until it is back."]);
    for node in case.map.nodes.iter_mut().skip(1) {
        node.registration.roles = Roles::STORAGE_NODE;
    }
    case.map.pgs[0].moves.clear();
    assert_eq!(case.yes(1).notes, ["It is the only gateway: nobody else serves clients."]);
}

#[test]
fn the_only_node_may_not_stop() {
    let mut case = Case::new(1, 6, "4+2");
    case.voters = voters(1);
    let found = case.ask(1);
    assert_eq!((found.ok, found.reasons.len()), (false, 3), "{found:?}");
}
