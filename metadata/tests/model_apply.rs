//! The state machine against a model: a few maps, driven by the same random commands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use metadata::apply::{Memory, apply};
use metadata::tables::extents::ExtentRecord;
use metadata::tables::{Record, TableId, Tables, View, Walk, garbage, repair};
use model::cluster_map::DiskState;
use model::coding::Coding;
use model::command::{
    Command, CommandEnvelope, CommandId, CommitObject, CompleteUpload, CopyObject, GarbageKey,
    LackingExtent, Outcome, PutPart, Refusal, RepairedExtent, SourceObject, WriteCondition,
};
use model::extent::{Extent, SlotSet};
use model::ids::{
    DiskId, DiskUuid, ExtentId, ManifestId, NodeId, PgId, ReplicaId, SessionId, UploadId,
};
use model::node::FEATURE_LEVEL;
use model::time::Timestamp;
use model::upload::{PartReference, Upload};
use model::version::{ETag, ObjectHeaders, Part};
use redb::Database;
use redb::backends::InMemoryBackend;
use wire::entropy::{Entropy, SeededEntropy};

use crate::harness::{CLUSTER, bucket, key};

const PART_BYTES: u64 = 5 * 1024 * 1024;

#[derive(Clone, Default)]
struct Object {
    manifest: ManifestId,
    extents: Vec<Extent>,
    etag: u8,
}

/// MD5 tag and extents by part number.
type Parts = BTreeMap<u16, (u8, Vec<Extent>)>;

/// What should be.
#[derive(Default)]
struct World {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<u8, (String, Parts)>,
    ever: BTreeMap<ExtentId, Extent>,
    next: u32,
    manifests: u64,
    uploads_made: u8,
}

impl World {
    fn references(&self) -> BTreeMap<ExtentId, u64> {
        let mut counts = BTreeMap::new();
        let objects = self.objects.values().flat_map(|object| &object.extents);
        let parts = self.uploads.values().flat_map(|(_, parts)| parts.values());
        for extent in objects.chain(parts.flat_map(|(_, extents)| extents)) {
            *counts.entry(extent.id).or_insert(0) += 1;
        }
        counts
    }

    fn new_extent(&mut self, entropy: &SeededEntropy, length: u64) -> Extent {
        self.next += 1;
        let id = ExtentId { pg: PgId(0), session: SessionId(1), sequence: self.next };
        let missing = SlotSet(if entropy.below(5) == 0 { 0b10_0001 } else { 0 });
        Extent { id, coding: Coding::parse("4+2").expect("valid"), length, missing, epoch: 0 }
    }

