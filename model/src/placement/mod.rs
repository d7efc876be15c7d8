//! Placement: which disk has which slot of which group.
//!
//! The cluster map has the whole table. A new group is given its disks once ([`pgs_to_add`]); when the
//! topology changes, a planner compares the table with what the disks should hold and says which slots
//! are to move ([`plan_moves`]). In: the map. Out: groups, moves, and what may be lost without losing
//! data ([`tolerance`]). Pure, and in integers: every replica gets the same.
//!
//! What always holds: of a group a disk has at most one slot; a node, a rack and a zone have at most
//! `m`, or where the topology doesn't allow that, the fewest that it allows.
//!
//! The descent through the topology with draws by hash and weight is that of CRUSH (Weil et al., SC
//! 2006). What CRUSH leaves to chance, how many slots a disk gets, is dealt out here: the draws are
//! without replacement from quotas. What its straw2 buckets are for, that a change moves little, is
//! the planner's: it starts from what is.

mod choice;
mod groups;
mod level_one;
mod plan;
mod table;
mod targets;
#[cfg(test)]
mod tests;
pub mod tolerance;
mod topology;

pub use choice::default_coding;
pub use plan::{Limits, plan_moves, whole_plan};
pub use table::Placer;
pub use topology::Level;

pub use crate::moves::{Move, MoveReason};

use crate::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use crate::coding::Coding;
use crate::level::MOVING;
use crate::rebuild::PGS_MAX;

/// PG slots that each disk should get (design §7).
const SLOTS_PER_DISK: usize = 100;

/// PG slots for each disk that is up when failures leave too few open PGs: they take writes until
/// the disks are back or replaced, so a few are enough to spread load over all orders of slots.
const STOPGAP_SLOTS_PER_DISK: usize = 16;

/// The PGs to add, so that all disks have enough slots of each storage class' coding, and so that
/// writes can go on with the best coding that the disks which are up allow; empty when there are
/// enough.
///
/// A cluster gets more PGs when it has less than half of those it should have, about as many again.
/// While disks are down, PGs of the others are added when hardly any is open: with all disks of the
/// coding where they suffice. With too few, data shards are given up first (which costs space) and
/// parity last (which would cost safety).
pub fn pgs_to_add(map: &ClusterMap) -> Vec<Pg> {
    if map.level_in_use() < MOVING {
        return level_one::pgs_to_add(map);
    }
    let mut added = Vec::new();
    for coding in map.codings() {
        add_of_coding(map, coding, &mut added);
    }
    added
}

/// Adds the PGs for one of the codings that are written.
fn add_of_coding(map: &ClusterMap, wanted_coding: Coding, added: &mut Vec<Pg>) {
    let holding = map.disks.iter().filter(|disk| disk.share() > 0).count();
    if holding >= usize::from(wanted_coding.width()) {
        let of_coding =
            map.pgs.iter().chain(&*added).filter(|pg| pg.coding == wanted_coding).count();
        let wanted = (holding * SLOTS_PER_DISK).div_ceil(usize::from(wanted_coding.width()));
        add(map, added, wanted_coding, of_coding, wanted, Disk::share);
    }
    let share_if_up = |disk: &Disk| if disk.state == DiskState::Up { disk.share() } else { 0 };
    let up = map.disks.iter().filter(|disk| share_if_up(disk) > 0).count();
    // What has no parity is acknowledged and not safe (I-1): rather nothing is written.
    let is_safe = |coding: &Coding| coding.parity() > 0 || wanted_coding.parity() == 0;
    if let Some(coding) = best_coding(wanted_coding, up).filter(is_safe) {
        let is_open = |pg: &&Pg| pg.coding == coding && map.is_open(pg);
        let open = map.pgs.iter().chain(&*added).filter(is_open).count();
        let wanted = (up * STOPGAP_SLOTS_PER_DISK).div_ceil(usize::from(coding.width()));
        add(map, added, coding, open, wanted, share_if_up);
    }
}

/// Adds what is missing of `wanted` PGs where there are `known` ones, if that is more than half.
fn add(
    map: &ClusterMap,
    added: &mut Vec<Pg>,
    coding: Coding,
    known: usize,
    wanted: usize,
    share: impl Fn(&Disk) -> u32,
) {
    // Some PGs of a cluster are always closed by one failure or other; only a real lack counts.
    if known >= wanted.div_ceil(2) {
        return;
    }
    let first = (map.pgs.len() + added.len()) as u32;
    let end = first.saturating_add((wanted - known) as u32).min(PGS_MAX);
    if let (Some(placer), true) = (Placer::new(&map.disks, coding, share), first < end) {
        added.extend(placer.table(first..end));
    }
}

/// The coding for new extents when `up` disks are up: `wanted` if they are enough, else fewer data
/// shards with the same parity, else one data shard with what parity is left.
pub fn best_coding(wanted: Coding, up: usize) -> Option<Coding> {
    let up = u8::try_from(up).unwrap_or(u8::MAX);
    let parity = wanted.parity().min(up.checked_sub(1)?);
    let data = wanted.data().min(up - parity);
    Coding::new(data, parity).ok()
}
