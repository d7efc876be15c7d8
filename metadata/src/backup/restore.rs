//! Makes a founding replica of a backup, or of nothing, on a disk without a replica. Offline.
//!
//! What always holds: everything is verified before anything is written; the identity is written
//! last, so that a crash in between leaves nothing that starts; the replica begins a Raft history
//! of its own, behind the backup's, which others can only join by a snapshot. Whoever restores must
//! see to it that no replica of before ever runs again: it would be a second truth.

use std::io;
use std::sync::Arc;

use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, NodeId, ReplicaId, SessionId};
use model::node::ReplicaPlace;
use model::recovery::{Held, SessionRange};
use model::time::Timestamp;
use redb::Database;
use wire::clock::Clock;
use wire::disk::Disk;

use super::{BackupError, BackupFile, DISK_GAP, GAP, NODE_GAP, SECOND_SHIFT};
use crate::identity::Identity;
use crate::raft::types::{LogId, StoredConfig, StoredLogId, Vote};
use crate::raft_log::{LogError, RaftLog};
use crate::replica::{DIRECTORY, LOG_DIRECTORY, wipe};
use crate::state::database::{self, Applied};
use crate::state::machine::{STATE_FILE, guarded};
use crate::state::{Fence, StateError, snapshot};
use crate::tables::counters::{self, Counters};
use crate::tables::{TableId, Tables, cluster_map, held, leases, sessions};

