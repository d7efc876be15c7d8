//! The recovery by the admin listener: who may order it, how it is watched, and what is held released.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::Metadata as _;
use gateway::admin::job::JobState;
use gateway::admin::recovery::RecoverReport;
use gateway::admin::status::ClusterStatus;
use gateway::admin::{AdminHandler, AdminParts, Process, ScrubJobs, StatusGatherer, render};
use gateway::http::listener::{ListenerOptions, serve};
use metadata::client::{MetadataClient, ReplicaBook};
use model::ids::{DiskId, ReplicaId, SessionId};
use model::node::Roles;
use model::query::{MetadataError, MetadataRequest, MetadataResponse, MetadataStatus};
use model::recovery::{Held, SessionRange};
use model::time::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::World;
use crate::world::client::{Call, Reply};
use crate::world::metadata::MemoryMetadata;

/// The one replica, with the answers of the world's metadata.
struct Replica(Arc<MemoryMetadata>);

impl Service<MetadataRequest, MetadataResponse> for Replica {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        Box::pin(async move {
            match request {
                MetadataRequest::Status => MetadataResponse::Status(Box::new(MetadataStatus {
                    replica: ReplicaId(1),
                    leader: Some(ReplicaId(1)),
                    state: "leader".to_owned(),
                    voters: vec![ReplicaId(1)],
                    ..MetadataStatus::default()
                })),
                MetadataRequest::Query(query) => match self.0.query(query).await {
                    Ok(answer) => MetadataResponse::Answer(Box::new(answer)),
                    Err(error) => MetadataResponse::Failed(error),
                },
                _ => MetadataResponse::Failed(MetadataError::Unavailable),
            }
        })
    }
}

/// An admin listener: of a gateway with these jobs, or of a process that is none.
async fn listen(world: &World, jobs: Option<Arc<ScrubJobs>>) -> (SocketAddr, watch::Sender<bool>) {
    let roles = if jobs.is_some() { Roles::ALL } else { Roles::METADATA };
    listen_as(world, roles, jobs).await
}

async fn listen_as(
    world: &World,
    roles: Roles,
    jobs: Option<Arc<ScrubJobs>>,
) -> (SocketAddr, watch::Sender<bool>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let network = Arc::new(InProcess::new(Arc::clone(&clock)));
    network.register(Peer(1), Arc::new(Replica(Arc::clone(&world.metadata))) as Arc<_>);
    let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
    let client = Arc::new(MetadataClient::new(network, book, Arc::clone(&clock)));
    let (stop, stopping) = watch::channel(false);
    let engine = jobs.as_ref().map(|_| world.engine.clone());
    let process = Process { roles, node: None, stopping: stopping.clone(), engine };
    let handler = AdminHandler::new(AdminParts {
        gatherer: StatusGatherer::new(client, Arc::new(|_| None), process),
        metrics: Arc::new(String::new),
        clock: Arc::clone(&clock),
        jobs,
        orders: None,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, Arc::new(handler), ListenerOptions::default(), clock, stopping));
    (address, stop)
}

fn jobs(world: &World) -> Arc<ScrubJobs> {
    Arc::new(ScrubJobs::new(world.engine.clone(), Arc::new(SystemClock::new())))
}

fn hold(world: &World, until: u64) {
    *world.metadata.held.lock().expect("no panic") = Some(Held {
        ranges: vec![SessionRange { above: SessionId(0), until: SessionId(until) }],
        since: Timestamp(1_795_000_000_000_000_000),
        index: 42,
        disks: DiskId(6),
        ..Held::default()
    });
}

async fn order(address: SocketAddr, path: &str, body: &str) -> Reply {
    let call = Call::new(address, "POST", path).header("content-type", "application/json");
    call.body(body.to_owned()).send_unsigned().await
}

async fn get(address: SocketAddr, path: &str) -> Reply {
    Call::new(address, "GET", path).send_unsigned().await
}

fn report(reply: &Reply) -> RecoverReport {
    serde_json::from_str(reply.text()).expect("a report")
}

