//! A gateway on a real engine, with metadata and shards in memory, behind a real socket.

pub mod client;
pub mod metadata;
pub mod shards;

use std::net::SocketAddr;
use std::sync::Arc;

use engine::{Engine, EngineOptions, EngineParts};
use gateway::auth::{RootCredentials, Secret};
use gateway::http::listener::{ListenerOptions, Stopped, serve};
use gateway::{Gateway, GatewayOptions, Identity};
use model::cluster_map::{ClusterMap, Disk, DiskState, Standing};
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::clock::{Clock, SystemClock};
use wire::entropy::SystemEntropy;
use wire::network::{InProcess, Peer};

use client::{ACCESS_KEY, Call, REGION, SECRET_KEY};
use metadata::MemoryMetadata;
use shards::MemoryShards;

/// A running gateway.
pub struct World {
    pub address: SocketAddr,
    pub metadata: Arc<MemoryMetadata>,
    pub shards: Arc<MemoryShards>,
    pub engine: Engine,
    stop: watch::Sender<bool>,
    server: JoinHandle<Stopped>,
}

impl World {
    /// A 4+2 cluster of six disks with the bucket `bucket`.
    pub async fn start() -> Self {
        Self::start_with(EngineOptions::default(), ListenerOptions::default()).await
    }

    /// The same, with other limits.
    pub async fn start_with(engine: EngineOptions, listening: ListenerOptions) -> Self {
        Self::start_of(cluster_map(), engine, listening).await
    }

    /// The same, of another cluster.
    pub async fn start_of(
        map: ClusterMap,
        engine: EngineOptions,
        listening: ListenerOptions,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let metadata = Arc::new(MemoryMetadata::new(map));
        let shards = Arc::new(MemoryShards::default());
        let network = Arc::new(InProcess::new(Arc::clone(&clock)));
        network.register(Peer(1), Arc::clone(&shards) as Arc<_>);
        let engine = Engine::new(EngineParts {
            metadata: Arc::clone(&metadata) as Arc<_>,
            shards: network,
            clock: Arc::clone(&clock),
            entropy: Arc::new(SystemEntropy::new()),
            cluster_key: [7; 32],
            options: engine,
        });
        let options = GatewayOptions {
            region: REGION.to_owned(),
            domains: vec!["s3.test".to_owned()],
            root: RootCredentials {
                access_key: ACCESS_KEY.to_owned(),
                secret_key: Secret::new(SECRET_KEY.to_owned()),
            },
            owner: Identity { id: "owner".to_owned(), display_name: "root".to_owned() },
        };
        let entropy = Arc::new(SystemEntropy::new());
        let gateway = Gateway::new(engine.clone(), Arc::clone(&clock), entropy, options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopping) = watch::channel(false);
        let serving = serve(listener, Arc::new(gateway), listening.clone(), clock, stopping);
        let server = tokio::spawn(serving);
        let world = Self { address, metadata, shards, engine, stop, server };
        if listening.tls.is_none() {
            world.call("PUT", "/bucket").send().await.is(200);
        }
        world
    }

    pub fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.address, method, target)
    }

    /// Stops the gateway, and tells how it ended.
    pub async fn stop(self) -> Stopped {
        self.stop.send_replace(true);
        let stopped = self.server.await.expect("joined");
        self.engine.shutdown().await;
        stopped
    }

    /// Gives the order to stop, and goes on.
    pub fn order_stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Six disks, 4+2.
pub fn cluster_map() -> ClusterMap {
    let disk = |number: u32| Disk {
        id: DiskId(number),
        uuid: DiskUuid([number as u8; 16]),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        state: DiskState::Up,
        path: format!("/disk{number}"),
        standing: Standing::default(),
    };
    let mut map = ClusterMap {
        disks: (0..6).map(disk).collect(),
        ..ClusterMap::new(ClusterId([1; 16]), Coding::new(4, 2).expect("valid"))
    };
    map.pgs = model::placement::pgs_to_add(&map);
    map
}

/// Bytes that no compression or repetition could hide an error in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}
