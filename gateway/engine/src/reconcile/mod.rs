//! Reconciliation: compares what the disks hold with what the metadata says, PG by PG.
//!
//! In: the extents of a PG and the inventories of its disks. Out: shards that should be there and
//! aren't, in the repair queue; and shards of extents that nobody owns and nobody can come to own,
//! deleted after a grace period. [`damage`] brings shards that disks know to be damaged into the
//! queue.
//!
//! What always holds (I-9): a shard is deleted only after the metadata has said twice, linearizably,
//! that its extent has no owner and that the session which wrote it has ended; the second time right
//! before the deletion, and a grace period after the first. An error, a time-out, or a list that
//! may be cut short proves nothing and changes nothing.

mod damage;
mod orphans;
mod plan;
mod run;

pub(crate) use damage::run as run_damage;
pub(crate) use run::{missing_on, run};
