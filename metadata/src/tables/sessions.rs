//! sessions: session → gateway, start, and the outcomes that must be remembered.
//!
//! A session that has ended has no row.

use minicbor::{Decode, Encode};
use model::command::Outcome;
use model::ids::SessionId;
use model::time::Timestamp;

use super::{Record, TableId};

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SessionRecord {
    /// Who opened it.
    #[n(0)]
    pub gateway: String,
    /// When.
    #[n(1)]
    pub started: Timestamp,
    /// Commands below this number are done with.
    #[n(2)]
    pub acknowledged_below: u64,
    /// Outcomes of later commands, ascending by sequence number.
    #[n(3)]
    pub outcomes: Vec<Remembered>,
}

/// An outcome that may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Remembered {
    /// The command.
    #[n(0)]
    pub sequence: u64,
    /// Its outcome.
    #[n(1)]
    pub outcome: Outcome,
}

impl Record for SessionRecord {
    const TABLE: TableId = TableId::Sessions;
}

/// The row of a session.
pub fn key(session: SessionId) -> [u8; 8] {
    session.0.to_be_bytes()
}

/// The inverse of [`key`].
pub fn read_key(key: &[u8]) -> Option<SessionId> {
    Some(SessionId(u64::from_be_bytes(key.try_into().ok()?)))
}
