//! Backups every so often, into a store that keeps a number of them.
//!
//! In: the metadata, a store, and whose turn it is. Out: backups in the store. What always holds: the
//! store's own list says when the next one is due, so that whoever takes over goes on where the last
//! one stopped; an old backup is removed only after a newer one is whole in the store.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::time::Timestamp;
use tokio::sync::watch;
use wire::BoxFuture;

use super::{BackupFailure, BackupSink};
use crate::client::MetadataClient;

/// How long to wait after a failure, or while it is another's turn.
const RETRY: Duration = Duration::from_mins(1);

/// What the names of backups begin with.
const PREFIX: &str = "metadata-";
/// What they end with.
const SUFFIX: &str = ".drybackup";

/// How often, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// From one backup to the next.
    pub interval: Duration,
    /// How many are kept; at least 1.
    pub keep: usize,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { interval: Duration::from_hours(1), keep: 24 }
    }
}

/// Keeps backups by name.
pub trait BackupStore: Send + Sync + 'static {
    /// The names of those that are whole, in any order; others may be among them.
    fn names(&self) -> BoxFuture<'_, io::Result<Vec<String>>>;

    /// Begins a new one. It has its name once it was finished.
    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn BackupWriting>>>;

    /// Removes one; one that isn't there is no error.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>>;
}

/// A backup on its way into a store. Dropped, it leaves nothing.
pub trait BackupWriting: BackupSink {
    /// All of it was put: makes it durable, and gives it its name.
    fn finish(self: Box<Self>) -> BoxFuture<'static, io::Result<()>>;
}

/// Says whether this process is the one to take backups now (by the lease of `Job::Backup`).
pub type Turn = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Why a backup is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// It was not taken.
    #[error(transparent)]
    Backup(#[from] BackupFailure),
    /// The store failed.
    #[error("the store of the backups failed: {0}")]
    Store(#[from] io::Error),
}

/// Takes backups when they are due, until told to stop.
pub async fn run(
    client: Arc<MetadataClient>,
    store: Arc<dyn BackupStore>,
    turn: Turn,
    schedule: Schedule,
    mut stopping: watch::Receiver<bool>,
) {
    let clock = Arc::clone(client.clock());
    loop {
        let round = async {
            let pause = if turn().await {
                round(&client, &*store, schedule).await.unwrap_or_else(|error| {
                    metrics::counter!("drystone_metadata_backup_failures_total").increment(1);
                    tracing::warn!(%error, "no backup of the metadata was taken this time");
                    RETRY
                })
            } else {
                RETRY
            };
            clock.sleep(pause.min(schedule.interval)).await;
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = round => {}
        }
    }
}

/// Takes a backup if one is due, and removes what is too old; gives the time until the next is due.
pub async fn round(
    client: &MetadataClient,
    store: &dyn BackupStore,
    schedule: Schedule,
) -> Result<Duration, ScheduleError> {
    let mut known = known(store.names().await?);
    let now = client.clock().now();
    let due = known.last().map(|(taken, _)| taken.plus_nanos(nanos(schedule.interval)));
    if let Some(due) = due.filter(|due| *due > now) {
        return Ok(Duration::from_nanos(due.as_nanos() - now.as_nanos()));
    }
    let name = name_of(now);
    let mut writing = Writing(store.begin(&name).await?);
    let taken = client.backup(&mut writing).await?;
    writing.0.finish().await?;
    metrics::gauge!("drystone_metadata_backup_taken_seconds").set(now.as_seconds() as f64);
    tracing::info!(name, index = taken.index, bytes = taken.length, "the metadata was backed up");
    known.push((now, name));
    let surplus = known.len().saturating_sub(schedule.keep.max(1));
    for (_, name) in known.iter().take(surplus) {
        store.remove(name).await?;
    }
    Ok(schedule.interval)
}

/// A sink that is a part of something in a box.
struct Writing(Box<dyn BackupWriting>);

impl BackupSink for Writing {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.put(piece)
    }
}

/// The backups among the names, the oldest first.
fn known(names: Vec<String>) -> Vec<(Timestamp, String)> {
    let mut known: Vec<(Timestamp, String)> =
        names.into_iter().filter_map(|name| Some((time_of(&name)?, name))).collect();
    known.sort();
    known
}

/// The name of a backup: in the order of time as text, too.
fn name_of(taken: Timestamp) -> String {
    format!("{PREFIX}{:020}{SUFFIX}", taken.as_nanos())
}

fn time_of(name: &str) -> Option<Timestamp> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok().map(Timestamp)).flatten()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_when() {
        let name = name_of(Timestamp(1_800_000_000_000_000_000));
        assert_eq!(name, "metadata-01800000000000000000.drybackup");
        assert_eq!(time_of(&name), Some(Timestamp(1_800_000_000_000_000_000)));
        for other in ["metadata-1.drybackup", "metadata-018000000000000000xx.drybackup", "a", ""] {
            assert_eq!(time_of(other), None, "{other}");
        }
        let later = name_of(Timestamp(u64::MAX));
        assert!(later > name && time_of(&later) == Some(Timestamp(u64::MAX)));
    }
}
