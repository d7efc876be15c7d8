//! What the jobs that keep the cluster whole ask of the metadata: the repair queue, the extents of a
//! PG, and whether an extent can ever have an owner.

use minicbor::{Decode, Encode};

use crate::extent::Extent;
use crate::ids::{ExtentId, PgId, SessionId};

/// A place in the repair queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct RepairCursor {
    /// 128 + shards to spare; the queue's order.
    #[n(0)]
    pub priority: u8,
    /// The extent.
    #[n(1)]
    pub extent: ExtentId,
}

impl RepairCursor {
    /// Behind all extents that can't be read unless some of their shards come back.
    pub const BEHIND_LOST: Self = Self {
        priority: 127,
        extent: ExtentId { pg: PgId(u32::MAX), session: SessionId(u64::MAX), sequence: u32::MAX },
    };
}

/// An extent that waits for repair.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RepairItem {
    /// The extent; `missing` are the slots that lack shards now.
    #[n(0)]
    pub extent: Extent,
    /// Shards that it has beyond those that a reader needs; below 0 it can't be read unless some
    /// come back.
    #[n(1)]
    pub spare: i16,
}

/// A page of the repair queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RepairPage {
    /// Extents in the queue altogether.
    #[n(0)]
    pub total: u64,
    /// The most urgent ones first.
    #[n(1)]
    pub items: Vec<RepairItem>,
    /// When more follow: where to go on behind.
    #[n(2)]
    pub next: Option<RepairCursor>,
}

/// An extent that the metadata knows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExtentEntry {
    /// The extent; `missing` are the slots that lack shards now.
    #[n(0)]
    pub extent: Extent,
    /// Whether an object or an uploaded part names it. If not, it is garbage.
    #[n(1)]
    pub is_owned: bool,
}

/// A page of the extents of a PG.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ExtentPage {
    /// Extents, ascending by id.
    #[n(0)]
    pub extents: Vec<ExtentEntry>,
    /// When more follow: the last extent of this page.
    #[n(1)]
    pub next: Option<ExtentId>,
}

/// What the metadata knows of an extent id, linearizably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ExtentState {
    /// An object or an uploaded part names it.
    #[n(0)]
    Owned,
    /// It lost its last owner; the collector deletes its shards.
    #[n(1)]
    Garbage,
    /// Nothing names it, but its writer session is open, or not known to have ended: it may get an
    /// owner yet.
    #[n(2)]
    InFlight,
    /// Nothing names it, and its writer session has ended: it never gets an owner (I-9).
    #[n(3)]
    Ownerless,
    /// Nothing names it, and its writer session was never opened by these tables: they are not
    /// those that it was written under, and nothing that they don't know is proved by them.
    #[n(4)]
    Foreign,
    /// Nothing names it, and its writer session is held: these tables were put back from a backup, or
    /// rebuilt from the disks, and may not know its owner. It is to be adopted, and never deleted
    /// before it is released.
    #[n(5)]
    Held,
}
