//! Segment headers, and the scan of a file of arbitrary bytes.
//!
//! A scan tells of every byte once, in order, ends, and finds only records that verify or don't.

#![no_main]

use std::io::ErrorKind;
use std::sync::Arc;

use drystone_fuzz::{Bytes, IDENTITY, seal_seed, set_checksum};
use libfuzzer_sys::fuzz_target;
use storage_node::segment::scanner::verify_record;
use storage_node::segment::{
    RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, Scanned, Scanner, Seal, SegmentHeader,
};
use wire::disk::DiskFile;

const SEGMENT: u64 = 7;

fn check(bytes: Vec<u8>) {
    let header = SegmentHeader::decode(&bytes);
    if let Ok(header) = header {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
    let seal = Seal::new(&IDENTITY, SEGMENT);
    let end = bytes.len() as u64;
    let file: Arc<dyn DiskFile> = Arc::new(Bytes(bytes));
    let start = header.ok().map(|header| header.start);
    let mut scanner = Scanner::new(Arc::clone(&file), seal, start, 0, end);
    let mut reached = SEGMENT_HEADER_BYTES;
    loop {
        let item = match scanner.advance() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            // A record of a newer format, which ends every scan.
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            Err(error) => panic!("memory can be read: {error}"),
        };
        match item {
            Scanned::Record { offset, header } => {
                assert_eq!(offset, reached);
                reached += header.record_bytes();
                verify_record(&*file, seal, offset, &header).expect("memory can be read");
            }
            Scanned::Damage { offset, bytes, .. } => {
                assert_eq!(offset, reached);
                assert!(bytes > 0);
                reached += bytes;
            }
        }
    }
    assert!(reached == end || end < SEGMENT_HEADER_BYTES);
}

/// Gives the segment header and everything that looks like a record its right checksum and place.
fn put_right(bytes: &mut [u8]) {
    if let Some(head) = bytes.get_mut(..SEGMENT_HEADER_BYTES as usize) {
        head[..12].copy_from_slice(b"DRYSEG\r\n\x01\0\0\0");
        set_checksum(head, SEGMENT_HEADER_BYTES as usize - 8, 0);
    }
    let start = bytes.get(64..72).and_then(|start| start.try_into().ok());
    let start = start.map_or(0, u64::from_le_bytes);
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while at + RECORD_HEADER_BYTES <= bytes.len() {
        if bytes[at..].starts_with(b"DrSh") {
            let position = start.wrapping_add(at as u64);
            bytes[at + 40..at + 48].copy_from_slice(&position.to_le_bytes());
            set_checksum(&mut bytes[at..], RECORD_HEADER_BYTES - 8, seal_seed(SEGMENT));
        }
        at += 8;
    }
}

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    let mut bytes = data.to_vec();
    put_right(&mut bytes);
    check(bytes);
});
