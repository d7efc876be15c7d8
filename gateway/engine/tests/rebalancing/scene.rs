//! What the scenarios share: a cluster with objects, watched, and gateways that move its slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, EngineOptions, ReadError};
use model::cluster_map::{ClusterMap, DiskState, UpkeepWish};
use model::command::{Command, Outcome};
use model::extent::Extent;
use model::ids::{DiskId, PgId, ShardId};
use model::moves::{Move, MoveReason};
use model::placement::{Limits, plan_moves};
use model::query::{Answer, PlanWanted, Query};
use model::upkeep::RepairItem;
use wire::clock::{Clock as _, SystemClock};

use crate::cluster::never_worse::{NeverWorse, owned, shards_of};
use crate::cluster::whole::{Whole, headers};
use crate::cluster::{body, bucket, key, moving, quick};

/// A cluster under watch.
pub struct Scene {
    pub whole: Whole,
    pub watch: NeverWorse,
    pub objects: BTreeMap<String, Bytes>,
    pub movers: Vec<Engine>,
    clock: SystemClock,
    last_beat: Duration,
    puts: usize,
}

/// Sizes of the objects that there are at first.
const SIZES: [usize; 10] = [1, 5000, 70_000, 300_001, 4 << 20, 100, 9 << 20, 40_000, 800_000, 17];

impl Scene {
    /// Nothing moves yet.
    pub async fn new(disks: u32, coding: &str) -> Self {
        let whole = Whole::with(disks, coding, quick()).await;
        whole.make_bucket().await;
        let watch = NeverWorse::new(whole.client(), &whole.disks);
        let (objects, movers, clock) = (BTreeMap::new(), Vec::new(), SystemClock::new());
        let last_beat = clock.monotonic();
        let mut scene = Self { whole, watch, objects, movers, clock, last_beat, puts: 0 };
        for size in SIZES {
            scene.put(size).await;
        }
        scene
    }

    pub async fn put(&mut self, size: usize) {
        self.puts += 1;
        let (name, body) = (format!("object-{}", self.puts), body(size));
        self.whole.put(&name, &body, headers(3)).await;
        self.objects.insert(name, body);
    }

    pub async fn delete(&mut self, name: &str) {
        self.whole.delete(name).await;
        self.objects.remove(name);
    }

    /// A gateway that moves slots, until it is killed.
    pub async fn start(&mut self) {
        self.start_with("mover", moving()).await;
    }

    pub async fn start_with(&mut self, gateway: &str, options: EngineOptions) {
        let engine = self.whole.engine_of(gateway, options).await;
        self.movers.push(engine);
    }

    /// Ends the movers wherever they are.
    pub async fn kill_movers(&mut self) {
        for mover in self.movers.drain(..) {
            mover.shutdown().await;
        }
    }

    pub fn mover(&self) -> &Engine {
        self.movers.last().expect("started")
    }

