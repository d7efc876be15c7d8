//! counters, row `trust`: what nodes are admitted by, and what must never come back.

use minicbor::{Decode, Encode};
use model::ids::{NodeUuid, ReplicaId};
use model::node::{Authority, JoinToken};

use super::{Record, TableId};

/// The row.
pub const KEY: &[u8] = b"trust";

/// The authority, the tokens, and what was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TrustRecord {
    /// The certificate authority.
    #[n(0)]
    pub authority: Option<Authority>,
    /// Tokens that haven't ended.
    #[n(1)]
    pub tokens: Vec<TokenRecord>,
    /// Nodes that were removed, the latest last.
    #[n(2)]
    pub removed_nodes: Vec<NodeUuid>,
    /// Replicas that were forgotten, the latest last.
    #[n(3)]
    pub forgotten_replicas: Vec<ReplicaId>,
}

/// A token, and whom it let in: a used up one is kept until it expires, for those who ask again
/// and for operators to see.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TokenRecord {
    /// The token.
    #[n(0)]
    pub token: JoinToken,
    /// The nodes that it let in.
    #[n(1)]
    pub admitted: Vec<NodeUuid>,
}

impl Record for TrustRecord {
    const TABLE: TableId = TableId::Counters;
}
