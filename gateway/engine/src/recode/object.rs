//! Recodes one object: reads its parts, verified, and writes them into new extents.
//!
//! Durability: a part's new extents are whole and on stable storage, and so is the recovery record that
//! names them, before one command puts them in the place of the old ones. A crash in between leaves
//! extents without an owner, which are collected like those of any write that was given up. The
//! object may change at any time: then the command is refused, and what was written is deleted.

use std::ops::Range;
use std::sync::Arc;

use model::class::{RecodeObject, RecodeOrder, RecodedPart};
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::{Command, Outcome, Refusal};
use model::extent::Extent;
use model::ids::{ManifestId, ShardId};
use model::limits::{BLOCK_BYTES, LIST_KEYS_MAX};
use model::names::{BucketName, ClassName, ObjectKey};
use model::owner::Owner;
use model::query::{Answer, MetadataError, ObjectFound, PlanWanted, PlannedExtent, Query};
use model::record::RecoveryRecord;
use model::version::{ObjectHeaders, Part, Parts, Version};

use super::RecodeFailure;
use super::plan::{pause, steps};
use crate::read::{ObjectReader, read_shard_and_owner};
use crate::recover::{read_record, write_record};
use crate::shared::Shared;
use crate::write::{ObjectWriter, WantedCoding, WrittenBody};

/// An object that is to have another coding.
struct Task<'a> {
    shared: &'a Arc<Shared>,
    bucket: &'a BucketName,
    key: &'a ObjectKey,
    /// The class that it is to have; `None` for `STANDARD`.
    class: Option<&'a ClassName>,
    coding: Coding,
}

