//! One case for each code.

use model::cluster_map::{Disk, Mute, Pg, Standing};
use model::coding::Coding;
use model::ids::{ClusterId, DiskUuid, PgId};
use model::moves::SlotMove;
use model::time::Timestamp;

use super::super::{Colour, Severity, mutes};
use super::*;

/// One group of 4+2; disk 0 is on node 1, and so on.
fn map(states: &[DiskState]) -> ClusterMap {
    let coding = Coding::new(4, 2).expect("valid");
    let disk = |(id, state): (u32, &DiskState)| Disk {
        id: DiskId(id),
        uuid: DiskUuid::default(),
        node: NodeId(id + 1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        state: *state,
        path: String::new(),
        standing: Standing::default(),
    };
    ClusterMap {
        disks: (0u32..).zip(states).map(disk).collect(),
        pgs: vec![Pg::new(PgId(0), coding, (0..6).map(DiskId).collect())],
        ..ClusterMap::new(ClusterId::default(), coding)
    }
}

/// A queue whose most urgent extent has so many shards to spare.
fn repairs(queued: u64, spare_least: Option<i64>) -> Repairs {
    Repairs { queued, spare_least, spare_readable: spare_least.filter(|spare| *spare >= 0) }
}

fn up(map: &ClusterMap) -> impl Fn(DiskId) -> bool {
    |id| map.disk(id).is_some_and(|disk| disk.state == DiskState::Up)
}

#[test]
fn from_all_well_to_too_many_gone() {
    use DiskState::{Down, Full, Up};
    let check = |states: &[DiskState], expected: &[(&str, bool)]| {
        let map = map(states);
        let found = of_stripes(&map, &map, up(&map), Repairs::default());
        let found: Vec<_> = found.iter().map(|reason| (&*reason.code, reason.blocking)).collect();
        assert_eq!(found, expected, "{states:?}");
    };
    check(&[Up; 6], &[]);
    check(&[Up, Up, Up, Up, Up, Down], &[("STRIPE_DEGRADED", false), ("NO_OPEN_GROUP", false)]);
    check(&[Up, Up, Up, Up, Down, Down], &[("STRIPE_AT_RISK", false), ("NO_OPEN_GROUP", true)]);
    check(&[Up, Up, Up, Down, Down, Down], &[("DATA_UNREADABLE", true), ("NO_OPEN_GROUP", true)]);
    // Whoever can delete must get here.
    let full = map(&[Full; 6]);
    let found = of_stripes(&full, &full, |_| true, Repairs::default());
    let found: Vec<_> = found.iter().map(|reason| (&*reason.code, reason.blocking)).collect();
    assert_eq!(found, [("NO_OPEN_GROUP", false)]);
    check(&[], &[("NO_DISKS", true)]);
}

#[test]
fn the_repair_queue_counts_too() {
    let map = map(&[DiskState::Up; 6]);
    let check = |queued, spare_least, expected: &[(&str, &str)]| {
        let found = of_stripes(&map, &map, |_| true, repairs(queued, spare_least));
        assert!(found.iter().all(|reason| !reason.blocking));
        let found: Vec<_> = found.iter().map(|reason| (&*reason.code, &*reason.message)).collect();
        assert_eq!(found, expected);
    };
    check(0, None, &[]);
    check(
        3,
        Some(1),
        &[("STRIPE_DEGRADED", "3 extents lack shards and wait for repair; 1 more disks may fail.")],
    );
    check(3, None, &[("STRIPE_DEGRADED", "3 extents lack shards and wait for repair.")]);
    check(
        3,
        Some(0),
        &[("STRIPE_AT_RISK", "Of 3 extents that wait for repair, some have no shard to spare.")],
    );
    check(
        3,
        Some(-1),
        &[(
            "DATA_UNREADABLE",
            "Of 3 extents that wait for repair, some have lost more shards than their parity makes up for, so parts of objects can't be read.",
        )],
    );
}

#[test]
fn what_is_lost_hides_nothing_that_may_be_lost() {
    let states = |down: usize| {
        let mut map = map(&[DiskState::Up; 6]);
        map.disks.iter_mut().take(down).for_each(|disk| disk.state = DiskState::Down);
        map
    };
    let check = |down, spare_readable, expected: &[&str], muted: Colour| {
        let map = states(down);
        let repairs = Repairs { queued: 3, spare_least: Some(-1), spare_readable };
        let mut found = of_stripes(&map, &map, up(&map), repairs);
        found.retain(|reason| reason.code != "NO_OPEN_GROUP");
        let codes: Vec<_> = found.iter().map(|reason| &*reason.code).collect();
        assert_eq!(codes, expected);
        let mute = Mute { code: "DATA_UNREADABLE".to_owned(), until: Timestamp(9) };
        mutes::apply(&mut found, &[mute], Timestamp(1));
        assert_eq!(Colour::of(&found), muted, "{found:?}");
    };
    check(0, None, &["DATA_UNREADABLE"], Colour::Green);
    check(0, Some(1), &["DATA_UNREADABLE", "STRIPE_DEGRADED"], Colour::Yellow);
    check(0, Some(0), &["DATA_UNREADABLE", "STRIPE_AT_RISK"], Colour::Red);
    check(1, None, &["DATA_UNREADABLE", "STRIPE_DEGRADED"], Colour::Yellow);
    check(2, None, &["DATA_UNREADABLE", "STRIPE_AT_RISK"], Colour::Red);
    // What no mute hides is told once.
    check(3, Some(0), &["DATA_UNREADABLE"], Colour::Red);
}

#[test]
fn the_margin_is_the_least_of_groups_and_queue() {
    let check = |down: usize, spare_least, replicas, expected: (Option<i64>, &str)| {
        let mut map = map(&[DiskState::Up; 6]);
        map.disks.iter_mut().take(down).for_each(|disk| disk.state = DiskState::Down);
        let margin = margin_of(Some(&map), up(&map), repairs(0, spare_least), replicas);
        assert_eq!((margin.more_disks, &*margin.text), expected);
    };
    check(0, None, Some(2), (Some(2), "2 more disks may fail; 2 more metadata replicas"));
    check(0, Some(1), Some(1), (Some(1), "1 more disk may fail; 1 more metadata replica"));
    check(2, Some(1), Some(0), (Some(0), "no further disk may fail; no further metadata replica"));
    check(3, None, Some(-1), (Some(-1), "some data can't be read; the metadata has no majority"));
    let unknown = margin_of(None, |_| true, Repairs::default(), None);
    assert_eq!(unknown.more_disks, None);
}

#[test]
fn many_silent_nodes_are_red() {
    let map = map(&[DiskState::Up; 6]);
    assert_eq!(of_upkeep(&map, &[]), []);
    let reasons = of_upkeep(&map, &[NodeId(2), NodeId(3)]);
    assert_eq!((&*reasons[0].code, reasons[0].severity), ("NODES_SILENT", Severity::Red));
    assert!(reasons[0].message.starts_with("Nodes 2, 3 are silent"), "{reasons:?}");
}

#[test]
fn slots_of_disks_that_are_out_are_being_rebuilt() {
    let mut map = map(&[DiskState::Up; 6]);
    map.disks[5].state = DiskState::Out;
    let since = Timestamp(1);
    map.pgs[0].moves =
        vec![SlotMove { slot: 5, to: DiskId(6), reason: MoveReason::Lost, since, fault: None }];
    let reasons = of_upkeep(&map, &[]);
    assert_eq!(&*reasons[0].code, "REBUILDING");
    let message =
        "1 slots of disks that were given up are to be rebuilt on others; 1 of them are under way.";
    assert_eq!((reasons[0].message.as_str(), reasons.len()), (message, 1));
}

#[test]
fn a_pause_is_told() {
    let mut map = map(&[DiskState::Up; 6]);
    map.upkeep.is_paused = true;
    let reasons = of_upkeep(&map, &[]);
    assert_eq!((&*reasons[0].code, reasons[0].severity), ("MOVES_PAUSED", Severity::Yellow));
}

#[test]
fn a_node_with_more_shards_than_parity_is_told() {
    let mut map = map(&[DiskState::Up; 6]);
    // Two on each of three nodes.
    map.disks.iter_mut().for_each(|disk| disk.node = NodeId(disk.id.0 / 2));
    assert_eq!(tolerance_low(&map), None);
    // Three on each of two, and what is down changes nothing.
    map.disks.iter_mut().for_each(|disk| disk.node = NodeId(disk.id.0 / 3));
    map.disks[0].state = DiskState::Down;
    let reason = tolerance_low(&map).expect("a reason");
    assert_eq!((&*reason.code, reason.severity), ("TOLERANCE_LOW", Severity::Yellow));
    assert!(reason.message.contains("it has 3 of 6 shards of one."), "{reason:?}");
    // All on one: there is nothing to be spread over.
    map.disks.iter_mut().for_each(|disk| disk.node = NodeId(0));
    assert_eq!(tolerance_low(&map), None);
}
