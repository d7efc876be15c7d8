//! Commits: one metadata command makes what was written an object.
//!
//! In: a written body and what is to be recorded with it. Out: what was committed, or why not. A
//! body that was definitely refused is deleted; one with an unknown outcome never is (I-5, I-9).

use model::checksum::StoredChecksum;
use model::command::{Command, CommitObject, Committed, Outcome, Refusal, WriteCondition};
use model::extent::Extent;
use model::ids::ManifestId;
use model::names::{BucketName, ObjectKey};
use model::query::MetadataError;
use model::version::{ETag, ObjectHeaders, Part};

use crate::engine::Engine;
use crate::recover::{Recorded, owner_tells_all};
use crate::write::WrittenBody;

/// How often a record is written whose session ends before the commit.
const RECORD_ATTEMPTS: usize = 3;

/// Why a command did not succeed; each variant says what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The metadata says no. Nothing was changed.
    #[error(transparent)]
    Refused(Refusal),
    /// The writer session ended before the commit: the body must be sent again. Nothing was
    /// changed.
    #[error("the writer session ended; send the request again")]
    SessionEnded,
    /// It may or may not have taken effect (I-5), and a later read will tell.
    #[error("the outcome of the commit is unknown")]
    Unknown,
    /// The metadata is not available, or answers out of turn. Nothing was changed.
    #[error("the metadata service is not available")]
    Unavailable,
    /// The metadata has too much to do. Nothing was changed.
    #[error("the metadata service is overloaded")]
    Overloaded,
}

impl CommitError {
    /// Whether it is certain that nothing was changed, and never will be.
    pub const fn is_definite(&self) -> bool {
        match self {
            Self::Refused(_) | Self::SessionEnded | Self::Unavailable | Self::Overloaded => true,
            Self::Unknown => false,
        }
    }
}

impl From<MetadataError> for CommitError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Unknown => Self::Unknown,
            MetadataError::Overloaded => Self::Overloaded,
            MetadataError::NotLeader { .. }
            | MetadataError::Unavailable
            | MetadataError::Fenced => Self::Unavailable,
        }
    }
}

/// What PutObject records with a body.
#[derive(Clone, Debug)]
pub struct ObjectCommit {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: ObjectKey,
    /// The body's name, the same as in its [`crate::WriteTarget`].
    pub manifest: ManifestId,
    /// MD5 of the body, which is also its entity tag.
    pub md5: [u8; 16],
    /// Headers to keep.
    pub headers: ObjectHeaders,
    /// The checksum that the client asked for.
    pub checksum: Option<StoredChecksum>,
    /// The condition on what it replaces.
    pub condition: WriteCondition,
}

impl Engine {
    /// Makes a written body the object of a key: the linearization point of a PUT. Cancelled
    /// half-way the outcome is unknown, and the shards are kept.
    pub async fn put_object(
        &self,
        body: WrittenBody,
        commit: ObjectCommit,
    ) -> Result<Committed, CommitError> {
        let size = body.size();
        if size == 0 {
            return self.put_empty_object(commit).await;
        }
        let parts = {
            let (md5, extents) = (commit.md5, body.extents().to_vec());
            vec![Part { number: 0, size, md5, checksum: commit.checksum.clone(), extents }]
        };
        let record = if owner_tells_all(&commit, size) {
            Recorded::none()
        } else {
            self.record_of_object(&commit, size, parts.clone()).await?
        };
        let command = object_command(commit, size, parts, record.extent());
        self.commit_bodies([Some(body), record.into_body()], command).await
    }

    /// A body without bytes has a record only, and that can be written again.
    async fn put_empty_object(&self, commit: ObjectCommit) -> Result<Committed, CommitError> {
        self.with_record(
            || self.record_of_object(&commit, 0, Vec::new()),
            |record| object_command(commit.clone(), 0, Vec::new(), record),
        )
        .await
    }

    /// Proposes a command that names nothing new but a record. If the session that the record was
    /// written in has ended, it is written again.
    pub(crate) async fn with_record<F: Future<Output = Result<Recorded, CommitError>>>(
        &self,
        write: impl Fn() -> F,
        command: impl Fn(Option<Extent>) -> Command,
    ) -> Result<Committed, CommitError> {
        let mut attempt = 1;
        loop {
            let record = write().await?;
            let command = command(record.extent());
            match self.commit_bodies([record.into_body(), None], command).await {
                Err(CommitError::SessionEnded) if attempt < RECORD_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    /// Proposes a command that makes `body` part of the metadata.
    pub(crate) async fn commit_body(
        &self,
        body: WrittenBody,
        command: Command,
    ) -> Result<Committed, CommitError> {
        self.commit_bodies([Some(body), None], command).await
    }

    /// Proposes a command that makes bodies part of the metadata.
    async fn commit_bodies(
        &self,
        bodies: [Option<WrittenBody>; 2],
        command: Command,
    ) -> Result<Committed, CommitError> {
        let mut bodies: Vec<WrittenBody> = bodies.into_iter().flatten().collect();
        let lacking =
            |body: &WrittenBody| body.extents().iter().any(|extent| !extent.missing.is_empty());
        let is_lacking = bodies.iter().any(lacking);
        // From here on the outcome may be unknown, whatever becomes of this future.
        bodies.iter_mut().for_each(WrittenBody::hold);
        let result = self.propose_committed(command).await;
        match &result {
            Ok(_) if is_lacking => {
                metrics::counter!("drystone_degraded_commits_total").increment(1);
            }
            Err(error) if error.is_definite() => {
                bodies.iter_mut().for_each(WrittenBody::release);
            }
            Ok(_) | Err(_) => {}
        }
        result
    }

    /// Proposes a command whose success is `Committed`.
    pub(crate) async fn propose_committed(
        &self,
        command: Command,
    ) -> Result<Committed, CommitError> {
        match self.propose(command).await? {
            Outcome::Committed(committed) => Ok(committed),
            // An answer out of turn tells nothing about what was done.
            _ => Err(CommitError::Unknown),
        }
    }

    /// Proposes a command; refusals are errors.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, CommitError> {
        match self.shared().metadata.propose(command).await? {
            Outcome::Refused(Refusal::SessionEnded) => Err(CommitError::SessionEnded),
            Outcome::Refused(refusal) => Err(CommitError::Refused(refusal)),
            outcome => Ok(outcome),
        }
    }
}

fn object_command(
    commit: ObjectCommit,
    size: u64,
    parts: Vec<Part>,
    record: Option<Extent>,
) -> Command {
    Command::CommitObject(CommitObject {
        bucket: commit.bucket,
        key: commit.key,
        manifest: commit.manifest,
        size,
        etag: ETag { md5: commit.md5, parts: None },
        headers: commit.headers,
        checksum: commit.checksum,
        parts,
        condition: commit.condition,
        record,
    })
}
