//! Disks that answer late: nobody waits for them where others can do, and they come back.
//!
//! Time is simulated: a disk that isn't slow answers at once, and nothing here takes as long as it
//! says.

use std::sync::Arc;
use std::time::Duration;

use engine::{EngineOptions, SlowKind};
use model::query::PlanWanted;
use wire::clock::{Clock, SimulatedClock};

use crate::cluster::disk::Fault;
use crate::cluster::{Cluster, body};

const SLOW: Duration = Duration::from_millis(500);

/// More steps than any request takes from one wait to the next.
const YIELDS: u32 = 40;

/// A cluster whose clock goes on when everybody waits.
struct World {
    cluster: Cluster,
    clock: SimulatedClock,
}

impl World {
    fn new(disks: u32, coding: &str) -> Self {
        let clock = SimulatedClock::new();
        // The usual patience for stragglers.
        let options = EngineOptions {
            repair_interval: None,
            move_interval: None,
            reconcile_interval: None,
            ..EngineOptions::default()
        };
        let cluster = Cluster::at(Arc::new(clock.clone()), disks, coding, options);
        let ticking = clock.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                // Whatever can go on does so before the next millisecond.
                for _ in 0..YIELDS {
                    tokio::task::yield_now().await;
                }
                ticking.advance(Duration::from_millis(1));
            }
        });
        Self { cluster, clock }
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn since(&self, began: Duration) -> Duration {
        self.now().saturating_sub(began)
    }
}

fn slow(world: &World) -> Vec<u32> {
    world.cluster.engine.slow_disks().iter().map(|slow| slow.disk.0).collect()
}

/// Writes objects of 100,000 bytes; what each took, the longest last.
async fn writes(world: &World, names: std::ops::Range<u32>) -> Vec<Duration> {
    let mut took = Vec::new();
    for name in names {
        let began = world.now();
        world.cluster.put(&format!("o{name}"), &body(100_000)).await;
        took.push(world.since(began));
        world.clock.sleep(Duration::from_millis(20)).await;
    }
    took.sort_unstable();
    took
}

/// Reads them.
async fn reads(world: &World, names: std::ops::Range<u32>) -> Vec<Duration> {
    let mut took = Vec::new();
    for name in names {
        let began = world.now();
        world.cluster.check(&format!("o{name}"), &body(100_000)).await;
        took.push(world.since(began));
        world.clock.sleep(Duration::from_millis(20)).await;
    }
    took.sort_unstable();
    took
}

fn p99(took: &[Duration]) -> Duration {
    took[took.len() * 99 / 100]
}

#[tokio::test]
async fn writes_go_round_a_slow_disk_and_return_to_it_when_it_is_well() {
    let world = World::new(9, "4+2");
    let cluster = &world.cluster;
    writes(&world, 0..50).await;
    assert_eq!(slow(&world), [0u32; 0]);
    cluster.disks[4].set(Fault::Slow(SLOW));
    // Until it is found out, writes wait for it.
    let mut waits = 0;
    while slow(&world) != [4] {
        waits += u32::from(writes(&world, 100..101).await[0] >= SLOW);
        assert!(waits <= 12, "it is found out by a few requests");
    }
    let told = cluster.engine.slow_disks();
    assert_eq!((told[0].kind, told[0].is_whole_node), (SlowKind::Writes, false));
    assert!(told[0].typical >= SLOW && told[0].peers < Duration::from_millis(10), "{told:?}");
    // From then on nobody does, for as long as it lasts.
    let before = cluster.disks[4].shards();
    let took = writes(&world, 200..500).await;
    assert!(took[299] < Duration::from_millis(10), "{:?}", p99(&took));
    let canaries = cluster.disks[4].shards();
    assert!(canaries <= before + 1, "only canaries, and they are deleted: {canaries}");
    assert_eq!(slow(&world), [4]);
    // It is well: it is back within half a minute, and takes its share again.
    cluster.disks[4].set(Fault::None);
    let began = world.now();
    while !slow(&world).is_empty() {
        world.clock.sleep(Duration::from_millis(100)).await;
    }
    assert!(world.since(began) < Duration::from_secs(30), "{:?}", world.since(began));
    let before = cluster.disks[4].shards();
    let took = writes(&world, 500..600).await;
    assert!(took[99] < Duration::from_millis(10));
    assert!(cluster.disks[4].shards() >= before + 20, "it takes its share");
}

#[tokio::test]
async fn reads_begin_at_the_others_and_return_to_a_disk_that_is_well() {
    let world = World::new(6, "4+2");
    let cluster = &world.cluster;
    writes(&world, 0..60).await;
    reads(&world, 0..60).await;
    cluster.disks[2].set(Fault::Slow(SLOW));
    // Hedges help at once, and what they outrun is timed all the same.
    let took = reads(&world, 0..60).await;
    assert!(took[59] < Duration::from_millis(200), "{took:?}");
    assert_eq!(slow(&world), [2]);
    assert_eq!(cluster.engine.slow_disks()[0].kind, SlowKind::Reads);
    let took = reads(&world, 0..60).await;
    assert!(took[59] < Duration::from_millis(5), "{took:?}");
    let reads_before = cluster.disks[2].reads();
    reads(&world, 0..60).await;
    let measured = cluster.disks[2].reads() - reads_before;
    assert!((1..=3).contains(&measured), "one a second, which nobody waits for: {measured}");
    // It is well.
    cluster.disks[2].set(Fault::None);
    let began = world.now();
    while !slow(&world).is_empty() {
        reads(&world, 0..10).await;
        assert!(world.since(began) < Duration::from_secs(30));
    }
    let before = cluster.disks[2].reads();
    reads(&world, 0..60).await;
    assert!(cluster.disks[2].reads() > before + 20);
}

#[tokio::test]
async fn writes_go_on_whole_when_two_of_six_are_slow() {
    let world = World::new(6, "4+2");
    let cluster = &world.cluster;
    writes(&world, 0..20).await;
    for disk in [1, 3] {
        cluster.disks[disk].set(Fault::Slow(SLOW));
    }
    // `put` asserts that every shard is durable or told as missing.
    let took = writes(&world, 100..200).await;
    assert!(took[99] < SLOW * 3, "{:?}", p99(&took));
    assert_eq!(slow(&world), [1, 3]);
    let lacking = cluster.metadata.extents().iter().filter(|one| !one.missing.is_empty()).count();
    assert_eq!(lacking, 0, "a slow disk beats a missing shard");
    reads(&world, 0..20).await;
    reads(&world, 100..120).await;
    let took = reads(&world, 100..200).await;
    assert!(p99(&took) < Duration::from_millis(5), "{took:?}");
}

#[tokio::test]
async fn where_all_disks_are_slow_none_is() {
    let world = World::new(6, "4+2");
    let cluster = &world.cluster;
    for disk in &cluster.disks {
        disk.set(Fault::Slow(SLOW));
    }
    writes(&world, 0..20).await;
    reads(&world, 0..20).await;
    assert_eq!(slow(&world), [0u32; 0]);
    let read = cluster.get("o3", PlanWanted::Whole).await.expect("readable");
    assert!(read == body(100_000)[..]);
}
