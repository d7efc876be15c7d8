//! The metadata in memory: the same answers as the real service, without Raft, tables or disks.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use model::bucket::Bucket;
use model::cluster_map::ClusterMap;
use model::command::{
    Command, Committed, CompleteUpload, Outcome, Refusal, SourceObject, WriteCondition,
};
use model::ids::{BucketId, ExtentId, PgId, SessionId, UploadId};
use model::names::{BucketName, ObjectKey};
use model::node::Lease;
use model::query::{
    Answer, ListObjects, MetadataError, ObjectFound, ObjectPage, ObjectPartPage, ObjectSummary,
    PartPage, PlanWanted, PlannedExtent, Query, UploadPage,
};
use model::recovery::Held;
use model::time::Timestamp;
use model::upkeep::{ExtentEntry, ExtentPage};
use model::upload::{Upload, UploadChecksum, UploadedPart};
use model::version::{Part, Parts, Version};
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};

type Place = (BucketName, ObjectKey);

type Uploading = (Upload, BTreeMap<u16, UploadedPart>);

#[derive(Default)]
struct Tables {
    buckets: BTreeMap<BucketName, Bucket>,
    objects: BTreeMap<Place, Version>,
    uploads: BTreeMap<(BucketName, ObjectKey, UploadId), Uploading>,
    completed: BTreeMap<UploadId, Committed>,
}

/// The metadata in memory.
pub struct MemoryMetadata {
    map: ClusterMap,
    tables: Mutex<Tables>,
    extents: AtomicU32,
    clock: SystemClock,
    /// Set to make every command's outcome unknown.
    pub silent: AtomicBool,
    /// Set to make it answer nobody: questions wait in vain.
    pub away: AtomicBool,
    /// Questions and commands that found it away.
    pub waiting: AtomicUsize,
    /// What is held.
    pub held: Mutex<Option<Held>>,
}

impl MemoryMetadata {
    pub fn new(map: ClusterMap) -> Self {
        let silent = AtomicBool::new(false);
        Self {
            map,
            tables: Mutex::default(),
            extents: AtomicU32::new(1),
            clock: SystemClock::new(),
            silent,
            away: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            held: Mutex::default(),
        }
    }

