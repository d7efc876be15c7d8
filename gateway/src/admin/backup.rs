//! `GET /metadata/backup`: a backup of the metadata, as it is taken.
//!
//! In: the way to the metadata. Out: the backup's bytes. What always holds: a backup that breaks off
//! breaks the connection off, and never looks like a whole one.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, Response, StatusCode, header};
use metadata::backup::{BackupFailure, BackupSink, TakenBackup};
use metadata::client::MetadataClient;
use model::query::MetadataError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use wire::BoxFuture;

use crate::admin::answers::plain;
use crate::http::response::ResponseBody;

/// Pieces between the metadata and the listener.
const PIECES: usize = 2;

/// What comes from the metadata.
enum Step {
    Piece(Bytes),
    /// All pieces came, or none will any more.
    End(Result<TakenBackup, BackupFailure>),
}

/// Hands pieces over to the answer.
struct Pipe(Sender<Step>);

impl BackupSink for Pipe {
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let sent = self.0.send(Step::Piece(piece)).await;
            sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the backup"))
        })
    }
}

/// Takes a backup and streams it. Answers only once the first piece is there.
pub(super) async fn stream(client: Arc<MetadataClient>) -> Response<ResponseBody> {
    let (sender, mut steps) = channel(PIECES);
    tokio::spawn(async move {
        let taken = client.backup(&mut Pipe(sender.clone())).await;
        match &taken {
            Ok(taken) => tracing::info!(index = taken.index, "a backup of the metadata was taken"),
            Err(error) => tracing::warn!(%error, "a backup of the metadata was not taken"),
        }
        // Whoever asked may be gone.
        let _ = sender.send(Step::End(taken)).await;
    });
    match steps.recv().await {
        Some(Step::Piece(first)) => answer(first, steps),
        Some(Step::End(_)) | None => plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "No backup can be taken now: the metadata has no leader, no space, or gives as many as it may.\n",
        ),
    }
}

fn answer(first: Bytes, steps: Receiver<Step>) -> Response<ResponseBody> {
    let begun = (Some(first), Some(steps));
    let chunks = unfold(begun, |(first, steps)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, steps)));
        }
        let mut steps = steps?;
        match steps.recv().await {
            Some(Step::Piece(piece)) => Some((Ok(piece), (None, Some(steps)))),
            Some(Step::End(Ok(_))) => None,
            Some(Step::End(Err(error))) => Some((Err(error.into()), (None, None))),
            // The task is gone without a word.
            None => {
                let error = BackupFailure::Interrupted(MetadataError::Unavailable);
                Some((Err(error.into()), (None, None)))
            }
        }
    });
    let mut answer = Response::new(ResponseBody::unmeasured(Box::pin(chunks)));
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.drystone.metadata-backup"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
