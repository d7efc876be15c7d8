//! A process's link to its cluster: the internal listener, the way to every other node, and what
//! keeps both true.
//!
//! In: a host directory. Out: networks to replicas and storage nodes, a metadata client, and a
//! registry of the services that this process answers. While it is open it registers the node,
//! follows the members, and renews the certificate. What always holds: what was learnt of members
//! is written down, so that the next start finds somebody to ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use metadata::client::MetadataClient;
use model::membership::{Members, MembershipError, MembershipRequest, MembershipResponse};
use model::query::{Answer, MetadataRequest, MetadataResponse, Query};
use model::shard::{ShardRequest, ShardResponse};
use model::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::network::{InProcess, Network, Peer};
use wire::rpc::{
    ClientOptions, Route, Routes, RpcClient, RpcNetwork, RpcServer, Security, ServerLimits,
    Services,
};
use wire::tls::{Authority, Credentials, NodeKey};

use super::book::{MemberBook, NodeRoutes, ReplicaRoutes};
use super::certificate;
use super::directory::HostDirectory;
use crate::process::{Doors, bind};

/// How often the members are looked at; the metadata answers at once when nothing changed.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// How long the members' whereabouts are asked of the replicas that are known; longer than an
/// election takes.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(4);

/// The pause between two attempts to be heard by any metadata node.
const REGISTER_PAUSE: Duration = Duration::from_millis(200);

/// How long one question about membership may take.
const MEMBERSHIP_DEADLINE: Duration = Duration::from_secs(5);

/// The pause after a failed renewal or registration: soon enough for a certificate's last third.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The longest that the renewal sleeps: clocks may be set.
const RENEWAL_LOOK: Duration = Duration::from_mins(10);

/// How long calls under way may take when the process ends.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The link.
pub struct Link {
    core: Arc<Core>,
    server: RpcServer,
    services: Arc<Services>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Core {
    directory: HostDirectory,
    credentials: Arc<Credentials>,
    book: Arc<MemberBook>,
    client: Arc<RpcClient>,
    doors: Doors,
}

impl Link {
    /// Listens, and gets ready to call others.
    pub fn open(
        directory: HostDirectory,
        listen: Option<SocketAddr>,
        doors: &Doors,
    ) -> Result<Self> {
        let listen = match listen {
            Some(listen) => listen,
            None => default_listen(&directory.identity().address)?,
        };
        let listener = bind(listen).context("the internal listener can't be opened")?;
        let address = listener.local_addr()?;
        let credentials = certificate::in_force(&directory, doors)?;
        let book = MemberBook::new(directory.members(), directory.told_addresses()?);
        // Until the first map is heard of, everybody with a certificate is let in.
        let services = Services::among(Arc::clone(&book) as _);
        let server = RpcServer::start(
            listener,
            Security::Tls(Arc::clone(&credentials)),
            Arc::clone(&services),
            ServerLimits::default(),
            Arc::clone(&doors.clock),
        )?;
        let client = RpcClient::new(
            Security::Tls(Arc::clone(&credentials)),
            ClientOptions::default(),
            Arc::clone(&doors.clock),
        )?;
        let core = Core { directory, credentials, book, client, doors: doors.clone() };
        let (stop, _) = watch::channel(false);
        Ok(Self { core: Arc::new(core), server, services, address, stop, tasks: Mutex::default() })
    }

    /// Tells when this node's certificate ends, as renewed by then.
    pub fn certificate_end(&self) -> Arc<dyn Fn() -> Timestamp + Send + Sync> {
        let credentials = Arc::clone(&self.core.credentials);
        Arc::new(move || credentials.expires())
    }

    /// The host directory.
    pub fn directory(&self) -> &HostDirectory {
        &self.core.directory
    }

    /// The host directory, to be changed: only before anything else of this process uses it.
    pub fn directory_mut(&mut self) -> Result<&mut HostDirectory> {
        Arc::get_mut(&mut self.core)
            .map(|core| &mut core.directory)
            .context("the host directory is in use")
    }

