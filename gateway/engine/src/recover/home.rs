//! The shards of a group, on whatever disks they are, and their way to the disks that the map has their
//! slots on: readers, repair and adoption look nowhere else.
//!
//! What always holds: a shard is given to the disk of its slot as it was read and verified, and durably;
//! where it was it stays. Only extents that the tables don't know go that way, and such as were written
//! since the tables were put back, by a map that was older than the disks: what they know besides is
//! brought home by those who clear up after moves.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};
use model::checksum::block_checksums;
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::ids::{DiskId, ExtentId, ShardId};
use model::query::MetadataError;
use model::recovery::Held;
use model::shard::ShardAppend;
use model::upkeep::ExtentState;

use super::report::RecoverMeter;
use super::scan::look;
use crate::pace::Pace;
use crate::read::read_shard_and_owner;
use crate::scrub::extent_states;
use crate::shared::Shared;
use crate::write::append;

/// Shards that are copied at once; the engine's budget of repair bounds their memory.
const COPIES_AT_ONCE: usize = 8;

/// The shards of a group with their lengths, by the disks that hold them.
#[derive(Debug, Default)]
pub(super) struct GroupShards(pub(super) BTreeMap<DiskId, BTreeMap<ShardId, u32>>);

/// A shard that isn't where its slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) id: ShardId,
    /// The disk that its slot is on.
    home: DiskId,
    /// The disks that hold it, and how long it is there.
    pub(super) at: Vec<(DiskId, u32)>,
}

impl GroupShards {
    /// The shards that the disks of their slots lack.
    fn away(&self, pg: &Pg) -> Vec<Away> {
        let mut away: BTreeMap<ShardId, Away> = BTreeMap::new();
        for (disk, shards) in &self.0 {
            for (id, bytes) in shards {
                let Some(home) = pg.disks.get(usize::from(id.slot)).copied() else { continue };
                if self.0.get(&home).is_some_and(|shards| shards.contains_key(id)) {
                    continue;
                }
                let fresh = Away { id: *id, home, at: Vec::new() };
                away.entry(*id).or_insert(fresh).at.push((*disk, *bytes));
            }
        }
        away.into_values().collect()
    }
}

/// What shards are brought home with.
pub(super) struct Carrier<'a> {
    pub(super) shared: &'a Shared,
    pub(super) map: &'a ClusterMap,
    pub(super) held: &'a Held,
    pub(super) meter: &'a RecoverMeter,
    pub(super) pace: &'a Pace,
}

impl Carrier<'_> {
    /// Gives the shards of a group that must be found to the disks that `pg` has their slots on. Out:
    /// those that couldn't be given.
    pub(super) async fn bring_home(
        &self,
        pg: &Pg,
        shards: &mut GroupShards,
    ) -> Result<Vec<Away>, MetadataError> {
        let mut away = shards.away(pg);
        let ids: BTreeSet<ExtentId> = away.iter().map(|away| away.id.extent).collect();
        let needed = self.needed(ids).await?;
        away.retain(|away| needed.contains(&away.id.extent));
        let mut copies = stream::iter(away)
            .map(async |away| (self.copy(&away).await, away))
            .buffer_unordered(COPIES_AT_ONCE);
        let mut left = Vec::new();
        while let Some((copied, away)) = copies.next().await {
            match copied {
                Some(bytes) => {
                    shards.0.entry(away.home).or_default().insert(away.id, bytes);
                    self.meter.change(|figures| figures.brought_home += 1);
                }
                None => left.push(away),
            }
        }
        Ok(left)
    }

    /// Those of some extents that are to be found.
    async fn needed(
        &self,
        extents: BTreeSet<ExtentId>,
    ) -> Result<BTreeSet<ExtentId>, MetadataError> {
        let ids: Vec<ExtentId> = extents.into_iter().collect();
        let states = extent_states(self.shared, &ids).await?;
        let is_needed = |(id, state): &(ExtentId, ExtentState)| match state {
            ExtentState::Held => true,
            ExtentState::Owned | ExtentState::InFlight => id.session > self.held.until(),
            ExtentState::Garbage | ExtentState::Ownerless | ExtentState::Foreign => false,
        };
        Ok(ids.into_iter().zip(states).filter(is_needed).map(|(id, _)| id).collect())
    }

    /// Gives one to the disk of its slot. Out: its bytes.
    async fn copy(&self, away: &Away) -> Option<u32> {
        if self.map.disk(away.home)?.state != DiskState::Up {
            return None;
        }
        for (disk, bytes) in &away.at {
            let (clock, patience) = (&*self.shared.clock, self.shared.options.budget_wait);
            let budget = &self.shared.repair.budget;
            let _memory = budget.acquire(u64::from(*bytes), clock, patience).await?;
            let Some(shard) = self.read(*disk, away.id, *bytes).await else { continue };
            self.pace.spend(u64::from(*bytes)).await;
            let (_, _, appended) = append(self.shared, away.home, shard, true).await;
            if appended.is_ok() {
                return Some(*bytes);
            }
        }
        None
    }

    /// Reads a whole shard, with all that is told of it.
    async fn read(&self, disk: DiskId, id: ShardId, bytes: u32) -> Option<ShardAppend> {
        let told = look(self.shared, disk, id).await.filter(|told| told.shard_bytes == bytes)?;
        let read = read_shard_and_owner(self.shared, disk, id, bytes, 0..bytes).await;
        let (piece, owner) = read.ok()?;
        Some(ShardAppend {
            id,
            coding: told.coding,
            stripe_bytes: told.stripe_bytes,
            checksums: block_checksums(id, &piece.bytes).into(),
            payload: piece.bytes,
            owner,
        })
    }
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::ids::{PgId, SessionId};

    use super::*;

    #[test]
    fn what_the_disk_of_its_slot_has_is_not_away() {
        let coding = Coding::parse("2+1").expect("valid");
        let pg = Pg::new(PgId(5), coding, vec![DiskId(1), DiskId(2), DiskId(3)]);
        let extent = ExtentId { pg: pg.id, session: SessionId(1), sequence: 1 };
        let shard = |slot| ShardId { extent, stripe: 0, slot };
        let on = |slots: &[u8]| slots.iter().map(|slot| (shard(*slot), 9)).collect();
        let mut shards = GroupShards(BTreeMap::from([
            (DiskId(1), on(&[0, 1])),
            (DiskId(3), on(&[0, 7])),
            (DiskId(4), on(&[1, 2])),
        ]));
        let away = shards.away(&pg);
        let expected = [
            Away { id: shard(1), home: DiskId(2), at: vec![(DiskId(1), 9), (DiskId(4), 9)] },
            Away { id: shard(2), home: DiskId(3), at: vec![(DiskId(4), 9)] },
        ];
        assert_eq!(away, expected, "a slot that the group doesn't have is nowhere at home");
        shards.0.insert(DiskId(2), on(&[1]));
        assert_eq!(shards.away(&pg), expected[1..]);
    }
}
