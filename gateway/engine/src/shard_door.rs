//! The engine's door to the disks: finds the node, sends, tells failures apart, and remembers who
//! failed lately. A request that went to where a disk was is sent again to where it is.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::ids::{DiskId, NodeId};
use model::shard::{ShardError, ShardRequest, ShardResponse};
use wire::BoxFuture;
use wire::clock::{Clock, timeout};
use wire::network::{Network, NetworkError, Peer};

use crate::latency::Latency;
use crate::map::MapCache;
use crate::open_groups::OpenGroups;
use crate::options::EngineOptions;
use crate::reach::Reach;
use crate::slow::{SlowKind, Slowness, TimedRead, TimedWrite};

/// Why a request to a disk brought no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShardFailure {
    /// The node doesn't answer, or the map doesn't know the disk. Nothing was done.
    Unreachable,
    /// No answer in time: it may have been done, or be done later.
    TimedOut,
    /// The disk says no.
    Refused(ShardError),
    /// The bytes that came fail their checksum.
    Corrupt,
}

impl ShardFailure {
    /// Whether the request may take effect later.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::TimedOut)
    }

    /// Whether the shard is known to be lost, rather than out of reach.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Corrupt | Self::Refused(ShardError::Corrupt(..) | ShardError::NotFound(..))
        )
    }

    /// Whether nothing was done, and the disk may be in another place than was thought.
    fn is_misdirected(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Refused(ShardError::NoSuchDisk(_)))
    }

    /// Whether the disk is no good for reads for now.
    fn spoils_reads(&self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut => true,
            Self::Corrupt => false,
            Self::Refused(error) => {
                matches!(error, ShardError::Failed(_) | ShardError::NoSuchDisk(_))
            }
        }
    }

    /// The word used in metrics.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Corrupt => "corrupt",
            Self::Refused(error) => match error {
                ShardError::NotFound(..) => "not-found",
                ShardError::Corrupt(..) => "corrupt",
                ShardError::Invalid(_) => "invalid",
                ShardError::Exists(_) => "exists",
                ShardError::WrongIncarnation(_) => "wrong-incarnation",
                ShardError::Full(_) => "full",
                ShardError::ReadOnly(_) => "read-only",
                ShardError::Failed(_) => "failed",
                ShardError::NoSuchDisk(_) => "no-such-disk",
                ShardError::Overloaded(_) => "overloaded",
            },
        }
    }
}

/// How long a misdirected request waits for a newer map. A question takes a few milliseconds; during
/// an election other disks do.
const CORRECTION_PATIENCE: Duration = Duration::from_secs(1);

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    node: NodeId,
    /// The node's address; empty where the map knows none.
    address: String,
}

impl Place {
    fn of(map: &ClusterMap, disk: DiskId) -> Option<Self> {
        let node = map.disk(disk)?.node;
        let known = map.node(node);
        Some(Self {
            node,
            address: known.map_or_else(String::new, |known| known.registration.address.clone()),
        })
    }
}

/// The disks.
pub(crate) struct ShardDoor {
    network: Arc<dyn Network<ShardRequest, ShardResponse>>,
    map: Arc<MapCache>,
    clock: Arc<dyn Clock>,
    suspect_for: Duration,
    /// Latency of reads up to a block.
    pub(crate) small_reads: Latency,
    /// Latency of longer reads.
    pub(crate) large_reads: Latency,
    /// Latency of appends and syncs.
    pub(crate) writes: Latency,
    bad_for_writes: Suspects,
    bad_for_reads: Suspects,
    /// Nodes that don't answer at all.
    pub(crate) reach: Reach,
    /// Disks that answer late.
    pub(crate) slowness: Arc<Slowness>,
    suspect_after: Duration,
}

/// Disks that failed lately, each with the time when it may be tried again.
#[derive(Debug, Default)]
struct Suspects(RwLock<BTreeMap<DiskId, Duration>>);

