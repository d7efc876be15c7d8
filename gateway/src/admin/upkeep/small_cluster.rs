//! Small clusters for tests.

use model::cluster_map::{ClusterMap, Disk, DiskState, Standing};
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, Incarnation, NodeId, NodeUuid};
use model::node::{FEATURE_LEVEL, Node, NodeRegistration, Roles};
use model::placement::pgs_to_add;
use model::placement::tolerance::Voter;
use model::shard::{CompactionReport, DiskHealth, DiskReport, ScrubReport};

/// So many nodes, each in a rack of its own, with so many disks of 100 GiB each; disks are numbered
/// from 0 and nodes from 1.
pub(in crate::admin) fn cluster(nodes: u32, disks_each: u32, coding: &str) -> ClusterMap {
    let coding = Coding::parse(coding).expect("a coding");
    let mut map = ClusterMap::new(ClusterId([1; 16]), coding);
    map.level = FEATURE_LEVEL;
    for id in 1..=nodes {
        let registration = NodeRegistration {
            uuid: NodeUuid([id as u8; 16]),
            name: format!("host{id}"),
            address: format!("10.0.0.{id}:9002"),
            roles: Roles::ALL,
            rack: format!("r{id}"),
            zone: String::new(),
            level: FEATURE_LEVEL,
        };
        map.nodes.push(Node::new(NodeId(id), registration));
        for _ in 0..disks_each {
            add_disk(&mut map, id);
        }
    }
    map.pgs = pgs_to_add(&map);
    map
}

/// One more disk on a node.
pub(in crate::admin) fn add_disk(map: &mut ClusterMap, node: u32) {
    let id = map.disks.len() as u32;
    map.disks.push(Disk {
        id: DiskId(id),
        uuid: DiskUuid([(id as u8).wrapping_add(1); 16]),
        node: NodeId(node),
        rack: format!("r{node}"),
        zone: String::new(),
        weight: 100,
        state: DiskState::Up,
        path: format!("/disk{id}"),
        standing: Standing::default(),
    });
}

/// What the disks report: 1 KiB for each slot, and a tenth of 100 GiB in use.
pub(in crate::admin) fn reports(map: &ClusterMap) -> Vec<DiskReport> {
    let slots = |disk: DiskId| map.pgs.iter().filter(|pg| pg.disks.contains(&disk)).count() as u64;
    map.disks
        .iter()
        .map(|disk| DiskReport {
            disk: disk.id,
            uuid: disk.uuid,
            cluster: map.cluster,
            health: DiskHealth::Ok,
            reason: None,
            capacity_bytes: 100 << 30,
            free_bytes: 90 << 30,
            live_bytes: slots(disk.id) << 10,
            garbage_bytes: 0,
            shards: 0,
            incarnation: Incarnation::default(),
            reserve_bytes: 1 << 30,
            damaged_shards: 0,
            scrub: ScrubReport::default(),
            compaction: CompactionReport::default(),
        })
        .collect()
}

/// Voters on the first nodes, all well.
pub(in crate::admin) fn voters(count: u32) -> Vec<Voter> {
    (1..=count).map(|node| Voter { node: NodeId(node), is_well: true }).collect()
}
