//! One metadata replica: log, state, Raft and service on one disk, put together and taken apart.
//!
//! In: a disk with or without a replica. Out: a running replica with its two services. What always
//! holds: a replica whose log, vote or state is missing or damaged never comes back under its old
//! id (I-13, R25): opening it is an error that says so.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::ids::{ClusterId, ReplicaId};
use openraft::EmptyNode;
use tokio::task::JoinHandle;
use wire::clock::Clock;
use wire::disk::Disk;

use crate::identity::Identity;
use crate::inspection::Inspection;
use crate::limits::{APPLY_IDLE, CHECKPOINT_INTERVAL};
use crate::newer::{Newer, find_newer};
use crate::raft::{Connections, LogStore, Machine, Raft, RaftMessages, RaftNetwork, config};
use crate::raft_log::{LogError, RaftLog};
use crate::serve::MetadataService;
use crate::state::{Fence, SnapshotFile, StateError, StateMachine};

/// The directory of a replica on its disk.
pub const DIRECTORY: &str = "metadata";
/// The log's directory in it.
pub(crate) const LOG_DIRECTORY: &str = "raft-log";

/// What a replica needs of the world.
#[derive(Clone)]
pub struct World {
    /// The cluster; a replica of another one is refused.
    pub cluster: ClusterId,
    /// Carries Raft's messages to the other replicas.
    pub raft_network: Arc<RaftNetwork>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why a replica can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no replica on this disk.
    #[error("there is no metadata replica here")]
    Absent,
    /// There was one, and it must not come back: wipe it and join under a new id.
    #[error("the metadata replica is damaged: {reason}")]
    Damaged {
        /// Its id, if that can be read.
        replica: Option<ReplicaId>,
        /// What is wrong.
        reason: String,
    },
    /// It belongs to another cluster: it is none of ours to wipe.
    #[error("the metadata replica belongs to cluster {0}")]
    OtherCluster(ClusterId),
    /// A newer release wrote it: it is none of ours to wipe either.
    #[error(
        "the metadata replica's file {file} has format version {version}, which is newer than this release knows; use a newer Drystone"
    )]
    Newer {
        /// The file.
        file: String,
        /// Its version.
        version: u8,
    },
    /// The disk can't be read or written.
    #[error("the metadata replica can't be opened: {0}")]
    Io(#[from] io::Error),
}

/// A running replica.
pub struct Replica {
    id: ReplicaId,
    disk: Arc<dyn Disk>,
    log: Arc<RaftLog>,
    machine: Arc<StateMachine>,
    raft: Raft,
    fence: Arc<Fence>,
    service: Arc<MetadataService>,
    messages: Arc<RaftMessages>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Replica {
    /// Makes a founding replica of a new cluster with the given members, its own id among them.
    /// The lowest of them begins the cluster, so it must be made last.
    pub async fn bootstrap(
        world: &World,
        disk: &Arc<dyn Disk>,
        id: ReplicaId,
        members: &[ReplicaId],
    ) -> Result<Self, OpenError> {
        let is_first = members.iter().all(|member| id <= *member);
        let founders = if is_first { members.to_vec() } else { Vec::new() };
        let identity = Identity { cluster: world.cluster, replica: id, founders };
        Self::create(world, disk, identity).await
    }

    /// Makes an empty replica that waits to be added to the cluster.
    pub async fn create_joining(
        world: &World,
        disk: &Arc<dyn Disk>,
        id: ReplicaId,
    ) -> Result<Self, OpenError> {
        let identity = Identity { cluster: world.cluster, replica: id, founders: Vec::new() };
        Self::create(world, disk, identity).await
    }

    /// Opens the replica on a disk, after checking all of it.
    pub async fn open(world: &World, disk: &Arc<dyn Disk>) -> Result<Self, OpenError> {
        let directory = disk.subdirectory(DIRECTORY)?;
        if let Some(Newer { file, version }) =
            find_newer(&*directory, &*directory.subdirectory(LOG_DIRECTORY)?)?
        {
            return Err(OpenError::Newer { file, version });
        }
        let identity = match Identity::read(&*directory) {
            Ok(Some(identity)) => identity,
            Ok(None) => return Err(OpenError::Absent),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(OpenError::Damaged { replica: None, reason: error.to_string() });
            }
            Err(error) => return Err(error.into()),
        };
        if identity.cluster != world.cluster {
            return Err(OpenError::OtherCluster(identity.cluster));
        }
        let id = identity.replica;
        let blocking = {
            let world = world.clone();
            move || Stores::open(&world, &directory, id)
        };
        let stores = off_thread(blocking).await??;
        Self::start(world, Arc::clone(disk), identity, stores).await
    }

