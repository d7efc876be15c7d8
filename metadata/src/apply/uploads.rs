//! CreateUpload, PutPart, CompleteUpload, AbortUpload.

use std::collections::HashSet;

use model::command::{Committed, CompleteUpload, Outcome, PutPart, Refusal};
use model::ids::{BucketId, ExtentId, UploadId};
use model::limits::{OBJECT_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, PUT_BYTES_MAX};
use model::names::{BucketName, ObjectKey};
use model::upload::{PartReference, Upload, UploadedPart};
use model::version::{ETag, Part, Version};

use super::objects::{check_condition, check_key, record_part};
use super::{Step, Stop};
use crate::limits::{COMPLETED_KEPT, COMPLETED_PRUNED_PER_COMPLETION, OWNER_NAME_BYTES_MAX};
use crate::state::StateError;
use crate::tables::completed::{self, Completed};
use crate::tables::extents::ExtentOwner;
use crate::tables::{TableId, decode, parts, uploads};

impl Step<'_, '_> {
    pub(super) fn create_upload(
        &mut self,
        name: &BucketName,
        key: &ObjectKey,
        upload: &Upload,
    ) -> Result<Outcome, Stop> {
        let bucket = self.bucket(name)?;
        check_key(key)?;
        let row = uploads::key(bucket, key.as_str(), upload.id);
        let is_known = self.tables.get::<Upload>(&row)?.is_some()
            || self.tables.get::<Completed>(&completed::key(bucket, upload.id))?.is_some();
        if is_known || upload.owner.len() > OWNER_NAME_BYTES_MAX {
            return Err(Refusal::InvalidCommand.into());
        }
        let headers = self.with_class(name, upload.headers.clone());
        self.tables.set(&row, &Upload { initiated: self.now, headers, ..upload.clone() })?;
        Ok(Outcome::Done)
    }

    pub(super) fn put_part(&mut self, put: &PutPart) -> Result<Outcome, Stop> {
        let bucket = self.bucket(&put.bucket)?;
        let row = uploads::key(bucket, put.key.as_str(), put.upload);
        self.tables.get::<Upload>(&row)?.ok_or(Refusal::NoSuchUpload)?;
        let part = &put.part;
        let is_valid = part.is_valid()
            && (1..=PARTS_MAX).contains(&u32::from(part.number))
            && part.size <= PUT_BYTES_MAX;
        if !is_valid {
            return Err(Refusal::InvalidCommand.into());
        }
        let both = std::slice::from_ref(part);
        match &put.shared_with {
            None => {
                if let Err(stop) = self.check_new_extents(both) {
                    // Its own extents are known already: the same part under another name (I-5).
                    let known = self.tables.get::<UploadedPart>(&parts::key(&row, part.number))?;
                    let same = known.filter(|known| known.part == *part);
                    return same.map(|known| committed_part(&known)).ok_or(stop);
                }
                self.add_extents(bucket, ExtentOwner::Upload(put.upload), both)?;
            }
            Some(source) => {
                let source = self.source(source)?;
                let whole = self.parts_of(&source)?;
                check_shared(part, &whole)?;
                self.share_extents(both)?;
            }
        }
        let uploaded = UploadedPart { part: part.clone(), modified: self.now };
        let outcome = committed_part(&uploaded);
        let old = self.tables.put(&parts::key(&row, part.number), &uploaded)?;
        if let Some(old) = old {
            self.release_extents(&[old.part])?;
        }
        Ok(outcome)
    }

    pub(super) fn complete_upload(&mut self, complete: &CompleteUpload) -> Result<Outcome, Stop> {
        let bucket = self.bucket(&complete.bucket)?;
        let row = uploads::key(bucket, complete.key.as_str(), complete.upload);
        let Some(upload) = self.tables.get::<Upload>(&row)? else {
            return self.completed_before(bucket, complete);
        };
        check_references(complete)?;
        let mut uploaded = self.uploaded_parts(&row)?;
        let named = choose_parts(&mut uploaded, &complete.parts)?;
        check_sizes(&named, complete.size)?;
        if self.has_pages(complete.manifest)? {
            return Err(Refusal::InvalidCommand.into());
        }
        let record = record_part(complete.record.as_ref());
        self.check_new_extents(&record)?;
        let version_row = Self::version_row(bucket, &complete.key);
        let current = self.current(&version_row, complete.condition)?;
        check_condition(complete.condition, current.as_ref(), Refusal::NoSuchKey)?;

        for part in uploaded.iter().chain(&named) {
            self.tables.remove(TableId::Parts, &parts::key(&row, part.number))?;
        }
        self.tables.remove(TableId::Uploads, &row)?;
        self.release_extents(&uploaded)?;
        self.hand_over_extents(&named, ExtentOwner::Manifest(complete.manifest))?;
        self.add_extents(bucket, ExtentOwner::Manifest(complete.manifest), &record)?;
        let version = Version {
            manifest: complete.manifest,
            size: complete.size,
            etag: complete.etag,
            modified: self.now,
            headers: upload.headers,
            checksum: complete.checksum.clone(),
            parts: self.store_parts(complete.manifest, named)?,
            record: complete.record.clone(),
        };
        let outcome = self.replace_version(&version_row, &version)?;
        self.remember_completion(bucket, complete, &version)?;
        Ok(outcome)
    }

