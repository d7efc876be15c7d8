//! A replica's tables as of one log entry: what proves that replicas are the same (I-11) and that
//! their tables are whole (I-13).

use std::sync::Arc;

use model::query::{CheckedTable, MetadataError, ReplicaDigest, TableDigest};
use wire::clock::timeout;

use super::MetadataService;
use crate::inspection::Pace;
use crate::limits::DIGEST_PATIENCE;
use crate::state::machine::guarded;
use crate::state::{Captured, StateError};
use crate::tables::TableId;

impl MetadataService {
    /// Waits until the entry at `at` is applied, then reads every row of the tables as they were
    /// then, and every file as it is now. Damage fences the replica; damage to the tables is told
    /// before that. Errors: `Fenced` when a file is damaged; `Unavailable` when the replica
    /// is past the entry, or doesn't come to it.
    pub(super) async fn digest(&self, at: u64) -> Result<ReplicaDigest, MetadataError> {
        let machine = Arc::clone(&self.machine);
        let asked = tokio::task::spawn_blocking(move || machine.capture_at(at)).await;
        let captured = match asked {
            Ok(Ok(Some(captured))) => captured,
            Ok(Ok(None)) | Err(_) => return Err(MetadataError::Unavailable),
            Ok(Err(_)) => return Err(MetadataError::Fenced),
        };
        let Ok(Ok(captured)) = timeout(&*self.clock, DIGEST_PATIENCE, captured).await else {
            return Err(MetadataError::Unavailable);
        };
        let read = tokio::task::spawn_blocking(move || check_all(&captured)).await;
        let (mut digest, damage) = read.map_err(|_| MetadataError::Unavailable)?;
        if let Some(damage) = damage {
            self.fence.set(&damage);
        }
        digest.replica = self.replica;
        if digest.tables.iter().all(|table| table.damage.is_none()) {
            self.inspection.pass(Pace::AtOnce).await;
            if self.fence.is_set() {
                return Err(MetadataError::Fenced);
            }
        }
        Ok(digest)
    }
}

/// All tables, and the first damage among them.
fn check_all(captured: &Captured) -> (ReplicaDigest, Option<String>) {
    let position = captured.applied.last;
    let mut digest = ReplicaDigest {
        term: position.map_or(0, |id| id.term),
        index: position.map_or(0, |id| id.index),
        ..ReplicaDigest::default()
    };
    for table in TableId::ALL {
        digest.tables.push(check(captured, table));
    }
    let damage = digest.tables.iter().find_map(|table| table.damage.clone());
    (digest, damage)
}

fn check(captured: &Captured, table: TableId) -> CheckedTable {
    let expected = captured.digests.0[table as usize];
    let read: Result<_, StateError> = guarded(|| captured.view.digest(table));
    let damage = match &read {
        Ok(found) if *found == expected => None,
        Ok(_) => Some(format!("the rows of table {} aren't those that were written", table.name())),
        Err(error) => Some(error.to_string()),
    };
    let found = read.unwrap_or(expected);
    let (rows, sum) = (found.rows, found.sum);
    let digest = TableDigest { table: table.name().to_owned(), rows, digest: sum };
    CheckedTable { digest, damage }
}
