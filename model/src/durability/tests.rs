//! The estimate as a whole.

use super::*;
use crate::cluster_map::{DiskState, Standing};
use crate::ids::{ClusterId, DiskId, DiskUuid, NodeId};
use crate::placement::pgs_to_add;

/// A cluster of `disks` equal disks on nodes of their own that is whole again after `hours`.
fn inputs(coding: &str, disks: u32, hours: f64) -> Inputs {
    let coding = Coding::parse(coding).expect("valid");
    Inputs {
        coding,
        disks,
        nodes: disks,
        disk_bytes: 3.6e12,
        stored_bytes: 3.6e12 * f64::from(disks),
        disk_afr: 0.0157,
        node_afr: 0.0,
        rebuild: RebuildRate::Whole(1e9 / hours),
        detect_hours: 0.0,
        silent: None,
        rebuilds: Rebuilds::OneAtATime,
        spread: Spread::of_topology(Topology { disks, nodes: disks, racks: 1 }, coding),
        target_nines: TARGET_NINES,
    }
}

fn close(found: f64, expected: f64, error: f64) {
    assert!((found - expected).abs() <= error, "{found} instead of {expected}");
}

#[test]
fn four_and_two_with_an_hour_has_eleven_nines_and_a_fifth() {
    let found = estimate(&inputs("4+2", 6, 1.0)).expect("an estimate");
    close(found.nines, 11.2, 0.05);
    close(found.rebuild_hours, 1.0, 1e-9);
    close(found.repair_hours, 1.0, 1e-9);
    close(found.overhead, 1.5, 1e-9);
    assert_eq!(found.groups, 1);
    close(found.probability_of_any_loss_per_year / found.probability_of_loss_per_year, 1.0, 1e-9);
    // All disks lose 1.58 % of what they hold, and each byte moves five.
    close(found.repair_bytes_per_year / (6.0 * 3.6e12 * 0.015_825 * 5.0), 1.0, 1e-3);
}

#[test]
fn the_longest_rebuild_for_eleven_nines_is_the_published_one() {
    for (coding, hours, tolerance) in [
        ("4+2", 1.27, 0.006),
        ("6+3", 32.9, 0.06),
        ("8+3", 23.9, 0.06),
        ("8+4", 158.0, 0.6),
        ("10+4", 126.0, 0.6),
        ("12+4", 103.0, 0.6),
    ] {
        let found = estimate(&inputs(coding, 20, 6.0)).expect("an estimate");
        close(found.rebuild_hours_max.expect("reachable"), hours, tolerance);
        let four_percent = Inputs { disk_afr: 0.04, ..inputs(coding, 20, 6.0) };
        let shorter = estimate(&four_percent).expect("an estimate").rebuild_hours_max;
        assert!(shorter.expect("reachable") < hours / 2.0);
    }
}

#[test]
fn detection_is_part_of_the_time() {
    let late = Inputs { detect_hours: 24.0, ..inputs("6+3", 20, 6.0) };
    let found = estimate(&late).expect("an estimate");
    close(found.nines, 11.1, 0.06);
    close(found.rebuild_hours_max.expect("reachable"), 32.9 - 24.0, 0.06);
    let soon = Inputs { detect_hours: 30.0 / 3600.0, ..inputs("6+3", 20, 6.0) };
    close(estimate(&soon).expect("an estimate").nines, 13.2, 0.06);
    let never = Inputs { detect_hours: 24.0, ..inputs("4+2", 20, 6.0) };
    assert_eq!(estimate(&never).expect("an estimate").rebuild_hours_max, None);
}

#[test]
fn a_cluster_loses_something_as_often_as_its_groups() {
    // 4096 groups of 6+3 at 1.57 % and 6 hours: 2.5e-10 a year.
    let mut many = inputs("6+3", 20, 6.0);
    many.spread.groups = 4096;
    let found = estimate(&many).expect("an estimate").probability_of_any_loss_per_year;
    close(found / 2.5e-10, 1.0, 0.03);
    let mut small = inputs("4+2", 20, 1.0);
    small.spread.groups = 4096;
    let found = estimate(&small).expect("an estimate").probability_of_any_loss_per_year;
    close(found / 2.5e-8, 1.0, 0.03);
    let mut wide = Inputs { disk_afr: 0.04, ..inputs("8+4", 20, 24.0) };
    wide.spread.groups = 4096;
    let found = estimate(&wide).expect("an estimate").probability_of_any_loss_per_year;
    close(found / 2.5e-9, 1.0, 0.03);
}

#[test]
fn twenty_terabyte_disks_want_more_than_twelve_nodes() {
    // 8+4 at 4 % with 20 TB disks, 70 % full, 50 MB/s each: 24 nodes reach 11 nines.
    let with = |disks: u32| Inputs {
        disk_bytes: 14e12,
        stored_bytes: 14e12 * f64::from(disks),
        disk_afr: 0.04,
        rebuild: RebuildRate::PerDisk(50e6),
        ..inputs("8+4", disks, 1.0)
    };
    let twelve = estimate(&with(12)).expect("an estimate");
    assert!(twelve.nines < 11.0, "{twelve:?}");
    close(twelve.rebuild_hours_max.expect("reachable"), 48.0, 0.6);
    let more = estimate(&with(24)).expect("an estimate");
    close(more.rebuild_hours, 30.4, 0.06);
    assert!(more.nines >= 11.6, "{more:?}");
}

