//! What each kind of change moves: no more than 1.15 times what has to, and all of what has to.

use super::*;
use crate::moves::{Move, MoveReason, SlotMove};
use crate::time::Timestamp;

/// Carries a change out, and returns how much was moved of each reason.
fn carry_out(before: &ClusterMap, changed: &ClusterMap, context: &str) -> (ClusterMap, Vec<Move>) {
    let (moves, after) = whole_plan(changed);
    check_rules(&after, context);
    check_balance(&after, 0.05, 1.0, context);
    let least = least_moved(before, &after);
    let lost: f64 = counts(changed.pgs.iter())
        .into_iter()
        .filter(|(id, _)| changed.disk(*id).is_none_or(|disk| disk.share() == 0))
        .map(|(_, count)| count)
        .sum();
    // A disk that is gone may have had a slot more than its share.
    let least = least.max(lost);
    let most = (least * 1.15).max(least + 3.0);
    let moved = moves.len() as f64;
    println!("{context}: {moved} moves, at least {least:.1}: {:.3}", moved / least.max(1.0));
    assert!(moved <= most, "{context}: {moved} moves where {least} have to be");
    assert!(plan_moves(&after, &Limits::NONE).is_empty(), "{context}: nothing is left to do");
    (after, moves)
}

fn shapes() -> Vec<(Vec<Disk>, &'static str)> {
    let mut shapes = vec![
        (even(1, 1, 12), "4+2"),
        (even(1, 6, 2), "4+2"),
        (even(3, 4, 3), "4+2"),
        (even(4, 4, 4), "8+4"),
        (even(2, 4, 4), "4+2"),
        (even(6, 5, 4), "6+3"),
        (even(1, 5, 3), "1+1"),
    ];
    for seed in 0..5 {
        shapes.push((lopsided(&mut Random::new(seed), 20 + 20 * seed as usize), "4+2"));
    }
    shapes
}

/// Runs a change on all shapes.
fn check(name: &str, change: impl Fn(&mut ClusterMap)) {
    for (disks, coding) in shapes() {
        let before = cluster(disks, coding);
        let mut changed = before.clone();
        change(&mut changed);
        let context = format!("{name} of {} disks, {coding}", before.disks.len());
        carry_out(&before, &changed, &context);
    }
}

fn next_disk(map: &ClusterMap) -> u32 {
    map.disks.last().expect("disks").id.0 + 1
}

#[test]
fn a_disk_is_lost() {
    check("a lost disk", |map| map.disks[3].state = DiskState::Out);
}

#[test]
fn a_disk_is_drained() {
    check("a drained disk", |map| map.disks[3].standing.is_draining = true);
}

#[test]
fn a_disk_joins_a_node() {
    check("a new disk", |map| {
        let sibling = map.disks[0].clone();
        let id = next_disk(map);
        map.disks.push(Disk { id: DiskId(id), uuid: DiskUuid([id as u8; 16]), ..sibling });
    });
}

#[test]
fn a_disk_of_four_times_the_size_joins() {
    check("a large new disk", |map| {
        let sibling = map.disks[0].clone();
        let id = next_disk(map);
        let weight = sibling.weight * 4;
        map.disks.push(Disk { id: DiskId(id), uuid: DiskUuid([id as u8; 16]), weight, ..sibling });
    });
}

#[test]
fn a_node_joins() {
    check("a new node", |map| {
        let (first, rack) = (next_disk(map), map.disks[0].rack.clone());
        for id in first..first + 4 {
            map.disks.push(Disk { rack: rack.clone(), ..disk(id, 900, 0, 0, 1000) });
        }
    });
}

#[test]
fn a_rack_joins() {
    check("a new rack", |map| {
        let first = next_disk(map);
        for id in first..first + 6 {
            map.disks.push(disk(id, 900 + id % 3, 900, 0, 1000));
        }
    });
}

#[test]
fn a_node_is_lost() {
    check("a lost node", |map| {
        let node = map.disks[0].node;
        let nodes = Places::new(&map.disks).count(Level::Node);
        if nodes > 1 {
            let lost = map.disks.iter_mut().filter(|disk| disk.node == node);
            lost.for_each(|disk| disk.state = DiskState::Out);
        }
    });
}

#[test]
fn a_disk_weighs_more_and_another_less() {
    check("a heavier disk", |map| map.disks[2].standing.weight = Some(map.disks[2].weight * 3 / 2));
    check("a lighter disk", |map| map.disks[2].standing.weight = Some(map.disks[2].weight / 2));
    check("a disk without weight", |map| map.disks[2].standing.weight = Some(0));
}

#[test]
fn a_small_change_of_weight_moves_nothing() {
    let mut map = cluster(even(3, 4, 3), "4+2");
    map.disks[2].standing.weight = Some(map.disks[2].weight * 101 / 100);
    assert!(plan_moves(&map, &Limits::NONE).is_empty());
}

#[test]
fn a_node_moves_to_another_rack() {
    for (disks, coding) in [(even(4, 3, 2), "4+2"), (even(6, 2, 3), "8+4")] {
        let mut map = cluster(disks, coding);
        for disk in map.disks.iter_mut().filter(|disk| disk.node == NodeId(1)) {
            disk.rack = "r1".to_owned();
        }
        let broken = broken_rules(&map);
        let (moves, after) = whole_plan(&map);
        check_rules(&after, "relabelled");
        check_balance(&after, 0.05, 1.0, "relabelled");
        println!("relabelled: {broken} slots broke a rule, {} moves", moves.len());
    }
}

