//! Random operations against a model, with the power failing at random moments (I-1, I-8).
//!
//! After every restart: each shard that was acknowledged as durable is there with its bytes, none
//! whose deletion was acknowledged is back, the inventory is exactly what can be read, and the
//! ledger agrees with it. In worlds that rot, damage must be told instead, and bytes are still
//! never wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::ids::{Incarnation, PgId, ShardId};
use model::shard::{LogPosition, ShardError};
use storage_node::Store;
use wire::disk::{Disk, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy, SystemEntropy};

use crate::world::{Fused, id, open_with, payload, put, read, shard, small, wait, whole};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Acknowledged as durable: must be there.
    Kept,
    /// Appended or deleted without an acknowledgement: may be there.
    Open,
    /// Its deletion was acknowledged: must not be there.
    Gone,
}

struct World {
    entropy: SeededEntropy,
    disk: SimulatedDisk,
    shards: BTreeMap<ShardId, (usize, Fate)>,
    unsynced: Vec<ShardId>,
    synced_to: Option<(Incarnation, LogPosition)>,
    next: u32,
    rotten: bool,
    crashes: u64,
    operations: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            entropy: SeededEntropy::new(seed),
            disk: SimulatedDisk::new(seed ^ 0x5eed),
            shards: BTreeMap::new(),
            unsynced: Vec::new(),
            synced_to: None,
            next: 0,
            rotten: false,
            crashes: 0,
            operations: 0,
        }
    }

    /// Opens the disk; the power may fail while it recovers.
    fn start(&mut self) -> Store {
        loop {
            let changes = 1 + self.entropy.below(150).cast_signed();
            let fused = Fused::new(self.disk.clone(), changes);
            if let Ok(store) = open_with(Arc::new(fused), small()) {
                return store;
            }
            self.crashes += 1;
            self.disk.crash();
            // Without a limit now and then, a disk that needs many changes would never open.
            if self.entropy.below(2) == 0 {
                return open_with(Arc::new(Fused::new(self.disk.clone(), 500)), small())
                    .expect("a disk opens when its power lasts");
            }
        }
    }

    fn length(&self) -> usize {
        match self.entropy.below(10) {
            0 => 1 + self.entropy.below(150_000) as usize,
            1 => 65_536,
            _ => 1 + self.entropy.below(6000) as usize,
        }
    }

    fn fresh(&mut self) -> ShardId {
        // Several shards to an extent, extents in a few PGs.
        self.next += 1;
        id(self.next / 3 % 4, self.next / 3, (self.next % 3) as u16)
    }

    fn any(&self) -> Option<(ShardId, usize, Fate)> {
        let at = self.entropy.below(self.shards.len() as u64) as usize;
        self.shards.iter().nth(at).map(|(id, (length, fate))| (*id, *length, *fate))
    }

    /// One operation; `false` when the disk no longer takes any.
    fn step(&mut self, store: &Store) -> bool {
        self.operations += 1;
        match self.entropy.below(12) {
            0..=3 => {
                let (id, length) = (self.fresh(), self.length());
                let done = put(store, id, length);
                let fate = if done.is_ok() { Fate::Kept } else { Fate::Open };
                self.shards.insert(id, (length, fate));
                done.is_ok()
            }
            4 | 5 => {
                let batch: Vec<_> =
                    (0..=self.entropy.below(4)).map(|_| (self.fresh(), self.length())).collect();
                self.shards.extend(batch.iter().map(|(id, length)| (*id, (*length, Fate::Open))));
                let shards = batch.iter().map(|(id, length)| shard(*id, *length)).collect();
                let done = wait(store.append(shards, false));
                if let Ok(receipt) = &done {
                    self.unsynced.extend(batch.iter().map(|(id, _)| *id));
                    self.synced_to = Some(*receipt);
                }
                done.is_ok()
            }
            6 => self.sync(store),
            7 => {
                let Some((id, ..)) = self.any() else { return true };
                let same = |other: &ShardId| other.extent == id.extent;
                let done = wait(store.delete(vec![id.extent]));
                let fate = if done.is_ok() { Fate::Gone } else { Fate::Open };
                let others = self.shards.iter_mut().filter(|(other, _)| same(other));
                others.for_each(|(_, (_, old))| {
                    if *old != Fate::Gone {
                        *old = fate;
                    }
                });
                self.unsynced.retain(|other| !same(other));
                // An id is never used again, nor is its extent.
                self.next = (self.next / 3 + 1) * 3;
                done.is_ok()
            }
            8 => {
                store.look_after();
                true
            }
            9 => wait(store.checkpoint()).is_ok(),
            10 => {
                self.range(store);
                true
            }
            _ => {
                // A retry of what is there already.
                let Some((id, length, Fate::Kept)) = self.any() else { return true };
                put(store, id, length).is_ok()
            }
        }
    }

    fn sync(&mut self, store: &Store) -> bool {
        let Some((incarnation, position)) = self.synced_to.take() else { return true };
        let done = wait(store.sync(incarnation, position));
        for id in std::mem::take(&mut self.unsynced) {
            if done.is_ok()
                && let Some((_, fate)) = self.shards.get_mut(&id)
            {
                *fate = Fate::Kept;
            }
        }
        done.is_ok()
    }

    fn range(&self, store: &Store) {
        let Some((id, length, fate)) = self.any() else { return };
        let offset = self.entropy.below(length as u64) as u32;
        let count = 1 + self.entropy.below(length as u64 - u64::from(offset)) as u32;
        match read(store, id, offset, count) {
            Ok(blocks) => {
                let from = blocks.first_block as usize * 65_536;
                assert!(from <= offset as usize);
                assert!(from + blocks.payload.len() >= (offset + count) as usize);
                let expected = payload(id, length).slice(from..from + blocks.payload.len());
                assert_eq!(blocks.payload, expected, "wrong bytes of a range of {id}");
                assert!(fate != Fate::Gone || self.rotten, "{id} is back");
            }
            Err(ShardError::NotFound(..)) => {
                assert!(fate != Fate::Kept || self.rotten, "{id} lost");
            }
            Err(error) => assert!(self.rotten, "{id}: {error}"),
        }
    }

    fn crash(&mut self, store: Store) {
        store.abort();
        drop(store);
        self.disk.crash();
        self.crashes += 1;
        self.unsynced.clear();
        self.synced_to = None;
    }

    fn rot(&mut self) {
        let shards = self.disk.subdirectory("shards").expect("there");
        let files = shards.list().expect("list");
        let segments: Vec<_> = files.iter().filter(|name| name.starts_with("seg-")).collect();
        if segments.is_empty() {
            return;
        }
        let name =
            format!("shards/{}", segments[self.entropy.below(segments.len() as u64) as usize]);
        let file = self.disk.open(&name, wire::disk::OpenMode::Read).expect("there");
        let offset = self.entropy.below(file.length().expect("length").max(1));
        self.disk.flip_bit(&name, offset, self.entropy.below(8) as u8).expect("flipped");
        self.rotten = true;
    }

    /// Compares everything with the model, and settles what was open: what is there after
    /// recovery is durable.
    fn check(&mut self, store: &Store) {
        let mut present = Vec::new();
        for (id, (length, fate)) in &mut self.shards {
            match (whole(store, *id, *length), *fate) {
                (Ok(()), Fate::Gone) => assert!(self.rotten, "deleted shard {id} is back"),
                (Ok(()), _) => *fate = Fate::Kept,
                (Err(ShardError::NotFound(..)), Fate::Kept) => {
                    assert!(self.rotten, "shard {id} was acknowledged and is lost");
                    *fate = Fate::Open;
                    continue;
                }
                (Err(ShardError::NotFound(..)), Fate::Open) => {
                    *fate = Fate::Gone;
                    continue;
                }
                (Err(ShardError::NotFound(..)), Fate::Gone) => continue,
                (Err(error), _) => assert!(self.rotten, "shard {id}: {error}"),
            }
            present.push((*id, *length as u32));
        }
        let mut listed: Vec<(ShardId, u32)> = Vec::new();
        for pg in 0..4 {
            let mut after = None;
            loop {
                let page = wait(store.inventory(PgId(pg), after, 7)).expect("listed");
                after = page.last().map(|(id, _)| *id);
                listed.extend(&page);
                if page.len() < 7 {
                    break;
                }
            }
        }
        assert_eq!(
            listed,
            present.iter().copied().collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>()
        );
        let report = store.report();
        assert_eq!(report.shards, present.len() as u64);
        let least: u64 = present.iter().map(|(_, length)| u64::from(*length) + 96).sum();
        assert!(report.live_bytes >= least && report.live_bytes <= least + 64 * report.shards);
        if !self.rotten {
            assert_eq!(store.damaged_regions(), []);
        }
    }
}