    pub(super) fn abort_upload(
        &mut self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<Outcome, Stop> {
        let bucket = self.bucket(bucket)?;
        let row = uploads::key(bucket, key.as_str(), upload);
        if self.tables.remove(TableId::Uploads, &row)?.is_none() {
            return Err(Refusal::NoSuchUpload.into());
        }
        let uploaded = self.uploaded_parts(&row)?;
        for part in &uploaded {
            self.tables.remove(TableId::Parts, &parts::key(&row, part.number))?;
        }
        self.release_extents(&uploaded)?;
        Ok(Outcome::Done)
    }

    fn uploaded_parts(&mut self, upload_row: &[u8]) -> Result<Vec<Part>, StateError> {
        let rows = self.tables.scan(TableId::Parts, upload_row, PARTS_MAX as usize)?;
        rows.iter().map(|(_, value)| Ok(decode::<UploadedPart>(value)?.part)).collect()
    }

    /// The same completion again is answered the same.
    fn completed_before(
        &mut self,
        bucket: BucketId,
        complete: &CompleteUpload,
    ) -> Result<Outcome, Stop> {
        let row = completed::key(bucket, complete.upload);
        let known = self.tables.get::<Completed>(&row)?.ok_or(Refusal::NoSuchUpload)?;
        // The entity tag follows from the named parts; of the size, a gateway that asks again can't
        // know more than that of the object that is there now.
        let is_same = known.key == complete.key && known.committed.etag == complete.etag;
        if is_same {
            Ok(Outcome::Committed(known.committed))
        } else {
            Err(Refusal::NoSuchUpload.into())
        }
    }

    /// Remembers a completion, and forgets a few old ones: more than come in, so the table shrinks
    /// to what is young enough.
    fn remember_completion(
        &mut self,
        bucket: BucketId,
        complete: &CompleteUpload,
        version: &Version,
    ) -> Result<(), StateError> {
        let row = completed::key(bucket, complete.upload);
        let committed = Committed {
            etag: version.etag,
            modified: version.modified,
            checksum: version.checksum.clone(),
        };
        let record = Completed { key: complete.key.clone(), committed };
        self.tables.set(&row, &record)?;
        let order = completed::order_key(self.now, &row);
        self.tables.insert(TableId::CompletedOrder, &order, &[])?;
        let oldest =
            self.tables.scan(TableId::CompletedOrder, b"", COMPLETED_PRUNED_PER_COMPLETION)?;
        for (key, _) in oldest {
            let (time, row) = completed::read_order_key(&key)
                .ok_or_else(|| StateError::Damaged("a completion has a bad key".to_owned()))?;
            if time.plus_nanos(COMPLETED_KEPT.as_nanos() as u64) >= self.now {
                break;
            }
            self.tables.remove(TableId::CompletedOrder, &key)?;
            self.tables.remove(TableId::Completed, &row)?;
        }
        Ok(())
    }
}

pub(super) fn committed_part(uploaded: &UploadedPart) -> Outcome {
    Outcome::Committed(Committed {
        etag: ETag { md5: uploaded.part.md5, parts: None },
        modified: uploaded.modified,
        checksum: uploaded.part.checksum.clone(),
    })
}

/// The extents of a shared part must be the source's.
fn check_shared(part: &Part, source: &[Part]) -> Result<(), Stop> {
    let of = |extent: &model::extent::Extent| (extent.id, extent.length, extent.coding);
    let source: HashSet<_> = source.iter().flat_map(|part| &part.extents).map(of).collect();
    let mut seen: HashSet<ExtentId> = HashSet::new();
    let is_valid =
        part.extents.iter().all(|extent| source.contains(&of(extent)) && seen.insert(extent.id));
    if is_valid { Ok(()) } else { Err(Refusal::InvalidCommand.into()) }
}

fn check_references(complete: &CompleteUpload) -> Result<(), Stop> {
    let references = &complete.parts;
    let is_ascending = references.windows(2).all(|pair| match pair {
        [one, two] => one.number < two.number,
        _ => false,
    });
    let is_valid = !references.is_empty()
        && is_ascending
        && complete.etag.parts == u32::try_from(references.len()).ok();
    if is_valid { Ok(()) } else { Err(Refusal::InvalidCommand.into()) }
}

/// Takes the named parts out of the uploaded ones.
fn choose_parts(uploaded: &mut Vec<Part>, references: &[PartReference]) -> Result<Vec<Part>, Stop> {
    let mut named = Vec::with_capacity(references.len());
    let mut others = Vec::new();
    let mut wanted = references.iter().peekable();
    for part in std::mem::take(uploaded) {
        match wanted.peek() {
            Some(reference) if reference.number == part.number => {
                let is_checked = reference
                    .checksum
                    .as_ref()
                    .is_none_or(|checksum| part.checksum.as_ref() == Some(checksum));
                if reference.md5 != part.md5 || !is_checked {
                    return Err(Refusal::InvalidPart { number: reference.number }.into());
                }
                wanted.next();
                named.push(part);
            }
            Some(reference) if reference.number < part.number => {
                return Err(Refusal::InvalidPart { number: reference.number }.into());
            }
            Some(_) | None => others.push(part),
        }
    }
    if let Some(reference) = wanted.next() {
        return Err(Refusal::InvalidPart { number: reference.number }.into());
    }
    *uploaded = others;
    Ok(named)
}

fn check_sizes(named: &[Part], size: u64) -> Result<(), Stop> {
    let Some((last, others)) = named.split_last() else {
        return Err(Refusal::InvalidCommand.into());
    };
    if let Some(small) = others.iter().find(|part| part.size < PART_BYTES_MIN) {
        return Err(Refusal::PartTooSmall { number: small.number }.into());
    }
    let total = named.iter().map(|part| part.size).sum::<u64>();
    if total > OBJECT_BYTES_MAX {
        return Err(Refusal::ObjectTooLarge.into());
    }
    if total == size { Ok(()) } else { Err(Refusal::InvalidPart { number: last.number }.into()) }
}
