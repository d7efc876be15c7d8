//! A backup on its way to another S3 endpoint.
//!
//! In: pieces. Out: an object, once all pieces are there. What always holds: one part is in memory, at
//! most; nothing has the backup's name before all of it is stored; an upload that fails is aborted, at
//! once where that can be, and before the next one otherwise.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{Method, header};
use metadata::backup::BackupSink;
use metadata::backup::schedule::BackupWriting;
use s3::xml::reader;
use wire::BoxFuture;

use super::call::Call;
use super::client::{CHECKSUM, Client, LONG, SHORT, checksum, text};
use super::error::RemoteError;

/// Bytes of each part but the last: all the same, as some endpoints demand. A backup that is no longer
/// than this is sent by one request.
pub const PART_BYTES: usize = 8 << 20;

/// Parts that S3 takes.
const PARTS_MAX: usize = 10_000;

/// A document that says what came of an upload is shorter.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// The type of a backup.
const CONTENT_TYPE: &str = "application/vnd.drystone.metadata-backup";

/// An upload at the other end that is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: String,
}

/// Uploads that are to be aborted.
pub type AbandonedUploads = Arc<Mutex<Vec<Abandoned>>>;

/// Aborts an upload; one that isn't there is no error.
pub async fn abort(client: &Client, upload: &Abandoned) -> Result<(), RemoteError> {
    let call = Call::new(Method::DELETE, &upload.key).query("uploadId", upload.id.clone());
    match client.call(&call, SHORT).await {
        Ok(_) => Ok(()),
        Err(RemoteError::Refused { code, .. }) if code == "NoSuchUpload" => Ok(()),
        Err(error) => Err(error),
    }
}

/// A part that is stored.
struct Part {
    etag: String,
    /// Its checksum, where the other end knows checksums.
    checksum: Option<String>,
}

/// A backup on its way. Dropped, it leaves no object.
pub struct Upload {
    client: Arc<Client>,
    abandoned: AbandonedUploads,
    key: String,
    part_bytes: usize,
    waiting: BytesMut,
    parts: Vec<Part>,
    /// The upload, from the second part's bytes on.
    id: Option<String>,
    length: u64,
}

impl Upload {
    /// To `key`, in parts of so many bytes; what can't be aborted at once is left to `abandoned`.
    pub fn new(
        client: Arc<Client>,
        abandoned: AbandonedUploads,
        key: String,
        part_bytes: usize,
    ) -> Self {
        let (waiting, parts) = (BytesMut::new(), Vec::new());
        Self { client, abandoned, key, part_bytes, waiting, parts, id: None, length: 0 }
    }

    async fn take(&mut self, mut piece: Bytes) -> Result<(), RemoteError> {
        self.length += piece.len() as u64;
        while !piece.is_empty() {
            if self.waiting.len() == self.part_bytes {
                self.send_part().await?;
            }
            let room = self.part_bytes - self.waiting.len();
            self.waiting.extend_from_slice(&piece.split_to(room.min(piece.len())));
        }
        Ok(())
    }

    async fn send_part(&mut self) -> Result<(), RemoteError> {
        if self.parts.len() == PARTS_MAX {
            return Err(RemoteError::TooLarge((self.part_bytes * PARTS_MAX) as u64));
        }
        let id = match &self.id {
            Some(id) => id.clone(),
            None => self.begin().await?,
        };
        let body = self.waiting.split().freeze();
        let sum = checksum(&body);
        let call = Call::new(Method::PUT, &self.key)
            .query("partNumber", (self.parts.len() + 1).to_string())
            .query("uploadId", id)
            .header(CHECKSUM, sum.clone())
            .body(body);
        let answer = self.client.call(&call, LONG).await?;
        let etag = text(&answer.headers, header::ETAG.as_str());
        let etag = etag.ok_or(RemoteError::Malformed("a part has no ETag"))?.to_owned();
        let knows = answer.headers.contains_key(CHECKSUM);
        self.parts.push(Part { etag, checksum: knows.then_some(sum) });
        Ok(())
    }

    async fn begin(&mut self) -> Result<String, RemoteError> {
        let call = Call::new(Method::POST, &self.key)
            .query("uploads", "")
            .header(header::CONTENT_TYPE.as_str(), CONTENT_TYPE)
            .header("x-amz-checksum-algorithm", "SHA256");
        let answer = self.client.call(&call, SHORT).await?;
        let document =
            reader::read(&answer.body, "InitiateMultipartUploadResult", DOCUMENT_BYTES_MAX).ok();
        let id = document.as_ref().and_then(|document| document.child_text("UploadId"));
        let id = id.ok_or(RemoteError::Malformed("an upload has no id"))?.to_owned();
        self.id = Some(id.clone());
        Ok(id)
    }

    async fn end(&mut self) -> Result<(), RemoteError> {
        if self.id.is_none() {
            let body = self.waiting.split().freeze();
            let call = Call::new(Method::PUT, &self.key)
                .header(header::CONTENT_TYPE.as_str(), CONTENT_TYPE)
                .header(CHECKSUM, checksum(&body))
                .body(body);
            self.client.call(&call, LONG).await?;
            return self.verify().await;
        }
        self.send_part().await?;
        let completed = self.complete().await;
        // An answer that was lost says nothing: the object itself tells.
        match (self.verify().await, completed) {
            (Ok(()), _) => {
                self.id = None;
                Ok(())
            }
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    async fn complete(&self) -> Result<(), RemoteError> {
        let mut document = "<CompleteMultipartUpload>".to_owned();
        for (number, Part { etag, checksum }) in (1..).zip(&self.parts) {
            let etag = etag.replace('&', "&amp;").replace('<', "&lt;");
            let sum =
                checksum.as_ref().map(|sum| format!("<ChecksumSHA256>{sum}</ChecksumSHA256>"));
            // Writing to a String can't fail.
            let _infallible = write!(
                document,
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{}</Part>",
                sum.unwrap_or_default()
            );
        }
        document.push_str("</CompleteMultipartUpload>");
        let call = Call::new(Method::POST, &self.key)
            .query("uploadId", self.id.clone().unwrap_or_default())
            .body(document.into());
        let answer = self.client.call(&call, LONG).await?;
        // S3 may begin a success and then find that it is none.
        match reader::read(&answer.body, "CompleteMultipartUploadResult", DOCUMENT_BYTES_MAX) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.client.refusal(answer.status, &answer.body)),
        }
    }

    /// Whether the object is there, and all of it.
    async fn verify(&self) -> Result<(), RemoteError> {
        let answer = self.client.call(&Call::new(Method::HEAD, &self.key), SHORT).await?;
        let length = text(&answer.headers, header::CONTENT_LENGTH.as_str());
        let found = length.and_then(|length| length.parse().ok());
        let found = found.ok_or(RemoteError::Malformed("an object has no length"))?;
        let sent = self.length;
        if found == sent { Ok(()) } else { Err(RemoteError::Incomplete { found, sent }) }
    }

    /// Takes back what is stored of it, and gives the error on.
    async fn failed(&mut self, error: RemoteError) -> io::Error {
        if let Some(id) = self.id.clone() {
            let upload = Abandoned { key: self.key.clone(), id };
            if abort(&self.client, &upload).await.is_ok() {
                self.id = None;
            }
        }
        error.into()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let upload = Abandoned { key: std::mem::take(&mut self.key), id };
            self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(upload);
        }
    }
}

impl BackupSink for Upload {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            match self.take(piece).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.failed(error).await),
            }
        })
    }
}

impl BackupWriting for Upload {
    fn finish(mut self: Box<Self>) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            match self.end().await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.failed(error).await),
            }
        })
    }
}
