//! How full the disks are, as their storage nodes last said: the emptier of two PGs takes an
//! extent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use model::cluster_map::Pg;
use model::ids::DiskId;
use model::shard::{ShardRequest, ShardResponse};
use tokio::sync::watch;
use wire::network::Peer;

use crate::shared::Shared;

/// The last reports.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Thousandths of each disk that are taken.
    taken: RwLock<BTreeMap<DiskId, u64>>,
}

impl Usage {
    /// How full the fullest disk of a PG is, in thousandths; 0 while nothing is known.
    pub(crate) fn of(&self, pg: &Pg) -> u64 {
        let taken = self.taken.read().unwrap_or_else(PoisonError::into_inner);
        pg.disks.iter().filter_map(|disk| taken.get(disk).copied()).max().unwrap_or(0)
    }
}

/// Asks the nodes every so often, until told to stop. Apart from the map's own keeper, since a node
/// that hangs takes its time.
pub(crate) async fn keep(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        let work = async {
            // The first is asked for at the start; without it there is nobody to ask.
            if shared.map.current().is_none() {
                let mut maps = shared.map.follow();
                let _appeared = maps.wait_for(Option::is_some).await.is_ok();
            }
            ask_nodes(&shared).await;
            shared.clock.sleep(shared.options.usage_interval).await;
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = work => {}
        }
    }
}

/// Asks every node for a report on its disks. Nodes that don't answer keep their last one.
async fn ask_nodes(shared: &Shared) {
    let Some(map) = shared.map.current() else { return };
    let nodes: BTreeSet<_> = map.disks.iter().map(|disk| disk.node).collect();
    let mut calls = Vec::with_capacity(nodes.len());
    for node in nodes {
        let (peer, deadline) = (Peer(u64::from(node.0)), shared.options.read_deadline);
        calls.push(shared.door.network().call(peer, ShardRequest::Status, deadline));
    }
    for answer in futures_util::future::join_all(calls).await {
        let Ok(ShardResponse::Status(reports)) = answer else { continue };
        let mut taken = shared.usage.taken.write().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            let free = report.free_bytes.min(report.capacity_bytes);
            let used = u128::from(report.capacity_bytes - free) * 1000;
            let share = used / u128::from(report.capacity_bytes.max(1));
            taken.insert(report.disk, share as u64);
        }
    }
}
