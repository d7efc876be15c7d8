//! What is written reads back, whole and in ranges.

use std::time::Duration;

use engine::OwnerSeal;
use model::query::PlanWanted;
use wire::clock::{SystemClock, timeout};
use wire::entropy::{Entropy as _, SeededEntropy};

use crate::cluster::{Cluster, body};

#[tokio::test(flavor = "multi_thread")]
async fn all_sizes_read_back() {
    let cluster = Cluster::new(6, "4+2");
    let mut sizes = vec![0, 1, 63, 64, 65, 4096, 9 << 20];
    for edge in [16 << 10, 64 << 10, 256 << 10, 4 << 20] {
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    for size in sizes {
        let body = body(size);
        cluster.put("object", &body).await;
        cluster.check("object", &body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_codings_read_back() {
    for (disks, coding) in
        [(1, "1+0"), (2, "1+1"), (3, "2+1"), (4, "2+2"), (5, "3+2"), (9, "6+3"), (12, "8+4")]
    {
        let cluster = Cluster::new(disks, coding);
        for size in [1, 5000, 70_001, 5_000_001] {
            let body = body(size);
            cluster.put("object", &body).await;
            cluster.check("object", &body).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_object_is_three_appends_that_sync_and_one_read() {
    let cluster = Cluster::new(6, "4+2");
    let small = body(4096);
    cluster.put("small", &small).await;
    assert_eq!(cluster.shards(), 3);
    assert_eq!(cluster.disks.iter().map(|disk| disk.syncs()).sum::<usize>(), 3);
    cluster.check("small", &small).await;
    assert_eq!(cluster.disks.iter().map(|disk| disk.reads()).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_syncs_once_per_disk() {
    let cluster = Cluster::new(6, "4+2");
    cluster.put("large", &body(17 << 20)).await;
    assert!(cluster.disks.iter().all(|disk| disk.syncs() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn random_ranges_are_the_bytes_that_were_written() {
    let cluster = Cluster::new(6, "4+2");
    let entropy = SeededEntropy::new(3);
    for size in [1usize, 5000, 100_000, 9_000_001] {
        let body = body(size);
        cluster.put("object", &body).await;
        for _ in 0..40 {
            let first = entropy.below(size as u64);
            let last = first + entropy.below(size as u64 - first);
            let read = cluster.get("object", PlanWanted::Between(first, last)).await;
            let expected = &body[first as usize..=last as usize];
            assert!(read.expect("readable") == expected, "{size}: {first}..={last}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_one_extent_goes_on_in_another() {
    let cluster = Cluster::new(6, "4+2");
    let body = body((256 << 20) + 1);
    let written = cluster.write("huge", &body).await.expect("written");
    let lengths: Vec<u64> = written.extents().iter().map(|extent| extent.length).collect();
    assert_eq!(lengths, [256 << 20, 1]);
    cluster.commit("huge", written).await.expect("committed");
    cluster.check("huge", &body).await;
    let over = cluster.get("huge", PlanWanted::Last(10)).await.expect("readable");
    assert!(over == body[body.len() - 10..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_dropped_half_way_goes_on_where_it_was() {
    let cluster = Cluster::new(6, "4+2");
    let body = body(13_000_000);
    cluster.put("object", &body).await;
    for disk in &cluster.disks {
        disk.set(crate::cluster::disk::Fault::Slow(Duration::from_millis(3)));
    }
    let found = cluster.open("object", PlanWanted::Whole).await;
    let mut reader = cluster.engine.reader(&found);
    let clock = SystemClock::new();
    let mut read = Vec::new();
    loop {
        match timeout(&clock, Duration::from_micros(500), reader.next()).await {
            Err(_) => {}
            Ok(Some(chunk)) => read.extend_from_slice(&chunk.expect("readable")),
            Ok(None) => break,
        }
    }
    assert!(read == body[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_tell_their_owner_to_whoever_has_the_key() {
    let cluster = Cluster::new(6, "4+2");
    cluster.put("a/secret name", &body(100)).await;
    let (id, sealed) = cluster.disks.iter().find_map(|disk| disk.owner()).expect("a shard");
    assert!(!sealed.windows(6).any(|part| part == b"secret"));
    let seal = OwnerSeal::new(&[7; 32], std::sync::Arc::new(SeededEntropy::new(9)));
    let owner = seal.open(id.extent, &sealed).expect("ours");
    assert_eq!((owner.bucket.as_str(), owner.key.as_str()), ("bucket", "a/secret name"));
}