async fn ended(address: SocketAddr) -> RecoverReport {
    for _ in 0..1000 {
        let report = report(&get(address, RECOVERY).await.is(200));
        if report.state != JobState::Running {
            return report;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the recovery doesn't end");
}

async fn status(address: SocketAddr) -> ClusterStatus {
    serde_json::from_str(get(address, "/status").await.is(200).text()).expect("the document")
}

const RECOVERY: &str = "/metadata/recovery";
const STOP: &str = "/metadata/recovery/stop";
const RELEASE: &str = "/metadata/recovery/release";
const ORDER: &str = r#"{"bucket_owner":"drystone"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_shown_recovered_and_released() {
    let world = World::start().await;
    world.call("PUT", "/bucket/key").body(vec![1; 300_000]).send().await.is(200);
    let (address, _stop) = listen(&world, Some(jobs(&world))).await;
    assert_eq!(status(address).await.held, None);
    order(address, RECOVERY, ORDER).await.is(202);
    let none = ended(address).await;
    assert_eq!(none.state, JobState::Failed);
    assert!(none.error.expect("why").contains("nothing is held"));

    hold(&world, 9);
    let shown = status(address).await;
    let held = shown.held.clone().expect("shown");
    assert_eq!((held.from_shards, held.index, held.until), (false, Some(42), 9));
    assert!(!held.groups_adopted);
    let reason = shown.reasons.iter().find(|reason| reason.code == "META_HELD");
    assert!(!reason.expect("told").blocking, "it is in nobody's way");
    let text = render::text(&shown);
    assert!(text.contains("\nHeld       what was written after 2026-11-1"), "{text}");
    assert!(get(address, "/health/ready").await.is(200).text().contains("\"META_HELD\""));

    order(address, RECOVERY, ORDER).await.is(202);
    let done = ended(address).await;
    assert_eq!((done.state, done.error.as_deref(), &*done.phase), (JobState::Done, None, "done"));
    // The tables know all that there is.
    assert_eq!((done.extents, done.known_extents, done.adopted), (1, 1, 0));
    assert!(done.is_whole() && done.ended.is_some());
    assert!(status(address).await.held.expect("still").groups_adopted);

    // Only what was looked at is released.
    let other = order(address, RELEASE, r#"{"until":8}"#).await.is(409);
    assert!(other.text().contains("up to session 9"), "{}", other.text());
    assert!(status(address).await.held.is_some());
    let released = order(address, RELEASE, r#"{"until":9}"#).await.is(200);
    assert_eq!(released.text(), r#"{"released":true}"#);
    assert_eq!(status(address).await.held, None);
    let again = order(address, RELEASE, r#"{"until":9}"#).await.is(200);
    assert_eq!(again.text(), r#"{"released":false}"#);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_recovery_runs_at_a_time_and_can_be_stopped() {
    let world = World::start().await;
    hold(&world, 9);
    let jobs = jobs(&world);
    let (address, _stop) = listen(&world, Some(Arc::clone(&jobs))).await;
    get(address, RECOVERY).await.is(404);
    order(address, STOP, "{}").await.is(404);
    // It waits for the metadata for as long as that is away.
    world.metadata.away.store(true, Ordering::Relaxed);
    let first = report(&order(address, RECOVERY, ORDER).await.is(202));
    assert_eq!(first.state, JobState::Running);
    order(address, RECOVERY, ORDER).await.is(409);
    order(address, RELEASE, r#"{"until":9}"#).await.is(409);
    assert_eq!(report(&get(address, RECOVERY).await.is(200)).state, JobState::Running);
    order(address, STOP, "{}").await.is(200);
    let stopped = ended(address).await;
    assert_eq!((stopped.state, stopped.started), (JobState::Stopped, first.started));
    assert!(stopped.ended.is_some());
    // After that another, which ends with the gateway; then none.
    order(address, RECOVERY, ORDER).await.is(202);
    jobs.stop_all().await;
    get(address, RECOVERY).await.is(404);
    order(address, RECOVERY, ORDER).await.is(503);
    world.metadata.away.store(false, Ordering::Relaxed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_none_begin_and_release_nothing() {
    let world = World::start().await;
    hold(&world, 9);
    let (address, _stop) = listen(&world, Some(jobs(&world))).await;
    for path in [RECOVERY, STOP, RELEASE] {
        let post = || Call::new(address, "POST", path).body(ORDER);
        post().send_unsigned().await.is(415);
        let json = post().header("content-type", "application/json");
        json.header("origin", "http://example.com").send_unsigned().await.is(403);
        Call::new(address, "DELETE", path).send_unsigned().await.is(405);
        order(address, path, &" ".repeat(20_000)).await.is(413);
    }
    get(address, STOP).await.is(405);
    get(address, RELEASE).await.is(405);
    for wrong in [
        "",
        "{}",
        r#"{"bucket_owner":""}"#,
        r#"{"bucket_owner":"o","lost_disks":[-1]}"#,
        r#"{"bucket_owner":"o","lost_disk":[1]}"#,
    ] {
        order(address, RECOVERY, wrong).await.is(400);
    }
    for wrong in ["", "{}", r#"{"until":-1}"#, r#"{"until":9,"force":true}"#] {
        order(address, RELEASE, wrong).await.is(400);
    }
    get(address, RECOVERY).await.is(404);
    assert!(world.metadata.held.lock().expect("no panic").is_some());

    // A process without a gateway can only tell.
    let (keeper, _stop_keeper) = listen(&world, None).await;
    for (path, body) in [(RECOVERY, ORDER), (STOP, "{}"), (RELEASE, r#"{"until":9}"#)] {
        let refused = order(keeper, path, body).await.is(501);
        assert!(refused.text().contains("no gateway"), "{}", refused.text());
    }
    assert_eq!(status(keeper).await.held.expect("shown").until, 9);
    // Nor may those who only keep shards ask.
    let (node, _stop_node) = listen_as(&world, Roles::STORAGE_NODE, None).await;
    let shown = status(node).await;
    assert!(shown.held.is_none() && shown.cluster.is_some());
    world.stop().await;
}
