//! Reconstructs columns of missing data shards from what was gathered.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use model::coding::StripeGeometry;

use super::shard::Piece;
use crate::codec::{Codec, CodecError};
use crate::shared::Shared;

/// Below this many bytes a decode is done where it is: some 10 µs by GFNI, 0.3 ms without vectors.
const COMPUTE_BYTES_MIN: usize = 256 * 1024;

/// Rebuilds `columns` of the data slots `wanted` from `known`, which are pieces of `k'` other
/// slots that cover the columns as far as their shards go; slots in `padding` are all zeros there.
pub(crate) async fn rebuild(
    shared: &Arc<Shared>,
    geometry: StripeGeometry,
    columns: Range<u32>,
    known: Vec<Piece>,
    padding: Vec<u8>,
    wanted: Vec<u8>,
) -> Option<Vec<Piece>> {
    metrics::counter!("drystone_reconstructions_total").increment(1);
    if geometry.data_shards() == 1 {
        // Parity is a copy of the single data shard.
        let copy = known.first()?;
        let bytes = geometry.stored_bytes(0).min(columns.end);
        let (start, bytes) = (columns.start, copy.slice(&(columns.start..bytes)));
        return Some(
            wanted.into_iter().map(|slot| Piece { slot, start, bytes: bytes.clone() }).collect(),
        );
    }
    let work_bytes = (columns.end - columns.start) as usize * usize::from(geometry.data_shards());
    let result = if work_bytes < COMPUTE_BYTES_MIN {
        decode(&shared.codec, &geometry, &columns, &known, &padding, &wanted)
    } else {
        let shared_too = Arc::clone(shared);
        let compute = shared.compute(move || {
            decode(&shared_too.codec, &geometry, &columns, &known, &padding, &wanted)
        });
        compute.await.ok()?
    };
    result.inspect_err(|error| tracing::error!(%error, "a stripe could not be decoded")).ok()
}

fn decode(
    codec: &Codec,
    geometry: &StripeGeometry,
    columns: &Range<u32>,
    known: &[Piece],
    padding: &[u8],
    wanted: &[u8],
) -> Result<Vec<Piece>, CodecError> {
    let length = (columns.end - columns.start) as usize;
    let (data, parity) = (geometry.data_shards(), geometry.parity_shards());
    // In the coder's numbers parity follows the data shards in use.
    let number = |slot: u8| match slot.checked_sub(geometry.coding().data()) {
        None => usize::from(slot),
        Some(parity) => usize::from(data + parity),
    };
    let mut shards: Vec<(usize, Cow<'_, [u8]>)> = Vec::with_capacity(known.len() + padding.len());
    for piece in known {
        let from = (columns.start - piece.start) as usize;
        let to = (from + length).min(piece.bytes.len());
        let there = &piece.bytes[from..to];
        let column = if there.len() == length {
            Cow::Borrowed(there)
        } else {
            let mut padded = there.to_vec();
            padded.resize(length, 0);
            Cow::Owned(padded)
        };
        shards.push((number(piece.slot), column));
    }
    for slot in padding {
        shards.push((number(*slot), Cow::Owned(vec![0; length])));
    }
    let shards: Vec<(usize, &[u8])> =
        shards.iter().map(|(number, column)| (*number, &**column)).collect();
    let numbers: Vec<usize> = wanted.iter().map(|slot| number(*slot)).collect();
    let rebuilt = codec.reconstruct(usize::from(data), usize::from(parity), &shards, &numbers)?;
    Ok(wanted
        .iter()
        .zip(rebuilt)
        .map(|(slot, bytes)| Piece { slot: *slot, start: columns.start, bytes: Bytes::from(bytes) })
        .collect())
}
