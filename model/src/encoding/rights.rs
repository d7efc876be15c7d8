//! Who may ask what: a table for each kind of request.
//!
//! In: a request. Out: the roles of which its sender needs one. A node has the roles that are in its
//! certificate; `drystone server` has all of them. Every match is exhaustive, so that a request that
//! is added has its right decided with it. A metadata node may do whatever the metadata protocol
//! offers: it could write the tables anyway. A storage node speaks of itself and its own disks only.

use crate::command::Command;
use crate::ids::NodeId;
use crate::membership::MembershipRequest;
use crate::node::Roles;
use crate::query::{MetadataRequest, Query};
use crate::shard::ShardRequest;

/// Metadata nodes and gateways.
const USERS: Roles = Roles::METADATA.and(Roles::GATEWAY);
/// Metadata nodes and storage nodes.
const KEEPERS: Roles = Roles::METADATA.and(Roles::STORAGE_NODE);

/// Who may send a heartbeat.
pub(super) const HEARTBEAT: Roles = KEEPERS;

/// Who may take a backup: whoever may read everything anyway.
pub(super) const BACKUP: Roles = USERS;

/// Who may move the lead and check replicas: those that operators speak to.
pub(super) const OPERATORS: Roles = USERS;

/// Who may send something of which some needs no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Askers {
    /// Even a peer without a certificate.
    Anyone,
    /// Nodes with one of these roles.
    With(Roles),
}

/// Who may ask this of a storage node.
pub(super) const fn shard_askers(request: &ShardRequest) -> Roles {
    match request {
        ShardRequest::Append { .. }
        | ShardRequest::Sync { .. }
        | ShardRequest::Read { .. }
        | ShardRequest::Delete { .. }
        | ShardRequest::Inventory { .. }
        | ShardRequest::Verify { .. }
        | ShardRequest::Damaged { .. }
        | ShardRequest::Scrub { .. }
        | ShardRequest::Groups { .. } => Roles::GATEWAY,
        ShardRequest::Status => Roles::ALL,
    }
}

/// Who may propose this.
pub(super) const fn proposers(command: &Command) -> Roles {
    match command {
        Command::InitCluster { .. }
        | Command::SetDiskState { .. }
        | Command::AllocateReplica
        | Command::RegisterNode(_)
        | Command::JoinNode { .. }
        | Command::RemoveNode { .. }
        | Command::SetAuthority(_)
        | Command::CreateToken(_)
        | Command::RevokeToken { .. }
        | Command::PlaceReplica(_)
        | Command::ForgetReplica { .. }
        | Command::AdoptNode(_) => Roles::METADATA,
        Command::RegisterDisk { .. } | Command::AdoptDisk(_) => KEEPERS,
        Command::OpenSession { .. }
        | Command::EndSession { .. }
        | Command::CreateBucket { .. }
        | Command::DeleteBucket { .. }
        | Command::CommitObject(_)
        | Command::CopyObject(_)
        | Command::DeleteObject { .. }
        | Command::CreateUpload { .. }
        | Command::PutPart(_)
        | Command::CompleteUpload(_)
        | Command::AbortUpload { .. }
        | Command::QueueRepair { .. }
        | Command::CollectGarbage { .. }
        | Command::ShardsRepaired { .. }
        | Command::TakeLease { .. }
        | Command::AdoptObject(_)
        | Command::AdoptPart(_)
        | Command::AdoptPgs { .. }
        | Command::ReleaseHeld { .. }
        | Command::BeginMoves { .. }
        | Command::EndMove(_)
        | Command::DrainDisk { .. }
        | Command::WeighDisk { .. }
        | Command::PlaceNode { .. }
        | Command::SetUpkeep { .. }
        | Command::MuteHealth(_)
        | Command::GiveUpDisk { .. }
        | Command::SetStorageClass { .. }
        | Command::SetBucketClass { .. }
        | Command::SetRecode(_)
        | Command::RecodeObject(_) => USERS,
    }
}

/// The node that a command puts disks on.
const fn disks_of(command: &Command) -> Option<NodeId> {
    match command {
        Command::RegisterDisk { node, .. } => Some(*node),
        Command::AdoptDisk(disk) => Some(disk.node),
        _ => None,
    }
}

impl MetadataRequest {
    /// Whether `sender`, a node of these roles, may say this of the node that it is said of: a
    /// storage node reports itself and its own disks, a metadata node any.
    pub fn is_of_sender(&self, sender: NodeId, roles: Roles) -> bool {
        if roles.intersects(Roles::METADATA) {
            return true;
        }
        match self {
            Self::Propose(commands) => commands
                .iter()
                .filter_map(|envelope| disks_of(&envelope.command))
                .all(|node| node == sender),
            Self::Heartbeat(heartbeat) => heartbeat.node == sender,
            _ => true,
        }
    }
}

/// Who may ask this of the metadata.
pub(super) const fn query_askers(query: &Query) -> Roles {
    match query {
        Query::Bucket { .. }
        | Query::Buckets { .. }
        | Query::Object { .. }
        | Query::Objects(_)
        | Query::Upload { .. }
        | Query::Uploads(_)
        | Query::Parts { .. }
        | Query::ObjectParts { .. }
        | Query::Garbage { .. }
        | Query::Repairs { .. }
        | Query::Extents { .. }
        | Query::ExtentStates { .. }
        | Query::Held
        | Query::ToRecode { .. } => USERS,
        // Nothing but numbers of the map.
        Query::ClusterMap { .. } | Query::UnusedGroups => Roles::ALL,
        Query::Trust => Roles::METADATA,
    }
}

/// Who may ask this of a metadata node.
pub(super) const fn membership_askers(request: &MembershipRequest) -> Askers {
    match request {
        MembershipRequest::Join { .. } => Askers::Anyone,
        MembershipRequest::Renew { .. } | MembershipRequest::Register { .. } => {
            Askers::With(Roles::ALL)
        }
    }
}
