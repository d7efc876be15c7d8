//! How long a lost disk takes to be rebuilt as disks grow in number: what each disk has to read and
//! to write, by the real placement.
//!
//! A slot of a lost disk is read from `k` disks of its group and written to one. All disks work at once,
//! each at its own speed, so the busiest decides. One operation is the loss of a disk; `busiest` is what
//! the busiest disk reads and writes, in parts of what a disk holds; `hours` is its time for disks of
//! 10 TB that give 100 MB/s to it; `times disks` is that times the number of disks, which stays the same
//! where the time is the inverse of their number.

use anyhow::Context;
use model::cluster_map::{ClusterMap, DiskState};
use model::coding::Coding;
use model::ids::{ClusterId, DiskId};
use model::placement::{Limits, pgs_to_add, plan_moves};
use serde_json::json;
use std::collections::BTreeMap;

use crate::meter::{Meter, rounded};
use crate::placement::disk;

const DISK_BYTES: f64 = 10e12;
const BYTES_PER_SECOND: f64 = 100e6;

/// Three codings, and clusters of 12 to 1,000 disks.
pub fn measure() -> anyhow::Result<()> {
    for coding in ["4+2", "8+4", "2+1"] {
        for disks in [12, 24, 48, 100, 200, 500, 1000] {
            measure_one(coding, disks)?;
        }
    }
    Ok(())
}

fn measure_one(coding: &str, disks: u32) -> anyhow::Result<()> {
    let coding_of = Coding::parse(coding)?;
    let k = usize::from(coding_of.data());
    let mut map = ClusterMap {
        // A disk in a node of its own, so that nodes don't decide.
        disks: (0..disks).map(|number| disk(number, 1, 1)).collect(),
        ..ClusterMap::new(ClusterId::default(), coding_of)
    };
    map.pgs = pgs_to_add(&map);
    let slots: usize = map.pgs.iter().map(|pg| pg.disks.len()).sum();
    let of_a_disk = slots as f64 / f64::from(disks);
    map.disks.get_mut(disks as usize / 2).context("a disk")?.state = DiskState::Out;
    let meter = Meter::start();
    let moves = plan_moves(&map, &Limits::NONE);
    let mut load: BTreeMap<DiskId, u32> = BTreeMap::new();
    for one in &moves {
        *load.entry(one.to).or_default() += 1;
        let group = map.pg(one.pg).context("a group")?;
        let others = group.disks.iter().filter(|disk| **disk != one.from);
        // Any k of them will do; readers begin at a slot that differs from stripe to stripe.
        let others: Vec<DiskId> = others.copied().collect();
        for turn in 0..k {
            let from = (one.pg.0 as usize + turn) % others.len();
            *load.entry(others[from]).or_default() += 1;
        }
    }
    let busiest = f64::from(load.values().copied().max().unwrap_or_default()) / of_a_disk;
    let hours = busiest * DISK_BYTES / BYTES_PER_SECOND / 3600.0;
    let told = json!({
        "slots": moves.len(),
        "busiest": rounded(busiest),
        "hours": rounded(hours),
        "times disks": rounded(busiest * f64::from(disks)),
    });
    meter.print_with(&format!("redundancy/{coding}/{disks} disks"), 1, 0, &told);
    Ok(())
}
