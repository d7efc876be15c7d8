//! What the leader knows of its followers: whether a quorum is there, and whether one of them needs
//! the leader to slow down.
//!
//! A follower that lacks more of the log than the leader keeps needs a whole snapshot, and while that
//! is on its way falls behind again: on a busy cluster for ever. So before it comes to that, new
//! commands are answered with `Overloaded`, until it has caught up by half ([`must_slow_down`]). Not
//! for a follower that is gone or stands still, and not while more than a quorum keeps up: then its
//! loss, and a snapshot later, costs less than stopping everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::Instant;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use wire::clock::Clock;

use crate::limits::{
    FOLLOWER_CHECK_INTERVAL, FOLLOWER_HEARD_WITHIN, FOLLOWER_LAG_MAX, FOLLOWER_STUCK_AFTER,
    QUORUM_SILENT_AFTER,
};
use crate::raft::Raft;
use crate::state::Fence;

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
pub async fn watch(raft: &Raft, proposals: &Proposals, fence: &Fence, clock: &dyn Clock) {
    let mut progress: BTreeMap<u64, Progress> = BTreeMap::new();
    let mut is_slow = false;
    while !fence.is_set() {
        clock.sleep(FOLLOWER_CHECK_INTERVAL).await;
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
    use super::*;

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
}