    fn answer(&self, query: Query) -> Result<Answer, Refusal> {
        let tables = self.tables.lock().expect("tables");
        match query {
            Query::Bucket { name } => tables.bucket(&name).cloned().map(Answer::Bucket),
            Query::Buckets { prefix, after, limit } => {
                let all = tables.buckets.values();
                let wanted = |bucket: &&Bucket| {
                    bucket.name.as_str().starts_with(&prefix)
                        && bucket.name.as_str() > after.as_str()
                };
                Ok(Answer::Buckets(all.filter(wanted).take(limit as usize).cloned().collect()))
            }
            Query::Object { bucket, key, plan } => {
                tables.bucket(&bucket)?;
                let version = tables.objects.get(&(bucket, key)).ok_or(Refusal::NoSuchKey)?;
                Ok(Answer::Object(plan_of(version.clone(), plan)))
            }
            Query::Objects(list) => tables.list(&list).map(Answer::Objects),
            Query::Upload { bucket, key, upload } => {
                tables.bucket(&bucket)?;
                tables.upload(bucket, key, upload).map(|(upload, _)| Answer::Upload(upload.clone()))
            }
            Query::Uploads(list) => {
                tables.bucket(&list.bucket)?;
                let all = tables.uploads.iter().filter(|((bucket, ..), _)| *bucket == list.bucket);
                let uploads = all.map(|((_, key, _), (upload, _))| (key.clone(), upload.clone()));
                let uploads = uploads.take(list.limit as usize).collect();
                Ok(Answer::Uploads(UploadPage { uploads, ..UploadPage::default() }))
            }
            Query::Parts { bucket, key, upload, after, limit } => {
                let (upload, parts) = tables.upload(bucket, key, upload)?;
                let behind = parts.range((Bound::Excluded(after), Bound::Unbounded));
                let parts: Vec<_> =
                    behind.clone().take(limit as usize).map(|(_, part)| part.clone()).collect();
                let truncated = behind.count() > parts.len();
                Ok(Answer::Parts(PartPage { upload: upload.clone(), parts, truncated }))
            }
            Query::ObjectParts { bucket, key, after, limit } => {
                let version = tables.objects.get(&(bucket, key)).ok_or(Refusal::NoSuchKey)?.clone();
                let behind = parts(&version).iter().filter(|part| part.number > after);
                let page: Vec<Part> = behind.clone().take(limit as usize).cloned().collect();
                let truncated = behind.count() > page.len();
                Ok(Answer::ObjectParts(ObjectPartPage { version, parts: page, truncated }))
            }
            Query::Garbage { .. } => Ok(Answer::Garbage(Vec::new())),
            Query::Repairs { .. } => Ok(Answer::Repairs(model::upkeep::RepairPage::default())),
            Query::Extents { pg, after, limit } => {
                let of = |version: &Version| parts(version).to_vec();
                let mut extents: Vec<ExtentEntry> = tables
                    .objects
                    .values()
                    .flat_map(of)
                    .flat_map(|part| part.extents)
                    .filter(|extent| extent.id.pg == pg && Some(extent.id) > after)
                    .map(|extent| ExtentEntry { extent, is_owned: true })
                    .collect();
                extents.sort_by_key(|entry| entry.extent.id);
                extents.dedup_by_key(|entry| entry.extent.id);
                let is_cut = extents.len() > limit as usize;
                extents.truncate(limit as usize);
                let next = extents.last().filter(|_| is_cut).map(|entry| entry.extent.id);
                Ok(Answer::Extents(ExtentPage { extents, next }))
            }
            Query::ToRecode { .. } => Ok(Answer::ToRecode(model::class::RecodePage::default())),
            Query::UnusedGroups => Ok(Answer::UnusedGroups(Vec::new())),
            Query::Trust => Ok(Answer::Trust(Box::default())),
            Query::Held => Ok(Answer::Held(self.held.lock().expect("held").clone())),
            Query::ExtentStates { extents } => {
                Ok(Answer::ExtentStates(vec![model::upkeep::ExtentState::Owned; extents.len()]))
            }
            Query::ClusterMap { known_epoch } => {
                let newer = known_epoch < self.map.epoch;
                Ok(Answer::ClusterMap(newer.then(|| self.map.clone())))
            }
        }
    }

