//! What is true: the metadata service.
//!
//! Raft (openraft) over a log of our own ([`raft_log`]) replicates commands; a deterministic state
//! machine ([`apply`]) carries them out on redb tables ([`tables`], [`state`]); queries read them
//! ([`read`]); [`serve`] answers gateways and storage nodes, and [`client`] with [`session`] is
//! what those use. [`replica`] puts one replica together, [`keeper`] keeps a set of them alive.

pub mod admission;
pub mod apply;
pub mod authority_seal;
pub mod backup;
pub mod check;
pub mod client;
pub mod identity;
pub mod inspection;
pub mod keeper;
mod levels;
pub mod limits;
pub mod members;
mod newer;
pub mod raft;
pub mod raft_log;
pub mod read;
pub mod replica;
pub mod serve;
pub mod session;
pub mod state;
pub mod tables;
