//! The cluster that is measured: metadata nodes, each a process, and this program as their client.
//!
//! In: nothing but a directory. Out: nodes that were founded and joined as an operator does it, and
//! a client with a certificate of the cluster. All traffic is that of a real cluster, over TLS.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use metadata::client::{MetadataClient, MetadataNetwork, ReplicaBook};
use model::cluster_map::ClusterMap;
use model::command::Command;
use model::ids::{DiskUuid, NodeId, ReplicaId};
use model::query::{Answer, MetadataRequest, MetadataResponse, MetadataStatus, Query};
use wire::clock::{Clock, SystemClock};
use wire::network::Peer;
use wire::rpc::{ClientOptions, Route, Routes, RpcClient, RpcNetwork, Security};
use wire::tls::Credentials;

use super::node::{Node, free_address, run};
use super::relay::Relay;

const DISKS: u8 = 12;
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(100);
/// The founder's node and replica.
const FIRST: u32 = 1;

/// The cluster.
pub struct Cluster {
    /// Its nodes, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// This program's way to it.
    pub client: Arc<MetadataClient>,
    places: Arc<Places>,
    token: String,
}

/// Where replicas are, as the cluster map says.
struct Places {
    founder: String,
    map: RwLock<Option<ClusterMap>>,
}

impl Routes for Places {
    fn route(&self, peer: Peer) -> Option<Route> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let Some(map) = &*map else {
            let founder = peer.0 == u64::from(FIRST);
            let (address, node) = (self.founder.clone(), Some(NodeId(FIRST)));
            return founder.then_some(Route { address, node, target: peer.0 });
        };
        let node = map.node_of(ReplicaId(peer.0))?;
        let address = node.registration.address.clone();
        Some(Route { address, node: Some(node.id), target: peer.0 })
    }
}

impl Cluster {
    /// Founds a cluster of one metadata node, and enters disks into its map. Nobody reports them,
    /// and nothing is ever written to them.
    pub async fn found(root: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut founder = Node::new(root, FIRST, address)?;
        let (host, address) = (founder.host_directory(), address.to_string());
        run(&["cluster", "init", "--host-directory", text(&host)?, "--address", &address])?;
        founder.start().await?;
        let token = new_token(&founder).await?;
        // This program is a node, too.
        let own = root.join("client");
        let roles = "storage-node,gateway";
        join(&own, &token, &free_address()?.to_string(), roles)?;
        let credentials = Credentials::new(
            &pem(&own.join("node.crt"))?,
            &pem(&own.join("node.key"))?,
            &pem(&own.join("authority.crt"))?,
        )?;
        let node = credentials.identity().node;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let rpc = RpcClient::new(
            Security::Tls(credentials),
            ClientOptions::default(),
            Arc::clone(&clock),
        )?;
        let places = Arc::new(Places { founder: address, map: RwLock::default() });
        let network: RpcNetwork<MetadataRequest, MetadataResponse> =
            RpcNetwork::new(rpc, Arc::clone(&places) as _, None);
        let network: Arc<MetadataNetwork> = Arc::new(network);
        let book = Arc::new(ReplicaBook::new(vec![ReplicaId(u64::from(FIRST))]));
        let client = Arc::new(MetadataClient::new(network, book, clock));
        for disk in 1..=DISKS {
            client.propose_one(registration(disk, node)).await.context("a disk is registered")?;
        }
        Ok(Self { nodes: vec![founder], client, places, token })
    }

