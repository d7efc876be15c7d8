//! Watches every stripe of a cluster while something happens to it: what a reader finds by the newest
//! map it goes on finding, unless the scenario itself took it away (I-12).
//!
//! In: the metadata and the disks. Out: a panic at the end, if ever a shard was where the map has it and
//! later wasn't, though its disk had come to no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metadata::client::MetadataClient;
use model::cluster_map::ClusterMap;
use model::extent::Extent;
use model::ids::{DiskId, ExtentId, PgId, ShardId};
use model::query::{Answer, Query};
use model::upkeep::ExtentState;

use super::disk::{FakeDisk, Fault};

#[derive(Default)]
struct State {
    disks: Vec<Arc<FakeDisk>>,
    /// Disks that the scenario took away.
    harmed: BTreeSet<DiskId>,
    /// Where a reader last found each shard.
    seen: BTreeMap<ShardId, DiskId>,
    /// What the scenario damaged, and where.
    damaged: BTreeSet<(ShardId, DiskId)>,
}

struct Inner {
    client: Arc<MetadataClient>,
    state: Mutex<State>,
    samples: AtomicU64,
    worse: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// The watch.
pub struct NeverWorse {
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

impl NeverWorse {
    pub fn new(client: &Arc<MetadataClient>, disks: &[Arc<FakeDisk>]) -> Self {
        let state = State { disks: disks.to_vec(), ..State::default() };
        let inner = Arc::new(Inner {
            client: Arc::clone(client),
            state: Mutex::new(state),
            samples: AtomicU64::new(0),
            worse: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let watching = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            while !watching.stop.load(Ordering::Relaxed) {
                watching.sample().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { inner, task }
    }

    pub fn add(&self, disk: &Arc<FakeDisk>) {
        self.inner.state().disks.push(Arc::clone(disk));
    }

    /// The scenario takes a disk away.
    pub fn kill(&self, disk: DiskId) {
        let mut state = self.inner.state();
        state.harmed.insert(disk);
        state.disks[disk.0 as usize - 1].set(Fault::Dead);
    }

    /// The disk doesn't answer any more.
    pub fn hang(&self, disk: DiskId) {
        let mut state = self.inner.state();
        state.harmed.insert(disk);
        state.disks[disk.0 as usize - 1].set(Fault::Hangs);
    }

    /// The disk is back, with all that it had.
    pub fn revive(&self, disk: DiskId) {
        let mut state = self.inner.state();
        state.disks[disk.0 as usize - 1].set(Fault::None);
        state.harmed.remove(&disk);
    }

    /// The scenario damages shards of a disk; which ones.
    pub fn rot(&self, disk: DiskId, is_hit: impl Fn(&ShardId) -> bool) {
        let mut state = self.inner.state();
        let fake = Arc::clone(&state.disks[disk.0 as usize - 1]);
        let hit = fake.owners().into_iter().map(|(id, _)| id).filter(|id| is_hit(id));
        state.damaged.extend(hit.map(|id| (id, disk)));
        fake.rot_some(&is_hit);
    }

    /// Takes one more look, and ends; panics if something was worse than before.
    pub async fn finish(self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic");
        self.inner.sample().await;
        assert_eq!(*self.inner.worse.lock().expect("no panic"), None, "something got worse");
        let samples = self.inner.samples.load(Ordering::Relaxed);
        assert!(samples > 0, "it was never looked at");
    }

    /// Panics now if something was worse already.
    pub fn check(&self) {
        assert_eq!(*self.inner.worse.lock().expect("no panic"), None, "something got worse");
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// Looks at everything once.
    async fn sample(&self) {
        let Some(before) = self.map().await else { return };
        let groups: BTreeSet<PgId> = {
            let state = self.state();
            let on_disks = state.disks.iter().flat_map(|disk| disk.groups());
            on_disks.chain(state.seen.keys().map(|id| id.extent.pg)).collect()
        };
        let mut extents = Vec::new();
        for pg in groups {
            extents.extend(owned(&self.client, pg).await);
        }
        // What got its owner by a newer map was never where the older one has it.
        let Some(map) = self.map().await else { return };
        extents.retain(|extent| stayed(&before, &map, extent.id.pg));
        let mut gone = self.state().compare(&map, &extents);
        let Some(after) = self.map().await else { return };
        // A slot that was given to another disk meanwhile is looked for there the next time.
        gone.retain(|(id, _)| stayed(&map, &after, id.extent.pg));
        let ids: Vec<ExtentId> = gone.iter().map(|(id, _)| id.extent).collect();
        let query = Query::ExtentStates { extents: ids };
        let Ok(Answer::ExtentStates(states)) = self.client.query(query).await else {
            return;
        };
        let mut worse = Vec::new();
        for ((id, disk), state) in gone.into_iter().zip(states) {
            if state == ExtentState::Owned {
                let now = map.disk_of(id.extent, id.slot).map(|disk| disk.id);
                let at = map.epoch;
                worse.push(format!("{id} was on disk {disk} and isn't on {now:?}, epoch {at}"));
            } else {
                self.state().seen.remove(&id);
            }
        }
        self.samples.fetch_add(1, Ordering::Relaxed);
        if !worse.is_empty() {
            self.worse.lock().expect("no panic").get_or_insert(worse.join("\n"));
        }
    }

    async fn map(&self) -> Option<ClusterMap> {
        match self.client.query(Query::ClusterMap { known_epoch: 0 }).await {
            Ok(Answer::ClusterMap(map)) => map,
            _ => None,
        }
    }
}

/// Whether all slots of a group are where they were.
fn stayed(before: &ClusterMap, after: &ClusterMap, pg: PgId) -> bool {
    before.pg(pg).zip(after.pg(pg)).is_some_and(|(one, later)| one.disks == later.disks)
}

impl State {
    /// Takes note of what is where the map has it; what was and isn't, with the disk it was seen on.
    fn compare(&mut self, map: &ClusterMap, extents: &[Extent]) -> Vec<(ShardId, DiskId)> {
        let harmed = self.harmed.clone();
        self.seen.retain(|_, disk| !harmed.contains(disk));
        let mut gone = Vec::new();
        for (id, disk) in shards_of(map, extents) {
            let Some(fake) = self.disks.get(disk.0 as usize - 1) else { continue };
            if harmed.contains(&disk) {
                // Given to it before it was taken away, and after that was last looked at.
                if fake.holds(&id) {
                    self.seen.remove(&id);
                } else if let Some(seen) = self.seen.get(&id) {
                    gone.push((id, *seen));
                }
            } else if fake.has(&id) {
                self.seen.insert(id, disk);
                self.damaged.remove(&(id, disk));
            } else if self.damaged.contains(&(id, disk)) {
                self.seen.remove(&id);
            } else if let Some(seen) = self.seen.get(&id) {
                gone.push((id, *seen));
            }
        }
        gone
    }
}

/// Every shard that there should be, with the disk that should have it.
pub fn shards_of<'a>(
    map: &'a ClusterMap,
    extents: &'a [Extent],
) -> impl Iterator<Item = (ShardId, DiskId)> + 'a {
    extents.iter().flat_map(move |extent| {
        (0..extent.stripe_count()).flat_map(move |stripe| {
            let geometry = extent.stripe_geometry(stripe).expect("in the extent");
            let slots: Vec<u8> = geometry.slots().collect();
            slots.into_iter().map(move |slot| {
                let disk = map.disk_of(extent.id, slot).expect("known").id;
                (ShardId { extent: extent.id, stripe, slot }, disk)
            })
        })
    })
}

/// The extents of a group that have an owner.
pub async fn owned(client: &MetadataClient, pg: PgId) -> Vec<Extent> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let query = Query::Extents { pg, after, limit: 1000 };
        let Ok(Answer::Extents(page)) = client.query(query).await else { return all };
        let owned = page.extents.into_iter().filter(|entry| entry.is_owned);
        all.extend(owned.map(|entry| entry.extent));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}
