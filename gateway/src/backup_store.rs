//! Backups of the metadata, kept as objects of the cluster itself.
//!
//! In: pieces of a backup. Out: objects of the bucket [`BACKUP_BUCKET`], which clients can read and
//! list, and change by no request ([`crate::auth`]). What always holds: an object is there only when
//! its backup is whole.

use std::io;

use bytes::Bytes;
use engine::{CommitError, Engine, ObjectCommit, ObjectWriter, WriteTarget};
use kernels::md5::Md5;
use metadata::backup::BackupSink;
use metadata::backup::schedule::{BackupStore, BackupWriting};
use model::command::{Command, Outcome, Refusal, WriteCondition};
use model::ids::ManifestId;
use model::names::{BucketName, ObjectKey};
use model::query::{Answer, ListObjects, MetadataError, Query};
use model::version::ObjectHeaders;
use wire::BoxFuture;

/// The bucket that backups are kept in.
pub const BACKUP_BUCKET: &str = "drystone-metadata-backups";

/// Backups of a page of the listing.
const PAGE_MAX: u32 = 1000;

/// Keeps backups in the cluster whose gateway this is.
pub struct ClusterStore {
    engine: Engine,
    /// Whose the bucket is.
    owner: String,
    bucket: BucketName,
}

impl ClusterStore {
    /// Where the backups are, for people.
    pub fn place() -> String {
        format!("the bucket {BACKUP_BUCKET} of this store")
    }

    /// In the cluster of `engine`; the bucket, where it isn't there, becomes `owner`'s.
    pub fn new(engine: Engine, owner: String) -> io::Result<Self> {
        let bucket = BucketName::parse(BACKUP_BUCKET).map_err(io::Error::other)?;
        Ok(Self { engine, owner, bucket })
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        let (mut names, mut after) = (Vec::new(), String::new());
        // More than are kept may be there: none is removed while something is held.
        loop {
            let list = ListObjects {
                bucket: self.bucket.clone(),
                prefix: String::new(),
                delimiter: String::new(),
                after: after.clone(),
                limit: PAGE_MAX,
            };
            let query = Query::Objects(list);
            match self.engine.metadata().query(query).await.map_err(of_metadata)? {
                Answer::Objects(page) => {
                    names.extend(page.objects.into_iter().map(|one| one.key.as_str().to_owned()));
                    match page.next {
                        Some(next) => after = next,
                        None => return Ok(names),
                    }
                }
                Answer::Refused(Refusal::NoSuchBucket) => return Ok(Vec::new()),
                other => {
                    return Err(io::Error::other(format!("backups can't be listed: {other:?}")));
                }
            }
        }
    }

    async fn start(&self, name: &str) -> io::Result<Box<dyn BackupWriting>> {
        let key = ObjectKey::parse(name).map_err(io::Error::other)?;
        let make = Command::CreateBucket {
            name: self.bucket.clone(),
            owner: self.owner.clone(),
            location: String::new(),
        };
        match self.engine.metadata().propose(make).await.map_err(of_metadata)? {
            Outcome::BucketCreated(_) | Outcome::Refused(Refusal::BucketAlreadyOwned) => {}
            other => return Err(io::Error::other(format!("no bucket for backups: {other:?}"))),
        }
        let manifest = self.engine.new_manifest();
        let target = WriteTarget {
            bucket: self.bucket.clone(),
            bucket_id: None,
            key: key.clone(),
            manifest,
            upload: None,
            part: 0,
            size_hint: None,
            headers: Some(headers()),
            checksum: None,
            class: None,
        };
        Ok(Box::new(Writing {
            engine: self.engine.clone(),
            writer: self.engine.writer(target),
            md5: Md5::new(),
            bucket: self.bucket.clone(),
            key,
            manifest,
        }))
    }
}

impl BackupStore for ClusterStore {
    fn names(&self) -> BoxFuture<'_, io::Result<Vec<String>>> {
        Box::pin(self.list())
    }

    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn BackupWriting>>> {
        Box::pin(self.start(name))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let key = ObjectKey::parse(name).map_err(io::Error::other)?;
            let always = WriteCondition::Always;
            let gone = self.engine.delete_object(self.bucket.clone(), key, always).await;
            gone.map(drop).map_err(of_commit)
        })
    }
}

/// A backup on its way; dropped, its shards are deleted.
struct Writing {
    engine: Engine,
    writer: ObjectWriter,
    md5: Md5,
    bucket: BucketName,
    key: ObjectKey,
    manifest: ManifestId,
}

impl BackupSink for Writing {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.md5.update(&piece);
            self.writer.write(piece).await.map_err(io::Error::other)
        })
    }
}

impl BackupWriting for Writing {
    fn finish(self: Box<Self>) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            let written = self.writer.finish().await.map_err(io::Error::other)?;
            let commit = ObjectCommit {
                bucket: self.bucket,
                key: self.key,
                manifest: self.manifest,
                md5: self.md5.finish(),
                headers: headers(),
                checksum: None,
                condition: WriteCondition::Always,
            };
            self.engine.put_object(written, commit).await.map(drop).map_err(of_commit)
        })
    }
}

fn headers() -> ObjectHeaders {
    ObjectHeaders {
        content_type: Some("application/vnd.drystone.metadata-backup".to_owned()),
        ..ObjectHeaders::default()
    }
}

fn of_metadata(error: MetadataError) -> io::Error {
    io::Error::other(error)
}

fn of_commit(error: CommitError) -> io::Error {
    io::Error::other(error)
}
