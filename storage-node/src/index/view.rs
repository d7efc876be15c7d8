//! The index in use: three layers, the newest first.
//!
//! *Active* takes the changes since the last checkpoint began, *frozen* those that a checkpoint
//! is writing just now, *base* is a snapshot of redb. A look-up holds the lock for the two maps
//! only, never across I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::sync::{Mutex, RwLock};

use model::ids::{DiskUuid, ExtentId, PgId, SessionId, ShardId};
use redb::ReadableTable;
use wire::disk::Disk;

use super::database::{self, AtRest, IndexError, Snapshot, refused};
use super::{Location, SavedIndex, Tombstone};
use crate::lock::{lock, read, write};

/// One change of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Where a shard lies now; `None` when it is deleted.
    Shard(ShardId, Option<Location>),
    /// The latest tombstone of an extent; `None` when it is needed no more.
    Tombstone(ExtentId, Option<Tombstone>),
}

/// What is newer than the index at rest.
#[derive(Default)]
pub(super) struct Changes {
    /// Where shards lie now; `None` where one was deleted.
    pub(super) shards: BTreeMap<ShardId, Option<Location>>,
    /// The latest tombstones; `None` where one was dropped.
    pub(super) tombstones: BTreeMap<ExtentId, Option<Tombstone>>,
}

impl Changes {
    fn len(&self) -> usize {
        self.shards.len() + self.tombstones.len()
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Shard(id, place) => drop(self.shards.insert(id, place)),
            Change::Tombstone(extent, tombstone) => {
                self.tombstones.insert(extent, tombstone);
            }
        }
    }
}

/// The index of one disk.
pub struct Index {
    /// `None` once closed. Held for a commit, which only the checkpoint thread makes.
    at_rest: Mutex<Option<AtRest>>,
    view: RwLock<View>,
}

struct View {
    active: Changes,
    frozen: Option<Arc<Changes>>,
    base: Option<Arc<Snapshot>>,
}

impl Index {
    /// Opens the index that is there; fails when it is missing or damaged in any way.
    pub fn open(
        disk: &dyn Disk,
        uuid: DiskUuid,
        cache_bytes: usize,
    ) -> Result<(Self, SavedIndex), IndexError> {
        let (at_rest, saved) = database::open(disk, uuid, cache_bytes)?;
        Ok((Self::over(at_rest)?, saved))
    }

    /// Makes an empty one in place of whatever is there.
    pub fn create(disk: &dyn Disk, cache_bytes: usize) -> Result<Self, IndexError> {
        Self::over(database::create(disk, cache_bytes)?)
    }

    fn over(at_rest: AtRest) -> Result<Self, IndexError> {
        let base = Some(at_rest.snapshot()?);
        let view = View { active: Changes::default(), frozen: None, base };
        Ok(Self { at_rest: Mutex::new(Some(at_rest)), view: RwLock::new(view) })
    }

    /// Where a shard lies.
    pub fn get(&self, id: ShardId) -> Result<Option<Location>, IndexError> {
        let base = {
            let view = read(&self.view);
            if view.base.is_none() {
                return Err(IndexError::Closed);
            }
            let frozen = view.frozen.as_ref().and_then(|changes| changes.shards.get(&id));
            if let Some(place) = view.active.shards.get(&id).or(frozen) {
                return Ok(*place);
            }
            view.base.clone().ok_or(IndexError::Closed)?
        };
        let found = base.shards.get(&id.to_key()).map_err(refused)?;
        Ok(found.map(|value| Location::decode(value.value())))
    }

    /// The latest tombstone of an extent, when one is kept.
    pub fn tombstone(&self, extent: ExtentId) -> Result<Option<Tombstone>, IndexError> {
        let base = {
            let view = read(&self.view);
            let frozen = view.frozen.as_ref().and_then(|changes| changes.tombstones.get(&extent));
            if let Some(found) = view.active.tombstones.get(&extent).or(frozen) {
                return Ok(found.clone());
            }
            view.base.clone().ok_or(IndexError::Closed)?
        };
        let found = base.tombstones.get(&extent.to_key()).map_err(refused)?;
        found
            .map(|value| Tombstone::decode(value.value()))
            .map(|decoded| decoded.ok_or(IndexError::Damaged("a tombstone is none")))
            .transpose()
    }

    /// Takes changes over, in order and as one: later look-ups see all of them.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        let mut view = write(&self.view);
        changes.into_iter().for_each(|change| view.active.apply(change));
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

