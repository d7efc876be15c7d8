//! One case for each code.

use model::cluster_map::{Pg, Standing, UpkeepWish};
use model::coding::Coding;
use model::ids::{ClusterId, DiskUuid, Incarnation, NodeId, NodeUuid, PgId};
use model::node::{FEATURE_LEVEL, Node, NodeRegistration, Roles};
use model::shard::{CompactionReport, ScrubReport};

use super::*;

const DAY: u64 = 24 * 3600 * 1_000_000_000;

/// Now.
const NOW: Timestamp = Timestamp(1000 * DAY);

fn disk(id: u32) -> Disk {
    Disk {
        id: DiskId(id),
        uuid: DiskUuid::default(),
        node: NodeId(7),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        state: DiskState::Up,
        path: format!("/d{id}"),
        standing: Standing::default(),
    }
}

fn report(id: u32) -> DiskReport {
    DiskReport {
        disk: DiskId(id),
        uuid: DiskUuid::default(),
        cluster: ClusterId::default(),
        health: DiskHealth::Ok,
        reason: None,
        capacity_bytes: 1000,
        free_bytes: 500,
        live_bytes: 0,
        garbage_bytes: 0,
        shards: 0,
        incarnation: Incarnation::default(),
        reserve_bytes: 10,
        damaged_shards: 0,
        scrub: ScrubReport::default(),
        compaction: CompactionReport::default(),
    }
}

/// What a cluster of one disk, a group over it, and its report give reason for.
fn found(change: impl FnOnce(&mut Disk, &mut DiskReport)) -> Vec<(String, String)> {
    found_by(UpkeepWish::default(), change)
}

fn found_by(
    upkeep: UpkeepWish,
    change: impl FnOnce(&mut Disk, &mut DiskReport),
) -> Vec<(String, String)> {
    let (mut disk, mut report) = (disk(1), report(1));
    change(&mut disk, &mut report);
    let coding = Coding::new(1, 1).expect("valid");
    let map = ClusterMap {
        disks: vec![disk],
        pgs: vec![Pg::new(PgId(0), coding, vec![DiskId(1), DiskId(2)])],
        upkeep,
        ..ClusterMap::new(ClusterId::default(), coding)
    };
    let reports = [report];
    let facts = DiskFacts::new(&map, &reports, &[], NOW);
    of_disks(&facts).into_iter().map(|reason| (reason.code, reason.message)).collect()
}

fn check(change: impl FnOnce(&mut Disk, &mut DiskReport), expected: &[(&str, &str)]) {
    let found = found(change);
    let found: Vec<_> = found.iter().map(|(code, text)| (&**code, &**text)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_disk_that_is_well_gives_no_reason() {
    check(|_, _| {}, &[]);
}

#[test]
fn down_by_silence_by_failure_and_by_a_failed_write() {
    check(
        |disk, _| disk.state = DiskState::Down,
        &[("DISK_DOWN", "1 disk is down (disk 1: /d1 on node 7, its node is not heard of).")],
    );
    check(
        |_, report| {
            report.health = DiskHealth::Failed;
            report.reason = Some("its directory is gone".to_owned());
        },
        &[("DISK_DOWN", "1 disk is down (disk 1: /d1 on node 7, failed, its directory is gone).")],
    );
    check(
        |disk, report| {
            disk.state = DiskState::Down;
            report.health = DiskHealth::ReadOnly;
        },
        &[("DISK_DOWN", "1 disk is down (disk 1: /d1 on node 7, read-only).")],
    );
}

#[test]
fn out_until_it_is_empty_and_an_operator_wants_it_so() {
    let out = |is_given_up| {
        move |disk: &mut Disk, _: &mut DiskReport| {
            disk.state = DiskState::Out;
            disk.standing.is_given_up = is_given_up;
        }
    };
    let rebuilt = "1 disk is given up (disk 1: /d1 on node 7, 1 slots to be rebuilt elsewhere).";
    check(out(false), &[("DISK_OUT", rebuilt)]);
    check(out(true), &[("DISK_OUT", rebuilt)]);
    // A disk that has no slots any more.
    let empty = |is_given_up| {
        move |disk: &mut Disk, report: &mut DiskReport| {
            out(is_given_up)(disk, report);
            disk.id = DiskId(9);
        }
    };
    let replace = "1 disk is given up (disk 9: /d1 on node 7, rebuilt elsewhere, to be replaced).";
    check(empty(false), &[("DISK_OUT", replace)]);
    check(empty(true), &[]);
    // Its node was removed: there is nothing to replace.
    let (mut gone, mut kept) = (disk(9), disk(10));
    (gone.state, kept.state, kept.node) = (DiskState::Out, DiskState::Out, NodeId(8));
    let coding = Coding::new(1, 1).expect("valid");
    let registration = NodeRegistration {
        uuid: NodeUuid([8; 16]),
        name: String::new(),
        address: "host:1".to_owned(),
        roles: Roles::ALL,
        rack: String::new(),
        zone: String::new(),
        level: FEATURE_LEVEL,
    };
    let map = ClusterMap {
        disks: vec![gone, kept],
        nodes: vec![Node::new(NodeId(8), registration)],
        ..ClusterMap::new(ClusterId::default(), coding)
    };
    let facts = DiskFacts::new(&map, &[], &[], NOW);
    let told = |disk: u32| facts.is_out(map.disk(DiskId(disk)).expect("there")).is_some();
    assert_eq!((told(9), told(10)), (false, true));
}

#[test]
fn suspect_as_the_leader_says() {
    let coding = Coding::new(1, 1).expect("valid");
    let map = ClusterMap {
        disks: vec![disk(1), disk(2)],
        ..ClusterMap::new(ClusterId::default(), coding)
    };
    let facts = DiskFacts::new(&map, &[], &[DiskId(2)], NOW);
    let reasons = of_disks(&facts);
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0].code, "DISK_SUSPECT");
    let message = "1 disk is not heard of for some seconds (disk 2: /d2 on node 7).";
    assert_eq!(reasons[0].message, message);
}

