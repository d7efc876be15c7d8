//! How the first release gave groups their disks.
//!
//! Clusters that still have nodes of that release go by it (`ClusterMap::level_in_use`), since all replicas
//! must decide alike (I-10). It may go with the last release that can be upgraded from it.
//!
//! Weighted rendezvous hashing in the form of straw2 (Weil et al., CRUSH, SC 2006): each candidate draws
//! `log(u) / weight` from a hash of (PG, disk), and the greatest draw wins. The logarithm is computed in
//! integers: every replica must get the same answer.

use std::cmp::Reverse;

use twox_hash::XxHash3_64;

use super::best_coding;
use crate::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use crate::ids::{DiskId, PgId};

/// PG slots that each disk should get (design §7).
const SLOTS_PER_DISK: usize = 100;

/// PGs made when failures leave no open PG of the wanted coding: they take writes until the disks
/// are back or replaced, so a few are enough to spread load over all orders of slots.
const STOPGAP_PGS: usize = 16;

/// Chooses the disks of a PG, one per slot, among `candidates`; `None` when there are fewer than
/// `width`.
///
/// Each slot goes to the zone, in it the rack, in it the node with the fewest slots of this PG so
/// far, and there to the disk with the greatest straw. So domains share the shards evenly, and no
/// domain gets more than `m` where the topology allows it.
fn place(pg: PgId, width: u8, candidates: &[&Disk]) -> Option<Vec<DiskId>> {
    let mut chosen: Vec<&Disk> = Vec::with_capacity(usize::from(width));
    for _ in 0..width {
        let next = candidates
            .iter()
            .filter(|disk| !chosen.iter().any(|taken| taken.id == disk.id))
            .max_by_key(|disk| {
                let shared = |same: &dyn Fn(&Disk) -> bool| {
                    chosen.iter().filter(|taken| same(taken)).count()
                };
                let zone = shared(&|taken| taken.zone == disk.zone);
                let rack = shared(&|taken| taken.zone == disk.zone && taken.rack == disk.rack);
                let node = shared(&|taken| taken.node == disk.node);
                (Reverse((zone, rack, node)), straw(pg, disk), Reverse(disk.id))
            })?;
        chosen.push(next);
    }
    Some(chosen.iter().map(|disk| disk.id).collect())
}

/// The PGs to add so that writes can go on with the best coding that the disks which are up allow;
/// empty when there are enough already.
///
/// With all disks up that is the cluster's coding. With too few, data shards are given up first
/// (which costs space) and parity last (which would cost safety).
pub(super) fn pgs_to_add(map: &ClusterMap) -> Vec<Pg> {
    let up: Vec<&Disk> = map.disks.iter().filter(|disk| disk.state == DiskState::Up).collect();
    let Some(coding) = best_coding(map.coding, up.len()) else {
        return Vec::new();
    };
    let open = map.pgs.iter().filter(|pg| pg.coding == coding && map.is_open(pg)).count();
    let wanted = if coding == map.coding {
        (up.len() * SLOTS_PER_DISK).div_ceil(usize::from(coding.width()))
    } else {
        STOPGAP_PGS
    };
    // Some PGs of a cluster are always closed by one failure or other; only a real lack counts.
    if open >= wanted.div_ceil(2) {
        return Vec::new();
    }
    let first = map.pgs.len() as u32;
    (first..)
        .take(wanted - open)
        .filter_map(|number| {
            let id = PgId(number);
            Some(Pg::new(id, coding, place(id, coding.width(), &up)?))
        })
        .collect()
}

/// The straw of a disk for a PG: larger is better.
fn straw(pg: PgId, disk: &Disk) -> i64 {
    let mut identity = [0u8; 20];
    identity[..4].copy_from_slice(&pg.0.to_le_bytes());
    identity[4..].copy_from_slice(&disk.uuid.0);
    let hash = XxHash3_64::oneshot(&identity);
    // u in (0, 1] as a 32-bit fraction, its log2 in 32.32 fixed point, all negative or 0.
    let log2 = log2_fixed((hash >> 32) as u32) - (32i64 << 32);
    log2 / i64::from(disk.weight.max(1))
}

/// log2 of `value + 1` in 32.32 fixed point, by repeated squaring.
fn log2_fixed(value: u32) -> i64 {
    let value = u64::from(value) + 1;
    let whole = value.ilog2();
    // The mantissa in [1, 2) as 1.32.
    let mut mantissa = (u128::from(value) << 32 >> whole) as u64;
    let mut fraction = 0i64;
    for bit in (0..32).rev() {
        let squared = (u128::from(mantissa) * u128::from(mantissa)) >> 32;
        mantissa = squared as u64;
        if squared >= 2 << 32 {
            fraction |= 1 << bit;
            mantissa = (squared >> 1) as u64;
        }
    }
    (i64::from(whole) << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_map::Standing;
    use crate::coding::Coding;
    use crate::ids::{ClusterId, DiskUuid, NodeId};

    #[test]
    fn the_table_is_pinned() {
        let disk = |id: u32| Disk {
            id: DiskId(id),
            uuid: DiskUuid([id as u8; 16]),
            node: NodeId(id.div_ceil(2)),
            rack: String::new(),
            zone: String::new(),
            weight: 100 * id,
            state: DiskState::Up,
            path: String::new(),
            standing: Standing::default(),
        };
        let coding = Coding::parse("2+1").expect("valid");
        let map = ClusterMap {
            disks: (1..=6).map(disk).collect(),
            ..ClusterMap::new(ClusterId::default(), coding)
        };
        let pgs = pgs_to_add(&map);
        assert_eq!(pgs.len(), 200);
        let mut hash = 0u64;
        for disk in pgs.iter().flat_map(|pg| &pg.disks) {
            hash = hash.wrapping_mul(31).wrapping_add(u64::from(disk.0));
        }
        assert_eq!(hash, 536_545_293_782_663_855);
    }
}
