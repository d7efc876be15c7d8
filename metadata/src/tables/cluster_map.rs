//! cluster_map: the one row that is the cluster map.

use model::cluster_map::ClusterMap;

use super::{Record, TableId};

/// The row.
pub const KEY: &[u8] = b"map";

impl Record for ClusterMap {
    const TABLE: TableId = TableId::ClusterMap;
}
