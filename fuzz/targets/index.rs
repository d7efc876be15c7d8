//! Values of the index: places of shards, tombstones, and the checkpoint.
//!
//! Whatever is accepted is written again as the same bytes.

#![no_main]

use drystone_fuzz::set_checksum;
use libfuzzer_sys::fuzz_target;
use storage_node::index::{Checkpoint, Location, Tombstone};

fn check_checkpoint(bytes: &[u8; Checkpoint::BYTES]) {
    if let Some(checkpoint) = Checkpoint::decode(bytes) {
        assert_eq!(checkpoint.encode(), *bytes);
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk::<{ Location::BYTES }>() {
        assert_eq!(Location::decode(bytes).encode(), *bytes);
    }
    if let Some(tombstone) = Tombstone::decode(data) {
        assert_eq!(tombstone.encode(), data);
    }
    if let Some(bytes) = data.first_chunk::<{ Checkpoint::BYTES }>() {
        check_checkpoint(bytes);
        let mut bytes = *bytes;
        bytes[20..24].copy_from_slice(&2u32.to_le_bytes());
        set_checksum(&mut bytes, Checkpoint::BYTES - 8, 0);
        check_checkpoint(&bytes);
    }
});
