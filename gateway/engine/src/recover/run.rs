//! Carries out a recovery: extents, bodies, adoption.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::{TryStreamExt as _, stream};
use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome, PutPart, Refusal};
use model::extent::{Extent, SlotSet};
use model::ids::{ExtentId, ManifestId, UploadId};
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, MetadataError, ObjectFound, PlanWanted, PlannedExtent, Query};
use model::record::{RECORD_BYTES_MAX, RecoveryRecord};
use model::recovery::{AdoptObject, Held};
use model::time::Timestamp;
use model::upkeep::ExtentState;
use model::version::{ETag, ObjectHeaders, Part, Parts, Version};
use tokio::sync::watch;

use super::groups::adopt_groups;
use super::home::Carrier;
use super::plan::{Body, Found, Place, Plan, plan};
use super::records::read_record;
use super::report::{RecoverMeter, RecoverPhase, RecoverProblem};
use super::scan::{Scan, owner_of};
use super::{RecoverError, RecoverRequest};
use crate::pace::Pace;
use crate::read::ObjectReader;
use crate::scrub::extent_states;
use crate::shared::Shared;

/// Bodies that are read at once; the engine's budget of reads bounds their memory.
const BODIES_AT_ONCE: usize = 8;

/// Recovers until it is done or `stop` turns true.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    request: &RecoverRequest,
    meter: &RecoverMeter,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RecoverError> {
    let ordered = async {
        if stop.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left to order it.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        done = recover(shared, request, meter) => done,
        () = ordered => Err(RecoverError::Stopped),
    }
}

async fn recover(
    shared: &Arc<Shared>,
    request: &RecoverRequest,
    meter: &RecoverMeter,
) -> Result<(), RecoverError> {
    let held = held(shared).await?;
    let pace = Pace::new(Arc::clone(&shared.clock), request.bytes_per_second);
    adopt_groups(shared, request, &held, meter, &pace).await?;
    meter.change(|figures| figures.phase = RecoverPhase::Scan);
    let map = shared.map.refresh().await?;
    let mut scan = Scan::new(Carrier { shared, map: &map, held: &held, meter, pace: &pace });
    scan.list_groups(&request.lost_disks).await;
    let mut found = Vec::new();
    for pg in &map.pgs {
        found.extend(scan.unknown_extents(pg).await?);
    }
    let by_id = found.iter().map(|extent| (extent.id, extent.clone())).collect();
    let plan = plan(found);
    meter.change(|figures| {
        let parts: usize = plan.parts.values().map(BTreeMap::len).sum();
        figures.phase = RecoverPhase::Adopt;
        figures.bodies = (plan.objects.len() + plan.records.len() + parts) as u64;
        figures.superseded = plan.superseded;
    });
    let adoption = Adoption { shared, request, meter, map: &map, pace: &pace, by_id };
    adoption.all(plan).await?;
    meter.change(|figures| figures.phase = RecoverPhase::Done);
    Ok(())
}

async fn held(shared: &Shared) -> Result<Held, RecoverError> {
    match shared.metadata.query(Query::Held).await? {
        Answer::Held(Some(held)) => Ok(held),
        Answer::Held(None) => Err(RecoverError::NothingHeld),
        _ => Err(MetadataError::Unavailable.into()),
    }
}

/// Adoption under way.
struct Adoption<'a> {
    shared: &'a Arc<Shared>,
    request: &'a RecoverRequest,
    meter: &'a RecoverMeter,
    map: &'a ClusterMap,
    pace: &'a Pace,
    /// Every extent that was found.
    by_id: HashMap<ExtentId, Found>,
}

/// What is proposed for a place, with the time that decides between two.
enum Candidate {
    Body(Box<Body>),
    Record(Box<RecoveryRecord>, Box<Extent>),
}

