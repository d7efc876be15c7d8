//! Metadata in memory: what the engine needs of it, and nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use engine::Metadata;
use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::coding::Coding;
use model::command::{Command, Committed, GarbageKey, LackingExtent, Outcome, Refusal};
use model::extent::Extent;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, ManifestId, NodeId, PgId, SessionId};
use model::names::ObjectKey;
use model::placement::pgs_to_add;
use model::query::{Answer, GarbageItem, MetadataError, ObjectFound, PlannedExtent, Query};
use model::time::Timestamp;
use model::version::{Part, Parts, Version};
use wire::BoxFuture;

use super::disk::FakeDisk;

pub struct FakeMetadata {
    disks: Vec<Arc<FakeDisk>>,
    state: Mutex<State>,
    sequence: AtomicU32,
    /// Whether dead disks are marked down as soon as the map is asked for.
    pub notices: AtomicBool,
    /// What the next commit is answered with, in place of its outcome.
    pub next_commit: Mutex<Option<Result<Outcome, MetadataError>>>,
}

struct State {
    map: ClusterMap,
    objects: BTreeMap<ObjectKey, Version>,
    pub parts: Vec<Part>,
    garbage: BTreeMap<GarbageKey, GarbageItem>,
    repairs: Vec<LackingExtent>,
    committed: BTreeSet<ExtentId>,
}

impl FakeMetadata {
    pub fn new(disks: Vec<Arc<FakeDisk>>, coding: &str) -> Self {
        let coding = Coding::parse(coding).expect("valid");
        let disk = |id: u32| Disk {
            id: DiskId(id),
            uuid: DiskUuid([id as u8 + 1; 16]),
            node: NodeId(id),
            rack: String::new(),
            zone: String::new(),
            weight: 1,
            state: DiskState::Up,
            path: String::new(),
        };
        let records = (0..disks.len() as u32).map(disk).collect();
        let cluster = ClusterId([1; 16]);
        let mut map = ClusterMap { epoch: 1, cluster, coding, disks: records, pgs: Vec::new() };
        map.pgs = pgs_to_add(&map);
        assert!(!map.pgs.is_empty());
        let state = State {
            map,
            objects: BTreeMap::new(),
            parts: Vec::new(),
            garbage: BTreeMap::new(),
            repairs: Vec::new(),
            committed: BTreeSet::new(),
        };
        Self {
            disks,
            state: Mutex::new(state),
            sequence: AtomicU32::new(1),
            notices: AtomicBool::new(true),
            next_commit: Mutex::default(),
        }
    }

    pub fn map(&self) -> ClusterMap {
        self.state.lock().expect("no panic").map.clone()
    }

    pub fn set_disk(&self, disk: u32, to: DiskState) {
        let mut state = self.state.lock().expect("no panic");
        set_disk(&mut state.map, DiskId(disk), to);
    }

    pub fn repairs(&self) -> Vec<LackingExtent> {
        self.state.lock().expect("no panic").repairs.clone()
    }

    pub fn garbage(&self) -> usize {
        self.state.lock().expect("no panic").garbage.len()
    }

    pub fn parts(&self) -> Vec<Part> {
        self.state.lock().expect("no panic").parts.clone()
    }

    fn notice(&self, state: &mut State) {
        for (id, disk) in (0u32..).zip(&self.disks) {
            let known = state.map.disks[id as usize].state;
            if disk.is_dead() && known == DiskState::Up && self.notices.load(Ordering::Relaxed) {
                set_disk(&mut state.map, DiskId(id), DiskState::Down);
            }
        }
    }

    fn answer(&self, query: Query) -> Result<Answer, MetadataError> {
        let mut state = self.state.lock().expect("no panic");
        Ok(match query {
            Query::ClusterMap { known_epoch } => {
                self.notice(&mut state);
                let newer = state.map.epoch != known_epoch;
                Answer::ClusterMap(newer.then(|| state.map.clone()))
            }
            Query::Object { key, plan, .. } => match state.objects.get(&key) {
                None => Answer::Refused(Refusal::NoSuchKey),
                Some(version) => {
                    let version = version.clone();
                    let mut offset = 0;
                    let Parts::Inline(parts) = &version.parts else { unreachable!() };
                    let extents = parts.iter().flat_map(|part| &part.extents);
                    let extents = extents
                        .map(|extent| {
                            let planned = PlannedExtent { offset, extent: extent.clone() };
                            offset += extent.length;
                            planned
                        })
                        .collect();
                    let range = plan.resolve(version.size);
                    Answer::Object(ObjectFound { version, range, extents })
                }
            },
            Query::Garbage { limit, .. } => {
                Answer::Garbage(state.garbage.values().take(limit as usize).cloned().collect())
            }
            _ => return Err(MetadataError::Unavailable),
        })
    }

    fn apply(&self, command: Command) -> Result<Outcome, MetadataError> {
        if matches!(command, Command::CommitObject(_))
            && let Some(answer) = self.next_commit.lock().expect("no panic").take()
        {
            return answer;
        }
        let mut state = self.state.lock().expect("no panic");
        Ok(match command {
            Command::CommitObject(commit) => {
                let extents: Vec<Extent> =
                    commit.parts.iter().flat_map(|part| part.extents.clone()).collect();
                assert!(commit.parts.iter().all(Part::is_valid));
                for extent in &extents {
                    assert!(state.committed.insert(extent.id), "an extent has one writer");
                }
                let version = Version {
                    manifest: commit.manifest,
                    size: commit.size,
                    etag: commit.etag,
                    modified: Timestamp(1),
                    headers: commit.headers,
                    checksum: commit.checksum,
                    parts: Parts::Inline(commit.parts),
                };
                let old = state.objects.insert(commit.key, version);
                throw_away(&mut state, old);
                committed(commit.etag)
            }
            Command::DeleteObject { key, .. } => {
                let old = state.objects.remove(&key);
                let existed = old.is_some();
                throw_away(&mut state, old);
                Outcome::Deleted { existed }
            }
            Command::PutPart(put) => {
                let etag = model::version::ETag { md5: put.part.md5, parts: None };
                state.parts.push(put.part);
                committed(etag)
            }
            Command::QueueRepair { lacking } => {
                state.repairs.extend(lacking);
                Outcome::Done
            }
            Command::CollectGarbage { collected } => {
                for key in collected {
                    assert!(state.garbage.remove(&key).is_some());
                }
                Outcome::Done
            }
            _ => return Err(MetadataError::Unavailable),
        })
    }
}

fn committed(etag: model::version::ETag) -> Outcome {
    Outcome::Committed(Committed { etag, modified: Timestamp(1), checksum: None })
}

fn throw_away(state: &mut State, old: Option<Version>) {
    let Some(Version { parts: Parts::Inline(parts), manifest: ManifestId(_), .. }) = old else {
        return;
    };
    for extent in parts.into_iter().flat_map(|part| part.extents) {
        let key = GarbageKey { since: Timestamp(0), extent: extent.id };
        let item = GarbageItem { key, coding: extent.coding, length: extent.length };
        state.garbage.insert(key, item);
    }
}

fn set_disk(map: &mut ClusterMap, disk: DiskId, to: DiskState) {
    map.disk_mut(disk).expect("in the map").state = to;
    let more = pgs_to_add(map);
    map.pgs.extend(more);
    map.epoch += 1;
}

impl Metadata for FakeMetadata {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Box::pin(async move { self.answer(query) })
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move { self.apply(command) })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { Ok(ExtentId { pg, session: SessionId(1), sequence }) })
    }
}
