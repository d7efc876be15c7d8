//! What stripes and placement groups give reason for: what can't be read, has nothing to spare, or
//! can't be written; and what keeps the cluster from mending that.
//!
//! In: the cluster map, which disks can be read, and the front of the repair queue. Out: reasons, and
//! how far data is from being lost. What always holds: only what can't be read or written at all stops
//! clients from being served.

use std::collections::BTreeSet;

use model::cluster_map::{ClusterMap, DiskState};
use model::ids::{DiskId, NodeId};
use model::moves::MoveReason;
use model::placement::Level;
use model::placement::tolerance::{Reach, Tolerance, Unit};
use serde::{Deserialize, Serialize};

use super::{Code, Reason};
use crate::admin::standing::disks_to_lose;

/// The repair queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Extents in it.
    pub queued: u64,
    /// Shards that the most urgent one has beyond those that a reader needs; `None` when that isn't
    /// known.
    pub spare_least: Option<i64>,
    /// The same of the most urgent one that can still be read; `None` when there is none, or that isn't
    /// known.
    pub spare_readable: Option<i64>,
}

/// How far data is from being lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Margin {
    /// Any so many more disks may fail before data can't be read; at most so many where extents that
    /// wait for repair lie on groups that lack disks, too. `null` when that isn't known, below 0 when
    /// some can't be read already.
    pub more_disks: Option<i64>,
    /// So many more metadata replicas may fail.
    pub more_metadata_replicas: Option<i64>,
    /// Both in a sentence.
    pub text: String,
}

/// How far data is from being lost.
pub fn margin_of(
    map: Option<&ClusterMap>,
    readable: impl Fn(DiskId) -> bool,
    repairs: Repairs,
    more_metadata_replicas: Option<i64>,
) -> Margin {
    let groups = map.and_then(|map| disks_to_lose(map, readable));
    let more_disks = groups.map(|groups| groups.min(repairs.spare_least.unwrap_or(groups)));
    let disks = match more_disks {
        None => "how many more disks may fail is unknown".to_owned(),
        Some(..0) => "some data can't be read".to_owned(),
        Some(0) => "no further disk may fail".to_owned(),
        Some(1) => "1 more disk may fail".to_owned(),
        Some(more) => format!("{more} more disks may fail"),
    };
    let replicas = match more_metadata_replicas {
        None => "of the metadata that is unknown".to_owned(),
        Some(..0) => "the metadata has no majority".to_owned(),
        Some(0) => "no further metadata replica".to_owned(),
        Some(1) => "1 more metadata replica".to_owned(),
        Some(more) => format!("{more} more metadata replicas"),
    };
    Margin { more_disks, more_metadata_replicas, text: format!("{disks}; {replicas}") }
}

/// What the groups and the repair queue give reason for. `used` is the map without the groups that
/// nobody uses: nothing is lost with those, but they could be written to.
pub fn of_stripes(
    map: &ClusterMap,
    used: &ClusterMap,
    readable: impl Fn(DiskId) -> bool,
    repairs: Repairs,
) -> Vec<Reason> {
    if map.disks.is_empty() || map.pgs.is_empty() {
        return vec![Reason::no_disks()];
    }
    redundancy(used, &readable, repairs).into_iter().chain(no_open_group(map)).collect()
}

/// What stripes lack: what of the repair queue is lost, and apart from that the worst of the rest, so
/// that whoever doesn't want to hear of the one hears of the other.
fn redundancy(
    map: &ClusterMap,
    readable: &impl Fn(DiskId) -> bool,
    repairs: Repairs,
) -> Vec<Reason> {
    let is_unreadable = Code::DataUnreadable.as_str();
    let worst = worst_readable(map, readable, repairs);
    // Of groups it is told as what stops clients, which says more.
    let lost = lost_extents(repairs)
        .filter(|_| worst.as_ref().is_none_or(|worst| worst.code != is_unreadable));
    lost.into_iter().chain(worst).collect()
}

/// Extents that more is lost of than parity makes up for.
fn lost_extents(repairs: Repairs) -> Option<Reason> {
    repairs.spare_least.filter(|spare| *spare < 0)?;
    let message = format!(
        "Of {} extents that wait for repair, some have lost more shards than their parity makes up for, so parts of objects can't be read.",
        repairs.queued
    );
    Some(Reason::warning(Code::DataUnreadable, message))
}

