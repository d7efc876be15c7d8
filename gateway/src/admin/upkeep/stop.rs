//! Whether a node may be stopped: would every object still be readable, could objects still be
//! written, and would the metadata keep its majority? Pure.
//!
//! In: the cluster map, what disks report, who votes, and the extents that lack shards. Out: yes or
//! no, with the reasons. What always holds: what is silent or known to be lost doesn't count as there;
//! what isn't known is no reason to say yes.

use model::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use model::ids::{DiskId, NodeId, PgId};
use model::node::Roles;
use model::placement;
use model::placement::tolerance::Voter;
use model::shard::DiskReport;
use serde::{Deserialize, Serialize};

use crate::admin::standing::{is_readable, report_of};
use crate::admin::upkeep::lacking::{Lacking, Short};

/// To `GET /nodes/ID/ok-to-stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    /// The node.
    pub node: u32,
    /// Whether it may be stopped.
    pub ok: bool,
    /// Why not, a sentence each; or why it may be.
    pub reasons: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// The cluster as it is.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// The map.
    pub map: &'a ClusterMap,
    /// Groups that hold nothing and are out of use, ascending: with them nothing can be lost.
    pub unused: &'a [PgId],
    /// The disks' last reports, ascending by disk.
    pub reports: &'a [DiskReport],
    /// Disks that are silent and not down yet.
    pub suspects: &'a [DiskId],
    /// Who votes in the metadata.
    pub voters: &'a [Voter],
    /// Extents that lack shards.
    pub lacking: Lacking<'a>,
}

/// Whether a node of the cluster may be stopped.
pub fn ok_to_stop(present: &Present<'_>, node: NodeId) -> StopAnswer {
    let Present { map, .. } = *present;
    let mut reasons = Vec::new();
    let mut notes = Vec::new();
    let gone = |disk: &Disk| disk.node == node || !present.is_there(disk);
    // Nothing gets worse for objects by the end of a node that has none of their shards.
    if map.disks.iter().any(|disk| disk.node == node) {
        reasons.extend(unreadable_groups(present, node));
        let (reason, note) = unreadable_extents(present, node);
        reasons.extend(reason);
        notes.extend(note);
        match writing(map, gone) {
            Writing::Known => {}
            Writing::New(coding) => notes.push(format!(
                "Every placement group would miss too many disks to be written to: writes wait for about {} s, until groups of the other disks are made ({coding}).",
                map.upkeep.down_after().as_secs(),
            )),
            Writing::Nowhere => {
                reasons.push("Nothing could be written: too few disks would be left.".to_owned());
            }
        }
    }
    reasons.extend(majority(present.voters, node));
    let under_way = map.pgs.iter().flat_map(|pg| {
        let ends = |begun: &model::moves::SlotMove| {
            [pg.disks.get(usize::from(begun.slot)).copied(), Some(begun.to)]
        };
        pg.moves.iter().map(ends)
    });
    let of_node = |id: &DiskId| map.disk(*id).is_some_and(|disk| disk.node == node);
    let waiting = under_way.filter(|ends| ends.iter().flatten().any(of_node)).count();
    if waiting > 0 {
        notes.push(format!("{waiting} moves from or to its disks would wait until it is back."));
    }
    let serves = |node: &&model::node::Node| node.registration.roles.contains(Roles::GATEWAY);
    let mut gateways = map.nodes.iter().filter(serves).map(|node| node.id);
    if gateways.next() == Some(node) && gateways.next().is_none() {
        notes.push("It is the only gateway: nobody else serves clients.".to_owned());
    }
    let ok = reasons.is_empty();
    if ok {
        reasons.push(why(present, node));
    }
    StopAnswer { node: node.0, ok, reasons, notes }
}

/// Why a node may be stopped.
fn why(present: &Present<'_>, node: NodeId) -> String {
    let disks = present.map.disks.iter().filter(|disk| disk.node == node).count();
    let votes = present.voters.iter().any(|voter| voter.node == node);
    match (disks, votes) {
        (0, false) => "It keeps neither disks nor a metadata replica that votes.".to_owned(),
        (0, true) => "The metadata keeps its majority without it.".to_owned(),
        (_, false) => "Every object can be read, and objects can be written, without it.".to_owned(),
        (_, true) => {
            "Every object can be read, and objects can be written, without it; the metadata keeps its majority."
                .to_owned()
        }
    }
}

