//! Where bytes rest: the storage node and its disks.
//!
//! A disk is a log. Shards are appended to segment files, made durable by group commit, found
//! through an index that is a checkpointed cache of the log, and deleted by tombstones. What
//! comes in is [`model::shard::ShardRequest`], what goes out [`model::shard::ShardResponse`]. The
//! crate knows shards and nothing above them. `FORMAT.md` describes every byte on the disk.
//!
//! What always holds: a shard that was acknowledged as synced is readable or reported as damaged
//! after any crash, and no shard appears that was not written (I-8); stored bytes are verified
//! before they leave (I-6).
//!
//! | room | what it does |
//! | --- | --- |
//! | [`segment`] | the file format: headers, records, scanning with resynchronisation |
//! | [`index`] | shard → place in a segment; recent changes in memory, the rest in redb |
//! | `compact` | gives back the space of what was deleted: plan, run, removal |
//! | [`store`] | one disk: recovery, the writer thread, group commit, reads, health |
//! | [`offline`] | what can be told of a stopped disk or a copy |
//! | `scrub` | reads everything again and again, at a limited rate, and tells what has rotted |
//! | [`serve`] | the node: many disks behind one service, and the heartbeat |

pub mod index;
pub mod offline;
pub mod segment;
pub mod serve;
pub mod store;

mod compact;
mod lock;
mod meter;
mod options;
mod scrub;
mod switches;
mod sync;

pub use options::{DiskIdentity, StoreOptions};
pub use serve::{DiskOpenError, HeartbeatReporter, StorageNode};
pub use store::{OpenError, Store};
#[cfg(feature = "switches")]
pub use switches::{Bug, Switches};
