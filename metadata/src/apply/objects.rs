//! CommitObject, CopyObject, DeleteObject: the versions table.

use std::borrow::Cow;

use model::command::{
    CommitObject, Committed, CopyObject, Outcome, Refusal, SourceObject, WriteCondition,
};
use model::extent::Extent;
use model::ids::{BucketId, ManifestId};
use model::limits::{INLINE_PARTS_MAX, OBJECT_BYTES_MAX, PAGE_PARTS_MAX};
use model::names::{BucketName, ObjectKey};
use model::version::{Part, PartIndex, Parts, Version};

use super::{Step, Stop};
use crate::state::StateError;
use crate::tables::extents::ExtentOwner;
use crate::tables::pages::{self, Page};
use crate::tables::{TableId, versions};

impl Step<'_, '_> {
    pub(super) fn commit_object(&mut self, commit: &CommitObject) -> Result<Outcome, Stop> {
        let bucket = self.bucket(&commit.bucket)?;
        check_body(commit)?;
        let row = versions::key(bucket, commit.key.as_str());
        let named = with_record(&commit.parts, commit.record.as_ref());
        if let Err(stop) = self.check_new_extents(&named) {
            // Its own extents are known already: the same commit under another name (I-5).
            return self.committed_as(&row, commit.manifest)?.ok_or(stop);
        }
        let current = self.current(&row, commit.condition)?;
        check_condition(commit.condition, current.as_ref(), Refusal::NoSuchKey)?;
        self.add_extents(bucket, ExtentOwner::Manifest(commit.manifest), &named)?;
        let version = Version {
            manifest: commit.manifest,
            size: commit.size,
            etag: commit.etag,
            modified: self.now,
            headers: self.with_class(&commit.bucket, commit.headers.clone()),
            checksum: commit.checksum.clone(),
            parts: Parts::Inline(commit.parts.clone()),
            record: commit.record.clone(),
        };
        self.replace_version(&row, &version)
    }

    pub(super) fn copy_object(&mut self, copy: &CopyObject) -> Result<Outcome, Stop> {
        let bucket = self.bucket(&copy.bucket)?;
        check_key(&copy.key)?;
        let row = versions::key(bucket, copy.key.as_str());
        if let Some(outcome) = self.committed_as(&row, copy.manifest)? {
            return Ok(outcome);
        }
        let source = self.source(&copy.source)?;
        let current = self.current(&row, copy.condition)?;
        check_condition(copy.condition, current.as_ref(), Refusal::NoSuchKey)?;
        if copy.manifest == source.manifest || self.has_pages(copy.manifest)? {
            return Err(Refusal::InvalidCommand.into());
        }
        let record = record_part(copy.record.as_ref());
        self.check_new_extents(&record)?;
        let parts = self.parts_of(&source)?;
        // Up before down: the copy may replace its own source.
        self.share_extents(&parts)?;
        self.add_extents(bucket, ExtentOwner::Manifest(copy.manifest), &record)?;
        let version = Version {
            manifest: copy.manifest,
            modified: self.now,
            headers: match &copy.headers {
                Some(headers) => self.with_class(&copy.bucket, headers.clone()),
                None => source.headers,
            },
            parts: self.store_parts(copy.manifest, parts)?,
            record: copy.record.clone(),
            ..source
        };
        self.replace_version(&row, &version)
    }

    pub(super) fn delete_object(
        &mut self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: WriteCondition,
    ) -> Result<Outcome, Stop> {
        let bucket = self.bucket(bucket)?;
        let row = versions::key(bucket, key.as_str());
        let current = self.current(&row, condition)?;
        check_condition(condition, current.as_ref(), Refusal::PreconditionFailed)?;
        let Some(old) = self.tables.take::<Version>(&row)? else {
            return Ok(Outcome::Deleted { existed: false });
        };
        self.drop_version(&old)?;
        Ok(Outcome::Deleted { existed: true })
    }

    /// The outcome of the commit of this body, if it is what the row holds.
    pub(super) fn committed_as(
        &mut self,
        row: &[u8],
        manifest: ManifestId,
    ) -> Result<Option<Outcome>, StateError> {
        let version = self.tables.get::<Version>(row)?;
        Ok(version
            .filter(|version| version.manifest == manifest)
            .map(|version| committed(&version)))
    }

    /// Whether the manifest has pages: then it isn't new.
    pub(super) fn has_pages(&mut self, manifest: ManifestId) -> Result<bool, StateError> {
        Ok(self.tables.get::<Page>(&pages::key(manifest, 0))?.is_some())
    }

    /// The version that a condition is about; not read where there is none.
    pub(super) fn current(
        &mut self,
        row: &[u8],
        condition: WriteCondition,
    ) -> Result<Option<Version>, StateError> {
        if condition == WriteCondition::Always { Ok(None) } else { self.tables.get(row) }
    }

    /// The source of a copy, if it is still the one that was read.
    pub(super) fn source(&mut self, source: &SourceObject) -> Result<Version, Stop> {
        let changed = || Stop::Refused(Refusal::SourceChanged);
        let bucket = self.bucket(&source.bucket).map_err(|_| changed())?;
        let row = versions::key(bucket, source.key.as_str());
        let version = self.tables.get::<Version>(&row)?.ok_or_else(changed)?;
        if version.manifest == source.manifest { Ok(version) } else { Err(changed()) }
    }

