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
use model::query::{MetadataRequest, MetadataResponse};
use model::rpc::Service;
use tokio::task::JoinHandle;
use wire::disk::RealDisk;
use wire::rpc::{CallerService, Services, WithoutCaller};

use super::authority;
use super::link::Link;
use super::of_sender::OfSender;
use crate::directories::{DirectoryLock, encode_secrets, lock};
use crate::process::Doors;
use crate::roles::metadata::{LocalPeers, ReplicaParts, Replicas, replica_count};

/// How long the founder waits for its own replicas to elect a leader.
const FOUNDING_PATIENCE: Duration = Duration::from_mins(1);

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
            seal_keys: secrets.seal_keys().context("the secrets file holds no cluster key")?,
            secrets: encode_secrets(&secrets)?,
            gateway_secrets: encode_secrets(&secrets.without_authority_seal_key())?,
            clock: Arc::clone(&doors.clock),
        });
        let admission: Arc<dyn CallerService<MembershipRequest, MembershipResponse>> =
            Arc::new(admission);
        link.services().add(0, admission);
        let authority = tokio::spawn(authority::keep(
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
    // A host directory that an older release made has none. Written first: what is sealed with a key
    // that is lost can never be opened.
    let secrets = directory.secrets()?.with_authority_seal_key(&*doors.entropy);
    directory.write_secrets(&secrets)?;
    let seal_key = secrets.authority_seal_key().context("the authority seal key can't be read")?;
    let sealed = authority_seal::seal(&seal_key, identity.cluster, key, &*doors.entropy)?;
    let authority =
        Authority { certificate: directory.authority()?.into(), sealed_key: sealed.into() };
    match propose(Command::SetAuthority(authority)).await? {
        Outcome::Done => Ok(()),
        other => bail!("the cluster has another certificate authority already: {other:?}"),
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
            Arc::new(OfSender(Arc::clone(service) as _));
        self.0.add(replica.0, messages);
        self.0.add(replica.0, service);
    }

    fn close(&self, replica: ReplicaId) {
        self.0.remove(Service::Raft, replica.0);
        self.0.remove(Service::Metadata, replica.0);
    }
}