/// What a restore must know besides the backup.
#[derive(Clone)]
pub struct RestoreSettings {
    /// The store's cluster, by its identity; a backup of another one is refused. For a host without
    /// an identity, the backup's own ([`super::BackupHeader::cluster`]).
    pub cluster: ClusterId,
    /// The node that the replica will be on, where the cluster has nodes.
    pub node: Option<NodeId>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct RestoredReplica {
    /// Its id, above all that were given out.
    pub replica: ReplicaId,
    /// The log index that it begins with.
    pub index: u64,
    /// What is held from now on.
    pub held: Held,
    /// Objects that it knows.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
}

/// Why nothing was restored. There is no replica on the disk that could start.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup can't be used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// It is another cluster's.
    #[error("the backup is of cluster {0}, and the store of another")]
    OtherCluster(ClusterId),
    /// There is a replica on the disk.
    #[error("there is a metadata replica here already; a backup is restored where there is none")]
    Occupied,
    /// The clock is behind the backup.
    #[error(
        "the clock is {behind_seconds} seconds or more behind the backup: set it right, since numbers \
         that must never be given twice are made from it"
    )]
    ClockBehind {
        /// How far.
        behind_seconds: u64,
    },
    /// The backup is of a cluster that was never made.
    #[error("the backup holds no cluster map")]
    NoCluster,
    /// The state can't be written.
    #[error("the replica's state can't be written: {0}")]
    State(#[from] StateError),
    /// The log can't be written.
    #[error("the replica's log can't be written: {0}")]
    Log(#[from] LogError),
    /// The disk can't be written.
    #[error("the replica can't be written: {0}")]
    Io(#[from] io::Error),
}

/// Makes a founding replica of `backup` on a disk that holds none. When it is opened, it is the
/// only member of the cluster, and leads; others are added to it.
pub async fn restore(
    backup: BackupFile,
    disk: &Arc<dyn Disk>,
    settings: &RestoreSettings,
) -> Result<RestoredReplica, RestoreError> {
    let header = backup.header();
    if header.cluster != settings.cluster {
        return Err(RestoreError::OtherCluster(header.cluster));
    }
    make(Source::Backup(backup), disk, settings).await
}

/// Makes a founding replica that knows nothing but the cluster and its coding, and holds every
/// session: all disks, groups, buckets and objects are to be adopted.
pub async fn found_for_recovery(
    coding: Coding,
    disk: &Arc<dyn Disk>,
    settings: &RestoreSettings,
) -> Result<RestoredReplica, RestoreError> {
    make(Source::Nothing(coding), disk, settings).await
}

/// Where the rows come from.
enum Source {
    Backup(BackupFile),
    Nothing(Coding),
}

async fn make(
    source: Source,
    disk: &Arc<dyn Disk>,
    settings: &RestoreSettings,
) -> Result<RestoredReplica, RestoreError> {
    let directory = disk.subdirectory(DIRECTORY)?;
    let blocking = {
        let (disk, directory) = (Arc::clone(disk), Arc::clone(&directory));
        let settings = settings.clone();
        move || make_state(&source, &*disk, &*directory, &settings)
    };
    let (restored, last) =
        tokio::task::spawn_blocking(blocking).await.map_err(io::Error::other)??;
    make_log(&directory, last, restored.replica, settings).await?;
    let identity =
        Identity { cluster: settings.cluster, replica: restored.replica, founders: Vec::new() };
    // Only now is there a replica.
    tokio::task::spawn_blocking(move || identity.write(&*directory))
        .await
        .map_err(io::Error::other)??;
    Ok(restored)
}

fn make_state(
    source: &Source,
    disk: &dyn Disk,
    directory: &dyn Disk,
    settings: &RestoreSettings,
) -> Result<(RestoredReplica, StoredLogId), RestoreError> {
    match Identity::read(directory) {
        Ok(None) => {}
        Ok(Some(_)) => return Err(RestoreError::Occupied),
        // Somebody's replica, even if it can't be read any more.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(RestoreError::Occupied);
        }
        Err(error) => return Err(error.into()),
    }
    if let Source::Backup(backup) = source {
        backup.check(&|_| {})?;
    }
    // What an interrupted restore left; without an identity it is nobody's.
    wipe(disk)?;
    let database = guarded(|| match source {
        Source::Backup(backup) => backup.restore_rows(directory, STATE_FILE),
        Source::Nothing(_) => {
            database::create(directory, STATE_FILE).map(|attached| attached.database)
        }
    })?;
    let made = amend(&database, source, settings)?;
    guarded(|| {
        database::checkpoint(&database)?;
        // Who joins is behind the log's beginning, and gets this.
        snapshot::build_offline(&database, directory)
    })?;
    directory.sync_directory()?;
    Ok(made)
}

/// Turns the tables of the backup into those of a restored cluster.
fn amend(
    database: &Database,
    source: &Source,
    settings: &RestoreSettings,
) -> Result<(RestoredReplica, StoredLogId), RestoreError> {
    let now = settings.clock.now();
    let (applied, digests) = database::read_applied(database)?;
    let transaction = database::begin(database)?;
    let mut tables = Tables::new(&transaction, digests);
    let old: Counters = tables.get(counters::KEY)?.unwrap_or_default();
    // Else an earlier restore of the same backup may have given out the numbers of this one.
    if now < old.time {
        return Err(RestoreError::ClockBehind {
            behind_seconds: old.time.as_seconds().saturating_sub(now.as_seconds()),
        });
    }
    let map: Option<ClusterMap> = tables.get(cluster_map::KEY)?;
    let mut map = match source {
        Source::Backup(_) => map.ok_or(RestoreError::NoCluster)?,
        Source::Nothing(coding) => {
            let map = ClusterMap::new(settings.cluster, *coding);
            // The nodes that come back say what they can do.
            let level = if settings.node.is_none() { map.level } else { 0 };
            ClusterMap { level, ..map }
        }
    };
    if map.cluster != settings.cluster {
        return Err(RestoreError::OtherCluster(map.cluster));
    }
    let raise = |number: u64| raised(number, now);
    let raised = Counters {
        time: old.time.max(now),
        bucket: raise(old.bucket),
        session: raise(old.session),
        replica: raise(old.replica),
        ..old
    };
    let replica = ReplicaId(raised.replica);
    let index = applied.last.map_or(0, |last| last.index);
    let held = hold(&mut tables, source, &old, &raised, index, &map)?;
    map.epoch = raise(map.epoch);
    if matches!(source, Source::Backup(_)) && map.last_node != NodeId(0) {
        map.last_node = NodeId(map.last_node.0.saturating_add(NODE_GAP));
    }
    map.replicas = settings.node.map(|node| ReplicaPlace { replica, node }).into_iter().collect();
    tables.set(held::KEY, &held)?;
    tables.set(counters::KEY, &raised)?;
    tables.set(cluster_map::KEY, &map)?;
    // Whoever held a lease has no session any more.
    tables.remove(TableId::Counters, leases::KEY)?;
    let digests = tables.digests();
    drop(tables);
    let last = applied.last.unwrap_or(StoredLogId { term: 1, node: replica.0, index: 1 });
    let membership = StoredConfig {
        log_id: Some(last),
        voters: vec![vec![replica.0]],
        members: vec![replica.0],
    };
    database::write_applied(&transaction, &Applied { last: Some(last), membership }, digests)?;
    transaction.commit().map_err(StateError::from)?;
    let Counters { objects, object_bytes, .. } = old;
    Ok((RestoredReplica { replica, index: last.index, held, objects, object_bytes }, last))
}

/// Ends all sessions, and says what is held.
fn hold(
    tables: &mut Tables<'_>,
    source: &Source,
    old: &Counters,
    raised: &Counters,
    index: u64,
    map: &ClusterMap,
) -> Result<Held, RestoreError> {
    // A backup may have been taken while something was held.
    let before: Option<Held> = tables.get(held::KEY)?;
    let from_shards = matches!(source, Source::Nothing(_));
    let mut held = Held {
        since: before.as_ref().map_or(old.time, |before| before.since),
        index,
        from_shards: from_shards || before.as_ref().is_some_and(|before| before.from_shards),
        has_pgs: false,
        disks: DiskId(map.disks.last().map_or(0, |disk| disk.id.0).saturating_add(DISK_GAP)),
        ..before.unwrap_or_default()
    };
    for (key, _) in tables.scan(TableId::Sessions, b"", usize::MAX)? {
        let damaged = || StateError::Damaged("a session has a bad key".to_owned());
        held.sessions.push(sessions::read_key(&key).ok_or_else(damaged)?);
        tables.remove(TableId::Sessions, &key)?;
    }
    held.sessions.sort_unstable();
    held.sessions.dedup();
    held.ranges
        .push(SessionRange { above: SessionId(old.session), until: SessionId(raised.session) });
    Ok(held)
}

/// A number above all that were given out, in this history or in one that an earlier restore of the
/// same backup began.
fn raised(number: u64, now: Timestamp) -> u64 {
    number.saturating_add(GAP).max(now.as_seconds() << SECOND_SHIFT)
}

/// A log that ends with `last`, and holds nothing of what was before.
async fn make_log(
    directory: &Arc<dyn Disk>,
    last: StoredLogId,
    replica: ReplicaId,
    settings: &RestoreSettings,
) -> Result<(), RestoreError> {
    let disk = directory.subdirectory(LOG_DIRECTORY)?;
    let (cluster, clock) = (settings.cluster, Arc::clone(&settings.clock));
    let log = RaftLog::create(disk, cluster, replica, clock, Arc::new(Fence::default()))?;
    // The next term is above every term of the backup.
    log.save_vote(Vote::new(last.term, replica.0)).await?;
    log.purge(LogId::from(last)).await?;
    log.stop().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_raised_above_those_of_an_earlier_restore() {
        let day = |days: u64| Timestamp::from_seconds(1_800_000_000 + days * 86_400);
        assert_eq!(raised(7, Timestamp(0)), 7 + GAP);
        let first = raised(7, day(0));
        assert!(first > GAP && first < 1 << 53, "{first}");
        // A million numbers a second later, the same backup again, or none at all.
        let given = first + 86_400 * 1_000_000;
        assert!(raised(7, day(1)) > given && raised(0, day(1)) > given);
        // Restores on the heels of each other don't run ahead of the time.
        let second = raised(first + 5, day(0));
        assert!(second > first + 5 && raised(0, day(1)) > second);
        assert_eq!(raised(u64::MAX - 1, day(0)), u64::MAX);
    }
}
