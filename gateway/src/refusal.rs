//! What the engine and the metadata say, in S3's words.
//!
//! What always holds: an outcome that isn't known is never answered as a failure that changed
//! nothing (I-5); what the client can cure by trying again is a 503.

use engine::{CommitError, ReadError, WriteError};
use model::command::Refusal;
use model::query::MetadataError;
use s3::{S3Error, S3ErrorCode};

/// The metadata refused.
pub fn of_refusal(refusal: Refusal) -> S3Error {
    let code = match refusal {
        Refusal::NoSuchBucket => S3ErrorCode::NoSuchBucket,
        Refusal::BucketAlreadyOwned => S3ErrorCode::BucketAlreadyOwnedByYou,
        Refusal::BucketTaken => S3ErrorCode::BucketAlreadyExists,
        Refusal::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
        Refusal::TooManyBuckets => S3ErrorCode::TooManyBuckets,
        Refusal::NoSuchKey => S3ErrorCode::NoSuchKey,
        Refusal::NoSuchUpload => S3ErrorCode::NoSuchUpload,
        Refusal::PreconditionFailed => S3ErrorCode::PreconditionFailed,
        Refusal::InvalidPart { number } => {
            return S3Error::new(S3ErrorCode::InvalidPart).field("PartNumber", number.to_string());
        }
        Refusal::PartTooSmall { number } => {
            return S3Error::new(S3ErrorCode::EntityTooSmall)
                .field("PartNumber", number.to_string());
        }
        Refusal::ObjectTooLarge => S3ErrorCode::EntityTooLarge,
        Refusal::NoCluster => {
            return unavailable("The cluster isn't set up yet.");
        }
        Refusal::SessionEnded => {
            return unavailable("The gateway's writer session ended. Send the request again.");
        }
        Refusal::LevelTooLow => {
            return S3Error::with(
                S3ErrorCode::NotImplemented,
                "This works as soon as every host of the cluster runs this release.",
            );
        }
        Refusal::MovesOutdated => {
            return unavailable("Disks were exchanged while the object was sent. Send it again.");
        }
        Refusal::SourceChanged => {
            return unavailable("The source of the copy keeps changing. Try again.");
        }
        Refusal::NoSuchDisk
        | Refusal::InvalidCommand
        | Refusal::TokenInvalid
        | Refusal::NoSuchNode
        | Refusal::NodeInUse
        | Refusal::AuthorityExists
        | Refusal::NotHeld
        | Refusal::Superseded
        | Refusal::GroupsSettled
        | Refusal::MoveUnfinished
        | Refusal::ClassInUse
        | Refusal::TooManyClasses
        | Refusal::RecodeChanged
        | Refusal::UpkeepChanged => S3ErrorCode::InternalError,
        Refusal::NoSuchClass => S3ErrorCode::InvalidStorageClass,
    };
    S3Error::new(code)
}

/// A question to the metadata failed.
pub fn of_metadata(error: MetadataError) -> S3Error {
    of_commit(CommitError::from(error))
}

/// A change of the metadata failed.
pub fn of_commit(error: CommitError) -> S3Error {
    match error {
        CommitError::Refused(refusal) => of_refusal(refusal),
        CommitError::SessionEnded => of_refusal(Refusal::SessionEnded),
        CommitError::Unknown => unavailable(
            "It isn't known whether the request took effect. Look before you send it again.",
        ),
        CommitError::Unavailable => {
            unavailable("The metadata service is not available. Try again.")
        }
        CommitError::Overloaded => S3Error::new(S3ErrorCode::SlowDown),
    }
}

fn unavailable(message: &'static str) -> S3Error {
    S3Error::with(S3ErrorCode::ServiceUnavailable, message)
}

/// The bytes of an object could not be read.
pub fn of_read(error: ReadError) -> S3Error {
    tracing::error!(%error, "an object could not be read");
    match error {
        ReadError::Unavailable => {
            unavailable("Too many disks are out of reach to read the object. Try again.")
        }
        ReadError::Damaged => S3Error::with(
            S3ErrorCode::InternalError,
            "Too many shards of the object are lost or damaged.",
        ),
    }
}

/// A body could not be written.
pub fn of_write(error: WriteError) -> S3Error {
    tracing::warn!(%error, "a body could not be written");
    match error {
        WriteError::Unavailable => {
            unavailable("Not enough disks are available to write. Try again.")
        }
        WriteError::OutOfReach => {
            unavailable("This gateway can't reach enough disks to write. Try again.")
        }
        WriteError::Full => S3Error::new(S3ErrorCode::InsufficientStorage),
        WriteError::Overloaded => S3Error::new(S3ErrorCode::SlowDown),
        WriteError::NameTooLong => S3Error::new(S3ErrorCode::KeyTooLongError),
        WriteError::Failed => S3Error::new(S3ErrorCode::InternalError),
    }
}
