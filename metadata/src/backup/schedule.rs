//! Backups every so often, into a store that keeps a number of them.
//!
//! In: the metadata, a store, and whose turn it is. Out: backups in the store. What always holds: the
//! store's own list says when the next one is due, so that whoever takes over goes on where the last
//! one stopped; an old backup is removed only after a newer one is whole in the store, and none while
//! something is held ([`model::recovery::Held`]).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::query::{Answer, MetadataError, Query};
use model::time::Timestamp;
use tokio::sync::watch;
use wire::BoxFuture;

use super::{BackupFailure, BackupProgress, BackupSink};
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

/// Whose turn it is to take backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This process takes them (by the lease of `Job::Backup`).
    Mine,
    /// Another one does, as far as is known.
    Another,
    /// Nobody's: there is nothing worth a backup yet.
    Nobody,
    /// That can't be told now.
    Unknown,
}

impl Whose {
    /// Who takes them, in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mine => "this",
            Self::Another => "another",
            Self::Nobody => "nobody",
            Self::Unknown => "unknown",
        }
    }
}

/// Says whose turn it is now.
pub type Turn = Arc<dyn Fn() -> BoxFuture<'static, Whose> + Send + Sync>;

/// Where backups go, and what became of them there.
#[derive(Clone)]
pub struct BackupTarget {
    /// Keeps them.
    pub store: Arc<dyn BackupStore>,
    /// Told of each.
    pub progress: Arc<BackupProgress>,
}

/// Why a backup is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// It was not taken.
    #[error(transparent)]
    Backup(#[from] BackupFailure),
    /// The store failed.
    #[error("the store of the backups failed: {0}")]
    Store(#[from] io::Error),
    /// It is taken, but whether older ones may go can't be told.
    #[error(
        "no older backup is removed, as the metadata can't tell whether something is held: {0}"
    )]
    Held(#[source] MetadataError),
}

/// Takes backups to one target when they are due, until told to stop.
pub async fn run(
    client: Arc<MetadataClient>,
    target: BackupTarget,
    turn: Turn,
    schedule: Schedule,
    mut stopping: watch::Receiver<bool>,
) {
    let clock = Arc::clone(client.clock());
    let progress = &target.progress;
    loop {
        let one = async {
            let whose = turn().await;
            progress.note_turn(whose, clock.now());
            let pause = match whose {
                Whose::Mine => match round(&client, &target, schedule).await {
                    Ok(pause) => {
                        progress.note_success();
                        pause
                    }
                    Err(error) => {
                        progress.note_failure(&error);
                        let (name, place) = (progress.name(), progress.place());
                        tracing::warn!(
                            backups_to = name, place, %error, "a backup of the metadata failed"
                        );
                        RETRY
                    }
                },
                Whose::Another => {
                    watch_others(&target, clock.now()).await;
                    RETRY
                }
                Whose::Nobody | Whose::Unknown => RETRY,
            };
            clock.sleep(pause.min(schedule.interval)).await;
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = one => {}
        }
    }
}

/// Looks at what another process has taken, so that this one can tell, too. That it can't look is
/// nothing to warn of: whoever takes backups will.
async fn watch_others(target: &BackupTarget, now: Timestamp) {
    match target.store.names().await {
        Ok(names) => target.progress.note_newest(known(names, now).last().map(|(taken, _)| *taken)),
        Err(error) => {
            let name = target.progress.name();
            tracing::debug!(backups_to = name, %error, "backups can't be listed");
        }
    }
}

/// Takes a backup if one is due, and removes what is too old; gives the time until the next is due.
///
/// While something is held nothing is removed: what was taken before the disaster may be what a
/// second restore needs.
pub async fn round(
    client: &MetadataClient,
    target: &BackupTarget,
    schedule: Schedule,
) -> Result<Duration, ScheduleError> {
    let BackupTarget { store, progress } = target;
    let now = client.clock().now();
    let mut known = known(store.names().await?, now);
    let last = known.last().map(|(taken, _)| *taken);
    progress.note_newest(last);
    let due = last.map(|taken| taken.plus_nanos(nanos(schedule.interval)));
    let pause = if let Some(due) = due.filter(|due| *due > now) {
        Duration::from_nanos(due.as_nanos() - now.as_nanos())
    } else {
        let name = name_of(now);
        let mut writing = Writing(store.begin(&name).await?);
        let taken = client.backup(&mut writing).await?;
        writing.0.finish().await?;
        progress.note_taken(now, taken.length);
        tracing::info!(
            backups_to = progress.name(),
            name,
            index = taken.index,
            bytes = taken.length,
            "the metadata was backed up"
        );
        known.push((now, name));
        schedule.interval
    };
    let surplus = known.len().saturating_sub(schedule.keep.max(1));
    if surplus > 0 && !is_held(client).await? {
        for (_, name) in known.iter().take(surplus) {
            store.remove(name).await?;
        }
    }
    Ok(pause)
}

/// Whether the metadata was put back and isn't known to be complete again.
async fn is_held(client: &MetadataClient) -> Result<bool, ScheduleError> {
    match client.query(Query::Held).await.map_err(ScheduleError::Held)? {
        Answer::Held(held) => Ok(held.is_some()),
        _ => Err(ScheduleError::Held(MetadataError::Unavailable)),
    }
}

/// A sink that is a part of something in a box.
struct Writing(Box<dyn BackupWriting>);

impl BackupSink for Writing {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        self.0.put(piece)
    }
}

/// The backups among the names, the oldest first. Those that a wrong clock has dated later than now
/// are left alone until then: they neither put off the next one nor push out an older one.
fn known(names: Vec<String>, now: Timestamp) -> Vec<(Timestamp, String)> {
    let mut known: Vec<(Timestamp, String)> =
        names.into_iter().filter_map(|name| Some((time_of(&name)?, name))).collect();
    known.retain(|(taken, _)| *taken <= now);
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