#[test]
fn operators_say_what_is_nearly_full() {
    let upkeep = UpkeepWish { nearfull_percent: Some(60), ..UpkeepWish::default() };
    let codes = |free| {
        let found = found_by(upkeep, |_, report| report.free_bytes = free);
        found.into_iter().map(|(code, _)| code).collect::<Vec<_>>()
    };
    assert_eq!((codes(401), codes(400)), (vec![], vec!["DISK_NEARFULL".to_owned()]));
}

#[test]
fn full_and_nearly_so() {
    check(|_, report| report.free_bytes = 151, &[]);
    check(
        |_, report| report.free_bytes = 150,
        &[("DISK_NEARFULL", "1 disk is nearly full (disk 1: 85 % taken).")],
    );
    let full = "1 disk is full: new objects go elsewhere (disk 1: 99 % taken).";
    check(
        |_, report| (report.free_bytes, report.health) = (10, DiskHealth::Full),
        &[("DISK_FULL", full)],
    );
    check(
        |disk, report| (disk.state, report.free_bytes) = (DiskState::Full, 10),
        &[("DISK_FULL", full)],
    );
    // Nothing is known of its size.
    check(|_, report| (report.capacity_bytes, report.free_bytes) = (0, 0), &[]);
}

#[test]
fn damage_is_told_as_the_node_tells_it() {
    check(
        |_, report| report.reason = Some("2 damaged regions are quarantined".to_owned()),
        &[(
            "DISK_DAMAGED",
            "1 disk is damaged in part (disk 1: 2 damaged regions are quarantined).",
        )],
    );
    check(
        |_, report| report.damaged_shards = 7,
        &[("DISK_DAMAGED", "1 disk is damaged in part (disk 1: 7 shards wait for repair).")],
    );
}

#[test]
fn a_disk_that_was_not_verified_for_two_weeks_is_stale() {
    let ended = |days: u64| {
        move |_: &mut Disk, report: &mut DiskReport| {
            report.scrub.last_ended = Timestamp(NOW.0 - days * DAY);
        }
    };
    check(ended(14), &[]);
    let message = "1 disk is not verified for too long (disk 1: its last whole pass ended \
                   1972-09-12T00:00:00.000Z).";
    check(ended(15), &[("SCRUB_STALE", message)]);
    let began = |days: u64| {
        move |_: &mut Disk, report: &mut DiskReport| {
            report.scrub.began = Timestamp(NOW.0 - days * DAY);
        }
    };
    check(began(14), &[]);
    let message = "1 disk is not verified for too long (disk 1: its first pass began \
                   1972-09-12T00:00:00.000Z).";
    check(began(15), &[("SCRUB_STALE", message)]);
}

#[test]
fn of_many_disks_some_are_named() {
    let coding = Coding::new(1, 1).expect("valid");
    let down = |id| Disk { state: DiskState::Down, ..disk(id) };
    let map = ClusterMap {
        disks: (1..=30).map(down).collect(),
        ..ClusterMap::new(ClusterId::default(), coding)
    };
    let facts = DiskFacts::new(&map, &[], &[], NOW);
    let message = &of_disks(&facts)[0].message;
    assert!(message.starts_with("30 disks are down (disk 1: "), "{message}");
    assert!(message.contains("; disk 20: ") && !message.contains("disk 21: "), "{message}");
    assert!(message.ends_with("; and 10 more)."), "{message}");
}
