//! RegisterNode, JoinNode, RemoveNode, PlaceReplica, ForgetReplica: who is in the cluster.
//!
//! What always holds: the uuid decides which node it is; a number is never given twice; a node that
//! was removed, and a replica that was forgotten, don't come back; no token makes anybody a node that
//! is there already, but for that node itself.

use model::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use model::command::{Outcome, Refusal};
use model::ids::{NodeId, ReplicaId, TokenId};
use model::level::{MOVING, RETURNING};
use model::node::{Node, NodeRegistration, ReplicaPlace, Roles};

use super::tokens::Comes;
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
        proven: Option<NodeId>,
    ) -> Result<Outcome, Stop> {
        let map = self.map()?;
        let mut trust = self.trust()?;
        if trust.removed_nodes.contains(&new.uuid) {
            return Err(Refusal::NoSuchNode.into());
        }
        // A node that is known already must not be taken over by a token for less.
        let known = map.nodes.iter().find(|node| node.registration.uuid == new.uuid);
        let had = known.map_or(Roles::NONE, |node| node.registration.roles);
        // Replicas of the release before ask less, and all must decide alike.
        let is_strict = map.level_in_use() >= RETURNING;
        let comes = match (known.map(|node| node.id), proven) {
            (_, None) if !is_strict => Comes::Unasked,
            (None, None) => Comes::First,
            (Some(id), Some(proven)) if id == proven => Comes::Back,
            // It says that it is a node, and has proven that it is another one.
            (Some(_), Some(_)) => return Err(Refusal::NoSuchNode.into()),
            (Some(_), None) => Comes::Again,
            (None, Some(_)) => Comes::Back,
        };
        let roles = new.roles.and(had);
        self.use_token(&mut trust, token, secret_sha256, (new.uuid, roles), comes)?;
        let outcome = match (known, proven) {
            // These tables are older than the node, or it was removed.
            (None, Some(id)) => self.adopt_node(&Node::new(id, new.clone()))?,
            _ => self.enter(&map, new)?,
        };
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
                map.nodes.push(Node::new(map.last_node, new.clone()));
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
        // A replica of the release before doesn't know drained disks.
        let knows_drained = known.level_in_use() >= MOVING;
        let is_kept = |disk: &Disk| {
            disk.state != DiskState::Out && !(knows_drained && is_drained(&known, disk))
        };
        let keeps_disks = known.disks.iter().any(|disk| disk.node == node && is_kept(disk));
        if keeps_disks || known.replicas.iter().any(|place| place.node == node) {
            return Err(Refusal::NodeInUse.into());
        }
        let mut trust = self.trust()?;
        remember(&mut trust.removed_nodes, removed.registration.uuid, REMOVED_NODES_MAX);
        self.set_trust(&trust)?;
        let mut map = ClusterMap::clone(&known);
        map.nodes.retain(|other| other.id != node);
        // Nobody will ever speak of its disks again.
        let left = |disk: &&mut Disk| disk.node == node && disk.state != DiskState::Out;
        for disk in map.disks.iter_mut().filter(left) {
            disk.state = DiskState::Out;
            disk.standing.since = self.now;
            disk.standing.is_given_up = true;
        }
        map.without_metadata.retain(|other| *other != node);
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
        map.without_metadata.retain(|other| *other != place.node);
        map.replicas.sort_by_key(|place| place.replica);
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }

    /// Its node makes another by itself where one is lacking, unless it was taken from it.
    pub(super) fn forget_replica(
        &mut self,
        replica: ReplicaId,
        taken_from: Option<NodeId>,
    ) -> Result<Outcome, Stop> {
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
        if let Some(node) = taken_from.filter(|node| known.node(*node).is_some())
            && !map.replicas.iter().any(|other| other.node == node)
            && !map.without_metadata.contains(&node)
        {
            map.without_metadata.push(node);
            map.without_metadata.sort_unstable();
        }
        self.change_map(&known, map);
        Ok(Outcome::Done)
    }
}

/// Whether a disk is drained, and has no slots and gets none.
fn is_drained(map: &ClusterMap, disk: &Disk) -> bool {
    let is_used =
        |pg: &Pg| pg.disks.contains(&disk.id) || pg.moves.iter().any(|begun| begun.to == disk.id);
    disk.standing.is_draining && !map.pgs.iter().any(is_used)
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