    pub async fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let engine = &self.whole.engine;
        let found = engine.open(bucket(), key(name), PlanWanted::Whole).await.expect("opened");
        let mut reader = engine.reader(&found);
        let mut read = Vec::new();
        while let Some(chunk) = reader.next().await {
            read.extend_from_slice(&chunk?);
        }
        Ok(read)
    }

    /// An object reads as it was written.
    pub async fn check(&self, name: &str) {
        let read = self.read(name).await.expect("readable");
        assert!(read == self.objects[name][..], "{name} reads back as it was written");
    }

    pub async fn check_all(&self) {
        for name in self.objects.keys() {
            self.check(name).await;
        }
    }

    pub async fn order(&self, command: Command) {
        let outcome = self.whole.order(command.clone()).await;
        assert_eq!(outcome, Outcome::Done, "{command:?}");
    }

    pub async fn wish(&self, wish: UpkeepWish) {
        let known = self.map().await.upkeep;
        self.order(Command::SetUpkeep { known, wish }).await;
    }

    pub async fn drain(&self, disk: u32, is_draining: bool) {
        self.order(Command::DrainDisk { disk: DiskId(disk), is_draining }).await;
    }

    pub async fn give_up(&self, disk: u32, is_out: bool) {
        self.order(Command::GiveUpDisk { disk: DiskId(disk), is_out }).await;
    }

    pub async fn set(&self, disk: u32, state: DiskState) {
        self.order(Command::SetDiskState { disk: DiskId(disk), state }).await;
    }

    pub async fn kill(&self, disk: u32) {
        self.watch.kill(DiskId(disk));
        self.set(disk, DiskState::Down).await;
    }

    pub async fn revive(&self, disk: u32) {
        self.watch.revive(DiskId(disk));
        self.set(disk, DiskState::Up).await;
    }

    /// One more disk joins.
    pub async fn add_disk(&mut self, weight: u32) -> DiskId {
        let id = self.whole.add_disk(weight).await;
        self.watch.add(self.whole.disks.last().expect("added"));
        id
    }

    pub async fn map(&self) -> ClusterMap {
        self.whole.map().await
    }

    /// All extents that have an owner.
    pub async fn extents(&self) -> Vec<Extent> {
        let groups: BTreeSet<PgId> =
            self.whole.disks.iter().flat_map(|disk| disk.groups()).collect();
        let mut all = Vec::new();
        for pg in groups {
            all.extend(owned(self.whole.client(), pg).await);
        }
        all
    }

    /// Every shard that there should be, and where.
    pub async fn shards(&self) -> Vec<(ShardId, DiskId)> {
        let (map, extents) = (self.map().await, self.extents().await);
        shards_of(&map, &extents).collect()
    }

    pub async fn repairs(&self) -> Vec<RepairItem> {
        match self.whole.query(Query::Repairs { after: None, limit: 1000 }).await {
            Answer::Repairs(page) => page.items,
            answer => panic!("no queue: {answer:?}"),
        }
    }

    /// A move of a slot of the first extent to a disk that isn't in its group; not begun.
    pub async fn a_move(&self, slot: u8) -> Move {
        let extent = self.extents().await.into_iter().max_by_key(|extent| extent.length);
        self.move_in(extent.expect("filled").id.pg, slot).await
    }

    pub async fn move_in(&self, pg: PgId, slot: u8) -> Move {
        let map = self.map().await;
        let group = map.pg(pg).expect("known");
        let spare = map.disks.iter().find(|disk| {
            disk.state == DiskState::Up
                && !disk.standing.is_draining
                && !group.disks.contains(&disk.id)
        });
        let (from, to) = (group.disks[usize::from(slot)], spare.expect("a spare disk").id);
        Move { pg, slot, from, to, reason: MoveReason::Balance }
    }

    pub async fn begin(&self, what: Move) {
        self.order(Command::BeginMoves { moves: vec![what] }).await;
    }

    /// Where a slot is, and where it moves to.
    pub async fn place(&self, what: Move) -> (DiskId, Option<DiskId>) {
        let map = self.map().await;
        let pg = map.pg(what.pg).expect("known");
        (pg.disks[usize::from(what.slot)], pg.move_of(what.slot).map(|begun| begun.to))
    }

    /// Waits until something in the background is done.
    pub async fn until(&mut self, what: &str, mut done: impl AsyncFnMut(&Self) -> bool) {
        let until = self.clock.monotonic() + Duration::from_mins(1);
        while self.clock.monotonic() < until {
            self.beat().await;
            if done(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let progress = self.movers.last().map(Engine::rebalance_progress);
        panic!("waited in vain: {what}; {progress:?}; {:?}", self.map().await.disks);
    }

    /// Waits until the mover has looked so many times more for what is left over, as this disk sees it.
    pub async fn looked(&mut self, disk: DiskId, times: usize) {
        let looks = self.disk(disk).looks() + times;
        self.until("looked", async |scene| scene.disk(disk).looks() >= looks).await;
    }

    /// What the disks tell the metadata every second.
    pub async fn beat(&mut self) {
        let now = self.clock.monotonic();
        if now > self.last_beat + Duration::from_secs(1) {
            self.whole.heartbeat().await;
            self.last_beat = now;
        }
    }

    /// Nothing moves, nothing is to move, nothing waits for repair.
    pub async fn is_quiet(&self) -> bool {
        let map = self.map().await;
        map.pgs.iter().all(|pg| pg.moves.is_empty())
            && plan_moves(&map, &Limits { moves: 1, ..Limits::NONE }).is_empty()
            && self.repairs().await.is_empty()
    }

    /// Waits until everything is where it should be, whole, and nothing is left over elsewhere of what
    /// has an owner.
    pub async fn settle(&mut self) {
        self.until("quiet", async |scene| scene.is_quiet().await).await;
        self.until("cleared", async |scene| scene.strays().await.is_empty()).await;
        // Damage that nobody met is found by the disk itself.
        self.until("whole", async |scene| scene.is_whole().await).await;
        self.check_all().await;
        self.watch.check();
    }

    /// Every shard is in its place.
    pub async fn is_whole(&self) -> bool {
        self.shards().await.iter().all(|(id, disk)| self.disk(*disk).has(id))
    }

    /// Shards of extents with an owner on disks that are up and have no right to them.
    pub async fn strays(&self) -> Vec<(DiskId, ShardId)> {
        let (map, extents) = (self.map().await, self.extents().await);
        let mut strays = Vec::new();
        let is_up = |disk: &&model::cluster_map::Disk| disk.state == DiskState::Up;
        for disk in map.disks.iter().filter(is_up) {
            for (id, _) in self.disk(disk.id).owners() {
                let group = map.pg(id.extent.pg).expect("known");
                let is_owned = extents.iter().any(|extent| extent.id == id.extent);
                if is_owned && !group.disks.contains(&disk.id) {
                    strays.push((disk.id, id));
                }
            }
        }
        strays
    }

    pub fn disk(&self, id: DiskId) -> &crate::cluster::disk::FakeDisk {
        &self.whole.disks[id.0 as usize - 1]
    }

    /// How many slots each disk has.
    pub async fn slots(&self) -> BTreeMap<DiskId, usize> {
        let map = self.map().await;
        let mut slots: BTreeMap<DiskId, usize> =
            map.disks.iter().map(|disk| (disk.id, 0)).collect();
        for disk in map.pgs.iter().flat_map(|pg| &pg.disks) {
            *slots.entry(*disk).or_default() += 1;
        }
        slots
    }

    /// Reads everything, writes something and deletes something.
    pub async fn clients(&mut self) {
        self.beat().await;
        self.put(50_000).await;
        let oldest = self.objects.keys().next().cloned().expect("filled");
        self.check_all().await;
        self.delete(&oldest).await;
    }

    pub async fn finish(mut self) {
        self.kill_movers().await;
        self.watch.finish().await;
        self.whole.engine.shutdown().await;
    }
}
