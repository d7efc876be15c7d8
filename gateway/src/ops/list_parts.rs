//! ListParts.

use model::query::{Answer as Found, PartPage, Query};
use s3::S3Error;
use s3::headers::class_text;
use s3::list::ListParts;
use s3::multipart::upload_id;
use s3::xml::parts::{ListedPart, Truncated, UploadTarget, list};

use super::answer::{Answer, document};
use super::ask::out_of_turn;
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Lists the parts of an upload.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let id = upload_id(&request.route.query)?;
    let asked = ListParts::parse(&request.route.query)?;
    let page = if asked.max_parts == 0 {
        let upload = gateway.upload(&bucket, &key, id).await?;
        PartPage { upload, parts: Vec::new(), truncated: false }
    } else {
        let (bucket, key) = (bucket.clone(), key.clone());
        let limit = asked.max_parts;
        let query = Query::Parts { bucket, key, upload: id, after: asked.after, limit };
        let Found::Parts(page) = gateway.ask(query).await? else { return Err(out_of_turn()) };
        page
    };
    let parts = page.parts.iter().map(|uploaded| ListedPart {
        number: uploaded.part.number,
        modified: uploaded.modified,
        md5: uploaded.part.md5,
        size: uploaded.part.size,
        checksum: uploaded.part.checksum.as_ref(),
    });
    let parts: Vec<ListedPart<'_>> = parts.collect();
    let target = UploadTarget {
        bucket: bucket.as_str(),
        key: key.as_str(),
        id,
        checksum: page.upload.checksum.map(|checksum| (checksum.algorithm, checksum.kind)),
        class: class_text(page.upload.headers.class.as_ref()),
    };
    let truncated = if page.truncated { Truncated::Yes } else { Truncated::No };
    Ok(document(list(target, gateway.owner(), asked, &parts, truncated)))
}
