//! A cluster in memory: one node for each disk, a metadata service, and an engine.

pub mod disk;
pub mod metadata;
pub mod never_worse;
pub mod whole;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{
    CommitError, Engine, EngineOptions, EngineParts, Metadata, ObjectCommit, ReadError, WriteError,
    WriteTarget, WrittenBody,
};
use model::command::{Committed, WriteCondition};
use model::names::{BucketName, ObjectKey};
use model::query::{ObjectFound, PlanWanted};
use model::shard::{ShardRequest, ShardResponse};
use model::version::ObjectHeaders;
use wire::clock::{Clock, SystemClock};
use wire::entropy::SeededEntropy;
use wire::network::{InProcess, Peer};

use disk::FakeDisk;
use metadata::FakeMetadata;

pub struct Cluster {
    pub disks: Vec<Arc<FakeDisk>>,
    pub metadata: Arc<FakeMetadata>,
    pub engine: Engine,
    pub network: Arc<InProcess<ShardRequest, ShardResponse>>,
}

/// Limits that make failures quick to notice.
pub fn quick() -> EngineOptions {
    EngineOptions {
        straggler_min: Duration::from_millis(50),
        straggler_max: Duration::from_millis(200),
        hedge_min: Duration::from_millis(20),
        hedge_max: Duration::from_millis(100),
        map_interval: Duration::from_millis(50),
        collect_interval: Duration::from_millis(20),
        report_interval: Duration::from_millis(10),
        garbage_delay: Duration::ZERO,
        repair_interval: None,
        move_interval: None,
        recode_interval: None,
        reconcile_interval: None,
        ..EngineOptions::default()
    }
}

/// The same, with repair in the background.
pub fn repairing() -> EngineOptions {
    EngineOptions {
        repair_interval: Some(Duration::from_millis(20)),
        repair_bytes_per_second: 0,
        damage_interval: Duration::from_millis(20),
        ..quick()
    }
}

/// The same, with reconciliation as well.
pub fn reconciling() -> EngineOptions {
    EngineOptions {
        reconcile_interval: Some(Duration::from_millis(30)),
        reconcile_pause: Duration::ZERO,
        orphan_grace: Duration::from_millis(100),
        ..repairing()
    }
}

/// The same, with repair and moves of slots, and what they leave behind soon deleted.
pub fn moving() -> EngineOptions {
    EngineOptions {
        move_interval: Some(Duration::from_millis(20)),
        stray_grace: Duration::from_millis(200),
        delete_deadline: Duration::from_millis(400),
        shutdown_patience: Duration::ZERO,
        ..repairing()
    }
}

impl Cluster {
    pub fn new(disks: u32, coding: &str) -> Self {
        Self::with(disks, coding, quick())
    }

    pub fn with(disks: u32, coding: &str, options: EngineOptions) -> Self {
        Self::at(Arc::new(SystemClock::new()), disks, coding, options)
    }

    /// One that lives by this clock.
    pub fn at(clock: Arc<dyn Clock>, disks: u32, coding: &str, options: EngineOptions) -> Self {
        let network = InProcess::<ShardRequest, ShardResponse>::new(Arc::clone(&clock));
        let disk = |id| Arc::new(FakeDisk::at(Arc::clone(&clock), id));
        let disks: Vec<_> = (0..disks).map(disk).collect();
        for (id, disk) in disks.iter().enumerate() {
            network.register(Peer(id as u64), disk.clone());
        }
        let metadata = Arc::new(FakeMetadata::new(disks.clone(), coding));
        let network = Arc::new(network);
        let engine = engine_at(clock, metadata.clone(), &network, options);
        Self { disks, metadata, engine, network }
    }

    pub fn target(&self, name: &str, size_hint: Option<u64>) -> WriteTarget {
        WriteTarget {
            bucket: bucket(),
            bucket_id: None,
            key: key(name),
            manifest: self.engine.new_manifest(),
            upload: None,
            part: 0,
            size_hint,
            headers: None,
            checksum: None,
            class: None,
        }
    }

    /// Writes a body in chunks of 100,000 bytes.
    pub async fn write(&self, name: &str, body: &Bytes) -> Result<WrittenBody, WriteError> {
        let mut writer = self.engine.writer(self.target(name, Some(body.len() as u64)));
        let mut rest = body.clone();
        while !rest.is_empty() {
            writer.write(rest.split_to(rest.len().min(100_000))).await?;
        }
        writer.finish().await
    }

    pub async fn commit(&self, name: &str, body: WrittenBody) -> Result<Committed, CommitError> {
        let commit = ObjectCommit {
            bucket: bucket(),
            key: key(name),
            manifest: self.engine.new_manifest(),
            md5: [1; 16],
            headers: ObjectHeaders::default(),
            checksum: None,
            condition: WriteCondition::Always,
        };
        self.engine.put_object(body, commit).await
    }

