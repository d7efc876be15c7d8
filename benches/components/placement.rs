//! Placement of 10,000 disks: the whole table, the plans for one disk, and what may be lost.
//!
//! One operation is a table, or a plan; `slots` tells how many slots it has, `moves` how many it
//! moves, and `ratio` how many for each that has to move.

use anyhow::Context;
use model::cluster_map::{ClusterMap, Disk, DiskState, Standing};
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, NodeId};
use model::placement::tolerance::Tolerance;
use model::placement::{Limits, pgs_to_add, plan_moves, whole_plan};
use serde_json::json;

use crate::meter::{Meter, rounded};

const RACKS: u32 = 20;
const NODES_PER_RACK: u32 = 25;
const DISKS_PER_NODE: u32 = 20;

/// Tables of both codings, on disks of one size and of four.
pub fn measure() -> anyhow::Result<()> {
    for coding in ["4+2", "8+4"] {
        for sizes in [1, 4] {
            measure_one(coding, sizes)?;
        }
    }
    Ok(())
}

fn measure_one(coding: &str, sizes: u32) -> anyhow::Result<()> {
    let disks = RACKS * NODES_PER_RACK * DISKS_PER_NODE;
    let name = |what: &str| format!("placement/{coding}/{sizes} sizes/{what}");
    let mut map = ClusterMap {
        disks: (0..disks).map(|number| disk(number, sizes, DISKS_PER_NODE)).collect(),
        ..ClusterMap::new(ClusterId::default(), Coding::parse(coding)?)
    };
    let meter = Meter::start();
    map.pgs = pgs_to_add(&map);
    let slots: usize = map.pgs.iter().map(|pg| pg.disks.len()).sum();
    meter.print_with(&name("table"), 1, 0, &json!({ "disks": disks, "slots": slots }));

    let meter = Meter::start();
    let moves = plan_moves(&map, &Limits::NONE).len();
    meter.print_with(&name("nothing to do"), 1, 0, &json!({ "moves": moves }));

    let meter = Meter::start();
    let survives = Tolerance::new(&map).to_string();
    meter.print_with(&name("tolerance"), 1, 0, &json!({ "survives": survives }));

    let slots_of = |map: &ClusterMap, lost: &dyn Fn(&Disk) -> bool| {
        let is_lost = |id: &&DiskId| map.disk(**id).is_some_and(lost);
        map.pgs.iter().flat_map(|pg| &pg.disks).filter(is_lost).count()
    };
    let mut lost = map.clone();
    let middle = lost.disks.get_mut(disks as usize / 2).context("a disk")?;
    middle.state = DiskState::Out;
    let least = slots_of(&lost, &|disk| disk.state == DiskState::Out);
    measure_plan(&name("a disk lost"), &lost, least);

    let mut lost = map.clone();
    lost.disks.iter_mut().filter(|disk| disk.node == NodeId(7)).for_each(|disk| {
        disk.state = DiskState::Out;
    });
    let least = slots_of(&lost, &|disk| disk.state == DiskState::Out);
    measure_plan(&name("a node lost"), &lost, least);

    let mut grown = map.clone();
    grown.disks.push(Disk { weight: 1000 * sizes, ..disk(disks, 1, DISKS_PER_NODE) });
    let weights: u64 = grown.disks.iter().map(|disk| u64::from(disk.weight)).sum();
    let least = slots as u64 * u64::from(1000 * sizes) / weights;
    measure_plan(&name("a disk added"), &grown, least as usize);
    Ok(())
}

fn measure_plan(name: &str, map: &ClusterMap, least: usize) {
    let meter = Meter::start();
    plan_moves(map, &Limits::NONE);
    let meter = meter.stopped();
    let moves = whole_plan(map).0.len();
    let ratio = rounded(moves as f64 / least as f64);
    meter.print_with(name, 1, 0, &json!({ "moves": moves, "least": least, "ratio": ratio }));
}

/// A disk of a node that has so many.
pub fn disk(number: u32, sizes: u32, per_node: u32) -> Disk {
    let node = number / per_node;
    let mut uuid = [0; 16];
    uuid[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_le_bytes());
    Disk {
        id: DiskId(number + 1),
        uuid: DiskUuid(uuid),
        node: NodeId(node + 1),
        rack: format!("rack {}", node / NODES_PER_RACK + 1),
        zone: String::new(),
        weight: 1000 * (1 + node % sizes),
        state: DiskState::Up,
        path: String::new(),
        standing: Standing::default(),
    }
}
