//! Looks after the slow disks: judges them every so often, waits for reads that were outrun, and
//! writes a *canary* to those that are slow at writes.
//!
//! A canary is one small shard, appended and synced, and deleted at once, as if a client had given
//! up: a slow disk gets no new extents, so nothing else would tell that it is well again. Its extent
//! is never proposed for commit. If this process ends in between, it is an orphan like any other.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::checksum::block_checksums;
use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::coding::StripeGeometry;
use model::ids::{DiskId, ShardId};
use model::limits::SHORT_SHARD_BYTES;
use model::owner::Owner;
use model::shard::{ShardAppend, ShardRequest};
use tokio::sync::watch;
use wire::clock::timeout;

use super::{OUTRUN_MAX, SlowKind};
use crate::discard::Discard;
use crate::shared::Shared;

/// How often the disks are judged when nothing slow happens.
const JUDGE_INTERVAL: Duration = Duration::from_secs(1);

/// Between two canaries: with the six good ones that it takes, a disk is back within 20 seconds.
const CANARY_INTERVAL: Duration = Duration::from_secs(3);

/// A canary that takes longer is given up, and counts as that slow.
const CANARY_DEADLINE: Duration = Duration::from_secs(5);

/// Slow disks that get a canary at once.
const CANARIES_MAX: usize = 64;

/// Bytes of a canary's shard: a small write like any other. A stripe of as many for each data shard
/// has a shard in every slot.
const CANARY_BYTES: u32 = SHORT_SHARD_BYTES;

/// Watches until told to stop.
pub(crate) async fn watch(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let work = async {
        futures_util::future::join3(judge(&shared), sing(&shared), finish_outrun(&shared)).await
    };
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => {}
        _ = work => {}
    }
}

async fn judge(shared: &Shared) {
    loop {
        shared.clock.sleep(JUDGE_INTERVAL).await;
        if let Some(map) = shared.map.current() {
            shared.door.slowness.judge(&map, shared.clock.monotonic());
        }
    }
}

/// Waits for reads that nobody waits for: they record what they took by themselves.
async fn finish_outrun(shared: &Shared) {
    let slowness = &shared.door.slowness;
    let taken = slowness.outrun_receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut outrun) = taken else { return };
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            read = outrun.recv(), if under_way.len() < OUTRUN_MAX => match read {
                Some(read) => under_way.push(read),
                None => return,
            },
            Some(_) = under_way.next() => {}
        }
    }
}

/// Sends canaries.
async fn sing(shared: &Shared) {
    loop {
        shared.clock.sleep(CANARY_INTERVAL).await;
        let Some(map) = shared.map.current() else { continue };
        let slow = {
            let marks = &shared.door.slowness.marks;
            marks.read().unwrap_or_else(PoisonError::into_inner).of(SlowKind::Writes).to_vec()
        };
        let canaries = slow.into_iter().take(CANARIES_MAX).map(|disk| send(shared, &map, disk));
        futures_util::future::join_all(canaries).await;
    }
}

/// A group that a disk is in, with its slot, and a stripe that has a shard there.
fn place(map: &ClusterMap, disk: DiskId) -> Option<(&Pg, u8, StripeGeometry)> {
    map.pgs.iter().find_map(|pg| {
        let slot = u8::try_from(pg.disks.iter().position(|known| *known == disk)?).ok()?;
        let bytes = CANARY_BYTES.checked_mul(u32::from(pg.coding.data()))?;
        Some((pg, slot, StripeGeometry::new(pg.coding, bytes)?))
    })
}

async fn send(shared: &Shared, map: &ClusterMap, disk: DiskId) {
    if map.disk(disk).is_none_or(|disk| disk.state != DiskState::Up) {
        return;
    }
    let Some((pg, slot, geometry)) = place(map, disk) else { return };
    let Ok(extent) = shared.metadata.next_extent(pg.id).await else { return };
    let owner = Owner { started: shared.clock.now(), ..Owner::default() };
    let Ok(owner) = shared.seal.seal(extent, &owner) else { return };
    let id = ShardId { extent, stripe: 0, slot };
    let payload = Bytes::from(vec![0; geometry.stored_bytes(slot) as usize]);
    let shard = ShardAppend {
        id,
        coding: pg.coding,
        stripe_bytes: geometry.bytes(),
        checksums: block_checksums(id, &payload).into(),
        payload,
        owner,
    };
    let request = ShardRequest::Append { disk, shards: vec![shard], sync: true };
    let call = shared.door.call(disk, request, CANARY_DEADLINE * 2);
    let is_late = !matches!(timeout(&*shared.clock, CANARY_DEADLINE, call).await, Ok(Ok(_)));
    metrics::counter!("drystone_canaries_total").increment(1);
    let extents = vec![(extent, Arc::from([disk]))];
    shared.discards.push(Discard { extents, settled: None, again: is_late });
}

#[cfg(test)]
mod tests {
    use model::cluster_map::DiskState::Up;
    use model::coding::Coding;
    use model::ids::PgId;

    use super::*;

    #[test]
    fn every_slot_of_any_coding_has_a_canary() {
        for coding in ["1+0", "2+1", "4+2", "8+4", "16+4"] {
            let coding = Coding::parse(coding).expect("valid");
            let disks: Vec<DiskId> = (1..=u32::from(coding.width())).map(DiskId).collect();
            let mut map = crate::three_disks::in_order([Up; 3]);
            map.pgs = vec![Pg::new(PgId(7), coding, disks.clone())];
            for (slot, disk) in (0..).zip(disks) {
                let (pg, found, geometry) = place(&map, disk).expect("a place");
                assert_eq!((pg.id, found), (PgId(7), slot));
                assert!(geometry.slots().any(|known| known == slot), "{coding} {slot}");
                assert_eq!(geometry.stored_bytes(slot), CANARY_BYTES);
            }
            assert!(place(&map, DiskId(99)).is_none());
        }
    }
}