    /// At most `limit` PGs behind `after` that there are shards of, ascending. For recovery: each
    /// takes a look-up of its own.
    pub fn groups(&self, after: Option<PgId>, limit: usize) -> Result<Vec<PgId>, IndexError> {
        let highest =
            ExtentId { pg: PgId(u32::MAX), session: SessionId(u64::MAX), sequence: u32::MAX };
        let last = ShardId { extent: highest, stripe: u16::MAX, slot: u8::MAX };
        let mut groups: Vec<PgId> = Vec::new();
        while groups.len() < limit {
            let behind = groups.last().copied().or(after);
            let Some(pg) = behind.map_or(Some(0), |pg| pg.0.checked_add(1)).map(PgId) else {
                break;
            };
            let lowest = ExtentId { pg, ..ExtentId::default() };
            let first = ShardId { extent: lowest, stripe: 0, slot: 0 };
            let Some((id, _)) = self.range(first, last, 1)?.pop() else { break };
            groups.push(id.extent.pg);
        }
        Ok(groups)
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
            let mut recent = BTreeMap::new();
            let frozen = view.frozen.iter().map(|changes| &**changes);
            for changes in frozen.chain([&view.active]) {
                let within = changes.shards.range(first..=last);
                recent.extend(within.map(|(id, place)| (*id, *place)));
            }
            (recent, view.base.clone().ok_or(IndexError::Closed)?)
        };
        let mut found = Vec::new();
        let (low, high) = (first.to_key(), last.to_key());
        for row in base.shards.range::<&[u8; ShardId::KEY_BYTES]>(&low..=&high).map_err(refused)? {
            if found.len() >= limit {
                found.truncate(limit);
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
        let mut at_rest = lock(&self.at_rest);
        let at_rest = at_rest.as_mut().ok_or(IndexError::Closed)?;
        at_rest.commit(&frozen, saved)?;
        let base = at_rest.snapshot()?;
        let mut view = write(&self.view);
        view.base = Some(base);
        view.frozen = None;
        Ok(frozen.len())
    }

    /// Lets go of the file, whoever still holds the index; later look-ups fail. What redb writes
    /// when it closes is written before this returns.
    pub fn close(&self) {
        write(&self.view).base = None;
        if let Some(at_rest) = lock(&self.at_rest).take() {
            at_rest.close();
        }
    }

    /// The live shards that lie in one segment. Reads the whole index: for repairs only.
    pub fn in_segment(&self, segment: u64) -> Result<Vec<(ShardId, Location)>, IndexError> {
        let here = |place: &Location| place.segment == segment;
        let mut found = BTreeMap::new();
        let base = {
            let view = read(&self.view);
            let frozen = view.frozen.iter().map(|changes| &**changes);
            for changes in frozen.chain([&view.active]) {
                let places = changes.shards.iter().filter_map(|(id, place)| Some((*id, (*place)?)));
                found.extend(places.filter(|(_, place)| here(place)));
            }
            view.base.clone().ok_or(IndexError::Closed)?
        };
        for row in base.shards.iter().map_err(refused)? {
            let (key, value) = row.map_err(refused)?;
            let place = Location::decode(value.value());
            if here(&place) {
                let id = ShardId::from_key(key.value());
                found.insert(id.ok_or(IndexError::Damaged("a key is none"))?, place);
            }
        }
        // What is newer than a layer says otherwise.
        let mut live = Vec::new();
        for (id, place) in found {
            if self.get(id)? == Some(place) {
                live.push((id, place));
            }
        }
        Ok(live)
    }

    /// The tombstones whose records lie in one segment. Reads the whole index: for repairs only.
    pub fn tombstones_in_segment(
        &self,
        segment: u64,
    ) -> Result<Vec<(ExtentId, Tombstone)>, IndexError> {
        let mut extents = BTreeSet::new();
        let base = {
            let view = read(&self.view);
            let frozen = view.frozen.iter().map(|changes| &**changes);
            for changes in frozen.chain([&view.active]) {
                extents.extend(changes.tombstones.keys().copied());
            }
            view.base.clone().ok_or(IndexError::Closed)?
        };
        for row in base.tombstones.iter().map_err(refused)? {
            let (key, value) = row.map_err(refused)?;
            if Tombstone::decode(value.value()).is_none_or(|found| found.segment == segment) {
                let extent = ExtentId::from_key(key.value());
                extents.insert(extent.ok_or(IndexError::Damaged("a key is none"))?);
            }
        }
        let mut found = Vec::new();
        for extent in extents {
            let kept = self.tombstone(extent)?;
            found.extend(kept.filter(|kept| kept.segment == segment).map(|kept| (extent, kept)));
        }
        Ok(found)
    }
}
