//! InitCluster, RegisterDisk, SetDiskState, AllocateReplica: the cluster map.

use std::sync::Arc;

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::coding::Coding;
use model::command::{Outcome, Refusal};
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId, ReplicaId};

use super::{Step, Stop};

/// What RegisterDisk says of a disk.
pub(super) struct NewDisk<'a> {
    pub uuid: DiskUuid,
    pub node: NodeId,
    pub rack: &'a str,
    pub zone: &'a str,
    pub weight: u32,
    pub path: &'a str,
}

impl Step<'_, '_> {
    pub(super) fn init_cluster(
        &mut self,
        cluster: ClusterId,
        coding: Coding,
        replicas: ReplicaId,
    ) -> Result<Outcome, Stop> {
        let known = self.memory.directory().map.as_ref().map(|map| map.cluster);
        match known {
            Some(known) if known == cluster => Ok(Outcome::Done),
            Some(_) => Err(Refusal::NoCluster.into()),
            None => {
                let counters = &mut self.memory.counters;
                counters.replica = counters.replica.max(replicas.0);
                self.memory.set_map(ClusterMap::new(cluster, coding));
                Ok(Outcome::Done)
            }
        }
    }

    pub(super) fn register_disk(&mut self, new: &NewDisk<'_>) -> Result<Outcome, Stop> {
        let known = self.map()?;
        if !has_node(&known, new.node) {
            return Err(Refusal::NoSuchNode.into());
        }
        let mut map = ClusterMap::clone(&known);
        let reserved = self.disks_reserved()?;
        let id = match map.disks.iter().find(|disk| disk.uuid == new.uuid) {
            Some(disk) => disk.id,
            None => DiskId(map.disks.last().map_or(0, |disk| disk.id.0).max(reserved) + 1),
        };
        let state = map.disk(id).map_or(DiskState::Up, |disk| disk.state);
        let disk = Disk {
            id,
            uuid: new.uuid,
            node: new.node,
            rack: new.rack.to_owned(),
            zone: new.zone.to_owned(),
            weight: new.weight.max(1),
            state,
            path: new.path.to_owned(),
        };
        match map.disk_mut(id) {
            Some(known) => *known = disk,
            None => map.disks.push(disk),
        }
        // While the first disks arrive one by one, narrow PGs would only be in the way.
        if map.disks_up() >= usize::from(map.coding.width()) || !map.pgs.is_empty() {
            self.add_pgs(&mut map)?;
        }
        self.change_map(&known, map);
        Ok(Outcome::DiskRegistered(id))
    }

    pub(super) fn set_disk_state(
        &mut self,
        disk: DiskId,
        state: DiskState,
    ) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let mut map = ClusterMap::clone(&known);
        map.disk_mut(disk).ok_or(Refusal::NoSuchDisk)?.state = state;
        self.add_pgs(&mut map)?;
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    pub(super) fn allocate_replica(&mut self) -> Outcome {
        self.memory.counters.replica += 1;
        Outcome::ReplicaAllocated(ReplicaId(self.memory.counters.replica))
    }

    pub(super) fn map(&self) -> Result<Arc<ClusterMap>, Stop> {
        self.memory.directory().map.clone().ok_or(Stop::Refused(Refusal::NoCluster))
    }

    /// Takes the new map, under a new epoch, if it differs.
    pub(super) fn change_map(&mut self, known: &ClusterMap, mut map: ClusterMap) {
        if map != *known {
            map.epoch += 1;
            self.memory.set_map(map);
        }
    }
}

/// Whether disks may be on a node: a store that isn't open to other hosts names none.
pub(super) fn has_node(map: &ClusterMap, node: NodeId) -> bool {
    map.nodes.is_empty() || map.node(node).is_some()
}
