//! A disk in memory that fails as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::checksum::blocks_verify;
use model::coding::StripeGeometry;
use model::ids::{ClusterId, DiskId, DiskUuid, Incarnation, PgId, ShardId};
use model::limits::BLOCK_BYTES;
use model::shard::{
    CompactionReport, DiskHealth, DiskReport, ScrubOrder, ScrubReport, ShardAppend, ShardBlocks,
    ShardError, ShardRead, ShardRequest, ShardResponse, ShardState,
};
use model::time::Timestamp;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::Service;

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    /// Nothing works.
    Dead,
    /// Dies at the append after this many more.
    DiesAfter(u32),
    /// Nothing is answered.
    Hangs,
    /// Every answer takes its time.
    Slow(Duration),
    /// Syncs fail, and the disk is dead from then on.
    DiesAtSync,
    /// Restarts before the next sync and loses what wasn't synced.
    Restarts,
    /// This many reads come with a flipped bit.
    SpoilsReads(u32),
    /// This many appends are refused for a full queue.
    Overloaded(u32),
    /// Takes no writes.
    Full,
    /// Says that it took shards, and keeps none.
    Forgets,
    /// Doesn't list what it has.
    KeepsSilent,
    /// Verifies no more bytes than these in one request.
    VerifiesAtMost(u64),
}

#[derive(Default)]
struct State {
    fault: Fault,
    shards: BTreeMap<ShardId, Stored>,
    incarnation: u64,
    position: u64,
    reads: usize,
    syncs: usize,
    deletes: usize,
    looks: usize,
    scrub: ScrubReport,
}

struct Stored {
    append: ShardAppend,
    durable: bool,
}

impl Stored {
    fn is_sound(&self) -> bool {
        blocks_verify(self.append.id, 0, &self.append.payload, &self.append.checksums)
    }
}

