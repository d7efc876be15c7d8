//! What an operator has done to disks, nodes and moves, and what the cluster does by itself to stay
//! whole.
//!
//! In: orders, as JSON documents by their paths ([`paths`]). Out: proposals to the metadata, and
//! documents that say what came of them. A [`change::Change`] is tried on a copy of the cluster map
//! first ([`plan`]), and is all that is told of it when only a plan was wanted.
//!
//! What always holds: every process that may propose such commands takes these orders, gateways and
//! metadata nodes alike; an order that may be repeated is; a plan changes nothing.

pub mod change;
mod desk;
pub mod lacking;
pub mod orders;
pub(super) mod paths;
pub mod plan;
pub mod progress;
pub mod render;
mod render_plan;
#[cfg(test)]
pub(super) mod small_cluster;
pub mod stop;
pub mod tolerance;
pub mod whole;

pub use desk::UpkeepDesk;
pub(super) use desk::apart;
