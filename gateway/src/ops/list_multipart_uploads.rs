//! ListMultipartUploads.

use model::query::{Answer as Found, ListUploads as Listing, Query, UploadPage};
use s3::S3Error;
use s3::headers::class_text;
use s3::list::ListUploads;
use s3::xml::uploads::{self, ListedUpload};

use super::answer::{Answer, document};
use super::ask::out_of_turn;
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Lists the uploads in progress.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let bucket = request.bucket()?;
    let list = ListUploads::parse(&request.route.query)?;
    let found = if list.max_uploads == 0 {
        gateway.bucket(&bucket).await?;
        UploadPage::default()
    } else {
        let query = Query::Uploads(Listing {
            bucket: bucket.clone(),
            prefix: list.prefix.clone(),
            delimiter: list.delimiter.clone().unwrap_or_default(),
            key_marker: list.key_marker.clone(),
            upload_marker: list.upload_id_marker,
            limit: list.max_uploads,
        });
        let Found::Uploads(found) = gateway.ask(query).await? else { return Err(out_of_turn()) };
        found
    };
    let listed = found.uploads.iter().map(|(key, upload)| ListedUpload {
        key: key.as_str(),
        id: upload.id,
        initiated: upload.initiated,
        checksum: upload.checksum.map(|checksum| (checksum.algorithm, checksum.kind)),
        class: class_text(upload.headers.class.as_ref()),
    });
    let page = uploads::UploadPage {
        uploads: listed.collect(),
        common_prefixes: found.common_prefixes.iter().map(String::as_str).collect(),
        more_after: found.next.as_ref().map(|(key, upload)| (key.as_str(), *upload)),
    };
    Ok(document(uploads::list(bucket.as_str(), gateway.owner(), &list, &page)))
}
