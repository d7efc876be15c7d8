//! Which placement groups are balanced together.
//!
//! A cluster that grows gets more groups: the old ones hold the data, the new ones hold none yet.
//! Balanced as one lot, the disks could have as many slots as they should, and one of them all the
//! full ones. So each generation is balanced by itself, and those of each coding, whose slots differ
//! in size. What always holds: the generation follows from the group's number alone.

use crate::cluster_map::Pg;
use crate::coding::Coding;
use crate::ids::PgId;

/// Groups of the first generation; each further one has about as many as all before it.
const FIRST: u32 = 64;

/// Groups that were made at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(u32);

impl Generation {
    /// The generation of a group.
    pub(super) const fn of(pg: PgId) -> Self {
        Self((pg.0 / FIRST + 1).ilog2())
    }
}

/// Groups that are balanced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lot {
    /// Their coding.
    pub(super) coding: Coding,
    /// Their generation.
    pub(super) generation: Generation,
}

impl Lot {
    /// The lot of a group.
    pub(super) const fn of(pg: &Pg) -> Self {
        Self { coding: pg.coding, generation: Generation::of(pg.id) }
    }
}
