//! Reads one range of one shard, and verifies it (I-6).

use std::ops::Range;

use bytes::Bytes;
use model::checksum::blocks_verify;
use model::ids::{DiskId, ShardId};
use model::limits::BLOCK_BYTES;
use model::shard::{ShardBlocks, ShardError, ShardRead, ShardRequest, ShardResponse};

use crate::shard_door::ShardFailure;
use crate::shared::Shared;

/// Verified bytes of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) slot: u8,
    /// Where they begin in the shard.
    pub(crate) start: u32,
    pub(crate) bytes: Bytes,
}

impl Piece {
    /// Whether it holds all of `range`.
    pub(super) fn covers(&self, range: &Range<u32>) -> bool {
        self.start <= range.start && range.end <= self.start + self.bytes.len() as u32
    }

    /// The bytes of `range`, which it covers.
    pub(super) fn slice(&self, range: &Range<u32>) -> Bytes {
        let from = (range.start - self.start) as usize;
        self.bytes.slice(from..from + (range.end - range.start) as usize)
    }
}

/// Reads `range` of a shard of `shard_bytes` bytes. What comes damaged is asked for once more:
/// it may have been the way, not the disk.
pub(super) async fn read_shard(
    shared: &Shared,
    disk: DiskId,
    id: ShardId,
    shard_bytes: u32,
    range: Range<u32>,
) -> Result<Piece, ShardFailure> {
    read_shard_and_owner(shared, disk, id, shard_bytes, range).await.map(|(piece, _)| piece)
}

/// As [`read_shard`], with the sealed owner that the record carries.
pub(crate) async fn read_shard_and_owner(
    shared: &Shared,
    disk: DiskId,
    id: ShardId,
    shard_bytes: u32,
    range: Range<u32>,
) -> Result<(Piece, Bytes), ShardFailure> {
    let length = range.end - range.start;
    let latency =
        if length <= BLOCK_BYTES { &shared.door.small_reads } else { &shared.door.large_reads };
    for attempt in 0..2 {
        let started = shared.clock.monotonic();
        let reads = vec![ShardRead { id, offset: range.start, length }];
        let request = ShardRequest::Read { disk, reads };
        let blocks = match shared.door.call(disk, request, shared.options.read_deadline).await? {
            ShardResponse::Read(mut answers) if answers.len() == 1 => answers.pop(),
            _ => None,
        };
        match blocks {
            Some(Ok(blocks)) => {
                let owner = blocks.owner.clone();
                if let Some(piece) = verify(id, shard_bytes, &range, blocks) {
                    latency.record(shared.clock.monotonic().saturating_sub(started));
                    metrics::counter!("drystone_shard_bytes_total", "operation" => "read")
                        .increment(u64::from(length));
                    return Ok((piece, owner));
                }
            }
            Some(Err(error)) => {
                let failure = ShardFailure::Refused(error);
                shared.door.note_failure(disk, "read", &failure);
                return Err(failure);
            }
            None => {
                return Err(ShardFailure::Refused(ShardError::Invalid("another answer".into())));
            }
        }
        shared.door.note_failure(disk, "read", &ShardFailure::Corrupt);
        tracing::debug!(shard = %id, attempt, "a shard came damaged");
    }
    Err(ShardFailure::Corrupt)
}

/// The piece, if it is what was asked for and its checksums hold.
fn verify(id: ShardId, shard_bytes: u32, range: &Range<u32>, blocks: ShardBlocks) -> Option<Piece> {
    let start = blocks.first_block.checked_mul(BLOCK_BYTES)?;
    let end = start.checked_add(u32::try_from(blocks.payload.len()).ok()?)?;
    // Whole blocks only, or the checksum of a block cut short would have to be trusted.
    let is_whole = end == shard_bytes || (end < shard_bytes && end.is_multiple_of(BLOCK_BYTES));
    let is_wanted = blocks.shard_bytes == shard_bytes && start <= range.start && range.end <= end;
    let holds = || blocks_verify(id, blocks.first_block, &blocks.payload, &blocks.checksums);
    (is_wanted && is_whole && holds()).then_some(Piece {
        slot: id.slot,
        start,
        bytes: blocks.payload,
    })
}
