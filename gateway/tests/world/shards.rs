//! A storage node in memory: shards in a map, which can be lost on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{DiskId, Incarnation, PgId, ShardId};
use model::limits::BLOCK_BYTES;
use model::shard::{ShardBlocks, ShardError, ShardRead, ShardRequest, ShardResponse, ShardState};
use wire::BoxFuture;
use wire::network::Service;

/// All disks of the cluster.
#[derive(Default)]
pub struct MemoryShards {
    shards: Mutex<BTreeMap<(DiskId, ShardId), Bytes>>,
}

impl MemoryShards {
    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.shards.lock().expect("shards").len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.shards.lock().expect("shards").values().map(Bytes::len).sum()
    }

    /// Loses every shard of these disks.
    pub fn lose(&self, disks: std::ops::Range<u32>) {
        self.shards.lock().expect("shards").retain(|(disk, _), _| !disks.contains(&disk.0));
    }

    fn read(&self, disk: DiskId, read: ShardRead) -> Result<ShardBlocks, ShardError> {
        let shards = self.shards.lock().expect("shards");
        let payload = shards.get(&(disk, read.id)).ok_or(ShardError::NotFound(disk, read.id))?;
        let first_block = read.offset / BLOCK_BYTES;
        let start = (first_block * BLOCK_BYTES) as usize;
        let end = (read.offset + read.length).next_multiple_of(BLOCK_BYTES) as usize;
        let end = end.min(payload.len());
        let blocks = first_block as usize..end.div_ceil(BLOCK_BYTES as usize);
        Ok(ShardBlocks {
            first_block,
            payload: payload.slice(start..end),
            checksums: block_checksums(read.id, payload)[blocks].to_vec(),
            shard_bytes: payload.len() as u32,
            owner: Bytes::new(),
            coding: Coding::default_for(6).expect("a coding"),
            stripe_bytes: 0,
        })
    }

    fn answer(&self, request: ShardRequest) -> ShardResponse {
        match request {
            ShardRequest::Append { disk, shards, .. } => {
                let mut all = self.shards.lock().expect("shards");
                for shard in shards {
                    all.insert((disk, shard.id), shard.payload);
                }
                ShardResponse::Appended { incarnation: Incarnation(1), position: 1 }
            }
            ShardRequest::Sync { .. } => ShardResponse::Synced,
            ShardRequest::Read { disk, reads } => {
                ShardResponse::Read(reads.into_iter().map(|read| self.read(disk, read)).collect())
            }
            ShardRequest::Delete { disk, extents } => {
                let mut all = self.shards.lock().expect("shards");
                all.retain(|(on, shard), _| *on != disk || !extents.contains(&shard.extent));
                ShardResponse::Deleted
            }
            ShardRequest::Inventory { disk, pg, after, limit } => {
                let all = self.shards.lock().expect("shards");
                let mut held: Vec<_> = all
                    .iter()
                    .filter(|((on, id), _)| *on == disk && id.extent.pg == pg && after < Some(*id))
                    .map(|((_, id), payload)| (*id, payload.len() as u32))
                    .collect();
                held.sort_unstable();
                held.truncate(limit as usize);
                ShardResponse::Inventory(held)
            }
            ShardRequest::Verify { disk, extents } => {
                let all = self.shards.lock().expect("shards");
                let mut held: Vec<_> = all
                    .keys()
                    .filter(|(on, id)| *on == disk && extents.contains(&id.extent))
                    .map(|(_, id)| (*id, ShardState::Sound))
                    .collect();
                held.sort_unstable_by_key(|(id, _)| *id);
                ShardResponse::Verified(held)
            }
            ShardRequest::Damaged { .. } => ShardResponse::Damaged(Vec::new()),
            ShardRequest::Scrub { .. } => ShardResponse::ScrubOrdered,
            ShardRequest::Status => ShardResponse::Status(Vec::new()),
            ShardRequest::Groups { disk, after, limit } => {
                let all = self.shards.lock().expect("shards");
                let on_it = all.keys().filter(|(on, _)| *on == disk).map(|(_, id)| id.extent.pg);
                let groups: BTreeSet<PgId> = on_it.filter(|pg| after < Some(*pg)).collect();
                ShardResponse::Groups(groups.into_iter().take(limit as usize).collect())
            }
        }
    }
}

impl Service<ShardRequest, ShardResponse> for MemoryShards {
    fn serve(&self, request: ShardRequest) -> BoxFuture<'_, ShardResponse> {
        Box::pin(std::future::ready(self.answer(request)))
    }
}