#[test]
fn a_third_rack_lets_the_rule_be_kept() {
    let mut map = cluster(even(2, 3, 4), "4+2");
    assert_eq!(broken_rules(&map), 0, "three of six is what two racks can do");
    for id in 25..37 {
        map.disks.push(disk(id, 100 + id % 3, 2, 0, 1000));
    }
    assert!(broken_rules(&map) > 0);
    let groups = map.pgs.len();
    let (moves, after) = whole_plan(&map);
    check_rules(&after, "third rack");
    check_balance(&after, 0.05, 1.0, "third rack");
    assert_eq!(moves.len(), 2 * groups, "two slots of each group, and no other");
}

#[test]
fn a_part_carried_out_leaves_the_rest() {
    let before = cluster(even(3, 4, 3), "4+2");
    let mut map = before.clone();
    map.disks[5].state = DiskState::Out;
    map.disks.push(disk(37, 3, 0, 0, 1000));
    let whole = whole_plan(&map).0.len();
    let mut done = 0;
    let mut random = Random::new(3);
    // What is begun ends in any order, and some of it isn't begun for now.
    for _ in 0..10_000 {
        let moves = plan_moves(&map, &Limits { moves: 7, least: MoveReason::Balance });
        let under_way: Vec<usize> =
            (0..map.pgs.len()).filter(|pg| !map.pgs[*pg].moves.is_empty()).collect();
        if moves.is_empty() && under_way.is_empty() {
            break;
        }
        for one in moves.iter().filter(|_| random.below(3) > 0) {
            let Move { slot, to, reason, .. } = *one;
            let pg = &mut map.pgs[one.pg.0 as usize];
            assert!(pg.move_of(slot).is_none(), "planned twice");
            assert!(!pg.disks.contains(&to) && !pg.moves.iter().any(|other| other.to == to));
            assert!(pg.moves.is_empty() || reason == MoveReason::Lost, "one at a time");
            pg.moves.push(SlotMove { slot, to, reason, since: Timestamp(0), fault: None });
        }
        for pg in under_way {
            if random.below(2) == 0 {
                let ended = map.pgs[pg].moves.remove(0);
                map.pgs[pg].disks[usize::from(ended.slot)] = ended.to;
                done += 1;
            }
        }
    }
    check_rules(&map, "in parts");
    check_balance(&map, 0.05, 1.0, "in parts");
    println!("in parts {done} moves, at once {whole}");
    assert!(done <= whole + 3);
}

#[test]
fn the_most_urgent_moves_come_first() {
    let mut map = cluster(even(3, 4, 3), "4+2");
    map.disks[0].standing.is_draining = true;
    map.disks[1].state = DiskState::Out;
    map.disks[2].state = DiskState::Out;
    let moves = plan_moves(&map, &Limits::NONE);
    assert!(moves.is_sorted_by_key(|one| one.reason));
    let of_two = |one: &Move| {
        let pg = &map.pgs[one.pg.0 as usize];
        pg.disks.iter().filter(|id| [DiskId(2), DiskId(3)].contains(id)).count()
    };
    let lost: Vec<usize> =
        moves.iter().take_while(|one| one.reason == MoveReason::Lost).map(of_two).collect();
    assert!(lost.is_sorted_by(|one, other| one >= other), "the least redundancy first");
    assert!(moves.iter().any(|one| one.reason == MoveReason::Drain));
    let only = plan_moves(&map, &Limits { moves: usize::MAX, least: MoveReason::Lost });
    assert_eq!(only.len(), lost.len());
    assert_eq!(plan_moves(&map, &Limits { moves: 5, least: MoveReason::Balance }), moves[..5]);
}

#[test]
fn nothing_moves_to_or_from_where_it_can_t() {
    let mut map = cluster(even(3, 4, 3), "4+2");
    map.disks[0].standing.is_draining = true;
    map.disks[7].state = DiskState::Down;
    map.disks[8].state = DiskState::Full;
    let moves = plan_moves(&map, &Limits::NONE);
    assert!(!moves.is_empty());
    for one in moves {
        assert!(![DiskId(1), DiskId(8), DiskId(9)].contains(&one.to), "{one:?}");
        let pg = &map.pgs[one.pg.0 as usize];
        assert!(!pg.disks.contains(&DiskId(8)), "a group that can't be read whole waits: {one:?}");
    }
}

#[test]
fn a_slot_that_nobody_has_gets_a_disk() {
    let mut map = cluster(even(3, 4, 3), "4+2");
    map.pgs[5].disks[2] = crate::rebuild::NO_DISK;
    let moves = plan_moves(&map, &Limits::NONE);
    assert_eq!(moves.len(), 1);
    assert_eq!((moves[0].pg.0, moves[0].slot, moves[0].reason), (5, 2, MoveReason::Lost));
}

#[test]
fn a_lost_slot_breaks_a_rule_rather_than_staying_lost() {
    // Three nodes of three disks, two slots of each group on each; two nodes are full but for one.
    let mut map = cluster(even(1, 3, 3), "4+2");
    for disk in &mut map.disks {
        if disk.node != NodeId(2) {
            disk.state = DiskState::Full;
        }
    }
    map.disks[0].state = DiskState::Out;
    let had = map.pgs.iter().filter(|pg| pg.disks.contains(&DiskId(1))).count();
    let moves = plan_moves(&map, &Limits::NONE);
    assert_eq!(moves.len(), had);
    assert!(moves.iter().all(|one| map.disk(one.to).expect("known").node == NodeId(2)));
}

#[test]
fn with_nowhere_to_go_nothing_is_planned() {
    let mut map = cluster(even(1, 1, 6), "4+2");
    map.disks[0].state = DiskState::Out;
    assert!(plan_moves(&map, &Limits::NONE).is_empty());
    map.disks.iter_mut().for_each(|disk| disk.state = DiskState::Out);
    assert!(plan_moves(&map, &Limits::NONE).is_empty());
}
