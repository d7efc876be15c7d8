//! `/health`, `/status` and mutes, with one metadata replica in memory that says what it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway::admin::health::{Colour, Health};
use gateway::admin::status::ClusterStatus;
use gateway::admin::{AdminHandler, AdminParts, Process, StatusGatherer, render};
use gateway::http::listener::{ListenerOptions, serve};
use metadata::client::{MetadataClient, ReplicaBook};
use model::cluster_map::{ClusterMap, DiskState};
use model::command::{Command, Outcome};
use model::ids::{DiskId, NodeId, ReplicaId};
use model::node::Roles;
use model::query::{Answer, MetadataRequest, MetadataResponse, MetadataStatus, Query};
use model::time::Timestamp;
use model::upkeep::{RepairItem, RepairPage};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::client::{Call, Reply};
use crate::world::{World, cluster_map};

/// What the replica says.
struct Truth {
    map: ClusterMap,
    status: MetadataStatus,
    repairs: RepairPage,
    /// How far its clock is ahead.
    ahead: Duration,
}

struct Replica {
    truth: Mutex<Truth>,
    clock: Arc<dyn Clock>,
}

impl Replica {
    fn change(&self, change: impl FnOnce(&mut Truth)) {
        change(&mut self.truth.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn answer(&self, request: MetadataRequest) -> MetadataResponse {
        let mut truth = self.truth.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            MetadataRequest::Status => {
                let time = self.clock.now().plus_nanos(truth.ahead.as_nanos() as u64);
                let status = MetadataStatus { time, ..truth.status.clone() };
                MetadataResponse::Status(Box::new(status))
            }
            MetadataRequest::Query(Query::Repairs { .. }) => {
                MetadataResponse::Answer(Box::new(Answer::Repairs(truth.repairs.clone())))
            }
            MetadataRequest::Query(Query::Held) => {
                MetadataResponse::Answer(Box::new(Answer::Held(None)))
            }
            MetadataRequest::Propose(commands) => {
                for envelope in commands {
                    let Command::MuteHealth(mute) = envelope.command else { continue };
                    truth.map.mutes.retain(|known| known.code != mute.code);
                    if mute.until > Timestamp(0) {
                        truth.map.mutes.push(mute);
                    }
                }
                MetadataResponse::Outcomes(vec![Outcome::Done])
            }
            _ => MetadataResponse::Answer(Box::new(Answer::ClusterMap(Some(truth.map.clone())))),
        }
    }
}

impl Service<MetadataRequest, MetadataResponse> for Replica {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        Box::pin(std::future::ready(self.answer(request)))
    }
}

/// An admin listener of a gateway whose metadata is `Replica`.
struct Fixture {
    address: SocketAddr,
    replica: Arc<Replica>,
    _world: World,
    _stop: watch::Sender<bool>,
}

