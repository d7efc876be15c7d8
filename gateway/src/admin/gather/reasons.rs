//! What isn't as it should be, gathered from all that was found.
//!
//! In: what the replicas and the leader answered, and what this process knows of itself. Out: the
//! reasons of [`crate::admin::health`], those that are muted marked as such. The same for `/health`,
//! `/health/ready`, `/status` and the metrics.

use std::sync::Arc;

use engine::Engine;
use model::cluster_map::ClusterMap;
use model::node::Roles;
use model::query::{Answer, MetadataStatus, Query};
use model::time::Timestamp;
use model::upkeep::RepairCursor;

use super::{Found, FoundMap, MAP_AGE_MAX, StatusGatherer, digests_match};
use crate::admin::backup_targets::BackupTargetStatus;
use crate::admin::figures::Seen;
use crate::admin::health::{self, Health, Reason, Repairs};
use crate::admin::standing::replicas_to_lose;

impl StatusGatherer {
    /// The front of the repair queue, which is the most urgent, where this process may ask that.
    pub(super) async fn find_urgent_repair(&self) -> Option<Repairs> {
        let roles = self.process.roles;
        if !roles.contains(Roles::METADATA) && !roles.contains(Roles::GATEWAY) {
            return None;
        }
        let (queued, spare_least) = self.front_of_repairs(None).await?;
        let spare_readable = match spare_least {
            Some(..0) => self.front_of_repairs(Some(RepairCursor::BEHIND_LOST)).await?.1,
            spare => spare,
        };
        Some(Repairs { queued, spare_least, spare_readable })
    }

    /// How many extents wait for repair, and what the first one behind a place has to spare.
    async fn front_of_repairs(&self, after: Option<RepairCursor>) -> Option<(u64, Option<i64>)> {
        match self.client.query(Query::Repairs { after, limit: 1 }).await {
            Ok(Answer::Repairs(page)) => {
                Some((page.total, page.items.first().map(|item| i64::from(item.spare))))
            }
            _ => None,
        }
    }

    /// What a look found, for its figures.
    pub(super) fn seen<'a>(&self, found: &'a Found, map: &'a Arc<ClusterMap>) -> Seen<'a> {
        let leader = found.leader();
        let rebuild_rate = match &self.process.engine {
            Some(engine) => engine.repair_bytes_per_second(map),
            None => Engine::usual_repair_bytes_per_second(map),
        };
        Seen {
            map,
            unused: &found.unused,
            reports: found.reports(),
            suspects: found.suspects(),
            withheld: leader.map(|leader| &*leader.withheld).unwrap_or_default(),
            voters: found.voters_of(map),
            more_metadata_replicas: found
                .voters()
                .map(|(voters, well)| replicas_to_lose(voters, well)),
            repairs: found.repairs,
            rebuild_rate,
            is_gateway: self.process.roles.contains(Roles::GATEWAY),
            now: self.client.clock().now(),
        }
    }

    /// What it comes to.
    pub(super) fn health_of(&self, found: &Found) -> Health {
        let margin = found.map.judged().map(|judged| judged.margin.clone());
        let replicas = found.voters().map(|(voters, well)| replicas_to_lose(voters, well));
        let margin =
            margin.unwrap_or_else(|| health::margin_of(None, |_| false, found.repairs, replicas));
        Health::new(self.reasons(found), margin)
    }

    fn reasons(&self, found: &Found) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let now = self.client.clock().now();
        if *self.process.stopping.borrow() {
            reasons.push(Reason::stopping());
        }
        match &found.map {
            FoundMap::Silence => {
                reasons.push(Reason::meta_no_quorum(found.silence, &found.why_silent()));
            }
            FoundMap::Unmade => reasons.push(Reason::no_disks()),
            FoundMap::Made(_, judged) => {
                reasons.extend(judged.reasons.iter().cloned());
                reasons.extend(self.process.engine.iter().flat_map(of_engine));
            }
        }
        reasons.extend(found.held.as_ref().map(Reason::meta_held));
        reasons.extend(self.backup_targets().iter().filter_map(BackupTargetStatus::reason));
        if let (Some((voters, healthy)), Some(leader)) = (found.voters(), found.leader()) {
            let known = found.replicas.iter().filter_map(|(_, status)| status.as_ref());
            let differs =
                |status: &&MetadataStatus| digests_match((*status, leader)) == Some(false);
            let differing: Vec<u64> =
                known.filter(differs).map(|status| status.replica.0).collect();
            reasons.extend(health::of_replicas(voters, healthy, &differing));
        }
        reasons.extend(health::clock_skew(&found.clocks_ahead_ms));
        let end = self.certificate.as_ref().map(|end| end());
        reasons.extend(end.and_then(|end| health::certificate_expires(end, now)));
        let mutes = found.map.made().map(|map| &*map.mutes).unwrap_or_default();
        health::mutes::apply(&mut reasons, mutes, now);
        reasons
    }
}

/// What the engine of a gateway knows.
fn of_engine(engine: &Engine) -> Vec<Reason> {
    let age = engine.map_age();
    let map_old = age.is_none_or(|age| age > MAP_AGE_MAX).then(|| Reason::map_old(age));
    let cut_off = engine.out_of_reach().as_ref().map(Reason::gateway_cut_off);
    let slow = health::disk_slow(&engine.slow_disks());
    map_old.into_iter().chain(cut_off).chain(slow).collect()
}

/// By how many milliseconds a clock that said `time` between `asked` and `answered` is ahead of the one
/// that says those, at the least; `None` from a release that doesn't say.
pub(super) fn ahead_ms(time: Timestamp, asked: Timestamp, answered: Timestamp) -> Option<i64> {
    const NANOS_PER_MS: u64 = 1_000_000;
    if time == Timestamp::default() {
        return None;
    }
    let ahead = time.0.saturating_sub(answered.0) / NANOS_PER_MS;
    let behind = asked.0.saturating_sub(time.0) / NANOS_PER_MS;
    Some(ahead.cast_signed().saturating_sub(behind.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_an_answer_takes_is_no_skew() {
        let second = |seconds: u64| Timestamp(seconds * 1_000_000_000);
        let check = |time, expected| {
            assert_eq!(ahead_ms(second(time), second(100), second(103)), expected, "{time}");
        };
        check(0, None);
        check(100, Some(0));
        check(103, Some(0));
        check(105, Some(2000));
        check(90, Some(-10_000));
    }
}
