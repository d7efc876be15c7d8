//! Disks that don't answer, refuse, or give less than they should: each by itself, and what it
//! does to the rest of its node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::ids::{DiskId, NodeId};
use model::query::Heartbeat;
use model::shard::{
    DiskHealth, DiskReport, ScrubOrder, ShardError, ShardRead, ShardRequest, ShardResponse,
    ShardState,
};
use storage_node::{DiskIdentity, HeartbeatReporter, OpenError, StorageNode, Store, StoreOptions};
use tokio::sync::mpsc;
use wire::BoxFuture;
use wire::clock::{Clock, SimulatedClock, SystemClock};
use wire::disk::{Disk, SimulatedDisk};
use wire::entropy::SeededEntropy;
use wire::network::Service;

use crate::unruly::{EMFILE, ENOMEM, Unruly};
use crate::world::{
    DISK, extent, id, identity, open_with, payload, put, shard, small, wait, whole,
};

const GOOD: DiskId = DiskId(1);
const BAD: DiskId = DiskId(2);

fn quiet() -> StoreOptions {
    StoreOptions { scrub_interval: Duration::ZERO, compaction_bytes_per_second: 0, ..small() }
}

struct Heard(mpsc::UnboundedSender<Heartbeat>);

impl HeartbeatReporter for Heard {
    fn report(&self, heartbeat: Heartbeat) -> BoxFuture<'_, ()> {
        let _ = self.0.send(heartbeat);
        Box::pin(std::future::ready(()))
    }
}

/// A node with a good disk and one that can be told to misbehave, and a clock that somebody moves
/// on for as long as the test runs: a thousand times as fast as ours.
struct World {
    node: Arc<StorageNode>,
    bad: Unruly,
    hand: Hand,
}

struct Hand(Arc<AtomicBool>);

impl Hand {
    fn on(clock: SimulatedClock) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                clock.advance(Duration::from_secs(1) / 10);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self(stop)
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn world() -> World {
    let clock = SimulatedClock::new();
    let bad = Unruly::new(SimulatedDisk::new(2));
    let (good, entropy) = (SimulatedDisk::new(1), SeededEntropy::new(1));
    let disks: Vec<(Arc<dyn Disk>, DiskIdentity)> = vec![
        (Arc::new(good), DiskIdentity { disk: GOOD, ..identity() }),
        (Arc::new(bad.clone()), DiskIdentity { disk: BAD, ..identity() }),
    ];
    let (node, errors) =
        StorageNode::open(NodeId(1), disks, quiet(), Arc::new(clock.clone()), Arc::new(entropy));
    assert!(errors.is_empty());
    World { node, bad, hand: Hand::on(clock) }
}

impl World {
    async fn append(&self, disk: DiskId, sequence: u32) -> ShardResponse {
        let shards = vec![shard(id(1, sequence, 0), 1000)];
        self.node.serve(ShardRequest::Append { disk, shards, sync: true }).await
    }

    async fn read(&self, disk: DiskId, sequence: u32) -> ShardResponse {
        let reads = vec![ShardRead { id: id(1, sequence, 0), offset: 0, length: 1000 }];
        self.node.serve(ShardRequest::Read { disk, reads }).await
    }

    fn report(&self, disk: DiskId) -> DiskReport {
        self.node.reports().into_iter().find(|report| report.disk == disk).expect("reported")
    }

