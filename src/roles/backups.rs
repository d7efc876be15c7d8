//! The backups of the metadata that a gateway takes every so often, into the store itself and, where
//! the operator says so, to another S3 endpoint.
//!
//! In: the engine and the way to the metadata. Out: objects of the buckets for backups. What always
//! holds: of all gateways one takes them, by its lease; none is taken while no user has a bucket, so
//! that a fresh store stays empty; each target has a backup and a task of its own, so that one that
//! fails or hangs is not in the other's way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use engine::Engine;
use gateway::backup_store::{BACKUP_BUCKET, ClusterStore};
use gateway::remote_store::{RemoteSettings, RemoteStore};
use metadata::backup::BackupProgress;
use metadata::backup::schedule::{self, BackupTarget, Schedule, Turn, Whose};
use metadata::client::MetadataClient;
use model::ids::ClusterId;
use model::node::Job;
use model::query::{Answer, Query};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::clock::timeout;

/// How long the end of a process waits for another S3 endpoint to forget an upload; what it doesn't
/// forget then is aborted before the next backup.
const ABORT_PATIENCE: Duration = Duration::from_secs(3);

/// Where backups go.
pub struct Targets {
    /// The cluster, by which its backups elsewhere are known.
    pub cluster: ClusterId,
    /// Whose the bucket in the store itself is to be.
    pub owner: String,
    /// Another S3 endpoint.
    pub remote: Option<RemoteSettings>,
}

/// Backups that are taken until they are stopped.
pub struct Backups {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    progress: Vec<Arc<BackupProgress>>,
    remote: Option<Arc<RemoteStore>>,
    client: Arc<MetadataClient>,
}

impl Backups {
    /// Begins to take them. Must be called in a tokio runtime.
    pub fn start(
        engine: &Engine,
        client: Arc<MetadataClient>,
        targets: Targets,
        schedule: Schedule,
    ) -> Result<Self> {
        let Targets { cluster, owner, remote } = targets;
        let progress = |name, place| Arc::new(BackupProgress::new(name, place, schedule.interval));
        let store = ClusterStore::new(engine.clone(), owner).context("backups can't be kept")?;
        let own = BackupTarget {
            store: Arc::new(store),
            progress: progress("cluster", ClusterStore::place()),
        };
        let mut all = vec![own];
        let mut remote_store = None;
        if let Some(settings) = remote {
            let place = settings.place(cluster);
            let store = RemoteStore::new(settings, cluster, Arc::clone(client.clock()))
                .with_context(|| format!("no backups can go to {place}"))?;
            let store = Arc::new(store);
            remote_store = Some(Arc::clone(&store));
            all.push(BackupTarget { store, progress: progress("remote", place) });
        }
        let turn = turn(engine, Arc::clone(&client));
        let (stop, stopping) = watch::channel(false);
        let progress = all.iter().map(|target| Arc::clone(&target.progress)).collect();
        let run = |target| {
            let (client, turn) = (Arc::clone(&client), Arc::clone(&turn));
            tokio::spawn(schedule::run(client, target, turn, schedule, stopping.clone()))
        };
        let tasks = all.into_iter().map(run).collect();
        Ok(Self { stop, tasks, progress, remote: remote_store, client })
    }

    /// What becomes of them, by target.
    pub fn progress(&self) -> Vec<Arc<BackupProgress>> {
        self.progress.clone()
    }

    /// Ends them, wherever they are: a backup that isn't whole leaves nothing.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "backups of the metadata ended unexpectedly");
            }
        }
        if let Some(remote) = self.remote {
            let clock = self.client.clock();
            let _rest_is_for_later =
                timeout(&**clock, ABORT_PATIENCE, remote.abort_abandoned()).await;
        }
    }
}

/// Whether this gateway is to take backups now.
fn turn(engine: &Engine, client: Arc<MetadataClient>) -> Turn {
    let lease = Arc::new(engine.lease(Job::Backup));
    Arc::new(move || {
        let (lease, client) = (Arc::clone(&lease), Arc::clone(&client));
        Box::pin(async move {
            match has_buckets(&client).await {
                None => Whose::Unknown,
                Some(false) => Whose::Nobody,
                Some(true) if lease.is_held() => Whose::Mine,
                Some(true) => Whose::Another,
            }
        })
    })
}

/// Whether there is a bucket besides that of the backups; `None` while that can't be asked.
async fn has_buckets(client: &MetadataClient) -> Option<bool> {
    let query = Query::Buckets { prefix: String::new(), after: String::new(), limit: 2 };
    match client.query(query).await {
        Ok(Answer::Buckets(buckets)) => {
            Some(buckets.iter().any(|bucket| bucket.name.as_str() != BACKUP_BUCKET))
        }
        _ => None,
    }
}
