//! AdoptObject of a body that the tables have, in other extents: it was recoded after the backup that
//! they were made of, and what they name may be deleted by now.
//!
//! What always holds: what a reader sees of the object stays, but for its storage class; the new extents
//! enter as those of any adopted object do, and those that they take the place of go as a delete's do.
//! What was written since the tables were put back stays: it is newer than whatever is adopted.

use model::cluster_map::ClusterMap;
use model::command::{Outcome, Refusal};
use model::extent::Extent;
use model::ids::{BucketId, ExtentId};
use model::level::MOVING;
use model::recovery::{AdoptObject, Held};
use model::version::{ObjectHeaders, Part, Parts, Version};

use super::objects::record_part;
use super::{Step, Stop};
use crate::tables::{TableId, pages};

impl Step<'_, '_> {
    /// Gives an object the extents that its body has by now; `None` where that isn't what is adopted.
    pub(super) fn adopt_elsewhere(
        &mut self,
        bucket: BucketId,
        adopt: &AdoptObject,
        held: &Held,
    ) -> Result<Option<Outcome>, Stop> {
        let map = self.map()?;
        // Replicas of an older release would leave the object as it is.
        if map.level_in_use() < MOVING {
            return Ok(None);
        }
        let row = Self::version_row(bucket, &adopt.key);
        let Some(current) = self.tables.get::<Version>(&row)? else { return Ok(None) };
        let is_named = current.manifest == adopt.manifest;
        // What is newer takes the place of the version as a whole.
        if !is_named && current.modified < adopt.modified.min(self.now) {
            return Ok(None);
        }
        let old = self.parts_of(&current)?;
        let is_of_before =
            ids(&old, current.record.as_ref()).all(|extent| extent.session <= held.until());
        let is_elsewhere = !ids(&old, current.record.as_ref())
            .eq(ids(&adopt.parts, adopt.record.as_ref()))
            && is_same_body(&current, &old, adopt);
        if !is_of_before || !is_elsewhere {
            return Ok(None);
        }
        let told = self.tell(held, adopt)?;
        if !is_named && self.has_pages(adopt.manifest)? {
            return Err(Refusal::InvalidCommand.into());
        }
        // From here on nothing is refused. Up before down: some of the parts may not have changed.
        self.take_in(held, bucket, adopt, &told)?;
        self.release_extents(&old)?;
        self.release_extents(&record_part(current.record.as_ref()))?;
        if let Parts::Paged(index) = &current.parts {
            for page in 0..index.page_offsets.len() as u32 {
                self.tables.remove(TableId::Pages, &pages::key(current.manifest, page))?;
            }
        }
        let version = Version {
            manifest: adopt.manifest,
            headers: headers(&map, &current, adopt),
            parts: self.store_parts(adopt.manifest, adopt.parts.clone())?,
            record: adopt.record.clone(),
            ..current
        };
        self.tables.set(&row, &version)?;
        Ok(self.committed_as(&row, adopt.manifest)?)
    }
}

/// The extents of a body, in order, and that of its record.
fn ids<'a>(
    parts: &'a [Part],
    record: Option<&'a Extent>,
) -> impl Iterator<Item = ExtentId> + use<'a> {
    parts.iter().flat_map(|part| &part.extents).chain(record).map(|extent| extent.id)
}

/// Whether what is adopted is byte for byte what the object holds: the name of a body stays when it is
/// recoded, unless a record tells of it.
fn is_same_body(current: &Version, parts: &[Part], adopt: &AdoptObject) -> bool {
    let form = |part: &Part| (part.number, part.size, part.md5);
    let is_same = current.size == adopt.size
        && current.etag == adopt.etag
        && parts.iter().map(form).eq(adopt.parts.iter().map(form));
    let is_told = adopt.record.is_none()
        || current.manifest == adopt.manifest
        || (is_told_alike(&current.headers, &adopt.headers) && current.checksum == adopt.checksum);
    is_same && is_told
}

/// Whether headers differ in the storage class alone.
fn is_told_alike(one: &ObjectHeaders, other: &ObjectHeaders) -> bool {
    ObjectHeaders { class: None, ..one.clone() } == ObjectHeaders { class: None, ..other.clone() }
}

/// The headers that the object has, with the class that it was recoded to: where the tables don't know
/// that, and where all headers of what is adopted are lost, with the one that it has.
fn headers(map: &ClusterMap, current: &Version, adopt: &AdoptObject) -> ObjectHeaders {
    let of_current = current.headers.clone();
    let is_known = adopt.headers.class.as_ref().is_none_or(|class| map.has_class(class));
    if is_known && is_told_alike(&of_current, &adopt.headers) {
        let class = adopt.headers.class.clone().filter(|class| !class.is_standard());
        return ObjectHeaders { class, ..of_current };
    }
    of_current
}
