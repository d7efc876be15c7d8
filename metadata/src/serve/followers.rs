//! What the leader knows of its followers: whether a quorum is there, and whether one of them needs
//! the leader to slow down.
//!
//! A follower that lacks more of the log than the leader keeps needs a whole snapshot, and while that
//! is on its way falls behind again: on a busy cluster for ever. So before it comes to that, new
//! commands are answered with `Overloaded`, until it has caught up by half ([`must_slow_down`]). Not
//! for a follower that is gone or stands still, and not while more than a quorum keeps up: then its
//! loss, and a snapshot later, costs less than stopping everybody.
//!
//! A member that gets a snapshot, or what came after it, needs the log meanwhile: as long as one
//! lacks much of it, the leader makes no other snapshot, and so purges nothing ([`needs_log`]); but
//! it doesn't fill its disk for that.
//!
//! Raft makes a snapshot after so many entries; a replica whose entries are large asks for one sooner
//! ([`LogWatch`]), with the same regard for others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use wire::clock::Clock;

use crate::inspection::Inspection;
use crate::limits::{
    FOLLOWER_CHECK_INTERVAL, FOLLOWER_HEARD_WITHIN, FOLLOWER_LAG_MAX, FOLLOWER_STUCK_AFTER,
    LOG_BYTES_CHECK_INTERVAL, LOG_BYTES_HELD_MAX, QUORUM_SILENT_AFTER, SNAPSHOT_LOG_BYTES,
    SNAPSHOT_RETRY_AFTER,
};
use crate::raft::Raft;
use crate::raft_log::RaftLog;
use crate::state::{SnapshotFile, StateMachine};

use super::proposals::Proposals;

/// A follower with a vote, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// Entries of the leader's log that it lacks.
    pub lag: u64,
    /// Whether it answered lately, and got entries lately or lacks none.
    pub is_alive: bool,
}

/// Whether the leader must refuse new commands for the sake of a follower; `is_slow` says whether it
/// does already.
pub fn must_slow_down(followers: &[Follower], is_slow: bool) -> bool {
    let limit = if is_slow { FOLLOWER_LAG_MAX / 2 } else { FOLLOWER_LAG_MAX };
    let voters = followers.len() + 1;
    let quorum = voters / 2 + 1;
    let keeping_up = 1 + followers.iter().filter(|one| one.lag <= limit).count();
    let needs_help = followers.iter().any(|one| one.is_alive && one.lag > limit);
    needs_help && keeping_up <= quorum
}

/// When a follower was seen to have more than before.
#[derive(Clone, Copy)]
struct Progress {
    matched: u64,
    at: Duration,
}

/// Looks at the followers for as long as the replica lives, and slows the proposals down where it
/// must.
pub async fn watch(raft: &Raft, proposals: &Proposals, parts: &Inspection, clock: &dyn Clock) {
    let machine = &parts.machine;
    let mut log = LogWatch::new(SNAPSHOT_LOG_BYTES, LOG_BYTES_HELD_MAX);
    let mut progress: BTreeMap<u64, Progress> = BTreeMap::new();
    let mut is_slow = false;
    while !machine.fence().is_set() {
        clock.sleep(FOLLOWER_CHECK_INTERVAL).await;
        log.mind(needs_log(raft), raft, &parts.log, machine);
        log.look(raft, &parts.log, machine, clock.monotonic()).await;
        let followers = look(raft, &mut progress, clock.monotonic());
        let must = must_slow_down(&followers, is_slow);
        if must != is_slow {
            is_slow = must;
            proposals.slow_down(must);
            let lag = followers.iter().map(|one| one.lag).max();
            tracing::warn!(is_slow, lag, "a follower of the metadata lags: commands are held back");
        }
    }
}

/// Asks for a snapshot when the log has grown by many bytes since the last one.
struct LogWatch {
    /// Bytes that are many, unless the last snapshot has more.
    limit_bytes: u64,
    /// Bytes that are too many to be kept for a member.
    held_bytes_max: u64,
    looked_at: Option<Duration>,
    /// For which snapshot's successor it asked last, and when.
    asked: Option<(u64, Duration)>,
}

impl LogWatch {
    fn new(limit_bytes: u64, held_bytes_max: u64) -> Self {
        Self { limit_bytes, held_bytes_max, looked_at: None, asked: None }
    }

    /// Has the log kept for a member that needs it, while that costs no more than it may. Beyond that
    /// the member gets another snapshot.
    fn mind(&self, is_needed: bool, raft: &Raft, log: &RaftLog, machine: &StateMachine) {
        let keeps = is_needed && !log.has_more_bytes_after(covered(raft), self.held_bytes_max);
        machine.restraint().keep_log(keeps);
    }

    /// Whether it may ask for the snapshot that comes after the one that covers so much. Not while a
    /// member needs the log; and what was refused, or couldn't be written, is asked for again later.
    fn may_ask(&self, covered: u64, keeps_log: bool, now: Duration) -> bool {
        let asked = self.asked.filter(|(last, _)| *last == covered).map(|(_, at)| at);
        !keeps_log && is_past(asked, now, SNAPSHOT_RETRY_AFTER)
    }

