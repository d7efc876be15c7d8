//! The words of Drystone: pure types and rules that every other crate shares.
//!
//! Nothing here does I/O, reads a clock or draws randomness. What two services say to each other
//! (the shard protocol and the metadata protocol) is defined here, so that a storage node and the
//! metadata service need not know each other, and so that a gateway needs neither's insides.
//!
//! Persistent and wire records are CBOR arrays with numbered fields (RFC 8949 by `minicbor`): a
//! reader skips fields it doesn't know, and a missing optional field is `None`, so that records
//! may grow without a format change.

mod assignment;
pub mod bucket;
pub mod checksum;
pub mod class;
pub mod cluster_map;
pub mod coding;
pub mod command;
pub mod durability;
pub mod encoding;
pub mod extent;
pub mod ids;
pub mod level;
pub mod limits;
pub mod membership;
pub mod moves;
pub mod names;
pub mod node;
pub mod owner;
pub mod placement;
pub mod query;
pub mod rebuild;
pub mod record;
pub mod recovery;
pub mod rpc;
pub mod shard;
pub mod time;
pub mod upkeep;
pub mod upload;
pub mod version;
