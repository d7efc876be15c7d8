//! Moves: slots of placement groups on their way from one disk to another.
//!
//! One mechanism for all that changes where shards are: a disk that is given up, one that is drained,
//! one that joins, another weight, another rack. A move is begun by a command, which closes the group
//! to new extents; whoever has the lease of the disk's node puts the slot's shards of all extents of the
//! group on the new disk and has them read back there; the command that ends the move gives the slot
//! to the new disk. Until then the old disk's shards count, and nothing of them is deleted (I-12).

use minicbor::{Decode, Encode};

use crate::ids::{DiskId, ExtentId, PgId};
use crate::time::Timestamp;

/// Why a slot moves; in order of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum MoveReason {
    /// Its disk was given up: its shards are rebuilt from the others.
    #[n(0)]
    Lost,
    /// Its disk is drained.
    #[n(1)]
    Drain,
    /// The group has more slots in one node, rack or zone than it need have.
    #[n(2)]
    Spread,
    /// Its disk has more than its share.
    #[n(3)]
    Balance,
}

impl MoveReason {
    /// The word used in metrics, logs and `admin status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Drain => "drain",
            Self::Spread => "spread",
            Self::Balance => "balance",
        }
    }
}

/// A slot that is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Move {
    /// The group.
    #[n(0)]
    pub pg: PgId,
    /// The slot.
    #[n(1)]
    pub slot: u8,
    /// The disk that has it; a move from another disk than the map's is refused.
    #[n(2)]
    pub from: DiskId,
    /// The disk that is to have it.
    #[n(3)]
    pub to: DiskId,
    /// Why.
    #[n(4)]
    pub reason: MoveReason,
}

/// A move under way, as its group names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SlotMove {
    /// The slot.
    #[n(0)]
    pub slot: u8,
    /// The disk that is to have it; until the move has ended, the group's own list counts.
    #[n(1)]
    pub to: DiskId,
    /// Why.
    #[n(2)]
    pub reason: MoveReason,
    /// When it was begun.
    #[n(3)]
    pub since: Timestamp,
    /// What it fails by, again and again: whoever plans moves gives it up.
    #[n(4)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub fault: Option<MoveFault>,
}

/// What a move fails by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum MoveFault {
    /// The new disk doesn't take the shards.
    #[n(0)]
    Target,
    /// Some shards can be neither read nor rebuilt.
    #[n(1)]
    Sources,
}

/// A slot that was given to another disk: whoever wrote by an older map wrote to the disk before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct SlotMoved {
    /// The slot.
    #[n(0)]
    pub slot: u8,
    /// The epoch since which it is where it is.
    #[n(1)]
    pub epoch: u64,
}

/// The end of a move.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MoveEnd {
    /// The group.
    #[n(0)]
    pub pg: PgId,
    /// The slot.
    #[n(1)]
    pub slot: u8,
    /// The disk that was to have it.
    #[n(2)]
    pub to: DiskId,
    /// How it ended.
    #[n(3)]
    pub result: MoveResult,
    /// When it was begun, as its group says: no two moves begin at the same time. What is told of
    /// another move of the slot, even one to the same disk, says nothing of this one.
    #[n(4)]
    pub since: Timestamp,
}

/// How a move ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MoveResult {
    /// The new disk has verified the slot's shards of every extent of the group.
    #[n(0)]
    Done {
        /// Extents of which neither disk has a sound shard in this slot, and that can't be rebuilt:
        /// they lack it before and after. What the new disk doesn't have and isn't named here keeps
        /// the move from ending.
        #[n(0)]
        unrecoverable: Vec<ExtentId>,
    },
    /// The slot stays where it was.
    #[n(1)]
    Cancelled,
    /// It hasn't ended, but fails each time: it is marked with that.
    #[n(2)]
    Failing(#[n(0)] MoveFault),
}

/// Moves that may be under way in a cluster at once. Their groups are closed to new extents.
pub const MOVES_MAX: usize = 64;

/// Extents that the end of a move may name as lost.
pub const UNRECOVERABLE_MAX: usize = 10_000;
