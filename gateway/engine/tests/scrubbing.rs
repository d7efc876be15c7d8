//! Scrub on demand finds what is damaged and missing, tells it, and repair makes it good.

use bytes::Bytes;
use engine::{ScrubError, ScrubFigures, ScrubMeter, ScrubRequest, ScrubScope};
use model::cluster_map::DiskState;
use model::command::Refusal;
use model::ids::{DiskId, PgId};
use tokio::sync::watch;

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body, bucket, key, quick, repairing};

const SIZES: [usize; 5] = [0, 1, 40_000, 300_001, 9 << 20];

async fn filled(options: engine::EngineOptions) -> (Cluster, Vec<(String, Bytes)>) {
    let cluster = Cluster::with(6, "4+2", options);
    let mut objects = Vec::new();
    for size in SIZES {
        let (name, body) = (format!("object-{size}"), body(size));
        cluster.put(&name, &body).await;
        objects.push((name, body));
    }
    (cluster, objects)
}

async fn scrub(cluster: &Cluster, scope: ScrubScope) -> Result<ScrubFigures, ScrubError> {
    let meter = ScrubMeter::default();
    let (_stop, stopping) = watch::channel(false);
    let request = ScrubRequest { scope, bytes_per_second: 0 };
    cluster.engine.scrub(&request, &meter, stopping).await?;
    Ok(meter.figures())
}

