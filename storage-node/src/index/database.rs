//! The index at rest: a redb file that a checkpoint replaces as a whole.
//!
//! Every commit is durable and two-phase and keeps redb's allocator state ("quick repair"), so
//! that redb itself needn't walk the whole file after a crash. The file has one owner: redb takes
//! no lock through our backend, and a second `Database` on it, even one that is only being
//! dropped, writes its own idea of the allocator over the first one's.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use model::ids::{DiskUuid, ExtentId, ShardId};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use wire::disk::{Disk, DiskFile, OpenMode};

use super::backend::{Blocks, FileBackend};
use super::saved::{Checkpoint, SavedIndex};
use super::view::Changes;
use super::{DamagedRegion, INDEX_NAME, Location, SegmentUse, sums};

type ShardKey = &'static [u8; ShardId::KEY_BYTES];
type ShardValue = &'static [u8; Location::BYTES];
pub(super) type ShardTable = ReadOnlyTable<ShardKey, ShardValue>;
type ExtentKey = &'static [u8; ExtentId::KEY_BYTES];
pub(super) type TombstoneTable = ReadOnlyTable<ExtentKey, &'static [u8]>;

const SHARDS: TableDefinition<'_, ShardKey, ShardValue> = TableDefinition::new("shards");
const TOMBSTONES: TableDefinition<'_, ExtentKey, &[u8]> = TableDefinition::new("tombstones");
const SEGMENTS: TableDefinition<'_, u64, [u64; 6]> = TableDefinition::new("segments");
const DAMAGE: TableDefinition<'_, (u64, u64), u64> = TableDefinition::new("damage");
const DAMAGED: TableDefinition<'_, ShardKey, ShardValue> = TableDefinition::new("damaged");
const SCRUB: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("scrub");
const CHECKPOINT: TableDefinition<'_, u8, &[u8; Checkpoint::BYTES]> =
    TableDefinition::new("checkpoint");

/// The index file, and what is known of its blocks.
pub(super) struct AtRest {
    database: Database,
    blocks: Arc<Blocks>,
    /// Where the checksums of its blocks are kept; without the file a start takes longer.
    sums: Option<Arc<dyn DiskFile>>,
    uuid: Option<DiskUuid>,
}

/// Shards and tombstones as of one commit.
pub(super) struct Snapshot {
    pub(super) shards: ShardTable,
    pub(super) tombstones: TombstoneTable,
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

/// Opens the index that is there, after a check of the whole file.
pub(super) fn open(
    disk: &dyn Disk,
    uuid: DiskUuid,
    cache_bytes: usize,
) -> Result<(AtRest, SavedIndex), IndexError> {
    let file = disk.open(INDEX_NAME, OpenMode::Write)?;
    let length = file.length()?;
    if length == 0 {
        return Err(IndexError::Damaged("it is empty"));
    }
    let kept = sums::open(disk).ok();
    let blocks = Arc::new(Blocks::new(file));
    let known = kept.as_ref().and_then(|file| sums::load(&**file, uuid, length));
    let adopted = match known {
        Some(known) => blocks.adopt(known)?,
        None => false,
    };
    // Damaged pages can make redb's own assertions fail: for a cache that is one more way of
    // being damaged, and nothing is shared with what is thrown away then.
    catch_unwind(AssertUnwindSafe(|| {
        let backend = FileBackend::new(Arc::clone(&blocks));
        let mut database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend)
            .map_err(refused)?;
        if !adopted && !database.check_integrity().map_err(refused)? {
            return Err(IndexError::Damaged("a page fails its checksum"));
        }
        let saved = load(&database, uuid)?;
        Ok((AtRest { database, blocks, sums: kept, uuid: Some(uuid) }, saved))
    }))
    .unwrap_or(Err(IndexError::Damaged("redb gave up on it")))
}

