//! counters, row `leases`: who does which job.

use minicbor::{Decode, Encode};
use model::node::Lease;

use super::{Record, TableId};

/// The row.
pub const KEY: &[u8] = b"leases";

/// At most one lease for each job; those that have ended may be among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Leases {
    /// The leases, ascending by job.
    #[n(0)]
    pub leases: Vec<Lease>,
}

impl Record for Leases {
    const TABLE: TableId = TableId::Counters;
}