    /// Lets one more metadata node in, behind a relay, and starts it.
    pub async fn join(&mut self) -> Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let (address, listen) = (listener.local_addr()?, free_address()?);
        let root = self.nodes.first().context("a founder")?.host_directory();
        let root = root.ancestors().nth(2).context("its root")?.to_owned();
        let mut node = Node::new(&root, self.nodes.len() as u32 + 1, listen)?;
        node.relay = Some(Relay::start(listener, listen));
        let said = join(&node.host_directory(), &self.token, &address.to_string(), "metadata")?;
        let number = said.split("node ").nth(1).and_then(|rest| rest.split(' ').next());
        node.number = number.and_then(|number| number.parse().ok()).context("the node's number")?;
        node.start().await?;
        self.nodes.push(node);
        Ok(())
    }

    /// The cluster map as it is now.
    pub async fn map(&self) -> Result<ClusterMap> {
        match self.client.query(Query::ClusterMap { known_epoch: 0 }).await? {
            Answer::ClusterMap(Some(map)) => {
                let mut places = self.places.map.write().unwrap_or_else(PoisonError::into_inner);
                // Before the founder has placed its replica, the map has none.
                if !map.replicas.is_empty() {
                    *places = Some(map.clone());
                }
                Ok(map)
            }
            other => bail!("{other:?}"),
        }
    }

    /// What the leader tells of itself.
    pub async fn leader(&self) -> Result<MetadataStatus> {
        let clock = SystemClock::new();
        loop {
            for place in self.map().await?.replicas {
                if let Ok(status) = self.client.status(place.replica).await
                    && status.state == "leader"
                {
                    return Ok(status);
                }
            }
            ensure!(clock.monotonic() < PATIENCE, "nobody leads");
            clock.sleep(POLL).await;
        }
    }

    /// The place of the node, among `nodes`, that has the leader.
    pub async fn leading(&self) -> Result<usize> {
        let leader = self.leader().await?.replica;
        let map = self.map().await?;
        let node = map.node_of(leader).context("the leader's node")?.id.0;
        self.nodes.iter().position(|one| one.number == node).context("the leader's process")
    }

    /// Waits until so many vote and all of them have applied what the leader has.
    pub async fn until_even(&self, voters: usize) -> Result<()> {
        let clock = SystemClock::new();
        loop {
            let leader = self.leader().await?;
            let mut even = 0;
            for voter in &leader.voters {
                let status = self.client.status(*voter).await;
                let is_even = |one: MetadataStatus| one.last_applied_index >= leader.last_log_index;
                even += usize::from(status.is_ok_and(is_even));
            }
            if leader.voters.len() == voters && even == voters {
                return Ok(());
            }
            let told = (leader.voters, leader.last_log_index, even);
            ensure!(clock.monotonic() < PATIENCE, "the replicas: {told:?}");
            clock.sleep(POLL).await;
        }
    }
}

fn registration(disk: u8, node: NodeId) -> Command {
    Command::RegisterDisk {
        uuid: DiskUuid([disk; 16]),
        node,
        rack: String::new(),
        zone: String::new(),
        weight: 10,
        path: format!("/disk{disk}"),
    }
}

/// A join token; the founder gives one as soon as it is founded.
async fn new_token(founder: &Node) -> Result<String> {
    let endpoint = format!("http://{}", founder.admin);
    let roles = "metadata,storage-node,gateway";
    let mut arguments = vec!["cluster", "token", "create", "--endpoint", &endpoint];
    arguments.extend(["--roles", roles, "--uses", "10"]);
    let clock = SystemClock::new();
    loop {
        match run(&arguments) {
            Ok(said) => {
                let token = said.split_whitespace().find(|word| word.starts_with("drystone-join-"));
                return Ok(token.context("a token")?.to_owned());
            }
            Err(error) if clock.monotonic() > PATIENCE => return Err(error),
            Err(_) => clock.sleep(POLL).await,
        }
    }
}

fn join(host: &Path, token: &str, address: &str, roles: &str) -> Result<String> {
    run(&[
        "cluster",
        "join",
        "--host-directory",
        text(host)?,
        "--token",
        token,
        "--address",
        address,
        "--roles",
        roles,
    ])
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that isn't text")
}

/// The content of a PEM file.
fn pem(path: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(path)?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Ok(STANDARD.decode(body)?)
}