    fn new_manifest(&mut self) -> ManifestId {
        self.manifests += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.manifests.to_le_bytes());
        ManifestId(id)
    }

    fn any_key(entropy: &SeededEntropy) -> String {
        ["a", "a/b", "a\0", "b", "c"][entropy.below(5) as usize].to_owned()
    }

    fn holds(&self, name: &str, condition: WriteCondition) -> bool {
        let object = self.objects.get(name);
        match condition {
            WriteCondition::Always => true,
            WriteCondition::Absent => object.is_none(),
            WriteCondition::Present => object.is_some(),
            WriteCondition::Matches(etag) => object.is_some_and(|o| o.etag == etag.md5[0]),
        }
    }

    /// A random command, whether it should succeed, and what it does to the world then.
    fn step(&mut self, entropy: &SeededEntropy) -> (Command, bool) {
        let name = Self::any_key(entropy);
        let condition = match entropy.below(8) {
            0 => WriteCondition::Absent,
            1 => WriteCondition::Present,
            2 => WriteCondition::Matches(etag(entropy.below(4) as u8, None)),
            _ => WriteCondition::Always,
        };
        let tag = entropy.below(4) as u8;
        match entropy.below(14) {
            12 => self.find_lacking(entropy),
            13 => self.repair(entropy),
            0..=3 => {
                let extents: Vec<Extent> =
                    (0..entropy.below(3)).map(|_| self.new_extent(entropy, 77)).collect();
                let object = Object { manifest: self.new_manifest(), extents, etag: tag };
                let command = commit(&name, &object, condition);
                let holds = self.holds(&name, condition);
                if holds {
                    self.ever.extend(object.extents.iter().map(|e| (e.id, e.clone())));
                    self.objects.insert(name, object);
                }
                (command, holds)
            }
            4 => {
                let holds = self.holds(&name, condition);
                if holds {
                    self.objects.remove(&name);
                }
                (Command::DeleteObject { bucket: bucket(), key: key(&name), condition }, holds)
            }
            5 | 6 => {
                let from = Self::any_key(entropy);
                let source = self.objects.get(&from).cloned();
                let is_stale = source.is_none() || entropy.below(6) == 0;
                let manifest = self.new_manifest();
                let read = if is_stale {
                    ManifestId([9; 16])
                } else {
                    source.as_ref().expect("there").manifest
                };
                let command = Command::CopyObject(CopyObject {
                    source: SourceObject { bucket: bucket(), key: key(&from), manifest: read },
                    bucket: bucket(),
                    key: key(&name),
                    manifest,
                    headers: None,
                    condition,
                    record: None,
                });
                let holds = !is_stale && self.holds(&name, condition);
                if let (true, Some(source)) = (holds, source) {
                    self.objects.insert(name, Object { manifest, ..source });
                }
                (command, holds)
            }
            7 => {
                self.uploads_made += 1;
                let id = self.uploads_made;
                self.uploads.insert(id, (name.clone(), BTreeMap::new()));
                let upload = Upload {
                    id: UploadId([id; 16]),
                    initiated: Timestamp(0),
                    headers: ObjectHeaders::default(),
                    checksum: None,
                    owner: String::new(),
                };
                (Command::CreateUpload { bucket: bucket(), key: key(&name), upload }, true)
            }
            8 | 9 => self.put_part(entropy, &name, tag),
            10 => self.complete(entropy, &name, condition),
            _ => {
                let found = self.uploads.keys().next().copied();
                let id = found.unwrap_or(250);
                let name = self.uploads.remove(&id).map_or(name, |(name, _)| name);
                let upload = UploadId([id; 16]);
                (
                    Command::AbortUpload { bucket: bucket(), key: key(&name), upload },
                    found.is_some(),
                )
            }
        }
    }

    /// Some extent that was ever committed, or one that never was.
    fn any_extent(&self, entropy: &SeededEntropy) -> ExtentId {
        let known: Vec<ExtentId> = self.ever.keys().copied().collect();
        match known.len() {
            0 => ExtentId::default(),
            count => known[entropy.below(count as u64) as usize],
        }
    }

    fn find_lacking(&mut self, entropy: &SeededEntropy) -> (Command, bool) {
        let mut lacking = Vec::new();
        for _ in 0..3 {
            let extent = self.any_extent(entropy);
            let slots = SlotSet(entropy.below(64) as u32);
            lacking.push(LackingExtent { extent, slots });
            // Garbage lacks nothing, and nothing garbage gets an owner again.
            if let Some(known) = self.ever.get_mut(&extent) {
                known.missing = known.missing.union(slots);
            }
        }
        (Command::QueueRepair { lacking }, true)
    }

    fn repair(&mut self, entropy: &SeededEntropy) -> (Command, bool) {
        let mut repaired = Vec::new();
        for _ in 0..4 {
            let extent = self.any_extent(entropy);
            let slots = SlotSet(entropy.below(64) as u32);
            repaired.push(RepairedExtent {
                extent,
                slots,
                epoch: u64::MAX,
                moving_to: None,
                since: Timestamp::default(),
            });
            if let Some(known) = self.ever.get_mut(&extent) {
                known.missing = known.missing.without(slots);
            }
        }
        (Command::ShardsRepaired { repaired }, true)
    }

    fn put_part(&mut self, entropy: &SeededEntropy, name: &str, tag: u8) -> (Command, bool) {
        let ids: Vec<u8> = self.uploads.keys().copied().collect();
        let id = if ids.is_empty() { 250 } else { ids[entropy.below(ids.len() as u64) as usize] };
        let upload_key =
            self.uploads.get(&id).map_or_else(|| name.to_owned(), |(name, _)| name.clone());
        let number = entropy.below(20) as u16 + 1;
        let source = self.objects.get(name).cloned().filter(|_| entropy.below(3) == 0);
        let (extents, shared_with) = match source {
            Some(source) => {
                let manifest = source.manifest;
                let from = SourceObject { bucket: bucket(), key: key(name), manifest };
                (source.extents, Some(from))
            }
            None => (vec![self.new_extent(entropy, PART_BYTES)], None),
        };
        let part = Part {
            number,
            size: extents.iter().map(|extent| extent.length).sum(),
            md5: [tag; 16],
            checksum: None,
            extents: extents.clone(),
        };
        let is_there = if let Some((_, parts)) = self.uploads.get_mut(&id) {
            for extent in &extents {
                // What is shared is known already, with what it lacks by now.
                self.ever.entry(extent.id).or_insert_with(|| extent.clone());
            }
            parts.insert(number, (tag, extents));
            true
        } else {
            false
        };
        let upload = UploadId([id; 16]);
        let put = PutPart { bucket: bucket(), key: key(&upload_key), upload, part, shared_with };
        (Command::PutPart(put), is_there)
    }

    fn complete(
        &mut self,
        entropy: &SeededEntropy,
        name: &str,
        condition: WriteCondition,
    ) -> (Command, bool) {
        // The one with the most parts, so that some get pages of their own.
        let best = self.uploads.iter().max_by_key(|(_, (_, parts))| parts.len());
        let (id, (name, parts)) = best.map_or_else(
            || (250, (name.to_owned(), BTreeMap::new())),
            |(id, upload)| (*id, upload.clone()),
        );
        let skipped = entropy.below(40) as u16;
        let named: Vec<(u16, (u8, Vec<Extent>))> =
            parts.into_iter().filter(|(number, _)| *number != skipped).collect();
        let length = |extents: &Vec<Extent>| extents.iter().map(|e| e.length).sum::<u64>();
        let size = named.iter().map(|(_, (_, extents))| length(extents)).sum();
        let is_large_enough = named
            .split_last()
            .is_some_and(|(_, others)| others.iter().all(|(_, (_, e))| length(e) >= PART_BYTES));
        let wrong = entropy.below(8) == 0;
        let reference = |(number, (tag, _)): &(u16, (u8, Vec<Extent>))| PartReference {
            number: *number,
            md5: [tag ^ u8::from(wrong); 16],
            checksum: None,
        };
        let manifest = self.new_manifest();
        let command = Command::CompleteUpload(CompleteUpload {
            bucket: bucket(),
            key: key(&name),
            upload: UploadId([id; 16]),
            parts: named.iter().map(reference).collect(),
            manifest,
            etag: etag(7, Some(named.len() as u32)),
            size,
            checksum: None,
            condition,
            record: None,
        });
        let holds = self.uploads.contains_key(&id)
            && is_large_enough
            && !wrong
            && self.holds(&name, condition);
        if holds {
            self.uploads.remove(&id);
            let extents = named.into_iter().flat_map(|(_, (_, extents))| extents).collect();
            self.objects.insert(name, Object { manifest, extents, etag: 7 });
        }
        (command, holds)
    }
}

