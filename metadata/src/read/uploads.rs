//! Upload, Uploads, Parts.

use model::command::Refusal;
use model::ids::{BucketId, UploadId};
use model::names::ObjectKey;
use model::query::{Answer, ListUploads, PartPage, UploadPage};
use model::upload::{Upload, UploadedPart};

use super::list::{Item, Listing, object_key};
use crate::state::StateError;
use crate::tables::{TableId, View, Walk, decode, keys, parts, uploads};

pub(super) fn upload(
    view: &View,
    bucket: BucketId,
    key: &ObjectKey,
    upload: UploadId,
) -> Result<Result<Answer, Refusal>, StateError> {
    let found = view.get::<Upload>(&uploads::key(bucket, key.as_str(), upload))?;
    Ok(found.map(Answer::Upload).ok_or(Refusal::NoSuchUpload))
}

pub(super) fn parts(
    view: &View,
    bucket: BucketId,
    key: &ObjectKey,
    upload: UploadId,
    after: u16,
    limit: usize,
) -> Result<Result<Answer, Refusal>, StateError> {
    let row = uploads::key(bucket, key.as_str(), upload);
    let Some(upload) = view.get::<Upload>(&row)? else {
        return Ok(Err(Refusal::NoSuchUpload));
    };
    let mut page = PartPage { upload, parts: Vec::new(), truncated: false };
    let Some(first) = after.checked_add(1) else {
        return Ok(Ok(Answer::Parts(page)));
    };
    view.walk(TableId::Parts, &row, &parts::key(&row, first), |_, value| {
        if page.parts.len() == limit {
            page.truncated = true;
            return Ok(Walk::Stop);
        }
        page.parts.push(decode::<UploadedPart>(value)?);
        Ok(Walk::On)
    })?;
    Ok(Ok(Answer::Parts(page)))
}

/// Uploads of one key come in order of initiation, while their rows are in order of id: so all
/// uploads of a key are read before one of them is listed.
pub(super) fn uploads(
    view: &View,
    bucket: BucketId,
    list: &ListUploads,
) -> Result<Result<Answer, Refusal>, StateError> {
    let limit = super::rows(list.limit);
    let listing = Listing { bucket, prefix: &list.prefix, delimiter: &list.delimiter };
    let mut pager = Pager { page: UploadPage::default(), limit, last: None };
    if limit == 0 {
        return Ok(Ok(Answer::Uploads(pager.page)));
    }
    let mut start = listing.start(&list.key_marker);
    let marker = list.upload_marker.filter(|_| !list.key_marker.is_empty());
    if let Some(marker) = marker
        && listing.common_prefix(&list.key_marker).is_none()
    {
        start = keys::exact(bucket, &list.key_marker);
        let rest = behind_marker(view, bucket, &list.key_marker, marker)?;
        if list.key_marker.starts_with(&list.prefix) && !pager.take_key(&list.key_marker, rest)? {
            return Ok(Ok(Answer::Uploads(pager.page)));
        }
        start = keys::behind_key(bucket, &list.key_marker).max(start);
    }
    let mut gathered: Option<(String, Vec<Upload>)> = None;
    let mut is_full = false;
    listing.walk(view, TableId::Uploads, &start, |item| {
        match item {
            Item::Key(key, value) => {
                let upload = decode::<Upload>(value)?;
                match &mut gathered {
                    Some((same, uploads)) if *same == key => uploads.push(upload),
                    other => {
                        if let Some((key, uploads)) = other.replace((key, vec![upload])) {
                            is_full = !pager.take_key(&key, uploads)?;
                        }
                    }
                }
            }
            Item::CommonPrefix(common) => {
                if let Some((key, uploads)) = gathered.take() {
                    is_full = !pager.take_key(&key, uploads)?;
                }
                is_full = is_full || !pager.take_common_prefix(common);
            }
        }
        Ok(!is_full)
    })?;
    if let Some((key, uploads)) = gathered.take()
        && !is_full
    {
        pager.take_key(&key, uploads)?;
    }
    Ok(Ok(Answer::Uploads(pager.page)))
}

/// The uploads of a key that come behind the upload `marker`.
fn behind_marker(
    view: &View,
    bucket: BucketId,
    key: &str,
    marker: UploadId,
) -> Result<Vec<Upload>, StateError> {
    let prefix = keys::exact(bucket, key);
    let mut uploads = Vec::new();
    view.walk(TableId::Uploads, &prefix, &prefix, |_, value| {
        uploads.push(decode::<Upload>(value)?);
        Ok(Walk::On)
    })?;
    let place = uploads.iter().find(|upload| upload.id == marker).map(order);
    // A marker that is gone has no place in time; its id is all that is left to go by.
    uploads.retain(|upload| match place {
        Some(place) => order(upload) > place,
        None => upload.id > marker,
    });
    Ok(uploads)
}

fn order(upload: &Upload) -> (u64, UploadId) {
    (upload.initiated.0, upload.id)
}

struct Pager {
    page: UploadPage,
    limit: usize,
    last: Option<(String, Option<UploadId>)>,
}

impl Pager {
    /// Whether there is room; if not, the page says how to go on.
    fn has_room(&mut self) -> bool {
        let listed = self.page.uploads.len() + self.page.common_prefixes.len();
        if listed < self.limit {
            return true;
        }
        self.page.next = self.last.take();
        false
    }

    /// Lists the uploads of a key, in order of initiation.
    fn take_key(&mut self, key: &str, mut uploads: Vec<Upload>) -> Result<bool, StateError> {
        uploads.sort_by_key(order);
        let object = object_key(key)?;
        for upload in uploads {
            if !self.has_room() {
                return Ok(false);
            }
            self.last = Some((key.to_owned(), Some(upload.id)));
            self.page.uploads.push((object.clone(), upload));
        }
        Ok(true)
    }

    fn take_common_prefix(&mut self, common: String) -> bool {
        if !self.has_room() {
            return false;
        }
        self.last = Some((common.clone(), None));
        self.page.common_prefixes.push(common);
        true
    }
}
