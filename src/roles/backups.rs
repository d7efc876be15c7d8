//! The backups of the metadata that a gateway takes every so often, into the store itself.
//!
//! In: the engine and the way to the metadata. Out: objects of the bucket for backups. What always
//! holds: of all gateways one takes them, by its lease; and none is taken while no user has a bucket,
//! so that a fresh store stays empty.

use std::sync::Arc;

use anyhow::{Context, Result};
use engine::Engine;
use gateway::backup_store::{BACKUP_BUCKET, ClusterStore};
use metadata::backup::schedule::{self, BackupStore, Schedule, Turn};
use metadata::client::MetadataClient;
use model::node::Job;
use model::query::{Answer, Query};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Backups that are taken until they are stopped.
pub struct Backups {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Backups {
    /// Begins to take them; `owner` is whose the bucket is to be. Must be called in a tokio runtime.
    pub fn start(
        engine: &Engine,
        client: Arc<MetadataClient>,
        owner: String,
        schedule: Schedule,
    ) -> Result<Self> {
        let store: Arc<dyn BackupStore> =
            Arc::new(ClusterStore::new(engine.clone(), owner).context("backups can't be kept")?);
        let turn = turn(engine, Arc::clone(&client));
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(schedule::run(client, store, turn, schedule, stopping));
        Ok(Self { stop, task })
    }

    /// Ends them, wherever they are: a backup that isn't whole leaves nothing.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "backups of the metadata ended unexpectedly");
        }
    }
}

/// Whether this gateway is to take a backup now.
fn turn(engine: &Engine, client: Arc<MetadataClient>) -> Turn {
    let lease = Arc::new(engine.lease(Job::Backup));
    Arc::new(move || {
        let (lease, client) = (Arc::clone(&lease), Arc::clone(&client));
        Box::pin(async move { lease.is_held() && has_buckets(&client).await })
    })
}

/// Whether there is a bucket besides that of the backups; not while that can't be asked.
async fn has_buckets(client: &MetadataClient) -> bool {
    let query = Query::Buckets { prefix: String::new(), after: String::new(), limit: 2 };
    match client.query(query).await {
        Ok(Answer::Buckets(buckets)) => {
            buckets.iter().any(|bucket| bucket.name.as_str() != BACKUP_BUCKET)
        }
        _ => false,
    }
}
