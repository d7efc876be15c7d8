//! Opening a disk: who it is, what it holds, where its log ends.
//!
//! Order: identity checked, index opened or made anew, log read from the checkpoint on; only then
//! is anything changed: incarnation raised, torn tail cut, both durably, index checkpointed. A
//! crash in between is followed by the same again.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::ids::Incarnation;
use model::shard::LogPosition;
use tokio::sync::Notify;
use wire::clock::Clock;
use wire::disk::{Disk, OpenMode};

use super::health::Health;
use super::ledger::Ledger;
use super::replay::{Replay, ReplayEnd};
use super::shared::Shared;
use super::superblock::{self, Superblock, SuperblockError};
use crate::index::{Checkpoint, DamagedRegion, Index, IndexError, SavedIndex};
use crate::lock::lock;
use crate::meter::Meter;
use crate::options::{DiskIdentity, StoreOptions};
use crate::segment::{HeaderError, SegmentFiles, segment_name, segment_number};

/// Where shards are kept in a disk's directory.
const DIRECTORY: &str = "shards";

/// Why a disk was not opened. Nothing on it was changed, unless the device failed half-way.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This node has the disk open: two indexes over one file would destroy it.
    #[error("the disk is open already")]
    AlreadyOpen,
    /// The device failed.
    #[error("the disk can't be read or written: {0}")]
    Io(#[from] io::Error),
    /// The superblock is damaged, newer, or unreadable.
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// There are segments but no superblock: files were removed or mixed up by hand.
    #[error("there are segments but no superblock")]
    SuperblockMissing,
    /// The superblock names another cluster or disk.
    #[error("the directory belongs to disk {} ({}) of cluster {}, and not to disk {} ({}) of cluster {}",
        found.disk, found.uuid, found.cluster, expected.disk, expected.uuid, expected.cluster)]
    Foreign {
        /// Who was expected.
        expected: DiskIdentity,
        /// Who it is.
        found: DiskIdentity,
    },
    /// A segment was written by another disk, or renamed.
    #[error("segment file {0} is not this disk's")]
    ForeignSegment(String),
    /// A segment was written by a newer release.
    #[error("segment file {0}: format version {1} is newer than this release knows")]
    SegmentVersion(String, u32),
    /// The index can't even be made anew.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Where the log goes on.
pub(crate) struct LogEnd {
    pub(crate) position: LogPosition,
    /// The last segment, and its end; 0 and 0 on an empty disk.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) next_segment: u64,
    /// Differs between disks, so that they don't all write their index at the same time.
    pub(crate) first_checkpoint_in: Duration,
}

/// Opens the disk and brings it to a state in which it can be read and appended to.
pub(crate) fn recover(
    disk: &dyn Disk,
    identity: DiskIdentity,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    first_checkpoint_in: Duration,
    changed: Arc<Notify>,
) -> Result<(Shared, LogEnd), OpenError> {
    let directory = disk.subdirectory(DIRECTORY)?;
    let mut segments: Vec<u64> =
        directory.list()?.iter().filter_map(|name| segment_number(name)).collect();
    segments.sort_unstable();

    let last_run = last_incarnation(&*directory, identity, segments.is_empty())?;
    let (index, saved) = open_index(&*directory, identity, &options, &segments)?;
    let mut ledger = Ledger::from_saved(&saved);
    let known_damage = ledger.damaged_regions();
    report_missing(&mut ledger, identity, &segments);

    let from = saved.checkpoint;
    let replay = Replay {
        disk: &*directory,
        identity,
        index: &index,
        ledger: &mut ledger,
        options: &options,
    };
    let end = replay.run(&segments, from)?;

    let incarnation = Incarnation(last_run.0.max(end.incarnation.0) + 1);
    superblock::save(&*directory, &Superblock { identity, incarnation, written: clock.now() })?;
    cut_tail(&*directory, &end)?;

    let news = ledger.damaged_regions() > known_damage;
    if news || from.is_none_or(|checkpoint| checkpoint.position < end.position) {
        let uuid = identity.uuid;
        let (segment, offset, position) = (end.segment, end.offset, end.position);
        let checkpoint = Some(Checkpoint { uuid, segment, offset, position });
        index.freeze();
        index.commit(&SavedIndex {
            checkpoint,
            segments: ledger.segments(),
            damage: ledger.damage(),
        })?;
    }

    let highest = segments.last().copied().max(ledger.highest_segment()).unwrap_or(0);
    let next_segment = highest.max(end.segment) + 1;
    let shared = Shared {
        files: SegmentFiles::new(Arc::clone(&directory)),
        disk: directory,
        identity,
        incarnation,
        options,
        clock,
        index,
        ledger: Mutex::new(ledger),
        health: Health::new(identity.disk, changed),
        meter: Meter::new(identity.disk),
        durable: AtomicU64::new(end.position),
        end: AtomicU64::new(end.position),
        space: Mutex::default(),
    };
    shared.look_at_space();
    for region in lock(&shared.ledger).damage() {
        shared.meter.failure("corrupt");
        tracing::error!(
            disk = %identity.disk, segment = region.segment, offset = region.offset,
            bytes = region.bytes, "the log has a damaged region"
        );
    }
    let log_end = LogEnd {
        position: end.position,
        segment: end.segment,
        offset: end.offset,
        next_segment,
        first_checkpoint_in,
    };
    Ok((shared, log_end))
}