impl Suspects {
    fn add(&self, disk: DiskId, until: Duration) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(disk, until);
    }

    fn at(&self, now: Duration) -> Vec<DiskId> {
        let suspects = self.0.read().unwrap_or_else(PoisonError::into_inner);
        suspects.iter().filter(|(_, until)| **until > now).map(|(disk, _)| *disk).collect()
    }

    fn remove(&self, disk: DiskId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&disk);
    }

    fn contains(&self, disk: DiskId, now: Duration) -> bool {
        let suspects = self.0.read().unwrap_or_else(PoisonError::into_inner);
        suspects.get(&disk).is_some_and(|until| *until > now)
    }
}

impl ShardDoor {
    pub(crate) fn new(
        network: Arc<dyn Network<ShardRequest, ShardResponse>>,
        map: Arc<MapCache>,
        clock: Arc<dyn Clock>,
        options: &EngineOptions,
    ) -> Self {
        Self {
            network,
            map,
            clock,
            suspect_for: options.suspect_for,
            small_reads: Latency::new(),
            large_reads: Latency::new(),
            writes: Latency::new(),
            bad_for_writes: Suspects::default(),
            bad_for_reads: Suspects::default(),
            reach: Reach::default(),
            slowness: Arc::default(),
            suspect_after: options.suspect_after,
        }
    }

    /// The network below.
    pub(crate) fn network(&self) -> &Arc<dyn Network<ShardRequest, ShardResponse>> {
        &self.network
    }

    /// Disks not to write to for now, where others can do: those that failed, and those of nodes
    /// that can't be reached.
    pub(crate) fn avoided(&self) -> Vec<DiskId> {
        let mut avoided = self.bad_for_writes.at(self.clock.monotonic());
        avoided.extend(self.map.current().iter().flat_map(|map| self.reach.lost_disks(map)));
        avoided
    }

    /// The same for a new extent, with the disks that are slow: of those as many as leave a choice.
    pub(crate) fn avoided_for_placement(&self, groups: &OpenGroups, wanted: Coding) -> Vec<DiskId> {
        let mut avoided = self.avoided();
        let slow = self.slowness.to_avoid(groups, wanted, &avoided);
        avoided.extend(slow);
        avoided
    }

    /// Whether a disk is slow at reads.
    pub(crate) fn is_slow_to_read(&self, disk: DiskId) -> bool {
        self.slowness.is_slow(disk, SlowKind::Reads)
    }

    /// A node answers again: what its disks failed before counts no more.
    pub(crate) fn forgive(&self, node: NodeId) {
        let map = self.map.current();
        let disks = map.iter().flat_map(|map| &map.disks);
        for disk in disks.filter(|disk| disk.node == node) {
            self.bad_for_writes.remove(disk.id);
            self.bad_for_reads.remove(disk.id);
        }
    }

    /// Whether a disk failed reads lately.
    pub(crate) fn is_bad_for_reads(&self, disk: DiskId) -> bool {
        self.bad_for_reads.contains(disk, self.clock.monotonic())
    }

    /// Leaves a disk alone that failed to write, and looks for a new map.
    pub(crate) fn avoid(&self, disk: DiskId) {
        self.bad_for_writes.add(disk, self.clock.monotonic() + self.suspect_for);
        self.map.nudge();
    }

    /// Sends one request to a disk.
    pub(crate) async fn call(
        &self,
        disk: DiskId,
        request: ShardRequest,
        deadline: Duration,
    ) -> Result<ShardResponse, ShardFailure> {
        let operation = operation(&request);
        let map = self.map.current();
        let place = map.as_deref().and_then(|map| Place::of(map, disk));
        let again = request.clone();
        let mut result = self.send(disk, place.as_ref(), request, deadline).await;
        if let Err(failure) = &result
            && failure.is_misdirected()
            && let Some(elsewhere) = self.elsewhere(disk, place.as_ref(), failure).await
        {
            metrics::counter!("drystone_shard_redirects_total", "operation" => operation)
                .increment(1);
            result = self.send(disk, Some(&elsewhere), again, deadline).await;
        }
        metrics::counter!("drystone_shard_requests_total", "operation" => operation).increment(1);
        if let Err(failure) = &result {
            self.note_failure(disk, operation, failure);
        }
        result
    }

