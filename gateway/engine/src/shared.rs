//! What all rooms of the engine share: the doors to the metadata and to the disks, the limits, and a desk
//! of each job.
//!
//! In: what an engine is made of. Out: one of everything, for all tasks of a gateway.

use std::sync::Arc;

use model::shard::{ShardRequest, ShardResponse};
use tokio::sync::Semaphore;
use wire::clock::Clock;
use wire::entropy::Entropy;
use wire::network::Network;

use crate::buffers::{Budget, BufferPool};
use crate::codec::Codec;
use crate::discard::DiscardQueue;
use crate::lease::Leases;
use crate::map::MapCache;
use crate::metadata_door::Metadata;
use crate::options::EngineOptions;
use crate::outstanding::OutstandingDesk;
use crate::owner_seal::OwnerSeal;
use crate::pace::Pace;
use crate::patience::PatientMetadata;
use crate::rebalance::RebalanceDesk;
use crate::recode::RecodeDesk;
use crate::repair::RepairDesk;
use crate::repair_report::RepairReports;
use crate::shard_door::ShardDoor;
use crate::usage::Usage;

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
    /// One of everything, idle.
    pub(crate) fn new(parts: EngineParts) -> Self {
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
        Self {
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
        }
    }

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
