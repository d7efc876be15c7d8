//! counters, row `held`: the sessions that are held since the metadata was put back.

use model::recovery::Held;

use super::{Record, TableId};

/// The row; there is none while nothing is held.
pub const KEY: &[u8] = b"held";

impl Record for Held {
    const TABLE: TableId = TableId::Counters;
}
