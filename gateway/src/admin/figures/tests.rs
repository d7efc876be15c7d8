//! What a look comes to, and that it is computed once.

use std::time::Instant;

use model::cluster_map::DiskState;
use model::coding::Coding;
use model::shard::DiskHealth;

use super::*;
use crate::admin::upkeep::small_cluster::{add_disk, cluster, reports, voters};

fn seen<'a>(map: &'a Arc<ClusterMap>, reports: &'a [DiskReport]) -> Seen<'a> {
    Seen {
        map,
        unused: &[],
        reports,
        suspects: &[],
        withheld: &[],
        voters: Some(voters(3)),
        more_metadata_replicas: Some(1),
        repairs: Repairs::default(),
        rebuild_rate: 64 << 20,
        is_gateway: true,
        now: Timestamp(0),
    }
}

/// How often what may be lost, the durability, and the loss of single nodes were computed.
fn computed(figures: &Figures) -> [usize; 3] {
    [figures.losses.computed, figures.durability.computed, figures.tolerance_low.computed]
}

#[test]
fn a_second_look_computes_nothing() {
    let map = Arc::new(cluster(6, 1, "4+2"));
    let mut reports = reports(&map);
    let mut figures = Figures::default();
    let first = figures.judged(&seen(&map, &reports));
    let busy = Seen {
        repairs: Repairs { queued: 5, ..Repairs::default() },
        now: Timestamp(1 << 40),
        ..seen(&map, &reports)
    };
    let second = figures.judged(&busy);
    assert_eq!(computed(&figures), [1, 1, 1]);
    assert_eq!((&first.tolerance, &first.durability), (&second.tolerance, &second.durability));
    assert!(second.reasons.len() > first.reasons.len(), "the queue is told: {:?}", second.reasons);

    reports[2].health = DiskHealth::Failed;
    let failed = figures.judged(&seen(&map, &reports));
    assert_eq!(computed(&figures), [2, 1, 1], "another set of disks can be read");
    assert_eq!((first.tolerance.more_disks(), failed.tolerance.more_disks()), (Some(2), Some(1)));
    figures.judged(&Seen { voters: Some(voters(5)), ..seen(&map, &reports) });
    assert_eq!(computed(&figures), [3, 1, 1]);
    figures.judged(&Seen { voters: Some(voters(5)), rebuild_rate: 1, ..seen(&map, &reports) });
    assert_eq!(computed(&figures), [3, 2, 1]);
    let newer = Arc::new(ClusterMap::clone(&map));
    figures.judged(&seen(&newer, &reports));
    assert_eq!(computed(&figures), [4, 3, 2], "another map");
}

#[test]
fn a_rate_that_is_set_counts_at_once() {
    let map = Arc::new(cluster(6, 1, "4+2"));
    let mut reports = reports(&map);
    for report in &mut reports {
        report.live_bytes = 70 << 30;
    }
    let mut figures = Figures::default();
    let mut nines = |rebuild_rate| {
        let judged = figures.judged(&Seen { rebuild_rate, ..seen(&map, &reports) });
        let is_low = judged.reasons.iter().any(|reason| &*reason.code == "DURABILITY_LOW");
        (judged.durability.expect("an estimate").nines, is_low)
    };
    let (slow, fast) = (nines(100_000), nines(512 << 20));
    assert!(slow.0 + 2.0 < fast.0, "{slow:?} {fast:?}");
    assert!(slow.1 && !fast.1, "what `upkeep set --rate` sets ends it");
}

#[test]
fn groups_and_disks_are_counted() {
    let mut map = cluster(6, 1, "4+2");
    add_disk(&mut map, 6);
    map.disks[0].state = DiskState::Down;
    let groups = map.pgs.len() as u64;
    let (map, reports) = (Arc::new(map.clone()), reports(&map));
    let judged = Figures::default().judged(&seen(&map, &reports));
    assert_eq!(judged.groups, PlacementGroups { total: groups, open: 0, unreadable: 0 });
    assert_eq!(judged.standings[&DiskId(1)].slots, groups);
    assert_eq!(judged.margin.more_disks, Some(1));
    let code = |code: &str| judged.reasons.iter().any(|reason| &*reason.code == code);
    assert!(code("DISK_DOWN") && code("STRIPE_DEGRADED") && !code("STRIPE_AT_RISK"));
}

