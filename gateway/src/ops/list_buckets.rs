//! ListBuckets.
//!
//! The bucket of the metadata's backups isn't listed: nobody made it, and programs that go through
//! all buckets mean those of users.

use model::query::{Answer as Found, Query};
use s3::S3Error;

use super::answer::{Answer, document};
use super::ask::out_of_turn;
use crate::auth::Permit;
use crate::backup_store::BACKUP_BUCKET;
use crate::{Gateway, S3Request};

/// Lists the buckets, a page at a time where the client asks for pages.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let list = s3::list::ListBuckets::parse(&request.route.query)?;
    let query = Query::Buckets {
        prefix: list.prefix.clone(),
        after: list.after.clone(),
        // One more than the page tells whether there is another; and one may be left out.
        limit: list.max_buckets.saturating_add(2),
    };
    let Found::Buckets(mut buckets) = gateway.ask(query).await? else { return Err(out_of_turn()) };
    buckets.retain(|bucket| bucket.name.as_str() != BACKUP_BUCKET);
    let page = usize::try_from(list.max_buckets).unwrap_or(usize::MAX);
    let more = buckets.len() > page;
    buckets.truncate(page);
    let more_after = buckets.last().filter(|_| more).map(|bucket| bucket.name.as_str().to_owned());
    let listed = buckets.iter().map(|bucket| (bucket.name.as_str(), bucket.created));
    Ok(document(s3::xml::buckets::list_all_my_buckets(
        gateway.owner(),
        &list,
        listed,
        more_after.as_deref(),
    )))
}
