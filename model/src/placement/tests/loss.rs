//! What may be lost, against losing it.

use super::*;
use crate::ids::PgId;
use crate::node::{Node, NodeRegistration, Roles};
use crate::placement::tolerance::{Tolerance, Unit, Voter, metadata_reach};

/// Whether every group can be read without these disks.
fn is_readable(map: &ClusterMap, lost: &[usize]) -> bool {
    map.pgs.iter().all(|pg| {
        let is_left = |id: &&DiskId| {
            let at = map.disks.binary_search_by_key(*id, |disk| disk.id).expect("known");
            map.disks[at].state == DiskState::Up && !lost.contains(&at)
        };
        pg.disks.iter().filter(is_left).count() >= usize::from(pg.coding.data())
    })
}

/// The most of `domains` of which any so many may be lost, by trying all sets.
fn by_trying(map: &ClusterMap, domain: impl Fn(usize) -> u32, domains: u32) -> Option<u32> {
    let survives = |count: u32| {
        (0u32..1 << domains).filter(|set| set.count_ones() == count).all(|set| {
            let lost: Vec<usize> =
                (0..map.disks.len()).filter(|at| set >> domain(*at) & 1 == 1).collect();
            is_readable(map, &lost)
        })
    };
    (0..=domains).take_while(|count| survives(*count)).last()
}

#[test]
fn what_survives_is_what_trying_says() {
    for seed in 0..25 {
        let mut random = Random::new(seed);
        let mut disks = lopsided(&mut random, 6);
        disks.truncate(12);
        let coding = ["1+1", "2+1", "2+2", "4+2"][random.below(4) as usize];
        let mut map = cluster(disks, coding);
        for _ in 0..random.below(3) {
            let at = random.below(map.disks.len() as u32) as usize;
            map.disks[at].state = DiskState::Down;
        }
        let tolerance = Tolerance::new(&map);
        let places = Places::new(&map.disks);
        for reach in &tolerance.reading {
            let (found, count) = match reach.unit {
                Unit::Single => (by_trying(&map, |at| at as u32, map.disks.len() as u32), 12),
                Unit::Domain(level) => {
                    let count = places.count(level) as u32;
                    (by_trying(&map, |at| places.domain(at, level), count), count)
                }
            };
            assert!(count > 1);
            assert_eq!(reach.survives, found, "seed {seed}: {reach:?}");
            assert!(reach.limit.pgs > 0, "there is a limit: {reach:?}");
        }
    }
}

#[test]
fn the_sentence_says_what_and_why() {
    let mut map = cluster(even(3, 2, 2), "4+2");
    let text = |map: &ClusterMap| Tolerance::new(map).to_string();
    assert_eq!(
        text(&map),
        "survives any 2 disks, 2 nodes, 1 rack; not 2 racks: racks r0 and r1 together hold 4 of \
         the 6 shards of 200 placement groups"
    );
    map.disks[0].state = DiskState::Down;
    let now = text(&map);
    assert!(now.starts_with("survives any 1 disk, 1 node; not 1 rack: rack r"), "{now}");
    assert!(now.ends_with("of which 1 more can't be read already"), "{now}");
    map.disks[4].state = DiskState::Down;
    map.disks[8].state = DiskState::Out;
    let now = text(&map);
    assert!(now.starts_with("data can't be read: 3 of the 6 shards of "), "{now}");
    map.pgs.clear();
    assert_eq!(text(&map), "there are no placement groups yet");
    assert_eq!(
        text(&cluster(even(1, 1, 1), "1+0")),
        "survives no loss; not 1 disk: disk 1 holds 1 of the 1 shards of 100 placement groups"
    );
}

#[test]
fn writing_needs_more_than_reading() {
    let map = cluster(even(4, 3, 2), "8+4");
    let tolerance = Tolerance::new(&map);
    let at = |reaches: &[crate::placement::tolerance::Reach], unit| {
        reaches.iter().find(|reach| reach.unit == unit).and_then(|reach| reach.survives)
    };
    assert_eq!(at(&tolerance.reading, Unit::Single), Some(4));
    assert_eq!(at(&tolerance.writing, Unit::Single), Some(2));
    assert_eq!(tolerance.survives(Unit::Domain(Level::Rack)), Some(1));
    assert_eq!(at(&tolerance.writing, Unit::Domain(Level::Rack)), Some(0));
    assert_eq!(tolerance.survives(Unit::Domain(Level::Zone)), None, "there is but one");
}

#[test]
fn the_limit_names_the_domains_that_hurt_the_most() {
    let mut map = cluster(even(3, 1, 2), "1+1");
    map.pgs.clear();
    for (number, pair) in [[1, 3], [1, 3], [1, 5], [3, 5], [1, 3]].into_iter().enumerate() {
        let disks = pair.map(DiskId).to_vec();
        map.pgs.push(Pg::new(PgId(number as u32), map.coding, disks));
    }
    let tolerance = Tolerance::new(&map);
    let racks = tolerance.reading.last().expect("racks");
    assert_eq!(racks.survives, Some(1));
    assert_eq!(racks.limit.domains, ["r0", "r1"]);
    assert_eq!((racks.limit.shards, racks.limit.width, racks.limit.pgs), (2, 2, 3));
}

#[test]
fn metadata_survives_what_leaves_a_majority() {
    let mut map = cluster(even(3, 2, 1), "2+1");
    map.nodes = (1..=6)
        .map(|id| Node {
            id: NodeId(id),
            registration: NodeRegistration {
                uuid: crate::ids::NodeUuid([id as u8; 16]),
                name: format!("n{id}"),
                address: String::new(),
                roles: Roles::ALL,
                rack: format!("r{}", (id - 1) / 2),
                zone: String::new(),
                level: 1,
            },
            place: None,
        })
        .collect();
    let voter = |node, is_well| Voter { node: NodeId(node), is_well };
    let survives = |voters: &[Voter]| -> Vec<Option<u32>> {
        metadata_reach(&map, voters).iter().map(|reach| reach.survives).collect()
    };
    let all = [1, 2, 3, 4, 5].map(|node| voter(node, true));
    // Nodes 1 and 2 are in one rack.
    assert_eq!(survives(&all), [Some(2), Some(2), Some(1), Some(0)]);
    let mut two_gone = all;
    two_gone[0].is_well = false;
    two_gone[1].is_well = false;
    assert_eq!(survives(&two_gone), [Some(0), Some(0), Some(0), Some(0)]);
    two_gone[2].is_well = false;
    assert_eq!(survives(&two_gone), [None; 4]);
    let one_node = [voter(1, true); 3];
    assert_eq!(survives(&one_node), [Some(1), Some(0), Some(0), Some(0)]);
}
