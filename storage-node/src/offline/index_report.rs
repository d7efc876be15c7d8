//! Compares the index with the segments.
//!
//! The index covers the log up to its checkpoint, and a start reads the rest. So the start itself
//! is tried, on an [`Overlay`] whose changes stay in memory, and what it comes to must be what the
//! survey found.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::ids::{PgId, ShardId};
use wire::clock::Clock;
use wire::disk::Disk;

use super::directory::ShardsDirectory;
use super::overlay::Overlay;
use super::rebuild::MissingSegment;
use super::root::Root;
use super::survey::{Place, Survey};
use crate::index::{Checkpoint, Index, IndexError, Location, SavedIndex};
use crate::lock::lock;
use crate::options::StoreOptions;
use crate::store::{OpenError, Shared, recover};

/// Differences that are told one by one; beyond that they are counted.
const DIFFERENCES_MAX: usize = 100;
/// Rows read at once.
const PAGE_ROWS: usize = 10_000;

/// What the index is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// There is none: it is made from the segments at the next start.
    Absent,
    /// It can't be used, for this reason: it is made anew at the next start.
    Unusable(String),
    /// It can be used.
    Usable(Checkpoint),
}

/// A shard that the index and the segments don't agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The shard.
    pub id: ShardId,
    /// Where the segments have it.
    pub found: Option<Place>,
    /// Where the index has it.
    pub indexed: Option<Location>,
}

/// What was found about the index.
#[derive(Clone, Debug)]
pub struct IndexReport {
    /// What it is worth.
    pub state: IndexState,
    /// The first of the differences.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub difference_count: u64,
    /// Live shards that it counts, and those that it has in the PGs of which the segments hold any.
    /// They are the same unless it is wrong.
    pub counted: (u64, u64),
    /// Segments that held live shards when it was written, and are gone.
    pub missing: Vec<MissingSegment>,
    /// Why the disk would not open.
    pub refusal: Option<String>,
}

impl IndexReport {
    /// Whether the disk would open and serve exactly what its segments hold.
    pub fn agrees(&self) -> bool {
        let (counted, indexed) = self.counted;
        self.refusal.is_none()
            && self.difference_count == 0
            && counted == indexed
            && self.missing.is_empty()
    }
}

/// Tries a start on memory, and compares. Nothing is written to the directory.
pub fn report_index(
    directory: &ShardsDirectory,
    survey: &Survey,
    clock: Arc<dyn Clock>,
) -> IndexReport {
    let (state, missing) = look_at(directory);
    let mut report = IndexReport {
        state,
        differences: Vec::new(),
        difference_count: 0,
        counted: (0, 0),
        missing,
        refusal: None,
    };
    match start(directory, clock) {
        Ok(shared) => {
            if let Err(error) = compare(&shared, survey, &mut report) {
                report.refusal = Some(error.to_string());
            }
            shared.index.close();
        }
        Err(error) => report.refusal = Some(error.to_string()),
    }
    report
}

fn overlay(directory: &ShardsDirectory) -> Arc<dyn Disk> {
    Arc::new(Overlay::new(Arc::clone(&directory.disk)))
}

fn look_at(directory: &ShardsDirectory) -> (IndexState, Vec<MissingSegment>) {
    if !directory.has_index() {
        return (IndexState::Absent, Vec::new());
    }
    let unusable = |why: &str| (IndexState::Unusable(why.to_owned()), Vec::new());
    let cache = StoreOptions::default().index_cache_bytes;
    match Index::open(&*overlay(directory), directory.identity.uuid, cache) {
        Ok((index, saved)) => {
            index.close();
            match saved.checkpoint {
                Some(checkpoint) if reaches(directory, &checkpoint) => {
                    (IndexState::Usable(checkpoint), missing(directory, &saved))
                }
                Some(_) => unusable("the log ends before what it covers"),
                None => unusable("it was never written"),
            }
        }
        Err(error) => unusable(&error.to_string()),
    }
}

fn reaches(directory: &ShardsDirectory, checkpoint: &Checkpoint) -> bool {
    let holds = |file: &super::SegmentFile| {
        file.number == checkpoint.segment && file.bytes >= checkpoint.offset
    };
    (checkpoint.segment == 0 && checkpoint.position == 0) || directory.segments().iter().any(holds)
}

/// The segments that the index knows to hold shards, and that aren't there.
pub(super) fn missing(directory: &ShardsDirectory, saved: &SavedIndex) -> Vec<MissingSegment> {
    let files = directory.segments();
    let is_gone = |number: u64| files.binary_search_by_key(&number, |file| file.number).is_err();
    saved
        .segments
        .iter()
        .filter(|(number, used)| used.shards > 0 && is_gone(*number))
        .map(|(number, used)| MissingSegment { segment: *number, shards: used.shards })
        .collect()
}

fn start(directory: &ShardsDirectory, clock: Arc<dyn Clock>) -> Result<Shared, OpenError> {
    let root = Root::new(overlay(directory), Arc::default());
    let options = StoreOptions::default();
    let (identity, never) = (directory.identity, Duration::MAX);
    recover(&root, identity, options, clock, never, Arc::default()).map(|(shared, _)| shared)
}

fn compare(shared: &Shared, survey: &Survey, report: &mut IndexReport) -> Result<(), IndexError> {
    let mut pgs: Vec<PgId> = survey.live.keys().map(|id| id.extent.pg).collect();
    pgs.dedup();
    let mut indexed = 0;
    let mut found = survey.live.iter().peekable();
    for pg in pgs {
        let mut after = None;
        loop {
            let rows = shared.index.pg(pg, after, PAGE_ROWS)?;
            indexed += rows.len() as u64;
            for (id, location) in &rows {
                while let Some((missed, place)) = found.next_if(|(known, _)| *known < id) {
                    report.differ(*missed, Some(*place), None);
                }
                match found.next_if(|(known, _)| *known == id) {
                    Some((_, place)) if is_same(place, location) => {}
                    other => report.differ(*id, other.map(|(_, place)| *place), Some(*location)),
                }
            }
            after = rows.last().map(|(id, _)| *id);
            if rows.len() < PAGE_ROWS {
                break;
            }
        }
        while let Some((missed, place)) = found.next_if(|(known, _)| known.extent.pg == pg) {
            report.differ(*missed, Some(*place), None);
        }
    }
    report.counted = (lock(&shared.ledger).totals().shards, indexed);
    Ok(())
}

fn is_same(place: &Place, location: &Location) -> bool {
    place.segment == location.segment
        && place.offset == u64::from(location.offset)
        && place.record_bytes == u64::from(location.record_bytes)
        && place.payload_bytes == location.payload_bytes
}

impl IndexReport {
    fn differ(&mut self, id: ShardId, found: Option<Place>, indexed: Option<Location>) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference { id, found, indexed });
        }
    }
}

/// Reads how far a start has come; for progress bars.
pub(super) fn reached(progress: &super::root::Progress) -> u64 {
    progress.load(Ordering::Relaxed)
}
