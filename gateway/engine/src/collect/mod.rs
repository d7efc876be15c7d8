//! The collector: deletes the shards of extents that lost their last owner.
//!
//! The planner is pure; the runner asks the metadata, sends what was planned, and tells the
//! metadata what is gone. An extent is forgotten only when every disk of its PG that isn't given
//! up has confirmed (I-9).

mod plan;
mod run;

pub(crate) use run::run;
