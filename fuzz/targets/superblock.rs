//! Superblocks, and directories of one segment under them.
//!
//! Whatever lies there is refused or told of; nothing is written and nothing panics.

#![no_main]

use std::sync::Arc;

use drystone_fuzz::{Files, IDENTITY, set_checksum};
use libfuzzer_sys::fuzz_target;
use storage_node::offline::{ShardsDirectory, SuperblockState};

const COPY_BYTES: usize = 128;
const SECOND_AT: usize = 4096;

fn check(bytes: Vec<u8>) {
    let files = Files::new([("superblock".to_owned(), bytes)]);
    // Without a segment nothing but a sound superblock says whose the directory is.
    if let Ok(directory) = ShardsDirectory::open(Arc::new(files)) {
        assert!(matches!(directory.superblock(), SuperblockState::Sound { .. }));
        assert_eq!((directory.segments().len(), directory.bytes()), (0, 0));
    }
}

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    // Two copies of right checksum, of which the first is right in all.
    let mut bytes = data.to_vec();
    bytes.resize(SECOND_AT + COPY_BYTES, 0);
    bytes.copy_within(COPY_BYTES..2 * COPY_BYTES, SECOND_AT);
    for at in [0, SECOND_AT] {
        let copy = &mut bytes[at..at + COPY_BYTES];
        copy[..8].copy_from_slice(b"DRYDISK\n");
        if at == 0 {
            copy[8..12].copy_from_slice(&[1, 0, 0, 0]);
            copy[16..32].copy_from_slice(&IDENTITY.cluster.0);
        }
        set_checksum(copy, COPY_BYTES - 8, 0);
    }
    check(bytes);
});
