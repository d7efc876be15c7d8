//! ListObjects, and what it shares with ListMultipartUploads: prefix, delimiter, marker.
//!
//! A common prefix is passed over by seeking behind it, so a page costs what it holds, not what
//! lies below its prefixes. An item (key or common prefix) is listed when it is greater than the
//! marker, in byte order.

use model::command::Refusal;
use model::ids::BucketId;
use model::names::ObjectKey;
use model::query::{Answer, ListObjects, ObjectPage, ObjectSummary};
use model::upload::UploadChecksum;
use model::version::Version;

use crate::state::StateError;
use crate::tables::{TableId, View, Walk, decode, keys};

/// What of the keys is listed.
pub(super) struct Listing<'a> {
    pub bucket: BucketId,
    pub prefix: &'a str,
    pub delimiter: &'a str,
}

/// An item of a listing.
pub(super) enum Item<'a> {
    /// An object key, and the row's value.
    Key(String, &'a [u8]),
    /// A common prefix.
    CommonPrefix(String),
}

impl Listing<'_> {
    /// The common prefix that `key` is rolled up into.
    pub fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = key.strip_prefix(self.prefix)?;
        let at = rest.find(self.delimiter)?;
        key.get(..self.prefix.len() + at + self.delimiter.len())
    }

    /// Where to begin behind `after`.
    pub fn start(&self, after: &str) -> Vec<u8> {
        if after.is_empty() {
            return keys::prefix(self.bucket, self.prefix);
        }
        match self.common_prefix(after) {
            // The common prefix is not greater than the marker, so all below it is passed over.
            Some(common) => keys::behind_prefix(self.bucket, common),
            None => keys::behind_key(self.bucket, after),
        }
    }

    /// Gives each item from `start` on to `visit`, until it says no.
    pub fn walk(
        &self,
        view: &View,
        table: TableId,
        start: &[u8],
        mut visit: impl FnMut(Item<'_>) -> Result<bool, StateError>,
    ) -> Result<(), StateError> {
        let prefix = keys::prefix(self.bucket, self.prefix);
        view.walk(table, &prefix, start, |row, value| {
            let (key, _) = keys::read(row)
                .ok_or_else(|| StateError::Damaged("a row has a bad object key".to_owned()))?;
            let (item, next) = match self.common_prefix(&key) {
                Some(common) => {
                    let next = Walk::Seek(keys::behind_prefix(self.bucket, common));
                    (Item::CommonPrefix(common.to_owned()), next)
                }
                None => (Item::Key(key, value), Walk::On),
            };
            Ok(if visit(item)? { next } else { Walk::Stop })
        })
    }
}

pub(super) fn objects(
    view: &View,
    bucket: BucketId,
    list: &ListObjects,
) -> Result<Result<Answer, Refusal>, StateError> {
    let limit = super::rows(list.limit);
    let listing = Listing { bucket, prefix: &list.prefix, delimiter: &list.delimiter };
    let mut page = ObjectPage::default();
    let mut last = None;
    let mut listed = 0;
    if limit == 0 {
        return Ok(Ok(Answer::Objects(page)));
    }
    listing.walk(view, TableId::Versions, &listing.start(&list.after), |item| {
        if listed == limit {
            page.next = last.take();
            return Ok(false);
        }
        listed += 1;
        match item {
            Item::CommonPrefix(common) => {
                last = Some(common.clone());
                page.common_prefixes.push(common);
            }
            Item::Key(key, value) => {
                page.objects.push(summary(&key, &decode::<Version>(value)?)?);
                last = Some(key);
            }
        }
        Ok(true)
    })?;
    Ok(Ok(Answer::Objects(page)))
}

fn summary(key: &str, version: &Version) -> Result<ObjectSummary, StateError> {
    Ok(ObjectSummary {
        key: object_key(key)?,
        size: version.size,
        etag: version.etag,
        modified: version.modified,
        checksum: version
            .checksum
            .as_ref()
            .map(|checksum| UploadChecksum { algorithm: checksum.algorithm, kind: checksum.kind }),
        class: version.headers.class.clone(),
    })
}

/// A key from a table.
pub(super) fn object_key(key: &str) -> Result<ObjectKey, StateError> {
    ObjectKey::parse(key)
        .map_err(|error| StateError::Damaged(format!("a row has a bad object key: {error}")))
}
