//! The reference: a map from shards to what has been promised of them.
//!
//! Answers of the store go in, and what may be read afterwards comes out. It knows nothing of
//! segments, positions in files or the index; only receipts are compared with the durable position
//! that the store tells.

use std::collections::BTreeMap;
use std::time::Duration;

use model::ids::{ExtentId, Incarnation, ShardId};
use model::shard::LogPosition;
use wire::entropy::{Entropy, SeededEntropy};

use crate::world::id;

/// PGs that extents lie in.
pub const PGS: u32 = 4;
const EXTENT_SHARDS: u32 = 3;

/// What was promised of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged as durable: it is there.
    Kept,
    /// It was answered, but not as durable: it is there until a crash, and perhaps after it.
    Answered,
    /// Nothing is known of it, or of its deletion: it is there or it isn't.
    Open,
    /// It was never acknowledged, and wasn't there after a restart: it isn't there.
    Absent,
    /// Its deletion was acknowledged: it isn't there.
    Gone,
    /// Rot hit its record: it is told as damaged, or as absent beside damage that is told.
    Damaged,
    /// Rot hit the tombstone of its extent: it may be back whenever the index is rebuilt.
    Haunted,
}

/// One shard.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub length: u32,
    pub fate: Fate,
}

struct Receipt {
    position: LogPosition,
    ids: Vec<ShardId>,
}

/// All shards of a disk, and the receipts that were given for them.
#[derive(Default)]
pub struct Model {
    pub shards: BTreeMap<ShardId, Entry>,
    receipts: Vec<Receipt>,
    /// Shards that were there when their extent was deleted, and when that was.
    deleted: Vec<(Duration, Vec<ShardId>)>,
    last_run: Option<(Incarnation, LogPosition)>,
    next: u32,
}

impl Model {
    /// An id that was never used, with a length for it. Several make an extent.
    pub fn fresh(&mut self, entropy: &SeededEntropy) -> (ShardId, u32) {
        self.next += 1;
        let extent = self.next / EXTENT_SHARDS;
        let length = match entropy.below(24) {
            0 => 1 + entropy.below(150_000) as u32,
            1 => 65_536,
            _ => 1 + entropy.below(5000) as u32,
        };
        (id(extent % PGS, extent, (self.next % EXTENT_SHARDS) as u16), length)
    }

    /// Any shard whose fate is asked for.
    pub fn any(
        &self,
        entropy: &SeededEntropy,
        wanted: impl Fn(Fate) -> bool,
    ) -> Option<(ShardId, Entry)> {
        if self.shards.is_empty() {
            return None;
        }
        // From a random place on, the first that suits: cheap, and random enough.
        let from = entropy.below(self.shards.len() as u64) as usize;
        let all = self.shards.iter().skip(from).chain(self.shards.iter().take(from));
        all.map(|(id, entry)| (*id, *entry)).find(|(_, entry)| wanted(entry.fate))
    }

    pub fn set(&mut self, id: ShardId, length: u32, fate: Fate) {
        self.shards.insert(id, Entry { length, fate });
    }

    /// An append was asked for and not answered yet.
    pub fn asked(&mut self, batch: &[(ShardId, u32)]) {
        for (id, length) in batch {
            self.set(*id, *length, Fate::Open);
        }
    }

    /// An append without a sync was answered.
    pub fn answered(&mut self, batch: &[(ShardId, u32)], position: LogPosition) {
        for (id, length) in batch {
            self.set(*id, *length, Fate::Answered);
        }
        self.receipts.push(Receipt { position, ids: batch.iter().map(|(id, _)| *id).collect() });
    }

    /// Everything before `position` is durable.
    pub fn durable(&mut self, position: LogPosition) {
        let shards = &mut self.shards;
        self.receipts.retain(|receipt| {
            if receipt.position > position {
                return true;
            }
            for id in &receipt.ids {
                if let Some(entry) = shards.get_mut(id)
                    && entry.fate == Fate::Answered
                {
                    entry.fate = Fate::Kept;
                }
            }
            false
        });
    }

    /// A receipt of this run that may be synced.
    pub fn receipt(&self, entropy: &SeededEntropy) -> Option<LogPosition> {
        let at = entropy.below(self.receipts.len() as u64) as usize;
        self.receipts.get(at).map(|receipt| receipt.position)
    }

    /// A receipt of an earlier run, which must not be honoured any more.
    pub fn old_receipt(&self) -> Option<(Incarnation, LogPosition)> {
        self.last_run
    }

    /// The deletion of an extent was answered, or asked for in vain.
    pub fn deleted(&mut self, extent: ExtentId, answered: bool, now: Duration) {
        if answered {
            let own = self.shards.iter().filter(|(id, _)| id.extent == extent);
            let kept = own.filter(|(_, entry)| entry.fate == Fate::Kept).map(|(id, _)| *id);
            self.deleted.push((now, kept.collect()));
        }
        for (_, entry) in self.shards.iter_mut().filter(|(id, _)| id.extent == extent) {
            entry.fate = match (entry.fate, answered) {
                // The store knows of nothing to delete, and writes no second tombstone.
                (Fate::Haunted, _) => Fate::Haunted,
                (Fate::Gone, _) | (_, true) => Fate::Gone,
                (Fate::Absent, false) => Fate::Absent,
                (_, false) => Fate::Open,
            };
        }
        // The extent is never written to again.
        self.next = (self.next / EXTENT_SHARDS + 1) * EXTENT_SHARDS;
    }

    /// The shards that were deleted so lately that they must be recoverable.
    pub fn within_grace(&mut self, now: Duration, grace: Duration) -> Vec<ShardId> {
        self.deleted.retain(|(deleted, _)| now.saturating_sub(*deleted) < grace);
        self.deleted.iter().flat_map(|(_, ids)| ids.iter().copied()).collect()
    }

    /// The run has ended: what wasn't acknowledged as durable is open from now on.
    pub fn ended(&mut self, run: Incarnation, crashed: bool) {
        if let Some(receipt) = self.receipts.last() {
            self.last_run = Some((run, receipt.position));
        }
        self.receipts.clear();
        for entry in self.shards.values_mut() {
            entry.fate = match entry.fate {
                Fate::Answered if crashed => Fate::Open,
                // An orderly end syncs; what follows is a check in which it must be there.
                Fate::Answered => Fate::Kept,
                fate => fate,
            };
        }
    }
}
