//! Placement: a pure function from (topology with weights, PG number, slot) to disk.
//!
//! Weighted rendezvous hashing in the form of straw2 (Weil et al., CRUSH, SC 2006; straw2 as in
//! Ceph's `crush/mapper.c`): each candidate draws `log(u) / weight` from a hash of (PG, disk),
//! and the greatest draw wins, so that a change of one disk's weight moves data only to or from
//! that disk. The logarithm is computed in integers: every replica must get the same answer.

use std::cmp::Reverse;

use twox_hash::XxHash3_64;

use crate::cluster_map::{ClusterMap, Disk, DiskState, Pg};
use crate::coding::Coding;
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
pub fn place(pg: PgId, width: u8, candidates: &[&Disk]) -> Option<Vec<DiskId>> {
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
pub fn pgs_to_add(map: &ClusterMap) -> Vec<Pg> {
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
            Some(Pg { id, coding, disks: place(id, coding.width(), &up)? })
        })
        .collect()
}

/// The coding for new extents when `up` disks are up: `wanted` if they are enough, else fewer data
/// shards with the same parity, else one data shard with what parity is left.
pub fn best_coding(wanted: Coding, up: usize) -> Option<Coding> {
    let up = u8::try_from(up).unwrap_or(u8::MAX);
    let parity = wanted.parity().min(up.checked_sub(1)?);
    let data = wanted.data().min(up - parity);
    Coding::new(data, parity).ok()
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
    use crate::ids::{ClusterId, DiskUuid, NodeId};

    fn disk(id: u32, node: u32, weight: u32) -> Disk {
        let mut uuid = [0u8; 16];
        uuid[..4].copy_from_slice(&(id.wrapping_mul(0x9e37_79b9)).to_le_bytes());
        Disk {
            id: DiskId(id),
            uuid: DiskUuid(uuid),
            node: NodeId(node),
            rack: String::new(),
            zone: String::new(),
            weight,
            state: DiskState::Up,
            path: String::new(),
        }
    }

    fn map(disks: Vec<Disk>, coding: &str) -> ClusterMap {
        let coding = Coding::parse(coding).expect("valid");
        ClusterMap { disks, ..ClusterMap::new(ClusterId::default(), coding) }
    }

    #[test]
    fn log2_is_right_at_known_points() {
        let as_float = |value: u32| log2_fixed(value) as f64 / f64::from(1u32 << 16) / 65_536.0;
        for value in [0u32, 1, 2, 9, 1000, u32::MAX] {
            let expected = (f64::from(value) + 1.0).log2();
            assert!((as_float(value) - expected).abs() < 1e-6, "{value}");
        }
    }

    #[test]
    fn six_disks_get_a_hundred_pgs_over_all_of_them() {
        let mut map = map((1..=6).map(|id| disk(id, 1, 10)).collect(), "4+2");
        let pgs = pgs_to_add(&map);
        assert_eq!(pgs.len(), 100);
        for pg in &pgs {
            let mut disks = pg.disks.clone();
            disks.sort_unstable();
            disks.dedup();
            assert_eq!(disks.len(), 6);
        }
        map.pgs = pgs;
        assert!(pgs_to_add(&map).is_empty());
    }

    #[test]
    fn lost_disks_narrow_the_data_and_keep_the_parity() {
        let mut map = map((1..=6).map(|id| disk(id, 1, 10)).collect(), "4+2");
        map.pgs = pgs_to_add(&map);
        for (lost, expected) in [(1, "3+2"), (2, "2+2"), (3, "1+2"), (4, "1+1"), (5, "1+0")] {
            map.disks[lost - 1].state = DiskState::Down;
            let more = pgs_to_add(&map);
            map.pgs.extend(more);
            let open = map.open_pgs(&[]);
            assert_eq!(open.len(), STOPGAP_PGS);
            assert!(open.iter().all(|pg| pg.coding.to_string() == expected), "{lost}");
        }
        for disk in &mut map.disks {
            disk.state = DiskState::Up;
        }
        assert!(pgs_to_add(&map).is_empty());
        assert!(map.open_pgs(&[]).iter().all(|pg| pg.coding == map.coding));
    }

    #[test]
    fn nodes_share_the_shards_evenly() {
        let disks: Vec<Disk> = (0..9).map(|id| disk(id + 1, id / 3, 10)).collect();
        let candidates: Vec<&Disk> = disks.iter().collect();
        for pg in 0..200 {
            let chosen = place(PgId(pg), 6, &candidates).expect("enough disks");
            for node in 0..3 {
                let count = chosen
                    .iter()
                    .filter(|id| disks[id.0 as usize - 1].node == NodeId(node))
                    .count();
                assert_eq!(count, 2);
            }
        }
    }

    #[test]
    fn weight_decides_the_share() {
        let disks: Vec<Disk> =
            (1..=20).map(|id| disk(id, id, if id <= 10 { 10 } else { 20 })).collect();
        let candidates: Vec<&Disk> = disks.iter().collect();
        let mut first = 0;
        for pg in 0..3000 {
            let chosen = place(PgId(pg), 1, &candidates).expect("enough disks");
            first += usize::from(chosen[0].0 <= 10);
        }
        assert!((850..1150).contains(&first), "{first}");
    }
}
