//! Memory is bounded, and nobody is starved by the bound.

use std::sync::Arc;
use std::time::Duration;

use engine::{EngineOptions, WriteError};
use model::query::PlanWanted;

use crate::cluster::{Cluster, body, quick};

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_a_small_budget() {
    let options = EngineOptions { write_budget_bytes: 13 << 20, ..quick() };
    let cluster = Arc::new(Cluster::with(6, "4+2", options));
    let writes: Vec<_> = (0..8)
        .map(|number| {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move {
                let (name, body) = (format!("object-{number}"), body((9 << 20) + number));
                cluster.put(&name, &body).await;
                cluster.check(&name, &body).await;
            })
        })
        .collect();
    for write in writes {
        write.await.expect("done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_write_budget_is_an_error_in_time() {
    let options = EngineOptions {
        write_budget_bytes: 6 << 20,
        budget_wait: Duration::from_millis(50),
        ..quick()
    };
    let cluster = Cluster::with(6, "4+2", options);
    // The map tells the coding, and with it what a stripe costs.
    cluster.engine.cluster_map().await.expect("there");
    let mut idle = cluster.engine.writer(cluster.target("idle", None));
    idle.write(body(10)).await.expect("room");
    let mut late = cluster.engine.writer(cluster.target("late", None));
    assert_eq!(late.write(body(10)).await, Err(WriteError::Overloaded));
    assert_eq!(late.write(body(10)).await, Err(WriteError::Failed));
    drop(idle);
    let mut next = cluster.engine.writer(cluster.target("next", None));
    assert_eq!(next.write(body(10)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_get_on_though_others_hold_the_budget() {
    let options = EngineOptions { read_budget_bytes: 5 << 20, ..quick() };
    let cluster = Cluster::with(6, "4+2", options);
    let body = body(13 << 20);
    cluster.put("object", &body).await;
    let found = cluster.open("object", PlanWanted::Whole).await;
    // These stop in the middle, with all of the budget in their hands.
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut reader = cluster.engine.reader(&found);
        assert!(reader.next().await.is_some());
        idle.push(reader);
    }
    cluster.check("object", &body).await;
}
