//! Taking a backup: asks for it and hands its pieces over.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use model::ids::ReplicaId;
use model::query::{MetadataError, MetadataRequest, MetadataResponse};
use model::recovery::{BackupBegun, BackupPiece};
use wire::BoxFuture;

use crate::client::MetadataClient;
use crate::limits::BACKUP_PATIENCE;

/// The first pause when nothing more is there yet; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(5);

const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Takes the pieces of a backup, in order.
pub trait BackupSink: Send {
    /// Takes the next piece; ends when the next one may come.
    fn put(&mut self, piece: Bytes) -> BoxFuture<'_, io::Result<()>>;
}

/// A backup that was taken. It is worth something once it was verified where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBackup {
    /// The log index that it covers: everything that was acknowledged before it was begun.
    pub index: u64,
    /// Bytes.
    pub length: u64,
    /// The replica that gave it.
    pub replica: ReplicaId,
}

/// Why a backup was not taken to its end. What the sink has is worth nothing.
#[derive(Debug, thiserror::Error)]
pub enum BackupFailure {
    /// The metadata can't begin one now.
    #[error("the metadata can't begin a backup: {0}")]
    NotBegun(#[source] MetadataError),
    /// The replica that gave it is gone, or can't write it: begin again.
    #[error("the replica that gave the backup stopped giving it: {0}")]
    Interrupted(#[source] MetadataError),
    /// The sink didn't take it.
    #[error("the backup can't be written: {0}")]
    Sink(#[source] io::Error),
}

impl MetadataClient {
    /// Takes a backup of everything that is acknowledged by now, and hands it to `sink`.
    pub async fn backup(&self, sink: &mut dyn BackupSink) -> Result<TakenBackup, BackupFailure> {
        let begun = match self.call_leader(MetadataRequest::BeginBackup).await {
            Ok((MetadataResponse::BackupBegun(begun), _)) => begun,
            Ok(_) => return Err(BackupFailure::NotBegun(MetadataError::Unavailable)),
            Err(error) => return Err(BackupFailure::NotBegun(error)),
        };
        let taken = self.take(begun, sink).await;
        // It ends by itself, too; this only frees its space earlier.
        let end = MetadataRequest::EndBackup { id: begun.id };
        let _ = self.call_replica(begun.replica, end).await;
        taken
    }

    async fn take(
        &self,
        begun: BackupBegun,
        sink: &mut dyn BackupSink,
    ) -> Result<TakenBackup, BackupFailure> {
        let BackupBegun { replica, id, index } = begun;
        let (mut offset, mut pause) = (0, PAUSE_FIRST);
        let mut moved = self.clock().monotonic();
        loop {
            let request = MetadataRequest::ReadBackup { id, offset };
            let failure = match self.call_replica(replica, request).await {
                Ok(MetadataResponse::BackupPiece(BackupPiece { bytes, length })) => {
                    if bytes.is_empty() && length == Some(offset) {
                        return Ok(TakenBackup { index, length: offset, replica });
                    }
                    if !bytes.is_empty() {
                        offset += bytes.len() as u64;
                        let bytes: Vec<u8> = bytes.into();
                        sink.put(bytes.into()).await.map_err(BackupFailure::Sink)?;
                        (moved, pause) = (self.clock().monotonic(), PAUSE_FIRST);
                        continue;
                    }
                    // It isn't written so far yet.
                    MetadataError::Overloaded
                }
                Ok(MetadataResponse::Failed(error)) => {
                    return Err(BackupFailure::Interrupted(error));
                }
                Ok(_) => return Err(BackupFailure::Interrupted(MetadataError::Unavailable)),
                Err(error) => error,
            };
            if self.clock().monotonic().saturating_sub(moved) > BACKUP_PATIENCE {
                return Err(BackupFailure::Interrupted(failure));
            }
            self.clock().sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
