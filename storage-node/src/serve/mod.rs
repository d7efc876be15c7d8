//! The node: many disks behind one service.
//!
//! A disk that can't be opened is reported as failed and stops nothing else. Disks may be added
//! while the node runs.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use model::ids::{DiskId, Incarnation, NodeId};
use model::query::Heartbeat;
use model::shard::{
    CompactionReport, DiskHealth, DiskReport, ScrubReport, ShardError, ShardRequest, ShardResponse,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use wire::BoxFuture;
use wire::clock::Clock;
use wire::disk::Disk;
use wire::entropy::Entropy;
use wire::network::Service;

mod heartbeat;

pub use heartbeat::HeartbeatReporter;

use crate::lock::{lock, read, write};
use crate::options::{DiskIdentity, StoreOptions};
use crate::store::{OpenError, Store};
use crate::sync::{Mutex, RwLock};

/// How long a node that starts waits for its disks. A healthy disk of any size is there far
/// sooner; one that stalls, or whose index is rebuilt, doesn't keep the others from serving.
pub const OPEN_WAIT: Duration = Duration::from_secs(30);

/// How often it looks whether that time is over.
const OPEN_LOOK: Duration = Duration::from_millis(50);

/// Why a disk of the node was not opened.
#[derive(Debug, thiserror::Error)]
#[error("disk {disk}: {error}")]
pub struct DiskOpenError {
    /// The disk.
    pub disk: DiskId,
    /// What is wrong with it.
    #[source]
    pub error: OpenError,
}

/// A host process that keeps disks.
pub struct StorageNode {
    node: NodeId,
    options: StoreOptions,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    disks: RwLock<BTreeMap<DiskId, Slot>>,
    /// Notified when a disk's health changes.
    changed: Arc<Notify>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Clone)]
enum Slot {
    Open(Arc<Store>),
    /// A thread is at it.
    Opening(DiskIdentity),
    /// Not opened, and why.
    Failed(DiskIdentity, String),
}

