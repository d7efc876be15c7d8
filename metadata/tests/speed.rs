//! What commands and queries cost; run by hand: `cargo test --release -p metadata -- --ignored`.

use std::sync::Arc;
use std::time::Duration;

use model::query::{PlanWanted, Query};
use wire::clock::{Clock, SystemClock};

use crate::harness::{TestCluster, bucket, create_bucket, key, put};

/// CPU time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("read");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("there").split_whitespace().collect();
    let ticks: u64 =
        fields[11].parse::<u64>().expect("number") + fields[12].parse::<u64>().expect("number");
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn cost_of_commits_and_reads() {
    let mut cluster = TestCluster::new(5, 5).await;
    let writer = Arc::new(cluster.writer().await);
    create_bucket(&writer).await;
    let map = Arc::new(cluster.map().await);
    for concurrency in [1u64, 16, 32] {
        let each = 8000 / concurrency.max(4);
        let (clock, before) = (SystemClock::new(), cpu());
        let tasks = (0..concurrency).map(|task| {
            let (writer, map) = (Arc::clone(&writer), Arc::clone(&map));
            tokio::spawn(async move {
                for number in 0..each {
                    let number = concurrency * 1_000_000 + task * each + number;
                    put(&writer, &map, &format!("o{number}"), number).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("done");
        }
        let count = (each * concurrency) as u32;
        println!(
            "put x{concurrency}: {:?} each, {:?} CPU each",
            clock.monotonic() / count,
            cpu().saturating_sub(before) / count
        );
    }
    for concurrency in [1u64, 16] {
        let each = 20_000 / concurrency.max(4);
        let (clock, before) = (SystemClock::new(), cpu());
        let tasks = (0..concurrency).map(|_| {
            let client = Arc::clone(&cluster.client);
            tokio::spawn(async move {
                for number in 0..each {
                    let name = format!("o{}", 16_000_000 + number % 100);
                    let key = key(&name);
                    let query = Query::Object { bucket: bucket(), key, plan: PlanWanted::Whole };
                    client.query(query).await.expect("answered");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("done");
        }
        let count = (each * concurrency) as u32;
        println!(
            "get x{concurrency}: {:?} each, {:?} CPU each",
            clock.monotonic() / count,
            cpu().saturating_sub(before) / count
        );
    }
    cluster.stop().await;
}
