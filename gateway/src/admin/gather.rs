//! Asks the metadata for what `/status` and `/health/ready` tell.
//!
//! In: the metadata's replicas. Out: a [`ClusterStatus`]. Each question has a short deadline of its
//! own, so that a cluster in trouble still tells what it knows.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use metadata::client::MetadataClient;
use model::cluster_map::ClusterMap;
use model::ids::{DiskId, ReplicaId};
use model::query::{Answer, MetadataStatus, Query};
use model::shard::DiskReport;
use wire::clock::timeout;

use crate::admin::health::{self, Health, Reason};
use crate::admin::jobs::ScrubJobs;
use crate::admin::status::{
    ClusterStatus, DiskStatus, FaultTolerance, MetadataSummary, PlacementGroups, RepairStatus,
    ReplicaStatus, UNREACHABLE, Usage, disks_to_lose, is_readable, replicas_to_lose, slack,
};

/// Tells where a metadata replica is kept; only the process that keeps it knows.
pub type ReplicaPlace = Arc<dyn Fn(ReplicaId) -> Option<String> + Send + Sync>;

/// How long one question may take: probes ask every few seconds.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// Asks for the state of the cluster.
pub struct StatusGatherer {
    client: Arc<MetadataClient>,
    place: ReplicaPlace,
}

/// What the replicas and the leader answered.
struct Found {
    replicas: Vec<(ReplicaId, Option<MetadataStatus>)>,
    map: FoundMap,
}

/// What the question for the cluster map gave.
enum FoundMap {
    /// No answer.
    Silence,
    /// There is none yet.
    Unmade,
    /// The map.
    Made(Box<ClusterMap>),
}

impl FoundMap {
    fn made(&self) -> Option<&ClusterMap> {
        match self {
            Self::Silence | Self::Unmade => None,
            Self::Made(map) => Some(map),
        }
    }
}

impl StatusGatherer {
    /// Asks by `client`; `place` knows where replicas are kept.
    pub fn new(client: Arc<MetadataClient>, place: ReplicaPlace) -> Self {
        Self { client, place }
    }

    /// Whether clients can be served.
    pub async fn health(&self) -> Health {
        Health::new(self.find().await.reasons())
    }

    /// All that is known; what repair has come to is known by the engine of `jobs`.
    pub async fn status(&self, jobs: &ScrubJobs) -> ClusterStatus {
        let found = self.find().await;
        let map = found.map.made();
        let leader = found.leader();
        let reports = found.reports();
        let report = |id: DiskId| reports.iter().find(|report| report.disk == id);
        let readable = |id: DiskId| found.is_readable(id);
        let disk_status = |map: &ClusterMap| {
            map.disks.iter().map(|disk| DiskStatus::new(disk, report(disk.id))).collect()
        };
        ClusterStatus {
            cluster: map.map(|map| map.cluster.to_string()),
            coding: map.map(|map| map.coding.to_string()),
            map_epoch: map.map(|map| map.epoch),
            disks: map.map(disk_status).unwrap_or_default(),
            placement_groups: map.map(|map| groups(map, &readable)).unwrap_or_default(),
            fault_tolerance: FaultTolerance {
                more_disks: map.and_then(|map| disks_to_lose(map, readable)),
                more_metadata_replicas: found
                    .voters()
                    .map(|(voters, healthy)| replicas_to_lose(voters, healthy)),
            },
            usage: Usage {
                buckets: leader.map(|leader| leader.buckets),
                objects: leader.map(|leader| leader.objects),
                object_bytes: leader.map(|leader| leader.object_bytes),
            },
            repair_queue: leader.map(|leader| leader.repairs),
            repair: RepairStatus::new(jobs.engine().repair_progress()),
            garbage_extents: leader.map(|leader| leader.garbage),
            metadata: self.summary(&found),
            reasons: found.reasons(),
        }
    }