impl Fixture {
    async fn start(with: impl FnOnce(StatusGatherer) -> StatusGatherer) -> Self {
        let world = World::start().await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let status = MetadataStatus {
            replica: ReplicaId(1),
            leader: Some(ReplicaId(1)),
            state: "leader".to_owned(),
            voters: vec![ReplicaId(1)],
            ..MetadataStatus::default()
        };
        let truth = Truth {
            map: cluster_map(),
            status,
            repairs: RepairPage::default(),
            ahead: Duration::ZERO,
        };
        let replica = Arc::new(Replica { truth: Mutex::new(truth), clock: Arc::clone(&clock) });
        let network = Arc::new(InProcess::new(Arc::clone(&clock)));
        network.register(Peer(1), Arc::clone(&replica) as Arc<_>);
        let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
        let client = Arc::new(MetadataClient::new(network, book, Arc::clone(&clock)));
        let (stop, stopping) = watch::channel(false);
        let process = Process {
            roles: Roles::ALL,
            node: None,
            stopping: stopping.clone(),
            engine: Some(world.engine.clone()),
        };
        let gatherer = with(StatusGatherer::new(client, Arc::new(|_| None), process));
        let handler = AdminHandler::new(AdminParts {
            gatherer,
            metrics: Arc::new(String::new),
            clock: Arc::clone(&clock),
            jobs: None,
            orders: None,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let options = ListenerOptions::default();
        tokio::spawn(serve(listener, Arc::new(handler), options, clock, stopping));
        Self { address, replica, _world: world, _stop: stop }
    }

    async fn health(&self) -> Health {
        let reply = Call::new(self.address, "GET", "/health").send_unsigned().await;
        serde_json::from_str(reply.is(200).text()).expect("the document")
    }

    async fn codes(&self) -> Vec<String> {
        self.health().await.reasons.into_iter().map(|reason| reason.code).collect()
    }

    async fn status(&self) -> ClusterStatus {
        let reply = Call::new(self.address, "GET", "/status").send_unsigned().await;
        serde_json::from_str(reply.is(200).text()).expect("the document")
    }

    async fn mute(&self, body: &str) -> Reply {
        let call = Call::new(self.address, "POST", "/health/mute");
        call.header("content-type", "application/json").body(body.to_owned()).send_unsigned().await
    }
}

fn down(truth: &mut Truth, disk: u32) {
    truth.map.disk_mut(DiskId(disk)).expect("a disk").state = DiskState::Down;
    truth.map.epoch += 1;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn green_yellow_and_red_with_the_margin() {
    let cluster = Fixture::start(|gatherer| gatherer).await;
    let health = cluster.health().await;
    assert_eq!((health.status, health.ready), (Colour::Green, true), "{health:?}");
    assert_eq!(health.margin.text, "2 more disks may fail; no further metadata replica");
    assert_eq!(cluster.status().await.health, Colour::Green);

    cluster.replica.change(|truth| down(truth, 5));
    let health = cluster.health().await;
    assert_eq!((health.status, health.ready), (Colour::Yellow, true), "{health:?}");
    assert_eq!(cluster.codes().await, ["STRIPE_DEGRADED", "NO_OPEN_GROUP", "DISK_DOWN"]);
    assert_eq!(health.margin.more_disks, Some(1));

    cluster.replica.change(|truth| down(truth, 4));
    let health = cluster.health().await;
    assert_eq!((health.status, health.ready), (Colour::Red, false), "{health:?}");
    let status = cluster.status().await;
    assert_eq!((status.health, status.margin.more_disks), (Colour::Red, Some(0)));
    assert_eq!(status.reasons, health.reasons, "both tell the same");
    let text = render::text(&status);
    assert!(text.contains("\nHealth     red; no further disk may fail;"), "{text}");
    assert!(text.contains("\nDurability "), "{text}");
    let ready = Call::new(cluster.address, "GET", "/health/ready").send_unsigned().await.is(503);
    let ready: Health = serde_json::from_str(ready.text()).expect("the document");
    assert_eq!(ready.status, Colour::Red);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_and_the_clock_say_is_told() {
    let day = Duration::from_hours(24);
    let ends = move |gatherer: StatusGatherer| {
        let clock = SystemClock::new();
        let end = clock.now().plus_nanos((day * 3).as_nanos() as u64);
        gatherer.with_certificate(Arc::new(move || end))
    };
    let cluster = Fixture::start(ends).await;
    assert_eq!(cluster.codes().await, ["CERTIFICATE_EXPIRES"]);
    cluster.replica.change(|truth| {
        truth.status.withheld = vec![NodeId(1)];
        truth.status.suspects = vec![DiskId(2)];
        truth.status.repairs = 7;
        truth.ahead = Duration::from_hours(1);
        truth.map.upkeep.is_paused = true;
        truth.map.epoch += 1;
    });
    let codes = cluster.codes().await;
    let expected = [
        "STRIPE_DEGRADED",
        "NODES_SILENT",
        "MOVES_PAUSED",
        "DISK_SUSPECT",
        "CLOCK_SKEW",
        "CERTIFICATE_EXPIRES",
    ];
    assert_eq!(codes, expected);
    assert_eq!(cluster.health().await.status, Colour::Red);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_of_the_repair_queue_says_how_urgent_it_is() {
    let cluster = Fixture::start(|gatherer| gatherer).await;
    let extent = model::extent::Extent {
        id: model::ids::ExtentId { pg: model::ids::PgId(0), ..Default::default() },
        coding: model::coding::Coding::new(4, 2).expect("valid"),
        length: 1,
        missing: model::extent::SlotSet::default(),
        epoch: 0,
    };
    cluster.replica.change(|truth| {
        truth.status.repairs = 2;
        truth.repairs =
            RepairPage { total: 2, items: vec![RepairItem { extent, spare: 0 }], next: None };
    });
    let health = cluster.health().await;
    assert_eq!(health.reasons[0].code, "STRIPE_AT_RISK");
    assert_eq!((health.status, health.margin.more_disks), (Colour::Red, Some(0)));
    assert!(health.ready, "all can be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muted_code_does_not_colour_until_it_is_heard_again() {
    let cluster = Fixture::start(|gatherer| gatherer).await;
    cluster.replica.change(|truth| {
        truth.map.upkeep.is_paused = true;
        truth.map.epoch += 1;
    });
    assert_eq!(cluster.health().await.status, Colour::Yellow);
    let reply = cluster.mute(r#"{"code":"moves_paused","seconds":3600}"#).await.is(200);
    assert!(reply.text().contains(r#""code":"MOVES_PAUSED","until":"2"#), "{}", reply.text());
    let health = cluster.health().await;
    assert_eq!(health.status, Colour::Green);
    assert!(health.reasons[0].is_muted(), "{health:?}");
    let text = render::text(&cluster.status().await);
    assert!(text.contains("\nmuted until "), "{text}");

    let reply = cluster.mute(r#"{"code":"MOVES_PAUSED","seconds":0}"#).await.is(200);
    assert!(reply.text().contains(r#""until":null"#), "{}", reply.text());
    assert_eq!(cluster.health().await.status, Colour::Yellow);

    // A mute whose time is over.
    cluster.replica.change(|truth| {
        let (code, until) = ("MOVES_PAUSED".to_owned(), Timestamp(1));
        truth.map.mutes = vec![model::cluster_map::Mute { code, until }];
    });
    assert_eq!(cluster.health().await.status, Colour::Yellow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stops_clients_can_not_be_muted_away() {
    let cluster = Fixture::start(|gatherer| gatherer).await;
    for code in ["DATA_UNREADABLE", "NO_OPEN_GROUP"] {
        let order = format!(r#"{{"code":"{code}","seconds":3600}}"#);
        cluster.mute(&order).await.is(200);
    }
    cluster.replica.change(|truth| (0..3).for_each(|disk| down(truth, disk)));
    let ready = Call::new(cluster.address, "GET", "/health/ready").send_unsigned().await;
    let ready: Health = serde_json::from_str(ready.is(503).text()).expect("the document");
    assert!(!ready.ready && ready.status == Colour::Red, "{ready:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_make_no_sense_or_come_from_pages_are_refused() {
    let cluster = Fixture::start(|gatherer| gatherer).await;
    let unknown = cluster.mute(r#"{"code":"NOTHING","seconds":1}"#).await.is(400);
    assert!(unknown.text().contains("there is no health code NOTHING"), "{}", unknown.text());
    cluster.mute(r#"{"code":"DISK_DOWN","seconds":99999999}"#).await.is(400);
    cluster.mute(r#"{"code":"DISK_DOWN"}"#).await.is(400);
    let plain = Call::new(cluster.address, "POST", "/health/mute").body("{}");
    plain.send_unsigned().await.is(415);
    Call::new(cluster.address, "GET", "/health/mute").send_unsigned().await.is(405);
    Call::new(cluster.address, "POST", "/health").body("{}").send_unsigned().await.is(405);
    assert_eq!(cluster.health().await.status, Colour::Green);
}