fn run(seed: u64, rounds: u64, rots: bool) -> (u64, u64) {
    let mut world = World::new(seed);
    let mut store = world.start();
    for _ in 0..rounds {
        for _ in 0..world.entropy.below(25) {
            if !world.step(&store) {
                break;
            }
        }
        if world.entropy.below(6) == 0 {
            store.close();
            // What was never synced is settled by the check, as after a crash: its receipt is of
            // a run that has ended.
            world.unsynced.clear();
            world.synced_to = None;
        } else {
            world.crash(store);
        }
        if rots && world.entropy.below(3) == 0 {
            world.rot();
        }
        if world.entropy.below(8) == 0 {
            let _ = world.disk.remove("shards/index.redb");
        }
        store = world.start();
        world.check(&store);
    }
    store.abort();
    (world.operations, world.crashes)
}

/// The seed to begin with: printed, and taken from the environment to replay a failure.
#[expect(clippy::disallowed_methods, reason = "a test may be told its seed")]
fn first_seed() -> u64 {
    let told = std::env::var("DRYSTONE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = told.unwrap_or_else(|| SystemEntropy::new().u64());
    println!("replay with DRYSTONE_SEED={seed}");
    seed
}

fn many(worlds: u64, rounds: u64, rots: bool) {
    let first = first_seed();
    let (mut operations, mut crashes) = (0, 0);
    for seed in (0..worlds).map(|number| first.wrapping_add(number)) {
        let outcome = std::panic::catch_unwind(|| run(seed, rounds, rots));
        let Ok((done, crashed)) = outcome else {
            panic!("the world failed: replay with DRYSTONE_SEED={seed}");
        };
        operations += done;
        crashes += crashed;
    }
    println!("{operations} operations, {crashes} crashes");
}

#[test]
fn what_was_acknowledged_survives_any_crash() {
    many(100, 20, false);
}

#[test]
fn rot_and_crashes_never_give_wrong_bytes() {
    many(50, 10, true);
}
