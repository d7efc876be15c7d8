//! The engine itself: what its rooms share, and the tasks that it owns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::ids::{ManifestId, UploadId};
use model::names::{BucketName, ObjectKey};
use model::node::Job;
use model::owner::OwnerKind;
use model::query::{Answer, MetadataError, ObjectFound, PlanWanted, Query};
use model::shard::{ShardRequest, ShardResponse};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use wire::BoxFuture;
use wire::clock::{Clock, timeout};
use wire::entropy::Entropy;
use wire::network::Network;

use crate::buffers::{Budget, BufferPool};
use crate::codec::Codec;
use crate::discard::DiscardQueue;
use crate::inspect::{InspectError, InspectRequest, ObjectReport};
use crate::lease::{JobLease, Leases};
use crate::map::MapCache;
use crate::metadata_door::Metadata;
use crate::options::EngineOptions;
use crate::outstanding::{Outstanding, OutstandingDesk};
use crate::owner_seal::OwnerSeal;
use crate::pace::Pace;
use crate::patience::PatientMetadata;
use crate::reach::{self, OutOfReach};
use crate::read::{ObjectReader, OpenError};
use crate::rebalance::{RebalanceDesk, RebalanceProgress};
use crate::recode::{RecodeDesk, RecodeProgress};
use crate::recover::{RecoverError, RecoverMeter, RecoverRequest};
use crate::repair::{RepairDesk, RepairProgress};
use crate::repair_report::RepairReports;
use crate::scrub::{ScrubError, ScrubMeter, ScrubRequest};
use crate::shard_door::ShardDoor;
use crate::slow::{self, SlowDisk};
use crate::usage::Usage;
use crate::write::{ObjectWriter, WriteTarget};
use crate::{
    collect, discard, inspect, lease, outstanding, rebalance, recode, reconcile, recover, repair,
    repair_report, scrub, usage,
};

/// What an engine is made of.
pub struct EngineParts {
    /// The metadata service.
    pub metadata: Arc<dyn Metadata>,
    /// The storage nodes; the peer number is the node's.
    pub shards: Arc<dyn Network<ShardRequest, ShardResponse>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Seals the owner field of shard records.
    pub cluster_key: [u8; 32],
    /// Limits.
    pub options: EngineOptions,
}

/// What the newest cluster map says of reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The coding that writes should have.
    pub coding: Coding,
    /// Disks that weren't given up.
    pub disks: usize,
    /// Disks that are up.
    pub disks_up: usize,
    /// PGs that take new extents.
    pub open_pgs: usize,
}

/// The object engine. A handle: clones share everything.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
}

/// The engine's own tasks; told to stop when the last handle is gone.
struct Tasks {
    stop: watch::Sender<bool>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// What all rooms of the engine share.
pub(crate) struct Shared {
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) patience: Arc<PatientMetadata>,
    pub(crate) map: Arc<MapCache>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) door: ShardDoor,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) options: EngineOptions,
    pub(crate) seal: OwnerSeal,
    pub(crate) codec: Codec,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) write_budget: Budget,
    pub(crate) read_budget: Budget,
    pub(crate) usage: Usage,
    pub(crate) discards: DiscardQueue,
    pub(crate) reports: RepairReports,
    pub(crate) repair: RepairDesk,
    pub(crate) rebalance: RebalanceDesk,
    pub(crate) recode: RecodeDesk,
    pub(crate) outstanding: OutstandingDesk,
    /// Computations at once: as many as there are cores.
    cores: Arc<Semaphore>,
}

/// The runtime is shutting down, or the computation was lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

impl Shared {
    /// Computes off the async threads.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let permit = Arc::clone(&self.cores).acquire_owned().await.map_err(|_| Lost)?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        task.await.map_err(|_| Lost)
    }
}

