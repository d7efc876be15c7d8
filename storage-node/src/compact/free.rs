//! Removes condemned segments.
//!
//! Order: the copies of what was needed, and the index that points to them, are durable; the
//! files are removed; the directory is synced; only then do ledger and tombstones forget the
//! segments. A crash before that finds segments without live shards, or none: the same work
//! begins again, or is done.

use std::io;

use super::Shared;
use crate::lock::lock;
use crate::segment::segment_name;

/// Removes these segments. The checkpoint that was begun after they were condemned is durable.
pub(crate) fn free(shared: &Shared, condemned: &[u64]) {
    if condemned.is_empty() || shared.health.check_write().is_err() {
        return;
    }
    let mut removed = Vec::with_capacity(condemned.len());
    for segment in condemned {
        let used = lock(&shared.ledger).used(*segment);
        if used.is_some_and(|used| used.shards > 0 || used.tombstone_bytes > 0) {
            // Never: nothing is written to a segment that was condemned.
            shared.meter.failure("condemned");
            tracing::error!(disk = %shared.identity.disk, segment, "a condemned segment is in use");
            continue;
        }
        removed.push(*segment);
        match shared.disk.remove(&segment_name(*segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return failed(shared, &error);
            }
            _ => shared.files.forget(*segment),
        }
    }
    if let Err(error) = shared.disk.sync_directory() {
        return failed(shared, &error);
    }
    for segment in &removed {
        // A reader may have opened it again in between; what it holds there is never looked up.
        shared.files.forget(*segment);
        lock(&shared.ledger).removed(*segment);
        let bytes = shared.compaction.removed(*segment);
        shared.meter.compaction_segments.increment(1);
        shared.meter.compaction_reclaimed_bytes.increment(bytes);
        tracing::debug!(disk = %shared.identity.disk, segment, bytes, "a segment was reclaimed");
    }
    shared.look_at_space();
}

fn failed(shared: &Shared, error: &io::Error) {
    shared.meter.failure("write");
    shared.health.write_failed(error, "removing a segment failed");
}