    /// SHA-256 of the authority's certificate, which join tokens carry.
    pub fn authority_pin(&self) -> Result<[u8; 32]> {
        Ok(Authority::pin(&self.core.directory.authority()?))
    }

    /// Where the internal listener is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What this process answers.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// The way to metadata replicas, those in `local` in process.
    pub fn metadata_network(
        &self,
        local: Option<Arc<InProcess<MetadataRequest, MetadataResponse>>>,
    ) -> Arc<dyn Network<MetadataRequest, MetadataResponse>> {
        self.network(ReplicaRoutes(Arc::clone(&self.core.book)), local)
    }

    /// The way to the replicas' Raft.
    pub fn raft_network(
        &self,
        local: Arc<InProcess<metadata::raft::RaftRequest, metadata::raft::RaftResponse>>,
    ) -> Arc<metadata::raft::RaftNetwork> {
        self.network(ReplicaRoutes(Arc::clone(&self.core.book)), Some(local))
    }

    /// The way to storage nodes, this one in process.
    pub fn shard_network(
        &self,
        local: Option<Arc<InProcess<ShardRequest, ShardResponse>>>,
    ) -> Arc<dyn Network<ShardRequest, ShardResponse>> {
        self.network(NodeRoutes(Arc::clone(&self.core.book)), local)
    }

    fn network<Q: model::rpc::Request, R: model::rpc::Message>(
        &self,
        routes: impl Routes,
        local: Option<Arc<InProcess<Q, R>>>,
    ) -> Arc<dyn Network<Q, R>> {
        Arc::new(RpcNetwork::new(Arc::clone(&self.core.client), Arc::new(routes), local))
    }

    /// A client of the metadata.
    pub fn metadata_client(
        &self,
        local: Option<Arc<InProcess<MetadataRequest, MetadataResponse>>>,
    ) -> Arc<MetadataClient> {
        Arc::new(MetadataClient::new(
            self.metadata_network(local),
            Arc::clone(self.core.book.replicas()),
            Arc::clone(&self.core.doors.clock),
        ))
    }

    /// Begins to register, to follow the members and to renew the certificate.
    pub fn keep_up(&self, metadata: Arc<MetadataClient>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let until = |stopped: watch::Receiver<bool>| async move {
            let mut stopped = stopped;
            // An error says that the link is gone, which is a stop, too.
            let _either_way = stopped.wait_for(|stop| *stop).await;
        };
        let core = Arc::clone(&self.core);
        let stopped = until(self.stop.subscribe());
        tasks.push(tokio::spawn(async move {
            tokio::select! { () = stopped => {}, () = core.follow(&metadata) => {} }
        }));
        let core = Arc::clone(&self.core);
        let stopped = until(self.stop.subscribe());
        tasks.push(tokio::spawn(async move {
            tokio::select! { () = stopped => {}, () = core.renew() => {} }
        }));
    }

    /// Stops listening and calling.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the cluster link failed");
            }
        }
        self.server.stop(STOP_GRACE).await;
    }
}

impl Core {
    /// Keeps the members true, for ever.
    async fn follow(&self, metadata: &MetadataClient) {
        let mut registered = false;
        loop {
            if !registered {
                match self.register().await {
                    // Who came before the founder's replica was placed asks again.
                    Ok(()) => registered = !self.book.members().replicas.is_empty(),
                    Err(MembershipError::Unavailable) => {}
                    Err(error) => {
                        tracing::error!(%error, "the cluster doesn't take this node");
                        self.doors.clock.sleep(RETRY_PAUSE).await;
                    }
                }
            }
            if !registered {
                self.doors.clock.sleep(REGISTER_PAUSE).await;
                continue;
            }
            let known_epoch = self.book.members().epoch;
            let query = metadata.query(Query::ClusterMap { known_epoch });
            match wire::clock::timeout(&*self.doors.clock, FOLLOW_PATIENCE, query).await {
                Ok(Ok(Answer::ClusterMap(Some(map)))) => {
                    // Metadata that was put back may have forgotten this node.
                    registered = map.node(self.directory.identity().node).is_some();
                    self.take(&Members::from(&map));
                }
                Ok(Ok(_)) => {}
                // The replicas may all have moved while this process was away.
                Ok(Err(_)) | Err(_) => registered = false,
            }
            self.doors.clock.sleep(FOLLOW_INTERVAL).await;
        }
    }

