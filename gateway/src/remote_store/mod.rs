//! Backups of the metadata, kept in a bucket of another S3 endpoint.
//!
//! In: pieces of a backup. Out: objects `PREFIX CLUSTER/NAME` there. What always holds: an object is
//! there only when its backup is whole; memory doesn't grow with the backup; each cluster sees,
//! and removes, its own backups only, whoever else uses the bucket and prefix.

mod call;
mod client;
mod connection;
mod endpoint;
mod error;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use http::Method;
use metadata::backup::schedule::{BackupStore, BackupWriting};
use model::ids::ClusterId;
use s3::xml::reader;
use wire::BoxFuture;
use wire::clock::Clock;

use crate::auth::Secret;
use call::{Call, Signer};
use client::{Client, SHORT};
use connection::Connector;
pub use connection::TrustError;
pub use endpoint::Endpoint;
pub use error::RemoteError;
use upload::{Abandoned, AbandonedUploads, PART_BYTES, Upload, abort};

/// Pages of a listing that are read: a hundred thousand backups.
const PAGES_MAX: usize = 100;

/// A page of a listing is shorter.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Where the backups go, and as whom.
#[derive(Clone)]
pub struct RemoteSettings {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The bucket; it must be there.
    pub bucket: String,
    /// What the keys begin with; empty for nothing.
    pub prefix: String,
    /// The region to sign for.
    pub region: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: Secret,
    /// A file with a certificate authority to trust besides those of this host.
    pub authority: Option<PathBuf>,
}

impl RemoteSettings {
    /// The place in words, for people.
    pub fn place(&self, cluster: ClusterId) -> String {
        format!("{}/{}/{}{cluster}/", self.endpoint, self.bucket, self.prefix)
    }
}

/// Whether a file holds certificates.
pub fn check_authority(path: &Path) -> Result<(), TrustError> {
    connection::read_authority(path).map(drop)
}

/// Keeps backups at another S3 endpoint.
pub struct RemoteStore {
    client: Arc<Client>,
    /// What all keys of this cluster begin with.
    prefix: String,
    part_bytes: usize,
    abandoned: AbandonedUploads,
}

impl RemoteStore {
    /// Of the backups of `cluster`. Reads certificate authorities, and connects to nobody.
    pub fn new(
        settings: RemoteSettings,
        cluster: ClusterId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TrustError> {
        let connector = Connector::new(settings.endpoint, settings.authority.as_deref(), clock)?;
        let signer = Signer {
            access_key: settings.access_key,
            secret_key: settings.secret_key,
            region: settings.region,
            bucket: settings.bucket,
        };
        Ok(Self {
            client: Arc::new(Client::new(connector, signer)),
            prefix: format!("{}{cluster}/", settings.prefix),
            part_bytes: PART_BYTES,
            abandoned: Arc::default(),
        })
    }

    /// With parts of another size; S3 itself takes none below 5 MiB but the last.
    #[must_use]
    pub fn with_part_bytes(self, part_bytes: usize) -> Self {
        Self { part_bytes: part_bytes.max(1), ..self }
    }

    /// Aborts the uploads that were given up. What can't be aborted now stays to be.
    pub async fn abort_abandoned(&self) {
        let lock = || self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = lock().last().cloned();
            let Some(upload) = next else { return };
            if let Err(error) = abort(&self.client, &upload).await {
                tracing::debug!(%error, "an upload that was given up can't be aborted yet");
                return;
            }
            lock().retain(|other| *other != upload);
        }
    }

    /// Aborts what an earlier process has left: the one that takes backups is the only one that
    /// uploads here.
    async fn abort_left_over(&self) {
        let call = Call::new(Method::GET, "").query("uploads", "").query("prefix", &self.prefix);
        let found = match self.client.call(&call, SHORT).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "uploads that were left over can't be listed");
                return;
            }
        };
        let Ok(found) = reader::read(&found.body, "ListMultipartUploadsResult", PAGE_BYTES_MAX)
        else {
            return;
        };
        let left_over: Vec<Abandoned> = found
            .children
            .iter()
            .filter(|child| child.name == "Upload")
            .map(|upload| {
                let text = |name: &str| upload.child_text(name).unwrap_or_default().to_owned();
                Abandoned { key: text("Key"), id: text("UploadId") }
            })
            // Whatever it was asked, what it says is believed only about our own.
            .filter(|upload| upload.key.starts_with(&self.prefix))
            .collect();
        self.give_up(left_over);
        self.abort_abandoned().await;
    }

    fn give_up(&self, uploads: Vec<Abandoned>) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        for upload in uploads {
            if !abandoned.contains(&upload) {
                abandoned.push(upload);
            }
        }
    }

    async fn list(&self) -> Result<Vec<String>, RemoteError> {
        let (mut names, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut call =
                Call::new(Method::GET, "").query("list-type", "2").query("prefix", &self.prefix);
            if let Some(token) = token.take() {
                call = call.query("continuation-token", token);
            }
            let answer = self.client.call(&call, SHORT).await?;
            let page = reader::read(&answer.body, "ListBucketResult", PAGE_BYTES_MAX)
                .map_err(|_| RemoteError::Malformed("it is no listing"))?;
            let keys = page.children.iter().filter(|child| child.name == "Contents");
            names.extend(
                keys.filter_map(|entry| entry.child_text("Key")?.strip_prefix(&self.prefix))
                    .map(str::to_owned),
            );
            if page.child_text("IsTruncated") != Some("true") {
                return Ok(names);
            }
            let next = page.child_text("NextContinuationToken").map(str::to_owned);
            token = Some(next.ok_or(RemoteError::Malformed("a listing breaks off"))?);
        }
        Err(RemoteError::Malformed("a listing has no end"))
    }
}

impl BackupStore for RemoteStore {
    fn names(&self) -> BoxFuture<'_, io::Result<Vec<String>>> {
        Box::pin(async move {
            self.abort_abandoned().await;
            Ok(self.list().await?)
        })
    }

    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn BackupWriting>>> {
        Box::pin(async move {
            self.abort_left_over().await;
            let key = format!("{}{name}", self.prefix);
            let (client, abandoned) = (Arc::clone(&self.client), Arc::clone(&self.abandoned));
            let upload = Upload::new(client, abandoned, key, self.part_bytes);
            Ok(Box::new(upload) as Box<dyn BackupWriting>)
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let key = format!("{}{name}", self.prefix);
            match self.client.call(&Call::new(Method::DELETE, &key), SHORT).await {
                Ok(_) => Ok(()),
                Err(RemoteError::Refused { code, .. }) if code == "NoSuchKey" => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }
}
