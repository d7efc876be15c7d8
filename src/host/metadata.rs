//! The metadata role of a node of a cluster: its replicas, and the admission of other nodes.
//!
//! The founder's first start makes the cluster: it founds the first replica (or opens a store's own
//! ones to others), enters itself into the cluster map, and gives the authority's key into the
//! metadata's keeping. Each of these may be repeated, so a start that was broken off is begun again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gateway::admin::ReplicaPlace;
use metadata::admission::{Admission, AdmissionParts};
use metadata::authority_seal;
use metadata::client::MetadataClient;
use metadata::keeper::{MayFound, Placement, ReplicaDoors};
use metadata::raft::{RaftMessages, RaftRequest, RaftResponse};
use metadata::serve::MetadataService;
use model::command::{Command, Outcome};
use model::ids::ReplicaId;
use model::membership::{MembershipRequest, MembershipResponse};
use model::node::{Authority, Roles};
use model::query::{Answer, MetadataError, MetadataRequest, MetadataResponse, Query};
use model::rpc::Service;
use tokio::task::JoinHandle;
use wire::BoxFuture;
use wire::disk::RealDisk;
use wire::network::Service as _;
use wire::rpc::{Caller, CallerService, Services, WithoutCaller};

use super::directory::SealedAuthority;
use super::link::Link;
use crate::directories::{DirectoryLock, encode_secrets, lock};
use crate::process::Doors;
use crate::roles::metadata::{LocalPeers, ReplicaParts, Replicas, replica_count};

/// How long the founder waits for its own replicas to elect a leader.
const FOUNDING_PATIENCE: Duration = Duration::from_mins(1);

/// The pause between two looks at the metadata's authority, until it is kept here.
const AUTHORITY_PAUSE: Duration = Duration::from_secs(5);

/// The running role.
pub struct MetadataRole {
    replicas: Replicas,
    authority: JoinHandle<()>,
    _locks: Vec<DirectoryLock>,
}

impl MetadataRole {
    /// Opens the replicas, and founds the cluster where this node is to do that.
    pub async fn start(
        link: &mut Link,
        paths: &[PathBuf],
        peers: LocalPeers,
        client: Arc<MetadataClient>,
        doors: &Doors,
    ) -> Result<Self> {
        let identity = link.directory().identity().clone();
        let locks = prepare(paths, link, identity.roles)?;
        let is_server = identity.roles.contains(Roles::STORAGE_NODE);
        let count = match identity.founds {
            Some(coding) if is_server => replica_count(coding.parity(), paths.len()),
            _ => 1,
        };
        let parts = ReplicaParts {
            cluster: identity.cluster,
            directories: paths.to_vec(),
            count,
            placement: Placement::Among {
                node: identity.node,
                doors: Arc::new(RpcDoors(Arc::clone(link.services()))),
            },
            raft_network: link.raft_network(Arc::clone(&peers.raft)),
            peers,
            client,
        };
        let may_found = if identity.founds.is_some() { MayFound::Yes } else { MayFound::No };
        let replicas = Replicas::open(parts, may_found, doors).await?;
        if let Some(coding) = identity.founds {
            let cluster = identity.cluster;
            replicas.init_cluster(cluster, coding, count, doors, FOUNDING_PATIENCE).await?;
        }
        if let Some(key) = link.directory().authority_key()? {
            found(link, &replicas, &key, doors).await?;
            link.directory_mut()?.founded()?;
            link.directory().forget_authority_key()?;
        }
        let secrets = link.directory().secrets()?;
        let admission = Admission::new(AdmissionParts {
            cluster: identity.cluster,
            client: Arc::clone(replicas.client()),
            cluster_key: secrets.cluster_key().context("the secrets file holds no cluster key")?,
            secrets: encode_secrets(&secrets)?,
            clock: Arc::clone(&doors.clock),
        });
        let admission: Arc<dyn CallerService<MembershipRequest, MembershipResponse>> =
            Arc::new(admission);
        link.services().add(0, admission);
        let authority = tokio::spawn(keep_authority(
            Arc::clone(replicas.client()),
            link.directory().authority()?,
            link.directory().sealed_authority(),
            doors.clone(),
        ));
        Ok(Self { replicas, authority, _locks: locks })
    }

    /// The directories of this node's disks are there by now: replicas may be in them.
    pub fn add_directories(&self, paths: &[PathBuf]) {
        self.replicas.add_directories(paths);
    }

    /// Tells where each replica of this node is.
    pub fn places(&self) -> ReplicaPlace {
        self.replicas.places()
    }

    /// Stops; the lead is given to another node before, if one takes it.
    pub async fn stop(self, link: &Link) {
        link.services().remove(Service::Membership, 0);
        self.authority.abort();
        // It was aborted, or had done its work long ago.
        let _ended = self.authority.await;
        self.replicas.stop().await;
    }
}

