//! The index in use: three layers, the newest first.
//!
//! *Active* takes the changes since the last checkpoint began, *frozen* those that a checkpoint
//! is writing just now, *base* is a snapshot of redb. A look-up holds the lock for the two maps
//! only, never across I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};

use model::ids::{DiskUuid, ExtentId, PgId, SessionId, ShardId};
use redb::Database;
use wire::disk::Disk;

use super::database::{self, IndexError, SavedIndex, ShardTable, refused};
use super::{Location, database as at_rest};
use crate::lock::{lock, read, write};

/// Where shards lie now; `None` where one was deleted.
pub(super) type Changes = BTreeMap<ShardId, Option<Location>>;

/// The index of one disk.
pub struct Index {
    /// `None` once closed. Held for a commit, which only the checkpoint thread makes.
    database: Mutex<Option<Database>>,
    view: RwLock<View>,
}

struct View {
    active: Changes,
    frozen: Option<Arc<Changes>>,
    base: Option<Arc<ShardTable>>,
}

impl Index {
    /// Opens the index that is there; fails when it is missing or damaged in any way.
    pub fn open(
        disk: &dyn Disk,
        uuid: DiskUuid,
        cache_bytes: usize,
    ) -> Result<(Self, SavedIndex), IndexError> {
        let (database, saved) = database::open(disk, uuid, cache_bytes)?;
        Ok((Self::over(database)?, saved))
    }

    /// Makes an empty one in place of whatever is there.
    pub fn create(disk: &dyn Disk, cache_bytes: usize) -> Result<Self, IndexError> {
        Self::over(database::create(disk, cache_bytes)?)
    }

    fn over(database: Database) -> Result<Self, IndexError> {
        let base = Some(at_rest::snapshot(&database)?);
        let view = View { active: Changes::new(), frozen: None, base };
        Ok(Self { database: Mutex::new(Some(database)), view: RwLock::new(view) })
    }

    /// Where a shard lies.
    pub fn get(&self, id: ShardId) -> Result<Option<Location>, IndexError> {
        let base = {
            let view = read(&self.view);
            if view.base.is_none() {
                return Err(IndexError::Closed);
            }
            let frozen = view.frozen.as_ref().and_then(|changes| changes.get(&id));
            if let Some(place) = view.active.get(&id).or(frozen) {
                return Ok(*place);
            }
            view.base.clone().ok_or(IndexError::Closed)?
        };
        let found = base.get(&id.to_key()).map_err(refused)?;
        Ok(found.map(|value| Location::decode(value.value())))
    }

    /// Takes changes over, which later look-ups see.
    pub fn apply(&self, changes: impl IntoIterator<Item = (ShardId, Option<Location>)>) {
        write(&self.view).active.extend(changes);
    }

    /// How many changes wait for a checkpoint to begin.
    pub fn changes(&self) -> usize {
        read(&self.view).active.len()
    }

    /// The shards of an extent.
    pub fn extent(&self, extent: ExtentId) -> Result<Vec<(ShardId, Location)>, IndexError> {
        let first = ShardId { extent, stripe: 0, slot: 0 };
        let last = ShardId { extent, stripe: u16::MAX, slot: u8::MAX };
        self.range(first, last, usize::MAX)
    }

    /// At most `limit` shards of a PG behind `after`, in key order.
    pub fn pg(
        &self,
        pg: PgId,
        after: Option<ShardId>,
        limit: usize,
    ) -> Result<Vec<(ShardId, Location)>, IndexError> {
        let lowest = ExtentId { pg, session: SessionId(0), sequence: 0 };
        let highest = ExtentId { pg, session: SessionId(u64::MAX), sequence: u32::MAX };
        let first = ShardId { extent: lowest, stripe: 0, slot: 0 };
        let last = ShardId { extent: highest, stripe: u16::MAX, slot: u8::MAX };
        match after {
            Some(after) if after >= last => Ok(Vec::new()),
            Some(after) if after >= first => {
                let mut shards = self.range(after, last, limit.saturating_add(1))?;
                shards.retain(|(id, _)| *id > after);
                shards.truncate(limit);
                Ok(shards)
            }
            _ => self.range(first, last, limit),
        }
    }

    /// At most `limit` shards from `first` to `last`, both included, in key order.
    fn range(
        &self,
        first: ShardId,
        last: ShardId,
        limit: usize,
    ) -> Result<Vec<(ShardId, Location)>, IndexError> {
        let (mut recent, base) = {
            let view = read(&self.view);
            let mut recent = Changes::new();
            if let Some(frozen) = &view.frozen {
                recent.extend(frozen.range(first..=last).map(|(id, place)| (*id, *place)));
            }
            recent.extend(view.active.range(first..=last).map(|(id, place)| (*id, *place)));
            (recent, view.base.clone().ok_or(IndexError::Closed)?)
        };
        let mut found = Vec::new();
        let (low, high) = (first.to_key(), last.to_key());
        for row in base.range::<&[u8; ShardId::KEY_BYTES]>(&low..=&high).map_err(refused)? {
            if found.len() >= limit {
                return Ok(found);
            }
            let (key, value) = row.map_err(refused)?;
            let id = ShardId::from_key(key.value()).ok_or(IndexError::Damaged("a key is none"))?;
            // What is newer and lies before this row goes first.
            while let Some(entry) = recent.first_entry().filter(|entry| *entry.key() < id) {
                let (newer, place) = entry.remove_entry();
                found.extend(place.map(|location| (newer, location)));
            }
            match recent.remove(&id) {
                Some(place) => found.extend(place.map(|location| (id, location))),
                None => found.push((id, Location::decode(value.value()))),
            }
        }
        found.extend(recent.into_iter().filter_map(|(id, place)| Some((id, place?))));
        found.truncate(limit);
        Ok(found)
    }

    /// Begins a checkpoint: what is active becomes frozen. `false` while another one is under way.
    pub fn freeze(&self) -> bool {
        let mut view = write(&self.view);
        if view.frozen.is_some() {
            return false;
        }
        let active = std::mem::take(&mut view.active);
        view.frozen = Some(Arc::new(active));
        true
    }

    /// Whether a checkpoint is under way.
    pub fn is_frozen(&self) -> bool {
        read(&self.view).frozen.is_some()
    }

    /// Ends a checkpoint: writes what is frozen with what it covers, durably. After an error the
    /// changes stay frozen and are still seen; the index at rest is as it was.
    pub fn commit(&self, saved: &SavedIndex) -> Result<usize, IndexError> {
        let frozen = read(&self.view).frozen.clone().unwrap_or_default();
        let database = lock(&self.database);
        let database = database.as_ref().ok_or(IndexError::Closed)?;
        at_rest::commit(database, &frozen, saved)?;
        let base = at_rest::snapshot(database)?;
        let mut view = write(&self.view);
        view.base = Some(base);
        view.frozen = None;
        Ok(frozen.len())
    }

    /// Lets go of the file, whoever still holds the index; later look-ups fail. What redb writes
    /// when it closes is written before this returns.
    pub fn close(&self) {
        write(&self.view).base = None;
        drop(lock(&self.database).take());
    }
}
