//! The admin listener, with one metadata replica in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway::admin::job::{Job, JobState};
use gateway::admin::status::ClusterStatus;
use gateway::admin::{AdminHandler, AdminParts, Process, ScrubJobs, StatusGatherer, render};
use gateway::http::listener::{ListenerOptions, serve};
use metadata::client::{MetadataClient, ReplicaBook};
use model::cluster_map::{ClusterMap, DiskState};
use model::ids::{DiskId, ReplicaId};
use model::node::Roles;
use model::query::{Answer, MetadataError, MetadataRequest, MetadataResponse, MetadataStatus};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::client::{Call, Reply};
use crate::world::{World, cluster_map};

/// A replica that leads, or doesn't answer.
pub struct Replica {
    map: ClusterMap,
    is_dead: AtomicBool,
}

impl Service<MetadataRequest, MetadataResponse> for Replica {
    fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        let response = match request {
            _ if self.is_dead.load(Ordering::Relaxed) => {
                MetadataResponse::Failed(MetadataError::Unavailable)
            }
            MetadataRequest::Status => MetadataResponse::Status(Box::new(MetadataStatus {
                replica: ReplicaId(1),
                leader: Some(ReplicaId(1)),
                state: "leader".to_owned(),
                voters: vec![ReplicaId(1)],
                objects: 3,
                ..MetadataStatus::default()
            })),
            _ => {
                let map = Answer::ClusterMap(Some(self.map.clone()));
                MetadataResponse::Answer(Box::new(map))
            }
        };
        Box::pin(std::future::ready(response))
    }
}

