//! Opening a disk: who it is, what it holds, where its log ends.
//!
//! Order: identity checked, index opened or made anew, log read from the checkpoint on; only then
//! is anything changed: incarnation raised and the log's tail synced, index checkpointed, what is
//! torn cut, each durably. A crash in between is followed by the same again.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use model::ids::Incarnation;
use model::shard::LogPosition;
use tokio::sync::Notify;
use wire::clock::Clock;
use wire::disk::{Disk, DiskFile, OpenMode};

use super::health::{Health, is_out_of_space, is_shortage};
use super::ledger::Ledger;
use super::replay::{Replay, ReplayEnd};
use super::shared::Shared;
use super::spare;
use super::superblock::{self, Superblock, SuperblockError};
use crate::compact::Compaction;
use crate::index::{Checkpoint, DamagedRegion, Index, IndexError, SavedIndex};
use crate::lock::lock;
use crate::meter::Meter;
use crate::options::{DiskIdentity, StoreOptions};
use crate::segment::{
    HeaderError, SEGMENT_HEADER_BYTES, SegmentFiles, segment_name, segment_number,
};
use crate::switches::Bug;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64};

/// Where shards are kept in a disk's directory.
pub(crate) const DIRECTORY: &str = "shards";
/// How much of the log's end is written again at once.
const WRITE_AGAIN_BYTES: u64 = 1 << 20;

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
    /// The device doesn't give what lies where the log may end. Nothing was cut.
    #[error("segment file {0} can't be read at byte {1}, where the log may end: nothing was cut")]
    EndUnreadable(String, u64),
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
///
/// A file system that others have filled to the last byte gets the spare file's space for it.
pub(crate) fn recover(
    disk: &dyn Disk,
    identity: DiskIdentity,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    first_checkpoint_in: Duration,
    changed: Arc<Notify>,
) -> Result<(Shared, LogEnd), OpenError> {
    let directory = disk.subdirectory(DIRECTORY)?;
    let first_attempt = recover_in(
        Arc::clone(&directory),
        identity,
        options,
        Arc::clone(&clock),
        first_checkpoint_in,
        Arc::clone(&changed),
    );
    match first_attempt {
        Err(error) if error.is_out_of_space() && spare::give_up(&*directory)? => {
            tracing::warn!(disk = %identity.disk, %error, "the spare file's space is given up to open");
            recover_in(directory, identity, options, clock, first_checkpoint_in, changed)
        }
        outcome => outcome,
    }
}

fn recover_in(
    directory: Arc<dyn Disk>,
    identity: DiskIdentity,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    first_checkpoint_in: Duration,
    changed: Arc<Notify>,
) -> Result<(Shared, LogEnd), OpenError> {
    let mut segments: Vec<u64> =
        directory.list()?.iter().filter_map(|name| segment_number(name)).collect();
    segments.sort_unstable();

    let last_run = last_incarnation(&*directory, identity, segments.is_empty())?;
    let (index, mut saved) = open_index(&*directory, identity, &options, &segments)?;
    if options.breaks(Bug::DamageForgotten) {
        saved.damage.clear();
        saved.damaged_shards.clear();
    }
    let mut ledger = Ledger::from_saved(&saved);
    let known_damage = ledger.damaged_regions();
    if report_missing(&mut ledger, identity, &segments) {
        // Their removal must be durable before anything that counts on it is.
        directory.sync_directory()?;
    }

    let from = saved.checkpoint;
    let replay = Replay {
        disk: &*directory,
        identity,
        index: &index,
        ledger: &mut ledger,
        options: &options,
        scrub: &saved.scrub,
        now: clock.now(),
    };
    let end = replay.run(&segments, from)?;

    let incarnation = Incarnation(last_run.0.max(end.incarnation.0) + 1);
    superblock::save(&*directory, &Superblock { identity, incarnation, written: clock.now() })?;
    keep_tail(&*directory, &end, &options)?;

    let news = ledger.damaged_regions() > known_damage;
    if news || from.is_none_or(|checkpoint| checkpoint.position < end.position) {
        let uuid = identity.uuid;
        let (segment, offset, position) = (end.segment, end.offset, end.position);
        let checkpoint = Some(Checkpoint { uuid, segment, offset, position });
        index.freeze();
        let mut now = SavedIndex { checkpoint, scrub: saved.scrub.clone(), ..Default::default() };
        ledger.save(&mut now);
        index.commit(&now)?;
    }
    cut_tail(&*directory, &end, &options)?;

    let highest = segments.last().copied().max(ledger.highest_segment()).unwrap_or(0);
    let next_segment = highest.max(end.segment) + 1;
    let shared = Shared {
        files: SegmentFiles::new(Arc::clone(&directory)),
        disk: directory,
        identity,
        incarnation,
        options,
        compaction: Compaction::new(clock.monotonic()),
        scrub_state: Mutex::new(saved.scrub),
        clock,
        index,
        ledger: Mutex::new(ledger),
        health: Health::new(identity.disk, changed),
        meter: Meter::new(identity.disk),
        durable: AtomicU64::new(end.position),
        end: AtomicU64::new(end.position),
        space: Mutex::default(),
        has_spare: AtomicBool::new(false),
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
/// empty one, which replay fills from the first segment on. An index that can't be read for want of
/// memory or open files is no reason to throw it away.
fn open_index(
    directory: &dyn Disk,
    identity: DiskIdentity,
    options: &StoreOptions,
    segments: &[u64],
) -> Result<(Index, SavedIndex), OpenError> {
    let why = match Index::open(directory, identity.uuid, options.index_cache_bytes) {
        Ok((index, saved)) => match saved.checkpoint {
            Some(checkpoint) if reaches(directory, segments, &checkpoint)? => {
                return Ok((index, saved));
            }
            Some(_) => "the log ends before what it covers".to_owned(),
            None => "it was never written".to_owned(),
        },
        Err(error) => match wanting(error) {
            Ok(shortage) => return Err(shortage.into()),
            Err(error) => error.to_string(),
        },
    };
    if !segments.is_empty() {
        tracing::warn!(disk = %identity.disk, why, "the index is rebuilt from the segments");
    }
    let index = Index::create(directory, options.index_cache_bytes)?;
    Ok((index, SavedIndex::default()))
}

impl OpenError {
    /// Whether all that was wanting is space.
    fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io(error)
            | Self::Superblock(SuperblockError::Io(error))
            | Self::Index(IndexError::Io(error)) => is_out_of_space(error),
            Self::Index(IndexError::Database(error)) => {
                matches!(&**error, redb::Error::Io(error) if is_out_of_space(error))
            }
            _ => false,
        }
    }
}

