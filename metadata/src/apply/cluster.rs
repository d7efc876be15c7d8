//! InitCluster, RegisterDisk, SetDiskState, AllocateReplica: the cluster map.

use std::sync::Arc;

use model::cluster_map::{ClusterMap, Disk, DiskState, Standing};
use model::coding::Coding;
use model::command::{Outcome, Refusal};
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId, ReplicaId};
use model::level::MOVING;
use model::time::Timestamp;

use super::{Step, Stop};
use crate::limits::DISK_TEXT_BYTES_MAX;

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
        level: u32,
    ) -> Result<Outcome, Stop> {
        let known = self.memory.directory().map.clone();
        match known {
            Some(known) if known.cluster == cluster => {
                // Nodes say themselves what they can do.
                let level = if known.nodes.is_empty() { level } else { 0 };
                let level = known.level.max(level);
                let map = ClusterMap { level, ..ClusterMap::clone(&known) };
                self.change_map(&known, map);
                Ok(Outcome::Done)
            }
            Some(_) => Err(Refusal::NoCluster.into()),
            None => {
                let counters = &mut self.memory.counters;
                counters.replica = counters.replica.max(replicas.0);
                let map = ClusterMap { level, ..ClusterMap::new(cluster, coding) };
                self.memory.set_map(map);
                Ok(Outcome::Done)
            }
        }
    }

    pub(super) fn register_disk(&mut self, new: &NewDisk<'_>) -> Result<Outcome, Stop> {
        let known = self.map()?;
        if !has_node(&known, new.node) {
            return Err(Refusal::NoSuchNode.into());
        }
        // Replicas of an older release would take it.
        let is_text = |text: &str| text.len() <= DISK_TEXT_BYTES_MAX;
        let texts = [new.rack, new.zone, new.path];
        if known.level_in_use() >= MOVING && !texts.into_iter().all(is_text) {
            return Err(Refusal::InvalidCommand.into());
        }
        let mut map = ClusterMap::clone(&known);
        let reserved = self.disks_reserved()?;
        let id = match map.disks.iter().find(|disk| disk.uuid == new.uuid) {
            Some(disk) => disk.id,
            None => DiskId(map.disks.last().map_or(0, |disk| disk.id.0).max(reserved) + 1),
        };
        // Replicas of an older release would leave it out.
        let keeps_past = map.level_in_use() >= MOVING;
        let since = if keeps_past { self.now } else { Timestamp::default() };
        let fresh = Standing { since, ..Standing::default() };
        let (state, standing) =
            map.disk(id).map_or((DiskState::Up, fresh), |disk| (disk.state, disk.standing));
        // Where an operator put the node counts more than what it says of itself.
        let place = known.node(new.node).and_then(|node| node.place.as_ref());
        let (rack, zone) = place.map_or((new.rack, new.zone), |place| (&place.rack, &place.zone));
        let disk = Disk {
            id,
            uuid: new.uuid,
            node: new.node,
            rack: rack.to_owned(),
            zone: zone.to_owned(),
            weight: new.weight.max(1),
            state,
            path: new.path.to_owned(),
            standing,
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
        // Replicas of an older release would leave it out.
        let keeps_past = map.level_in_use() >= MOVING;
        let disk = map.disk_mut(disk).ok_or(Refusal::NoSuchDisk)?;
        // The leader may have heard of it before an operator gave it up.
        if disk.standing.is_given_up && state != DiskState::Out {
            return Ok(Outcome::Done);
        }
        if disk.state != state {
            if keeps_past && state == DiskState::Down {
                disk.standing.flaps = flaps_now(&disk.standing, self.now) + 1;
            }
            if keeps_past {
                disk.standing.since = self.now;
            }
            disk.state = state;
        }
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

/// How often a disk went down of late: an hour in a row in which it didn't takes one away.
fn flaps_now(standing: &Standing, now: Timestamp) -> u32 {
    const HOUR_NANOS: u64 = 3_600_000_000_000;
    let hours = now.0.saturating_sub(standing.since.0) / HOUR_NANOS;
    standing.flaps.saturating_sub(u32::try_from(hours).unwrap_or(u32::MAX))
}

/// Whether disks may be on a node: a store that isn't open to other hosts names none.
pub(super) fn has_node(map: &ClusterMap, node: NodeId) -> bool {
    map.nodes.is_empty() || map.node(node).is_some()
}
