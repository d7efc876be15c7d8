//! The object engine: turns bodies into shards and shards into bodies, and commits the result.
//!
//! In: bodies as chunks of bytes, names, and what the caller wants committed. Out: objects in the
//! metadata and shards on storage nodes, or verified bytes. It knows no HTTP and no S3 header.
//! It talks to metadata by [`Metadata`] and to disks by `wire::network::Network` with the messages
//! of `model::shard`; it is the only floor that tries again.
//!
//! # The API in one page
//!
//! ```ignore
//! let engine = Engine::new(EngineParts { metadata, shards, clock, entropy, cluster_key, options });
//!
//! // PUT: write, finish (everything durable), commit. Dropping writer or body deletes the shards.
//! let mut writer = engine.writer(WriteTarget { bucket, bucket_id, key, manifest: engine.new_manifest(),
//!                                             upload: None, part: 0, size_hint: Some(length) });
//! while let Some(chunk) = body.next().await { writer.write(chunk).await?; }   // back-pressure
//! let body: WrittenBody = writer.finish().await?;                            // WriteError
//! let committed = engine.put_object(body, ObjectCommit { .. }).await?;       // CommitError
//!
//! // Multipart
//! engine.create_upload(bucket, key, upload).await?;
//! engine.put_part(body, PartCommit { .. }).await?;
//! engine.complete_upload(CompleteUpload { .. }).await?;
//! engine.abort_upload(bucket, key, id).await?;
//!
//! // GET: chunks are verified and in order; an error ends the response (I-7).
//! let found: ObjectFound = engine.open(bucket, key, PlanWanted::Whole).await?;    // OpenError
//! let mut reader = engine.reader(&found);
//! while let Some(chunk) = reader.next().await { send(chunk?); }                   // ReadError
//!
//! engine.delete_object(bucket, key, condition).await?;        // whether it existed
//! engine.delete_objects(&bucket, keys).await;                 // an answer for each key
//! engine.copy_object(CopyObject { .. }).await?;               // shares extents, copies no byte
//! engine.share_part(PartShare { .. }, &found).await?;         // UploadPartCopy of a whole body
//! engine.copy_range(&found, target, &mut |chunk| md5.update(chunk)).await?;  // any other copy
//!
//! engine.metadata().query(..)        // listings, buckets: straight through
//! engine.readiness()                 // what the newest cluster map says of reads and writes
//! engine.scrub(&request, &meter, stop).await?;   // verify a disk, PG, bucket, object, or all
//! engine.repair_progress()           // what repair in the background has come to
//! engine.slow_disks()             // disks whose latency is far off their peers', as seen from here
//! engine.outstanding().await?         // everything that lacks redundancy, counted
//! engine.inspect(&request).await?     // an object's shards: where each is, and its state
//! engine.follow_cluster_map()        // every newer map, as it is seen; map_age(), metadata_silence()
//! engine.lease(Job::Backup)          // a job that one gateway at a time does; leased_jobs()
//! engine.shutdown().await;
//! ```
//!
//! # What always holds
//!
//! - [`ObjectWriter::finish`] returns only when every shard it counts is on stable storage, at
//!   least `write_quorum` of every stripe (I-1).
//! - No byte leaves [`ObjectReader::next`] whose block checksum wasn't verified here (I-6).
//! - Shards are deleted only by their own writer before it proposed them, after a definite refusal
//!   of the proposal, when the metadata lists their extent as garbage, or when it says twice that
//!   the extent has no owner and can't get one (I-9). After an unknown outcome nothing is deleted.
//! - A slot leaves the repair queue only when its disk has verified every shard of it.

mod buffers;
mod codec;
mod collect;
mod commit;
mod copy;
mod delete;
mod discard;
mod engine;
mod inspect;
mod latency;
mod lease;
mod map;
mod metadata_door;
mod open_groups;
mod options;
mod outstanding;
mod owner_seal;
mod pace;
mod patience;
mod reach;
mod read;
mod rebalance;
mod recode;
mod reconcile;
mod recover;
mod repair;
mod repair_report;
mod scrub;
mod shard_door;
mod shared;
mod slow;
mod stripe;
mod tasks;
#[cfg(test)]
mod three_disks;
mod upload;
mod usage;
mod write;

pub use codec::{Codec, CodecError};
pub use commit::{CommitError, ObjectCommit};
pub use copy::{CopyError, PartShare};
pub use engine::{Engine, Readiness};
pub use inspect::{
    ExtentReport, InspectError, InspectRequest, MoveReport, ObjectReport, SlotReport, SlotState,
    Stray,
};
pub use lease::JobLease;
pub use metadata_door::Metadata;
pub use options::EngineOptions;
pub use outstanding::{
    ExtentStanding, LostSlots, Obstacle, Outstanding, OutstandingSums, SlotProspect, Tally,
};
pub use owner_seal::{OwnerSeal, OwnerSealError};
pub use reach::OutOfReach;
pub use read::{ObjectReader, OpenError, ReadError};
pub use rebalance::{MoveProgress, PauseReason, RebalanceProgress};
pub use recode::{RecodePause, RecodeProgress};
pub use recover::{
    BodyDigest, IncompleteReason, NewDigest, RecoverError, RecoverFigures, RecoverMeter,
    RecoverPhase, RecoverProblem, RecoverRequest,
};
pub use repair::{FailedRepair, RepairProgress};
pub use scrub::{ScrubError, ScrubFigures, ScrubMeter, ScrubRequest, ScrubScope};
pub use shared::EngineParts;
pub use slow::{SlowDisk, SlowKind};
pub use upload::PartCommit;
pub use write::{ObjectWriter, WriteError, WriteTarget, WrittenBody};