    async fn send(
        &self,
        disk: DiskId,
        place: Option<&Place>,
        request: ShardRequest,
        deadline: Duration,
    ) -> Result<ShardResponse, ShardFailure> {
        let Some(place) = place else { return Err(ShardFailure::Unreachable) };
        let answer = self.ask(disk, place.node, request, deadline).await;
        match &answer {
            Ok(_) if self.reach.hear(place.node) => self.forgive(place.node),
            Ok(_) => {}
            Err(_) => self.reach.suspect(place.node),
        }
        match answer {
            Ok(ShardResponse::Failed(error)) => Err(ShardFailure::Refused(error)),
            Ok(response) => Ok(response),
            Err(NetworkError::Unreachable(_)) => Err(ShardFailure::Unreachable),
            Err(NetworkError::TimedOut(_)) => Err(ShardFailure::TimedOut),
        }
    }

    /// Asks the node, and times what tells how fast the disk is.
    async fn ask(
        &self,
        disk: DiskId,
        node: NodeId,
        request: ShardRequest,
        deadline: Duration,
    ) -> Result<ShardResponse, NetworkError> {
        let peer = Peer(u64::from(node.0));
        match &request {
            ShardRequest::Append { .. } | ShardRequest::Sync { .. } => {
                let timed = TimedWrite::start(&self.slowness, &self.clock, disk);
                let call = self.network.call(peer, request, deadline);
                let answer = self.while_there(node, call).await;
                timed.end(&answer);
                answer
            }
            ShardRequest::Read { .. } => {
                let network = Arc::clone(&self.network);
                let call = Box::pin(async move { network.call(peer, request, deadline).await });
                TimedRead::start(&self.slowness, &self.clock, disk, call).await
            }
            _ => self.network.call(peer, request, deadline).await,
        }
    }

    /// Waits for a write for as long as its node is there: a connection through a network that was
    /// cut says nothing for a long time.
    async fn while_there(
        &self,
        node: NodeId,
        call: BoxFuture<'_, Result<ShardResponse, NetworkError>>,
    ) -> Result<ShardResponse, NetworkError> {
        let watch = async {
            self.clock.sleep(self.suspect_after).await;
            self.reach.suspect(node);
            self.reach.lost(node).await;
        };
        tokio::select! {
            biased;
            answer = call => answer,
            // It may arrive yet, and be answered to nobody.
            () = watch => Err(NetworkError::TimedOut(Peer(u64::from(node.0)))),
        }
    }

    /// Where the disk is by a newer map, if that is another place than the one that was tried. A
    /// node that says that it doesn't have the disk is reason to ask for a map; one that can't be
    /// reached may simply be down, and nobody waits for that: the next request knows more.
    async fn elsewhere(
        &self,
        disk: DiskId,
        tried: Option<&Place>,
        failure: &ShardFailure,
    ) -> Option<Place> {
        if tried.is_none() || matches!(failure, ShardFailure::Refused(_)) {
            // What comes too late is used by the next request.
            let _ = timeout(&*self.clock, CORRECTION_PATIENCE, self.map.refresh()).await;
        }
        let map = self.map.current()?;
        Place::of(&map, disk).filter(|place| Some(place) != tried)
    }

    /// Counts a failure, and remembers the disk where it is to blame.
    pub(crate) fn note_failure(
        &self,
        disk: DiskId,
        operation: &'static str,
        failure: &ShardFailure,
    ) {
        let kind = failure.as_str();
        metrics::counter!(
            "drystone_shard_failures_total", "operation" => operation, "kind" => kind
        )
        .increment(1);
        tracing::debug!(disk = disk.0, operation, kind, "a shard request failed");
        if failure.spoils_reads() {
            self.bad_for_reads.add(disk, self.clock.monotonic() + self.suspect_for);
            self.map.nudge();
        }
    }
}

/// The word used in metrics.
fn operation(request: &ShardRequest) -> &'static str {
    match request {
        ShardRequest::Append { .. } => "append",
        ShardRequest::Sync { .. } => "sync",
        ShardRequest::Read { .. } => "read",
        ShardRequest::Delete { .. } => "delete",
        ShardRequest::Inventory { .. } => "inventory",
        ShardRequest::Verify { .. } => "verify",
        ShardRequest::Damaged { .. } => "damaged",
        ShardRequest::Scrub { .. } => "scrub",
        ShardRequest::Status => "status",
        ShardRequest::Groups { .. } => "groups",
    }
}
