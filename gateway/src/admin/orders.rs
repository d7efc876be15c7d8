//! What the operator can have done to the cluster itself: the metadata's replicas, nodes and join
//! tokens.
//!
//! In: orders, as JSON documents. Out: documents that say what came of it, or why nothing did. The
//! handler only knows these words; who carries them out is given to it by the process that keeps
//! metadata.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use wire::BoxFuture;

/// Carries orders out. Each may be repeated without harm.
pub trait AdminOrders: Send + Sync + 'static {
    /// Makes another replica the metadata's leader.
    fn transfer(&self, order: TransferOrder) -> BoxFuture<'_, Result<Leadership, OrderError>>;

    /// Has a node keep a new metadata replica; answers when that has caught up and votes.
    fn add_replica(&self, order: AddReplicaOrder) -> BoxFuture<'_, Result<Replica, OrderError>>;

    /// Takes a metadata replica out of the group.
    fn remove_replica(
        &self,
        order: RemoveReplicaOrder,
    ) -> BoxFuture<'_, Result<Replica, OrderError>>;

    /// Compares all replicas at one index, and checks each one's tables.
    fn check(&self) -> BoxFuture<'_, Result<CheckReport, OrderError>>;

    /// Makes a join token. The answer alone has its secret.
    fn create_token(&self, order: TokenOrder) -> BoxFuture<'_, Result<NewToken, OrderError>>;

    /// The join tokens that are good for something still.
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<Token>, OrderError>>;

    /// Makes a join token void, by its id.
    fn revoke_token(&self, id: String) -> BoxFuture<'_, Result<(), OrderError>>;

    /// Takes a node out of the cluster that keeps neither disks nor replicas.
    fn remove_node(&self, node: u32) -> BoxFuture<'_, Result<(), OrderError>>;
}

/// Why an order wasn't carried out; the text is one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It has a value that can't be.
    #[error("{0}")]
    Invalid(String),
    /// What it names isn't there.
    #[error("{0}")]
    NotFound(String),
    /// It may not be done as things are, such as removing what is in use.
    #[error("{0}")]
    Refused(String),
    /// It can't be done now: try again.
    #[error("{0}")]
    Unavailable(String),
    /// It failed, and trying again won't help by itself.
    #[error("{0}")]
    Failed(String),
}

impl OrderError {
    /// The status that says it.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Refused(_) => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// To `POST /metadata/transfer`. With neither field the leader chooses the follower that is
/// furthest; with both they must belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferOrder {
    /// The replica that is to lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u64>,
    /// The node that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
}

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The leader.
    pub leader: u64,
    /// The node that keeps it.
    pub node: Option<u32>,
    /// The Raft term.
    pub term: u64,
}

/// To `POST /metadata/add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddReplicaOrder {
    /// The node that is to keep it.
    pub node: u32,
}

/// To `POST /metadata/remove`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveReplicaOrder {
    /// The replica.
    pub replica: u64,
}

/// A replica that was added or removed, and what is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The replica.
    pub replica: u64,
    /// The node that keeps it, or kept it.
    pub node: Option<u32>,
    /// The replicas that vote now.
    pub voters: Vec<u64>,
}

/// To `GET /metadata/check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Whether all is well: every replica was checked, is whole, and has the same tables.
    pub ok: bool,
    /// The index at which they were compared.
    pub index: u64,
    /// The replicas, ascending by id.
    pub replicas: Vec<CheckedReplica>,
}

/// What was found of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedReplica {
    /// The replica.
    pub replica: u64,
    /// The node that keeps it.
    pub node: Option<u32>,
    /// Whether its tables are the same as the leader's at that index; `null` when it couldn't be
    /// compared.
    pub identical: Option<bool>,
    /// Rows of all tables.
    pub rows: Option<u64>,
    /// What is wrong, in words; empty when nothing is.
    pub problems: Vec<String>,
}

/// To `POST /cluster/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenOrder {
    /// The roles that it may bring in, with commas between them.
    pub roles: String,
    /// Seconds until it ends.
    pub expires_seconds: u64,
    /// Nodes that it may bring in.
    pub uses: u32,
}

/// A join token without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public half.
    pub id: String,
    /// The roles that it may bring in, with commas between them.
    pub roles: String,
    /// When it ends, ISO 8601.
    pub expires: String,
    /// Nodes that it may bring in yet; 0: it is used up, and listed until it ends.
    pub uses_left: u32,
}

/// A new join token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// What is handed to `drystone cluster join`: whoever has it can join.
    pub secret: String,
    /// The rest.
    #[serde(flatten)]
    pub token: Token,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewToken({:?}, redacted)", self.token)
    }
}
