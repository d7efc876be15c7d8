//! What a metadata replica tells of itself: its place in Raft, what it heard of nodes and disks, and what
//! its tables amount to.

use minicbor::{Decode, Encode};

use crate::ids::{DiskId, NodeId, ReplicaId};
use crate::shard::DiskReport;
use crate::time::Timestamp;

/// What a replica tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct MetadataStatus {
    /// The replica.
    #[n(0)]
    pub replica: ReplicaId,
    /// The leader that it knows.
    #[n(1)]
    pub leader: Option<ReplicaId>,
    /// Raft term.
    #[n(2)]
    pub term: u64,
    /// Raft state: `leader`, `follower`, `candidate`, `learner`, `fenced`.
    #[n(3)]
    pub state: String,
    /// Index of the last log entry.
    #[n(4)]
    pub last_log_index: u64,
    /// Index of the last applied entry.
    #[n(5)]
    pub last_applied_index: u64,
    /// Index that the latest snapshot covers.
    #[n(6)]
    pub snapshot_index: u64,
    /// Voters of the current membership.
    #[n(7)]
    pub voters: Vec<ReplicaId>,
    /// Epoch of the cluster map.
    #[n(8)]
    pub map_epoch: u64,
    /// Rows and digest of each table at `last_applied_index`, for comparison between replicas.
    #[n(9)]
    pub tables: Vec<TableDigest>,
    /// Buckets and objects, for people.
    #[n(10)]
    pub buckets: u64,
    /// Objects.
    #[n(11)]
    pub objects: u64,
    /// Bytes of all objects.
    #[n(12)]
    pub object_bytes: u64,
    /// Extents waiting for collection.
    #[n(13)]
    pub garbage: u64,
    /// Extents waiting for repair.
    #[n(14)]
    pub repairs: u64,
    /// The last reports of the storage nodes' disks; on the leader only.
    #[n(15)]
    pub disks: Vec<DiskReport>,
    /// How long ago each node's last heartbeat came; on the leader only.
    #[n(16)]
    #[cbor(default)]
    pub nodes: Vec<NodeHeard>,
    /// Disks that are silent and not down yet; on the leader only.
    #[n(17)]
    #[cbor(default)]
    pub suspects: Vec<DiskId>,
    /// Nodes of which so many are silent at once that their disks aren't given up without an operator;
    /// on the leader only.
    #[n(18)]
    #[cbor(default)]
    pub withheld: Vec<NodeId>,
    /// The replica's clock when it answered; 0 from a release that doesn't say.
    #[n(19)]
    #[cbor(default)]
    pub time: Timestamp,
}

/// When a node was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeHeard {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// Milliseconds since its last heartbeat.
    #[n(1)]
    pub silence_ms: u64,
}

/// A replica's tables as of one log entry, every row read and verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ReplicaDigest {
    /// The replica.
    #[n(0)]
    pub replica: ReplicaId,
    /// The term of the entry's leader.
    #[n(1)]
    pub term: u64,
    /// The index of the entry.
    #[n(2)]
    pub index: u64,
    /// The tables.
    #[n(3)]
    pub tables: Vec<CheckedTable>,
}

/// A table whose rows were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct CheckedTable {
    /// What its rows amount to.
    #[n(0)]
    pub digest: TableDigest,
    /// What is wrong: a row fails its checksum, or the rows aren't those that were written. None
    /// when the table is whole.
    #[n(1)]
    pub damage: Option<String>,
}

/// The count and multiset digest of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TableDigest {
    /// Its name.
    #[n(0)]
    pub table: String,
    /// Rows.
    #[n(1)]
    pub rows: u64,
    /// Sum, modulo 2^64, of the hash of every row: independent of order.
    #[n(2)]
    pub digest: u64,
}
