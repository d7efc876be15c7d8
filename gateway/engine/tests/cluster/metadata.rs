//! Metadata in memory: what the engine needs of it, and nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use engine::Metadata;
use model::cluster_map::{ClusterMap, Disk, DiskState, Standing};
use model::coding::Coding;
use model::command::{Command, Committed, GarbageKey, LackingExtent, Outcome, Refusal};
use model::extent::{Extent, SlotSet};
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, ManifestId, NodeId, PgId, SessionId};
use model::names::ObjectKey;
use model::node::{Job, Lease};
use model::placement::pgs_to_add;
use model::query::{
    Answer, GarbageItem, MetadataError, ObjectFound, ObjectPage, ObjectSummary, PlannedExtent,
    Query,
};
use model::time::Timestamp;
use model::upkeep::{ExtentEntry, ExtentPage, ExtentState, RepairCursor, RepairItem, RepairPage};
use model::version::{Part, Parts, Version};
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};

use super::disk::FakeDisk;

pub struct FakeMetadata {
    disks: Vec<Arc<FakeDisk>>,
    clock: SystemClock,
    state: Mutex<State>,
    sequence: AtomicU32,
    /// Whether dead disks are marked down as soon as the map is asked for.
    pub notices: AtomicBool,
    /// What the next commit is answered with, in place of its outcome.
    pub next_commit: Mutex<Option<Result<Outcome, MetadataError>>>,
}

/// The writer session of extents that the tables don't name.
#[derive(Default)]
enum Session {
    #[default]
    Open,
    Ended,
    /// These tables never opened it.
    Unknown,
}

struct State {
    map: ClusterMap,
    objects: BTreeMap<ObjectKey, Version>,
    pub parts: Vec<Part>,
    garbage: BTreeMap<GarbageKey, GarbageItem>,
    /// All that was ever told.
    repairs: Vec<LackingExtent>,
    /// What lacks shards now.
    lacking: BTreeMap<ExtentId, SlotSet>,
    committed: BTreeSet<ExtentId>,
    session: Session,
    leases: BTreeMap<(Job, Option<NodeId>), Lease>,
    /// Whether nothing is answered.
    is_down: bool,
    /// Goes down at the next command of this kind.
    goes_down_at_repaired: bool,
    /// Whether the state of no extent is told, while all else is answered.
    hides_states: bool,
    asked: Asked,
}

/// How often what was asked for: signs of how far background work has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Anything at all, answered or not.
    pub anything: usize,
    /// The state of extents, answered.
    pub states: usize,
    /// The state of extents, in vain.
    pub hidden_states: usize,
    /// What is to be collected.
    pub garbage: usize,
    /// The first extents of the first PG: a comparison of all PGs begins.
    pub passes: usize,
}

impl State {
    /// Every extent that has an owner, with what it lacks now.
    fn extents(&self) -> Vec<Extent> {
        let versions = self.objects.values().map(|version| match &version.parts {
            Parts::Inline(parts) => parts,
            Parts::Paged(_) => unreachable!(),
        });
        let parts = versions.flatten().chain(&self.parts);
        let records = self.objects.values().filter_map(|version| version.record.as_ref());
        parts
            .flat_map(|part| &part.extents)
            .chain(records)
            .map(|extent| {
                let missing = self.lacking.get(&extent.id).copied().unwrap_or_default();
                Extent { missing, ..extent.clone() }
            })
            .collect()
    }

    fn state_of(&self, id: ExtentId) -> ExtentState {
        if self.extents().iter().any(|extent| extent.id == id) {
            ExtentState::Owned
        } else if self.garbage.keys().any(|key| key.extent == id) {
            ExtentState::Garbage
        } else {
            match self.session {
                Session::Open => ExtentState::InFlight,
                Session::Ended => ExtentState::Ownerless,
                Session::Unknown => ExtentState::Foreign,
            }
        }
    }

