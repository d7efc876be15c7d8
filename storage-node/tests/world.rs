//! What the scenarios share: identities, shards whose bytes follow from their id, a disk whose
//! power fails after so many operations, and a runtime to wait on.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::{ShardAppend, ShardBlocks, ShardError, ShardRead};
use storage_node::{DiskIdentity, OpenError, Store, StoreOptions};
use wire::clock::SystemClock;
use wire::disk::{Disk, DiskFile, DiskSpace, OpenMode};
use wire::entropy::{Entropy, SeededEntropy};

pub const DISK: DiskId = DiskId(7);

pub fn identity() -> DiskIdentity {
    DiskIdentity { cluster: ClusterId([0xc1; 16]), disk: DISK, uuid: DiskUuid([0xd2; 16]) }
}

/// Small segments and frequent checkpoints, so that little work meets every border.
pub fn small() -> StoreOptions {
    StoreOptions {
        segment_bytes: 64 << 10,
        checkpoint_log_bytes: 48 << 10,
        index_cache_bytes: 1 << 20,
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

pub fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
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
    let payload = payload(id, length);
    ShardAppend {
        id,
        coding: Coding::new(1, 0).expect("valid"),
        stripe_bytes: length as u32,
        checksums: block_checksums(id, &payload).into(),
        payload,
        owner: Bytes::from_static(b"sealed owner"),
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

/// A disk whose power fails after a number of changes: from then on every change fails, and none
/// reaches the disk below.
#[derive(Clone)]
pub struct Fused {
    inner: Arc<dyn Disk>,
    left: Arc<AtomicI64>,
}

impl Fused {
    pub fn new(inner: impl Disk, changes: i64) -> Self {
        Self { inner: Arc::new(inner), left: Arc::new(AtomicI64::new(changes)) }
    }

    fn burn(left: &AtomicI64) -> io::Result<()> {
        if left.fetch_sub(1, Ordering::SeqCst) > 0 {
            Ok(())
        } else {
            Err(io::Error::other("the power is gone"))
        }
    }
}

impl Disk for Fused {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            Self::burn(&self.left)?;
        }
        let inner = self.inner.open(name, mode)?;
        Ok(Arc::new(FusedFile { inner, left: Arc::clone(&self.left) }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Self::burn(&self.left)?;
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Self::burn(&self.left)?;
        self.inner.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Self::burn(&self.left)?;
        self.inner.sync_directory()
    }

    fn subdirectory(&self, name: &str) -> io::Result<Arc<dyn Disk>> {
        let inner = self.inner.subdirectory(name)?;
        Ok(Arc::new(Self { inner, left: Arc::clone(&self.left) }))
    }

    fn space(&self) -> io::Result<DiskSpace> {
        self.inner.space()
    }

    fn is_present(&self) -> bool {
        self.inner.is_present()
    }

    fn path(&self) -> &Path {
        self.inner.path()
    }
}

struct FusedFile {
    inner: Arc<dyn DiskFile>,
    left: Arc<AtomicI64>,
}

impl DiskFile for FusedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_cached_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        Fused::burn(&self.left)?;
        self.inner.write_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Fused::burn(&self.left)?;
        self.inner.sync_data()
    }

    fn forget_cached(&self, offset: u64, length: u64) {
        self.inner.forget_cached(offset, length);
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        Fused::burn(&self.left)?;
        self.inner.set_length(length)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        Fused::burn(&self.left)?;
        self.inner.allocate(offset, length)
    }
}
