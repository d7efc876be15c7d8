//! Lost and damaged shards come back, and what can't come back stops nothing else.

use std::time::Duration;

use bytes::Bytes;
use engine::{EngineOptions, OwnerSeal};
use model::cluster_map::DiskState;
use model::ids::ShardId;
use wire::clock::{Clock, SystemClock};
use wire::entropy::SeededEntropy;

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body, quick, repairing};

const SIZES: [usize; 7] = [1, 4096, 40_000, 300_001, (4 << 20) + 77, 9 << 20, 12 << 20];

async fn filled(options: EngineOptions) -> (Cluster, Vec<(String, Bytes)>) {
    let cluster = Cluster::with(6, "4+2", options);
    let mut objects = Vec::new();
    for size in SIZES {
        let (name, body) = (format!("object-{size}"), body(size));
        cluster.put(&name, &body).await;
        objects.push((name, body));
    }
    (cluster, objects)
}

/// Queues every slot of every extent that lies on these disks.
fn queue_disks(cluster: &Cluster, disks: &[u32]) {
    let map = cluster.metadata.map();
    for extent in cluster.metadata.extents() {
        for slot in 0..extent.coding.width() {
            if disks.contains(&map.disk_of(extent.id, slot).expect("known").id.0) {
                cluster.metadata.queue_repair(extent.id, 1 << slot);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_wiped_disks_are_filled_again() {
    for lost in [[0, 1], [2, 5], [3, 4]] {
        let (cluster, objects) = filled(repairing()).await;
        let shards = cluster.shards();
        let before: Vec<Vec<(ShardId, Bytes)>> =
            cluster.disks.iter().map(|disk| disk.owners()).collect();
        for disk in lost {
            drop(cluster.disks[disk as usize].wipe());
        }
        queue_disks(&cluster, &lost);
        cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
        assert_eq!(cluster.shards(), shards);
        // The same shards, durable, with the same sealed owner.
        for (disk, before) in cluster.disks.iter().zip(before) {
            assert_eq!(disk.owners(), before);
            assert!(before.iter().all(|(id, _)| disk.is_durable(*id)));
        }
        let (id, owner) = cluster.disks[lost[0] as usize].owner().expect("filled");
        let seal = OwnerSeal::new(&[7; 32], std::sync::Arc::new(SeededEntropy::new(2)));
        assert_eq!(seal.open(id.extent, &owner).expect("ours").bucket, "bucket");
        cluster.check_redundancy(&objects).await;
        let progress = cluster.engine.repair_progress();
        assert!(progress.extents >= objects.len() as u64, "{progress:?}");
        assert!(progress.shards > 0 && progress.bytes > 5 << 20 && progress.failures == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disk_knows_to_be_damaged_is_repaired_without_a_reader() {
    let (cluster, objects) = filled(repairing()).await;
    cluster.disks[1].rot();
    cluster.disks[4].rot();
    let sound = || cluster.disks.iter().all(|disk| disk.damaged() == 0);
    cluster.until("sound disks", sound).await;
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    // What was told once is told again when it rots again.
    cluster.disks[1].rot();
    cluster.until("sound again", sound).await;
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_finds_a_loss_sets_repair_off() {
    let (cluster, objects) = filled(repairing()).await;
    let shards = cluster.shards();
    drop(cluster.disks[0].wipe());
    drop(cluster.disks[3].wipe());
    for (name, body) in &objects {
        cluster.check(name, body).await;
    }
    cluster.until("some are back", || cluster.metadata.queue().is_empty()).await;
    // Readers ask for data shards only; what they didn't miss is for scrub to find.
    queue_disks(&cluster, &[0, 3]);
    cluster.until("all are back", || cluster.shards() == shards).await;
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn intact_shards_count_at_once() {
    let (cluster, _) = filled(repairing()).await;
    let (shards, reads) = (cluster.shards(), cluster.disks.iter().map(|disk| disk.reads()).sum());
    queue_disks(&cluster, &[2]);
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    assert_eq!(cluster.shards(), shards);
    let after: usize = cluster.disks.iter().map(|disk| disk.reads()).sum();
    assert_eq!(after, reads, "nothing had to be rebuilt");
    assert_eq!(cluster.engine.repair_progress().shards, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_for_good_stops_nothing_else() {
    let (cluster, objects) = filled(repairing()).await;
    // Three shards of one extent, and one of every other.
    let extents = cluster.metadata.extents();
    let victim = extents.iter().max_by_key(|extent| extent.length).expect("some").id;
    let lost: usize =
        cluster.disks[..3].iter().map(|disk| disk.lose(|id| id.extent == victim)).sum();
    assert!(lost >= 3, "{lost}");
    drop(cluster.disks[5].wipe());
    queue_disks(&cluster, &[0, 1, 2, 5]);
    let left = || cluster.metadata.queue();
    cluster.until("the others", || left().keys().eq([&victim])).await;
    assert!(!left()[&victim].is_empty());
    for (name, body) in &objects {
        if cluster.open(name, model::query::PlanWanted::Whole).await.extents[0].extent.id != victim
        {
            cluster.check(name, body).await;
        }
    }
    let progress = || cluster.engine.repair_progress();
    cluster.until("it is told", || progress().failures > 0 && progress().waiting == 1).await;
    assert_eq!(progress().lost, 1, "what is lost for good is told as such");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_down_is_waited_for_and_the_others_get_theirs() {
    let (cluster, objects) = filled(repairing()).await;
    let shards = cluster.shards();
    cluster.metadata.set_disk(1, DiskState::Down);
    let wiped = [cluster.disks[1].wipe(), cluster.disks[2].wipe()];
    let held = shards - cluster.shards();
    queue_disks(&cluster, &[1, 2]);
    let map = cluster.metadata.map();
    let only_of_the_first = || {
        cluster.metadata.queue().iter().all(|(extent, slots)| {
            slots.iter().all(|slot| map.disk_of(*extent, slot).expect("known").id.0 == 1)
        })
    };
    cluster.until("the second disk", only_of_the_first).await;
    assert!(!cluster.metadata.queue().is_empty());
    assert_eq!(cluster.disks[1].shards(), 0, "a disk that is down isn't written to");
    drop(wiped);
    cluster.metadata.set_disk(1, DiskState::Up);
    cluster.until("the first disk", || cluster.metadata.queue().is_empty()).await;
    assert_eq!(cluster.shards(), shards, "{held} shards came back");
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_forgets_what_it_took_is_not_believed() {
    let (cluster, _) = filled(repairing()).await;
    drop(cluster.disks[3].wipe());
    cluster.disks[3].set(Fault::Forgets);
    queue_disks(&cluster, &[3]);
    let failures = || cluster.engine.repair_progress().failures;
    cluster.until("attempts", || failures() >= SIZES.len() as u64 - 2).await;
    assert!(!cluster.metadata.queue().is_empty());
    for slots in cluster.metadata.queue().values() {
        assert_eq!(slots.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_goes_away_half_way_costs_nothing_but_time() {
    let (cluster, objects) = filled(repairing()).await;
    let shards = cluster.shards();
    drop(cluster.disks[0].wipe());
    let lost = (shards - cluster.shards()) as u64;
    cluster.metadata.go_down_at_repaired();
    queue_disks(&cluster, &[0]);
    let rebuilt = || cluster.engine.repair_progress().shards;
    cluster.until("the shards", || cluster.shards() == shards && rebuilt() == lost).await;
    assert!(!cluster.metadata.queue().is_empty());
    cluster.metadata.come_back();
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    assert_eq!(rebuilt(), lost, "nothing is rebuilt twice");
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_coding_and_copies_are_repaired_too() {
    for (disks, coding) in [(2, "1+1"), (3, "1+2"), (4, "2+2"), (3, "2+1")] {
        let cluster = Cluster::with(disks, coding, repairing());
        for size in [1, 5000, 100_000, 5 << 20] {
            cluster.put(&format!("{size}"), &body(size)).await;
        }
        let before: Vec<_> = cluster.disks.iter().map(|disk| disk.owners()).collect();
        for lost in 0..disks {
            drop(cluster.disks[lost as usize].wipe());
            queue_disks(&cluster, &[lost]);
            cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
        }
        let after: Vec<_> = cluster.disks.iter().map(|disk| disk.owners()).collect();
        assert!(before == after, "{coding}");
        for size in [1, 5000, 100_000, 5 << 20] {
            cluster.check(&format!("{size}"), &body(size)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_kept_and_the_endangered_do_not_wait_for_it() {
    // No client is there: four times as much.
    let slow = EngineOptions { repair_bytes_per_second: 1 << 20, ..repairing() };
    // One shard of each extent is left to spare: 12 MiB at 5 bytes moved for 4 take 3 s or more.
    let cluster = Cluster::with(6, "4+2", slow.clone());
    cluster.put("object", &body(12 << 20)).await;
    let clock = SystemClock::new();
    let begun = clock.monotonic();
    drop(cluster.disks[0].wipe());
    queue_disks(&cluster, &[0]);
    cluster.until("repaired", || cluster.metadata.queue().is_empty()).await;
    let spent = clock.monotonic().saturating_sub(begun);
    assert!(spent > Duration::from_millis(2500), "{spent:?}");
    // Nothing to spare: a minute at that rate.
    let cluster =
        Cluster::with(6, "4+2", EngineOptions { repair_bytes_per_second: 1 << 16, ..slow });
    cluster.put("object", &body(12 << 20)).await;
    let begun = clock.monotonic();
    drop(cluster.disks[0].wipe());
    drop(cluster.disks[1].wipe());
    queue_disks(&cluster, &[0, 1]);
    cluster.until("repaired", || cluster.metadata.queue().is_empty()).await;
    let spent = clock.monotonic().saturating_sub(begun);
    assert!(spent < Duration::from_secs(8), "{spent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_to_repair_does_not() {
    let (cluster, _) = filled(quick()).await;
    drop(cluster.disks[0].wipe());
    queue_disks(&cluster, &[0]);
    let queued = cluster.metadata.queue();
    // The collector works at the interval that repair has where it is wanted.
    let rounds = || cluster.metadata.asked().garbage;
    let begun = rounds();
    cluster.until("background work", || rounds() > begun + 15).await;
    assert_eq!(cluster.metadata.queue(), queued);
    assert_eq!(cluster.disks[0].shards(), 0);
}