impl Engine {
    /// An engine and its tasks; must be called in a tokio runtime.
    pub fn new(parts: EngineParts) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let options = parts.options;
        let clock = parts.clock;
        let patience = Arc::new(PatientMetadata::new(
            parts.metadata,
            Arc::clone(&clock),
            options.metadata_patience,
        ));
        let map = Arc::new(MapCache::new(Arc::clone(&patience), Arc::clone(&clock)));
        let pace = Pace::new(Arc::clone(&clock), options.repair_bytes_per_second);
        let shared = Arc::new(Shared {
            metadata: Arc::clone(&patience) as Arc<dyn Metadata>,
            patience,
            leases: Leases::new(Arc::clone(&clock)),
            door: ShardDoor::new(parts.shards, Arc::clone(&map), Arc::clone(&clock), &options),
            map,
            seal: OwnerSeal::new(&parts.cluster_key, Arc::clone(&parts.entropy)),
            clock,
            entropy: parts.entropy,
            codec: Codec::new(),
            buffers: Arc::default(),
            write_budget: Budget::new(options.write_budget_bytes),
            read_budget: Budget::new(options.read_budget_bytes),
            repair: RepairDesk::new(options.repair_budget_bytes, pace),
            rebalance: RebalanceDesk::default(),
            recode: RecodeDesk::default(),
            outstanding: OutstandingDesk::default(),
            options,
            usage: Usage::default(),
            discards: DiscardQueue::default(),
            reports: RepairReports::default(),
            cores: Arc::new(Semaphore::new(cores)),
        });
        let (stop, stopping) = watch::channel(false);
        let mut handles = vec![
            tokio::spawn(keep_map(Arc::clone(&shared), stopping.clone())),
            tokio::spawn(usage::keep(Arc::clone(&shared), stopping.clone())),
            tokio::spawn(reach::watch(Arc::clone(&shared), stopping.clone())),
            tokio::spawn(slow::watch(Arc::clone(&shared), stopping.clone())),
            tokio::spawn(discard::run(Arc::clone(&shared), stopping.clone())),
            tokio::spawn(repair_report::run(Arc::clone(&shared), stopping.clone())),
            tokio::spawn(outstanding::keep(Arc::clone(&shared), stopping.clone())),
        ];
        handles.extend(cluster_jobs(&shared, &stopping));
        // After the jobs, so that it takes all of their leases in its first round.
        handles.push(tokio::spawn(lease::keep(Arc::clone(&shared), stopping)));
        Self { shared, tasks: Arc::new(Tasks { stop, handles: Mutex::new(handles) }) }
    }

    /// Ends the tasks. What aborted writes left behind is deleted first, for as long as
    /// `shutdown_patience` allows; the rest is left to a later inventory.
    pub async fn shutdown(&self) {
        self.tasks.stop.send_replace(true);
        let handles = {
            let mut handles = self.tasks.handles.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *handles)
        };
        let aborts: Vec<_> = handles.iter().map(JoinHandle::abort_handle).collect();
        let patience = self.shared.options.shutdown_patience;
        let all = futures_util::future::join_all(handles);
        if timeout(&*self.shared.clock, patience, all).await.is_err() {
            for task in aborts {
                task.abort();
            }
        }
    }

    /// The metadata service, for listings, buckets and whatever else needs no engine.
    pub fn metadata(&self) -> &Arc<dyn Metadata> {
        &self.shared.metadata
    }

    /// A new body's name.
    pub fn new_manifest(&self) -> ManifestId {
        ManifestId(self.shared.entropy.id())
    }

    /// A new upload's name.
    pub fn new_upload(&self) -> UploadId {
        UploadId(self.shared.entropy.id())
    }

    /// The newest cluster map that was seen; waits for the first.
    pub async fn cluster_map(&self) -> Result<Arc<ClusterMap>, MetadataError> {
        self.shared.map.get().await
    }

    /// The cluster map as it is now, which everything that is begun from now on goes by.
    pub async fn newest_cluster_map(&self) -> Result<Arc<ClusterMap>, MetadataError> {
        self.shared.map.refresh().await
    }

    /// Every newer cluster map, as it is seen; `None` before the first.
    pub fn follow_cluster_map(&self) -> watch::Receiver<Option<Arc<ClusterMap>>> {
        self.shared.map.follow()
    }

    /// How long ago the newest cluster map that was seen was the newest for certain; `None` before
    /// the first.
    pub fn map_age(&self) -> Option<Duration> {
        self.shared.map.age()
    }

    /// How long the metadata hasn't answered; `None` while it does.
    pub fn metadata_silence(&self) -> Option<Duration> {
        self.shared.patience.silence()
    }

    /// The disks that this gateway can't reach, whatever the cluster map says of them, and what that
    /// stops; `None` while it reaches all.
    pub fn out_of_reach(&self) -> Option<OutOfReach> {
        self.shared.door.reach.out_of_reach(&*self.shared.map.open_groups()?)
    }

    /// The disks that answer, and far more slowly than their peers, by what this gateway sees of
    /// them. They get no new extents and few reads where others can do, and are told here until
    /// they are well again; none before the first cluster map.
    pub fn slow_disks(&self) -> Vec<SlowDisk> {
        let now = self.shared.clock.monotonic();
        let map = self.shared.map.current();
        map.map_or_else(Vec::new, |map| self.shared.door.slowness.slow_disks(&map, now))
    }

    /// Takes the lease of a job, so that only one gateway at a time does it: the engine renews it
    /// for as long as the answer lives.
    pub fn lease(&self, job: Job) -> JobLease {
        self.shared.leases.want(job)
    }

    /// The words for the jobs that this gateway does for the whole cluster now.
    pub fn leased_jobs(&self) -> Vec<&'static str> {
        self.shared.leases.held_jobs().into_iter().map(lease::job_word).collect()
    }

    /// What the newest cluster map says; `None` before the first was seen.
    pub fn readiness(&self) -> Option<Readiness> {
        let map = self.shared.map.current()?;
        let given_up = |state| state == model::cluster_map::DiskState::Out;
        Some(Readiness {
            coding: map.coding,
            disks: map.disks.iter().filter(|disk| !given_up(disk.state)).count(),
            disks_up: map.disks_up(),
            open_pgs: map.pgs.iter().filter(|pg| map.is_open(pg)).count(),
        })
    }

    /// Has everything in a scope verified now, and queues what is lost for repair, until it is done
    /// or `stop` turns true. `meter` tells how far it is.
    pub async fn scrub(
        &self,
        request: &ScrubRequest,
        meter: &ScrubMeter,
        stop: watch::Receiver<bool>,
    ) -> Result<(), ScrubError> {
        scrub::run(&self.shared, request, meter, stop).await
    }

    /// Finds again what metadata that was put back, or begun anew, doesn't know, until it is done or
    /// `stop` turns true. `meter` tells how far it is.
    pub async fn recover(
        &self,
        request: &RecoverRequest,
        meter: &RecoverMeter,
        stop: watch::Receiver<bool>,
    ) -> Result<(), RecoverError> {
        recover::run(&self.shared, request, meter, stop).await
    }

    /// What repair has come to since this engine began.
    pub fn repair_progress(&self) -> RepairProgress {
        self.shared.repair.progress()
    }

    /// Bytes per second that repair reads and writes, once a disk of this map is lost, while clients
    /// read or write; 0 for no limit.
    pub fn repair_bytes_per_second(&self, map: &ClusterMap) -> u64 {
        repair::rate_after_a_loss(map, &self.shared.options)
    }

    /// The same of gateways with the usual options, for processes that are none.
    pub fn usual_repair_bytes_per_second(map: &ClusterMap) -> u64 {
        repair::rate_after_a_loss(map, &EngineOptions::default())
    }

    /// What moves of slots have come to since this engine began.
    pub fn rebalance_progress(&self) -> RebalanceProgress {
        self.shared.rebalance.progress()
    }

    /// Everything that lacks redundancy, by the metadata: counted, not sampled; and how fast it gets
    /// less.
    pub async fn outstanding(&self) -> Result<Outstanding, MetadataError> {
        outstanding::outstanding(&self.shared).await
    }

    /// Where every shard of an object is, and in what state, as the disks say.
    pub async fn inspect(&self, request: &InspectRequest) -> Result<ObjectReport, InspectError> {
        inspect::inspect(&self.shared, request).await
    }

    /// Has the cluster map looked at for slots that are to move, where this gateway moves them.
    pub fn wake_rebalance(&self) {
        self.shared.rebalance.wake();
    }

    /// What recoding has come to since this engine began.
    pub fn recode_progress(&self) -> RecodeProgress {
        self.shared.recode.progress()
    }

    /// Has the orders to recode buckets looked at, where this gateway carries them out.
    pub fn wake_recode(&self) {
        self.shared.recode.wake();
    }

    /// Finds an object and plans how to read what is wanted of it.
    pub async fn open(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        plan: PlanWanted,
    ) -> Result<ObjectFound, OpenError> {
        match self.shared.metadata.query(Query::Object { bucket, key, plan }).await? {
            Answer::Object(found) => Ok(found),
            Answer::Refused(refusal) => Err(OpenError::Refused(refusal)),
            _ => Err(OpenError::Unavailable),
        }
    }

    /// Reads what [`Engine::open`] planned.
    pub fn reader(&self, found: &ObjectFound) -> ObjectReader {
        ObjectReader::new(Arc::clone(&self.shared), found)
    }

    /// Begins to write a body. Nothing happens before its first byte.
    pub fn writer(&self, target: WriteTarget) -> ObjectWriter {
        ObjectWriter::new(Arc::clone(&self.shared), target, OwnerKind::Body)
    }

    /// What the rooms share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Starts the jobs that one gateway at a time does for the whole cluster.
