//! Long histories of changes, each carried out: never worse, and no more moved than had to be.

use super::*;
use crate::moves::MoveReason;

/// Applies a random change. Those that would leave too few disks are left out.
fn change(map: &mut ClusterMap, random: &mut Random) -> &'static str {
    let at = random.below(map.disks.len() as u32) as usize;
    let next = map.disks.last().expect("disks").id.0 + 1;
    let node_max = map.disks.iter().map(|disk| disk.node.0).max().expect("disks");
    let holding: Vec<&Disk> = map.disks.iter().filter(|disk| disk.share() > 0).collect();
    let may_shrink = holding.len() > 2 * usize::from(map.coding.width());
    match random.below(6) {
        0 if may_shrink => {
            map.disks[at].state = DiskState::Out;
            "out"
        }
        1 if may_shrink => {
            map.disks[at].standing.is_draining = true;
            "drain"
        }
        2 => {
            map.disks[at].standing.weight = Some(500 + random.below(2500));
            "weight"
        }
        3 => {
            let weight = 500 + random.below(2500);
            let sibling = map.disks[at].clone();
            let fresh = disk(next, sibling.node.0, 0, 0, weight);
            map.disks.push(Disk { rack: sibling.rack, zone: sibling.zone, ..fresh });
            "disk"
        }
        4 => {
            let sibling = map.disks[at].clone();
            for id in next..next + 1 + random.below(3) {
                let fresh = disk(id, node_max + 1, 0, 0, 500 + random.below(2500));
                let (rack, zone) = (sibling.rack.clone(), sibling.zone.clone());
                map.disks.push(Disk { rack, zone, ..fresh });
            }
            "node"
        }
        _ if may_shrink => {
            let node = map.disks[at].node;
            let of_node = holding.iter().filter(|disk| disk.node == node).count();
            if holding.len() - of_node > 2 * usize::from(map.coding.width()) {
                let lost = map.disks.iter_mut().filter(|disk| disk.node == node);
                lost.for_each(|disk| disk.state = DiskState::Out);
            }
            "node out"
        }
        _ => "nothing",
    }
}

/// `part` is how far a disk may be off its share at any time.
fn history(seed: u64, changes: u32, least: usize, coding: &str, part: f64) {
    let mut random = Random::new(seed);
    let mut map = cluster(lopsided(&mut random, least), coding);
    let (mut moved, mut had_to) = (0.0, 0.0);
    for number in 0..changes {
        let before = map.clone();
        let kind = change(&mut map, &mut random);
        let context = format!("seed {seed}, change {number}: {kind}");
        let broken = broken_rules(&map);
        let changed = map.clone();
        // One plan after another, each checked by itself.
        for round in 0.. {
            assert!(round < 40, "{context}: no end");
            let moves = plan_moves(&map, &Limits::NONE);
            if moves.is_empty() {
                break;
            }
            let mut last = broken_rules(&map);
            for one in &moves {
                assert!(map.disk(one.to).expect("known").share() > 0);
                let pg = &mut map.pgs[one.pg.0 as usize];
                assert_eq!(pg.disks[usize::from(one.slot)], one.from);
                assert!(!pg.disks.contains(&one.to));
                pg.disks[usize::from(one.slot)] = one.to;
                if moves.len() < 15 {
                    let now = broken_rules(&map);
                    let is_worse = now > last && one.reason != MoveReason::Lost;
                    assert!(!is_worse, "{context}: {one:?} breaks a rule");
                    last = now;
                }
            }
            moved += moves.len() as f64;
        }
        let now = broken_rules(&map);
        assert!(now <= broken, "{context}: {now} slots break a rule, {broken} did before");
        check_rules(&map, &context);
        check_balance(&map, part, 1.0, &context);
        had_to += least_moved(&before, &changed);
        map.disks.retain(|disk| disk.share() > 0);
        map.pgs.extend(pgs_to_add(&map));
    }
    println!("seed {seed}: {changes} changes, {moved} moves, {:.3} of the least", moved / had_to);
    assert!(moved <= 1.15 * had_to, "seed {seed}: {moved} moves, {had_to} had to be");
}

#[test]
fn two_hundred_changes() {
    history(1, 200, 24, "4+2", 0.05);
}

#[test]
fn other_histories() {
    for (seed, coding) in [(2, "1+1"), (3, "2+1"), (4, "6+3"), (5, "8+4"), (6, "1+3")] {
        history(seed, 12, 30, coding, 0.05);
    }
}

#[test]
#[ignore = "minutes without optimisation"]
fn many_histories() {
    for seed in 100..106 {
        let coding = ["4+2", "2+1", "6+3", "8+4", "16+4", "1+1"][seed as usize % 6];
        // Not within 5 % each time: of a hundred disks one may stay a few slots above its share
        // where no single move that the rules allow brings it closer.
        history(seed, 200, 24 + seed as usize, coding, 0.10);
    }
}
