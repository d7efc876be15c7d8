//! Nodes: the processes of a cluster, with their roles and addresses, and what admits them.

use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::ids::{NodeId, NodeUuid, ReplicaId, SessionId, TokenId};
use crate::time::Timestamp;

/// What a node does, and so what it may ask of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Roles(u8);

impl Roles {
    /// None: may ask for nothing.
    pub const NONE: Self = Self(0);
    /// Keeps replicas of the metadata.
    pub const METADATA: Self = Self(1);
    /// Keeps shards.
    pub const STORAGE_NODE: Self = Self(2);
    /// Speaks S3.
    pub const GATEWAY: Self = Self(4);
    /// All of them: `drystone server`.
    pub const ALL: Self = Self(7);

    const NAMES: [(Self, &'static str); 3] = [
        (Self::METADATA, "metadata"),
        (Self::STORAGE_NODE, "storage-node"),
        (Self::GATEWAY, "gateway"),
    ];

    /// These and those.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Reads what `Display` writes: role names with commas between them.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').try_fold(Self::NONE, |roles, name| {
            let known = Self::NAMES.iter().find(|(_, known)| *known == name.trim())?;
            Some(roles.and(known.0))
        })
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (role, name) in Self::NAMES {
            if self.contains(role) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

/// A node, as the cluster map knows it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Node {
    /// Its number.
    #[n(0)]
    pub id: NodeId,
    /// What it said of itself when it last registered.
    #[n(1)]
    pub registration: NodeRegistration,
    /// Where an operator said that it is, which counts more.
    #[n(2)]
    pub place: Option<NodePlace>,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodePlace {
    /// The rack; empty when there is but one.
    #[n(0)]
    pub rack: String,
    /// The zone; empty when there is but one.
    #[n(1)]
    pub zone: String,
}

impl Node {
    /// A node as it said of itself.
    pub const fn new(id: NodeId, registration: NodeRegistration) -> Self {
        Self { id, registration, place: None }
    }

    /// The rack that counts.
    pub fn rack(&self) -> &str {
        self.place.as_ref().map_or(&self.registration.rack, |place| &place.rack)
    }

    /// The zone that counts.
    pub fn zone(&self) -> &str {
        self.place.as_ref().map_or(&self.registration.zone, |place| &place.zone)
    }
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRegistration {
    /// Its identity.
    #[n(0)]
    pub uuid: NodeUuid,
    /// Its name, for people.
    #[n(1)]
    pub name: String,
    /// Host and port of its internal listener, as the others reach it.
    #[n(2)]
    pub address: String,
    /// What it does.
    #[n(3)]
    pub roles: Roles,
    /// Its rack; empty when there is but one.
    #[n(4)]
    pub rack: String,
    /// Its zone; empty when there is but one.
    #[n(5)]
    pub zone: String,
    /// The feature level of its release: see [`FEATURE_LEVEL`].
    #[n(6)]
    pub level: u32,
}

/// What this release can do. Raised whenever a message, a command or an on-disk structure is added
/// that an older release can't read; used only once every node has it (`ClusterMap::level`,
/// [`crate::level`]). 1: the first release with clusters. 2: refuses commands that not every node
/// knows, so that there may be such from here on.
pub const FEATURE_LEVEL: u32 = 2;

/// Where a metadata replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaPlace {
    /// The replica.
    #[n(0)]
    pub replica: ReplicaId,
    /// The node that keeps it.
    #[n(1)]
    pub node: NodeId,
}

/// The cluster's own certificate authority.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Authority {
    /// Its certificate, X.509 in DER.
    #[n(0)]
    pub certificate: ByteVec,
    /// Its private key, PKCS #8 in DER, sealed with a key that only metadata nodes have.
    #[n(1)]
    pub sealed_key: ByteVec,
}

impl fmt::Debug for Authority {
    /// Without the sealed key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("certificate_bytes", &self.certificate.len())
            .finish_non_exhaustive()
    }
}

/// A token that admits nodes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JoinToken {
    /// Its public half.
    #[n(0)]
    pub id: TokenId,
    /// SHA-256 of its secret half.
    #[n(1)]
    pub secret_sha256: ByteVec,
    /// The roles that it may bring in.
    #[n(2)]
    pub roles: Roles,
    /// When it ends.
    #[n(3)]
    pub expires: Timestamp,
    /// Nodes that it may bring in yet.
    #[n(4)]
    pub uses_left: u32,
}

/// Work in the background that one gateway at a time does for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Job {
    /// Deleting the shards of garbage extents.
    #[n(0)]
    Collect,
    /// Rebuilding lost shards.
    #[n(1)]
    Repair,
    /// Comparing the disks' inventories with the metadata.
    #[n(2)]
    Reconcile,
    /// Backing the metadata up.
    #[n(3)]
    Backup,
    /// Moving slots of placement groups to other disks.
    #[n(4)]
    Move,
    /// Coding objects anew.
    #[n(5)]
    Recode,
    /// Putting the slots that move to the disks of a node there: for each node a job of its own.
    #[n(6)]
    Fill,
}

/// Who does a job, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// The job.
    #[n(0)]
    pub job: Job,
    /// The writer session of the gateway that does it.
    #[n(1)]
    pub holder: SessionId,
    /// When somebody else may take it, in the metadata's time.
    #[n(2)]
    pub until: Timestamp,
    /// The node that it is about, for a job that is done for each node by itself.
    #[n(3)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub node: Option<NodeId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_written_and_read() {
        for text in ["metadata", "storage-node,gateway", "metadata,storage-node,gateway"] {
            assert_eq!(Roles::parse(text).expect("known").to_string(), text);
        }
        assert_eq!(Roles::parse("metadata,ghost"), None);
        assert_eq!(Roles::parse(""), None);
    }
}
