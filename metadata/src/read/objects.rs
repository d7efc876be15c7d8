//! Object, ObjectParts: a version, and how to read a range of it.

use std::ops::Range;

use model::command::Refusal;
use model::ids::BucketId;
use model::names::ObjectKey;
use model::query::{Answer, ObjectFound, ObjectPartPage, PlanWanted, PlannedExtent};
use model::version::{Part, PartIndex, Parts, Version};

use crate::state::StateError;
use crate::tables::pages::{self, Page};
use crate::tables::{View, versions};

pub(super) fn object(
    view: &View,
    bucket: BucketId,
    key: &ObjectKey,
    plan: PlanWanted,
) -> Result<Result<Answer, Refusal>, StateError> {
    let Some(version) = view.get::<Version>(&versions::key(bucket, key.as_str()))? else {
        return Ok(Err(Refusal::NoSuchKey));
    };
    let range = match plan {
        PlanWanted::Part(number) => part_range(view, &version, number)?,
        PlanWanted::Nothing
        | PlanWanted::Whole
        | PlanWanted::From(_)
        | PlanWanted::Between(..)
        | PlanWanted::Last(_) => plan.resolve(version.size),
    };
    let extents = match &range {
        Some(range) => planned(view, &version, range)?,
        None => Vec::new(),
    };
    Ok(Ok(Answer::Object(ObjectFound { version, range, extents })))
}

/// The extents that hold a range.
fn planned(
    view: &View,
    version: &Version,
    range: &Range<u64>,
) -> Result<Vec<PlannedExtent>, StateError> {
    let mut extents = Vec::new();
    if range.is_empty() {
        return Ok(extents);
    }
    match &version.parts {
        Parts::Inline(parts) => {
            plan_parts(parts, 0, range, &mut extents);
        }
        Parts::Paged(index) => {
            // The page that holds the first byte: the last one that begins at or before it.
            let first = index.page_offsets.partition_point(|offset| *offset <= range.start);
            let pages = index.page_offsets.iter().zip(0u32..).skip(first.saturating_sub(1));
            for (offset, number) in pages.take_while(|(offset, _)| **offset < range.end) {
                let page = page(view, version, number)?;
                plan_parts(&page.parts, *offset, range, &mut extents);
            }
        }
    }
    Ok(extents)
}

/// Adds the extents of `parts`, which begin at `offset` in the object, that touch `range`.
fn plan_parts(
    parts: &[Part],
    mut offset: u64,
    range: &Range<u64>,
    extents: &mut Vec<PlannedExtent>,
) {
    for extent in parts.iter().flat_map(|part| &part.extents) {
        let end = offset + extent.length;
        if offset < range.end && end > range.start {
            extents.push(PlannedExtent { offset, extent: extent.clone() });
        }
        offset = end;
    }
}

/// The range of an S3 part; an object that was put in one request is its own part 1.
fn part_range(
    view: &View,
    version: &Version,
    number: u16,
) -> Result<Option<Range<u64>>, StateError> {
    if version.multipart_count().is_none() {
        return Ok((number == 1).then_some(0..version.size));
    }
    match &version.parts {
        Parts::Inline(parts) => Ok(range_in(parts, 0, number)),
        Parts::Paged(index) => {
            let Some(place) = page_with(index, number) else {
                return Ok(None);
            };
            let offset = index.page_offsets.get(place).copied().unwrap_or_default();
            Ok(range_in(&page(view, version, place as u32)?.parts, offset, number))
        }
    }
}

fn range_in(parts: &[Part], mut offset: u64, number: u16) -> Option<Range<u64>> {
    for part in parts {
        if part.number == number {
            return Some(offset..offset + part.size);
        }
        offset += part.size;
    }
    None
}

/// The page that would hold part `number`.
fn page_with(index: &PartIndex, number: u16) -> Option<usize> {
    index.page_numbers.partition_point(|first| *first <= number).checked_sub(1)
}

fn page(view: &View, version: &Version, number: u32) -> Result<Page, StateError> {
    view.get::<Page>(&pages::key(version.manifest, number))?
        .ok_or_else(|| StateError::Damaged(format!("manifest {} lacks a page", version.manifest)))
}

pub(super) fn object_parts(
    view: &View,
    bucket: BucketId,
    key: &ObjectKey,
    after: u16,
    limit: usize,
) -> Result<Result<Answer, Refusal>, StateError> {
    let Some(version) = view.get::<Version>(&versions::key(bucket, key.as_str()))? else {
        return Ok(Err(Refusal::NoSuchKey));
    };
    let mut found = Vec::new();
    if version.multipart_count().is_some() {
        match &version.parts {
            Parts::Inline(parts) => take_parts(parts, after, limit, &mut found),
            Parts::Paged(index) => {
                let first = page_with(index, after).unwrap_or(0);
                for number in first..index.page_numbers.len() {
                    let page = page(view, &version, number as u32)?;
                    take_parts(&page.parts, after, limit, &mut found);
                    if found.len() > limit {
                        break;
                    }
                }
            }
        }
    }
    let truncated = found.len() > limit;
    found.truncate(limit);
    Ok(Ok(Answer::ObjectParts(ObjectPartPage { version, parts: found, truncated })))
}

/// Adds parts behind `after`, without their extents, until there is one more than `limit`.
fn take_parts(parts: &[Part], after: u16, limit: usize, found: &mut Vec<Part>) {
    for part in parts.iter().filter(|part| part.number > after) {
        if found.len() > limit {
            return;
        }
        found.push(Part {
            number: part.number,
            size: part.size,
            md5: part.md5,
            checksum: part.checksum.clone(),
            extents: Vec::new(),
        });
    }
}