/// Makes a new, empty index in place of whatever is there.
pub(super) fn create(disk: &dyn Disk, cache_bytes: usize) -> Result<AtRest, IndexError> {
    match disk.remove(INDEX_NAME) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = disk.open(INDEX_NAME, OpenMode::CreateNew)?;
    disk.sync_directory()?;
    let blocks = Arc::new(Blocks::new(file));
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(FileBackend::new(Arc::clone(&blocks)))
        .map_err(refused)?;
    let transaction = database.begin_write().map_err(refused)?;
    transaction.open_table(SHARDS).map_err(refused)?;
    transaction.open_table(TOMBSTONES).map_err(refused)?;
    transaction.commit().map_err(refused)?;
    Ok(AtRest { database, blocks, sums: sums::open(disk).ok(), uuid: None })
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
        let [start, end, live_bytes, shards, tombstone_bytes, superseded] = value.value();
        let superseded = superseded != 0;
        let used = SegmentUse { start, end, live_bytes, shards, tombstone_bytes, superseded };
        saved.segments.push((number.value(), used));
    }
    let damage = transaction.open_table(DAMAGE).map_err(refused)?;
    for row in damage.iter().map_err(refused)? {
        let (place, bytes) = row.map_err(refused)?;
        let (segment, offset) = place.value();
        saved.damage.push(DamagedRegion { segment, offset, bytes: bytes.value() });
    }
    let damaged = transaction.open_table(DAMAGED).map_err(refused)?;
    for row in damaged.iter().map_err(refused)? {
        let (key, place) = row.map_err(refused)?;
        let id = ShardId::from_key(key.value()).ok_or(IndexError::Damaged("a key is none"))?;
        saved.damaged_shards.push((id, Location::decode(place.value())));
    }
    let scrub = transaction.open_table(SCRUB).map_err(refused)?;
    if let Some(state) = scrub.get(0).map_err(refused)? {
        saved.scrub = state.value().to_vec();
    }
    Ok(saved)
}

impl AtRest {
    /// Writes changes, what they cover and the use of all segments, durably and as one.
    pub(super) fn commit(
        &mut self,
        changes: &Changes,
        saved: &SavedIndex,
    ) -> Result<(), IndexError> {
        let mut transaction = self.database.begin_write().map_err(refused)?;
        transaction.set_quick_repair(true);
        {
            let mut shards = transaction.open_table(SHARDS).map_err(refused)?;
            for (id, place) in &changes.shards {
                let key = id.to_key();
                match place {
                    Some(place) => drop(shards.insert(&key, &place.encode()).map_err(refused)?),
                    None => drop(shards.remove(&key).map_err(refused)?),
                }
            }
            let mut tombstones = transaction.open_table(TOMBSTONES).map_err(refused)?;
            for (extent, tombstone) in &changes.tombstones {
                let key = extent.to_key();
                match tombstone {
                    Some(tombstone) => {
                        let value = tombstone.encode();
                        drop(tombstones.insert(&key, value.as_slice()).map_err(refused)?);
                    }
                    None => drop(tombstones.remove(&key).map_err(refused)?),
                }
            }
            let mut segments = transaction.open_table(SEGMENTS).map_err(refused)?;
            segments.retain(|_, _| false).map_err(refused)?;
            for (number, used) in &saved.segments {
                let SegmentUse { start, end, live_bytes, shards, tombstone_bytes, superseded } =
                    *used;
                let superseded = u64::from(superseded);
                let value = [start, end, live_bytes, shards, tombstone_bytes, superseded];
                segments.insert(number, value).map_err(refused)?;
            }
            let mut damage = transaction.open_table(DAMAGE).map_err(refused)?;
            damage.retain(|_, _| false).map_err(refused)?;
            for region in &saved.damage {
                damage.insert((region.segment, region.offset), region.bytes).map_err(refused)?;
            }
            let mut damaged = transaction.open_table(DAMAGED).map_err(refused)?;
            damaged.retain(|_, _| false).map_err(refused)?;
            for (id, place) in &saved.damaged_shards {
                damaged.insert(&id.to_key(), &place.encode()).map_err(refused)?;
            }
            let mut scrub = transaction.open_table(SCRUB).map_err(refused)?;
            scrub.insert(0, saved.scrub.as_slice()).map_err(refused)?;
            if let Some(checkpoint) = &saved.checkpoint {
                let mut table = transaction.open_table(CHECKPOINT).map_err(refused)?;
                table.insert(0, &checkpoint.encode()).map_err(refused)?;
                self.uuid = Some(checkpoint.uuid);
            }
        }
        transaction.commit().map_err(refused)?;
        save_sums(&self.blocks, self.sums.as_deref(), self.uuid);
        Ok(())
    }