impl StorageNode {
    /// Opens the disks, all at the same time, and waits for them; blocks. Those that fail are
    /// told of, and reported as failed by the node. So are those that take longer than
    /// [`OPEN_WAIT`]: they join when they are open.
    pub fn open(
        node: NodeId,
        disks: Vec<(Arc<dyn Disk>, DiskIdentity)>,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> (Arc<Self>, Vec<DiskOpenError>) {
        let opened = Arc::new(Self {
            node,
            options,
            clock,
            entropy,
            disks: RwLock::default(),
            changed: Arc::default(),
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
        });
        let (done, outcomes) = mpsc::channel();
        let mut under_way = 0;
        let mut errors = Vec::new();
        for (disk, identity) in disks {
            let (this, done) = (Arc::clone(&opened), done.clone());
            write(&this.disks).insert(identity.disk, Slot::Opening(identity));
            let opening = thread::Builder::new().name(format!("disk-{}-open", identity.disk));
            let opening = opening.spawn(move || {
                // Whoever waits may have given up.
                let _ = done.send(this.open_disk(disk, identity));
            });
            match opening {
                Ok(_) => under_way += 1,
                Err(error) => {
                    let slot = Slot::Failed(identity, error.to_string());
                    write(&opened.disks).insert(identity.disk, slot);
                    errors.push(DiskOpenError { disk: identity.disk, error: error.into() });
                }
            }
        }
        drop(done);
        let began = opened.clock.monotonic();
        while under_way > 0 {
            match outcomes.recv_timeout(OPEN_LOOK) {
                Ok(outcome) => {
                    under_way -= 1;
                    errors.extend(outcome.err());
                }
                Err(_) if opened.clock.monotonic().saturating_sub(began) < OPEN_WAIT => {}
                Err(_) => {
                    tracing::error!(%node, disks = under_way, "some disks are still being opened");
                    break;
                }
            }
        }
        (opened, errors)
    }

    /// Opens one more disk, or again one that had failed to open; blocks. One that is open, or
    /// being opened, is refused.
    pub fn add_disk(
        &self,
        disk: Arc<dyn Disk>,
        identity: DiskIdentity,
    ) -> Result<(), DiskOpenError> {
        {
            let mut disks = write(&self.disks);
            if matches!(disks.get(&identity.disk), Some(Slot::Open(_) | Slot::Opening(_))) {
                return Err(DiskOpenError { disk: identity.disk, error: OpenError::AlreadyOpen });
            }
            disks.insert(identity.disk, Slot::Opening(identity));
        }
        self.open_disk(disk, identity)
    }

    fn open_disk(&self, disk: Arc<dyn Disk>, identity: DiskIdentity) -> Result<(), DiskOpenError> {
        let age = self.options.checkpoint_age.as_millis() as u64;
        let first = Duration::from_millis(age / 2 + self.entropy.below(age / 2 + 1));
        let (options, clock) = (self.options, Arc::clone(&self.clock));
        let changed = Arc::clone(&self.changed);
        let store = catch_unwind(AssertUnwindSafe(|| {
            Store::open(disk, identity, options, clock, first, changed)
        }))
        .unwrap_or_else(|_| Err(OpenError::Io(io::Error::other("opening it panicked"))));
        let (slot, outcome) = match store {
            Ok(store) => (Slot::Open(Arc::new(store)), Ok(())),
            Err(error) => {
                tracing::error!(disk = %identity.disk, %error, "the disk was not opened");
                let reason = error.to_string();
                let error = DiskOpenError { disk: identity.disk, error };
                (Slot::Failed(identity, reason), Err(error))
            }
        };
        write(&self.disks).insert(identity.disk, slot);
        if *self.stop.borrow() {
            // The node was shut down in the meantime.
            self.stores().iter().for_each(|store| store.close());
        }
        self.changed.notify_one();
        outcome
    }

    /// Who this node is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The open disks.
    pub fn stores(&self) -> Vec<Arc<Store>> {
        let disks = read(&self.disks);
        let open = disks.values().filter_map(|slot| match slot {
            Slot::Open(store) => Some(Arc::clone(store)),
            Slot::Opening(_) | Slot::Failed(..) => None,
        });
        open.collect()
    }

    /// What the node says of its disks, those that failed to open included.
    pub fn reports(&self) -> Vec<DiskReport> {
        read(&self.disks)
            .values()
            .map(|slot| match slot {
                Slot::Open(store) => store.report(),
                Slot::Opening(identity) => failed_report(identity, "it is still being opened"),
                Slot::Failed(identity, reason) => failed_report(identity, reason),
            })
            .collect()
    }

    /// What the node tells the metadata.
    pub fn heartbeat(&self) -> Heartbeat {
        Heartbeat { node: self.node, disks: self.reports() }
    }

    /// Looks after the disks and reports them, at every interval and as soon as one changes,
    /// until [`StorageNode::shutdown`].
    pub fn start(self: &Arc<Self>, reporter: Arc<dyn HeartbeatReporter>) {
        let task = heartbeat::run(Arc::clone(self), reporter, self.stop.subscribe());
        lock(&self.tasks).push(tokio::spawn(task));
    }

    /// Ends the heartbeat, does what is queued, checkpoints all disks and joins their threads.
    /// Requests that come later are refused.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            // Its panic has been printed; there is nothing to clean up after it.
            let _ = task.await;
        }
        let closing: Vec<_> = self
            .stores()
            .into_iter()
            .map(|store| tokio::task::spawn_blocking(move || store.close()))
            .collect();
        for disk in closing {
            let _ = disk.await;
        }
    }

    fn store(&self, disk: DiskId) -> Result<Arc<Store>, ShardError> {
        match read(&self.disks).get(&disk) {
            Some(Slot::Open(store)) => Ok(Arc::clone(store)),
            Some(Slot::Opening(_) | Slot::Failed(..)) => Err(ShardError::Failed(disk)),
            None => Err(ShardError::NoSuchDisk(disk)),
        }
    }

    async fn answer(&self, request: ShardRequest) -> Result<ShardResponse, ShardError> {
        Ok(match request {
            ShardRequest::Append { disk, shards, sync } => {
                let (incarnation, position) = self.store(disk)?.append(shards, sync).await?;
                ShardResponse::Appended { incarnation, position }
            }
            ShardRequest::Sync { disk, incarnation, position } => {
                self.store(disk)?.sync(incarnation, position).await?;
                ShardResponse::Synced
            }
            ShardRequest::Read { disk, reads } => {
                ShardResponse::Read(self.store(disk)?.read(reads).await?)
            }
            ShardRequest::Delete { disk, extents } => {
                self.store(disk)?.delete(extents).await?;
                ShardResponse::Deleted
            }
            ShardRequest::Inventory { disk, pg, after, limit } => {
                ShardResponse::Inventory(self.store(disk)?.inventory(pg, after, limit).await?)
            }
            ShardRequest::Verify { disk, extents } => {
                ShardResponse::Verified(self.store(disk)?.verify(extents).await?)
            }
            ShardRequest::Damaged { disk, after, limit } => {
                ShardResponse::Damaged(self.store(disk)?.damaged(after, limit)?)
            }
            ShardRequest::Scrub { disk, order } => {
                self.store(disk)?.scrub(order)?;
                ShardResponse::ScrubOrdered
            }
            ShardRequest::Status => ShardResponse::Status(self.reports()),
            ShardRequest::Groups { disk, after, limit } => {
                ShardResponse::Groups(self.store(disk)?.groups(after, limit).await?)
            }
        })
    }
}

impl Service<ShardRequest, ShardResponse> for StorageNode {
    fn serve(&self, request: ShardRequest) -> BoxFuture<'_, ShardResponse> {
        Box::pin(async move { self.answer(request).await.unwrap_or_else(ShardResponse::Failed) })
    }
}

fn failed_report(identity: &DiskIdentity, reason: &str) -> DiskReport {
    DiskReport {
        disk: identity.disk,
        uuid: identity.uuid,
        cluster: identity.cluster,
        health: DiskHealth::Failed,
        reason: Some(reason.to_owned()),
        capacity_bytes: 0,
        free_bytes: 0,
        live_bytes: 0,
        garbage_bytes: 0,
        shards: 0,
        incarnation: Incarnation(0),
        reserve_bytes: 0,
        damaged_shards: 0,
        scrub: ScrubReport::default(),
        compaction: CompactionReport::default(),
    }
}
