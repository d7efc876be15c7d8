//! How much of a segment's tombstones is needed no more.
//!
//! The ledger knows the bytes of tombstones that the index points to, not which of them still
//! guard a grave. Segments with many are read, once in a while, to find out: otherwise they would
//! never be compacted, or again and again.

use std::io;
use std::time::Duration;

use super::Shared;
use crate::index::SegmentUse;
use crate::lock::lock;
use crate::segment::{Kind, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal};

/// Segments with less than one part in so many of tombstones aren't looked at.
const PARTS_MAX: u64 = 16;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    /// Bytes of tombstones that may be dropped.
    pub(super) droppable: u64,
    /// Segments that had been removed by then: graves go with segments.
    removed: u64,
    /// When tombstones that were too young by then are ripe.
    ripe: Option<Duration>,
}

/// Whether a segment's tombstones ought to be looked at.
pub(super) fn is_due(
    used: &SegmentUse,
    last: Option<&Survey>,
    removed: u64,
    segments: u64,
    now: Duration,
) -> bool {
    let bytes = used.end.saturating_sub(SEGMENT_HEADER_BYTES);
    if used.tombstone_bytes == 0 || used.tombstone_bytes < bytes / PARTS_MAX {
        return false;
    }
    last.is_none_or(|last| {
        removed - last.removed > segments / PARTS_MAX || last.ripe.is_some_and(|ripe| ripe <= now)
    })
}

/// Reads a segment's headers and asks what its tombstones guard.
pub(super) fn survey(shared: &Shared, segment: u64, used: &SegmentUse) -> io::Result<Survey> {
    let file = shared.files.get(segment)?;
    let seal = Seal::new(&shared.identity, segment);
    let end = used.end.min(file.length()?);
    let mut scanner = Scanner::new(file, seal, Some(used.start), SEGMENT_HEADER_BYTES, end);
    let now = shared.clock.monotonic();
    let removed = shared.compaction.report().segments;
    let mut found = Survey { droppable: 0, removed, ripe: None };
    while let Some(item) = scanner.advance()? {
        let Scanned::Record { offset, header } = item else { continue };
        if header.kind != Kind::Tombstone {
            continue;
        }
        let kept = shared.index.tombstone(header.id.extent).map_err(io::Error::other)?;
        let Some(kept) =
            kept.filter(|kept| (kept.segment, u64::from(kept.offset)) == (segment, offset))
        else {
            continue;
        };
        let guards = {
            let ledger = lock(&shared.ledger);
            kept.graves.iter().any(|grave| ledger.knows(*grave))
        };
        if guards {
            continue;
        }
        if shared.is_ripe(kept.deleted) {
            found.droppable += header.record_bytes();
        } else {
            found.ripe = Some(now + shared.options.grace);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_tombstones_are_looked_at_when_something_may_have_changed() {
        let used = SegmentUse { end: 128 + 1600, tombstone_bytes: 100, ..SegmentUse::default() };
        let few = SegmentUse { tombstone_bytes: 99, ..used };
        let at = Duration::from_secs;
        assert!(is_due(&used, None, 0, 100, at(0)));
        assert!(!is_due(&few, None, 0, 100, at(0)));
        let last = Survey { droppable: 0, removed: 10, ripe: None };
        assert!(!is_due(&used, Some(&last), 16, 100, at(9)));
        assert!(is_due(&used, Some(&last), 17, 100, at(9)));
        let young = Survey { ripe: Some(at(5)), ..last };
        assert!(!is_due(&used, Some(&young), 10, 100, at(4)));
        assert!(is_due(&used, Some(&young), 10, 100, at(5)));
    }
}
