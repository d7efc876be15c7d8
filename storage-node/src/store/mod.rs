//! One disk: a log of shards with an index over it.
//!
//! [`Store`] is the door: it checks what callers send, hands changes to the one writer thread and
//! answers reads itself ([`fetch`], [`verify`]). [`recover`] opens a disk, [`log`] is the writer's
//! side, [`read`] the readers', [`checkpoint`] writes the index, [`health`] and [`ledger`] tell
//! how the disk is, [`watched`] whether it answers, and [`guarded`] notices when a thread panics.
//!
//! A request is waited for as long as the disk answers anything at all. One that finds the disk
//! silent for [`watched::STALLED_AFTER`] is answered `Overloaded`.
//!
//! Cancellation: a request whose future is dropped may or may not take effect, as after a lost
//! answer. Its bytes keep their place in the queue until the writer is done with them.

use std::sync::Arc;
use std::time::Duration;

use model::checksum::blocks_verify;
use model::coding::StripeGeometry;
use model::ids::{DiskId, ExtentId, Incarnation, PgId, ShardId};
use model::limits::{EXTENT_STRIPES_MAX, OWNER_BYTES_MAX};
use model::shard::{
    CompactionReport, DiskHealth, DiskReport, LogPosition, ShardAppend, ShardError,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use wire::clock::{Clock, timeout};
use wire::disk::Disk;

mod checkpoint;
mod fetch;
mod guarded;
mod health;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod ledger;
mod log;
mod queue;
mod read;
mod recover;
mod replay;
mod shared;
mod spare;
mod superblock;
mod verify;
mod watched;

pub(crate) use health::{Health, is_shortage};
pub(crate) use log::checkpoint_bytes;
pub(crate) use queue::{Job, JobKind, Move, Queue, ShardMove};
pub use recover::OpenError;
pub(crate) use recover::{DIRECTORY, recover};
pub(crate) use shared::Shared;
pub use superblock::SuperblockError;
pub(crate) use superblock::load as load_superblock;
pub(crate) use watched::Waits;

use crate::compact::{self, Compactor};
use crate::index::DamagedRegion;
use crate::lock::lock;
use crate::options::{DiskIdentity, StoreOptions};
use crate::scrub::{self, Neighbours, ScrubControl};
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{Mutex, wait};
use checkpoint::Checkpointer;
use guarded::Guard;
use log::Log;
use queue::Taken;
use watched::{STALLED_AFTER, WatchedDisk};

/// What one permit of the queue stands for.
const PERMIT_BYTES: u64 = 4096;
/// Shards of one append, ranges of one read, extents of one delete.
const BATCH_MAX: usize = 4096;
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
    /// Who looks on an async thread whether a read needs the device.
    inline: Arc<Semaphore>,
    waits: Arc<Waits>,
    scrub: Arc<ScrubControl>,
    compactor: Arc<Compactor>,
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
        let (disk, waits) = WatchedDisk::new(disk, Arc::clone(&clock));
        let (shared, log_end) =
            recover::recover(&disk, identity, options, clock, first_checkpoint_in, changed)?;
        let shared = Arc::new(shared);
        shared.keep_spare();
        let queue = Arc::new(Queue::default());
        let (checkpointer, checkpoint_thread) =
            Checkpointer::start(Arc::clone(&shared), Arc::clone(&queue))?;
        let log = Log::new(Arc::clone(&shared), checkpointer, &log_end);
        let jobs = Arc::clone(&queue);
        let guard = Guard::new(Arc::clone(&shared), Arc::clone(&queue), "writes the log");
        let writer_thread =
            Builder::new().name(format!("disk-{}-log", identity.disk)).spawn(move || {
                let _guard = guard;
                write_until_closed(log, &jobs);
            })?;
        let compactor = Arc::new(Compactor::default());
        let compact_thread = compactor.start(Arc::clone(&shared), Arc::clone(&queue))?;
        let scrub = Arc::new(ScrubControl::new(&lock(&shared.scrub_state)));
        let neighbours = Neighbours { queue: Arc::clone(&queue), waits: Arc::clone(&waits) };
        let scrub_thread = scrub::start(Arc::clone(&shared), Arc::clone(&scrub), neighbours)?;
        let threads = [writer_thread, checkpoint_thread, scrub_thread];
        let threads = threads.into_iter().chain(compact_thread);
        let places_max = (options.queue_bytes / PERMIT_BYTES).clamp(1, 1 << 20) as u32;
        Ok(Self {
            disk: Arc::new(disk),
            shared,
            queue,
            places: Arc::new(Semaphore::new(places_max as usize)),
            places_max,
            readers: Arc::new(Semaphore::new(options.reads_parallel.max(1))),
            inline: Arc::new(Semaphore::new(1)),
            waits,
            scrub,
            compactor,
            threads: Mutex::new(threads.collect()),
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
            return Err(ShardError::Invalid("an append has 1 to 4096 shards".into()));
        }
        let bytes: u64 = shards.iter().map(|shard| shard.payload.len() as u64).sum();
        let shards = if bytes > INLINE_VERIFY_BYTES_MAX {
            self.blocking(move || check_shards(&shards).map(|()| shards)).await??
        } else {
            check_shards(&shards)?;
            shards
        };
        let held: u64 = shards.iter().map(queue::held_bytes).sum();
        let cost = held.div_ceil(PERMIT_BYTES);
        let position = self.enqueue(JobKind::Append { shards, sync }, cost).await?;
        Ok((self.shared.incarnation, position))
    }

    /// Answers when everything before `position` of run `incarnation` is durable.
    pub async fn sync(
        &self,
        incarnation: Incarnation,
        position: LogPosition,
    ) -> Result<(), ShardError> {
        if self.shared.is_durable_to(incarnation, position)? {
            return Ok(());
        }
        self.enqueue(JobKind::Sync, 1).await.map(drop)
    }

    /// Deletes every shard of the extents; answers when the tombstones are durable.
    pub async fn delete(&self, extents: Vec<ExtentId>) -> Result<(), ShardError> {
        self.shared.health.check_write()?;
        if extents.len() > BATCH_MAX {
            return Err(ShardError::Invalid("a delete has at most 4096 extents".into()));
        }
        let cost = extents.len() as u64 / 32 + 1;
        self.enqueue(JobKind::Delete { extents }, cost).await.map(drop)
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
        let work = self.blocking(move || {
            let limit = limit.min(INVENTORY_MAX) as usize;
            let shards =
                shared.index.pg(pg, after, limit).map_err(|error| shared.index_failed(&error))?;
            drop(permit);
            Ok(shards.into_iter().map(|(id, location)| (id, location.payload_bytes)).collect())
        });
        self.unless_stalled(work).await??
    }

    /// At most `limit` PGs behind `after` that the disk holds shards of, ascending.
    pub async fn groups(&self, after: Option<PgId>, limit: u32) -> Result<Vec<PgId>, ShardError> {
        self.shared.health.check_read()?;
        let permit = self.reader().await?;
        let shared = Arc::clone(&self.shared);
        let work = self.blocking(move || {
            let limit = limit.min(INVENTORY_MAX) as usize;
            let groups =
                shared.index.groups(after, limit).map_err(|error| shared.index_failed(&error))?;
            drop(permit);
            Ok(groups)
        });
        self.unless_stalled(work).await??
    }

    /// Takes a checkpoint of the index and waits until it is durable.
    pub async fn checkpoint(&self) -> Result<(), ShardError> {
        self.enqueue(JobKind::Checkpoint, 1).await.map(drop)
    }

    /// Gives back all garbage whose grace is over, as fast as it goes, and waits until that is
    /// durable. Gives the figures since the disk was opened.
    pub async fn compact(&self) -> Result<CompactionReport, ShardError> {
        self.shared.health.check_write()?;
        let (shared, queue) = (Arc::clone(&self.shared), Arc::clone(&self.queue));
        self.blocking(move || compact::reclaim_all(&shared, &queue)).await??;
        self.checkpoint().await?;
        Ok(self.shared.compaction.report())
    }

    /// What the node reports of the disk.
    pub fn report(&self) -> DiskReport {
        let mut report = DiskReport { scrub: self.scrub.report(), ..self.shared.report() };
        let silent = self.waits.stalled_for();
        self.shared.meter.stalled_seconds.set(silent.unwrap_or_default().as_secs_f64());
        if let Some(silent) = silent {
            report.health = DiskHealth::Failed;
            report.reason = Some(format!("has not answered for {} s", silent.as_secs()));
        }
        self.shared.meter.tell_scrub(&report.scrub);
        self.shared.meter.health.set(f64::from(report.health as u8));
        report
    }

    /// How long the disk has left something unanswered, if that is too long. Until it answers it
    /// is reported as failed, and requests that would wait for it are refused.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.waits.stalled_for()
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
        self.shared.keep_spare();
        self.shared.meter.queue_jobs.set(self.queue.len() as f64);
        if self.queue.len() == 0 {
            let (answer, answered) = oneshot::channel();
            // A closed queue needs no tick, nor does one that is behind.
            let pushed = self.queue.push(Job { kind: JobKind::Tick, answer, permit: None });
            if self.shared.options.in_step() && pushed.is_ok() {
                // Nothing hangs on the answer.
                let _ = wait(answered);
            }
        }
        self.compactor.wake();
    }

    /// Does what is queued, checkpoints, and joins the threads. Blocks.
    pub fn close(&self) {
        self.compactor.stop();
        self.scrub.stop();
        self.queue.close();
        self.join();
    }

    /// Stops as a crash would: what is queued is dropped, nothing is checkpointed. Blocks until
    /// the threads have noticed.
    pub fn abort(&self) {
        self.compactor.stop();
        self.scrub.stop();
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
            return Err(ShardError::Invalid("the request is larger than the disk's queue".into()));
        }
        let permit = self.place(cost as u32).await?;
        let (answer, answered) = oneshot::channel();
        let job = Job { kind, answer, permit: Some(permit) };
        self.queue.push(job).map_err(|_| ShardError::Failed(disk))?;
        self.unless_stalled(answered).await?.unwrap_or(Err(ShardError::Failed(disk)))
    }

    /// Waits for the disk as long as it answers anything. What it was asked may still take effect
    /// after this has given up, as after a lost answer; but a delete that wasn't begun by then never is.
    async fn unless_stalled<T>(&self, work: impl Future<Output = T>) -> Result<T, ShardError> {
        let mut work = std::pin::pin!(work);
        loop {
            let step = timeout(&*self.shared.clock, STALLED_AFTER / 5, work.as_mut());
            if let Ok(done) = step.await {
                return Ok(done);
            }
            self.check_answering()?;
        }
    }

    /// Whether it makes sense to wait for the disk.
    fn check_answering(&self) -> Result<(), ShardError> {
        match self.waits.stalled_for() {
            None => Ok(()),
            Some(_) => Err(self.overloaded()),
        }
    }

    /// A place in the queue, waited for within limits: that is the back-pressure.
    async fn place(&self, cost: u32) -> Result<OwnedSemaphorePermit, ShardError> {
        self.check_answering()?;
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
        self.check_answering()?;
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
        self.compactor.stop();
        self.scrub.stop();
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
        .ok_or(ShardError::Invalid("no stripe has that length".into()))?;
    if shard.id.stripe >= EXTENT_STRIPES_MAX {
        return Err(ShardError::Invalid("an extent has fewer stripes".into()));
    }
    if shard.payload.is_empty()
        || shard.payload.len() != geometry.stored_bytes(shard.id.slot) as usize
    {
        return Err(ShardError::Invalid(
            "the shard's length doesn't follow from its stripe".into(),
        ));
    }
    if shard.owner.len() > OWNER_BYTES_MAX {
        return Err(ShardError::Invalid("the owner is too long".into()));
    }
    if !blocks_verify(shard.id, 0, &shard.payload, &shard.checksums) {
        return Err(ShardError::Invalid("a checksum fails".into()));
    }
    Ok(())
}