    async fn create(
        world: &World,
        disk: &Arc<dyn Disk>,
        identity: Identity,
    ) -> Result<Self, OpenError> {
        wipe(&**disk)?;
        let directory = disk.subdirectory(DIRECTORY)?;
        let blocking = {
            let (world, identity) = (world.clone(), identity.clone());
            move || {
                let stores = Stores::create(&world, &directory, identity.replica)?;
                // Only now is there a replica; without this file a crash leaves none.
                identity.write(&*directory)?;
                Ok::<_, OpenError>(stores)
            }
        };
        let stores = off_thread(blocking).await??;
        Self::start(world, Arc::clone(disk), identity, stores).await
    }

    async fn start(
        world: &World,
        disk: Arc<dyn Disk>,
        identity: Identity,
        stores: Stores,
    ) -> Result<Self, OpenError> {
        let id = identity.replica;
        let Stores { log, machine, fence } = stores;
        let damaged = |reason: String| OpenError::Damaged { replica: Some(id), reason };
        let config = config().map_err(|error| OpenError::Io(io::Error::other(error)))?;
        let raft = Raft::new(
            id.0,
            config,
            Connections { network: Arc::clone(&world.raft_network), machine: Arc::clone(&machine) },
            LogStore(Arc::clone(&log)),
            Machine(Arc::clone(&machine)),
        )
        .await
        .map_err(|error| damaged(error.to_string()))?;
        let inspection = Inspection {
            cluster: world.cluster,
            replica: id,
            machine: Arc::clone(&machine),
            log: Arc::clone(&log),
            log_disk: machine.disk().subdirectory(LOG_DIRECTORY)?,
        };
        let service = Arc::new(MetadataService::new(
            id,
            raft.clone(),
            inspection.clone(),
            Arc::clone(&world.clock),
        ));
        let messages =
            Arc::new(RaftMessages::new(raft.clone(), Arc::clone(&machine), Arc::clone(&fence)));
        let tasks = vec![
            tokio::spawn(flush_when_idle(Arc::clone(&machine), Arc::clone(&world.clock))),
            tokio::spawn(checkpoint_often(Arc::clone(&machine), Arc::clone(&world.clock))),
            tokio::spawn({
                let service = Arc::clone(&service);
                async move { service.watch().await }
            }),
            tokio::spawn(async move { inspection.run().await }),
        ];
        let replica = Self {
            id,
            disk,
            log,
            machine,
            raft,
            fence,
            service,
            messages,
            tasks: Mutex::new(tasks),
        };
        replica.found(&identity).await?;
        tracing::info!(replica = %id, path = %replica.disk.path().display(), "metadata replica runs");
        Ok(replica)
    }

    /// Begins the cluster, if this replica is to do that and hasn't.
    async fn found(&self, identity: &Identity) -> Result<(), OpenError> {
        let failed = |error: &dyn std::fmt::Display| OpenError::Damaged {
            replica: Some(self.id),
            reason: error.to_string(),
        };
        let is_done = self.raft.is_initialized().await.map_err(|error| failed(&error))?;
        if is_done || identity.founders.is_empty() {
            return Ok(());
        }
        let members = identity.founders.iter().map(|member| (member.0, EmptyNode::new()));
        #[expect(clippy::zero_sized_map_values, reason = "it is Raft's type")]
        let members: std::collections::BTreeMap<_, _> = members.collect();
        self.raft.initialize(members).await.map_err(|error| failed(&error))
    }

    /// Its id.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// Its disk (not the directory in it).
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Its Raft, for membership changes.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Its log.
    #[cfg(test)]
    pub(crate) fn log(&self) -> &RaftLog {
        &self.log
    }

    /// Its fence.
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Its state.
    pub fn machine(&self) -> &Arc<StateMachine> {
        &self.machine
    }

    /// Answers gateways and storage nodes.
    pub fn service(&self) -> &Arc<MetadataService> {
        &self.service
    }

    /// Answers other replicas.
    pub fn messages(&self) -> &Arc<RaftMessages> {
        &self.messages
    }

    /// Whether Raft runs; it doesn't after it met an error of its storage.
    pub async fn is_running(&self) -> bool {
        self.raft.is_initialized().await.is_ok()
    }

    /// Stops. Unless it is fenced, everything is durable when this returns.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(replica = %self.id, %error, "Raft did not stop cleanly");
        }
        self.messages.stop().await;
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            // It was aborted, which is no error here.
            let _ = task.await;
        }
        if !self.fence.is_set() {
            let machine = Arc::clone(&self.machine);
            let checkpoint = tokio::task::spawn_blocking(move || machine.checkpoint()).await;
            if let Ok(Err(error)) = checkpoint {
                tracing::error!(replica = %self.id, %error, "the state was not made durable");
            }
        }
        if let Err(error) = self.log.stop().await
            && !self.fence.is_set()
        {
            tracing::error!(replica = %self.id, %error, "the log did not stop cleanly");
        }
    }
}

