//! When groups are added, which, and that each generation is balanced by itself.

use super::*;
use crate::placement::{STOPGAP_SLOTS_PER_DISK, best_coding, default_coding};

#[test]
fn six_disks_get_a_hundred_pgs_over_all_of_them() {
    let map = cluster(even(1, 1, 6), "4+2");
    assert_eq!(map.pgs.len(), 100);
    check_rules(&map, "six");
    assert!(pgs_to_add(&map).is_empty());
}

#[test]
fn lost_disks_narrow_the_data_and_keep_the_parity() {
    let mut map = cluster(even(1, 1, 6), "4+2");
    for (lost, expected) in [(1, "3+2"), (2, "2+2"), (3, "1+2"), (4, "1+1")] {
        map.disks[lost - 1].state = DiskState::Down;
        let more = pgs_to_add(&map);
        map.pgs.extend(more);
        let open = map.open_pgs(&[]);
        assert_eq!(open.len(), STOPGAP_SLOTS_PER_DISK);
        assert!(open.iter().all(|pg| pg.coding.to_string() == expected), "{lost}");
    }
    map.disks[4].state = DiskState::Full;
    assert!(pgs_to_add(&map).is_empty(), "one disk alone keeps nothing safe");
    assert!(map.open_pgs(&[]).is_empty());
    for disk in &mut map.disks {
        disk.state = DiskState::Up;
    }
    assert!(pgs_to_add(&map).is_empty());
    assert!(map.open_pgs(&[]).iter().all(|pg| pg.coding == map.coding));
}

#[test]
fn a_rack_that_is_down_leaves_groups_for_writes() {
    let mut map = cluster(even(4, 3, 2), "8+4");
    for disk in map.disks.iter_mut().filter(|disk| disk.rack == "r0") {
        disk.state = DiskState::Down;
    }
    assert!(map.open_pgs(&[]).is_empty());
    let more = pgs_to_add(&map);
    assert_eq!(more.len(), 18 * STOPGAP_SLOTS_PER_DISK / 12);
    map.pgs.extend(more);
    assert_eq!(map.open_pgs(&[]).len(), 24);
    assert!(pgs_to_add(&map).is_empty());
}

#[test]
fn a_cluster_that_doubles_gets_groups_and_each_generation_is_balanced() {
    let mut map = cluster(even(3, 2, 2), "4+2");
    let first = map.pgs.len();
    assert_eq!(first, 200);
    for id in 13..=24 {
        map.disks.push(disk(id, 10 + id / 2, id % 3, 0, 1000));
        map.pgs.extend(pgs_to_add(&map));
    }
    assert_eq!(map.pgs.len(), first, "half of what there should be is enough");
    map.disks.push(disk(25, 30, 0, 0, 1000));
    map.pgs.extend(pgs_to_add(&map));
    assert_eq!(map.pgs.len(), 417);
    let (moves, after) = whole_plan(&map);
    // The last few of the old groups are of the generation of the new ones, and balanced with them.
    let of_new = moves.iter().filter(|one| (one.pg.0 as usize) >= first).count();
    assert!(of_new < 48, "{of_new} of {} moves are of groups that are balanced", moves.len());
    check_rules(&after, "doubled");
    check_balance(&after, 0.05, 1.0, "doubled");
    for (lot, shares) in shares_by_lot(&after) {
        let counts = counts(after.pgs.iter().filter(|pg| Lot::of(pg) == lot));
        for (disk, share) in shares {
            let count = counts.get(&disk).copied().unwrap_or_default();
            assert!(
                (count - share).abs() <= (share * 0.05).max(2.0),
                "{lot:?}: disk {disk} has {count} of {share}"
            );
        }
    }
}

#[test]
fn drained_disks_get_no_new_groups() {
    let mut map = cluster(even(1, 1, 8), "4+2");
    map.pgs.clear();
    map.disks[0].standing.is_draining = true;
    let pgs = pgs_to_add(&map);
    assert!(!pgs.is_empty());
    assert!(pgs.iter().all(|pg| !pg.disks.contains(&DiskId(1))));
}

#[test]
fn fewer_disks_than_shards_get_the_best_there_is() {
    let coding = Coding::parse("8+4").expect("valid");
    let found = |up| best_coding(coding, up).map(|coding| coding.to_string());
    assert_eq!(found(20).as_deref(), Some("8+4"));
    assert_eq!(found(11).as_deref(), Some("7+4"));
    assert_eq!(found(5).as_deref(), Some("1+4"));
    assert_eq!(found(4).as_deref(), Some("1+3"));
    assert_eq!(found(1).as_deref(), Some("1+0"));
    assert_eq!(found(0), None);
}

#[test]
fn the_default_coding_fits_the_topology_and_says_why() {
    let check = |disks: Vec<Disk>, coding: &str, why: &[&str]| {
        let (found, text) = default_coding(&disks).expect("disks");
        assert_eq!(found.to_string(), coding, "{text}");
        for part in why {
            assert!(text.contains(part), "{text}");
        }
    };
    assert!(default_coding(&[]).is_none());
    // One machine keeps what it always had.
    for disks in 1..=30 {
        let expected = Coding::default_for(disks as usize).expect("a coding").to_string();
        check(even(1, 1, disks), &expected, &[]);
    }
    check(even(1, 1, 6), "4+2", &["6 disks on 1 node", "any 2 disks", "150 bytes"]);
    check(even(1, 3, 2), "4+2", &["2 disks, 1 node"]);
    check(even(1, 9, 1), "6+3", &["3 disks, 3 nodes"]);
    check(even(1, 12, 4), "8+4", &["4 disks, 4 nodes"]);
    check(even(4, 3, 2), "8+4", &["in 4 racks", "4 nodes, 1 rack"]);
    check(even(3, 4, 2), "6+3", &["3 nodes, 1 rack"]);
    check(even(2, 8, 2), "4+2", &["2 nodes; not 1 rack"]);
}