fn etag(tag: u8, parts: Option<u32>) -> ETag {
    ETag { md5: [tag; 16], parts }
}

fn commit(name: &str, object: &Object, condition: WriteCondition) -> Command {
    let size = object.extents.iter().map(|extent| extent.length).sum();
    let extents = object.extents.clone();
    let part = Part { number: 0, size, md5: [object.etag; 16], checksum: None, extents };
    Command::CommitObject(CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: object.manifest,
        size,
        etag: etag(object.etag, None),
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: if size == 0 { Vec::new() } else { vec![part] },
        condition,
        record: None,
    })
}

/// What every history begins with that a release of this level began.
fn beginning(level: u32) -> Vec<Command> {
    let coding = Coding::parse("4+2").expect("valid");
    let mut commands =
        vec![Command::InitCluster { cluster: CLUSTER, coding, replicas: ReplicaId(3), level }];
    commands.extend((1..=6u8).map(|disk| Command::RegisterDisk {
        uuid: DiskUuid([disk; 16]),
        node: NodeId(1),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        path: String::new(),
    }));
    commands.push(Command::OpenSession { gateway: "g".to_owned() });
    commands.push(Command::CreateBucket {
        name: bucket(),
        owner: "me".to_owned(),
        location: String::new(),
    });
    commands
}