    async fn find(&self) -> Found {
        let clock = self.client.clock().as_ref();
        let mut ids = self.client.book().replicas();
        ids.sort_unstable();
        let replicas = join_all(ids.into_iter().map(|id| async move {
            let status = timeout(clock, QUESTION_DEADLINE, self.client.status(id)).await;
            (id, status.ok().and_then(Result::ok))
        }));
        let query = self.client.query(Query::ClusterMap { known_epoch: 0 });
        let map = timeout(clock, QUESTION_DEADLINE, query);
        let (replicas, map) = futures_util::join!(replicas, map);
        let map = match map {
            Ok(Ok(Answer::ClusterMap(Some(map)))) => FoundMap::Made(Box::new(map)),
            Ok(Ok(Answer::ClusterMap(None) | Answer::Refused(_))) => FoundMap::Unmade,
            _ => FoundMap::Silence,
        };
        Found { replicas, map }
    }

    fn summary(&self, found: &Found) -> MetadataSummary {
        let leader = found.leader();
        let replica = |(id, status): &(ReplicaId, Option<MetadataStatus>)| ReplicaStatus {
            replica: id.0,
            disk: (self.place)(*id),
            state: status.as_ref().map_or(UNREACHABLE, |status| &status.state).to_owned(),
            applied: status.as_ref().map(|status| status.last_applied_index),
            digests_match: status.as_ref().zip(leader).and_then(digests_match),
        };
        MetadataSummary {
            leader: leader.map(|leader| leader.replica.0),
            leader_disk: leader.and_then(|leader| (self.place)(leader.replica)),
            term: leader.map(|leader| leader.term),
            replicas: found.replicas.iter().map(replica).collect(),
        }
    }
}

impl Found {
    /// The leader of the highest term: a deposed one may not know it yet.
    fn leader(&self) -> Option<&MetadataStatus> {
        let known = self.replicas.iter().filter_map(|(_, status)| status.as_ref());
        known.filter(|status| status.state == "leader").max_by_key(|status| status.term)
    }

    fn reports(&self) -> &[DiskReport] {
        self.leader().map_or(&[], |leader| &leader.disks)
    }

    fn is_readable(&self, id: DiskId) -> bool {
        let disk = self.map.made().and_then(|map| map.disk(id));
        let report = self.reports().iter().find(|report| report.disk == id);
        disk.is_some_and(|disk| is_readable(disk, report))
    }

    /// How many replicas vote, and how many of those are well.
    fn voters(&self) -> Option<(usize, usize)> {
        let voters = &self.leader()?.voters;
        let well = |id: &&ReplicaId| {
            self.replicas.iter().any(|(replica, status)| {
                replica == *id && status.as_ref().is_some_and(|status| status.state != "fenced")
            })
        };
        Some((voters.len(), voters.iter().filter(well).count()))
    }

    fn reasons(&self) -> Vec<Reason> {
        let mut reasons = match &self.map {
            FoundMap::Silence => vec![Reason::metadata_unavailable()],
            FoundMap::Unmade => vec![Reason::no_cluster_map()],
            FoundMap::Made(map) => health::of_disks(map, |id| self.is_readable(id)),
        };
        reasons.extend(health::of_damage(self.reports()));
        if let (Some((voters, healthy)), Some(leader)) = (self.voters(), self.leader()) {
            let known = self.replicas.iter().filter_map(|(_, status)| status.as_ref());
            let differs =
                |status: &&MetadataStatus| digests_match((*status, leader)) == Some(false);
            let differing: Vec<u64> =
                known.filter(differs).map(|status| status.replica.0).collect();
            reasons.extend(health::of_replicas(voters, healthy, &differing));
        }
        reasons
    }
}

fn groups(map: &ClusterMap, readable: &impl Fn(DiskId) -> bool) -> PlacementGroups {
    let count = |of: &dyn Fn(&model::cluster_map::Pg) -> bool| {
        map.pgs.iter().filter(|pg| of(pg)).count() as u64
    };
    PlacementGroups {
        total: map.pgs.len() as u64,
        open: count(&|pg| map.is_open(pg)),
        unreadable: count(&|pg| slack(pg, readable) < 0),
    }
}

/// Whether two replicas have the same tables; `None` when they stand at different entries.
fn digests_match((one, other): (&MetadataStatus, &MetadataStatus)) -> Option<bool> {
    (one.last_applied_index == other.last_applied_index).then(|| one.tables == other.tables)
}