pub struct FakeDisk {
    id: DiskId,
    /// The clock that it is slow by.
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl FakeDisk {
    pub fn new(id: u32) -> Self {
        Self::at(Arc::new(SystemClock::new()), id)
    }

    /// One that lives by this clock.
    pub fn at(clock: Arc<dyn Clock>, id: u32) -> Self {
        Self { id: DiskId(id), clock, state: Mutex::default() }
    }

    pub fn set(&self, fault: Fault) {
        self.state.lock().expect("no panic").fault = fault;
    }

    pub fn is_dead(&self) -> bool {
        self.state.lock().expect("no panic").fault == Fault::Dead
    }

    pub fn shards(&self) -> usize {
        self.state.lock().expect("no panic").shards.len()
    }

    pub fn reads(&self) -> usize {
        self.state.lock().expect("no panic").reads
    }

    pub fn deletes(&self) -> usize {
        self.state.lock().expect("no panic").deletes
    }

    /// How often it was asked which groups it has shards of: once by each look for what is left over.
    pub fn looks(&self) -> usize {
        self.state.lock().expect("no panic").looks
    }

    /// Whether it has a shard, as it was appended, and answers.
    pub fn has(&self, id: &ShardId) -> bool {
        let fault = self.state.lock().expect("no panic").fault;
        !matches!(fault, Fault::Dead | Fault::Hangs) && self.holds(id)
    }

    /// Whether it has a shard, as it was appended, whether or not it answers.
    pub fn holds(&self, id: &ShardId) -> bool {
        let state = self.state.lock().expect("no panic");
        state.shards.get(id).is_some_and(Stored::is_sound)
    }

    /// The groups that it has shards of.
    pub fn groups(&self) -> BTreeSet<PgId> {
        self.state.lock().expect("no panic").shards.keys().map(|id| id.extent.pg).collect()
    }

    /// Shards that aren't what was appended.
    pub fn damaged(&self) -> usize {
        let state = self.state.lock().expect("no panic");
        state.shards.values().filter(|stored| !stored.is_sound()).count()
    }

    /// Every shard, with its owner.
    pub fn owners(&self) -> Vec<(ShardId, Bytes)> {
        let state = self.state.lock().expect("no panic");
        state.shards.iter().map(|(id, stored)| (*id, stored.append.owner.clone())).collect()
    }

    /// Forgets the shards that `is_lost` picks.
    pub fn lose(&self, is_lost: impl Fn(&ShardId) -> bool) -> usize {
        let mut state = self.state.lock().expect("no panic");
        let before = state.shards.len();
        state.shards.retain(|id, _| !is_lost(id));
        before - state.shards.len()
    }

    pub fn syncs(&self) -> usize {
        self.state.lock().expect("no panic").syncs
    }

    pub fn is_durable(&self, id: ShardId) -> bool {
        let state = self.state.lock().expect("no panic");
        state.shards.get(&id).is_some_and(|stored| stored.durable)
    }

    pub fn owner(&self) -> Option<(ShardId, Bytes)> {
        let state = self.state.lock().expect("no panic");
        state.shards.iter().next().map(|(id, stored)| (*id, stored.append.owner.clone()))
    }

    /// Flips a bit of every shard.
    pub fn rot(&self) {
        self.rot_some(|_| true);
    }

    /// Flips a bit of the shards that `is_hit` picks.
    pub fn rot_some(&self, is_hit: impl Fn(&ShardId) -> bool) {
        let mut state = self.state.lock().expect("no panic");
        for (_, stored) in state.shards.iter_mut().filter(|(id, _)| is_hit(id)) {
            let mut payload = stored.append.payload.to_vec();
            let middle = payload.len() / 2;
            payload[middle] ^= 4;
            stored.append.payload = payload.into();
        }
    }

    /// Forgets all shards; gives them back for `restore`.
    pub fn wipe(&self) -> Wiped {
        Wiped(std::mem::take(&mut self.state.lock().expect("no panic").shards))
    }

    pub fn restore(&self, wiped: Wiped) {
        self.state.lock().expect("no panic").shards = wiped.0;
    }

    fn answer(&self, request: ShardRequest) -> ShardResponse {
        let mut state = self.state.lock().expect("no panic");
        if state.fault == Fault::Dead {
            return ShardResponse::Failed(ShardError::Failed(self.id));
        }
        match request {
            ShardRequest::Append { disk, shards, sync } => {
                assert_eq!(disk, self.id);
                match &mut state.fault {
                    Fault::DiesAfter(0) => {
                        state.fault = Fault::Dead;
                        return ShardResponse::Failed(ShardError::Failed(self.id));
                    }
                    Fault::Overloaded(left) if *left > 0 => {
                        *left -= 1;
                        return ShardResponse::Failed(ShardError::Overloaded(self.id));
                    }
                    Fault::DiesAfter(left) => *left -= 1,
                    Fault::Full => return ShardResponse::Failed(ShardError::Full(self.id)),
                    _ => {}
                }
                for append in shards {
                    check(&append);
                    state.position += append.payload.len() as u64;
                    if state.fault == Fault::Forgets {
                        continue;
                    }
                    if let Some(before) = state.shards.get_mut(&append.id)
                        && before.is_sound()
                    {
                        assert!(
                            before.append.payload == append.payload,
                            "an id is never used twice, but to replace what is damaged"
                        );
                        before.durable |= sync;
                        continue;
                    }
                    state.shards.insert(append.id, Stored { append, durable: sync });
                }
                state.syncs += usize::from(sync);
                let incarnation = Incarnation(state.incarnation);
                ShardResponse::Appended { incarnation, position: state.position }
            }
            ShardRequest::Sync { incarnation, position, .. } => {
                state.syncs += 1;
                assert!(position <= state.position);
                match state.fault {
                    Fault::DiesAtSync => {
                        state.fault = Fault::Dead;
                        return ShardResponse::Failed(ShardError::ReadOnly(self.id));
                    }
                    Fault::Restarts => {
                        state.incarnation += 1;
                        state.shards.retain(|_, stored| stored.durable);
                        state.fault = Fault::None;
                    }
                    _ => {}
                }
                if incarnation != Incarnation(state.incarnation) {
                    return ShardResponse::Failed(ShardError::WrongIncarnation(self.id));
                }
                state.shards.values_mut().for_each(|stored| stored.durable = true);
                ShardResponse::Synced
            }
            ShardRequest::Read { reads, .. } => {
                state.reads += reads.len();
                let answers = reads.iter().map(|read| self.read(&mut state, read)).collect();
                ShardResponse::Read(answers)
            }
            ShardRequest::Delete { extents, .. } => {
                state.deletes += 1;
                state.shards.retain(|id, _| !extents.contains(&id.extent));
                ShardResponse::Deleted
            }
            ShardRequest::Inventory { .. } if state.fault == Fault::KeepsSilent => {
                ShardResponse::Failed(ShardError::Failed(self.id))
            }
            ShardRequest::Inventory { pg, after, limit, .. } => {
                let ids = state.shards.iter().filter(|(id, _)| id.extent.pg == pg);
                let behind = ids.filter(|(id, _)| after.is_none_or(|after| **id > after));
                let row =
                    |(id, stored): (&ShardId, &Stored)| (*id, stored.append.payload.len() as u32);
                ShardResponse::Inventory(behind.map(row).take(limit as usize).collect())
            }
            ShardRequest::Groups { after, limit, .. } => {
                state.looks += 1;
                let groups: BTreeSet<_> = state.shards.keys().map(|id| id.extent.pg).collect();
                let behind = groups.into_iter().filter(|pg| after.is_none_or(|after| *pg > after));
                ShardResponse::Groups(behind.take(limit as usize).collect())
            }
            ShardRequest::Verify { extents, .. } => {
                let held = state.shards.iter().filter(|(id, _)| extents.contains(&id.extent));
                let bytes: usize =
                    held.clone().map(|(_, stored)| stored.append.payload.len()).sum();
                if matches!(state.fault, Fault::VerifiesAtMost(most) if bytes as u64 > most) {
                    return ShardResponse::Failed(ShardError::Failed(self.id));
                }
                let verified = |(id, stored): (&ShardId, &Stored)| {
                    let sound = stored.is_sound();
                    (*id, if sound { ShardState::Sound } else { ShardState::Damaged })
                };
                let states = held.map(verified).collect();
                // Whoever is told that a shard is sound may rely on it.
                state.shards.values_mut().for_each(|stored| stored.durable = true);
                ShardResponse::Verified(states)
            }
            ShardRequest::Damaged { after, limit, .. } => {
                let damaged = state.shards.iter().filter(|(_, stored)| !stored.is_sound());
                let behind = damaged.filter(|(id, _)| after.is_none_or(|after| **id > after));
                ShardResponse::Damaged(behind.map(|(id, _)| *id).take(limit as usize).collect())
            }
            ShardRequest::Scrub { order, .. } => {
                let is_begin = matches!(order, ScrubOrder::Begin { .. });
                let total_bytes = if is_begin { 300 } else { 0 };
                let (verified_bytes, on_demand) = (0, is_begin);
                state.scrub = ScrubReport { verified_bytes, total_bytes, on_demand, ..state.scrub };
                ShardResponse::ScrubOrdered
            }
            ShardRequest::Status => {
                let damaged = state.shards.values().filter(|stored| !stored.is_sound()).count();
                let report = DiskReport {
                    disk: self.id,
                    uuid: DiskUuid([self.id.0 as u8 + 1; 16]),
                    cluster: ClusterId([1; 16]),
                    health: DiskHealth::Ok,
                    reason: None,
                    capacity_bytes: 1000,
                    free_bytes: 500,
                    live_bytes: 0,
                    garbage_bytes: 0,
                    shards: state.shards.len() as u64,
                    incarnation: Incarnation(state.incarnation),
                    reserve_bytes: 0,
                    damaged_shards: damaged as u64,
                    scrub: state.scrub,
                    compaction: CompactionReport::default(),
                };
                // Somebody looks: time goes on.
                let scrub = &mut state.scrub;
                if scrub.on_demand && scrub.verified_bytes < scrub.total_bytes {
                    scrub.verified_bytes += 100;
                } else if scrub.on_demand {
                    let last_ended = Timestamp(scrub.last_ended.0 + 1);
                    *scrub = ScrubReport { last_ended, ..ScrubReport::default() };
                }
                ShardResponse::Status(vec![report])
            }
        }
    }

    fn read(&self, state: &mut State, read: &ShardRead) -> Result<ShardBlocks, ShardError> {
        let stored = state.shards.get(&read.id).ok_or(ShardError::NotFound(self.id, read.id))?;
        let payload = &stored.append.payload;
        assert!(read.length > 0 && read.offset + read.length <= payload.len() as u32);
        let first_block = read.offset / BLOCK_BYTES;
        let last_block = (read.offset + read.length - 1) / BLOCK_BYTES;
        let from = (first_block * BLOCK_BYTES) as usize;
        let to = (((last_block + 1) * BLOCK_BYTES) as usize).min(payload.len());
        let checksums =
            stored.append.checksums[first_block as usize..=last_block as usize].to_vec();
        let shard_bytes = payload.len() as u32;
        let mut payload = payload.slice(from..to);
        if !blocks_verify(read.id, first_block, &payload, &checksums) {
            return Err(ShardError::Corrupt(self.id, read.id));
        }
        if let Fault::SpoilsReads(left) = &mut state.fault
            && *left > 0
        {
            *left -= 1;
            let mut spoilt = payload.to_vec();
            spoilt[0] ^= 1;
            payload = spoilt.into();
        }
        let owner = stored.append.owner.clone();
        let (coding, stripe_bytes) = (stored.append.coding, stored.append.stripe_bytes);
        Ok(ShardBlocks {
            first_block,
            payload,
            checksums,
            shard_bytes,
            owner,
            coding,
            stripe_bytes,
        })
    }
}

pub struct Wiped(BTreeMap<ShardId, Stored>);

fn check(append: &ShardAppend) {
    let geometry = StripeGeometry::new(append.coding, append.stripe_bytes).expect("valid");
    assert_eq!(geometry.stored_bytes(append.id.slot) as usize, append.payload.len());
    assert!(blocks_verify(append.id, 0, &append.payload, &append.checksums));
    assert!(!append.owner.is_empty());
}

impl Service<ShardRequest, ShardResponse> for FakeDisk {
    fn serve(&self, request: ShardRequest) -> BoxFuture<'_, ShardResponse> {
        Box::pin(async move {
            let fault = self.state.lock().expect("no panic").fault;
            match fault {
                Fault::Hangs => std::future::pending::<()>().await,
                Fault::Slow(time) => self.clock.sleep(time).await,
                _ => {}
            }
            self.answer(request)
        })
    }
}