    fn repairs_page(&self, after: Option<RepairCursor>, limit: u32) -> RepairPage {
        let known = self.extents();
        let mut all: Vec<(RepairCursor, RepairItem)> = Vec::new();
        for extent in known.into_iter().filter(|extent| !extent.missing.is_empty()) {
            let spare = i16::from(extent.coding.parity()) - extent.missing.len() as i16;
            let priority = (128 + spare) as u8;
            all.push((RepairCursor { priority, extent: extent.id }, RepairItem { extent, spare }));
        }
        all.sort_by_key(|(cursor, _)| *cursor);
        let total = all.len() as u64;
        all.retain(|(cursor, _)| after.is_none_or(|after| *cursor > after));
        let more = all.len() > limit as usize;
        all.truncate(limit as usize);
        let next = all.last().filter(|_| more).map(|(cursor, _)| *cursor);
        RepairPage { total, items: all.into_iter().map(|(_, item)| item).collect(), next }
    }
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
            standing: Standing::default(),
        };
        let records = (0..disks.len() as u32).map(disk).collect();
        let cluster = ClusterId([1; 16]);
        let mut map = ClusterMap { disks: records, ..ClusterMap::new(cluster, coding) };
        map.pgs = pgs_to_add(&map);
        assert!(!map.pgs.is_empty());
        let state = State {
            map,
            objects: BTreeMap::new(),
            parts: Vec::new(),
            garbage: BTreeMap::new(),
            repairs: Vec::new(),
            lacking: BTreeMap::new(),
            committed: BTreeSet::new(),
            session: Session::Open,
            leases: BTreeMap::new(),
            is_down: false,
            goes_down_at_repaired: false,
            hides_states: false,
            asked: Asked::default(),
        };
        Self {
            disks,
            clock: SystemClock::new(),
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

    /// A disk is on another node from now on.
    pub fn move_disk(&self, disk: u32, node: u32) {
        let mut state = self.state.lock().expect("no panic");
        state.map.disk_mut(DiskId(disk)).expect("in the map").node = NodeId(node);
        state.map.epoch += 1;
    }

    /// Who holds the lease of a job, by the last command for it.
    pub fn lease(&self, job: Job) -> Option<Lease> {
        self.state.lock().expect("no panic").leases.get(&(job, None)).copied()
    }

    pub fn repairs(&self) -> Vec<LackingExtent> {
        self.state.lock().expect("no panic").repairs.clone()
    }

    /// The repair queue.
    pub fn queue(&self) -> BTreeMap<ExtentId, SlotSet> {
        self.state.lock().expect("no panic").lacking.clone()
    }

    /// Puts slots into the repair queue.
    pub fn queue_repair(&self, extent: ExtentId, slots: u32) {
        let mut state = self.state.lock().expect("no panic");
        let known = state.lacking.entry(extent).or_default();
        *known = known.union(SlotSet(slots));
    }

    /// Every extent that has an owner.
    pub fn extents(&self) -> Vec<Extent> {
        self.state.lock().expect("no panic").extents()
    }

    /// Ends the writer session: what isn't committed by now never is.
    pub fn end_session(&self) {
        self.state.lock().expect("no panic").session = Session::Ended;
    }

    /// As after tables were put back from an old copy.
    pub fn forget_session(&self) {
        self.state.lock().expect("no panic").session = Session::Unknown;
    }

    pub fn set_down(&self, is_down: bool) {
        self.state.lock().expect("no panic").is_down = is_down;
    }

    /// The next report of repaired shards isn't taken, nor anything after it.
    pub fn go_down_at_repaired(&self) {
        self.state.lock().expect("no panic").goes_down_at_repaired = true;
    }

    /// Everything is answered again.
    pub fn come_back(&self) {
        let mut state = self.state.lock().expect("no panic");
        (state.is_down, state.goes_down_at_repaired) = (false, false);
    }

    pub fn hide_states(&self, hides_states: bool) {
        self.state.lock().expect("no panic").hides_states = hides_states;
    }

    /// How often what was asked for so far.
    pub fn asked(&self) -> Asked {
        self.state.lock().expect("no panic").asked
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
        state.asked.anything += 1;
        if state.is_down {
            return Err(MetadataError::Unavailable);
        }
        Ok(match query {
            Query::Repairs { after, limit } => Answer::Repairs(state.repairs_page(after, limit)),
            Query::Extents { pg, after, limit } => {
                state.asked.passes += usize::from(pg == PgId(0) && after.is_none());
                let mut extents: Vec<Extent> = state.extents();
                extents.retain(|extent| {
                    extent.id.pg == pg && after.is_none_or(|after| extent.id > after)
                });
                extents.sort_by_key(|extent| extent.id);
                let more = extents.len() > limit as usize;
                extents.truncate(limit as usize);
                let next = extents.last().filter(|_| more).map(|extent| extent.id);
                let entry = |extent| ExtentEntry { extent, is_owned: true };
                Answer::Extents(ExtentPage {
                    extents: extents.into_iter().map(entry).collect(),
                    next,
                })
            }
            Query::ExtentStates { .. } if state.hides_states => {
                state.asked.hidden_states += 1;
                return Err(MetadataError::Overloaded);
            }
            Query::ExtentStates { extents } => {
                state.asked.states += 1;
                Answer::ExtentStates(extents.iter().map(|id| state.state_of(*id)).collect())
            }
            Query::Objects(list) => {
                let behind = state.objects.iter().filter(|(key, _)| key.as_str() > &*list.after);
                let all: Vec<ObjectSummary> = behind
                    .map(|(key, version)| ObjectSummary {
                        key: key.clone(),
                        size: version.size,
                        etag: version.etag,
                        modified: version.modified,
                        checksum: None,
                        class: None,
                    })
                    .collect();
                // Small pages, so that there are several.
                let objects: Vec<_> = all.iter().take(3).cloned().collect();
                let last = objects.last().filter(|_| all.len() > 3);
                let next = last.map(|object| object.key.as_str().to_owned());
                Answer::Objects(ObjectPage { objects, common_prefixes: Vec::new(), next })
            }
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
                state.asked.garbage += 1;
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
        if state.goes_down_at_repaired && matches!(command, Command::ShardsRepaired { .. }) {
            state.is_down = true;
        }
        if state.is_down {
            return Err(MetadataError::Unknown);
        }
        Ok(match command {
            Command::ShardsRepaired { repaired } => {
                for item in repaired {
                    let Some(slots) = state.lacking.get_mut(&item.extent) else { continue };
                    *slots = slots.without(item.slots);
                    if slots.is_empty() {
                        state.lacking.remove(&item.extent);
                    }
                }
                Outcome::Done
            }
            Command::CommitObject(commit) => {
                let extents = commit.parts.iter().flat_map(|part| part.extents.clone());
                let extents: Vec<Extent> = extents.chain(commit.record.clone()).collect();
                assert!(commit.parts.iter().all(Part::is_valid));
                for extent in &extents {
                    assert!(state.committed.insert(extent.id), "an extent has one writer");
                    if !extent.missing.is_empty() {
                        state.lacking.insert(extent.id, extent.missing);
                    }
                }
                let version = Version {
                    manifest: commit.manifest,
                    size: commit.size,
                    etag: commit.etag,
                    modified: Timestamp(1),
                    headers: commit.headers,
                    checksum: commit.checksum,
                    parts: Parts::Inline(commit.parts),
                    record: commit.record,
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
                let owned: BTreeSet<ExtentId> =
                    state.extents().iter().map(|extent| extent.id).collect();
                for item in lacking.iter().filter(|item| owned.contains(&item.extent)) {
                    let known = state.lacking.entry(item.extent).or_default();
                    *known = known.union(item.slots);
                }
                state.repairs.extend(lacking);
                Outcome::Done
            }
            Command::CollectGarbage { collected } => {
                for key in collected {
                    assert!(state.garbage.remove(&key).is_some());
                }
                Outcome::Done
            }
            Command::TakeLease { job, holder, duration_ms, node } => {
                let now = self.clock.now();
                let until = Timestamp(now.0 + u64::from(duration_ms) * 1_000_000);
                let lease =
                    state.leases.entry((job, node)).or_insert(Lease { job, holder, until, node });
                if lease.holder == holder || lease.until <= now {
                    *lease = Lease { job, holder, until, node };
                }
                Outcome::Leased(*lease)
            }
            _ => return Err(MetadataError::Unavailable),
        })
    }
}

fn committed(etag: model::version::ETag) -> Outcome {
    Outcome::Committed(Committed { etag, modified: Timestamp(1), checksum: None })
}

fn throw_away(state: &mut State, old: Option<Version>) {
    let Some(Version { parts: Parts::Inline(parts), manifest: ManifestId(_), record, .. }) = old
    else {
        return;
    };
    for extent in parts.into_iter().flat_map(|part| part.extents).chain(record) {
        state.lacking.remove(&extent.id);
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
    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        Box::pin(async move { Ok(SessionId(1)) })
    }
}

/// The same metadata, as another gateway sees it.
pub struct Gateway {
    pub metadata: Arc<FakeMetadata>,
    pub session: SessionId,
    /// Whether this gateway alone gets no answer.
    pub is_cut_off: AtomicBool,
}

impl Gateway {
    pub fn new(metadata: &Arc<FakeMetadata>, session: u64) -> Arc<Self> {
        let (metadata, session) = (Arc::clone(metadata), SessionId(session));
        Arc::new(Self { metadata, session, is_cut_off: AtomicBool::new(false) })
    }

    fn reach(&self) -> Result<(), MetadataError> {
        let is_cut_off = self.is_cut_off.load(Ordering::Relaxed);
        if is_cut_off { Err(MetadataError::Unavailable) } else { Ok(()) }
    }
}

impl Metadata for Gateway {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Box::pin(async move {
            self.reach()?;
            self.metadata.answer(query)
        })
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            self.reach()?;
            self.metadata.apply(command)
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        self.metadata.next_extent(pg)
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        Box::pin(async move { Ok(self.session) })
    }
}