fn object(name: &str) -> ScrubScope {
    ScrubScope::Object(bucket(), key(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_cluster_is_found_sound_in_every_scope() {
    let (cluster, _) = filled(quick()).await;
    let shards = cluster.shards() as u64;
    let all = scrub(&cluster, ScrubScope::All).await.expect("done");
    let groups = cluster.metadata.map().pgs.len() as u64;
    let expected = ScrubFigures { done: groups, total: groups, sound: shards, ..all };
    assert_eq!((all.damaged, all.missing, all.unreached, all.queued), (0, 0, 0, 0));
    assert_eq!(all, expected);
    let of_bucket = scrub(&cluster, ScrubScope::Bucket(bucket())).await.expect("done");
    assert_eq!((of_bucket.sound, of_bucket.done, of_bucket.total), (shards, 5, 5));
    let mut by_group = 0;
    for pg in 0..groups {
        let figures = scrub(&cluster, ScrubScope::Pg(PgId(pg as u32))).await.expect("done");
        assert_eq!(figures.done, figures.total);
        by_group += figures.sound;
    }
    let (mut by_object, mut by_disk) = (0, 0);
    for size in SIZES {
        let figures = scrub(&cluster, object(&format!("object-{size}"))).await.expect("done");
        assert_eq!(figures.done, figures.total);
        by_object += figures.sound;
    }
    for disk in 0..6 {
        let figures = scrub(&cluster, ScrubScope::Disk(DiskId(disk))).await.expect("done");
        assert_eq!((figures.done, figures.total), (300, 300));
        by_disk += figures.sound;
    }
    assert_eq!((by_group, by_object, by_disk), (shards, shards, shards));
    assert!(cluster.metadata.repairs().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_and_loss_are_counted_queued_and_made_good() {
    let (cluster, objects) = filled(repairing()).await;
    let (shards, rotten) = (cluster.shards() as u64, cluster.disks[1].shards() as u64);
    let lost = cluster.disks[4].wipe();
    let lost_shards = shards - cluster.shards() as u64;
    cluster.disks[1].rot();
    drop(lost);
    let found = scrub(&cluster, ScrubScope::All).await.expect("done");
    // Repair may have been quicker with what the disk itself told.
    assert_eq!(found.sound + found.damaged + found.missing, shards, "{found:?}");
    assert!(found.damaged <= rotten && found.missing <= lost_shards && found.missing > 0);
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    cluster.until("all of it", || cluster.disks.iter().all(|disk| disk.damaged() == 0)).await;
    cluster.until("an empty queue", || cluster.metadata.queue().is_empty()).await;
    let again = scrub(&cluster, ScrubScope::All).await.expect("done");
    assert_eq!((again.sound, again.damaged, again.missing), (shards, 0, 0));
    cluster.check_redundancy(&objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scope_finds_its_own_and_queues_it() {
    let (cluster, _) = filled(quick()).await;
    let map = cluster.metadata.map();
    cluster.disks[2].rot();
    let rotten = cluster.disks[2].shards() as u64;
    let figures = scrub(&cluster, ScrubScope::Disk(DiskId(2))).await.expect("done");
    assert_eq!((figures.sound, figures.damaged, figures.missing), (0, rotten, 0));
    let on_disk: Vec<_> = cluster.disks[2].owners().into_iter().map(|(id, _)| id).collect();
    for id in &on_disk {
        assert!(cluster.metadata.queue()[&id.extent].contains(id.slot));
    }
    assert_eq!(figures.queued, cluster.metadata.queue().len() as u64);
    // A disk that lost everything doesn't know it, but its inventory tells.
    let (cluster, _) = filled(quick()).await;
    let held = cluster.disks[3].shards() as u64;
    drop(cluster.disks[3].wipe());
    let figures = scrub(&cluster, ScrubScope::Disk(DiskId(3))).await.expect("done");
    assert_eq!((figures.sound, figures.damaged, figures.missing), (0, 0, held));
    let queue = cluster.metadata.queue();
    assert!(queue.iter().all(|(extent, slots)| {
        slots.iter().all(|slot| map.disk_of(*extent, slot).expect("known").id == DiskId(3))
    }));
    // One object.
    let (cluster, _) = filled(quick()).await;
    drop(cluster.disks[0].wipe());
    let figures = scrub(&cluster, object("object-9437184")).await.expect("done");
    let extent = cluster.open("object-9437184", model::query::PlanWanted::Whole).await.extents;
    let id = extent[0].extent.id;
    assert_eq!(cluster.metadata.queue().into_keys().collect::<Vec<_>>(), [id]);
    assert_eq!((figures.missing, figures.queued), (3, 1));
    assert_eq!(figures.sound, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_neither_sound_nor_lost() {
    let (cluster, _) = filled(quick()).await;
    let shards = cluster.shards() as u64;
    cluster.metadata.notices.store(false, std::sync::atomic::Ordering::Relaxed);
    let away = (cluster.disks[1].shards() + cluster.disks[2].shards()) as u64;
    cluster.disks[1].set(Fault::Dead);
    cluster.metadata.set_disk(2, DiskState::Down);
    let figures = scrub(&cluster, ScrubScope::All).await.expect("done");
    assert_eq!((figures.sound, figures.unreached), (shards - away, away));
    assert_eq!((figures.damaged, figures.missing, figures.queued), (0, 0, 0));
    assert!(cluster.metadata.queue().is_empty());
    let dead = scrub(&cluster, ScrubScope::Disk(DiskId(1))).await.expect_err("dead");
    assert!(matches!(dead, ScrubError::Disk(DiskId(1), _)), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_and_orders_to_stop() {
    let (cluster, _) = filled(quick()).await;
    let refused = async |scope| scrub(&cluster, scope).await.expect_err("refused");
    assert_eq!(refused(ScrubScope::Disk(DiskId(9))).await, ScrubError::NoSuchDisk(DiskId(9)));
    assert_eq!(refused(ScrubScope::Pg(PgId(9999))).await, ScrubError::NoSuchPg(PgId(9999)));
    assert_eq!(refused(object("none")).await, ScrubError::Refused(Refusal::NoSuchKey));
    let (stop, stopping) = watch::channel(false);
    let request = ScrubRequest { scope: ScrubScope::Disk(DiskId(0)), bytes_per_second: 0 };
    stop.send_replace(true);
    let meter = ScrubMeter::default();
    let stopped = cluster.engine.scrub(&request, &meter, stopping).await;
    assert_eq!(stopped, Err(ScrubError::Stopped));
    // The disk was told: it can begin again at once.
    let figures = scrub(&cluster, ScrubScope::Disk(DiskId(0))).await.expect("done");
    assert_eq!(figures.done, 300);
    cluster.metadata.set_down(true);
    let down = scrub(&cluster, ScrubScope::All).await.expect_err("down");
    assert!(matches!(down, ScrubError::Metadata(_)), "{down:?}");
}