    async fn look(
        &mut self,
        raft: &Raft,
        log: &RaftLog,
        machine: &Arc<StateMachine>,
        now: Duration,
    ) {
        if !is_past(self.looked_at, now, LOG_BYTES_CHECK_INTERVAL) {
            return;
        }
        self.looked_at = Some(now);
        let covered = covered(raft);
        let limit = self.limit_bytes;
        if !self.may_ask(covered, machine.restraint().keeps_log(), now)
            || !log.has_more_bytes_after(covered, limit)
        {
            return;
        }
        let machine = Arc::clone(machine);
        let snapshot_bytes =
            tokio::task::spawn_blocking(move || snapshot_bytes(&machine)).await.unwrap_or_default();
        if log.has_more_bytes_after(covered, snapshot_bytes.max(limit)) {
            self.asked = Some((covered, now));
            tracing::info!(covered, snapshot_bytes, "the log is large: a snapshot is due");
            // Raft that has stopped makes none.
            let _ = raft.trigger().snapshot().await;
        }
    }
}

/// What the last snapshot covers.
fn covered(raft: &Raft) -> u64 {
    raft.metrics().borrow_watched().snapshot.map_or(0, |id| id.index)
}

/// Whether something never was, or was so long ago.
fn is_past(at: Option<Duration>, now: Duration, pause: Duration) -> bool {
    at.is_none_or(|at| now.saturating_sub(at) >= pause)
}

/// Bytes of the current snapshot; none where there is none, or it can't be read.
fn snapshot_bytes(machine: &StateMachine) -> u64 {
    let current = SnapshotFile::current(&**machine.disk()).ok().flatten();
    current.and_then(|snapshot| snapshot.length().ok()).unwrap_or_default()
}

/// Whether a member that is there, with a vote or without, lacks more of this leader's log than is
/// kept behind a snapshot for sure.
fn needs_log(raft: &Raft) -> bool {
    if !raft.is_leader() {
        return false;
    }
    let metrics = raft.metrics().borrow_watched().clone();
    let (Some(replication), Some(heard)) = (metrics.replication, metrics.heartbeat) else {
        return false;
    };
    let last = metrics.last_log_index.unwrap_or_default();
    let mut members = metrics.membership_config.membership().nodes().map(|(id, _)| *id);
    members.any(|id| {
        let matched = replication.get(&id).copied().flatten().map_or(0, |id| id.index);
        let answered = heard.get(&id).copied().flatten();
        id != metrics.id
            && last.saturating_sub(matched) > FOLLOWER_LAG_MAX
            && answered.is_some_and(|at| at.elapsed() < FOLLOWER_HEARD_WITHIN)
    })
}

/// The followers with a vote; none when this replica doesn't lead.
fn look(raft: &Raft, progress: &mut BTreeMap<u64, Progress>, now: Duration) -> Vec<Follower> {
    if !raft.is_leader() {
        progress.clear();
        return Vec::new();
    }
    let metrics = raft.metrics().borrow_watched().clone();
    let (Some(replication), Some(heard)) = (metrics.replication, metrics.heartbeat) else {
        return Vec::new();
    };
    let last = metrics.last_log_index.unwrap_or_default();
    let own = metrics.id;
    let voters = metrics.membership_config.membership().voter_ids();
    voters
        .filter(|id| *id != own)
        .map(|id| {
            let matched = replication.get(&id).copied().flatten().map_or(0, |id| id.index);
            let known = progress.entry(id).or_insert(Progress { matched, at: now });
            if matched != known.matched {
                *known = Progress { matched, at: now };
            }
            let answered = heard.get(&id).copied().flatten();
            let lag = last.saturating_sub(matched);
            let is_alive = answered.is_some_and(|at| at.elapsed() < FOLLOWER_HEARD_WITHIN)
                && now.saturating_sub(known.at) < FOLLOWER_STUCK_AFTER;
            Follower { lag, is_alive }
        })
        .collect()
}

/// Whether this replica leads, as far as it knows, and no quorum has answered it for so long that
/// the others have another leader by now.
pub fn is_left_alone(raft: &Raft) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters = metrics.membership_config.membership().voter_ids().count();
    metrics.current_leader == Some(metrics.id)
        && voters > 1
        && metrics.last_quorum_acked.is_some_and(|at| at.elapsed() > QUORUM_SILENT_AFTER)
}

