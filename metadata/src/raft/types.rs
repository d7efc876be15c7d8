//! What Raft is made of here: ids, entries and their stored form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use model::command::{CommandEnvelope, Outcome};
use openraft::entry::RaftEntry;
use openraft::type_config::alias;
use openraft::{EmptyNode, EntryPayload};
use twox_hash::XxHash3_64;

openraft::declare_raft_types!(
    /// The types of our Raft.
    pub TypeConfig:
        D = Batch,
        R = Outcomes,
        NodeId = u64,
        Node = EmptyNode,
);

/// A position in the log.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// Who leads in a term.
pub type LeaderId = alias::LeaderIdOf<TypeConfig>;
/// A vote.
pub type Vote = alias::VoteOf<TypeConfig>;
/// A log entry.
pub type Entry = alias::EntryOf<TypeConfig>;
/// A membership with its place in the log.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// A membership.
pub type Membership = openraft::Membership<u64, EmptyNode>;
/// What a snapshot covers.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;

/// The commands of one entry. Encoded once, where it is proposed; replicas in the same process
/// share commands and bytes.
#[derive(Clone)]
pub struct Batch {
    inner: Arc<BatchContent>,
}

struct BatchContent {
    commands: Vec<CommandEnvelope>,
    encoded: Bytes,
    checksum: u64,
}

impl Batch {
    /// A batch of commands and their encodings, one after the other.
    pub fn new(commands: Vec<CommandEnvelope>, encodings: &[Bytes]) -> Self {
        let mut encoded = Vec::with_capacity(encodings.iter().map(Bytes::len).sum());
        for encoding in encodings {
            encoded.extend_from_slice(encoding);
        }
        let checksum = XxHash3_64::oneshot(&encoded);
        Self { inner: Arc::new(BatchContent { commands, encoded: encoded.into(), checksum }) }
    }

    /// Encodes commands: CBOR maps, one after the other.
    pub fn encode(commands: &[CommandEnvelope]) -> Bytes {
        let mut encoded = Vec::with_capacity(commands.len() * 256);
        for command in commands {
            // Writing to a Vec can't fail.
            let _ = minicbor::encode(command, &mut encoded);
        }
        encoded.into()
    }

    /// Reads an encoded batch.
    pub fn decode(encoded: Bytes) -> Result<Self, minicbor::decode::Error> {
        let mut decoder = minicbor::Decoder::new(&encoded);
        let mut commands = Vec::new();
        while decoder.position() < encoded.len() {
            commands.push(decoder.decode()?);
        }
        let checksum = XxHash3_64::oneshot(&encoded);
        Ok(Self { inner: Arc::new(BatchContent { commands, encoded, checksum }) })
    }

    /// The commands.
    pub fn commands(&self) -> &[CommandEnvelope] {
        &self.inner.commands
    }

    /// Their encoded form.
    pub fn encoded(&self) -> &Bytes {
        &self.inner.encoded
    }

    /// XXH3-64 of the encoded form.
    pub fn checksum(&self) -> u64 {
        self.inner.checksum
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.inner.commands).finish()
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.inner.commands.len())
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.inner.encoded == other.inner.encoded
    }
}

/// The outcomes of a batch, in order; none for other entries.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(pub Vec<Outcome>);

/// The stored form of a log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredLogId {
    /// Term of the leader that wrote the entry.
    #[n(0)]
    pub term: u64,
    /// That leader.
    #[n(1)]
    pub node: u64,
    /// Position.
    #[n(2)]
    pub index: u64,
}

impl From<LogId> for StoredLogId {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<StoredLogId> for LogId {
    fn from(id: StoredLogId) -> Self {
        Self::new(LeaderId { term: id.term, node_id: id.node }, id.index)
    }
}

/// The stored form of a membership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct StoredConfig {
    /// Where it lies in the log.
    #[n(0)]
    pub log_id: Option<StoredLogId>,
    /// Voters; two sets while it changes.
    #[n(1)]
    pub voters: Vec<Vec<u64>>,
    /// All members, learners included.
    #[n(2)]
    pub members: Vec<u64>,
}

impl StoredConfig {
    /// From Raft's own type.
    pub fn new(log_id: Option<LogId>, membership: &Membership) -> Self {
        let voters = membership.get_joint_config().iter();
        Self {
            log_id: log_id.map(StoredLogId::from),
            voters: voters.map(|set| set.iter().copied().collect()).collect(),
            members: membership.nodes().map(|(id, _)| *id).collect(),
        }
    }

    /// To Raft's own type.
    pub fn to_membership(&self) -> io::Result<Membership> {
        if self.members.is_empty() && self.voters.iter().all(Vec::is_empty) {
            return Ok(Membership::default());
        }
        let voters: Vec<BTreeSet<u64>> =
            self.voters.iter().map(|set| set.iter().copied().collect()).collect();
        #[expect(clippy::zero_sized_map_values, reason = "it is Raft's type")]
        let members: BTreeMap<u64, EmptyNode> =
            self.members.iter().map(|id| (*id, EmptyNode::new())).collect();
        Membership::new(voters, members)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// To Raft's own type, with its place.
    pub fn to_stored(&self) -> io::Result<StoredMembership> {
        Ok(StoredMembership::new(self.log_id.map(LogId::from), self.to_membership()?))
    }
}

/// The kind of an entry, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Nothing: a new leader's first entry.
    Blank,
    /// Commands.
    Commands,
    /// A membership.
    Membership,
}

/// Takes an entry apart: its kind, its payload and that payload's checksum.
pub fn encode_entry(entry: &Entry) -> (EntryKind, Bytes, u64) {
    match &entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new(), XxHash3_64::oneshot(&[])),
        EntryPayload::Normal(batch) => {
            (EntryKind::Commands, batch.encoded().clone(), batch.checksum())
        }
        EntryPayload::Membership(membership) => {
            let mut encoded = Vec::new();
            // Writing to a Vec can't fail.
            let _ = minicbor::encode(StoredConfig::new(None, membership), &mut encoded);
            let checksum = XxHash3_64::oneshot(&encoded);
            (EntryKind::Membership, encoded.into(), checksum)
        }
    }
}

/// Puts an entry together again.
pub fn decode_entry(id: LogId, kind: EntryKind, payload: Bytes) -> io::Result<Entry> {
    let invalid = |error: minicbor::decode::Error| {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    };
    Ok(match kind {
        EntryKind::Blank => Entry::new_blank(id),
        EntryKind::Commands => Entry::new_normal(id, Batch::decode(payload).map_err(invalid)?),
        EntryKind::Membership => {
            let config: StoredConfig = minicbor::decode(&payload).map_err(invalid)?;
            Entry::new_membership(id, config.to_membership()?)
        }
    })
}
