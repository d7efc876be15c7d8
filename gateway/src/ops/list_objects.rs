//! ListObjects, and what it shares with ListObjectsV2.

use model::query::{Answer as Found, ListObjects as Listing, ObjectPage, Query};
use s3::S3Error;
use s3::headers::class_text;
use s3::list::ListObjects;
use s3::xml::objects::{self, ListedObject};

use super::answer::{Answer, document};
use super::ask::out_of_turn;
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Lists objects behind a marker.
pub async fn run(
    gateway: &Gateway,
    permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let list = ListObjects::parse_v1(&request.route.query)?;
    page(gateway, permit, request, &list).await
}

/// Answers one page of either version.
pub(super) async fn page(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
    list: &ListObjects,
) -> Result<Answer, S3Error> {
    let bucket = request.bucket()?;
    let found = if list.max_keys == 0 {
        // An empty page isn't truncated, whatever there is.
        gateway.bucket(&bucket).await?;
        ObjectPage::default()
    } else {
        let query = Query::Objects(Listing {
            bucket: bucket.clone(),
            prefix: list.prefix.clone(),
            delimiter: list.delimiter.clone().unwrap_or_default(),
            after: list.after.clone(),
            limit: list.max_keys,
        });
        match gateway.ask(query).await? {
            Found::Objects(found) => found,
            _ => return Err(out_of_turn()),
        }
    };
    let objects = found.objects.iter().map(|object| ListedObject {
        key: object.key.as_str(),
        modified: object.modified,
        etag: object.etag,
        size: object.size,
        checksum: object.checksum.map(|checksum| (checksum.algorithm, checksum.kind)),
        class: class_text(object.class.as_ref()),
    });
    let page = objects::ObjectPage {
        objects: objects.collect(),
        common_prefixes: found.common_prefixes.iter().map(String::as_str).collect(),
        more_after: found.next.as_deref(),
    };
    Ok(document(objects::list_bucket_result(bucket.as_str(), gateway.owner(), list, &page)))
}