/// A random history of commands.
pub fn history(seed: u64, steps: usize) -> Vec<Command> {
    let entropy = SeededEntropy::new(seed);
    let mut world = World::default();
    let mut commands = beginning(FEATURE_LEVEL);
    commands.extend((0..steps).map(|_| world.step(&entropy).0));
    commands
}

/// A state machine without a disk.
pub struct Bare {
    database: Database,
    pub memory: Memory,
    pub digests: metadata::tables::Digests,
    /// When the last command was proposed.
    pub time: u64,
}

impl Bare {
    pub fn new() -> Self {
        Self::founded_at(FEATURE_LEVEL)
    }

    /// Made by the first release, which had no levels yet.
    pub fn of_first_release() -> Self {
        Self::founded_at(0)
    }

    fn founded_at(level: u32) -> Self {
        let database =
            Database::builder().create_with_backend(InMemoryBackend::new()).expect("made");
        let mut bare = Self {
            database,
            memory: Memory::default(),
            digests: metadata::tables::Digests::default(),
            time: 0,
        };
        let transaction = bare.database.begin_write().expect("begun");
        for table in TableId::ALL {
            let definition: redb::TableDefinition<'_, &[u8], &[u8]> =
                redb::TableDefinition::new(table.name());
            transaction.open_table(definition).expect("made");
        }
        transaction.commit().expect("committed");
        for command in beginning(level) {
            bare.apply(command);
        }
        bare
    }

    pub fn apply(&mut self, command: Command) -> Outcome {
        self.apply_as(CommandId::default(), 0, command)
    }

    pub fn apply_as(
        &mut self,
        id: CommandId,
        acknowledged_below: u64,
        command: Command,
    ) -> Outcome {
        self.time += 1000;
        let proposed = Timestamp(self.time);
        let envelope = CommandEnvelope { id, acknowledged_below, proposed, command };
        let transaction = self.database.begin_write().expect("begun");
        let mut tables = Tables::new(&transaction, self.digests);
        let outcome = apply(&mut tables, &mut self.memory, &envelope).expect("applied");
        self.memory.save(&mut tables).expect("saved");
        self.digests = tables.digests();
        drop(tables);
        transaction.commit().expect("committed");
        outcome
    }

    /// Writes a row that no command writes.
    pub fn set<R: Record>(&mut self, key: &[u8], record: &R) {
        let transaction = self.database.begin_write().expect("begun");
        let mut tables = Tables::new(&transaction, self.digests);
        tables.set(key, record).expect("written");
        self.digests = tables.digests();
        drop(tables);
        transaction.commit().expect("committed");
    }

    pub fn view(&self) -> View {
        View::new(&self.database).expect("begun")
    }

    pub fn extents(&self) -> BTreeMap<ExtentId, ExtentRecord> {
        let mut extents = BTreeMap::new();
        let collect = |key: &[u8], value: &[u8]| {
            let record = minicbor::decode(value).expect("whole");
            extents.insert(ExtentId::from_key(key).expect("whole"), record);
            Ok(Walk::On)
        };
        self.view().walk(TableId::Extents, b"", b"", collect).expect("walked");
        extents
    }

    pub fn garbage(&self) -> Vec<GarbageKey> {
        let mut keys = Vec::new();
        let collect = |key: &[u8], _: &[u8]| {
            keys.push(garbage::read_key(key).expect("whole"));
            Ok(Walk::On)
        };
        self.view().walk(TableId::Garbage, b"", b"", collect).expect("walked");
        keys
    }

    fn repairs(&self) -> BTreeSet<ExtentId> {
        self.queue().into_keys().collect()
    }

