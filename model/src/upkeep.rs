//! What the jobs that keep the cluster whole ask of the metadata: the repair queue, the extents of a
//! PG, and whether an extent can ever have an owner.

use crate::extent::Extent;
use crate::ids::ExtentId;

/// A place in the repair queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepairCursor {
    /// 128 + shards to spare; the queue's order.
    pub priority: u8,
    /// The extent.
    pub extent: ExtentId,
}

/// An extent that waits for repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairItem {
    /// The extent; `missing` are the slots that lack shards now.
    pub extent: Extent,
    /// Shards that it has beyond those that a reader needs; below 0 it can't be read unless some
    /// come back.
    pub spare: i16,
}

/// A page of the repair queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPage {
    /// Extents in the queue altogether.
    pub total: u64,
    /// The most urgent ones first.
    pub items: Vec<RepairItem>,
    /// When more follow: where to go on behind.
    pub next: Option<RepairCursor>,
}

/// An extent that the metadata knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentEntry {
    /// The extent; `missing` are the slots that lack shards now.
    pub extent: Extent,
    /// Whether an object or an uploaded part names it. If not, it is garbage.
    pub is_owned: bool,
}

/// A page of the extents of a PG.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentPage {
    /// Extents, ascending by id.
    pub extents: Vec<ExtentEntry>,
    /// When more follow: the last extent of this page.
    pub next: Option<ExtentId>,
}

/// What the metadata knows of an extent id, linearizably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentState {
    /// An object or an uploaded part names it.
    Owned,
    /// It lost its last owner; the collector deletes its shards.
    Garbage,
    /// Nothing names it, but its writer session is open, or not known to have ended: it may get an
    /// owner yet.
    InFlight,
    /// Nothing names it, and its writer session has ended: it never gets an owner (I-9).
    Ownerless,
    /// Nothing names it, and its writer session was never opened by these tables: they are not
    /// those that it was written under, and nothing that they don't know is proved by them.
    Foreign,
}
