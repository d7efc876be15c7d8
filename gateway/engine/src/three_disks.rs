//! For the tests of the plans: a cluster of three disks with one PG of 2+1, number 0.

use model::cluster_map::{ClusterMap, Disk, DiskState, Pg, Standing};
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId, PgId};

/// Slot n of the PG is disk n.
pub(crate) fn in_order(states: [DiskState; 3]) -> ClusterMap {
    with_slots(states, [0, 1, 2])
}

/// Slot 0 of the PG is disk 2, slot 2 is disk 0.
pub(crate) fn in_reverse(states: [DiskState; 3]) -> ClusterMap {
    with_slots(states, [2, 1, 0])
}

fn with_slots(states: [DiskState; 3], slots: [u32; 3]) -> ClusterMap {
    let disk = |(id, state): (u32, DiskState)| Disk {
        id: DiskId(id),
        uuid: DiskUuid::default(),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        state,
        path: String::new(),
        standing: Standing::default(),
    };
    let coding = Coding::parse("2+1").expect("valid");
    let disks = (0..).zip(states).map(disk).collect();
    let pgs = vec![Pg::new(PgId(0), coding, slots.map(DiskId).to_vec())];
    ClusterMap { disks, pgs, ..ClusterMap::new(ClusterId::default(), coding) }
}
