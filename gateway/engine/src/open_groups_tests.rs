//! The groups that are drawn from are those that the map names.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use model::cluster_map::DiskState;
use model::ids::PgId;

use super::*;

/// So many disks and groups `coding` of neighbouring disks, each group two disks further.
fn map(disks: u32, groups: u32, coding: &str) -> ClusterMap {
    let mut map = crate::three_disks::in_order([DiskState::Up; 3]);
    let first = map.disks[0].clone();
    map.disks =
        (0..disks).map(|id| model::cluster_map::Disk { id: DiskId(id), ..first.clone() }).collect();
    map.coding = Coding::parse(coding).expect("valid");
    map.pgs.clear();
    add(&mut map, groups, coding);
    map
}

fn add(map: &mut ClusterMap, groups: u32, coding: &str) {
    let coding = Coding::parse(coding).expect("valid");
    let count = map.disks.len() as u32;
    let first = map.pgs.len() as u32;
    for id in first..first + groups {
        let at = |slot| DiskId((id * 2 + slot) % count);
        map.pgs.push(Pg::new(PgId(id), coding, (0..u32::from(coding.width())).map(at).collect()));
    }
}

/// Draws that go through all numbers in turn, so that what is drawn in vain is drawn, too.
fn in_turn() -> impl FnMut(u64) -> u64 {
    let mut next = 0;
    move |bound| {
        next += 1;
        (next - 1) % bound.max(1)
    }
}

#[test]
fn the_groups_are_those_that_the_map_names() {
    let mut mixed = map(12, 12, "4+2");
    add(&mut mixed, 6, "2+2");
    add(&mut mixed, 6, "8+4");
    let mut drained = mixed.clone();
    drained.disks[1].standing.is_draining = true;
    let mut down = drained.clone();
    down.disks[4].state = DiskState::Down;
    let mut none = mixed.clone();
    none.disks.iter_mut().for_each(|disk| disk.state = DiskState::Full);
    let mut cases = 0;
    for map in [mixed, drained, down, none] {
        let groups = OpenGroups::new(Arc::new(map.clone()));
        for wanted in ["4+2", "2+2", "8+4", "6+3", "2+1"] {
            let wanted = Coding::parse(wanted).expect("valid");
            for avoided in [&[][..], &[0], &[3], &[0, 6], &[1, 2, 3], &[0, 4, 8, 11]] {
                let avoided: Vec<DiskId> = avoided.iter().copied().map(DiskId).collect();
                let named: Vec<PgId> =
                    map.open_pgs_of(wanted, &avoided).iter().map(|pg| pg.id).collect();
                let best = groups.best(wanted, &avoided);
                let found: Vec<PgId> =
                    best.iter().flat_map(|best| best.all()).map(|pg| pg.id).collect();
                assert_eq!(found, named, "{wanted} without {avoided:?}");
                let mut below = in_turn();
                for _ in 0..20 {
                    let drawn = best.map(|best| best.draw(&mut below).expect("one of them").id);
                    assert!(drawn.is_none_or(|drawn| named.contains(&drawn)));
                    cases += usize::from(drawn.is_some());
                }
            }
        }
    }
    assert!(cases > 1000, "{cases}");
}

#[test]
fn each_of_them_is_as_likely_as_the_others() {
    let map = map(12, 12, "4+2");
    let groups = OpenGroups::new(Arc::new(map.clone()));
    let entropy = wire::entropy::SeededEntropy::new(7);
    for avoided in [&[][..], &[DiskId(0)], &[DiskId(0), DiskId(5)]] {
        let best = groups.best(map.coding, avoided).expect("some");
        let mut drawn: BTreeMap<PgId, u32> = BTreeMap::new();
        let mut below = |bound| wire::entropy::Entropy::below(&entropy, bound);
        for _ in 0..12_000 {
            *drawn.entry(best.draw(&mut below).expect("one").id).or_default() += 1;
        }
        let expected = 12_000 / best.all().count() as u32;
        assert_eq!(drawn.len(), best.all().count());
        for count in drawn.values() {
            assert!(count.abs_diff(expected) < expected / 5, "{drawn:?}");
        }
    }
}

#[test]
fn few_groups_of_many_are_looked_at() {
    let map = map(1000, 16_000, "8+4");
    let groups = OpenGroups::new(Arc::new(map.clone()));
    let avoided = [DiskId(0), DiskId(100), DiskId(200)];
    let drawn = RefCell::new(0);
    let mut turn = in_turn();
    let mut below = |bound| {
        *drawn.borrow_mut() += 1;
        turn(bound)
    };
    let best = groups.best(map.coding, &avoided).expect("some");
    for _ in 0..1000 {
        best.draw(&mut below).expect("one");
    }
    let drawn = *drawn.borrow();
    assert!((1000..3000).contains(&drawn), "{drawn} draws for 1000 groups");
}

/// Not to be right, but to be seen: `cargo test -p engine --release --lib what_a_choice_costs --
/// --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
#[expect(clippy::disallowed_methods, reason = "it is the time that is measured")]
fn what_a_choice_costs() {
    let map = Arc::new(map(1000, 16_000, "8+4"));
    for avoided in [&[][..], &[DiskId(0), DiskId(100), DiskId(200)]] {
        let start = Instant::now();
        let groups = OpenGroups::new(Arc::clone(&map));
        let once = start.elapsed();
        let (start, rounds) = (Instant::now(), 100);
        for _ in 0..rounds {
            assert!(!map.open_pgs_of(map.coding, avoided).is_empty());
        }
        let of_map = start.elapsed() / rounds;
        let (start, rounds) = (Instant::now(), 100_000);
        let mut below = in_turn();
        for _ in 0..rounds {
            let best = groups.best(map.coding, avoided).expect("some");
            assert!(best.draw(&mut below).is_some() && best.draw(&mut below).is_some());
        }
        let drawn = start.elapsed() / rounds;
        println!(
            "{} avoided: once a map {once:?}; an extent {of_map:?} by the map, {drawn:?} by its groups",
            avoided.len()
        );
    }
}
