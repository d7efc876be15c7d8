//! Every limit that more than one crate must agree on, with its reason.

/// A stripe holds at most this many bytes of an extent: large enough that a shard is a good
/// sequential write, small enough that a few in flight are cheap.
pub const STRIPE_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// An extent holds at most this many bytes; a large object moves on to another PG after it.
pub const EXTENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Stripes of an extent, so that a stripe number fits a `u16` with room.
pub const EXTENT_STRIPES_MAX: u16 = (EXTENT_BYTES_MAX / STRIPE_BYTES_MAX as u64) as u16;

/// A shard is checksummed in blocks of this many bytes: the unit of a verified range read.
pub const BLOCK_BYTES: u32 = 64 * 1024;

/// Below this many bytes per data shard, a stripe uses fewer data shards (design §3.4).
pub const SHORT_SHARD_BYTES: u32 = 16 * 1024;

/// Coded shards are a multiple of this long, as the coding's SIMD lanes want.
pub const SHARD_ALIGN_BYTES: u32 = 64;

/// Data shards of a coding.
pub const DATA_SHARDS_MAX: u8 = 16;

/// Parity shards of a coding.
pub const PARITY_SHARDS_MAX: u8 = 4;

/// Bytes of an object key (S3).
pub const KEY_BYTES_MAX: usize = 1024;

/// Parts of a multipart upload (S3).
pub const PARTS_MAX: u32 = 10_000;

/// Bytes of an object (S3): 5 TiB.
pub const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// Bytes of one PutObject or UploadPart (S3): 5 GiB.
pub const PUT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// Bytes of every part but the last (S3): 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// Keys or entries in one listing page (S3).
pub const LIST_KEYS_MAX: u32 = 1000;

/// Parts kept inside a version's own record; more go to pages of their own, so that reading a
/// small range of a large object needn't load them all.
pub const INLINE_PARTS_MAX: usize = 16;

/// Parts in one page of a large version.
pub const PAGE_PARTS_MAX: usize = 256;

/// Bytes of a sealed owner field in a shard record: two keys of 1024 bytes and the rest.
pub const OWNER_BYTES_MAX: usize = 2048;

/// Commands in one Raft entry.
pub const BATCH_COMMANDS_MAX: usize = 512;

/// Buckets of a cluster, so that ListBuckets stays one page.
pub const BUCKETS_MAX: usize = 10_000;

/// A disk of whose file system at least this many percent are taken is reported, unless operators say
/// otherwise: what is left must take what a lost node's disks held, and there must be time to buy more.
pub const DISK_NEARFULL_PERCENT: u64 = 85;

/// A disk of which more than this many thousandths are taken gets no new extents while others can
/// have them: what is left is for rebuilding.
pub const DISK_AVOIDED_THOUSANDTHS: u64 = 900;
