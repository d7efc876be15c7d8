//! RegisterNode, JoinNode, RemoveNode, PlaceReplica, ForgetReplica: who is in the cluster.
//!
//! What always holds: the uuid decides which node it is; a number is never given twice; a node that
//! was removed, and a replica that was forgotten, don't come back.

use model::cluster_map::{ClusterMap, DiskState};
use model::command::{Outcome, Refusal};
use model::ids::{NodeId, ReplicaId, TokenId};
use model::node::{Node, NodeRegistration, ReplicaPlace, Roles};

use super::{Step, Stop};
use crate::limits::{
    ADOPTED_NODES_MAX, FORGOTTEN_REPLICAS_MAX, NODE_TEXT_BYTES_MAX, NODES_MAX, REMOVED_NODES_MAX,
    REPLICAS_MAX,
};
use crate::tables::trust::TrustRecord;

impl Step<'_, '_> {
    /// The first node of a cluster, or one that was let in before.
    pub(super) fn register_node(&mut self, new: &NodeRegistration) -> Result<Outcome, Stop> {
        let map = self.map()?;
        let is_known = map.nodes.iter().any(|node| node.registration.uuid == new.uuid);
        // Whoever else wants to come in needs a token.
        if !is_known && map.last_node != NodeId(0) {
            return Err(Refusal::NoSuchNode.into());
        }
        self.enter(&map, new)
    }

    pub(super) fn join_node(
        &mut self,
        token: TokenId,
        secret_sha256: &[u8],
        new: &NodeRegistration,
    ) -> Result<Outcome, Stop> {
        let map = self.map()?;
        let mut trust = self.trust()?;
        if trust.removed_nodes.contains(&new.uuid) {
            return Err(Refusal::NoSuchNode.into());
        }
        // A node that is known already must not be taken over by a token for less.
        let known = map.nodes.iter().find(|node| node.registration.uuid == new.uuid);
        let had = known.map_or(Roles::NONE, |node| node.registration.roles);
        let roles = new.roles.and(had);
        self.use_token(&mut trust, token, secret_sha256, new.uuid, roles)?;
        let outcome = self.enter(&map, new)?;
        self.set_trust(&trust)?;
        Ok(outcome)
    }