/// Makes directories that aren't there, and locks those that no other role of this process has.
fn prepare(paths: &[PathBuf], link: &Link, roles: Roles) -> Result<Vec<DirectoryLock>> {
    if roles.contains(Roles::STORAGE_NODE) {
        return Ok(Vec::new());
    }
    let is_other = |path: &&PathBuf| path.as_path() != link.directory().path();
    paths.iter().filter(is_other).map(|path| make(path)).collect()
}

fn make(path: &Path) -> Result<DirectoryLock> {
    RealDisk::create(path)
        .with_context(|| format!("the directory {} can't be made", path.display()))?;
    lock(path)
}

/// Enters the founder into the cluster map, and has the metadata keep the authority.
async fn found(link: &Link, replicas: &Replicas, key: &[u8], doors: &Doors) -> Result<()> {
    let directory = link.directory();
    let identity = directory.identity();
    let propose = async |command| {
        let proposed = replicas.client().propose_one(command).await;
        proposed.context("the cluster can't be made: its metadata isn't available")
    };
    match propose(Command::RegisterNode(identity.registration())).await? {
        Outcome::NodeRegistered(node) if node == identity.node => {}
        other => bail!("the cluster has another first host already: {other:?}"),
    }
    let secrets = directory.secrets()?;
    let cluster_key = secrets.cluster_key().context("the secrets file holds no cluster key")?;
    let sealed = authority_seal::seal(&cluster_key, identity.cluster, key, &*doors.entropy)?;
    let authority =
        Authority { certificate: directory.authority()?.into(), sealed_key: sealed.into() };
    match propose(Command::SetAuthority(authority)).await? {
        Outcome::Done => Ok(()),
        other => bail!("the cluster has another certificate authority already: {other:?}"),
    }
}

/// Keeps the authority's sealed key in the host directory, too, and gives it back to metadata that
/// was rebuilt from the disks and has none: else nobody could join or renew any more.
async fn keep_authority(
    client: Arc<MetadataClient>,
    certificate: Vec<u8>,
    kept: SealedAuthority,
    doors: Doors,
) {
    loop {
        if let Ok(Answer::Trust(trust)) = client.query(Query::Trust).await
            && settle(&client, trust.authority, &certificate, &kept).await
        {
            return;
        }
        doors.clock.sleep(AUTHORITY_PAUSE).await;
    }
}

/// Makes the metadata and the host directory have the same; `false` when it must be tried again.
async fn settle(
    client: &MetadataClient,
    authority: Option<Authority>,
    certificate: &[u8],
    kept: &SealedAuthority,
) -> bool {
    match (authority, kept.read()) {
        (Some(authority), here) if here.as_deref() == Some(authority.sealed_key.as_slice()) => true,
        (Some(authority), _) => match kept.write(&authority.sealed_key) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the authority's sealed key was not kept here");
                false
            }
        },
        (None, Some(sealed)) => {
            let certificate = certificate.to_vec().into();
            let authority = Authority { certificate, sealed_key: sealed.into() };
            match client.propose_one(Command::SetAuthority(authority)).await {
                Ok(Outcome::Done) => {
                    tracing::warn!("the metadata had no certificate authority; it has it again");
                    true
                }
                Ok(other) => {
                    tracing::error!(?other, "the certificate authority was not put back");
                    true
                }
                Err(_) => false,
            }
        }
        // The founder gives it before long.
        (None, None) => false,
    }
}

/// Opens replicas to other nodes by the internal listener.
struct RpcDoors(Arc<Services>);

impl ReplicaDoors for RpcDoors {
    fn open(
        &self,
        replica: ReplicaId,
        messages: &Arc<RaftMessages>,
        service: &Arc<MetadataService>,
    ) {
        let messages: Arc<dyn CallerService<RaftRequest, RaftResponse>> =
            Arc::new(WithoutCaller(Arc::clone(messages) as _));
        let service: Arc<dyn CallerService<MetadataRequest, MetadataResponse>> =
            Arc::new(OfSender(Arc::clone(service)));
        self.0.add(replica.0, messages);
        self.0.add(replica.0, service);
    }

    fn close(&self, replica: ReplicaId) {
        self.0.remove(Service::Raft, replica.0);
        self.0.remove(Service::Metadata, replica.0);
    }
}

/// The metadata to other nodes: none of them is heard about another.
struct OfSender(Arc<MetadataService>);

impl CallerService<MetadataRequest, MetadataResponse> for OfSender {
    fn serve(&self, caller: Caller, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        let is_own = caller
            .identity
            .as_ref()
            .is_some_and(|sender| request.is_of_sender(sender.node, sender.roles));
        if is_own {
            return self.0.serve(request);
        }
        let sender = caller.identity.map(|sender| sender.node.0);
        tracing::debug!(address = %caller.address, sender, "a node spoke of another's disks");
        Box::pin(std::future::ready(MetadataResponse::Failed(MetadataError::Unavailable)))
    }
}