    /// Priority and lacking slots of what is in the repair queue.
    pub fn queue(&self) -> BTreeMap<ExtentId, (u8, SlotSet)> {
        let mut queue = BTreeMap::new();
        let collect = |key: &[u8], value: &[u8]| {
            let cursor = repair::read_key(key).expect("whole");
            let row: repair::Repair = minicbor::decode(value).expect("whole");
            let before = queue.insert(cursor.extent, (cursor.priority, row.lacking));
            assert_eq!(before, None, "an extent is queued once");
            Ok(Walk::On)
        };
        self.view().walk(TableId::Repair, b"", b"", collect).expect("walked");
        queue
    }

    fn check(&self, world: &World) {
        let references = world.references();
        let extents = self.extents();
        for (id, record) in &extents {
            assert_eq!(record.references, references.get(id).copied().unwrap_or(0), "{id}");
        }
        assert!(references.keys().all(|id| extents.contains_key(id)));
        let garbage: BTreeSet<ExtentId> = self.garbage().iter().map(|key| key.extent).collect();
        let unowned: BTreeSet<ExtentId> =
            extents.keys().filter(|id| !references.contains_key(id)).copied().collect();
        assert_eq!(garbage, unowned);
        let lacking: BTreeMap<ExtentId, (u8, SlotSet)> = references
            .keys()
            .filter_map(|id| Some((*id, world.ever.get(id)?.missing)))
            .filter(|(_, missing)| !missing.is_empty())
            .map(|(id, missing)| (id, (128 + 2 - missing.len() as u8, missing)))
            .collect();
        assert_eq!(self.queue(), lacking);
        for (id, record) in &extents {
            let queued = lacking.get(id).map(|(_, missing)| *missing);
            assert_eq!(record.lacking, queued.unwrap_or_default(), "{id}");
        }
        assert_eq!(self.view().digests().expect("read"), self.digests);
        assert_eq!(self.memory.counters.objects, world.objects.len() as u64);
    }
}

#[test]
fn random_histories_end_as_the_model_says() {
    for seed in 0..12 {
        let entropy = SeededEntropy::new(seed);
        let (mut bare, mut world) = (Bare::new(), World::default());
        for step in 0..300 {
            let (command, should_succeed) = world.step(&entropy);
            let outcome = bare.apply(command.clone());
            let succeeded = !matches!(outcome, Outcome::Refused(_));
            assert_eq!(
                succeeded, should_succeed,
                "seed {seed} step {step}: {command:?} {outcome:?}"
            );
            if step % 20 == 0 {
                bare.check(&world);
            }
        }
        bare.check(&world);
        // Everything deleted and collected leaves nothing.
        for name in world.objects.keys().cloned().collect::<Vec<_>>() {
            let condition = WriteCondition::Always;
            bare.apply(Command::DeleteObject { bucket: bucket(), key: key(&name), condition });
        }
        for (id, (name, _)) in &world.uploads {
            let upload = UploadId([*id; 16]);
            bare.apply(Command::AbortUpload { bucket: bucket(), key: key(name), upload });
        }
        let collected = bare.garbage();
        bare.apply(Command::CollectGarbage { collected });
        assert!(
            bare.extents().is_empty() && bare.garbage().is_empty() && bare.repairs().is_empty()
        );
        assert_eq!(bare.digests.0[TableId::Pages as usize].rows, 0);
        assert_eq!(bare.digests.0[TableId::Parts as usize].rows, 0);
        assert_eq!(bare.memory.counters.object_bytes, 0);
        assert_eq!(bare.apply(Command::DeleteBucket { name: bucket() }), Outcome::Done);
    }
}

#[test]
fn memory_is_rebuilt_from_the_tables() {
    let mut bare = Bare::new();
    let id = CommandId { session: SessionId(1), sequence: 1 };
    bare.apply_as(id, 0, Command::AllocateReplica);
    let loaded = Memory::load(&bare.view(), Arc::new(RwLock::default())).expect("loaded");
    assert_eq!(loaded.counters, bare.memory.counters);
    assert_eq!(loaded.directory().map, bare.memory.directory().map);
    assert_eq!(loaded.directory().buckets, bare.memory.directory().buckets);
    assert!(loaded.is_open(SessionId(1)));
    let again = CommandEnvelope {
        id,
        acknowledged_below: 0,
        proposed: Timestamp(0),
        command: Command::AllocateReplica,
    };
    assert_eq!(loaded.recall(&again), Some(Outcome::ReplicaAllocated(ReplicaId(4))));
}

