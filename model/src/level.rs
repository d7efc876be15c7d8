//! Feature levels: what a cluster may use while its nodes are of two releases.
//!
//! In: a command, a cluster map. Out: whether every node of the cluster knows the command. The level
//! of a cluster is the least of its nodes', and never falls: it rises by itself when the last node
//! has registered with a newer release. A cluster that is one process, without nodes, is told its level
//! by `InitCluster`, which that process proposes at each start.
//!
//! What always holds: a command has the level of the first release that knew it, for ever, so that
//! replicas of two releases decide alike (I-10); the commands that found a cluster and bring nodes
//! into it are of no level, so that a level can always be reached. A command to which a field is
//! added that an older release would leave out has two levels: one without the field and one with it.
//!
//! What must hold elsewhere: below a level, a replica writes into its tables what a replica of the
//! release before writes, byte for byte (I-11): new fields of records are left out of their encoded
//! form while they have nothing to say, and are set by commands of the new level only.

use crate::cluster_map::ClusterMap;
use crate::command::Command;
use crate::node::{FEATURE_LEVEL, Job, Node};
use crate::version::ObjectHeaders;

/// What may be proposed whatever the nodes know: it makes the cluster and its level.
const FOUNDING: u32 = 0;

/// What the first release knew that had clusters, and with it every later one.
pub const FIRST: u32 = 1;

/// Slots of placement groups can move, and what is known of a disk's past is kept.
pub const MOVING: u32 = 2;

/// A node can prove to be one that was let in before, and no token alone makes anybody a node that
/// is known already.
pub const RETURNING: u32 = 2;

impl Command {
    /// The feature level that a cluster must have for this to be proposed: an older release can't
    /// read it, and a replica of one that found it in its log would stop.
    pub const fn level(&self) -> u32 {
        // An older release would leave the class out.
        if let Some(ObjectHeaders { class: Some(_), .. }) = self.headers() {
            return MOVING;
        }
        match self {
            Self::InitCluster { .. }
            | Self::RegisterNode(_)
            | Self::JoinNode { proven: None, .. }
            | Self::RemoveNode { .. }
            | Self::AdoptNode(_) => FOUNDING,
            Self::JoinNode { proven: Some(_), .. } => RETURNING,
            Self::AdoptPgs { slots, .. } if !slots.is_empty() => MOVING,
            Self::BeginMoves { .. }
            | Self::EndMove(_)
            | Self::DrainDisk { .. }
            | Self::WeighDisk { .. }
            | Self::PlaceNode { .. }
            | Self::SetUpkeep { .. }
            | Self::MuteHealth(_)
            | Self::GiveUpDisk { .. }
            | Self::SetStorageClass { .. }
            | Self::SetBucketClass { .. }
            | Self::SetRecode(_)
            | Self::RecodeObject(_)
            | Self::ForgetReplica { taken_from: Some(_), .. }
            | Self::TakeLease { job: Job::Move | Job::Recode | Job::Fill, .. } => MOVING,
            Self::RegisterDisk { .. }
            | Self::SetDiskState { .. }
            | Self::AllocateReplica
            | Self::OpenSession { .. }
            | Self::EndSession { .. }
            | Self::CreateBucket { .. }
            | Self::DeleteBucket { .. }
            | Self::CommitObject(_)
            | Self::CopyObject(_)
            | Self::DeleteObject { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart(_)
            | Self::CompleteUpload(_)
            | Self::AbortUpload { .. }
            | Self::QueueRepair { .. }
            | Self::CollectGarbage { .. }
            | Self::ShardsRepaired { .. }
            | Self::SetAuthority(_)
            | Self::CreateToken(_)
            | Self::RevokeToken { .. }
            | Self::PlaceReplica(_)
            | Self::ForgetReplica { taken_from: None, .. }
            | Self::TakeLease {
                job: Job::Collect | Job::Repair | Job::Reconcile | Job::Backup,
                ..
            }
            | Self::AdoptObject(_)
            | Self::AdoptPart(_)
            | Self::AdoptDisk(_)
            | Self::AdoptPgs { .. }
            | Self::ReleaseHeld { .. } => FIRST,
        }
    }
}

impl Command {
    /// The headers of the object that is written.
    const fn headers(&self) -> Option<&ObjectHeaders> {
        match self {
            Self::CommitObject(commit) => Some(&commit.headers),
            Self::CopyObject(copy) => copy.headers.as_ref(),
            Self::CreateUpload { upload, .. } => Some(&upload.headers),
            Self::AdoptObject(adopt) => Some(&adopt.headers),
            _ => None,
        }
    }
}

impl ClusterMap {
    /// The level that everything that is proposed must keep to. It is in the tables, also where a
    /// cluster is one process: what that applies anew after a start was decided by its release of
    /// then. The first release told no level while there were no nodes.
    pub fn level_in_use(&self) -> u32 {
        if self.nodes.is_empty() { self.level.max(FIRST) } else { self.level }
    }

