//! One disk: a log of shards with an index over it.
//!
//! [`Store`] is the door: it checks what callers send, hands changes to the one writer thread and
//! answers reads itself. [`recover`] opens a disk, [`log`] is the writer's side, [`read`] the
//! readers', [`checkpoint`] writes the index, [`health`] and [`ledger`] tell how the disk is.
//!
//! Cancellation: a request whose future is dropped may or may not take effect, as after a lost
//! answer. Its bytes keep their place in the queue until the writer is done with them.

use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use model::checksum::blocks_verify;
use model::coding::StripeGeometry;
use model::ids::{DiskId, ExtentId, Incarnation, PgId, ShardId};
use model::limits::{EXTENT_STRIPES_MAX, OWNER_BYTES_MAX};
use model::shard::{
    DiskHealth, DiskReport, LogPosition, ShardAppend, ShardBlocks, ShardError, ShardRead,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use wire::clock::{Clock, timeout};
use wire::disk::Disk;

mod checkpoint;
mod health;
mod ledger;
mod log;
mod queue;
mod read;
mod recover;
mod replay;
mod shared;
mod superblock;

pub use recover::OpenError;
pub use superblock::SuperblockError;

use crate::index::DamagedRegion;
use crate::lock::lock;
use crate::options::{DiskIdentity, StoreOptions};
use checkpoint::Checkpointer;
use log::Log;
use queue::{Job, JobKind, Queue, Taken};
use read::Access;
use shared::Shared;

/// What one permit of the queue stands for.
const PERMIT_BYTES: u64 = 4096;
/// Shards of one append, ranges of one read, extents of one delete.
const BATCH_MAX: usize = 4096;
/// Bytes of the ranges of one read.
const READ_BYTES_MAX: u64 = 64 << 20;
/// Reads up to this many bytes are tried on the caller's thread, if they are cached.
const INLINE_READ_BYTES_MAX: u64 = 256 << 10;
/// Above this many bytes, checksums are verified off the async threads.
const INLINE_VERIFY_BYTES_MAX: u64 = 8 << 20;
/// Rows of one page of an inventory.
const INVENTORY_MAX: u32 = 10_000;

/// One open disk.
pub struct Store {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    places_max: u32,
    readers: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens the disk, replays its log and starts its threads. Blocks for as long as that takes.
    ///
    /// `changed` is notified when the disk's health changes; `first_checkpoint_in` differs
    /// between disks, so that they don't all write their index at the same time.
    pub fn open(
        disk: Arc<dyn Disk>,
        identity: DiskIdentity,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        first_checkpoint_in: Duration,
        changed: Arc<Notify>,
    ) -> Result<Self, OpenError> {
        let (shared, log_end) =
            recover::recover(&*disk, identity, options, clock, first_checkpoint_in, changed)?;
        let shared = Arc::new(shared);
        let queue = Arc::new(Queue::default());
        let (checkpointer, checkpoint_thread) = Checkpointer::start(Arc::clone(&shared))?;
        let log = Log::new(Arc::clone(&shared), checkpointer, &log_end);
        let jobs = Arc::clone(&queue);
        let writer_thread = Builder::new()
            .name(format!("disk-{}-log", identity.disk))
            .spawn(move || write_until_closed(log, &jobs))?;
        let places_max = (options.queue_bytes / PERMIT_BYTES).clamp(1, 1 << 20) as u32;
        Ok(Self {
            disk,
            shared,
            queue,
            places: Arc::new(Semaphore::new(places_max as usize)),
            places_max,
            readers: Arc::new(Semaphore::new(options.reads_parallel.max(1))),
            threads: Mutex::new(vec![writer_thread, checkpoint_thread]),
        })
    }

    /// Who the disk is.
    pub fn identity(&self) -> DiskIdentity {
        self.shared.identity
    }

    /// The run of the disk.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// Everything before this position is on stable storage.
    pub fn durable(&self) -> LogPosition {
        self.shared.durable()
    }

    fn disk_id(&self) -> DiskId {
        self.shared.identity.disk
    }

    /// Appends shards, in order; with `sync`, answers when they are durable. Gives the log
    /// position behind them. When one is refused, those before it may have been appended.
    pub async fn append(
        &self,
        shards: Vec<ShardAppend>,
        sync: bool,
    ) -> Result<(Incarnation, LogPosition), ShardError> {
        self.shared.health.check_append()?;
        if shards.is_empty() || shards.len() > BATCH_MAX {
            return Err(ShardError::Invalid("an append has 1 to 4096 shards"));
        }
        let bytes: u64 = shards.iter().map(|shard| shard.payload.len() as u64).sum();
        let shards = if bytes > INLINE_VERIFY_BYTES_MAX {
            self.blocking(move || check_shards(&shards).map(|()| shards)).await??
        } else {
            check_shards(&shards)?;
            shards
        };
        let cost = bytes.div_ceil(PERMIT_BYTES) + shards.len() as u64 / 32 + 1;
        let position = self.enqueue(JobKind::Append { shards, sync }, cost).await?;
        Ok((self.shared.incarnation, position))
    }

    /// Answers when everything before `position` of run `incarnation` is durable.
    pub async fn sync(
        &self,
        incarnation: Incarnation,
        position: LogPosition,
    ) -> Result<(), ShardError> {
        if incarnation != self.shared.incarnation {
            return Err(ShardError::WrongIncarnation(self.disk_id()));
        }
        if position <= self.shared.durable() {
            return Ok(());
        }
        if position > self.shared.end() {
            return Err(ShardError::Invalid("the position lies behind the end of the log"));
        }
        self.enqueue(JobKind::Sync, 1).await.map(drop)
    }

    /// Deletes every shard of the extents; answers when the tombstones are durable.
    pub async fn delete(&self, extents: Vec<ExtentId>) -> Result<(), ShardError> {
        self.shared.health.check_write()?;
        if extents.len() > BATCH_MAX {
            return Err(ShardError::Invalid("a delete has at most 4096 extents"));
        }
        let cost = extents.len() as u64 / 32 + 1;
        self.enqueue(JobKind::Delete { extents }, cost).await.map(drop)
    }

    /// Reads ranges; each answer stands by itself, in order.
    pub async fn read(
        &self,
        reads: Vec<ShardRead>,
    ) -> Result<Vec<Result<ShardBlocks, ShardError>>, ShardError> {
        self.shared.health.check_read()?;
        let bytes: u64 = reads.iter().map(|read| u64::from(read.length)).sum();
        if reads.len() > BATCH_MAX || bytes > READ_BYTES_MAX {
            return Err(ShardError::Invalid("a read has at most 4096 ranges and 64 MiB"));
        }
        let mut answers: Vec<Option<Result<ShardBlocks, ShardError>>> = vec![None; reads.len()];
        if bytes <= INLINE_READ_BYTES_MAX {
            for (answer, read) in answers.iter_mut().zip(&reads) {
                *answer = self.shared.read_shard(read, Access::Cached).transpose();
            }
        }
        if answers.iter().all(Option::is_some) {
            self.shared.meter.reads_inline.increment(reads.len() as u64);
            return Ok(answers.into_iter().flatten().collect());
        }
        let permit = self.reader().await?;
        let shared = Arc::clone(&self.shared);
        self.blocking(move || {
            let missing = |read: &ShardRead| {
                let found = shared.read_shard(read, Access::Device).transpose();
                found.unwrap_or(Err(ShardError::Corrupt(shared.identity.disk, read.id)))
            };
            let all = answers.into_iter().zip(&reads);
            let all = all.map(|(answer, read)| answer.unwrap_or_else(|| missing(read))).collect();
            drop(permit);
            all
        })
        .await
    }

    /// At most `limit` shards of a PG with their lengths, behind `after`, in key order.
    pub async fn inventory(
        &self,
        pg: PgId,
        after: Option<ShardId>,
        limit: u32,
    ) -> Result<Vec<(ShardId, u32)>, ShardError> {
        self.shared.health.check_read()?;
        let permit = self.reader().await?;
        let shared = Arc::clone(&self.shared);
        self.blocking(move || {
            let limit = limit.min(INVENTORY_MAX) as usize;
            let shards =
                shared.index.pg(pg, after, limit).map_err(|error| shared.index_failed(&error))?;
            drop(permit);
            Ok(shards.into_iter().map(|(id, location)| (id, location.payload_bytes)).collect())
        })
        .await?
    }

    /// Takes a checkpoint of the index and waits until it is durable.
    pub async fn checkpoint(&self) -> Result<(), ShardError> {
        self.enqueue(JobKind::Checkpoint, 1).await.map(drop)
    }

    /// What the node reports of the disk.
    pub fn report(&self) -> DiskReport {
        self.shared.report()
    }

    /// The regions of the log that are damaged and quarantined.
    pub fn damaged_regions(&self) -> Vec<DamagedRegion> {
        lock(&self.shared.ledger).damage()
    }

    /// Looks whether the disk is still there and has space, and lets the log tell what is
    /// durable. To be called about once a second, off the async threads.
    pub fn look_after(&self) {
        if !self.disk.is_present() {
            self.shared.health.worsen(DiskHealth::Failed, "its directory is gone");
        }
        self.shared.look_at_space();
        self.shared.meter.queue_jobs.set(self.queue.len() as f64);
        let (answer, _) = oneshot::channel();
        // A closed queue needs no tick.
        let _ = self.queue.push(Job { kind: JobKind::Tick, answer, permit: None });
    }

    /// Does what is queued, checkpoints, and joins the threads. Blocks.
    pub fn close(&self) {
        self.queue.close();
        self.join();
    }

    /// Stops as a crash would: what is queued is dropped, nothing is checkpointed. Blocks until
    /// the threads have noticed.
    pub fn abort(&self) {
        self.queue.abort();
        self.join();
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            if thread.join().is_err() {
                self.shared.health.worsen(DiskHealth::Failed, "a thread of the disk panicked");
            }
        }
        // Now, and not when the last holder of the store is gone: the disk may be opened again.
        self.shared.index.close();
    }

    async fn enqueue(&self, kind: JobKind, cost: u64) -> Result<LogPosition, ShardError> {
        let disk = self.disk_id();
        if cost > u64::from(self.places_max) {
            return Err(ShardError::Invalid("the request is larger than the disk's queue"));
        }
        let permit = self.place(cost as u32).await?;
        let (answer, answered) = oneshot::channel();
        let job = Job { kind, answer, permit: Some(permit) };
        self.queue.push(job).map_err(|_| ShardError::Failed(disk))?;
        answered.await.unwrap_or(Err(ShardError::Failed(disk)))
    }

    /// A place in the queue, waited for within limits: that is the back-pressure.
    async fn place(&self, cost: u32) -> Result<OwnedSemaphorePermit, ShardError> {
        let places = || Arc::clone(&self.places);
        if let Ok(permit) = places().try_acquire_many_owned(cost) {
            return Ok(permit);
        }
        let wait = self.shared.options.queue_wait;
        let place = timeout(&*self.shared.clock, wait, places().acquire_many_owned(cost)).await;
        place.ok().and_then(Result::ok).ok_or_else(|| self.overloaded())
    }

    fn overloaded(&self) -> ShardError {
        self.shared.meter.failure("overloaded");
        ShardError::Overloaded(self.disk_id())
    }

    async fn reader(&self) -> Result<OwnedSemaphorePermit, ShardError> {
        let wait = self.shared.options.queue_wait;
        let readers = Arc::clone(&self.readers);
        let place = timeout(&*self.shared.clock, wait, readers.acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(|| self.overloaded())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ShardError> {
        // It fails only when the runtime ends or the work panics; the answer is unknown then.
        tokio::task::spawn_blocking(work).await.map_err(|_| ShardError::Failed(self.disk_id()))
    }
}

impl Drop for Store {
    /// Ends the threads without waiting for them; [`Store::close`] is the orderly way.
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn write_until_closed(mut log: Log, queue: &Queue) {
    loop {
        match queue.take() {
            Taken::Jobs(jobs) => log.run(jobs),
            Taken::Closed => return log.finish(),
            Taken::Aborted => return,
        }
    }
}

/// Whether each shard is what its sender computed, and can be one at all.
fn check_shards(shards: &[ShardAppend]) -> Result<(), ShardError> {
    shards.iter().try_for_each(check_shard)
}

fn check_shard(shard: &ShardAppend) -> Result<(), ShardError> {
    let geometry = StripeGeometry::new(shard.coding, shard.stripe_bytes)
        .ok_or(ShardError::Invalid("no stripe has that length"))?;
    if shard.id.stripe >= EXTENT_STRIPES_MAX {
        return Err(ShardError::Invalid("an extent has fewer stripes"));
    }
    if shard.payload.is_empty()
        || shard.payload.len() != geometry.stored_bytes(shard.id.slot) as usize
    {
        return Err(ShardError::Invalid("the shard's length doesn't follow from its stripe"));
    }
    if shard.owner.len() > OWNER_BYTES_MAX {
        return Err(ShardError::Invalid("the owner is too long"));
    }
    if !blocks_verify(shard.id, 0, &shard.payload, &shard.checksums) {
        return Err(ShardError::Invalid("a checksum fails"));
    }
    Ok(())
}