#[test]
fn a_retried_command_has_the_effect_of_one() {
    let mut bare = Bare::new();
    let id = |sequence| CommandId { session: SessionId(1), sequence };
    let delete = || Command::DeleteObject {
        bucket: bucket(),
        key: key("a"),
        condition: WriteCondition::Always,
    };
    let object = Object { manifest: ManifestId([3; 16]), extents: Vec::new(), etag: 1 };
    let put = commit("a", &object, WriteCondition::Absent);
    let first = bare.apply_as(id(1), 0, put.clone());
    assert!(matches!(first, Outcome::Committed(_)));
    assert_eq!(bare.apply_as(id(1), 0, put.clone()), first);
    assert_eq!(bare.apply_as(id(2), 0, delete()), Outcome::Deleted { existed: true });
    // A late copy must not write again what was deleted.
    assert_eq!(bare.apply_as(id(1), 0, put.clone()), first);
    assert_eq!(bare.apply_as(id(3), 3, delete()), Outcome::Deleted { existed: false });
    let refused = Outcome::Refused(Refusal::InvalidCommand);
    assert_eq!(bare.apply_as(id(1), 0, put.clone()), refused);
    assert_eq!(bare.apply_as(id(3 + 4096), 3, put.clone()), refused);
    bare.apply(Command::EndSession { session: SessionId(1) });
    assert_eq!(bare.apply_as(id(4), 0, put), Outcome::Refused(Refusal::SessionEnded));
}

#[test]
fn extents_of_ended_sessions_and_known_ids_are_refused() {
    let entropy = SeededEntropy::new(1);
    let (mut bare, mut world) = (Bare::new(), World::default());
    let object = |world: &mut World| Object {
        manifest: world.new_manifest(),
        extents: vec![world.new_extent(&entropy, 5)],
        etag: 1,
    };
    let first = object(&mut world);
    let done = bare.apply(commit("a", &first, WriteCondition::Always));
    // The same commit again is recognised by its extents (I-5); another with them is refused.
    assert_eq!(bare.apply(commit("a", &first, WriteCondition::Absent)), done);
    let other = Object { manifest: world.new_manifest(), ..first };
    let refused = Outcome::Refused(Refusal::InvalidCommand);
    assert_eq!(bare.apply(commit("b", &other, WriteCondition::Always)), refused);
    let late = object(&mut world);
    assert_eq!(
        bare.apply(Command::OpenSession { gateway: "g".to_owned() }),
        Outcome::SessionOpened(SessionId(2))
    );
    let ended = Outcome::Refused(Refusal::SessionEnded);
    assert_eq!(bare.apply(commit("c", &late, WriteCondition::Always)), ended);
}

#[test]
fn a_completion_is_answered_the_same_for_a_week() {
    let entropy = SeededEntropy::new(2);
    let (mut bare, mut world) = (Bare::new(), World::default());
    let mut complete = |bare: &mut Bare, id: u8| {
        let upload = Upload {
            id: UploadId([id; 16]),
            initiated: Timestamp(0),
            headers: ObjectHeaders::default(),
            checksum: None,
            owner: String::new(),
        };
        bare.apply(Command::CreateUpload { bucket: bucket(), key: key("k"), upload });
        let extents = vec![world.new_extent(&entropy, 9)];
        let part = Part { number: 1, size: 9, md5: [1; 16], checksum: None, extents };
        let upload = UploadId([id; 16]);
        let (bucket, key) = (bucket(), key("k"));
        bare.apply(Command::PutPart(PutPart {
            bucket: bucket.clone(),
            key: key.clone(),
            upload,
            part,
            shared_with: None,
        }));
        Command::CompleteUpload(CompleteUpload {
            bucket,
            key,
            upload,
            parts: vec![PartReference { number: 1, md5: [1; 16], checksum: None }],
            manifest: world.new_manifest(),
            etag: etag(id, Some(1)),
            size: 9,
            checksum: None,
            condition: WriteCondition::Always,
            record: None,
        })
    };
    let first = complete(&mut bare, 1);
    let done = bare.apply(first.clone());
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
    let second = complete(&mut bare, 2);
    bare.apply(second);
    assert_eq!(bare.apply(first.clone()), done);
    bare.time += 8 * 24 * 3600 * 1_000_000_000;
    let third = complete(&mut bare, 3);
    bare.apply(third);
    assert_eq!(bare.apply(first), Outcome::Refused(Refusal::NoSuchUpload));
}

