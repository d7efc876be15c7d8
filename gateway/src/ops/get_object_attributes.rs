//! GetObjectAttributes.

use model::query::{Answer as Found, ObjectPartPage, PlanWanted, Query};
use s3::S3Error;
use s3::headers::class_text;
use s3::list::ListParts;
use s3::xml::attributes::{AttributePart, Attributes, Wanted, response};
use s3::xml::parts::Truncated;

use super::answer::{Answer, document, set_modified};
use super::ask::out_of_turn;
use crate::auth::Permit;
use crate::{Gateway, S3Request};

/// Tells what is recorded of an object, and of its parts.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let wanted = Wanted::parse(&request.headers)?;
    let list = ListParts::parse_attributes(&request.headers)?;
    let page = if wanted.parts && list.max_parts > 0 {
        let (bucket, key) = (bucket.clone(), key.clone());
        let limit = list.max_parts;
        let query = Query::ObjectParts { bucket, key, after: list.after, limit };
        let Found::ObjectParts(page) = gateway.ask(query).await? else { return Err(out_of_turn()) };
        page
    } else {
        let version = gateway.object(&bucket, &key, PlanWanted::Nothing).await?.version;
        ObjectPartPage { version, parts: Vec::new(), truncated: false }
    };
    let parts = page.parts.iter().map(|part| AttributePart {
        number: part.number,
        size: part.size,
        checksum: part.checksum.as_ref(),
    });
    let version = &page.version;
    let attributes = Attributes {
        etag: version.etag,
        size: version.size,
        checksum: version.checksum.as_ref(),
        class: class_text(version.headers.class.as_ref()),
        parts: parts.collect(),
        list,
        truncated: if page.truncated { Truncated::Yes } else { Truncated::No },
    };
    let mut answer = document(response(wanted, &attributes));
    set_modified(answer.headers_mut(), version.modified);
    Ok(answer)
}