/// Ends when [`is_left_alone`].
pub async fn until_left_alone(raft: &Raft, clock: &dyn Clock) {
    while !is_left_alone(raft) {
        clock.sleep(FOLLOWER_CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use model::command::{Command, CommandEnvelope, CommandId};
    use model::ids::{ClusterId, ReplicaId};
    use model::query::{MetadataRequest, MetadataResponse};
    use model::time::Timestamp;
    use wire::clock::{SystemClock, timeout};
    use wire::disk::{Disk, RealDisk};
    use wire::network::{InProcess, Service as _};

    use super::*;
    use crate::replica::{Replica, World};

    fn check(lags: &[u64], alive: &[bool], was_slow: bool, expected: bool) {
        let followers: Vec<Follower> = lags
            .iter()
            .zip(alive)
            .map(|(lag, is_alive)| Follower { lag: *lag, is_alive: *is_alive })
            .collect();
        assert_eq!(must_slow_down(&followers, was_slow), expected, "{followers:?}");
    }

    #[test]
    fn one_that_lags_slows_a_bare_quorum_down_and_no_more() {
        let over = FOLLOWER_LAG_MAX + 1;
        check(&[], &[], false, false);
        check(&[0, FOLLOWER_LAG_MAX], &[true; 2], false, false);
        check(&[0, over], &[true; 2], false, true);
        // Gone, or stuck: waiting for it would stop everybody for ever.
        check(&[0, over], &[true, false], false, false);
        // Of five, three others keep up: one may fall behind. Two may not.
        check(&[0, 0, 0, over], &[true; 4], false, false);
        check(&[0, 0, over, over], &[true; 4], false, true);
        check(&[0, 0, over, over], &[true, true, true, false], false, true);
    }

    #[test]
    fn it_lasts_until_half_is_made_up() {
        let half = FOLLOWER_LAG_MAX / 2;
        check(&[0, half + 1], &[true; 2], true, true);
        check(&[0, half + 1], &[true; 2], false, false);
        check(&[0, half], &[true; 2], true, false);
    }

    #[test]
    fn a_snapshot_is_asked_for_once_and_never_while_a_member_needs_the_log() {
        let now = Duration::from_secs(500);
        let mut watch = LogWatch::new(1000, 4000);
        assert!(watch.may_ask(7, false, now));
        assert!(!watch.may_ask(7, true, now));
        watch.asked = Some((7, now));
        assert!(!watch.may_ask(7, false, now + SNAPSHOT_RETRY_AFTER / 2));
        assert!(watch.may_ask(7, false, now + SNAPSHOT_RETRY_AFTER));
        assert!(!watch.may_ask(7, true, now + SNAPSHOT_RETRY_AFTER));
        // That one was made: the next may be asked for at once.
        assert!(watch.may_ask(8, false, now));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_log_of_many_bytes_makes_a_snapshot() {
        let root = tempfile::tempdir().expect("made");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(root.path()).expect("opened"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let raft_network = Arc::new(InProcess::new(Arc::clone(&clock))) as _;
        let world = World { cluster: ClusterId([1; 16]), raft_network, clock: Arc::clone(&clock) };
        let id = ReplicaId(1);
        let replica = Replica::bootstrap(&world, &disk, id, &[id]).await.expect("made");
        let (raft, machine) = (replica.raft(), replica.machine());
        let propose = async |number: u64| {
            let command = Command::AllocateReplica;
            let envelope = CommandEnvelope {
                id: CommandId::default(),
                acknowledged_below: 0,
                proposed: Timestamp(number),
                command,
            };
            let request = MetadataRequest::Propose(vec![envelope]);
            let answer = replica.service().serve(request).await;
            matches!(answer, MetadataResponse::Outcomes(_))
        };
        while !propose(0).await {
            clock.sleep(Duration::from_millis(20)).await;
        }
        for number in 1..50 {
            assert!(propose(number).await);
        }
        let log = replica.log();
        assert!(log.has_more_bytes_after(0, 100) && !log.has_more_bytes_after(0, 1 << 20));
        let last = log.last().map_or(0, |id| id.index);
        assert!(!log.has_more_bytes_after(last, 0) && log.has_more_bytes_after(last - 1, 0));
        let snapshot = || raft.metrics().borrow_watched().snapshot.map(|id| id.index);
        // Not yet so many.
        LogWatch::new(1 << 20, 1 << 30).look(raft, log, machine, clock.monotonic()).await;
        // Enough, but a member needs it.
        let mut watch = LogWatch::new(100, 1 << 20);
        watch.mind(true, raft, log, machine);
        watch.look(raft, log, machine, clock.monotonic()).await;
        assert!(machine.restraint().keeps_log());
        assert_eq!((watch.asked, snapshot()), (None, None));
        // More than is kept for anybody; but only once within a second does it look.
        watch.held_bytes_max = 200;
        watch.mind(true, raft, log, machine);
        assert!(!machine.restraint().keeps_log());
        watch.looked_at = Some(clock.monotonic());
        watch.look(raft, log, machine, clock.monotonic()).await;
        assert_eq!((watch.asked, snapshot()), (None, None));
        watch.looked_at = None;
        watch.look(raft, log, machine, clock.monotonic()).await;
        assert!(watch.asked.is_some());
        let made = async {
            while snapshot().is_none() {
                clock.sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(&*clock, Duration::from_secs(20), made).await.expect("a snapshot");
        assert_eq!(snapshot(), Some(last));
        replica.shutdown().await;
    }
}