fn cluster_jobs(shared: &Arc<Shared>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let start = |job, work: Box<dyn Fn(watch::Receiver<bool>) -> BoxFuture<'static, ()> + Send>| {
        let lease = shared.leases.want(job);
        tokio::spawn(lease::work_while_held(lease, stopping.clone(), work))
    };
    let collector = Arc::clone(shared);
    let mut handles = vec![start(
        Job::Collect,
        Box::new(move |stop| Box::pin(collect::run(Arc::clone(&collector), stop))),
    )];
    if let Some(interval) = shared.options.repair_interval {
        let (repairer, finder) = (Arc::clone(shared), Arc::clone(shared));
        handles.push(start(
            Job::Repair,
            Box::new(move |stop| Box::pin(repair::run(Arc::clone(&repairer), interval, stop))),
        ));
        handles.push(start(
            Job::Repair,
            Box::new(move |stop| Box::pin(reconcile::run_damage(Arc::clone(&finder), stop))),
        ));
    }
    if let Some(interval) = shared.options.move_interval {
        let mover = Arc::clone(shared);
        handles.push(start(
            Job::Move,
            Box::new(move |stop| Box::pin(rebalance::steer(Arc::clone(&mover), interval, stop))),
        ));
        handles.push(tokio::spawn(rebalance::carry(
            Arc::clone(shared),
            interval,
            stopping.clone(),
        )));
    }
    if let Some(interval) = shared.options.recode_interval {
        let recoder = Arc::clone(shared);
        handles.push(start(
            Job::Recode,
            Box::new(move |stop| Box::pin(recode::run(Arc::clone(&recoder), interval, stop))),
        ));
    }
    if let Some(interval) = shared.options.reconcile_interval {
        let reconciler = Arc::clone(shared);
        handles.push(start(
            Job::Reconcile,
            Box::new(move |stop| Box::pin(reconcile::run(Arc::clone(&reconciler), interval, stop))),
        ));
    }
    handles
}

/// Keeps the cluster map up to date.
async fn keep_map(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            asked = shared.map.probe() => if let Err(error) = asked {
                tracing::debug!(%error, "the cluster map can't be asked for");
            },
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(shared.options.map_interval) => continue,
            () = shared.map.nudged() => {}
        }
        // The metadata hears of it from the disk's node, which takes a moment too.
        shared.clock.sleep(shared.options.map_interval / 10).await;
    }
}