/// Whether an error tells of the machine or of space, and nothing of the index.
fn says_nothing(error: &io::Error) -> bool {
    is_shortage(error) || is_out_of_space(error)
}

/// What was wanting when the index could not be opened, if it was that; else the error.
fn wanting(error: IndexError) -> Result<io::Error, IndexError> {
    match error {
        IndexError::Io(error) if says_nothing(&error) => Ok(error),
        IndexError::Database(error) => match *error {
            redb::Error::Io(error) if says_nothing(&error) => Ok(error),
            error => Err(IndexError::Database(Box::new(error))),
        },
        error => Err(error),
    }
}

/// Whether the log reaches as far as a checkpoint says.
fn reaches(directory: &dyn Disk, segments: &[u64], checkpoint: &Checkpoint) -> io::Result<bool> {
    if checkpoint.segment == 0 {
        return Ok(checkpoint.position == 0);
    }
    if !segments.contains(&checkpoint.segment) {
        return Ok(false);
    }
    let file = directory.open(&segment_name(checkpoint.segment), OpenMode::Read);
    match file.and_then(|file| file.length()) {
        Ok(length) => Ok(length >= checkpoint.offset),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Segments that held shards and are gone: their shards read as damaged, and that is told. Those
/// of which nothing was needed had been condemned, and are forgotten; tells whether there were any.
fn report_missing(ledger: &mut Ledger, identity: DiskIdentity, segments: &[u64]) -> bool {
    let mut has_forgotten = false;
    for (segment, used) in ledger.segments() {
        if segments.binary_search(&segment).is_ok() {
            continue;
        }
        if used.shards == 0 && used.tombstone_bytes == 0 {
            ledger.removed(segment);
            has_forgotten = true;
        } else {
            tracing::error!(disk = %identity.disk, segment, shards = used.shards, "a segment is missing");
            ledger.damaged(DamagedRegion { segment, offset: 0, bytes: used.end });
        }
    }
    has_forgotten
}

/// Writes the bytes of a range over themselves. After a sync that failed the page cache may show
/// what never reached the device and call it clean: the next sync would pass it over (Rebello et
/// al., "Can Applications Recover from fsync Failures?", ATC 2020).
fn write_again(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = vec![0u8; to.saturating_sub(from).min(WRITE_AGAIN_BYTES) as usize];
    let mut at = from;
    while at < to {
        let count = (to - at).min(WRITE_AGAIN_BYTES) as usize;
        let bytes = &mut buffer[..count];
        file.read_exact_at(bytes, at)?;
        file.write_at(&[IoSlice::new(bytes)], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Makes what is left of the log durable: it may be in the page cache only.
fn keep_tail(
    directory: &dyn Disk,
    end: &ReplayEnd,
    options: &StoreOptions,
) -> Result<(), OpenError> {
    if end.tail_length.is_some() {
        let file = directory.open(&segment_name(end.segment), OpenMode::Write)?;
        if !end.header_unreadable {
            write_again(&*file, 0, SEGMENT_HEADER_BYTES.min(end.offset))?;
        }
        write_again(&*file, end.durable, end.offset)?;
        if !options.breaks(Bug::TailNotSynced) {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Cuts what a crash tore. Its headers, and a successor that was never born, may have been all
/// that told how far the log was durable: so this comes when the index remembers it.
fn cut_tail(
    directory: &dyn Disk,
    end: &ReplayEnd,
    options: &StoreOptions,
) -> Result<(), OpenError> {
    for segment in &end.unborn {
        directory.remove(&segment_name(*segment))?;
    }
    if !end.unborn.is_empty() {
        directory.sync_directory()?;
    }
    if let Some(length) = end.tail_length
        && length > end.offset
        && !options.breaks(Bug::TailNotCut)
    {
        let file = directory.open(&segment_name(end.segment), OpenMode::Write)?;
        file.set_length(end.offset)?;
        if !options.breaks(Bug::TailNotSynced) {
            file.sync_data()?;
        }
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