    pub async fn put(&self, name: &str, body: &Bytes) {
        let written = self.write(name, body).await.expect("written");
        for extent in written.extents() {
            self.assert_durable(extent);
        }
        self.commit(name, written).await.expect("committed");
    }

    pub async fn open(&self, name: &str, plan: PlanWanted) -> ObjectFound {
        self.engine.open(bucket(), key(name), plan).await.expect("opened")
    }

    pub async fn get(&self, name: &str, plan: PlanWanted) -> Result<Vec<u8>, ReadError> {
        self.get_by(&self.engine, name, plan).await
    }

    async fn get_by(
        &self,
        engine: &Engine,
        name: &str,
        plan: PlanWanted,
    ) -> Result<Vec<u8>, ReadError> {
        let found = self.open(name, plan).await;
        let mut reader = engine.reader(&found);
        let mut body = Vec::new();
        while let Some(chunk) = reader.next().await {
            body.extend_from_slice(&chunk?);
        }
        Ok(body)
    }

    pub async fn check(&self, name: &str, body: &Bytes) {
        let read = self.get(name, PlanWanted::Whole).await.expect("readable");
        assert!(read == body[..], "{name} reads back as it was written");
    }

    /// I-1: every stripe has its quorum on stable storage, and slots without are told.
    pub fn assert_durable(&self, extent: &model::extent::Extent) {
        let map = self.metadata.map();
        for stripe in 0..extent.stripe_count() {
            let geometry = extent.stripe_geometry(stripe).expect("in the extent");
            let durable = |slot: &u8| {
                let id = model::ids::ShardId { extent: extent.id, stripe, slot: *slot };
                let disk = map.disk_of(extent.id, *slot).expect("in the map");
                self.disks[disk.id.0 as usize].is_durable(id)
            };
            let there = geometry.slots().filter(durable).count();
            assert!(there >= usize::from(geometry.write_quorum()), "{extent:?} {stripe}: {there}");
            for slot in geometry.slots() {
                assert!(durable(&slot) || extent.missing.contains(slot), "{extent:?} {slot}");
            }
        }
    }

    /// The whole of every object can be read with any two of the disks gone, and no disk holds a
    /// damaged shard. Ends the cluster's engine, which would repair what is taken away for this.
    pub async fn check_redundancy(&self, objects: &[(String, Bytes)]) {
        self.engine.shutdown().await;
        let engine = engine(self.metadata.clone(), &self.network, quick());
        assert_eq!(self.disks.iter().map(|disk| disk.damaged()).sum::<usize>(), 0);
        self.metadata.notices.store(false, std::sync::atomic::Ordering::Relaxed);
        for first in 0..self.disks.len() {
            for second in 0..first {
                let away = [first, second].map(|disk| (disk, self.disks[disk].wipe()));
                for (name, body) in objects {
                    let read = self.get_by(&engine, name, PlanWanted::Whole).await;
                    assert!(
                        read.expect("readable") == body[..],
                        "{name} without {first}, {second}"
                    );
                }
                for (disk, shards) in away {
                    self.disks[disk].restore(shards);
                }
            }
        }
    }

    /// Shards on all disks.
    pub fn shards(&self) -> usize {
        self.disks.iter().map(|disk| disk.shards()).sum()
    }

    /// Waits until something in the background is done.
    pub async fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..2000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain: {what}");
    }
}

/// An engine of a gateway that sees the metadata so.
pub fn engine(
    metadata: Arc<dyn Metadata>,
    network: &Arc<InProcess<ShardRequest, ShardResponse>>,
    options: EngineOptions,
) -> Engine {
    engine_at(Arc::new(SystemClock::new()), metadata, network, options)
}

fn engine_at(
    clock: Arc<dyn Clock>,
    metadata: Arc<dyn Metadata>,
    network: &Arc<InProcess<ShardRequest, ShardResponse>>,
    options: EngineOptions,
) -> Engine {
    Engine::new(EngineParts {
        metadata,
        shards: network.clone(),
        clock,
        entropy: Arc::new(SeededEntropy::new(1)),
        cluster_key: [7; 32],
        options,
    })
}

pub fn bucket() -> BucketName {
    BucketName::parse("bucket").expect("valid")
}

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name).expect("valid")
}

/// Bytes that differ from place to place.
pub fn body(length: usize) -> Bytes {
    let mut state = length as u64 ^ 0x9e37_79b9;
    let mut block = Vec::with_capacity(1 << 20);
    while block.len() < length.min(1 << 20) {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        block.extend_from_slice(&(state >> 11).to_le_bytes());
    }
    let mut body = Vec::with_capacity(length + (1 << 20));
    let mut number = 0u64;
    while body.len() < length {
        let at = body.len();
        body.extend_from_slice(&block);
        for place in (at..body.len().saturating_sub(8)).step_by(4093) {
            body[place] ^= number as u8;
            number += 1;
        }
    }
    body.truncate(length);
    Bytes::from(body)
}