#[test]
fn what_was_acknowledged_early_is_at_risk_until_repaired() {
    let found = estimate(&inputs("4+2", 20, 1.0)).expect("an estimate");
    close(found.degraded_write_nines, 10.5, 0.06);
    let found = estimate(&inputs("8+4", 20, 24.0)).expect("an estimate");
    close(found.degraded_write_nines, 11.0, 0.06);
}

#[test]
fn silent_failures_and_lost_nodes_cost_nines() {
    let clean = estimate(&inputs("6+3", 18, 6.0)).expect("an estimate");
    let silent = Silent { rate: 0.014, share: 1.0, scrub_days: 7.0 };
    let worst = Inputs { silent: Some(silent), ..inputs("6+3", 18, 6.0) };
    let worst = estimate(&worst).expect("an estimate");
    assert!(worst.nines < clean.nines - 2.0, "{worst:?}");
    assert!(worst.repair_bytes_per_year > 1.8 * clean.repair_bytes_per_year);
    let small = Inputs { silent: Some(Silent { share: 0.01, ..silent }), ..inputs("6+3", 18, 6.0) };
    let small = estimate(&small).expect("an estimate").nines;
    assert!(worst.nines < small && small < clean.nines);
    let nodes = Inputs { node_afr: 0.01, ..inputs("6+3", 18, 6.0) };
    assert!(estimate(&nodes).expect("an estimate").nines < clean.nines - 0.5);
}

#[test]
fn nonsense_is_refused_by_name() {
    let refused = |inputs: Inputs| estimate(&inputs).expect_err("refused").to_string();
    let good = inputs("4+2", 6, 1.0);
    assert_eq!(
        refused(Inputs { disks: 5, ..good }),
        "coding 4+2 needs 6 disks, one for each shard; there are 5"
    );
    assert!(refused(Inputs { disk_afr: 0.0, ..good }).contains("failure rate of disks"));
    assert!(refused(Inputs { disk_afr: 1.0, ..good }).contains("below 100 %; it is 100 %"));
    assert!(refused(Inputs { disk_afr: f64::NAN, ..good }).contains("failure rate of disks"));
    assert!(refused(Inputs { node_afr: -0.1, ..good }).contains("failure rate of nodes"));
    assert!(refused(Inputs { disk_bytes: 0.0, ..good }).contains("bytes on a disk"));
    assert!(refused(Inputs { detect_hours: -1.0, ..good }).contains("detection"));
    let rebuild = RebuildRate::PerDisk(f64::INFINITY);
    assert!(refused(Inputs { rebuild, ..good }).contains("rebuild rate"));
    let silent = Some(Silent { rate: 0.014, share: 2.0, scrub_days: 7.0 });
    assert!(refused(Inputs { silent, ..good }).contains("share of a silent failure"));
    let silent = Some(Silent { rate: 0.014, share: 1.0, scrub_days: 0.0 });
    assert!(refused(Inputs { silent, ..good }).contains("scrub interval"));
}

#[test]
fn comparisons_hold_what_fits_and_what_was_asked_for() {
    let wanted = Coding::parse("5+3").expect("valid");
    let names: Vec<String> =
        codings_to_compare(wanted, 9).iter().map(ToString::to_string).collect();
    assert_eq!(names, ["1+1", "1+2", "1+3", "2+1", "2+2", "4+2", "5+3", "6+3"]);
    let wanted = Coding::parse("4+2").expect("valid");
    let all = codings_to_compare(wanted, 100);
    assert_eq!(all.len(), 13);
}

#[test]
fn a_running_cluster_is_counted_by_its_map() {
    let coding = Coding::parse("2+1").expect("valid");
    let disk = |id: u32, weight: u32, state: DiskState| Disk {
        id: DiskId(id),
        uuid: DiskUuid([id as u8; 16]),
        node: NodeId(id.div_ceil(2)),
        rack: String::new(),
        zone: String::new(),
        weight,
        state,
        path: String::new(),
        standing: Standing::default(),
    };
    let mut map = ClusterMap::new(ClusterId::default(), coding);
    map.disks = (1..=6).map(|id| disk(id, if id < 3 { 300 } else { 100 }, DiskState::Up)).collect();
    let measured = Measured {
        fill: 0.5,
        disk_afr: 0.0157,
        node_afr: 0.0,
        rebuild: RebuildRate::Whole(100.0 * 1024.0 * 1024.0),
        detect_hours: 0.25,
        silent: None,
        target_nines: TARGET_NINES,
    };
    assert_eq!(Inputs::of_map(&map, map.coding, &measured), None);
    map.pgs = pgs_to_add(&map);
    map.disks.push(disk(7, 900, DiskState::Out));

    let inputs = Inputs::of_map(&map, map.coding, &measured).expect("there are PGs");
    assert_eq!((inputs.disks, inputs.nodes), (6, 3));
    assert_eq!(inputs.spread.shards_per_node, 1);
    // Two of 300 GiB and four of 100: an average shard's disk has 220 GiB, half of it in use.
    close(inputs.disk_bytes / 1024f64.powi(3), 110.0, 1e-9);
    close(inputs.stored_bytes / 1024f64.powi(3), 500.0, 1e-9);
    let found = estimate(&inputs).expect("an estimate");
    close(found.rebuild_hours, 110.0 * 1024.0 / 100.0 / 3600.0, 1e-9);
    assert!(found.nines > 6.0 && found.groups > 4, "{found:?}");
}