/// An admin listener on `world`'s engine.
pub async fn listen(
    world: &World,
    map: ClusterMap,
) -> (SocketAddr, Arc<Replica>, Arc<ScrubJobs>, watch::Sender<bool>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let replica = Arc::new(Replica { map, is_dead: AtomicBool::new(false) });
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
    let gatherer = StatusGatherer::new(client, Arc::new(|_| Some("/disk0".to_owned())), process)
        .with_silence_max(std::time::Duration::ZERO);
    let jobs = Arc::new(ScrubJobs::new(world.engine.clone(), Arc::clone(&clock)));
    let handler = AdminHandler::new(AdminParts {
        gatherer,
        metrics: Arc::new(|| "up 1\n".to_owned()),
        clock: Arc::clone(&clock),
        jobs: Some(Arc::clone(&jobs)),
        orders: None,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, Arc::new(handler), ListenerOptions::default(), clock, stopping));
    (address, replica, jobs, stop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_status() {
    let mut map = cluster_map();
    map.disk_mut(DiskId(5)).expect("a disk").state = DiskState::Down;
    let world = World::start().await;
    let (address, replica, _jobs, _stop) = listen(&world, map).await;
    let get = |path: &str| Call::new(address, "GET", path).send_unsigned();

    assert_eq!(get("/metrics").await.is(200).text(), "up 1\n");
    get("/health/live").await.is(200);
    get("/nowhere").await.is(404);
    Call::new(address, "POST", "/status").body("x").send_unsigned().await.is(405);
    Call::new(address, "PUT", "/status").body("x").send_unsigned().await.is(405);
    let ready = get("/health/ready").await.is(200);
    assert!(ready.text().contains("\"STRIPE_DEGRADED\""), "{}", ready.text());
    let status = get("/status").await.is(200);
    let status: ClusterStatus = serde_json::from_str(status.text()).expect("the document");
    assert_eq!(status.fault_tolerance.more_disks, Some(1));
    assert_eq!(status.fault_tolerance.more_metadata_replicas, Some(0));
    assert_eq!(status.metadata.leader_disk.as_deref(), Some("/disk0"));
    assert_eq!(status.usage.objects, Some(3));
    assert!(render::text(&status).contains("Tolerance  survives any 1 disk; not 2 disks"));

    replica.is_dead.store(true, Ordering::Relaxed);
    let ready = get("/health/ready").await.is(503);
    assert!(ready.text().contains("\"META_NO_QUORUM\""), "{}", ready.text());
}

/// Gives an order.
async fn order(address: SocketAddr, path: &str, body: &str) -> Reply {
    let call = Call::new(address, "POST", path).header("content-type", "application/json");
    call.body(body.to_owned()).send_unsigned().await
}

fn job(reply: &Reply) -> Job {
    serde_json::from_str(reply.text()).expect("a job")
}

async fn ended(address: SocketAddr, id: u64) -> Job {
    for _ in 0..1000 {
        let reply = Call::new(address, "GET", &format!("/jobs/{id}")).send_unsigned().await;
        let job = job(&reply.is(200));
        if job.state != JobState::Running {
            return job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("job {id} doesn't end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scrubs_are_ordered_watched_and_counted() {
    let world = World::start().await;
    let (address, _replica, jobs, _stop) = listen(&world, cluster_map()).await;
    world.call("PUT", "/bucket/small").body(vec![1; 4096]).send().await.is(200);
    world.call("PUT", "/bucket/large/one").body(vec![2; 300_000]).send().await.is(200);
    let first = order(address, "/scrub", r#"{"scope":"bucket","bucket":"bucket"}"#).await.is(202);
    let done = ended(address, job(&first).id).await;
    assert_eq!((done.state, done.sound, done.missing), (JobState::Done, 9, 0), "{done:?}");
    assert_eq!((done.done, done.total, &*done.unit), (2, 2, "objects"));
    assert!(done.is_clean() && done.ended.is_some());
    world.shards.lose(4..5);
    let text = r#"{"scope":"object","bucket":"bucket","key":"large/one"}"#;
    let second = order(address, "/scrub", text).await.is(202);
    let done = ended(address, job(&second).id).await;
    assert_eq!((done.sound, done.missing, done.queued), (5, 1, 1), "{done:?}");
    assert!(!done.is_clean());
    let text = r#"{"scope":"object","bucket":"bucket","key":"none"}"#;
    let third = ended(address, job(&order(address, "/scrub", text).await).id).await;
    assert_eq!((third.state, third.error.as_deref()), (JobState::Failed, Some("no such key")));
    let all = Call::new(address, "GET", "/jobs").send_unsigned().await.is(200);
    let all: Vec<Job> = serde_json::from_str(all.text()).expect("jobs");
    assert_eq!(all.iter().map(|job| job.id).collect::<Vec<_>>(), [1, 2, 3]);
    jobs.stop_all().await;
    order(address, "/scrub", r#"{"scope":"all"}"#).await.is(503);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_runs_is_not_begun_twice_and_can_be_stopped() {
    let world = World::start().await;
    let (address, _replica, _jobs, _stop) = listen(&world, cluster_map()).await;
    for name in ["a", "b", "c"] {
        world.call("PUT", &format!("/bucket/{name}")).body(vec![1; 300_000]).send().await.is(200);
    }
    // A byte a second: it would take days.
    let text = r#"{"scope":"bucket","bucket":"bucket","bytes_per_second":1}"#;
    let first = job(&order(address, "/scrub", text).await.is(202));
    let same = job(&order(address, "/scrub", text).await.is(200));
    assert_eq!((same.id, same.state), (first.id, JobState::Running));
    // Only so many at once.
    for name in ["a", "b", "c"] {
        let text = format!(
            r#"{{"scope":"object","bucket":"bucket","key":"{name}","bytes_per_second":1}}"#
        );
        order(address, "/scrub", &text).await.is(202);
    }
    order(address, "/scrub", r#"{"scope":"all"}"#).await.is(503);
    order(address, &format!("/jobs/{}/stop", first.id), "").await.is(200);
    assert_eq!(ended(address, first.id).await.state, JobState::Stopped);
    order(address, "/scrub", r#"{"scope":"all"}"#).await.is(202);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_are_none_are_refused() {
    let world = World::start().await;
    let (address, _replica, jobs, _stop) = listen(&world, cluster_map()).await;
    let all = r#"{"scope":"all"}"#;
    let post = |path: &str| Call::new(address, "POST", path).body(all);
    // What a web page could send.
    post("/scrub").send_unsigned().await.is(415);
    post("/scrub").header("content-type", "text/plain").send_unsigned().await.is(415);
    let from_a_page = post("/scrub").header("content-type", "application/json");
    from_a_page.header("origin", "http://example.com").send_unsigned().await.is(403);
    let asked = Call::new(address, "OPTIONS", "/scrub").send_unsigned().await.is(405);
    assert_eq!(asked.header("access-control-allow-origin"), None);
    for wrong in ["", "[]", "{}", r#"{"scope":"disk"}"#, r#"{"scope":"bucket","bucket":"A B"}"#] {
        order(address, "/scrub", wrong).await.is(400);
    }
    let long = format!(r#"{{"scope":"bucket","bucket":"{}"}}"#, "b".repeat(20_000));
    order(address, "/scrub", &long).await.is(413);
    order(address, "/nowhere", all).await.is(404);
    order(address, "/jobs/1", all).await.is(405);
    order(address, "/jobs/1/stop", "").await.is(404);
    for (method, path, status) in [
        ("GET", "/scrub", 405),
        ("GET", "/jobs/1/stop", 405),
        ("GET", "/jobs/1", 404),
        ("GET", "/jobs/x", 404),
        ("DELETE", "/jobs/1", 405),
    ] {
        Call::new(address, method, path).send_unsigned().await.is(status);
    }
    assert!(jobs.list().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_elsewhere_are_refused() {
    let world = World::start().await;
    let (address, _replica, _jobs, _stop) = listen(&world, cluster_map()).await;
    let get = |path: &str| Call::new(address, "GET", path);
    for path in ["/status", "/metrics", "/nodes", "/metadata/backup"] {
        for (name, value) in [
            ("origin", "http://example.com"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            get(path).header(name, value).send_unsigned().await.is(403);
        }
    }
    for own in ["none", "same-origin"] {
        get("/nodes").header("sec-fetch-site", own).send_unsigned().await.is(200);
    }
    // A page's own name may lead here.
    let by = async |host: &str, method: &str, path: &str| {
        let mut call = Call::new(address, method, path);
        call.headers = vec![("host".to_owned(), host.to_owned())];
        call.send_unsigned().await
    };
    for host in ["example.com", "example.com:80", "localhost.example.com", "127.0.0.1.nip.io:9", ""]
    {
        by(host, "GET", "/nodes").await.is(403);
        by(host, "GET", "/metadata/backup").await.is(403);
        by(host, "GET", "/metadata/recovery").await.is(403);
        by(host, "DELETE", "/cluster/tokens/1").await.is(403);
        by(host, "GET", "/status").await.is(200);
        by(host, "GET", "/metrics").await.is(200);
        by(host, "GET", "/health/live").await.is(200);
    }
    for host in ["127.0.0.1", "127.0.0.1:9001", "localhost:9001", "LOCALHOST", "[::1]", "[::1]:9"] {
        by(host, "GET", "/nodes").await.is(200);
    }
    world.stop().await;
}