    fn apply(&self, command: Command) -> Result<Outcome, Refusal> {
        let mut tables = self.tables.lock().expect("tables");
        let now = self.clock.now();
        match command {
            Command::CreateBucket { name, owner, location } => {
                if tables.buckets.contains_key(&name) {
                    return Err(Refusal::BucketAlreadyOwned);
                }
                let id = BucketId(tables.buckets.len() as u64 + 1);
                let recode = None;
                let bucket =
                    Bucket { id, name: name.clone(), created: now, owner, location, recode };
                tables.buckets.insert(name, bucket);
                Ok(Outcome::BucketCreated(id))
            }
            Command::DeleteBucket { name } => {
                tables.bucket(&name)?;
                let is_used = tables.objects.keys().any(|(bucket, _)| *bucket == name)
                    || tables.uploads.keys().any(|(bucket, ..)| *bucket == name);
                if is_used {
                    return Err(Refusal::BucketNotEmpty);
                }
                tables.buckets.remove(&name);
                Ok(Outcome::Done)
            }
            Command::CommitObject(commit) => {
                let version = Version {
                    manifest: commit.manifest,
                    size: commit.size,
                    etag: commit.etag,
                    modified: now,
                    headers: commit.headers,
                    checksum: commit.checksum,
                    parts: Parts::Inline(commit.parts),
                    record: None,
                };
                tables.replace((commit.bucket, commit.key), version, commit.condition)
            }
            Command::CopyObject(copy) => {
                let source = tables.source(&copy.source)?;
                let headers = copy.headers.unwrap_or(source.headers.clone());
                let version = Version { manifest: copy.manifest, modified: now, headers, ..source };
                tables.replace((copy.bucket, copy.key), version, copy.condition)
            }
            Command::DeleteObject { bucket, key, condition } => {
                tables.bucket(&bucket)?;
                let place = (bucket, key);
                tables.check(&place, condition)?;
                Ok(Outcome::Deleted { existed: tables.objects.remove(&place).is_some() })
            }
            Command::CreateUpload { bucket, key, upload } => {
                tables.bucket(&bucket)?;
                let upload = Upload { initiated: now, ..upload };
                tables.uploads.insert((bucket, key, upload.id), (upload, BTreeMap::new()));
                Ok(Outcome::Done)
            }
            Command::PutPart(put) => {
                if let Some(source) = &put.shared_with {
                    tables.source(source)?;
                }
                let part = put.part;
                let upload = tables.uploads.get_mut(&(put.bucket, put.key, put.upload));
                let (_, parts) = upload.ok_or(Refusal::NoSuchUpload)?;
                let committed = Committed {
                    etag: model::version::ETag { md5: part.md5, parts: None },
                    modified: now,
                    checksum: part.checksum.clone(),
                };
                parts.insert(part.number, UploadedPart { part, modified: now });
                Ok(Outcome::Committed(committed))
            }
            Command::CompleteUpload(complete) => tables.complete(complete, now),
            Command::AbortUpload { bucket, key, upload } => {
                let removed = tables.uploads.remove(&(bucket, key, upload));
                removed.map(|_| Outcome::Done).ok_or(Refusal::NoSuchUpload)
            }
            Command::TakeLease { job, holder, duration_ms, node } => {
                let until = Timestamp(now.0 + u64::from(duration_ms) * 1_000_000);
                Ok(Outcome::Leased(Lease { job, holder, until, node }))
            }
            Command::AdoptPgs { .. } => {
                let mut held = self.held.lock().expect("held");
                held.as_mut().ok_or(Refusal::NotHeld)?.has_pgs = true;
                Ok(Outcome::Done)
            }
            Command::ReleaseHeld { until } => {
                let released =
                    self.held.lock().expect("held").take_if(|held| held.until() == until);
                released.map(|_| Outcome::Done).ok_or(Refusal::NotHeld)
            }
            _ => Ok(Outcome::Done),
        }
    }
}

impl Tables {
    fn bucket(&self, name: &BucketName) -> Result<&Bucket, Refusal> {
        self.buckets.get(name).ok_or(Refusal::NoSuchBucket)
    }