    /// Whether every node knows this command.
    pub fn allows(&self, command: &Command) -> bool {
        command.level() <= self.level_in_use()
    }

    /// The level that the cluster has once the nodes of [`ClusterMap::nodes_behind`] are newer.
    pub fn level_to_come(&self) -> u32 {
        let greatest = self.nodes.iter().map(|node| node.registration.level).max();
        greatest.unwrap_or(FEATURE_LEVEL)
    }

    /// The nodes that are of an older release than others, and so hold the level down.
    pub fn nodes_behind(&self) -> impl Iterator<Item = &Node> {
        let greatest = self.level_to_come();
        self.nodes.iter().filter(move |node| node.registration.level < greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::Coding;
    use crate::ids::{ClusterId, NodeId, NodeUuid};
    use crate::node::{NodeRegistration, Roles};

    fn map(level: u32, nodes: &[u32]) -> ClusterMap {
        let node = |(id, level): (u8, &u32)| {
            let registration = NodeRegistration {
                uuid: NodeUuid([id; 16]),
                name: String::new(),
                address: "host:1".to_owned(),
                roles: Roles::ALL,
                rack: String::new(),
                zone: String::new(),
                level: *level,
            };
            Node::new(NodeId(u32::from(id)), registration)
        };
        let mut map =
            ClusterMap::new(ClusterId::default(), Coding::new(4, 2).expect("a valid coding"));
        map.nodes = (1..).zip(nodes).map(node).collect();
        map.level = level;
        map
    }

    fn behind(map: &ClusterMap) -> Vec<u32> {
        map.nodes_behind().map(|node| node.id.0).collect()
    }

    #[test]
    fn a_command_waits_for_the_last_node() {
        let known = Command::AllocateReplica;
        let founding = Command::RemoveNode { node: NodeId(1) };
        assert!(map(1, &[1, 2]).allows(&known));
        assert!(!map(0, &[0, 2]).allows(&known));
        assert!(map(0, &[0, 2]).allows(&founding));
        // A store that is one process, made by the first release, and one of this release.
        let moving = Command::BeginMoves { moves: Vec::new() };
        assert!(map(0, &[]).allows(&known) && !map(0, &[]).allows(&moving));
        assert!(map(MOVING, &[]).allows(&moving));
    }

    #[test]
    fn who_holds_the_level_down_is_told() {
        let mixed = map(1, &[1, 2, 1]);
        assert_eq!((mixed.level_in_use(), mixed.level_to_come()), (1, 2));
        assert_eq!(behind(&mixed), [1, 3]);
        let whole = map(2, &[2, 2]);
        assert_eq!((whole.level_in_use(), whole.level_to_come()), (2, 2));
        assert_eq!(behind(&whole), [0u32; 0]);
        let alone = map(0, &[]);
        assert_eq!((alone.level_in_use(), alone.level_to_come()), (FIRST, FEATURE_LEVEL));
        assert_eq!(map(FEATURE_LEVEL, &[]).level_in_use(), FEATURE_LEVEL);
    }
}
