//! The index at rest: a redb file that a checkpoint replaces as a whole.
//!
//! Every commit is durable and two-phase and keeps redb's allocator state ("quick repair"), so
//! that redb itself needn't walk the whole file after a crash. The file has one owner: redb takes
//! no lock through our backend, and a second `Database` on it, even one that is only being
//! dropped, writes its own idea of the allocator over the first one's.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use model::ids::{DiskUuid, ShardId};
use model::shard::LogPosition;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use twox_hash::XxHash3_64;
use wire::disk::{Disk, OpenMode};

use super::backend::FileBackend;
use super::view::Changes;
use super::{DamagedRegion, INDEX_NAME, Location, SegmentUse};

type ShardKey = &'static [u8; ShardId::KEY_BYTES];
type ShardValue = &'static [u8; Location::BYTES];
pub(super) type ShardTable = ReadOnlyTable<ShardKey, ShardValue>;

const SHARDS: TableDefinition<'_, ShardKey, ShardValue> = TableDefinition::new("shards");
const SEGMENTS: TableDefinition<'_, u64, [u64; 4]> = TableDefinition::new("segments");
const DAMAGE: TableDefinition<'_, (u64, u64), u64> = TableDefinition::new("damage");
const CHECKPOINT: TableDefinition<'_, u8, &[u8; Checkpoint::BYTES]> =
    TableDefinition::new("checkpoint");

/// What an index covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The disk that it is of.
    pub uuid: DiskUuid,
    /// The segment in which replay begins.
    pub segment: u64,
    /// The offset in it at which replay begins.
    pub offset: u64,
    /// The log position there. Everything before it was durable when the checkpoint was taken.
    pub position: LogPosition,
}

impl Checkpoint {
    const BYTES: usize = 48;
    const VERSION: u64 = 1;

    fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0u8; Self::BYTES];
        out[..16].copy_from_slice(&self.uuid.0);
        let words = [Self::VERSION << 32 | self.offset, self.segment, self.position];
        for (place, word) in out[16..40].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let checksum = XxHash3_64::oneshot(&out[..40]);
        out[40..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let word = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
        };
        let (versioned, segment, position) = (word(16)?, word(24)?, word(32)?);
        let sound = word(40)? == XxHash3_64::oneshot(bytes.get(..40)?);
        if !sound || versioned >> 32 != Self::VERSION {
            return None;
        }
        let uuid = DiskUuid(bytes.get(..16)?.try_into().ok()?);
        Some(Self { uuid, segment, offset: versioned & 0xffff_ffff, position })
    }
}

/// Why the index can't be used. It is a cache: the answer is to rebuild it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The device failed, or a page isn't what was written.
    #[error("the index can't be read or written: {0}")]
    Io(#[from] io::Error),
    /// redb refused.
    #[error("the index is not usable: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A page fails its check, redb gave up on it, or the index is another disk's.
    #[error("the index is damaged: {0}")]
    Damaged(&'static str),
    /// The disk was closed.
    #[error("the index is closed")]
    Closed,
}

/// Boxes redb's many errors into ours.
pub(super) fn refused<E: Into<redb::Error>>(error: E) -> IndexError {
    IndexError::Database(Box::new(error.into()))
}

/// What was found in an index that was opened.
#[derive(Clone, Debug, Default)]
pub struct SavedIndex {
    /// What it covers; `None` for a new one.
    pub checkpoint: Option<Checkpoint>,
    /// The use of each segment.
    pub segments: Vec<(u64, SegmentUse)>,
    /// The damage known.
    pub damage: Vec<DamagedRegion>,
}

/// Opens the index that is there, after a check of every page.
pub(super) fn open(
    disk: &dyn Disk,
    uuid: DiskUuid,
    cache_bytes: usize,
) -> Result<(Database, SavedIndex), IndexError> {
    let file = disk.open(INDEX_NAME, OpenMode::Write)?;
    if file.length()? == 0 {
        return Err(IndexError::Damaged("it is empty"));
    }
    // Damaged pages can make redb's own assertions fail: for a cache that is one more way of
    // being damaged, and nothing is shared with what is thrown away then.
    catch_unwind(AssertUnwindSafe(|| {
        let backend = FileBackend::new(file);
        let mut database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend)
            .map_err(refused)?;
        if !database.check_integrity().map_err(refused)? {
            return Err(IndexError::Damaged("a page fails its checksum"));
        }
        let saved = load(&database, uuid)?;
        Ok((database, saved))
    }))
    .unwrap_or(Err(IndexError::Damaged("redb gave up on it")))
}

