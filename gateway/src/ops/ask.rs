//! Questions to the metadata that several operations have.

use model::bucket::Bucket;
use model::command::{Command, Outcome, WriteCondition};
use model::ids::UploadId;
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, MetadataError, ObjectFound, PlanWanted, Query};
use model::upload::Upload;
use model::version::ETag;
use s3::S3Error;
use s3::condition::WriteCondition as AskedCondition;

use crate::{Gateway, refusal};

impl Gateway {
    /// A linearizable answer; refusals are errors.
    pub(crate) async fn ask(&self, query: Query) -> Result<Answer, S3Error> {
        match self.engine.metadata().query(query).await.map_err(refusal::of_metadata)? {
            Answer::Refused(refusal) => Err(refusal::of_refusal(refusal)),
            answer => Ok(answer),
        }
    }

    /// Carries out a command that commits no body; refusals are errors.
    pub(crate) async fn command(&self, command: Command) -> Result<Outcome, S3Error> {
        match self.engine.metadata().propose(command).await.map_err(refusal::of_metadata)? {
            Outcome::Refused(refusal) => Err(refusal::of_refusal(refusal)),
            outcome => Ok(outcome),
        }
    }

    /// A bucket, or `NoSuchBucket`.
    pub(crate) async fn bucket(&self, name: &BucketName) -> Result<Bucket, S3Error> {
        match self.ask(Query::Bucket { name: name.clone() }).await {
            Ok(Answer::Bucket(bucket)) => Ok(bucket),
            Ok(_) => Err(out_of_turn()),
            Err(error) => Err(error.field("BucketName", name.as_str())),
        }
    }

    /// An upload, or `NoSuchUpload`.
    pub(crate) async fn upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<Upload, S3Error> {
        let query = Query::Upload { bucket: bucket.clone(), key: key.clone(), upload };
        match self.ask(query).await? {
            Answer::Upload(upload) => Ok(upload),
            _ => Err(out_of_turn()),
        }
    }

    /// An object and how to read it.
    pub(crate) async fn object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        plan: PlanWanted,
    ) -> Result<ObjectFound, S3Error> {
        let query = Query::Object { bucket: bucket.clone(), key: key.clone(), plan };
        match self.ask(query).await {
            Ok(Answer::Object(found)) => Ok(found),
            Ok(_) => Err(out_of_turn()),
            Err(error) if error.code == s3::S3ErrorCode::NoSuchKey => {
                Err(error.field("Key", key.as_str()))
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses a write early whose bucket isn't there or whose condition doesn't hold now. The
    /// commit decides; this only saves the client from sending a body in vain.
    pub(crate) async fn check_write(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: WriteCondition,
    ) -> Result<(), S3Error> {
        let etag = match condition {
            WriteCondition::Always => return self.bucket(bucket).await.map(|_| ()),
            _ => {
                self.object(bucket, key, PlanWanted::Nothing).await.map(|found| found.version.etag)
            }
        };
        let holds = match (condition, etag) {
            (WriteCondition::Absent, Err(error)) if error.code == s3::S3ErrorCode::NoSuchKey => {
                true
            }
            (_, Err(error)) => return Err(error),
            (WriteCondition::Absent, Ok(_)) => false,
            (WriteCondition::Matches(expected), Ok(etag)) => expected == etag,
            (WriteCondition::Always | WriteCondition::Present, Ok(_)) => true,
        };
        if holds { Ok(()) } else { Err(S3Error::new(s3::S3ErrorCode::PreconditionFailed)) }
    }
}

/// The condition as the metadata evaluates it. An entity tag that can't be ours matches nothing.
pub fn write_condition(asked: &AskedCondition) -> WriteCondition {
    match asked {
        AskedCondition::Always => WriteCondition::Always,
        AskedCondition::IfAbsent => WriteCondition::Absent,
        AskedCondition::IfPresent => WriteCondition::Present,
        AskedCondition::IfMatch(tag) => WriteCondition::Matches(
            s3::multipart::parse_etag(tag).unwrap_or(ETag { md5: [0; 16], parts: Some(0) }),
        ),
    }
}

/// The metadata answered something else than it was asked.
pub fn out_of_turn() -> S3Error {
    refusal::of_metadata(MetadataError::Unavailable)
}
