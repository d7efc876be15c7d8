//! ToRecode: which objects of a bucket don't have the class, or the coding, that they are to have.

use model::class::{RecodeOrder, RecodePage};
use model::cluster_map::ClusterMap;
use model::coding::Coding;
use model::command::Refusal;
use model::extent::Extent;
use model::ids::BucketId;
use model::names::{BucketName, ClassName};
use model::query::Answer;
use model::time::Timestamp;
use model::version::{Part, Parts, Version};

use super::list::{Item, Listing, object_key};
use super::{Stop, buckets, in_bucket};
use crate::state::{StateError, StateMachine};
use crate::tables::pages::{self, Page};
use crate::tables::{TableId, View, decode};

/// A page of what is to be done, and how much that is.
pub(super) fn to_recode(
    machine: &StateMachine,
    bucket: &BucketName,
    after: &str,
    limit: usize,
    class: Option<&ClassName>,
) -> Result<Answer, Stop> {
    let found = buckets::find(machine, bucket)?;
    let supposed = class.map(|class| RecodeOrder {
        ordered: Timestamp(u64::MAX),
        ..RecodeOrder::new(class.clone())
    });
    let map = machine.directory().map.clone();
    let (Some(order), Some(map)) = (supposed.or(found.recode), map) else {
        return Ok(Answer::ToRecode(RecodePage::default()));
    };
    if !map.has_class(&order.class) {
        return Err(Stop::Refused(Refusal::NoSuchClass));
    }
    in_bucket(machine, bucket, |view, id| {
        let wanted = Wanted { view, map: &map, order: &order };
        wanted.page(id, after, limit).map(Ok)
    })
}

struct Wanted<'a> {
    view: &'a View,
    map: &'a ClusterMap,
    order: &'a RecodeOrder,
}

impl Wanted<'_> {
    fn page(&self, bucket: BucketId, after: &str, limit: usize) -> Result<Answer, StateError> {
        let listing = Listing { bucket, prefix: "", delimiter: "" };
        let mut page = RecodePage::default();
        let (mut last, mut looked_at) = (None, 0);
        listing.walk(self.view, TableId::Versions, &listing.start(after), |item| {
            let Item::Key(key, value) = item else { return Ok(true) };
            if looked_at == limit {
                page.next = last.take();
                return Ok(false);
            }
            looked_at += 1;
            let version = decode::<Version>(value)?;
            let key = object_key(&key)?;
            if self.is_to_do(&version)? {
                page.keys.push(key.clone());
                page.amount.objects += 1;
                page.amount.bytes += version.size;
            }
            last = Some(key);
            Ok(true)
        })?;
        Ok(Answer::ToRecode(page))
    }

    fn is_to_do(&self, version: &Version) -> Result<bool, StateError> {
        let own = version.headers.class.as_ref();
        let class = self.order.class_of(version.modified, own);
        if class != own {
            return Ok(true);
        }
        let coding = self.map.coding_of(class);
        if version.record.as_ref().is_some_and(|record| record.coding != coding) {
            return Ok(true);
        }
        match &version.parts {
            Parts::Inline(parts) => Ok(has_other(parts, coding)),
            Parts::Paged(index) => {
                for number in 0..index.page_offsets.len() as u32 {
                    let key = pages::key(version.manifest, number);
                    let page = self.view.get::<Page>(&key)?.ok_or_else(|| {
                        StateError::Damaged(format!("manifest {} lacks a page", version.manifest))
                    })?;
                    if has_other(&page.parts, coding) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

/// Whether an extent has another coding.
fn has_other(parts: &[Part], coding: Coding) -> bool {
    let is_other = |extent: &Extent| extent.coding != coding;
    parts.iter().flat_map(|part| &part.extents).any(is_other)
}