#[test]
fn disks_and_repairs() {
    let entropy = SeededEntropy::new(3);
    let (mut bare, mut world) = (Bare::new(), World::default());
    let epoch = bare.memory.directory().map.as_ref().expect("made").epoch;
    let down = Command::SetDiskState { disk: DiskId(2), state: DiskState::Down };
    assert_eq!(bare.apply(down), Outcome::Done);
    {
        let map = bare.memory.directory().map.clone().expect("made");
        assert!(map.epoch > epoch && !map.open_pgs(&[]).is_empty());
    }
    let none = Command::SetDiskState { disk: DiskId(9), state: DiskState::Up };
    assert_eq!(bare.apply(none), Outcome::Refused(Refusal::NoSuchDisk));
    let extent = Extent { missing: SlotSet(1), ..world.new_extent(&entropy, 5) };
    let id = extent.id;
    let object = Object { manifest: ManifestId([1; 16]), extents: vec![extent], etag: 0 };
    bare.apply(commit("a", &object, WriteCondition::Always));
    assert_eq!(bare.repairs(), BTreeSet::from([id]));
    let lacking = vec![
        LackingExtent { extent: id, slots: SlotSet(0b1111_0100) },
        LackingExtent { extent: ExtentId::default(), slots: SlotSet(1) },
    ];
    bare.apply(Command::QueueRepair { lacking });
    // Slots beyond the coding's width are no slots.
    assert_eq!(bare.extents()[&id].lacking, SlotSet(0b11_0101));
    assert_eq!(bare.repairs(), BTreeSet::from([id]));
    bare.apply(Command::DeleteObject {
        bucket: bucket(),
        key: key("a"),
        condition: WriteCondition::Always,
    });
    assert!(bare.repairs().is_empty());
}

#[test]
fn repaired_slots_leave_the_queue_and_no_others() {
    let entropy = SeededEntropy::new(4);
    let (mut bare, mut world) = (Bare::new(), World::default());
    let extent = Extent { missing: SlotSet(0b11), ..world.new_extent(&entropy, 5) };
    let id = extent.id;
    let object = Object { manifest: ManifestId([1; 16]), extents: vec![extent], etag: 0 };
    bare.apply(commit("a", &object, WriteCondition::Always));
    assert_eq!(bare.queue()[&id], (128, SlotSet(0b11)));
    let repaired = |extent, slots| Command::ShardsRepaired {
        repaired: vec![RepairedExtent {
            extent,
            slots: SlotSet(slots),
            epoch: u64::MAX,
            moving_to: None,
            since: Timestamp::default(),
        }],
    };
    // A slot that lacks nothing, and an extent that isn't there.
    let digests = bare.digests.0[TableId::Repair as usize];
    assert_eq!(bare.apply(repaired(id, 0b100)), Outcome::Done);
    assert_eq!(bare.apply(repaired(ExtentId::default(), 1)), Outcome::Done);
    assert_eq!(bare.digests.0[TableId::Repair as usize], digests);
    assert_eq!(bare.apply(repaired(id, 0b110)), Outcome::Done);
    assert_eq!(bare.queue()[&id], (129, SlotSet(0b1)), "less urgent now");
    for _ in 0..2 {
        assert_eq!(bare.apply(repaired(id, 0b1)), Outcome::Done);
        assert!(bare.queue().is_empty() && bare.extents()[&id].lacking.is_empty());
    }
    // What is lost again is queued again.
    let lacking = vec![LackingExtent { extent: id, slots: SlotSet(1) }];
    bare.apply(Command::QueueRepair { lacking });
    assert_eq!(bare.queue()[&id], (129, SlotSet(1)));
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}
