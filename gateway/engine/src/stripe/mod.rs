//! Between bodies and stripes: the cutter fills stripes from chunks, the joiner says which pieces
//! of which shards make up a range.

mod cutter;
mod joiner;

pub(crate) use cutter::{Filling, Stripe};
pub(crate) use joiner::{Window, Windows, shard_ranges};
