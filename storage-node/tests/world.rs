//! What the scenarios share: identities, shards whose bytes follow from their id, and a runtime
//! to wait on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::{ShardAppend, ShardBlocks, ShardError, ShardRead};
use storage_node::{DiskIdentity, OpenError, Store, StoreOptions};
use wire::clock::SystemClock;
use wire::disk::Disk;
use wire::entropy::{Entropy, SeededEntropy};

pub const DISK: DiskId = DiskId(7);
/// Bytes of every shard's owner.
pub const OWNER_BYTES: u8 = OWNER.len() as u8;
const OWNER: &[u8] = b"sealed owner";

pub fn identity() -> DiskIdentity {
    DiskIdentity { cluster: ClusterId([0xc1; 16]), disk: DISK, uuid: DiskUuid([0xd2; 16]) }
}

/// Small segments and frequent checkpoints, so that little work meets every border.
pub fn small() -> StoreOptions {
    StoreOptions {
        segment_bytes: 64 << 10,
        checkpoint_log_bytes: 48 << 10,
        index_cache_bytes: 1 << 20,
        spare_bytes: 0,
        ..StoreOptions::default()
    }
}

pub fn open_with(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Store, OpenError> {
    let clock = Arc::new(SystemClock::new());
    Store::open(disk, identity(), options, clock, Duration::from_mins(1), Arc::default())
}

pub fn open(disk: &(impl Disk + Clone)) -> Store {
    open_with(Arc::new(disk.clone()), small()).expect("opened")
}

thread_local! {
    /// One for each test: making it costs more than most of what is waited for.
    static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
}

pub fn wait<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(work))
}

pub fn extent(pg: u32, sequence: u32) -> ExtentId {
    ExtentId { pg: PgId(pg), session: SessionId(1), sequence }
}

pub fn id(pg: u32, sequence: u32, stripe: u16) -> ShardId {
    ShardId { extent: extent(pg, sequence), stripe, slot: 0 }
}

/// The bytes of a shard: they follow from its id and length.
pub fn payload(id: ShardId, length: usize) -> Bytes {
    let key = id.to_key();
    let seed = key.iter().fold(length as u64, |sum, byte| {
        sum.wrapping_mul(0x100_0000_01b3).wrapping_add(u64::from(*byte))
    });
    let mut bytes = vec![0; length];
    SeededEntropy::new(seed).fill(&mut bytes);
    Bytes::from(bytes)
}

pub fn shard(id: ShardId, length: usize) -> ShardAppend {
    shard_of(id, payload(id, length))
}

/// A valid shard of other bytes than [`shard`]'s.
pub fn other_shard(id: ShardId, length: usize) -> ShardAppend {
    let mut bytes = payload(id, length).to_vec();
    bytes[length / 2] ^= 1;
    shard_of(id, Bytes::from(bytes))
}

fn shard_of(id: ShardId, payload: Bytes) -> ShardAppend {
    ShardAppend {
        id,
        coding: Coding::new(1, 0).expect("valid"),
        stripe_bytes: payload.len() as u32,
        checksums: block_checksums(id, &payload).into(),
        payload,
        owner: Bytes::from_static(OWNER),
    }
}

/// Appends one shard and syncs it.
pub fn put(store: &Store, id: ShardId, length: usize) -> Result<(), ShardError> {
    wait(store.append(vec![shard(id, length)], true)).map(drop)
}

pub fn read(
    store: &Store,
    id: ShardId,
    offset: u32,
    length: u32,
) -> Result<ShardBlocks, ShardError> {
    let reads = vec![ShardRead { id, offset, length }];
    wait(store.read(reads))?.pop().expect("an answer for each range")
}

/// Whether the shard reads back with exactly its bytes; an error is the store's answer.
pub fn whole(store: &Store, id: ShardId, length: usize) -> Result<(), ShardError> {
    let blocks = read(store, id, 0, length as u32)?;
    assert_eq!(blocks.payload, payload(id, length), "wrong bytes of shard {id}");
    Ok(())
}
