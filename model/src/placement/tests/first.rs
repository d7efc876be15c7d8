//! The first table: rules, balance, speed of the descent, and that it follows from the disks alone.

use super::*;
use crate::placement::Placer;

const CODINGS: [&str; 7] = ["1+1", "2+1", "4+2", "6+3", "8+4", "16+4", "1+0"];

fn check(disks: Vec<Disk>, coding: &str, context: &str) {
    let map = cluster(disks, coding);
    assert!(!map.pgs.is_empty(), "{context}");
    check_rules(&map, context);
    check_balance(&map, 0.05, 1.0, context);
    // A slot is of any disk: data slots, which are read the most, are spread as all are.
    for (lot, shares) in shares_by_lot(&map) {
        let counts = counts(map.pgs.iter().filter(|pg| Lot::of(pg) == lot));
        for (disk, share) in shares {
            let count = counts.get(&disk).copied().unwrap_or_default();
            assert!((count - share).abs() <= 2.001, "{context}: {count} slots of {share}");
        }
    }
    let moves = plan_moves(&map, &Limits::NONE);
    assert!(moves.is_empty(), "{context}: a new table is as it should be, {moves:?}");
}

#[test]
fn even_clusters_of_any_shape() {
    for (racks, nodes, disks) in
        [(1, 1, 6), (1, 1, 24), (1, 3, 2), (3, 1, 2), (3, 2, 4), (1, 12, 1), (4, 3, 2), (6, 5, 4)]
    {
        for coding in CODINGS {
            let width = usize::from(Coding::parse(coding).expect("valid").width());
            if (racks * nodes * disks) as usize >= width {
                check(
                    even(racks, nodes, disks),
                    coding,
                    &format!("{racks} {nodes} {disks} {coding}"),
                );
            }
        }
    }
}

#[test]
fn lopsided_clusters() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let coding = CODINGS[random.below(7) as usize];
        let least = usize::from(Coding::parse(coding).expect("valid").width()).max(3);
        let disks = lopsided(&mut random, least + seed as usize % 60);
        check(disks, coding, &format!("seed {seed}, {coding}"));
    }
}

#[test]
fn a_thousand_disks() {
    check(even(10, 10, 10), "8+4", "a thousand");
}

#[test]
#[ignore = "takes long without optimisation; the component bench does it in a second"]
fn ten_thousand_disks() {
    check(even(20, 25, 20), "4+2", "ten thousand");
    check(lopsided(&mut Random::new(7), 10_000), "8+4", "ten thousand, lopsided");
}

#[test]
fn shares_are_by_weight_where_nothing_is_full() {
    let weights = [1000, 2000, 500, 1500];
    let disks: Vec<Disk> =
        (0..40).map(|at| disk(at + 1, at + 1, at % 10, 0, weights[at as usize % 4])).collect();
    let sum: f64 = disks.iter().map(|disk| f64::from(disk.weight)).sum();
    let map = cluster(disks, "4+2");
    let slots = map.pgs.len() as f64 * 6.0;
    for (id, share) in shares(&map) {
        let weight = f64::from(map.disk(id).expect("known").weight);
        assert!((share - slots * weight / sum).abs() < 0.01, "{share}");
    }
}

#[test]
fn what_is_full_leaves_its_rest_to_the_others() {
    // Of 4+2 a node can have 2 slots of a group and a disk 1, whatever they weigh.
    let mut disks: Vec<Disk> = (1..=8).map(|id| disk(id, id, 0, 0, 100)).collect();
    disks[0].weight = 1_000_000;
    disks.push(disk(9, 9, 0, 0, 5000));
    disks.push(disk(10, 9, 0, 0, 5000));
    disks.push(disk(11, 9, 0, 0, 10_000));
    let map = cluster(disks, "4+2");
    let groups = map.pgs.len() as f64;
    let shares = shares(&map);
    let at = |id: u32| shares[&DiskId(id)] / groups;
    assert!((at(1) - 1.0).abs() < 0.001);
    assert!((at(9) - 0.5).abs() < 0.001);
    assert!((at(11) - 1.0).abs() < 0.001);
    assert!((at(2) - 3.0 / 7.0).abs() < 0.001);
    check_rules(&map, "full");
    check_balance(&map, 0.05, 1.0, "full");
}

