//! What single disks give reason for: down, out, silent, full, damaged, not verified for long.
//!
//! In: the cluster map, what the nodes last reported of their disks, and the time. Out: one reason for
//! each code, naming the disks that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::ids::DiskId;
use model::shard::{DiskHealth, DiskReport};
use model::time::Timestamp;
use s3::date;

use super::{Code, Reason};

/// A disk that was read through longer ago than this is behind: twice the interval that storage nodes
/// keep to.
const SCRUB_STALE_AFTER: Duration = Duration::from_hours(2 * 7 * 24);

/// Disks that one message names; the rest are counted.
const NAMED_MAX: usize = 20;

/// What is known of disks.
pub struct DiskFacts<'a> {
    map: &'a ClusterMap,
    reports: BTreeMap<DiskId, &'a DiskReport>,
    suspects: BTreeSet<DiskId>,
    now: Timestamp,
}

/// What disks give reason for. It never stops clients from being served: that is for groups.
pub fn of_disks(facts: &DiskFacts<'_>) -> Vec<Reason> {
    let found = [
        facts.tell(Code::DiskDown, "down", DiskFacts::is_down),
        facts.tell(Code::DiskOut, "given up", DiskFacts::is_out),
        facts.tell(Code::DiskSuspect, "not heard of for some seconds", DiskFacts::is_suspect),
        facts.tell(Code::DiskFull, "full: new objects go elsewhere", DiskFacts::is_full),
        facts.tell(Code::DiskNearfull, "nearly full", DiskFacts::is_nearfull),
        facts.tell(Code::DiskDamaged, "damaged in part", DiskFacts::is_damaged),
        facts.tell(Code::ScrubStale, "not verified for too long", DiskFacts::is_stale),
    ];
    found.into_iter().flatten().collect()
}

impl<'a> DiskFacts<'a> {
    /// What the map, the last reports and the leader say: `suspects` are disks that are silent and
    /// not down yet.
    pub fn new(
        map: &'a ClusterMap,
        reports: &'a [DiskReport],
        suspects: &[DiskId],
        now: Timestamp,
    ) -> Self {
        let reports = reports.iter().map(|report| (report.disk, report)).collect();
        Self { map, reports, suspects: suspects.iter().copied().collect(), now }
    }

    /// A reason with all disks that `detail` has something to say of.
    fn tell(
        &self,
        code: Code,
        what: &str,
        detail: fn(&Self, &Disk) -> Option<String>,
    ) -> Option<Reason> {
        let named = |disk: &Disk| Some(format!("disk {}: {}", disk.id, detail(self, disk)?));
        let mut told: Vec<String> = self.map.disks.iter().filter_map(named).collect();
        let count = told.len();
        if count == 0 {
            return None;
        }
        if count > NAMED_MAX {
            told.truncate(NAMED_MAX);
            told.push(format!("and {} more", count - NAMED_MAX));
        }
        let are = if count == 1 { "disk is" } else { "disks are" };
        let message = format!("{count} {are} {what} ({}).", told.join("; "));
        Some(Reason::warning(code, message))
    }

    fn report(&self, disk: &Disk) -> Option<&DiskReport> {
        self.reports.get(&disk.id).copied()
    }

    fn is_down(&self, disk: &Disk) -> Option<String> {
        let report = self.report(disk);
        let has_failed = |report: &&DiskReport| {
            matches!(report.health, DiskHealth::Failed | DiskHealth::ReadOnly)
        };
        let failed = report.filter(has_failed);
        let is_down =
            disk.state == DiskState::Down || (disk.state != DiskState::Out && failed.is_some());
        if !is_down {
            return None;
        }
        let place = format!("{} on node {}", disk.path, disk.node);
        Some(match failed {
            Some(report) => {
                let why = report.reason.as_deref().map(|why| format!(", {why}"));
                format!("{place}, {}{}", report.health.as_str(), why.unwrap_or_default())
            }
            None => format!("{place}, its node is not heard of"),
        })
    }

    /// One that is given up and empty, by an operator's order or with its node, is as it should be.
    fn is_out(&self, disk: &Disk) -> Option<String> {
        if disk.state != DiskState::Out {
            return None;
        }
        let slots = self.map.pgs.iter().filter(|pg| pg.disks.contains(&disk.id)).count();
        let place = format!("{} on node {}", disk.path, disk.node);
        let has_node = self.map.nodes.is_empty() || self.map.node(disk.node).is_some();
        match (slots, disk.standing.is_given_up || !has_node) {
            (0, true) => None,
            (0, false) => Some(format!("{place}, rebuilt elsewhere, to be replaced")),
            _ => Some(format!("{place}, {slots} slots to be rebuilt elsewhere")),
        }
    }

    fn is_suspect(&self, disk: &Disk) -> Option<String> {
        let is_one = self.suspects.contains(&disk.id);
        is_one.then(|| format!("{} on node {}", disk.path, disk.node))
    }

    /// Whether its report is of now; that of a disk that is down may be old.
    fn present(&self, disk: &Disk) -> Option<&DiskReport> {
        let is_up = matches!(disk.state, DiskState::Up | DiskState::Full);
        self.report(disk).filter(|_| is_up)
    }

    fn is_full(&self, disk: &Disk) -> Option<String> {
        let is_full = disk.state == DiskState::Full
            || self.present(disk).is_some_and(|report| report.health == DiskHealth::Full);
        is_full.then(|| taken(self.report(disk)))
    }

    fn is_nearfull(&self, disk: &Disk) -> Option<String> {
        let report = self.present(disk)?;
        let is_full = disk.state == DiskState::Full || report.health == DiskHealth::Full;
        let is_near = report.taken_percent()? >= self.map.upkeep.nearfull_percent();
        (is_near && !is_full).then(|| taken(Some(report)))
    }

    fn is_damaged(&self, disk: &Disk) -> Option<String> {
        let report = self.present(disk)?;
        match report.reason.as_ref().filter(|_| report.health == DiskHealth::Ok) {
            Some(reason) => Some(reason.clone()),
            None if report.damaged_shards > 0 => {
                Some(format!("{} shards wait for repair", report.damaged_shards))
            }
            None => None,
        }
    }

    fn is_stale(&self, disk: &Disk) -> Option<String> {
        let scrub = &self.present(disk)?.scrub;
        let never = Timestamp(0);
        // Of a disk that was never read through, its first pass tells how long it has been there.
        let since = if scrub.last_ended == never { scrub.began } else { scrub.last_ended };
        let age = Duration::from_nanos(self.now.0.saturating_sub(since.0));
        if since == never || age <= SCRUB_STALE_AFTER {
            return None;
        }
        Some(if scrub.last_ended == never {
            format!("its first pass began {}", date::iso8601(since))
        } else {
            format!("its last whole pass ended {}", date::iso8601(since))
        })
    }
}

fn taken(report: Option<&DiskReport>) -> String {
    report
        .and_then(DiskReport::taken_percent)
        .map_or_else(|| "unknown".to_owned(), |percent| format!("{percent} % taken"))
}

#[cfg(test)]
mod tests;