    async fn end(self) {
        self.bad.mood.release();
        self.node.shutdown().await;
        drop(self.hand);
    }
}

fn is_overloaded(answer: &ShardResponse) -> bool {
    matches!(answer, ShardResponse::Failed(ShardError::Overloaded(BAD)))
}

fn is_read(answer: &ShardResponse) -> bool {
    let ShardResponse::Read(answers) = answer else { return false };
    answers.iter().all(|answer| {
        answer.as_ref().is_ok_and(|blocks| blocks.payload == payload(id(1, 1, 0), 1000))
    })
}

#[tokio::test]
async fn a_stalled_disk_refuses_and_holds_up_nobody_and_comes_back() {
    let world = world();
    for disk in [GOOD, BAD] {
        assert!(matches!(world.append(disk, 1).await, ShardResponse::Appended { .. }));
        assert!(is_read(&world.read(disk, 1).await));
    }
    world.bad.mood.hold();
    // Those that are under way when it falls silent are answered, and so are later ones.
    let (read, written) = tokio::join!(world.read(BAD, 1), world.append(BAD, 2));
    assert!(is_overloaded(&read) && is_overloaded(&written), "{read:?} {written:?}");
    let report = world.report(BAD);
    assert_eq!(report.health, DiskHealth::Failed);
    assert!(report.reason.expect("a reason").starts_with("has not answered for"));
    assert!(is_overloaded(&world.read(BAD, 1).await));
    assert!(is_overloaded(&world.append(BAD, 3).await));
    let inventory =
        ShardRequest::Inventory { disk: BAD, pg: extent(1, 1).pg, after: None, limit: 9 };
    assert!(is_overloaded(&world.node.serve(inventory).await));
    let verify = ShardRequest::Verify { disk: BAD, extents: vec![extent(1, 1)] };
    assert!(is_overloaded(&world.node.serve(verify).await));
    // The other disk knows nothing of that.
    assert_eq!(world.report(GOOD).health, DiskHealth::Ok);
    assert!(is_read(&world.read(GOOD, 1).await));
    assert!(matches!(world.append(GOOD, 2).await, ShardResponse::Appended { .. }));

    world.bad.mood.release();
    while world.report(BAD).health != DiskHealth::Ok {
        tokio::task::yield_now().await;
    }
    assert!(is_read(&world.read(BAD, 1).await));
    assert!(matches!(world.append(BAD, 4).await, ShardResponse::Appended { .. }));
    world.end().await;
}

#[tokio::test]
async fn readers_of_a_stalled_disk_are_bounded() {
    let world = world();
    assert!(matches!(world.append(BAD, 1).await, ShardResponse::Appended { .. }));
    world.bad.mood.hold();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let node = Arc::clone(&world.node);
        asked.spawn(async move {
            let reads = vec![ShardRead { id: id(1, 1, 0), offset: 0, length: 1000 }; 64];
            node.serve(ShardRequest::Read { disk: BAD, reads }).await
        });
    }
    while let Some(answer) = asked.join_next().await {
        assert!(is_overloaded(&answer.expect("answered")));
    }
    let limit = quiet().reads_parallel;
    assert!((1..=limit).contains(&world.bad.mood.waiting()), "{}", world.bad.mood.waiting());
    world.end().await;
}

#[tokio::test]
async fn the_heartbeat_goes_on_and_tells_of_a_stalled_disk() {
    let world = world();
    let (sender, mut heard) = mpsc::unbounded_channel();
    world.node.start(Arc::new(Heard(sender)));
    let of = |heartbeat: Heartbeat, disk: DiskId| {
        heartbeat.disks.into_iter().find(|report| report.disk == disk).expect("reported")
    };
    assert_eq!(of(heard.recv().await.expect("heard"), BAD).health, DiskHealth::Ok);
    world.bad.mood.hold();
    let refused = world.append(BAD, 1).await;
    assert!(is_overloaded(&refused), "{refused:?}");
    loop {
        let heartbeat = heard.recv().await.expect("heard");
        assert_eq!(of(heartbeat.clone(), GOOD).health, DiskHealth::Ok);
        if of(heartbeat, BAD).health == DiskHealth::Failed {
            break;
        }
    }
    world.bad.mood.release();
    while of(heard.recv().await.expect("heard"), BAD).health != DiskHealth::Ok {}
    world.end().await;
}