    /// Puts a version in its place and drops the one that was there.
    pub(super) fn replace_version(
        &mut self,
        row: &[u8],
        version: &Version,
    ) -> Result<Outcome, Stop> {
        let old = self.tables.put(row, version)?;
        let counters = &mut self.memory.counters;
        counters.objects += 1;
        counters.object_bytes = counters.object_bytes.wrapping_add(version.size);
        if let Some(old) = old {
            self.drop_version(&old)?;
        }
        Ok(committed(version))
    }

    /// Lets go of what a version held; its row is gone already.
    fn drop_version(&mut self, old: &Version) -> Result<(), StateError> {
        let counters = &mut self.memory.counters;
        counters.objects = counters.objects.wrapping_sub(1);
        counters.object_bytes = counters.object_bytes.wrapping_sub(old.size);
        let parts = self.parts_of(old)?;
        self.release_extents(&parts)?;
        self.release_extents(&record_part(old.record.as_ref()))?;
        if let Parts::Paged(index) = &old.parts {
            for page in 0..index.page_offsets.len() as u32 {
                self.tables.remove(TableId::Pages, &pages::key(old.manifest, page))?;
            }
        }
        Ok(())
    }

    /// All parts of a version.
    pub(super) fn parts_of(&mut self, version: &Version) -> Result<Vec<Part>, StateError> {
        match &version.parts {
            Parts::Inline(parts) => Ok(parts.clone()),
            Parts::Paged(index) => {
                let mut parts = Vec::with_capacity(index.count as usize);
                for page in 0..index.page_offsets.len() as u32 {
                    let key = pages::key(version.manifest, page);
                    let page = self.tables.get::<Page>(&key)?.ok_or_else(|| {
                        StateError::Damaged(format!("manifest {} lacks a page", version.manifest))
                    })?;
                    parts.extend(page.parts);
                }
                Ok(parts)
            }
        }
    }

    /// Keeps parts inline or writes them to pages.
    pub(super) fn store_parts(
        &mut self,
        manifest: ManifestId,
        parts: Vec<Part>,
    ) -> Result<Parts, StateError> {
        if parts.len() <= INLINE_PARTS_MAX {
            return Ok(Parts::Inline(parts));
        }
        let mut index = PartIndex {
            count: parts.len() as u32,
            page_offsets: Vec::new(),
            page_numbers: Vec::new(),
        };
        let mut offset = 0;
        for (chunk, number) in parts.chunks(PAGE_PARTS_MAX).zip(0u32..) {
            index.page_offsets.push(offset);
            index.page_numbers.push(chunk.first().map_or(0, |part| part.number));
            offset += chunk.iter().map(|part| part.size).sum::<u64>();
            self.tables.set(&pages::key(manifest, number), &Page { parts: chunk.to_vec() })?;
        }
        Ok(Parts::Paged(index))
    }

    /// The row of an object in a bucket that is there.
    pub(super) fn version_row(bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
        versions::key(bucket, key.as_str())
    }
}

fn committed(version: &Version) -> Outcome {
    Outcome::Committed(Committed {
        etag: version.etag,
        modified: version.modified,
        checksum: version.checksum.clone(),
    })
}

/// Whether a key can be one: what was decoded, not parsed, may be anything.
pub(super) fn check_key(key: &ObjectKey) -> Result<(), Stop> {
    ObjectKey::parse(key.as_str()).map(drop).map_err(|_| Refusal::InvalidCommand.into())
}

/// A recovery record as if it were a part, since its extent is kept and let go like a part's.
pub(super) fn record_part(record: Option<&Extent>) -> Vec<Part> {
    let part = |extent: &Extent| Part {
        number: 0,
        size: extent.length,
        md5: [0; 16],
        checksum: None,
        extents: vec![extent.clone()],
    };
    record.map(part).into_iter().collect()
}

/// Parts, with the recovery record.
pub(super) fn with_record<'a>(parts: &'a [Part], record: Option<&Extent>) -> Cow<'a, [Part]> {
    if record.is_none() {
        return Cow::Borrowed(parts);
    }
    let mut all = parts.to_vec();
    all.extend(record_part(record));
    Cow::Owned(all)
}

fn check_body(commit: &CommitObject) -> Result<(), Stop> {
    check_key(&commit.key)?;
    let size = commit.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size));
    let is_valid = commit.parts.len() <= 1
        && commit.parts.iter().all(|part| part.is_valid() && part.number == 0 && part.size > 0)
        && size == Some(commit.size);
    if !is_valid {
        return Err(Refusal::InvalidCommand.into());
    }
    if commit.size > OBJECT_BYTES_MAX {
        return Err(Refusal::ObjectTooLarge.into());
    }
    Ok(())
}

/// Checks a condition; `absent` is the refusal when a version is asked for and there is none.
pub(super) fn check_condition(
    condition: WriteCondition,
    current: Option<&Version>,
    absent: Refusal,
) -> Result<(), Stop> {
    let refusal = match (condition, current) {
        (WriteCondition::Always, _)
        | (WriteCondition::Absent, None)
        | (WriteCondition::Present, Some(_)) => return Ok(()),
        (WriteCondition::Matches(etag), Some(version)) if version.etag == etag => return Ok(()),
        (WriteCondition::Absent | WriteCondition::Matches(_), Some(_)) => {
            Refusal::PreconditionFailed
        }
        (WriteCondition::Present | WriteCondition::Matches(_), None) => absent,
    };
    Err(refusal.into())
}