    /// A node whose number its certificate proves, to tables that are older than it.
    pub(super) fn adopt_node(&mut self, node: &Node) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let uuid = node.registration.uuid;
        let found = known.nodes.iter().find(|other| other.registration.uuid == uuid);
        if let Some(found) = found {
            return Ok(Outcome::NodeRegistered(found.id));
        }
        if self.held()?.is_none() {
            return Err(Refusal::NotHeld.into());
        }
        if self.trust()?.removed_nodes.contains(&uuid) {
            return Err(Refusal::NoSuchNode.into());
        }
        let is_free = node.id != NodeId(0) && node.id <= ADOPTED_NODES_MAX;
        if !is_free || known.node(node.id).is_some() || !is_valid(&known, &node.registration) {
            return Err(Refusal::InvalidCommand.into());
        }
        let mut map = ClusterMap::clone(&known);
        map.nodes.push(node.clone());
        map.nodes.sort_by_key(|node| node.id);
        map.last_node = map.last_node.max(node.id);
        raise_level(&mut map);
        self.change_map(&known, map);
        Ok(Outcome::NodeRegistered(node.id))
    }

    /// Adds a node to the map, or takes over what it says of itself now.
    fn enter(&mut self, known: &ClusterMap, new: &NodeRegistration) -> Result<Outcome, Stop> {
        if !is_valid(known, new) {
            return Err(Refusal::InvalidCommand.into());
        }
        // Nodes that these tables forgot come back under their own numbers.
        let last = match self.held()? {
            Some(_) => known.last_node.max(ADOPTED_NODES_MAX),
            None => known.last_node,
        };
        let mut map = ClusterMap::clone(known);
        let found = map.nodes.iter().position(|node| node.registration.uuid == new.uuid);
        let id = match found.and_then(|at| map.nodes.get_mut(at)) {
            Some(node) => {
                node.registration = new.clone();
                node.id
            }
            None if known.nodes.len() >= NODES_MAX => return Err(Refusal::InvalidCommand.into()),
            None => {
                map.last_node = NodeId(last.0 + 1);
                map.nodes.push(Node { id: map.last_node, registration: new.clone() });
                map.last_node
            }
        };
        raise_level(&mut map);
        self.change_map(known, map);
        Ok(Outcome::NodeRegistered(id))
    }

    pub(super) fn remove_node(&mut self, node: NodeId) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let Some(removed) = known.node(node) else {
            // Done before, or there never was such a node.
            return if node <= known.last_node && node != NodeId(0) {
                Ok(Outcome::Done)
            } else {
                Err(Refusal::NoSuchNode.into())
            };
        };
        let keeps_disks =
            known.disks.iter().any(|disk| disk.node == node && disk.state != DiskState::Out);
        if keeps_disks || known.replicas.iter().any(|place| place.node == node) {
            return Err(Refusal::NodeInUse.into());
        }
        let mut trust = self.trust()?;
        remember(&mut trust.removed_nodes, removed.registration.uuid, REMOVED_NODES_MAX);
        self.set_trust(&trust)?;
        let mut map = ClusterMap::clone(&known);
        map.nodes.retain(|other| other.id != node);
        raise_level(&mut map);
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// A replica stays where it was made; one that was forgotten stays forgotten.
    pub(super) fn place_replica(&mut self, place: ReplicaPlace) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let node = known.node(place.node).ok_or(Refusal::NoSuchNode)?;
        let trust: TrustRecord = self.trust()?;
        let is_valid = node.registration.roles.contains(Roles::METADATA)
            && (1..=self.memory.counters.replica).contains(&place.replica.0)
            && !trust.forgotten_replicas.contains(&place.replica);
        if !is_valid {
            return Err(Refusal::InvalidCommand.into());
        }
        match known.replicas.iter().find(|other| other.replica == place.replica) {
            Some(other) if other.node == place.node => return Ok(Outcome::Done),
            Some(_) => return Err(Refusal::InvalidCommand.into()),
            None if known.replicas.len() >= REPLICAS_MAX => {
                return Err(Refusal::InvalidCommand.into());
            }
            None => {}
        }
        let mut map = ClusterMap::clone(&known);
        map.replicas.push(place);
        map.replicas.sort_by_key(|place| place.replica);
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    pub(super) fn forget_replica(&mut self, replica: ReplicaId) -> Result<Outcome, Stop> {
        let known = self.map()?;
        let is_placed = known.replicas.iter().any(|place| place.replica == replica);
        // Without any, the cluster would be nowhere.
        if is_placed && known.replicas.len() == 1 {
            return Err(Refusal::NodeInUse.into());
        }
        if !(1..=self.memory.counters.replica).contains(&replica.0) {
            return Err(Refusal::InvalidCommand.into());
        }
        let mut trust = self.trust()?;
        if !trust.forgotten_replicas.contains(&replica) {
            remember(&mut trust.forgotten_replicas, replica, FORGOTTEN_REPLICAS_MAX);
            self.set_trust(&trust)?;
        }
        let mut map = ClusterMap::clone(&known);
        map.replicas.retain(|place| place.replica != replica);
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }
}

/// Remembers something, and forgets the oldest beyond `max`.
fn remember<T>(list: &mut Vec<T>, new: T, max: usize) {
    list.push(new);
    let surplus = list.len().saturating_sub(max);
    list.drain(..surplus);
}

/// Whether a node may say this of itself.
fn is_valid(known: &ClusterMap, new: &NodeRegistration) -> bool {
    let is_text = |text: &str| text.len() <= NODE_TEXT_BYTES_MAX;
    [&new.name, &new.address, &new.rack, &new.zone].into_iter().all(|text| is_text(text))
        && !new.address.is_empty()
        && new.roles != Roles::NONE
        && Roles::ALL.contains(new.roles)
        // What the cluster uses already, every node must know.
        && new.level >= known.level
}

/// What all nodes can do, the cluster can; what it could before, it can still.
fn raise_level(map: &mut ClusterMap) {
    let least = map.nodes.iter().map(|node| node.registration.level).min();
    map.level = map.level.max(least.unwrap_or(0));
}
