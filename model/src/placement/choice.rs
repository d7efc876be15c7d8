//! The coding of a new cluster, chosen from its topology.
//!
//! In: the disks. Out: a coding, and why in words. What always holds: the coding fits the disks, and
//! on one machine it is [`Coding::default_for`] their number.
//!
//! The wide codings are those of the durability model: at 24 hours from failure to full redundancy 8+4
//! keeps fourteen nines, 6+3 eleven, and 4+2 eight. They need nodes of about the same size: one slot on
//! each, so that any `m` of them may fail, and no rack with more than `m` slots.

use std::fmt::Write as _;

use super::table::Placer;
use super::tolerance::Tolerance;
use super::topology::{Level, Places};
use crate::cluster_map::{ClusterMap, Disk};
use crate::coding::Coding;
use crate::ids::ClusterId;

/// Codings for clusters of many nodes, the most durable first, with the nodes they need, and the
/// racks where there are several: with fewer racks the loss of one would lose data or leave nothing
/// to spare.
const WIDE: [(u8, u8, usize, usize); 2] = [(8, 4, 12, 4), (6, 3, 9, 3)];

/// Groups of the table whose tolerance is told.
const SAMPLE: u32 = 256;

/// The coding for a new cluster of these disks, and why; `None` without disks.
pub fn default_coding(disks: &[Disk]) -> Option<(Coding, String)> {
    let places = Places::new(disks);
    let nodes = places.count(Level::Node);
    let racks = places.count(Level::Rack);
    let suits = |(_, _, nodes_least, racks_least): &(u8, u8, usize, usize)| {
        nodes >= *nodes_least && (racks == 1 || racks >= *racks_least)
    };
    let wide = WIDE.into_iter().find(suits);
    let coding = match wide {
        Some((data, parity, ..)) => Coding::new(data, parity).ok()?,
        None => Coding::default_for(disks.len())?,
    };
    let counted = |count: usize, (one, several): (&str, &str)| {
        format!("{count} {}", if count == 1 { one } else { several })
    };
    let on = counted(nodes, Level::Node.words());
    let mut why = format!("{coding} for {} on {on}", counted(disks.len(), ("disk", "disks")));
    if racks > 1 {
        let _ = write!(why, " in {}", counted(racks, Level::Rack.words()));
    }
    if let Some(placer) = Placer::new(disks, coding, Disk::share) {
        let mut map = ClusterMap::new(ClusterId::default(), coding);
        map.disks = disks.to_vec();
        map.pgs = placer.table(0..SAMPLE);
        if disks.len() > 1 {
            let _ = write!(why, ": {}", Tolerance::new(&map));
        }
    }
    let overhead = 100 * u32::from(coding.width()) / u32::from(coding.data());
    let _ = write!(why, "; {overhead} bytes on disk for 100 stored");
    Some((coding, why))
}