    fn upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
    ) -> Result<&Uploading, Refusal> {
        self.uploads.get(&(bucket, key, upload)).ok_or(Refusal::NoSuchUpload)
    }

    fn source(&self, source: &SourceObject) -> Result<Version, Refusal> {
        let place = (source.bucket.clone(), source.key.clone());
        let version =
            self.objects.get(&place).filter(|version| version.manifest == source.manifest);
        version.cloned().ok_or(Refusal::SourceChanged)
    }

    fn check(&self, place: &Place, condition: WriteCondition) -> Result<(), Refusal> {
        let current = self.objects.get(place);
        match (condition, current) {
            (WriteCondition::Always, _)
            | (WriteCondition::Absent, None)
            | (WriteCondition::Present, Some(_)) => Ok(()),
            (WriteCondition::Matches(etag), Some(version)) if version.etag == etag => Ok(()),
            (WriteCondition::Matches(_) | WriteCondition::Present, None) => Err(Refusal::NoSuchKey),
            _ => Err(Refusal::PreconditionFailed),
        }
    }

    fn replace(
        &mut self,
        place: Place,
        version: Version,
        condition: WriteCondition,
    ) -> Result<Outcome, Refusal> {
        self.bucket(&place.0)?;
        self.check(&place, condition)?;
        let committed = Committed {
            etag: version.etag,
            modified: version.modified,
            checksum: version.checksum.clone(),
        };
        self.objects.insert(place, version);
        Ok(Outcome::Committed(committed))
    }

    fn complete(&mut self, complete: CompleteUpload, now: Timestamp) -> Result<Outcome, Refusal> {
        let name = (complete.bucket.clone(), complete.key.clone(), complete.upload);
        let Some((upload, parts)) = self.uploads.get(&name) else {
            let known = self.completed.get(&complete.upload);
            return known.cloned().map(Outcome::Committed).ok_or(Refusal::NoSuchUpload);
        };
        let named = complete.parts.iter().map(|reference| {
            let part = parts.get(&reference.number).map(|part| part.part.clone());
            let part = part.filter(|part| part.md5 == reference.md5);
            part.ok_or(Refusal::InvalidPart { number: reference.number })
        });
        let named = named.collect::<Result<Vec<Part>, Refusal>>()?;
        let version = Version {
            manifest: complete.manifest,
            size: complete.size,
            etag: complete.etag,
            modified: now,
            headers: upload.headers.clone(),
            checksum: complete.checksum,
            parts: Parts::Inline(named),
            record: None,
        };
        let outcome = self.replace((complete.bucket, complete.key), version, complete.condition)?;
        self.uploads.remove(&name);
        if let Outcome::Committed(committed) = &outcome {
            self.completed.insert(complete.upload, committed.clone());
        }
        Ok(outcome)
    }

    fn list(&self, list: &ListObjects) -> Result<ObjectPage, Refusal> {
        self.bucket(&list.bucket)?;
        let mut page = ObjectPage::default();
        let mut last = String::new();
        for ((bucket, key), version) in &self.objects {
            let name = key.as_str();
            if *bucket != list.bucket || !name.starts_with(&list.prefix) {
                continue;
            }
            let rest = &name[list.prefix.len()..];
            let cut = rest.find(&list.delimiter).filter(|_| !list.delimiter.is_empty());
            let entry = match cut {
                Some(at) => &name[..list.prefix.len() + at + list.delimiter.len()],
                None => name,
            };
            if entry <= list.after.as_str() || entry == last {
                continue;
            }
            if page.objects.len() + page.common_prefixes.len() == list.limit as usize {
                page.next = Some(last);
                break;
            }
            entry.clone_into(&mut last);
            if cut.is_some() {
                page.common_prefixes.push(entry.to_owned());
            } else {
                page.objects.push(ObjectSummary {
                    key: key.clone(),
                    size: version.size,
                    etag: version.etag,
                    modified: version.modified,
                    checksum: version.checksum.as_ref().map(|checksum| UploadChecksum {
                        algorithm: checksum.algorithm,
                        kind: checksum.kind,
                    }),
                    class: version.headers.class.clone(),
                });
            }
        }
        Ok(page)
    }
}

fn parts(version: &Version) -> &[Part] {
    match &version.parts {
        Parts::Inline(parts) => parts,
        Parts::Paged(_) => &[],
    }
}

fn plan_of(version: Version, plan: PlanWanted) -> ObjectFound {
    let mut offset = 0;
    let mut range = plan.resolve(version.size);
    let mut extents = Vec::new();
    for part in parts(&version) {
        if plan == PlanWanted::Part(part.number) {
            range = Some(offset..offset + part.size);
        }
        for extent in &part.extents {
            extents.push(PlannedExtent { offset, extent: extent.clone() });
            offset += extent.length;
        }
    }
    let wanted = range.clone().unwrap_or(0..0);
    extents.retain(|planned| {
        planned.offset < wanted.end && planned.offset + planned.extent.length > wanted.start
    });
    ObjectFound { version, range, extents }
}

impl MemoryMetadata {
    /// Waits while it is away, as a client does that looks for a leader; a command that waits isn't
    /// sent before there is one.
    async fn reach(&self) {
        if !self.away.load(Ordering::Relaxed) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while self.away.load(Ordering::Relaxed) {
            self.clock.sleep(Duration::from_millis(5)).await;
        }
    }
}

impl engine::Metadata for MemoryMetadata {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Box::pin(async move {
            self.reach().await;
            Ok(self.answer(query).unwrap_or_else(Answer::Refused))
        })
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            self.reach().await;
            let outcome = self.apply(command).unwrap_or_else(Outcome::Refused);
            let silent = self.silent.load(Ordering::Relaxed);
            if silent { Err(MetadataError::Unknown) } else { Ok(outcome) }
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        let sequence = self.extents.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(ExtentId { pg, session: SessionId(1), sequence })))
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        Box::pin(std::future::ready(Ok(SessionId(1))))
    }
}