/// Recodes an object as an order says. Out: its bytes, and `None` when there was nothing to do.
pub(super) async fn recode_object(
    shared: &Arc<Shared>,
    order: &RecodeOrder,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Option<u64>, RecodeFailure> {
    let map = may_go_on(shared).await?;
    let Some((mut version, mut parts)) = find(shared, bucket, key).await? else {
        return Ok(None);
    };
    let own = version.headers.class.clone();
    let class = order.class_of(version.modified, own.as_ref());
    let coding = map.coding_of(class);
    let task = Task { shared, bucket, key, class, coding };
    let steps = steps(&parts, coding);
    let is_record_other = version.record.as_ref().is_some_and(|record| record.coding != coding);
    if steps.is_empty() && is_record_other {
        task.step(&mut version, &mut parts, 0..0).await?;
    } else if steps.is_empty() {
        if class == own.as_ref() {
            return Ok(None);
        }
        task.relabel(&version).await?;
    }
    for step in steps {
        may_go_on(shared).await?;
        task.step(&mut version, &mut parts, step).await?;
    }
    Ok(Some(version.size))
}

/// The newest map, unless it says that nothing is to be recoded now.
async fn may_go_on(shared: &Shared) -> Result<Arc<ClusterMap>, RecodeFailure> {
    let map = shared.map.get().await?;
    match pause(&map) {
        Some(reason) => Err(RecodeFailure::Paused(reason)),
        None => Ok(map),
    }
}

impl Task<'_> {
    /// Gives the object its class; its extents have the coding already.
    async fn relabel(&self, version: &Version) -> Result<(), RecodeFailure> {
        self.propose(self.command(version, version.manifest, Vec::new(), None)).await
    }

    /// Recodes these of the parts, and takes over what they are from then on.
    async fn step(
        &self,
        version: &mut Version,
        parts: &mut [Part],
        step: Range<usize>,
    ) -> Result<(), RecodeFailure> {
        let recoded = ManifestId(self.shared.entropy.id());
        let mut bodies = Vec::new();
        let mut fresh = parts.to_vec();
        for part in fresh.iter_mut().take(step.end).skip(step.start) {
            let body = self.write_again(version, part).await?;
            part.extents = body.extents().to_vec();
            bodies.push(body);
        }
        let record = match &version.record {
            Some(record) => {
                let record = self.write_record(version, record, recoded, &fresh).await?;
                let extent = record.extents().first().cloned();
                bodies.push(record);
                extent
            }
            None => None,
        };
        let of_step = fresh.get(step).unwrap_or_default();
        let changed = of_step
            .iter()
            .map(|part| RecodedPart { number: part.number, extents: part.extents.clone() });
        let command = self.command(version, recoded, changed.collect(), record.clone());
        // From here on the outcome may be unknown, whatever becomes of this future.
        bodies.iter_mut().for_each(WrittenBody::hold);
        match self.shared.metadata.propose(command).await {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Refused(refusal)) => {
                bodies.iter_mut().for_each(WrittenBody::release);
                return Err(of_refusal(refusal));
            }
            Err(MetadataError::Unknown) | Ok(_) => return Err(RecodeFailure::Unavailable),
            Err(_) => {
                bodies.iter_mut().for_each(WrittenBody::release);
                return Err(RecodeFailure::Unavailable);
            }
        }
        parts.clone_from_slice(&fresh);
        version.manifest = recoded;
        version.record = record;
        Ok(())
    }

    fn command(
        &self,
        version: &Version,
        recoded: ManifestId,
        parts: Vec<RecodedPart>,
        record: Option<Extent>,
    ) -> Command {
        Command::RecodeObject(RecodeObject {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            manifest: version.manifest,
            recoded,
            class: self.class.cloned().unwrap_or_else(ClassName::standard),
            parts,
            record,
        })
    }

    async fn propose(&self, command: Command) -> Result<(), RecodeFailure> {
        match self.shared.metadata.propose(command).await? {
            Outcome::Refused(refusal) => Err(of_refusal(refusal)),
            _ => Ok(()),
        }
    }

    /// Reads a part and writes it into new extents, under the owner that its shards have.
    async fn write_again(
        &self,
        version: &Version,
        part: &Part,
    ) -> Result<WrittenBody, RecodeFailure> {
        let shared = self.shared;
        let mut owner = self.owner(part).await?;
        if let Some(headers) = &mut owner.headers {
            headers.class = self.class.cloned();
        }
        let mut reader = ObjectReader::new(Arc::clone(shared), &plan_of(version, &part.extents));
        let wanted = WantedCoding::Exactly(self.coding);
        let mut writer = ObjectWriter::as_owner(Arc::clone(shared), owner, wanted);
        while let Some(chunk) = reader.next().await {
            let chunk = chunk.map_err(|_| RecodeFailure::Unreadable)?;
            shared.repair.pace.spend(chunk.len() as u64).await;
            writer.write(chunk).await.map_err(|_| RecodeFailure::NoPlace)?;
        }
        self.whole(writer.finish().await.map_err(|_| RecodeFailure::NoPlace)?, part.size)
    }

    /// The body, if it has the coding and lacks nothing: what it takes the place of may lack nothing
    /// either.
    fn whole(&self, body: WrittenBody, size: u64) -> Result<WrittenBody, RecodeFailure> {
        let is_whole = |extent: &Extent| extent.coding == self.coding && extent.missing.is_empty();
        if body.size() != size {
            Err(RecodeFailure::Unreadable)
        } else if body.extents().iter().all(is_whole) {
            Ok(body)
        } else {
            Err(RecodeFailure::NoPlace)
        }
    }

    /// The owner that the shards of a part's beginning have.
    async fn owner(&self, part: &Part) -> Result<Owner, RecodeFailure> {
        let (shared, map) = (self.shared, self.shared.map.get().await?);
        let extent = part.extents.first().ok_or(RecodeFailure::NoOwner)?;
        let geometry = extent.stripe_geometry(0).ok_or(RecodeFailure::NoOwner)?;
        let mut is_answered = false;
        for slot in geometry.slots() {
            let Some(disk) = map.disk_of(extent.id, slot) else { continue };
            let id = ShardId { extent: extent.id, stripe: 0, slot };
            let bytes = geometry.stored_bytes(slot);
            let range = 0..bytes.min(BLOCK_BYTES);
            let read = read_shard_and_owner(shared, disk.id, id, bytes, range).await;
            let Ok((_, sealed)) = read else { continue };
            is_answered = true;
            if let Ok(owner) = shared.seal.open(extent.id, &sealed) {
                return Ok(owner);
            }
        }
        Err(if is_answered { RecodeFailure::NoOwner } else { RecodeFailure::Unreadable })
    }

    /// Writes the recovery record of what the object is about to be.
    async fn write_record(
        &self,
        version: &Version,
        known: &Extent,
        recoded: ManifestId,
        parts: &[Part],
    ) -> Result<WrittenBody, RecodeFailure> {
        let known = self.read_record(version, known).await;
        let record = RecoveryRecord {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            manifest: recoded,
            size: version.size,
            etag: version.etag,
            headers: ObjectHeaders { class: self.class.cloned(), ..version.headers.clone() },
            checksum: version.checksum.clone(),
            parts: parts.to_vec(),
            upload: known.as_ref().and_then(|known| known.upload),
            // After the one that it takes the place of, and before whatever overwrites the object.
            written: known.map_or(version.modified, |known| known.written.plus_nanos(1)),
        };
        let wanted = WantedCoding::Exactly(self.coding);
        let recorded = write_record(self.shared, &record, &wanted).await;
        let body = recorded.map_err(|_| RecodeFailure::NoPlace)?.into_body();
        let body = body.ok_or(RecodeFailure::NoPlace)?;
        let size = body.size();
        self.whole(body, size)
    }

    /// The record that there is; without it the new one says a little less.
    async fn read_record(&self, version: &Version, extent: &Extent) -> Option<RecoveryRecord> {
        let found = plan_of(version, std::slice::from_ref(extent));
        let mut reader = ObjectReader::new(Arc::clone(self.shared), &found);
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await {
            bytes.extend_from_slice(&chunk.ok()?);
        }
        read_record(&bytes)
    }
}