/// The worst of what stripes lack, but for extents that are lost.
fn worst_readable(
    map: &ClusterMap,
    readable: &impl Fn(DiskId) -> bool,
    repairs: Repairs,
) -> Option<Reason> {
    let lost = map.pgs.iter().flat_map(|pg| &pg.disks).filter(|disk| !readable(**disk));
    let lost: BTreeSet<DiskId> = lost.copied().collect();
    let total = map.pgs.len();
    let short: Vec<i64> = map
        .pgs
        .iter()
        .map(|pg| (pg.slack(readable), i64::from(pg.coding.parity())))
        .filter(|(slack, parity)| slack < parity)
        .map(|(slack, _)| slack)
        .collect();
    let least = short.iter().copied().min();
    let with = |spare: i64| short.iter().filter(|slack| **slack == spare).count();
    let unreadable = short.iter().filter(|slack| **slack < 0).count();
    let disks = listed(&lost);
    if unreadable > 0 {
        return Some(Reason::blocking(
            Code::DataUnreadable,
            format!(
                "{unreadable} of {total} placement groups have lost more disks than their coding allows (disks {disks} can't be read), so objects in them can't be read."
            ),
        ));
    }
    let queued = repairs.queued;
    let waiting = match queued {
        0 => String::new(),
        queued => format!("; {queued} extents wait for repair"),
    };
    if least == Some(0) {
        let message = format!(
            "{} of {total} placement groups can lose no further disk (disks {disks} can't be read){waiting}.",
            with(0)
        );
        return Some(Reason::warning(Code::StripeAtRisk, message));
    }
    if repairs.spare_readable == Some(0) {
        let message =
            format!("Of {queued} extents that wait for repair, some have no shard to spare.");
        return Some(Reason::warning(Code::StripeAtRisk, message));
    }
    let more = least.into_iter().chain(repairs.spare_readable).min();
    let more = more.map(|more| format!("; {more} more disks may fail")).unwrap_or_default();
    let is_lost = repairs.spare_least.is_some_and(|spare| spare < 0);
    match (short.len(), queued) {
        (0, 0) => None,
        // Those that are lost are told as that.
        (0, _) if is_lost && repairs.spare_readable.is_none() => None,
        (0, queued) => {
            let message = format!("{queued} extents lack shards and wait for repair{more}.");
            Some(Reason::warning(Code::StripeDegraded, message))
        }
        (short, _) => {
            let message = format!(
                "{short} of {total} placement groups lack disks (disks {disks} can't be read) and are read with the help of parity{waiting}{more}."
            );
            Some(Reason::warning(Code::StripeDegraded, message))
        }
    }
}

fn no_open_group(map: &ClusterMap) -> Option<Reason> {
    if !map.open_pgs(&[]).is_empty() {
        return None;
    }
    // A writer goes on with missing shards where its quorum is still met, so this alone doesn't stop
    // writes; with too few disks for a quorum it does.
    let has_quorum_of = |states: &[DiskState]| {
        let counts = |id: &&DiskId| map.disk(**id).is_some_and(|disk| states.contains(&disk.state));
        map.pgs.iter().any(|pg| {
            let up = pg.disks.iter().filter(counts).count();
            up >= usize::from(pg.coding.write_quorum(pg.coding.data()))
        })
    };
    let message = "No placement group has all of its disks up";
    Some(if has_quorum_of(&[DiskState::Up]) {
        let message = format!("{message}; objects are written with shards missing.");
        Reason::warning(Code::NoOpenGroup, message)
    } else if has_quorum_of(&[DiskState::Up, DiskState::Full]) {
        // A balancer that sent nobody here would keep out the deletes that make room.
        let message = "No placement group has space on enough of its disks; nothing can be written, and reads and deletes go on.";
        Reason::warning(Code::NoOpenGroup, message.to_owned()).as_red()
    } else {
        let message =
            format!("{message}, nor enough of them for a write quorum; nothing can be written.");
        Reason::blocking(Code::NoOpenGroup, message)
    })
}

/// What keeps the cluster from mending itself, and what it mends: nodes whose silence is doubted,
/// slots that are rebuilt, a pause.
pub fn of_upkeep(map: &ClusterMap, withheld: &[NodeId]) -> Vec<Reason> {
    [nodes_silent(withheld), rebuilding(map), moves_paused(map)].into_iter().flatten().collect()
}

fn nodes_silent(withheld: &[NodeId]) -> Option<Reason> {
    let nodes: Vec<String> = withheld.iter().map(NodeId::to_string).collect();
    (!nodes.is_empty()).then(|| {
        let message = format!(
            "Nodes {} are silent at the same time; their disks are not given up unless an operator says so.",
            nodes.join(", ")
        );
        Reason::warning(Code::NodesSilent, message)
    })
}

fn rebuilding(map: &ClusterMap) -> Option<Reason> {
    let is_out = |id: DiskId| map.disk(id).is_none_or(|disk| disk.state == DiskState::Out);
    let mut slots = 0;
    let mut under_way = 0;
    for pg in &map.pgs {
        slots += pg.disks.iter().filter(|disk| is_out(**disk)).count();
        under_way += pg.moves.iter().filter(|one| one.reason == MoveReason::Lost).count();
    }
    (slots > 0).then(|| {
        let message = format!(
            "{slots} slots of disks that were given up are to be rebuilt on others; {under_way} of them are under way."
        );
        Reason::warning(Code::Rebuilding, message)
    })
}

fn moves_paused(map: &ClusterMap) -> Option<Reason> {
    map.upkeep.is_paused.then(|| {
        let message = "An operator has paused all moves but those of lost slots.".to_owned();
        Reason::warning(Code::MovesPaused, message)
    })
}

/// That one node has more shards of a group than the others make up for: by where slots are, whether
/// or not their disks can be read now. Looks at every group.
///
/// Of racks and zones nothing is said: where there are two of them, no placement makes one expendable,
/// and `admin status` tells what may be lost.
pub fn tolerance_low(map: &ClusterMap) -> Option<Reason> {
    let tolerance = Tolerance::with(map, |_| true);
    let is_low =
        |reach: &&Reach| reach.unit == Unit::Domain(Level::Node) && reach.survives == Some(0);
    let limit = &tolerance.reading.iter().find(is_low)?.limit;
    let message = format!(
        "{} placement groups can't be read without node {}: it has {} of {} shards of one.",
        limit.pgs,
        limit.domains.join(", "),
        limit.shards,
        limit.width,
    );
    Some(Reason::warning(Code::ToleranceLow, message))
}

fn listed(disks: &BTreeSet<DiskId>) -> String {
    disks.iter().map(DiskId::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
