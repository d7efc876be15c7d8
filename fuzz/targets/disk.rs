//! Whole directories: three segments of arbitrary bytes under a sound superblock, through every
//! offline tool that reads.
//!
//! A survey ends, tells of live shards that lie where it says, and agrees with itself at both depths
//! wherever content is sound.

#![no_main]

use std::sync::Arc;

use drystone_fuzz::{Files, IDENTITY, seal_seed, set_checksum};
use libfuzzer_sys::fuzz_target;
use storage_node::offline::{Depth, OfflineError, ShardsDirectory, dump, owners, survey};
use storage_node::segment::{RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, segment_name};
use twox_hash::XxHash3_64;

fn superblock() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..8].copy_from_slice(b"DRYDISK\n");
    bytes[8] = 1;
    bytes[12..16].copy_from_slice(&IDENTITY.disk.0.to_le_bytes());
    bytes[16..32].copy_from_slice(&IDENTITY.cluster.0);
    bytes[32..48].copy_from_slice(&IDENTITY.uuid.0);
    set_checksum(&mut bytes, 120, 0);
    bytes
}

/// A segment at `start` of the log, in which everything that looks like a record has its right
/// checksums and place.
fn segment(number: u64, start: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES as usize];
    bytes[..12].copy_from_slice(b"DRYSEG\r\n\x01\0\0\0");
    bytes[16..32].copy_from_slice(&IDENTITY.cluster.0);
    bytes[32..48].copy_from_slice(&IDENTITY.uuid.0);
    bytes[48..52].copy_from_slice(&IDENTITY.disk.0.to_le_bytes());
    bytes[56..64].copy_from_slice(&number.to_le_bytes());
    bytes[64..72].copy_from_slice(&start.to_le_bytes());
    set_checksum(&mut bytes, 120, 0);
    bytes.extend_from_slice(content);
    let seed = seal_seed(number);
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while at + RECORD_HEADER_BYTES <= bytes.len() {
        if bytes[at..].starts_with(b"DrSh\x01") {
            bytes[at + 40..at + 48].copy_from_slice(&(start + at as u64).to_le_bytes());
            let owner = usize::from(u16::from_le_bytes([bytes[at + 36], bytes[at + 37]]));
            let body = at + RECORD_HEADER_BYTES;
            // Records without payload have a body of their owner alone.
            if let Some(owner) = bytes.get(body..body + owner.next_multiple_of(8)) {
                let sum = XxHash3_64::oneshot_with_seed(seed, owner);
                bytes[at + 72..at + 80].copy_from_slice(&sum.to_le_bytes());
            }
            set_checksum(&mut bytes[at..], RECORD_HEADER_BYTES - 8, seed);
        }
        at += 8;
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let third = data.len() / 3;
    let mut files = vec![("superblock".to_owned(), superblock())];
    let mut start = 0;
    for (content, number) in data.chunks(third.max(1)).take(3).zip(1u64..) {
        let bytes = segment(number, start, content);
        start += bytes.len() as u64;
        files.push((segment_name(number), bytes));
    }
    let directory = match ShardsDirectory::open(Arc::new(Files::new(files))) {
        Ok(directory) => directory,
        Err(error) => panic!("its heads are sound: {error}"),
    };
    let headers = match survey(&directory, Depth::Headers, &|_| {}) {
        Ok(headers) => headers,
        Err(OfflineError::RecordVersion(..)) => return,
        Err(error) => panic!("memory can be read: {error}"),
    };
    let whole = survey(&directory, Depth::Whole, &|_| {}).expect("read before");
    assert_eq!(headers.live, whole.live);
    let live: u64 = headers.segments.iter().map(|segment| segment.live_shards).sum();
    assert_eq!(live, headers.live.len() as u64);
    let mut dumped = 0;
    dump::<OfflineError>(&directory, &whole, None, true, &mut |record| {
        dumped += u64::from(record.state == storage_node::offline::RecordState::Live);
        Ok(())
    })
    .expect("read before");
    assert_eq!(dumped, live);
    let mut shards = 0;
    owners::<OfflineError>(&directory, &whole, &|_| {}, &mut |extent| {
        shards += extent.shards.len() as u64;
        Ok(())
    })
    .expect("read before");
    assert_eq!(shards, live);
});