/// The incarnation of the last run; 0 on a new disk.
fn last_incarnation(
    directory: &dyn Disk,
    identity: DiskIdentity,
    is_new: bool,
) -> Result<Incarnation, OpenError> {
    match superblock::load(directory)? {
        Some(found) if found.identity == identity => Ok(found.incarnation),
        Some(found) => Err(OpenError::Foreign { expected: identity, found: found.identity }),
        None if is_new => Ok(Incarnation(0)),
        None => Err(OpenError::SuperblockMissing),
    }
}

/// The index that is there, if it can be trusted and the log reaches as far as it says; else an
/// empty one, which replay fills from the first segment on.
fn open_index(
    directory: &dyn Disk,
    identity: DiskIdentity,
    options: &StoreOptions,
    segments: &[u64],
) -> Result<(Index, SavedIndex), OpenError> {
    let why = match Index::open(directory, identity.uuid, options.index_cache_bytes) {
        Ok((index, saved)) => match saved.checkpoint {
            Some(checkpoint) if reaches(directory, segments, &checkpoint) => {
                return Ok((index, saved));
            }
            Some(_) => "the log ends before what it covers".to_owned(),
            None => "it was never written".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    if !segments.is_empty() {
        tracing::warn!(disk = %identity.disk, why, "the index is rebuilt from the segments");
    }
    let index = Index::create(directory, options.index_cache_bytes)?;
    Ok((index, SavedIndex::default()))
}

fn reaches(directory: &dyn Disk, segments: &[u64], checkpoint: &Checkpoint) -> bool {
    if checkpoint.segment == 0 {
        return checkpoint.position == 0;
    }
    segments.contains(&checkpoint.segment)
        && directory
            .open(&segment_name(checkpoint.segment), OpenMode::Read)
            .and_then(|file| file.length())
            .is_ok_and(|length| length >= checkpoint.offset)
}

/// Segments that held shards and are gone: their shards read as damaged, and that is told.
fn report_missing(ledger: &mut Ledger, identity: DiskIdentity, segments: &[u64]) {
    for (segment, used) in ledger.segments() {
        if used.shards > 0 && segments.binary_search(&segment).is_err() {
            tracing::error!(disk = %identity.disk, segment, shards = used.shards, "a segment is missing");
            ledger.damaged(DamagedRegion { segment, offset: 0, bytes: used.end });
        }
    }
}

/// Cuts what a crash tore, and makes what is left durable: it may be in the page cache only.
fn cut_tail(directory: &dyn Disk, end: &ReplayEnd) -> Result<(), OpenError> {
    for segment in &end.unborn {
        directory.remove(&segment_name(*segment))?;
    }
    if !end.unborn.is_empty() {
        directory.sync_directory()?;
    }
    if let Some(length) = end.tail_length {
        let file = directory.open(&segment_name(end.segment), OpenMode::Write)?;
        if length > end.offset {
            file.set_length(end.offset)?;
        }
        file.sync_data()?;
    }
    Ok(())
}

/// Reads a segment's header error as a reason not to open, or as damage (`None`).
pub(super) fn refusal(error: HeaderError, name: String) -> Option<OpenError> {
    match error {
        HeaderError::Damaged => None,
        HeaderError::Version(version) => Some(OpenError::SegmentVersion(name, version)),
    }
}
