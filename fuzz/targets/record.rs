//! Record headers and the bytes between header and payload.
//!
//! Whatever is accepted keeps within its limits, and reads back when it is written again.

#![no_main]

use drystone_fuzz::{IDENTITY, seal_seed, set_checksum};
use libfuzzer_sys::fuzz_target;
use model::limits::{OWNER_BYTES_MAX, STRIPE_BYTES_MAX};
use storage_node::segment::record::RECORD_BYTES_MAX;
use storage_node::segment::{RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, Seal};
use twox_hash::XxHash3_64;

const SEGMENT: u64 = 7;

fn check(bytes: &[u8]) {
    let seal = Seal::new(&IDENTITY, SEGMENT);
    let Some(mut header) = RecordHeader::decode(seal, bytes) else { return };
    assert!(usize::from(header.owner_bytes) <= OWNER_BYTES_MAX);
    assert!(header.payload_bytes <= STRIPE_BYTES_MAX);
    assert!(header.record_bytes() <= RECORD_BYTES_MAX + RECORD_ALIGN_BYTES);
    assert_eq!(header.record_bytes() % RECORD_ALIGN_BYTES, 0);
    let Some(body) = bytes.get(RECORD_HEADER_BYTES..header.payload_at()) else { return };
    let Some(checksums) = header.checksums(seal, body) else { return };
    let owner = body[..usize::from(header.owner_bytes)].to_vec();
    let before = header;
    let again = header.encode(seal, &owner, &checksums);
    let read = RecordHeader::decode(seal, &again).expect("what was encoded can be decoded");
    assert_eq!(RecordHeader { body_checksum: before.body_checksum, ..read }, before);
    assert_eq!(read.checksums(seal, &again[RECORD_HEADER_BYTES..]), Some(checksums));
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let mut bytes = data.to_vec();
    bytes.resize(bytes.len().max(RECORD_HEADER_BYTES), 0);
    bytes[..5].copy_from_slice(b"DrSh\x01");
    let seed = seal_seed(SEGMENT);
    // The body that the header speaks of, cut or padded to its length, with its checksum.
    let owner_bytes = usize::from(u16::from_le_bytes([bytes[36], bytes[37]]));
    let payload_bytes = u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
    let blocks = model::checksum::block_count(payload_bytes) as usize;
    let body_bytes = owner_bytes.next_multiple_of(8) + 8 * blocks.min(1024);
    bytes.resize(RECORD_HEADER_BYTES + body_bytes, 0);
    let sum = XxHash3_64::oneshot_with_seed(seed, &bytes[RECORD_HEADER_BYTES..]);
    bytes[72..80].copy_from_slice(&sum.to_le_bytes());
    set_checksum(&mut bytes, RECORD_HEADER_BYTES - 8, seed);
    check(&bytes);
});
