//! Writes an extent again that lost too many shards before it was sealed.
//!
//! The stripes were handed over and their buffers used again; but what the other disks took can be
//! read back, as long as `k` shards of each stripe are left, and is verified like any read. So a
//! write survives whatever a read survives.

use std::sync::Arc;

use futures_util::FutureExt as _;
use wire::BoxFuture;

use super::WriteError;
use super::extent::SealedExtent;
use super::run::{Run, WrittenExtent};
use crate::read::{StripeRead, read_stripe};
use crate::stripe::Filling;

/// Rescues of rescues: disks that keep failing in mid-write are an outage.
const DEPTH_MAX: u32 = 4;

impl Run {
    /// The extents that take the place of `lost`.
    pub(super) fn rescue<'a>(
        &'a self,
        lost: &'a SealedExtent,
    ) -> BoxFuture<'a, Result<Vec<WrittenExtent>, WriteError>> {
        async move {
            if self.depth >= DEPTH_MAX {
                return Err(WriteError::Unavailable);
            }
            metrics::counter!("drystone_rescued_extents_total").increment(1);
            tracing::warn!(extent = %lost.extent.id, "an extent lost shards and is written again");
            // Extents are sealed in order: it begins behind those that are written.
            let offset = self.owner.offset + self.written_bytes();
            let owner = self.owner_at(offset);
            let mut run = Self::new(Arc::clone(&self.shared), Arc::new(owner), self.wanted.clone());
            run.depth = self.depth + 1;
            for stripe in 0..lost.extent.stripe_count() {
                let range = 0..lost.extent.stripe_bytes(stripe);
                let bytes = range.end as usize;
                let permit = run.admit(u64::from(range.end) * 2).await?;
                let read = StripeRead { extent: &lost.extent, stripe, range };
                let pieces =
                    read_stripe(&self.shared, read).await.map_err(|_| WriteError::Unavailable)?;
                let mut pieces = pieces.into_iter();
                let mut first = pieces.next().ok_or(WriteError::Unavailable)?;
                let mut filling = Filling::begin(&mut first, bytes, permit, &self.shared.buffers);
                for mut piece in pieces {
                    filling.fill(&mut piece, &self.shared.buffers);
                }
                run.push(filling.cut()).await?;
            }
            run.finish(None).await
        }
        .boxed()
    }
}