/// What a replica keeps on its disk.
struct Stores {
    log: Arc<RaftLog>,
    machine: Arc<StateMachine>,
    fence: Arc<Fence>,
}

impl Stores {
    fn create(world: &World, directory: &Arc<dyn Disk>, id: ReplicaId) -> Result<Self, OpenError> {
        let fence = Arc::new(Fence::default());
        let clock = || Arc::clone(&world.clock);
        let machine = StateMachine::create(Arc::clone(directory), clock(), Arc::clone(&fence))
            .map_err(|error| state_error(id, &error))?;
        let log_disk = directory.subdirectory(LOG_DIRECTORY)?;
        let log = RaftLog::create(log_disk, world.cluster, id, clock(), Arc::clone(&fence))
            .map_err(|error| log_error(id, error))?;
        Ok(Self { log, machine: Arc::new(machine), fence })
    }

    fn open(world: &World, directory: &Arc<dyn Disk>, id: ReplicaId) -> Result<Self, OpenError> {
        let fence = Arc::new(Fence::default());
        let clock = || Arc::clone(&world.clock);
        let machine = StateMachine::open(Arc::clone(directory), clock(), Arc::clone(&fence))
            .map_err(|error| state_error(id, &error))?;
        let log_disk = directory.subdirectory(LOG_DIRECTORY)?;
        let log = RaftLog::open(log_disk, world.cluster, id, clock(), Arc::clone(&fence))
            .map_err(|error| log_error(id, error))?;
        let applied = machine.applied().map_err(|error| state_error(id, &error))?;
        let applied = applied.last.map(|id| id.index);
        // What is applied was in the log or in the snapshot: a log that ends before it has lost
        // something, unless a crash came between a snapshot's state and the purge of the log.
        if log.last().map(|id| id.index) < applied && kept_index(directory, id)? < applied {
            let reason = "the log ends before what was applied".to_owned();
            return Err(OpenError::Damaged { replica: Some(id), reason });
        }
        Ok(Self { log, machine: Arc::new(machine), fence })
    }
}

/// The last entry that the kept snapshot covers.
fn kept_index(directory: &Arc<dyn Disk>, id: ReplicaId) -> Result<Option<u64>, OpenError> {
    let Some(kept) = SnapshotFile::current(&**directory)? else {
        return Ok(None);
    };
    let meta = kept.meta().map_err(|error| state_error(id, &error))?;
    Ok(meta.last_log_id.map(|id| id.index))
}

fn state_error(id: ReplicaId, error: &StateError) -> OpenError {
    OpenError::Damaged { replica: Some(id), reason: error.to_string() }
}

fn log_error(id: ReplicaId, error: LogError) -> OpenError {
    match error {
        LogError::Damaged(reason) => OpenError::Damaged { replica: Some(id), reason },
        LogError::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenError::Damaged { replica: Some(id), reason: error.to_string() }
        }
        LogError::Io(error) => OpenError::Io(error),
    }
}

/// Removes whatever is left of a replica on a disk. The identity goes first: what is left after a
/// crash is no replica.
pub fn wipe(disk: &dyn Disk) -> io::Result<()> {
    let directory = disk.subdirectory(DIRECTORY)?;
    let mut names = directory.list()?;
    names.sort_by_key(|name| name != "identity");
    for name in names {
        directory.remove(&name)?;
        directory.sync_directory()?;
    }
    let log = directory.subdirectory(LOG_DIRECTORY)?;
    for name in log.list()? {
        log.remove(&name)?;
    }
    log.sync_directory()
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Writes what a follower holds back, once nothing more comes for a while.
async fn flush_when_idle(machine: Arc<StateMachine>, clock: Arc<dyn Clock>) {
    while !machine.fence().is_set() {
        machine.pending_arrived().await;
        clock.sleep(APPLY_IDLE).await;
        let machine = Arc::clone(&machine);
        // A failure has fenced the replica, which ends this loop.
        let _ = tokio::task::spawn_blocking(move || machine.flush()).await;
    }
}

/// Makes the state durable every so often, so that a crash replays little.
async fn checkpoint_often(machine: Arc<StateMachine>, clock: Arc<dyn Clock>) {
    let interval: Duration = CHECKPOINT_INTERVAL;
    while !machine.fence().is_set() {
        clock.sleep(interval).await;
        let machine = Arc::clone(&machine);
        // A failure has fenced the replica, which ends this loop.
        let _ = tokio::task::spawn_blocking(move || machine.checkpoint()).await;
    }
}