#[test]
fn racks_and_nodes_share_as_evenly_as_they_can() {
    let most = |disks: Vec<Disk>, coding: &str, level: Level| {
        let map = cluster(disks, coding);
        let places = Places::new(&map.disks);
        let counted = map.pgs.iter().map(|pg| {
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            for id in &pg.disks {
                *counts.entry(places.domain(id.0 as usize - 1, level)).or_default() += 1;
            }
            counts.into_values().max().expect("not empty")
        });
        counted.max().expect("groups")
    };
    assert_eq!(most(even(6, 3, 2), "8+4", Level::Rack), 2);
    assert_eq!(most(even(6, 3, 2), "8+4", Level::Node), 1);
    assert_eq!(most(even(4, 3, 2), "8+4", Level::Rack), 3);
    assert_eq!(most(even(3, 3, 2), "4+2", Level::Rack), 2);
    // Two racks can't keep to two slots each: three is the best there is.
    assert_eq!(most(even(2, 3, 2), "4+2", Level::Rack), 3);
    assert_eq!(most(even(2, 3, 2), "4+2", Level::Node), 1);
    // A rack of one small node: the others have what it can't.
    let mut disks = even(2, 3, 2);
    disks.push(disk(13, 7, 2, 0, 1000));
    assert_eq!(most(disks, "4+2", Level::Rack), 3);
}

#[test]
fn the_table_follows_from_the_disks_and_not_from_their_order() {
    for seed in 0..10 {
        let mut random = Random::new(seed);
        let mut disks = lopsided(&mut random, 30);
        let coding = Coding::parse("4+2").expect("valid");
        let first = Placer::new(&disks, coding, Disk::share).expect("enough").table(0..200);
        for last in (1..disks.len()).rev() {
            disks.swap(last, random.below(last as u32 + 1) as usize);
        }
        let placer = Placer::new(&disks, coding, Disk::share).expect("enough");
        assert_eq!(placer.table(0..200), first, "seed {seed}");
    }
}

#[test]
fn the_first_groups_are_what_they_were() {
    // Another table for the same disks would let replicas of two releases differ.
    let map = cluster(even(3, 2, 2), "4+2");
    let disks: Vec<Vec<u32>> =
        map.pgs[..3].iter().map(|pg| pg.disks.iter().map(|id| id.0).collect()).collect();
    assert_eq!(disks, [[10, 8, 11, 4, 1, 6], [10, 12, 6, 7, 2, 3], [1, 4, 8, 10, 6, 12]]);
}

#[test]
fn slots_are_dealt_over_many_sets_of_disks() {
    let map = cluster(even(5, 4, 3), "4+2");
    let mut sets: Vec<Vec<DiskId>> = map
        .pgs
        .iter()
        .map(|pg| {
            let mut disks = pg.disks.clone();
            disks.sort_unstable();
            disks
        })
        .collect();
    let all = sets.len();
    sets.sort_unstable();
    sets.dedup();
    assert!(sets.len() * 100 > all * 98, "{} sets of {all} groups", sets.len());
    // No disk is in one slot more often than chance makes it.
    let mut in_slot: BTreeMap<(DiskId, usize), u32> = BTreeMap::new();
    for (slot, id) in map.pgs.iter().flat_map(|pg| pg.disks.iter().enumerate()) {
        *in_slot.entry((*id, slot)).or_default() += 1;
    }
    assert!(in_slot.values().all(|count| *count < 40), "100 slots over 6 places: about 17 each");
}

#[test]
fn one_group_by_itself_keeps_the_rules() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let disks = lopsided(&mut random, 20);
        let coding = Coding::parse("6+3").expect("valid");
        let placer = Placer::new(&disks, coding, Disk::share).expect("enough");
        let mut map = cluster(disks.clone(), "6+3");
        for pg in &mut map.pgs {
            pg.disks = placer.place(pg.id);
        }
        check_rules(&map, &format!("seed {seed}"));
    }
}

#[test]
fn too_few_disks_get_no_groups() {
    let coding = Coding::parse("4+2").expect("valid");
    assert!(Placer::new(&even(1, 1, 5), coding, Disk::share).is_none());
    assert!(Placer::new(&even(1, 1, 6), coding, Disk::share).is_some());
    assert!(Placer::new(&even(1, 1, 7), coding, |_| 0).is_none());
}
