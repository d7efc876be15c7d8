//! The admin listener, with one metadata replica in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gateway::admin::status::ClusterStatus;
use gateway::admin::{AdminHandler, StatusGatherer, render};
use gateway::http::listener::{ListenerOptions, serve};
use metadata::client::{MetadataClient, ReplicaBook};
use model::cluster_map::{ClusterMap, DiskState};
use model::ids::{DiskId, ReplicaId};
use model::query::{Answer, MetadataError, MetadataRequest, MetadataResponse, MetadataStatus};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::network::{InProcess, Peer, Service};

use crate::world::client::Call;
use crate::world::cluster_map;

/// A replica that leads, or doesn't answer.
struct Replica {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_status() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut map = cluster_map();
    map.disk_mut(DiskId(5)).expect("a disk").state = DiskState::Down;
    let replica = Arc::new(Replica { map, is_dead: AtomicBool::new(false) });
    let network = Arc::new(InProcess::new(Arc::clone(&clock)));
    network.register(Peer(1), Arc::clone(&replica) as Arc<_>);
    let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
    let client = Arc::new(MetadataClient::new(network, book, Arc::clone(&clock)));
    let gatherer = StatusGatherer::new(client, Arc::new(|_| Some("/disk0".to_owned())));
    let handler = AdminHandler::new(gatherer, Arc::new(|| "up 1\n".to_owned()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(serve(listener, Arc::new(handler), ListenerOptions::default(), clock, stopping));
    let get = |path: &str| Call::new(address, "GET", path).send_unsigned();

    assert_eq!(get("/metrics").await.is(200).text(), "up 1\n");
    get("/health/live").await.is(200);
    get("/nowhere").await.is(404);
    Call::new(address, "POST", "/status").body("x").send_unsigned().await.is(405);
    let ready = get("/health/ready").await.is(200);
    assert!(ready.text().contains("\"disks_missing\""), "{}", ready.text());
    let status = get("/status").await.is(200);
    let status: ClusterStatus = serde_json::from_str(status.text()).expect("the document");
    assert_eq!(status.fault_tolerance.more_disks, Some(1));
    assert_eq!(status.fault_tolerance.more_metadata_replicas, Some(0));
    assert_eq!(status.metadata.leader_disk.as_deref(), Some("/disk0"));
    assert_eq!(status.usage.objects, Some(3));
    assert!(render::text(&status).contains("survives the loss of any 1 more disk"));

    replica.is_dead.store(true, Ordering::Relaxed);
    let ready = get("/health/ready").await.is(503);
    assert!(ready.text().contains("\"metadata_unavailable\""), "{}", ready.text());
}