    /// Shards and tombstones as of the last commit.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, IndexError> {
        let transaction = self.database.begin_read().map_err(refused)?;
        let shards = transaction.open_table(SHARDS).map_err(refused)?;
        let tombstones = transaction.open_table(TOMBSTONES).map_err(refused)?;
        Ok(Arc::new(Snapshot { shards, tombstones }))
    }

    /// Closes the file; what redb writes when it closes is written before this returns.
    pub(super) fn close(self) {
        let Self { database, blocks, sums, uuid } = self;
        drop(database);
        save_sums(&blocks, sums.as_deref(), uuid);
    }
}

/// Without them the next start takes longer, and that is all.
fn save_sums(blocks: &Blocks, sums: Option<&dyn DiskFile>, uuid: Option<DiskUuid>) {
    let (Some(file), Some(uuid)) = (sums, uuid) else { return };
    let saved = blocks.known().and_then(|known| sums::save(file, uuid, blocks.length()?, &known));
    if let Err(error) = saved {
        tracing::debug!(%error, "the checksums of the index were not written");
    }
}

#[cfg(test)]
mod tests {
    use model::ids::{PgId, SessionId};
    use wire::disk::SimulatedDisk;

    use super::super::SUMS_NAME;
    use super::*;

    const UUID: DiskUuid = DiskUuid([7; 16]);

    fn changes(first: u32) -> Changes {
        let mut changes = Changes::default();
        for sequence in first..first + 500 {
            let extent = ExtentId { pg: PgId(1), session: SessionId(1), sequence };
            let place = Location { segment: 1, offset: 128, record_bytes: 96, payload_bytes: 1 };
            changes.shards.insert(ShardId { extent, stripe: 0, slot: 0 }, Some(place));
        }
        changes
    }

    fn saved(position: u64) -> SavedIndex {
        let checkpoint = Checkpoint { uuid: UUID, segment: 1, offset: 128, position };
        SavedIndex { checkpoint: Some(checkpoint), scrub: vec![1, 2, 3], ..SavedIndex::default() }
    }

    /// Whether a start would find the file to be the one that was left.
    fn is_as_left(disk: &SimulatedDisk) -> bool {
        let file = disk.open(INDEX_NAME, OpenMode::Read).expect("there");
        let length = file.length().expect("length");
        let kept = sums::open(disk).expect("there");
        let known = sums::load(&*kept, UUID, length);
        known.is_some_and(|known| Blocks::new(file).adopt(known).expect("read"))
    }

    #[test]
    fn a_start_needs_no_walk_after_a_checkpoint_or_an_orderly_end() {
        let disk = SimulatedDisk::new(1);
        let mut at_rest = create(&disk, 1 << 20).expect("made");
        at_rest.commit(&changes(0), &saved(1)).expect("written");
        assert!(is_as_left(&disk), "after a checkpoint");
        at_rest.commit(&changes(1000), &saved(2)).expect("written");
        assert!(is_as_left(&disk), "after another one");
        at_rest.close();
        assert!(is_as_left(&disk), "after the end");
        let (mut at_rest, found) = open(&disk, UUID, 1 << 20).expect("opened");
        assert_eq!(found.checkpoint, saved(2).checkpoint);
        assert_eq!(found.scrub, [1, 2, 3]);
        at_rest.commit(&changes(2000), &saved(3)).expect("written");
        disk.crash();
        assert!(is_as_left(&disk), "after a crash");
        drop(at_rest);
        disk.flip_bit(INDEX_NAME, 5000, 1).expect("flipped");
        assert!(!is_as_left(&disk), "after rot");
        disk.flip_bit(INDEX_NAME, 5000, 1).expect("flipped back");
        disk.flip_bit(SUMS_NAME, 100, 1).expect("flipped");
        assert!(!is_as_left(&disk), "after rot of what is known");
        let (at_rest, found) = open(&disk, UUID, 1 << 20).expect("opened by the long way");
        assert_eq!(found.checkpoint, saved(3).checkpoint);
        let snapshot = at_rest.snapshot().expect("read");
        assert_eq!(snapshot.shards.iter().expect("read").count(), 1500);
    }
}