#[tokio::test]
async fn a_node_starts_without_a_disk_that_stalls_and_takes_it_in_later() {
    let clock = SimulatedClock::new();
    let hand = Hand::on(clock.clone());
    let bad = Unruly::new(SimulatedDisk::new(2));
    bad.mood.hold();
    let disks: Vec<(Arc<dyn Disk>, DiskIdentity)> = vec![
        (Arc::new(SimulatedDisk::new(1)), DiskIdentity { disk: GOOD, ..identity() }),
        (Arc::new(bad.clone()), DiskIdentity { disk: BAD, ..identity() }),
    ];
    let (node, errors) = StorageNode::open(
        NodeId(1),
        disks,
        quiet(),
        Arc::new(clock),
        Arc::new(SeededEntropy::new(1)),
    );
    assert!(errors.is_empty());
    let world = World { node, bad, hand };
    assert_eq!(world.report(BAD).reason.as_deref(), Some("it is still being opened"));
    assert!(matches!(world.append(GOOD, 1).await, ShardResponse::Appended { .. }));
    let refused = world.append(BAD, 1).await;
    assert!(matches!(refused, ShardResponse::Failed(ShardError::Failed(BAD))), "{refused:?}");
    world.bad.mood.release();
    while world.report(BAD).health != DiskHealth::Ok {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(matches!(world.append(BAD, 1).await, ShardResponse::Appended { .. }));
    world.end().await;
}

#[test]
fn a_file_system_that_turns_read_only_makes_the_disk_so() {
    let disk = Unruly::new(SimulatedDisk::new(1));
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
    put(&store, id(1, 1, 0), 1000).expect("put");
    // EROFS.
    disk.mood.refuses.store(30, Ordering::SeqCst);
    assert_eq!(put(&store, id(1, 2, 0), 1000), Err(ShardError::ReadOnly(DISK)));
    let report = store.report();
    assert_eq!(report.health, DiskHealth::ReadOnly);
    assert!(report.reason.expect("a reason").contains("Read-only"));
    whole(&store, id(1, 1, 0), 1000).expect("reads go on");
    let states = wait(store.verify(vec![extent(1, 1)])).expect("verified");
    assert_eq!(states, [(id(1, 1, 0), ShardState::Sound)]);
    store.scrub(ScrubOrder::Begin { bytes_per_second: 0 }).expect("and so does scrub");
    let clock = SystemClock::new();
    while store.report().scrub.last_ended.0 == 0 {
        assert!(clock.monotonic() < Duration::from_mins(1), "the scrub doesn't end");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(store.damaged_regions(), []);
    store.close();
}

#[test]
fn a_short_read_is_damage_and_no_panic() {
    let disk = Unruly::new(SimulatedDisk::new(1));
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
    for sequence in 1..4 {
        put(&store, id(1, sequence, 0), 1000).expect("put");
    }
    for cut_at in [0, 100, 128, 200, 300, 1000] {
        *disk.mood.cut_at.lock().expect("cut") = Some(cut_at);
        assert_eq!(whole(&store, id(1, 1, 0), 1000), Err(ShardError::Corrupt(DISK, id(1, 1, 0))));
    }
    *disk.mood.cut_at.lock().expect("cut") = Some(128 + 1112 + 500);
    whole(&store, id(1, 1, 0), 1000).expect("before the cut");
    let states = wait(store.verify(vec![extent(1, 1), extent(1, 3)])).expect("verified");
    let expected = [(id(1, 1, 0), ShardState::Sound), (id(1, 3, 0), ShardState::Damaged)];
    assert_eq!(states, expected);
    assert_eq!(store.damaged(None, 9).expect("listed"), [id(1, 3, 0)]);
}

#[test]
fn a_few_places_that_cannot_be_read_cost_their_shards_and_many_the_disk() {
    let disk = Unruly::new(SimulatedDisk::new(1));
    let options = StoreOptions { segment_bytes: 64 << 20, ..quiet() };
    let store = open_with(Arc::new(disk.clone()), options).expect("opened");
    let shards: Vec<_> = (0..20).map(|sequence| shard(id(1, sequence, 0), 1 << 20)).collect();
    wait(store.append(shards, true)).expect("put");
    let at = |sequence: u64| 128 + sequence * ((1 << 20) + 88 + 16 + 128) + 1000;
    for sequence in 0..20u32 {
        let bad = at(u64::from(sequence));
        *disk.mood.unreadable.lock().expect("unreadable") = Some((bad, bad + 1));
        let expected = if sequence < 8 { DiskHealth::Ok } else { DiskHealth::ReadOnly };
        assert_eq!(store.report().health, expected, "after {sequence} bad places");
        let id = id(1, sequence, 0);
        assert_eq!(whole(&store, id, 1 << 20), Err(ShardError::Corrupt(DISK, id)));
        // One bad spot that is read again and again is one bad spot.
        for _ in 0..3 {
            assert_eq!(whole(&store, id, 1 << 20), Err(ShardError::Corrupt(DISK, id)));
        }
        *disk.mood.unreadable.lock().expect("unreadable") = None;
        let other = crate::world::id(1, (sequence + 1) % 20, 0);
        whole(&store, other, 1 << 20).expect("the rest can be read");
    }
    assert_eq!(store.report().damaged_shards, 20);
    // All of it: the disk is gone.
    *disk.mood.unreadable.lock().expect("unreadable") = Some((0, u64::MAX));
    let mut answers = (0..20u32).map(|sequence| whole(&store, id(1, sequence, 0), 1 << 20));
    assert!(answers.any(|answer| answer == Err(ShardError::Failed(DISK))));
    assert_eq!(store.report().health, DiskHealth::Failed);
}

#[test]
fn a_scrub_finds_what_cannot_be_read_and_the_rest_in_the_same_window() {
    let disk = Unruly::new(SimulatedDisk::new(1));
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
    let shards: Vec<_> = (0..50).map(|sequence| shard(id(1, sequence, 0), 1000)).collect();
    wait(store.append(shards, true)).expect("put");
    *disk.mood.unreadable.lock().expect("unreadable") = Some((20_000, 20_001));
    store.scrub(ScrubOrder::Begin { bytes_per_second: 0 }).expect("ordered");
    let clock = SystemClock::new();
    while store.report().scrub.last_ended.0 == 0 {
        assert!(clock.monotonic() < Duration::from_mins(1), "the scrub doesn't end");
        std::thread::sleep(Duration::from_millis(1));
    }
    let hit = u32::try_from((20_000 - 128) / (1000 + 88 + 16 + 8)).expect("small");
    assert_eq!(store.damaged(None, 99).expect("listed"), [id(1, hit, 0)]);
    assert_eq!(store.report().health, DiskHealth::Ok);
}

/// Waits until `done`; what never gets there fails the test.
fn until(what: &str, done: &dyn Fn() -> bool) {
    let clock = SystemClock::new();
    while !done() {
        assert!(clock.monotonic() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn starve(disk: &Unruly, what: Option<(&'static str, i32)>) {
    *disk.mood.starved.lock().expect("starved") = what;
}

#[test]
fn a_scrub_without_memory_or_open_files_waits_and_accuses_nobody() {
    for code in [EMFILE, ENOMEM] {
        let disk = Unruly::new(SimulatedDisk::new(1));
        let clock = SimulatedClock::new();
        let hand = Hand::on(clock.clone());
        let (all, clock) = (Arc::new(disk.clone()), Arc::new(clock));
        let wait_long = Duration::from_hours(10_000);
        let store = Store::open(all, identity(), quiet(), clock, wait_long, Arc::default());
        let store = store.expect("opened");
        // A dozen segments.
        for sequence in 0..48 {
            put(&store, id(1, sequence, 0), 16 << 10).expect("put");
        }
        starve(&disk, Some(("seg-", code)));
        store.scrub(ScrubOrder::Begin { bytes_per_second: 0 }).expect("ordered");
        until("it tries again and again", &|| disk.mood.turned_away() >= 40);
        let report = store.report();
        assert_eq!(report.health, DiskHealth::Ok, "{:?}", report.reason);
        assert_eq!((report.scrub.verified_bytes, report.scrub.last_ended.0), (0, 0));
        assert!(report.scrub.on_demand);

        starve(&disk, None);
        until("the scrub ends", &|| store.report().scrub.last_ended.0 > 0);
        assert_eq!(store.damaged_regions(), []);
        assert_eq!(store.report().health, DiskHealth::Ok);
        store.close();
        drop(hand);
    }
}

#[test]
fn a_segment_that_cannot_begin_for_want_of_open_files_begins_later() {
    let disk = Unruly::new(SimulatedDisk::new(1));
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
    put(&store, id(1, 1, 0), 40_000).expect("put");
    starve(&disk, Some(("seg-", EMFILE)));
    for sequence in [2, 3] {
        assert_eq!(put(&store, id(1, sequence, 0), 40_000), Err(ShardError::Overloaded(DISK)));
    }
    let deleted = wait(store.delete(vec![extent(1, 1)]));
    assert_eq!(deleted, Err(ShardError::Overloaded(DISK)));
    assert_eq!(store.report().health, DiskHealth::Ok);
    assert_eq!(disk.mood.turned_away(), 3);
    whole(&store, id(1, 1, 0), 40_000).expect("kept");

    starve(&disk, None);
    put(&store, id(1, 2, 0), 40_000).expect("put");
    store.abort();
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened again");
    whole(&store, id(1, 1, 0), 40_000).expect("kept");
    whole(&store, id(1, 2, 0), 40_000).expect("kept");
    store.close();
}

#[test]
fn an_index_is_not_thrown_away_for_want_of_open_files() {
    let disk = Unruly::new(SimulatedDisk::new(1));
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
    put(&store, id(1, 1, 0), 1000).expect("put");
    store.close();
    disk.mood.removed.lock().expect("removed").clear();
    for wanting in ["index.redb", "seg-"] {
        starve(&disk, Some((wanting, EMFILE)));
        let refused = open_with(Arc::new(disk.clone()), quiet()).err();
        let code = match &refused {
            Some(OpenError::Io(error)) => error.raw_os_error(),
            _ => None,
        };
        assert_eq!(code, Some(EMFILE), "{wanting}: {refused:?}");
    }
    starve(&disk, None);
    let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
    whole(&store, id(1, 1, 0), 1000).expect("kept");
    let removed = disk.mood.removed.lock().expect("removed").clone();
    assert!(!removed.iter().any(|name| name == "index.redb"), "{removed:?}");
    store.close();
}

#[test]
fn a_thread_that_panics_fails_the_disk_and_leaves_nobody_waiting() {
    for (thread, what) in [("-log", "writes the log"), ("-index", "writes the index")] {
        let disk = Unruly::new(SimulatedDisk::new(1));
        let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened");
        put(&store, id(1, 1, 0), 1000).expect("put");
        wait(store.append(vec![shard(id(1, 3, 0), 1000)], false)).expect("appended");
        *disk.mood.panics.lock().expect("panics") = Some(thread);
        // It has the one thread sync and the other write.
        let answer = wait(store.checkpoint());
        assert_eq!(answer, Err(ShardError::Failed(DISK)), "{thread}");
        let put_later = put(&store, id(1, 2, 0), 1000);
        assert_eq!(put_later, Err(ShardError::Failed(DISK)), "{thread}");
        // The guard comes last: the answer may be there a moment before.
        until("it is noticed", &|| store.report().health == DiskHealth::Failed);
        let reason = store.report().reason.expect("a reason");
        assert_eq!(reason, format!("the thread that {what} panicked"));
        store.close();
        let store = open_with(Arc::new(disk.clone()), quiet()).expect("opened again");
        whole(&store, id(1, 1, 0), 1000).expect("kept");
        store.close();
    }
}