impl Present<'_> {
    /// Whether a disk's shards can be read, for all that is known.
    fn is_there(&self, disk: &Disk) -> bool {
        let report = report_of(self.reports, disk.id);
        is_readable(disk, report) && !self.suspects.contains(&disk.id)
    }

    fn is_readable(&self, id: DiskId, without: Option<NodeId>) -> bool {
        let disk = self.map.disk(id).filter(|disk| without != Some(disk.node));
        disk.is_some_and(|disk| self.is_there(disk))
    }
}

/// The groups that have too few shards without the node.
fn unreadable_groups(present: &Present<'_>, node: NodeId) -> Option<String> {
    let left = |pg: &Pg, without: Option<NodeId>| {
        pg.disks.iter().filter(|disk| present.is_readable(**disk, without)).count()
    };
    let is_short = |pg: &&Pg| left(pg, Some(node)) < usize::from(pg.coding.data());
    let is_used = |pg: &&Pg| present.unused.binary_search(&pg.id).is_err();
    let short: Vec<&Pg> = present.map.pgs.iter().filter(is_used).filter(is_short).collect();
    let first = short.first()?;
    let is_short_now = |pg: &&&Pg| left(pg, None) < usize::from(pg.coding.data());
    if short.iter().all(|pg| is_short_now(&pg)) {
        return Some(format!(
            "{} placement groups can't be read even now; bring back what keeps their shards first.",
            short.len()
        ));
    }
    let (pg, width, needed) = (first.id, first.coding.width(), first.coding.data());
    Some(format!(
        "{} of {} placement groups couldn't be read without it: of group {pg}, {} of {width} shards would be left, and {needed} are needed.",
        short.len(),
        present.map.pgs.len() - present.unused.len(),
        left(first, Some(node)),
    ))
}

/// The extents that wait for repair and have too few shards without the node: why it may not be
/// stopped, and what is so whether or not it is.
fn unreadable_extents(present: &Present<'_>, node: NodeId) -> (Option<String>, Option<String>) {
    let lacking = present.lacking;
    if lacking.unlooked > 0 {
        let reason = format!(
            "{} extents wait for repair, too many to tell what their shards on this node are needed for.",
            lacking.total()
        );
        return (Some(reason), None);
    }
    let Short { newly, anyway } = lacking.short(
        present.map,
        |disk| present.is_readable(disk, None),
        |disk| present.is_readable(disk, Some(node)),
    );
    let reason = (newly > 0).then(|| {
        format!("{newly} extents that wait for repair couldn't be read without it; their repair comes first.")
    });
    let note = (anyway > 0)
        .then(|| format!("{anyway} extents that wait for repair can't be read with it either."));
    (reason, note)
}

/// Where objects would be written.
enum Writing {
    /// To groups that there are.
    Known,
    /// To groups that would be made, of this coding.
    New(model::coding::Coding),
    /// To none.
    Nowhere,
}

/// Where objects could be written when these disks are gone, durable as an acknowledgement has to be
/// (I-1).
fn writing(map: &ClusterMap, gone: impl Fn(&Disk) -> bool) -> Writing {
    let mut then = map.clone();
    let left = |disk: &&mut Disk| disk.state == DiskState::Up && gone(disk);
    then.disks.iter_mut().filter(left).for_each(|disk| disk.state = DiskState::Down);
    let is_up = |id: &&DiskId| then.disk(**id).is_some_and(|disk| disk.state == DiskState::Up);
    let has_quorum = |pg: &Pg| {
        let up = pg.disks.iter().filter(is_up).count();
        up >= usize::from(pg.coding.write_quorum(pg.coding.data()))
    };
    if then.pgs.iter().any(has_quorum) {
        return Writing::Known;
    }
    let parity = map.coding.parity();
    let new = placement::pgs_to_add(&then);
    // Of less parity than was asked for would be less safe than before.
    match new.iter().find(|pg| has_quorum(pg) && pg.coding.parity() >= parity) {
        Some(pg) => Writing::New(pg.coding),
        None => Writing::Nowhere,
    }
}

/// Why the metadata would lose its majority.
fn majority(voters: &[Voter], node: NodeId) -> Option<String> {
    let needed = voters.len() / 2 + 1;
    let left = voters.iter().filter(|voter| voter.is_well && voter.node != node).count();
    let has = voters.iter().any(|voter| voter.node == node);
    let well = voters.iter().filter(|voter| voter.is_well).count();
    if left >= needed || (!has && well >= needed) {
        return None;
    }
    Some(format!(
        "The metadata would have no majority: of {} voters, {left} would be left, and {needed} are needed.",
        voters.len()
    ))
}

#[cfg(test)]
#[path = "stop_tests.rs"]
mod tests;