#[test]
fn groups_that_nobody_uses_are_left_out() {
    let mut map = cluster(3, 4, "4+2");
    let reports = reports(&map);
    let standard = std::mem::replace(&mut map.coding, Coding::parse("8+2").expect("a coding"));
    let wide = model::placement::pgs_to_add(&map);
    map.coding = standard;
    map.pgs.extend(wide);
    // Two disks of one node: of some wide groups nothing is left to spare.
    map.disks[0].state = DiskState::Down;
    map.disks[1].state = DiskState::Down;
    let unused: Vec<PgId> = map.pgs_out_of_use().iter().map(|pg| pg.id).collect();
    assert!(!unused.is_empty());
    let map = Arc::new(map);
    let mut figures = Figures::default();
    let mut look = |unused: &[PgId]| {
        let Judged { tolerance, groups, margin, reasons, .. } =
            figures.judged(&Seen { unused, ..seen(&map, &reports) });
        let is_low = reasons.iter().any(|reason| reason.code == "TOLERANCE_LOW");
        let at_risk = reasons.iter().find(|reason| reason.code == "STRIPE_AT_RISK");
        let groups_told = at_risk.map(|reason| reason.message.clone()).unwrap_or_default();
        (tolerance.reading.len(), groups.total, margin.more_disks, is_low, groups_told)
    };
    let (_, total, _, is_low, told) = look(&[]);
    assert!(is_low && told.contains(&format!(" of {total} placement groups")), "{told}");
    let (units, all, more, is_low, told) = look(&unused);
    assert!(!is_low && units > 0 && more.is_some());
    let used = total - unused.len() as u64;
    assert!(told.is_empty() || told.contains(&format!(" of {used} placement groups")), "{told}");
    assert_eq!(all, total, "they are still there");
    assert!(look(&[]).3, "used again");
}

/// A cluster of so many disks, 20 on a node, each with a hundred slots of 8+4.
fn large(disks: u32) -> (Arc<ClusterMap>, Vec<DiskReport>) {
    let mut map = cluster(1, 0, "8+4");
    map.coding = Coding::parse("8+4").expect("a coding");
    map.nodes.clear();
    for disk in 0..disks {
        add_disk(&mut map, disk / 20 + 1);
    }
    let small = reports(&cluster(1, 1, "1+0")).remove(0);
    let of = |id: u32| DiskReport { disk: DiskId(id), ..small.clone() };
    let reports = (0..disks).map(of).collect();
    // As even as it gets, and no two of a group on one node.
    let step = disks / 12 + 1;
    map.pgs = (0..disks * 100 / 12)
        .map(|number| {
            let of_group = (0..12).map(|slot| DiskId((number * 7 + slot * step) % disks));
            Pg::new(model::ids::PgId(number), map.coding, of_group.collect())
        })
        .collect();
    (Arc::new(map), reports)
}

#[test]
#[ignore = "takes seconds, and prints how long a look at a large cluster takes"]
#[expect(clippy::disallowed_methods, reason = "this measures the time that passes")]
fn what_a_look_costs() {
    for disks in [1_000, 10_000] {
        let (map, reports) = large(disks);
        let mut figures = Figures::default();
        let time = |what: &str, look: &mut dyn FnMut()| {
            let began = Instant::now();
            look();
            println!("{disks} disks, {} groups, {what}: {:?}", map.pgs.len(), began.elapsed());
        };
        time("the first look", &mut || drop(figures.judged(&seen(&map, &reports))));
        time("the next one", &mut || drop(figures.judged(&seen(&map, &reports))));
        assert_eq!(computed(&figures), [1, 1, 1]);
    }
}
