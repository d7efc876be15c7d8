//! A body on its way in: chunks go in, extents come out.

use std::sync::Arc;

use bytes::Bytes;
use model::checksum::ChecksumAlgorithm;
use model::coding::{Coding, StripeGeometry};
use model::extent::Extent;
use model::ids::{BucketId, DiskId, ManifestId, UploadId};
use model::limits::STRIPE_BYTES_MAX;
use model::names::{BucketName, ClassName, ObjectKey};
use model::owner::{Owner, OwnerKind};
use model::version::ObjectHeaders;

use super::WriteError;
use super::placement::WantedCoding;
use super::run::Run;
use crate::discard::Discard;
use crate::shared::Shared;
use crate::stripe::Filling;

/// What a body is written for; sealed into its shards.
#[derive(Clone, Debug)]
pub struct WriteTarget {
    /// The bucket.
    pub bucket: BucketName,
    /// The bucket's number, where the caller knows it.
    pub bucket_id: Option<BucketId>,
    /// The key.
    pub key: ObjectKey,
    /// The body's name, from [`crate::Engine::new_manifest`].
    pub manifest: ManifestId,
    /// The multipart upload, if it is for one.
    pub upload: Option<UploadId>,
    /// The part number; 0 for a body put in one request.
    pub part: u16,
    /// How many bytes will come, where that is known: saves memory and copies, and tells whoever
    /// recovers the body from its shards whether it is whole.
    pub size_hint: Option<u64>,
    /// The headers of an object that is put in one request, for recovery.
    pub headers: Option<ObjectHeaders>,
    /// The checksum that will be kept of it, for recovery.
    pub checksum: Option<ChecksumAlgorithm>,
    /// The storage class whose coding it gets; `None` for the bucket's.
    pub class: Option<ClassName>,
}

/// Writes one body. Dropped before [`ObjectWriter::finish`] has succeeded, it deletes in the
/// background whatever it wrote.
pub struct ObjectWriter {
    shared: Arc<Shared>,
    size_hint: Option<u64>,
    filling: Option<Filling>,
    run: Run,
    size: u64,
    failed: bool,
}

impl ObjectWriter {
    pub(crate) fn new(shared: Arc<Shared>, target: WriteTarget, kind: OwnerKind) -> Self {
        let owner = Owner {
            bucket: target.bucket.as_str().to_owned(),
            bucket_id: target.bucket_id,
            key: target.key.as_str().to_owned(),
            manifest: target.manifest,
            upload: target.upload,
            part: target.part,
            offset: 0,
            started: shared.clock.now(),
            kind,
            part_bytes: target.size_hint,
            checksum: target.checksum,
            headers: target.headers,
        };
        Self::as_owner(shared, owner, WantedCoding::OfClass(target.class))
    }

    /// Writes for an owner that is known already.
    pub(crate) fn as_owner(shared: Arc<Shared>, owner: Owner, wanted: WantedCoding) -> Self {
        let size_hint = owner.part_bytes;
        let run = Run::new(Arc::clone(&shared), Arc::new(owner), wanted);
        Self { shared, size_hint, filling: None, run, size: 0, failed: false }
    }

    /// Takes the next bytes of the body. Waits while enough stripes are under way: that is the
    /// back-pressure. After an error the writer is of no more use. Not cancellation-safe: when
    /// the future is dropped half-way, drop the writer too.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        self.failed = true;
        while !chunk.is_empty() {
            self.fill(&mut chunk).await?;
            if let Some(full) = self.filling.take_if(|filling| filling.is_full()) {
                self.run.push(full.cut()).await?;
            }
        }
        self.failed = false;
        Ok(())
    }

    /// Ends the body: when this succeeds, every shard that it counts on is on stable storage
    /// (I-1).
    pub async fn finish(mut self) -> Result<WrittenBody, WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        let last = self.filling.take().map(Filling::cut);
        let extents = self.run.finish(last).await?;
        let length: u64 = extents.iter().map(|(extent, _)| extent.length).sum();
        assert_eq!(length, self.size, "extents hold the whole body");
        Ok(WrittenBody::new(Arc::clone(&self.shared), extents, self.size))
    }

    /// Gives up; what was written is deleted in the background. The same as dropping it.
    pub fn abort(self) {}

    /// Bytes taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    async fn fill(&mut self, chunk: &mut Bytes) -> Result<(), WriteError> {
        let before = chunk.len();
        if let Some(filling) = &mut self.filling {
            filling.fill(chunk, &self.shared.buffers);
        } else {
            let stripe_max = u64::from(STRIPE_BYTES_MAX);
            let hinted = self.size_hint.and_then(|hint| hint.checked_sub(self.size));
            let expected = hinted.filter(|left| *left > 0).unwrap_or(stripe_max).min(stripe_max);
            let permit = self.run.admit(self.cost(expected as u32)).await?;
            let pool = &self.shared.buffers;
            self.filling = Some(Filling::begin(chunk, expected as usize, permit, pool));
        }
        self.size += (before - chunk.len()) as u64;
        Ok(())
    }

    /// Bytes of a stripe and its parity.
    fn cost(&self, stripe_bytes: u32) -> u64 {
        let (wanted, bucket) = (&self.run.wanted, &self.run.owner.bucket);
        let coding = self.shared.map.current().map(|map| wanted.by(&map, bucket));
        let geometry = coding
            .or(Coding::default_for(usize::from(u8::MAX)))
            .and_then(|coding| StripeGeometry::new(coding, stripe_bytes));
        geometry.map_or(u64::from(stripe_bytes), |geometry| {
            let parity = u64::from(geometry.parity_shards()) * u64::from(geometry.shard_bytes());
            u64::from(stripe_bytes) + parity
        })
    }
}

/// A body that is durable, but not yet an object. Dropped before it was committed, its shards
/// are deleted in the background.
pub struct WrittenBody {
    shared: Arc<Shared>,
    extents: Vec<Extent>,
    disks: Vec<Arc<[DiskId]>>,
    size: u64,
    /// Its extents may belong to an object, or do.
    held: bool,
}

impl WrittenBody {
    fn new(shared: Arc<Shared>, written: Vec<(Extent, Arc<[DiskId]>)>, size: u64) -> Self {
        let (extents, disks) = written.into_iter().unzip();
        Self { shared, extents, disks, size, held: false }
    }

    /// Bytes of the body.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its extents, in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// From now on the extents are not deleted, whatever happens here.
    pub(crate) fn hold(&mut self) {
        self.held = true;
    }

    /// The metadata definitely didn't take them.
    pub(crate) fn release(&mut self) {
        self.held = false;
    }
}

impl std::fmt::Debug for WrittenBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WrittenBody")
            .field("size", &self.size)
            .field("extents", &self.extents)
            .finish_non_exhaustive()
    }
}

impl Drop for WrittenBody {
    fn drop(&mut self) {
        if self.held {
            return;
        }
        let ids = self.extents.iter().map(|extent| extent.id);
        let extents = ids.zip(self.disks.iter().cloned()).collect();
        self.shared.discards.push(Discard { extents, settled: None, again: false });
    }
}
