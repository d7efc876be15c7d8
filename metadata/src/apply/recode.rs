//! RecodeObject: other extents for an object, with the same bytes.
//!
//! What always holds: what a reader sees of the object stays; the new extents enter as a commit's do, and
//! those that they take the place of go as a delete's do, so that whoever reads them still can. The
//! body's name changes with its extents: a copy that was read before finds that out, and its source
//! can be recoded no two ways at once.

use model::class::RecodeObject;
use model::command::{Outcome, Refusal};
use model::version::{ObjectHeaders, Part, Parts, Version};

use super::objects::{record_part, with_record};
use super::{Step, Stop};
use crate::tables::extents::ExtentOwner;
use crate::tables::{TableId, pages, versions};

impl Step<'_, '_> {
    pub(super) fn recode_object(&mut self, recode: &RecodeObject) -> Result<Outcome, Stop> {
        let changed = || Stop::Refused(Refusal::SourceChanged);
        let bucket = self.bucket(&recode.bucket)?;
        let row = versions::key(bucket, recode.key.as_str());
        let version = self.tables.get::<Version>(&row)?.ok_or_else(changed)?;
        let is_label_only = recode.parts.is_empty() && recode.record.is_none();
        if version.manifest == recode.recoded && !is_label_only {
            // The same under another name (I-5).
            let is_same = self.has_parts(&version, recode)? && version.record == recode.record;
            return if is_same { Ok(Outcome::Done) } else { Err(changed()) };
        }
        if version.manifest != recode.manifest {
            return Err(changed());
        }
        let class = Some(recode.class.clone()).filter(|class| !class.is_standard());
        let headers = ObjectHeaders { class, ..version.headers.clone() };
        if is_label_only {
            self.tables.set(&row, &Version { headers, ..version })?;
            return Ok(Outcome::Done);
        }
        let mut parts = self.parts_of(&version)?;
        let (old, new) = exchange(&mut parts, recode)?;
        // A record names the extents of all parts.
        let lacks_record = version.record.is_some() && recode.record.is_none();
        if lacks_record || recode.recoded == recode.manifest || self.has_pages(recode.recoded)? {
            return Err(Refusal::InvalidCommand.into());
        }
        let named = with_record(&new, recode.record.as_ref());
        self.check_new_extents(&named)?;
        // From here on nothing is refused.
        self.add_extents(bucket, ExtentOwner::Manifest(recode.recoded), &named)?;
        self.release_extents(&old)?;
        self.release_extents(&record_part(version.record.as_ref()))?;
        if let Parts::Paged(index) = &version.parts {
            for page in 0..index.page_offsets.len() as u32 {
                self.tables.remove(TableId::Pages, &pages::key(version.manifest, page))?;
            }
        }
        let version = Version {
            manifest: recode.recoded,
            headers,
            parts: self.store_parts(recode.recoded, parts)?,
            record: recode.record.clone(),
            ..version
        };
        self.tables.set(&row, &version)?;
        Ok(Outcome::Done)
    }

    /// Whether an object has the extents that it is to be given.
    fn has_parts(&mut self, version: &Version, recode: &RecodeObject) -> Result<bool, Stop> {
        let parts = self.parts_of(version)?;
        Ok(recode.parts.iter().all(|recoded| {
            let at = parts.binary_search_by_key(&recoded.number, |part| part.number);
            let part = at.ok().and_then(|at| parts.get(at));
            part.is_some_and(|part| part.extents == recoded.extents)
        }))
    }
}

/// Gives the named parts their new extents. Out: those parts as they were, and as they are.
fn exchange(parts: &mut [Part], recode: &RecodeObject) -> Result<(Vec<Part>, Vec<Part>), Stop> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let mut last = None;
    for recoded in &recode.parts {
        let at = parts.binary_search_by_key(&recoded.number, |part| part.number);
        let part = at.ok().and_then(|at| parts.get_mut(at)).ok_or(Refusal::InvalidCommand)?;
        let fresh = Part { extents: recoded.extents.clone(), ..part.clone() };
        if !fresh.is_valid() || last.replace(recoded.number) >= Some(recoded.number) {
            return Err(Refusal::InvalidCommand.into());
        }
        new.push(fresh.clone());
        old.push(std::mem::replace(part, fresh));
    }
    Ok((old, new))
}