impl Adoption<'_> {
    /// Records of what is known first: a body may drop the extents that they share. Then bodies, and
    /// the other records: a copy by reference shares the extents of what was there before.
    async fn all(&self, plan: Plan) -> Result<(), RecoverError> {
        for body in plan.incomplete {
            let Place { bucket, key } = body.place;
            let (part, reason) = (body.name.part, body.reason);
            self.meter.problem(RecoverProblem::Incomplete { bucket, key, part, reason });
        }
        let mut parts = plan.parts;
        let mut newest: BTreeMap<Place, (Timestamp, Candidate)> = BTreeMap::new();
        for body in plan.objects {
            let candidate = (body.started, Candidate::Body(Box::new(body.clone())));
            newest.insert(body.place, candidate);
        }
        let mut completed = Vec::new();
        for body in plan.records {
            let Some(record) = self.read_record(&body).await? else {
                self.unreadable(body.place);
                continue;
            };
            let place = Place {
                bucket: record.bucket.as_str().to_owned(),
                key: record.key.as_str().to_owned(),
            };
            if let Some(upload) = record.upload {
                parts.remove(&(place.clone(), upload));
                let (bucket, key) = (record.bucket.clone(), record.key.clone());
                completed.push((bucket, key, upload, record.manifest));
            }
            let (Some(extent), time) = (body.extents.into_iter().next(), record.written) else {
                continue;
            };
            let is_same = matches!(newest.get(&place), Some((_, Candidate::Body(body)))
                if body.name.manifest == record.manifest);
            if newest.get(&place).is_none_or(|(known, _)| is_same || *known < time) {
                let candidate = Candidate::Record(Box::new(record), Box::new(extent));
                let old = newest.insert(place, (time, candidate));
                let is_older = old.is_some() && !is_same;
                self.meter.change(|figures| figures.superseded += u64::from(is_older));
            } else {
                self.meter.change(|figures| figures.superseded += 1);
            }
        }
        let (mut bodies, mut records) = (Vec::new(), Vec::new());
        for (_, candidate) in newest.into_values() {
            match candidate {
                Candidate::Body(body) => bodies.push(body),
                Candidate::Record(record, extent) => records.push((record, extent)),
            }
        }
        records.sort_by_key(|(record, _)| record.written);
        let (of_known, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(record, _)| self.is_of_known(record));
        for (record, extent) in of_known {
            self.adopt_record(*record, *extent).await?;
        }
        stream::iter(bodies.into_iter().map(Ok))
            .try_for_each_concurrent(BODIES_AT_ONCE, |body| self.adopt_body(*body))
            .await?;
        for (record, extent) in others {
            self.adopt_record(*record, *extent).await?;
        }
        for (bucket, key, upload, manifest) in completed {
            self.end_upload(bucket, key, upload, manifest).await?;
        }
        for ((place, upload), parts) in parts {
            self.adopt_parts(place, upload, parts).await?;
        }
        Ok(())
    }

    /// Whether a record names extents, and the tables know them all.
    fn is_of_known(&self, record: &RecoveryRecord) -> bool {
        let mut extents = record.parts.iter().flat_map(|part| &part.extents).peekable();
        extents.peek().is_some() && extents.all(|extent| !self.by_id.contains_key(&extent.id))
    }

    /// A body that was put in one request.
    async fn adopt_body(&self, body: Body) -> Result<(), RecoverError> {
        let Some((bucket, key)) = self.names(&body.place) else { return Ok(()) };
        let Some(part) = self.digested(&body, 0).await else {
            self.unreadable(body.place);
            return Ok(());
        };
        let headers = self.headers(&body).await;
        let adopt = AdoptObject {
            bucket,
            owner: self.request.bucket_owner.clone(),
            key,
            manifest: body.name.manifest,
            size: part.size,
            etag: ETag { md5: part.md5, parts: None },
            headers: headers.clone().unwrap_or_default(),
            checksum: part.checksum.clone(),
            parts: vec![part],
            modified: body.started,
            record: None,
        };
        let place = (adopt.bucket.clone(), adopt.key.clone());
        if self.adopt(adopt).await? && headers.is_none() && !self.has_headers(place).await? {
            let Place { bucket, key } = body.place;
            self.meter.problem(RecoverProblem::WithoutHeaders { bucket, key });
        }
        Ok(())
    }

    /// Whether an object has headers: one that the tables knew elsewhere keeps its own.
    async fn has_headers(
        &self,
        (bucket, key): (BucketName, ObjectKey),
    ) -> Result<bool, MetadataError> {
        let query = Query::Object { bucket, key, plan: PlanWanted::Nothing };
        let Answer::Object(found) = self.shared.metadata.query(query).await? else {
            return Ok(false);
        };
        let headers = ObjectHeaders { class: None, ..found.version.headers };
        Ok(headers != ObjectHeaders::default())
    }

    /// The headers that the owner of the first extent has.
    async fn headers(&self, body: &Body) -> Option<ObjectHeaders> {
        let first = body.extents.first()?;
        owner_of(self.shared, self.map, first.id).await?.headers
    }

    /// What a record names.
    async fn adopt_record(
        &self,
        record: RecoveryRecord,
        extent: Extent,
    ) -> Result<(), RecoverError> {
        let Some(parts) = self.as_they_are(record.parts).await? else {
            let (bucket, key) = (record.bucket.to_string(), record.key.to_string());
            self.unreadable(Place { bucket, key });
            return Ok(());
        };
        let adopt = AdoptObject {
            bucket: record.bucket,
            owner: self.request.bucket_owner.clone(),
            key: record.key,
            manifest: record.manifest,
            size: record.size,
            etag: record.etag,
            headers: record.headers,
            checksum: record.checksum,
            parts,
            modified: record.written,
            record: Some(extent),
        };
        self.adopt(adopt).await.map(drop)
    }

    /// The parts of a record with what their extents lack now; `None` when some can't be read.
    async fn as_they_are(&self, parts: Vec<Part>) -> Result<Option<Vec<Part>>, MetadataError> {
        let ids: Vec<ExtentId> = parts
            .iter()
            .flat_map(|part| &part.extents)
            .map(|extent| extent.id)
            .filter(|id| !self.by_id.contains_key(id))
            .collect();
        // What wasn't found as unknown is known, or is gone.
        let states = extent_states(self.shared, &ids).await?;
        // Garbage is brought back, and can't be collected meanwhile.
        let is_there = |state| matches!(state, ExtentState::Owned | ExtentState::Garbage);
        if !states.into_iter().all(is_there) {
            return Ok(None);
        }
        let mut parts = parts;
        for extent in parts.iter_mut().flat_map(|part| &mut part.extents) {
            match self.by_id.get(&extent.id) {
                Some(found) => match found.cut(extent.length) {
                    Some(now) if now.coding == extent.coding => *extent = now,
                    Some(_) | None => return Ok(None),
                },
                None => extent.missing = SlotSet::default(),
            }
        }
        Ok(Some(parts))
    }

    /// Parts of an upload of which no completion is recorded.
    async fn adopt_parts(
        &self,
        place: Place,
        upload: UploadId,
        parts: BTreeMap<u16, Body>,
    ) -> Result<(), RecoverError> {
        let Some((bucket, key)) = self.names(&place) else { return Ok(()) };
        if !self.is_under_way(&bucket, &key, upload).await? {
            let (Place { bucket, key }, parts) = (place, parts.len() as u64);
            self.meter.problem(RecoverProblem::UploadUnfinished { bucket, key, upload, parts });
            return Ok(());
        }
        for (number, body) in parts {
            let Some(part) = self.digested(&body, number).await else {
                self.unreadable(body.place);
                continue;
            };
            let (bucket, key) = (bucket.clone(), key.clone());
            let put = PutPart { bucket, key, upload, part, shared_with: None };
            match self.shared.metadata.propose(Command::AdoptPart(put)).await? {
                Outcome::Committed(_) => self.meter.change(|figures| figures.adopted_parts += 1),
                Outcome::Refused(refusal) => self.refused(body.place, refusal),
                _ => return Err(MetadataError::Unavailable.into()),
            }
        }
        Ok(())
    }

    async fn is_under_way(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<bool, RecoverError> {
        let query = Query::Upload { bucket: bucket.clone(), key: key.clone(), upload };
        match self.shared.metadata.query(query).await? {
            Answer::Upload(_) => Ok(true),
            Answer::Refused(_) => Ok(false),
            _ => Err(MetadataError::Unavailable.into()),
        }
    }

    /// An upload that older tables have under way, and that was completed after them.
    async fn end_upload(
        &self,
        bucket: BucketName,
        key: ObjectKey,
        upload: UploadId,
        manifest: ManifestId,
    ) -> Result<(), RecoverError> {
        if !self.is_under_way(&bucket, &key, upload).await? {
            return Ok(());
        }
        // Its parts have their new owner already, or couldn't be adopted: then it stays.
        let (named, plan) = ((bucket.clone(), key.clone()), PlanWanted::Nothing);
        let query = Query::Object { bucket: named.0, key: named.1, plan };
        if let Answer::Object(found) = self.shared.metadata.query(query).await?
            && found.version.manifest == manifest
        {
            self.shared.metadata.propose(Command::AbortUpload { bucket, key, upload }).await?;
        }
        Ok(())
    }

    /// Whether the metadata took it.
    async fn adopt(&self, adopt: AdoptObject) -> Result<bool, RecoverError> {
        let place = Place { bucket: adopt.bucket.to_string(), key: adopt.key.to_string() };
        let size = adopt.size;
        match self.shared.metadata.propose(Command::AdoptObject(adopt)).await? {
            Outcome::Committed(_) => {
                self.meter.change(|figures| {
                    figures.adopted += 1;
                    figures.adopted_bytes += size;
                });
                return Ok(true);
            }
            Outcome::Refused(Refusal::Superseded) => {
                self.meter.change(|figures| figures.superseded += 1);
            }
            Outcome::Refused(refusal) => self.refused(place, refusal),
            _ => return Err(MetadataError::Unavailable.into()),
        }
        Ok(false)
    }

    /// Reads a body, and gives it as a part; `None` when it can't be read.
    async fn digested(&self, body: &Body, number: u16) -> Option<Part> {
        let mut digest = (self.request.digests)(body.checksum);
        let mut reader = self.reader(body);
        let mut size = 0;
        while let Some(chunk) = reader.next().await {
            let chunk = chunk.ok()?;
            size += chunk.len() as u64;
            self.pace.spend(chunk.len() as u64).await;
            digest.update(&chunk);
        }
        let (md5, checksum) = digest.finish();
        let extents = body.extents.clone();
        (size == body.size()).then_some(Part { number, size, md5, checksum, extents })
    }

    /// The record that a body holds; `None` when it can't be read, or isn't one.
    async fn read_record(&self, body: &Body) -> Result<Option<RecoveryRecord>, RecoverError> {
        if body.size() > RECORD_BYTES_MAX || body.extents.len() != 1 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut reader = self.reader(body);
        while let Some(chunk) = reader.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(_) => return Ok(None),
            }
        }
        Ok(read_record(&bytes))
    }

    fn reader(&self, body: &Body) -> ObjectReader {
        let (mut offset, mut extents) = (0, Vec::new());
        for extent in &body.extents {
            extents.push(PlannedExtent { offset, extent: extent.clone() });
            offset += extent.length;
        }
        let version = Version {
            manifest: body.name.manifest,
            size: offset,
            etag: ETag { md5: [0; 16], parts: None },
            modified: body.started,
            headers: ObjectHeaders::default(),
            checksum: None,
            parts: Parts::Inline(Vec::new()),
            record: None,
        };
        let found = ObjectFound { version, range: Some(0..offset), extents };
        ObjectReader::new(Arc::clone(self.shared), &found)
    }

    fn names(&self, place: &Place) -> Option<(BucketName, ObjectKey)> {
        if let (Ok(bucket), Ok(key)) =
            (BucketName::parse(&place.bucket), ObjectKey::parse(&place.key))
        {
            return Some((bucket, key));
        }
        let Place { bucket, key } = place.clone();
        self.meter.problem(RecoverProblem::InvalidName { bucket, key });
        None
    }

    fn unreadable(&self, place: Place) {
        let Place { bucket, key } = place;
        self.meter.problem(RecoverProblem::Unreadable { bucket, key });
    }

    fn refused(&self, place: Place, refusal: Refusal) {
        let Place { bucket, key } = place;
        self.meter.problem(RecoverProblem::Refused { bucket, key, refusal });
    }
}