/// Makes a new, empty index in place of whatever is there.
pub(super) fn create(disk: &dyn Disk, cache_bytes: usize) -> Result<Database, IndexError> {
    match disk.remove(INDEX_NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = disk.open(INDEX_NAME, OpenMode::CreateNew)?;
    disk.sync_directory()?;
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(FileBackend::new(file))
        .map_err(refused)?;
    let transaction = database.begin_write().map_err(refused)?;
    transaction.open_table(SHARDS).map_err(refused)?;
    transaction.commit().map_err(refused)?;
    Ok(database)
}

fn load(database: &Database, uuid: DiskUuid) -> Result<SavedIndex, IndexError> {
    let transaction = database.begin_read().map_err(refused)?;
    let checkpoint = match transaction.open_table(CHECKPOINT) {
        Ok(table) => {
            let bytes = table.get(0).map_err(refused)?;
            let found = bytes.and_then(|bytes| Checkpoint::decode(bytes.value()));
            let found = found.ok_or(IndexError::Damaged("its checkpoint is not readable"))?;
            if found.uuid != uuid {
                return Err(IndexError::Damaged("it is another disk's"));
            }
            found
        }
        // Made, but never written to.
        Err(TableError::TableDoesNotExist(_)) => return Ok(SavedIndex::default()),
        Err(error) => return Err(refused(error)),
    };
    let mut saved = SavedIndex { checkpoint: Some(checkpoint), ..SavedIndex::default() };
    let segments = transaction.open_table(SEGMENTS).map_err(refused)?;
    for row in segments.iter().map_err(refused)? {
        let (number, value) = row.map_err(refused)?;
        let [start, end, live_bytes, shards] = value.value();
        saved.segments.push((number.value(), SegmentUse { start, end, live_bytes, shards }));
    }
    let damage = transaction.open_table(DAMAGE).map_err(refused)?;
    for row in damage.iter().map_err(refused)? {
        let (place, bytes) = row.map_err(refused)?;
        let (segment, offset) = place.value();
        saved.damage.push(DamagedRegion { segment, offset, bytes: bytes.value() });
    }
    Ok(saved)
}

/// Writes changes, what they cover and the use of all segments, durably and as one.
pub(super) fn commit(
    database: &Database,
    changes: &Changes,
    saved: &SavedIndex,
) -> Result<(), IndexError> {
    let mut transaction = database.begin_write().map_err(refused)?;
    transaction.set_quick_repair(true);
    {
        let mut shards = transaction.open_table(SHARDS).map_err(refused)?;
        for (id, place) in changes {
            let key = id.to_key();
            match place {
                Some(location) => drop(shards.insert(&key, &location.encode()).map_err(refused)?),
                None => drop(shards.remove(&key).map_err(refused)?),
            }
        }
        let mut segments = transaction.open_table(SEGMENTS).map_err(refused)?;
        segments.retain(|_, _| false).map_err(refused)?;
        for (number, used) in &saved.segments {
            let value = [used.start, used.end, used.live_bytes, used.shards];
            segments.insert(number, value).map_err(refused)?;
        }
        let mut damage = transaction.open_table(DAMAGE).map_err(refused)?;
        for region in &saved.damage {
            damage.insert((region.segment, region.offset), region.bytes).map_err(refused)?;
        }
        if let Some(checkpoint) = &saved.checkpoint {
            let mut table = transaction.open_table(CHECKPOINT).map_err(refused)?;
            table.insert(0, &checkpoint.encode()).map_err(refused)?;
        }
    }
    transaction.commit().map_err(refused)
}

/// The shards as of the last commit.
pub(super) fn snapshot(database: &Database) -> Result<Arc<ShardTable>, IndexError> {
    let transaction = database.begin_read().map_err(refused)?;
    transaction.open_table(SHARDS).map(Arc::new).map_err(refused)
}
