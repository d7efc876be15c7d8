//! CopyObject.

use engine::{CommitError, ObjectCommit, WriteTarget};
use model::checksum::ChecksumKind;
use model::command::{Committed, CopyObject, Refusal, SourceObject, WriteCondition};
use model::names::{BucketName, ClassName, ObjectKey};
use model::query::PlanWanted;
use model::version::{ObjectHeaders, Version};
use s3::checksum::{BodyDigests, wanted_algorithm};
use s3::condition::{ReadConditions, WriteCondition as AskedCondition};
use s3::copy_source::{CopySource, MetadataDirective};
use s3::{S3Error, S3ErrorCode};

use super::answer::{Answer, document};
use super::ask::write_condition;
use crate::auth::{Permit, authorize};
use crate::{Gateway, S3Request, payload, refusal};

/// How often a copy begins anew when its source is replaced meanwhile.
const ATTEMPTS_MAX: usize = 4;

/// Where a copy goes.
struct Destination {
    bucket: BucketName,
    key: ObjectKey,
    condition: WriteCondition,
    /// New headers; `None` for the source's.
    headers: Option<ObjectHeaders>,
    /// The storage class; `None` for `STANDARD`.
    class: Option<ClassName>,
}

impl Destination {
    /// The headers of a copy of `version`.
    fn headers(&self, version: &Version) -> ObjectHeaders {
        let headers = self.headers.as_ref().unwrap_or(&version.headers).clone();
        ObjectHeaders { class: self.class.clone(), ..headers }
    }

    /// The same to be told to the metadata, `STANDARD` by its name where the bucket has another class.
    fn told(&self, of_bucket: Option<&ClassName>, headers: ObjectHeaders) -> ObjectHeaders {
        let is_said = self.class.as_ref() != of_bucket;
        let class = self.class.clone().unwrap_or_else(ClassName::standard);
        ObjectHeaders { class: is_said.then_some(class), ..headers }
    }
}

/// Copies an object, by reference where that is enough.
pub async fn run(
    gateway: &Gateway,
    _permit: Permit,
    request: &S3Request,
) -> Result<Answer, S3Error> {
    let (bucket, key) = request.object()?;
    let source = CopySource::parse(&request.headers)?;
    let directive = MetadataDirective::parse(&request.headers)?;
    let algorithm = wanted_algorithm(&request.headers)?;
    authorize::authorize_source(&request.principal, &source.bucket, &source.key)?;
    let conditions = ReadConditions::of_copy_source(&request.headers);
    let headers = match directive {
        MetadataDirective::Copy => None,
        MetadataDirective::Replace => Some(s3::headers::object_headers(&request.headers)?),
    };
    let asked = gateway.known_class(s3::headers::storage_class(&request.headers)?).await?;
    let class = gateway.class_in(&bucket, asked.as_ref()).await?;
    let to_itself = source.bucket == bucket && source.key == key;
    if to_itself && headers.is_none() && algorithm.is_none() && asked.is_none() {
        return Err(S3Error::with(
            S3ErrorCode::InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let condition = write_condition(&AskedCondition::parse(&request.headers)?);
    let destination = Destination { bucket, key, condition, headers, class };
    for _attempt in 0..ATTEMPTS_MAX {
        let found = gateway.object(&source.bucket, &source.key, PlanWanted::Nothing).await?;
        let version = &found.version;
        conditions.evaluate_copy_source(&version.etag.to_string(), version.modified)?;
        // What another algorithm would give is only found by reading.
        let as_it_is = algorithm.is_none_or(|algorithm| {
            version.checksum.as_ref().is_some_and(|checksum| {
                checksum.algorithm == algorithm && checksum.kind == ChecksumKind::FullObject
            })
        });
        let own = version.headers.class.as_ref();
        let has_coding = gateway.have_one_coding(own, destination.class.as_ref()).await?;
        let copied = if as_it_is && has_coding {
            share(gateway, &source, version, &destination).await
        } else {
            let known = version.checksum.as_ref().map(|checksum| checksum.algorithm);
            let digests = BodyDigests::of_copy(algorithm.or(known));
            rewrite(gateway, &source, digests, &destination).await
        };
        if let Some(committed) = copied? {
            let parts = committed.etag.parts;
            let checksum = committed.checksum.as_ref().map(|checksum| (checksum, parts));
            return Ok(document(s3::xml::copy::object(
                committed.etag,
                committed.modified,
                checksum,
            )));
        }
    }
    Err(refusal::of_refusal(Refusal::SourceChanged))
}

/// A copy that shares the source's bytes; `None` when the source was replaced meanwhile.
async fn share(
    gateway: &Gateway,
    source: &CopySource,
    version: &Version,
    destination: &Destination,
) -> Result<Option<Committed>, S3Error> {
    // Of the source's headers nothing is told but what changes.
    let is_same = destination.headers.is_none() && version.headers.class == destination.class;
    let of_bucket = gateway.class_in(&destination.bucket, None).await?;
    let headers = destination.told(of_bucket.as_ref(), destination.headers(version));
    let copy = CopyObject {
        source: SourceObject {
            bucket: source.bucket.clone(),
            key: source.key.clone(),
            manifest: version.manifest,
        },
        bucket: destination.bucket.clone(),
        key: destination.key.clone(),
        manifest: gateway.engine.new_manifest(),
        headers: (!is_same).then_some(headers),
        condition: destination.condition,
        record: None,
    };
    match gateway.engine.copy_object(copy).await {
        Ok(committed) => Ok(Some(committed)),
        Err(CommitError::Refused(Refusal::SourceChanged)) => Ok(None),
        Err(error) => Err(refusal::of_commit(error)),
    }
}

/// A copy with bytes of its own.
async fn rewrite(
    gateway: &Gateway,
    source: &CopySource,
    digests: BodyDigests,
    destination: &Destination,
) -> Result<Option<Committed>, S3Error> {
    let found = gateway.object(&source.bucket, &source.key, PlanWanted::Whole).await?;
    s3::multipart::check_put_bytes(found.version.size)?;
    let (bucket, key) = (destination.bucket.clone(), destination.key.clone());
    gateway.check_write(&bucket, &key, destination.condition).await?;
    let manifest = gateway.engine.new_manifest();
    let of_bucket = gateway.class_in(&bucket, None).await?;
    let headers = destination.told(of_bucket.as_ref(), destination.headers(&found.version));
    let target = WriteTarget {
        bucket: bucket.clone(),
        bucket_id: None,
        key: key.clone(),
        manifest,
        upload: None,
        part: 0,
        size_hint: Some(found.version.size),
        headers: Some(headers.clone()),
        checksum: digests.algorithm(),
        class: Some(destination.class.clone().unwrap_or_else(ClassName::standard)),
    };
    let (written, digests) =
        payload::copy(&gateway.engine, &gateway.hasher, &found, digests, target).await?;
    let commit = ObjectCommit {
        bucket,
        key,
        manifest,
        md5: digests.md5,
        headers,
        checksum: digests.checksum,
        condition: destination.condition,
    };
    gateway.engine.put_object(written, commit).await.map(Some).map_err(refusal::of_commit)
}