/// How to read these extents from the first to the last byte.
fn plan_of(version: &Version, extents: &[Extent]) -> ObjectFound {
    let (mut offset, mut planned) = (0, Vec::with_capacity(extents.len()));
    for extent in extents {
        planned.push(PlannedExtent { offset, extent: extent.clone() });
        offset += extent.length;
    }
    let version = Version { parts: Parts::Inline(Vec::new()), ..version.clone() };
    ObjectFound { version, range: Some(0..offset), extents: planned }
}

fn of_refusal(refusal: Refusal) -> RecodeFailure {
    match refusal {
        Refusal::SourceChanged | Refusal::NoSuchBucket | Refusal::NoSuchKey => {
            RecodeFailure::Changed
        }
        // They are to be written again.
        Refusal::MovesOutdated | Refusal::SessionEnded => RecodeFailure::Changed,
        refusal => {
            tracing::warn!(%refusal, "an object was not recoded");
            RecodeFailure::Refused
        }
    }
}

/// An object with all of its parts and their extents; `None` when it isn't there any more.
async fn find(
    shared: &Shared,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Option<(Version, Vec<Part>)>, RecodeFailure> {
    let query = Query::Object { bucket: bucket.clone(), key: key.clone(), plan: PlanWanted::Whole };
    let found = match shared.metadata.query(query).await? {
        Answer::Object(found) => found,
        Answer::Refused(Refusal::NoSuchBucket | Refusal::NoSuchKey) => return Ok(None),
        _ => return Err(RecodeFailure::Unavailable),
    };
    if let Parts::Inline(parts) = &found.version.parts {
        let parts = parts.clone();
        return Ok(Some((found.version, parts)));
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut extents = found.extents.into_iter().map(|planned| planned.extent);
    loop {
        let query = Query::ObjectParts {
            bucket: bucket.clone(),
            key: key.clone(),
            after: parts.last().map_or(0, |part| part.number),
            limit: LIST_KEYS_MAX,
        };
        let page = match shared.metadata.query(query).await? {
            Answer::ObjectParts(page) if page.version.manifest == found.version.manifest => page,
            Answer::ObjectParts(_) | Answer::Refused(_) => return Err(RecodeFailure::Changed),
            _ => return Err(RecodeFailure::Unavailable),
        };
        let more = page.truncated && !page.parts.is_empty();
        for mut part in page.parts {
            let mut left = part.size;
            while left > 0 {
                // The plan is of this very body: its extents are those of its parts.
                let extent = extents.next().ok_or(RecodeFailure::Changed)?;
                left = left.checked_sub(extent.length).ok_or(RecodeFailure::Changed)?;
                part.extents.push(extent);
            }
            parts.push(part);
        }
        if !more {
            return Ok(Some((found.version, parts)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_whether_to_look_again() {
        assert_eq!(of_refusal(Refusal::SourceChanged), RecodeFailure::Changed);
        assert_eq!(of_refusal(Refusal::SessionEnded), RecodeFailure::Changed);
        assert_eq!(of_refusal(Refusal::InvalidCommand), RecodeFailure::Refused);
    }
}
