//! What isn't as it should be, gathered from all that was found.
//!
//! In: what the replicas and the leader answered, and what this process knows of itself. Out: the
//! reasons of [`crate::admin::health`], those that are muted marked as such. The same for `/health`,
//! `/health/ready`, `/status` and the metrics.

use model::cluster_map::{ClusterMap, DiskState};
use model::ids::DiskId;
use model::node::Roles;
use model::query::{Answer, MetadataStatus, Query};
use model::time::Timestamp;

use super::{Found, FoundMap, MAP_AGE_MAX, StatusGatherer, digests_match};
use crate::admin::backup_targets::BackupTargetStatus;
use crate::admin::figures::{DurabilityStatus, MapFigures};
use crate::admin::health::{self, DiskFacts, Health, Reason, Repairs};
use crate::admin::status::replicas_to_lose;

impl StatusGatherer {
    /// The front of the repair queue, which is the most urgent, where this process may ask that.
    pub(super) async fn find_urgent_repair(&self) -> Option<Repairs> {
        let roles = self.process.roles;
        if !roles.contains(Roles::METADATA) && !roles.contains(Roles::GATEWAY) {
            return None;
        }
        match self.client.query(Query::Repairs { after: None, limit: 1 }).await {
            Ok(Answer::Repairs(page)) => Some(Repairs {
                queued: page.total,
                spare_least: page.items.first().map(|item| i64::from(item.spare)),
            }),
            _ => None,
        }
    }

    /// What is computed once for each map.
    pub(super) fn map_figures(&self, found: &Found) -> MapFigures {
        let Some(map) = found.map.made() else { return MapFigures::default() };
        let is_out = |id: &DiskId| map.disk(*id).is_none_or(|disk| disk.state == DiskState::Out);
        let is_rebuilding =
            found.repairs.queued > 0 || map.pgs.iter().flat_map(|pg| &pg.disks).any(is_out);
        let now = self.client.clock().monotonic();
        let engine = self.process.engine.as_ref();
        self.figures.of(map, found.reports(), is_rebuilding, engine, now)
    }

    /// What it comes to.
    pub(super) fn health_of(&self, found: &Found) -> Health {
        let replicas = found.voters().map(|(voters, well)| replicas_to_lose(voters, well));
        let readable = found.readable();
        let margin = health::margin_of(
            found.map.made(),
            |id| readable.contains(&id),
            found.repairs,
            replicas,
        );
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
            FoundMap::Made(map) => reasons.extend(self.reasons_of_map(found, map)),
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

    fn reasons_of_map(&self, found: &Found, map: &ClusterMap) -> Vec<Reason> {
        let is_gateway = self.process.roles.contains(Roles::GATEWAY);
        let readable = found.readable();
        let of_stripes = health::of_stripes(map, |id| readable.contains(&id), found.repairs);
        // What can't be read or written stops clients, and so gateways only.
        let fitting = |reason: Reason| if is_gateway { reason } else { reason.as_warning() };
        let mut reasons: Vec<Reason> = of_stripes.into_iter().map(fitting).collect();
        let withheld = found.leader().map(|leader| &*leader.withheld).unwrap_or_default();
        reasons.extend(health::of_upkeep(map, withheld));
        let now = self.client.clock().now();
        let facts = DiskFacts::new(map, found.reports(), found.suspects(), now);
        reasons.extend(health::of_disks(&facts));
        let figures = self.map_figures(found);
        reasons.extend(figures.tolerance_low);
        reasons.extend(figures.durability.as_ref().and_then(DurabilityStatus::reason));
        reasons.extend(health::mixed_releases(map));
        if let Some(engine) = &self.process.engine {
            let age = engine.map_age();
            if age.is_none_or(|age| age > MAP_AGE_MAX) {
                reasons.push(Reason::map_old(age));
            }
            reasons.extend(engine.out_of_reach().as_ref().map(Reason::gateway_cut_off));
            reasons.extend(health::disk_slow(&engine.slow_disks()));
        }
        reasons
    }
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
