//! The engine's face: what a gateway asks of it, and where in it that is answered.

use std::sync::Arc;
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::ids::{ManifestId, UploadId};
use model::names::{BucketName, ObjectKey};
use model::node::Job;
use model::owner::OwnerKind;
use model::query::{Answer, MetadataError, ObjectFound, PlanWanted, Query};
use tokio::sync::watch;

use crate::inspect::{InspectError, InspectRequest, ObjectReport};
use crate::lease::JobLease;
use crate::metadata_door::Metadata;
use crate::options::EngineOptions;
use crate::outstanding::Outstanding;
use crate::reach::OutOfReach;
use crate::read::{ObjectReader, OpenError};
use crate::rebalance::RebalanceProgress;
use crate::recode::RecodeProgress;
use crate::recover::{RecoverError, RecoverMeter, RecoverRequest};
use crate::repair::RepairProgress;
use crate::scrub::{ScrubError, ScrubMeter, ScrubRequest};
use crate::shared::{EngineParts, Shared};
use crate::slow::SlowDisk;
use crate::tasks::Tasks;
use crate::write::{ObjectWriter, WriteTarget};
use crate::{inspect, lease, outstanding, recover, repair, scrub};

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

impl Engine {
    /// An engine and its tasks; must be called in a tokio runtime.
    pub fn new(parts: EngineParts) -> Self {
        let shared = Arc::new(Shared::new(parts));
        let tasks = Arc::new(Tasks::start(&shared));
        Self { shared, tasks }
    }

    /// Ends the tasks. What aborted writes left behind is deleted first, for as long as
    /// `shutdown_patience` allows; the rest is left to a later inventory.
    pub async fn shutdown(&self) {
        self.tasks.shut_down(&self.shared).await;
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