    fn take(&self, members: &Members) {
        if self.book.take(members)
            && let Err(error) = self.write_down(members)
        {
            tracing::warn!(%error, "the members were not written down");
        }
    }

    /// First where they are: after a crash between the two, what an operator told counts no longer.
    fn write_down(&self, members: &Members) -> Result<()> {
        self.directory.write_members(members)?;
        self.directory.write_told_addresses(&self.book.told_addresses())
    }

    /// Tells any metadata node that this node is here.
    async fn register(&self) -> Result<(), MembershipError> {
        let node = self.directory.identity().registration();
        match self.ask(MembershipRequest::Register { node }).await? {
            MembershipResponse::Registered(members) => {
                self.take(&members);
                Ok(())
            }
            MembershipResponse::Failed(error) => Err(error),
            _ => Err(MembershipError::Unavailable),
        }
    }

    /// Renews the certificate when two thirds of its life are over, for ever.
    async fn renew(&self) {
        loop {
            let now = self.doors.clock.now();
            let left = self.credentials.renew_at().0.saturating_sub(now.0);
            if left > 0 {
                self.doors.clock.sleep(Duration::from_nanos(left).min(RENEWAL_LOOK)).await;
                continue;
            }
            match self.new_certificate().await {
                Ok(()) => tracing::info!("this node's certificate was renewed"),
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the certificate was not renewed"
                    );
                }
            }
            self.doors.clock.sleep(RETRY_PAUSE).await;
        }
    }

    async fn new_certificate(&self) -> Result<()> {
        let der = self.directory.key()?;
        let certificate_request = NodeKey::from_der(&der)?.certificate_request()?.into();
        let certificate = match self.ask(MembershipRequest::Renew { certificate_request }).await? {
            MembershipResponse::Renewed(certificate) => certificate,
            MembershipResponse::Failed(error) => return Err(error.into()),
            _ => anyhow::bail!("the answer is of another kind than the request"),
        };
        let fresh = Credentials::new(&certificate, &der, self.credentials.authority())?;
        if fresh.expires() <= self.credentials.expires() {
            anyhow::bail!("the new certificate doesn't last longer than the old one");
        }
        // Written first: one that can't be written is asked for again.
        self.directory.write_certificate(&certificate)?;
        self.credentials.replace(&certificate, &der)?;
        Ok(())
    }

    /// Asks the metadata nodes one after the other, until one of them answers.
    async fn ask(&self, request: MembershipRequest) -> Result<MembershipResponse, MembershipError> {
        for (node, address) in self.book.metadata_nodes() {
            let route = MembershipRoute { address, node };
            let network: RpcNetwork<MembershipRequest, MembershipResponse> =
                RpcNetwork::new(Arc::clone(&self.client), Arc::new(route), None);
            let asked = network.call(Peer(0), request.clone(), MEMBERSHIP_DEADLINE).await;
            match asked {
                Ok(MembershipResponse::Failed(MembershipError::Unavailable)) | Err(_) => {}
                Ok(answer) => return Ok(answer),
            }
        }
        Err(MembershipError::Unavailable)
    }
}

/// The way to the membership service of one node.
struct MembershipRoute {
    address: String,
    node: model::ids::NodeId,
}

impl Routes for MembershipRoute {
    fn route(&self, _peer: Peer) -> Option<Route> {
        Some(Route { address: self.address.clone(), node: Some(self.node), target: 0 })
    }
}

/// All interfaces, at the port of the node's address.
fn default_listen(address: &str) -> Result<SocketAddr> {
    let port = address
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .with_context(|| format!("the node's address {address} has no port"))?;
    let all: IpAddr = if address.starts_with('[') {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    Ok(SocketAddr::from((all, port)))
}
