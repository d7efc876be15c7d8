//! What a process tells by a leader's answers: also when it is seldom asked, and when some groups are
//! out of use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::admin::{Process, StatusGatherer};
use metadata::client::{MetadataClient, ReplicaBook};
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::coding::Coding;
use model::ids::{PgId, ReplicaId};
use model::node::Roles;
use model::query::{Answer, MetadataRequest, MetadataResponse, MetadataStatus, Query};
use model::time::Timestamp;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::cluster_map;

/// The machine's clocks, some seconds further.
struct Ahead {
    clock: SystemClock,
    seconds: AtomicU64,
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic() + Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

/// The only replica.
struct Leader {
    clock: Arc<Ahead>,
    /// The map, and how long it takes to tell it.
    map: Mutex<(ClusterMap, Duration)>,
    /// Groups that it says hold nothing.
    unused: Mutex<Vec<PgId>>,
}

impl Service<MetadataRequest, MetadataResponse> for Leader {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        Box::pin(async move {
            if matches!(request, MetadataRequest::Status) {
                return MetadataResponse::Status(Box::new(MetadataStatus {
                    replica: ReplicaId(1),
                    leader: Some(ReplicaId(1)),
                    state: "leader".to_owned(),
                    voters: vec![ReplicaId(1)],
                    ..MetadataStatus::default()
                }));
            }
            if matches!(request, MetadataRequest::Query(Query::UnusedGroups)) {
                let unused = self.unused.lock().expect("no panic").clone();
                return MetadataResponse::Answer(Box::new(Answer::UnusedGroups(unused)));
            }
            let (map, takes) = self.map.lock().expect("no panic").clone();
            self.clock.sleep(takes).await;
            MetadataResponse::Answer(Box::new(Answer::ClusterMap(Some(map))))
        })
    }
}

/// A gateway's gatherer, its leader, its clock, and what stops it when dropped.
fn gatherer(map: ClusterMap) -> (StatusGatherer, Arc<Leader>, Arc<Ahead>, watch::Sender<bool>) {
    let clock = Arc::new(Ahead { clock: SystemClock::new(), seconds: AtomicU64::new(0) });
    let network = Arc::new(InProcess::new(Arc::clone(&clock) as Arc<_>));
    let (map, unused) = (Mutex::new((map, Duration::ZERO)), Mutex::default());
    let leader = Arc::new(Leader { clock: Arc::clone(&clock), map, unused });
    network.register(Peer(1), Arc::clone(&leader) as Arc<_>);
    let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
    let client = Arc::new(MetadataClient::new(network, book, Arc::clone(&clock) as Arc<_>));
    let (stop, stopping) = watch::channel(false);
    // It hears of the metadata only when it is asked itself.
    let process = Process { roles: Roles::GATEWAY, node: None, stopping, engine: None };
    let gatherer = StatusGatherer::new(client, Arc::new(|_| None), process)
        .with_silence_max(Duration::from_hours(2));
    (gatherer, leader, clock, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_hold_nothing_and_are_out_of_use_are_no_risk() {
    let mut map = cluster_map();
    map.disks[5].state = DiskState::Down;
    let used = map.pgs[0].clone();
    let (id, coding) = (PgId(map.pgs.len() as u32), Coding::parse("5+1").expect("valid"));
    map.pgs.push(Pg::new(id, coding, used.disks.clone()));
    let (gatherer, leader, _clock, _stop) = gatherer(map);
    let codes = async || {
        let health = gatherer.health().await;
        health.reasons.into_iter().map(|reason| reason.code).collect::<Vec<_>>()
    };
    assert!(codes().await.contains(&"STRIPE_AT_RISK".to_owned()));
    // One whose coding is used counts whatever the answer is.
    *leader.unused.lock().expect("no panic") = vec![used.id, id];
    let now = codes().await;
    assert!(now.contains(&"STRIPE_DEGRADED".to_owned()), "{now:?}");
    assert!(!now.contains(&"STRIPE_AT_RISK".to_owned()), "{now:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_found_long_ago_answers_nobody() {
    let (gatherer, leader, clock, _stop) = gatherer(cluster_map());
    assert!(gatherer.health().await.ready);

    // All disks go, and each look takes longer than a probe waits.
    {
        let mut known = leader.map.lock().expect("no panic");
        known.0.disks.iter_mut().for_each(|disk| disk.state = DiskState::Down);
        known.0.epoch += 1;
        known.1 = Duration::from_millis(800);
    }
    assert!(gatherer.health().await.ready, "a probe isn't kept waiting");
    clock.seconds.store(3600, Ordering::Relaxed);
    let health = gatherer.health().await;
    let codes: Vec<_> = health.reasons.iter().map(|reason| &*reason.code).collect();
    assert!(!health.ready && codes.contains(&"DATA_UNREADABLE"), "{health:?}");
}
