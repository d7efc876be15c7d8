//! Every message comes back as it was sent; nothing else is taken for one.

mod rights;
mod samples;

use std::fmt::Debug;

use bytes::Bytes;
use minicbor::Encoder;
use proptest::prelude::*;

use crate::membership::{MembershipRequest, MembershipResponse};
use crate::query::{MetadataRequest, MetadataResponse};
use crate::rpc::{Frame, Message, MessageError};
use crate::shard::{ShardRequest, ShardResponse};

fn check_round_trip<T: Message + Debug>(messages: &[T]) {
    for message in messages {
        let frame = message.encode();
        let decoded = T::decode(frame.clone()).expect("it was just encoded");
        assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
        assert_eq!(decoded.encode(), frame);
    }
}

/// Cuts and changes valid frames: an error, or another message, but no panic.
fn check_damage<T: Message + Debug>(messages: &[T]) {
    for message in messages {
        let frame = message.encode();
        for length in 0..frame.header.len() {
            let cut = Frame { header: frame.header.slice(..length), ..frame.clone() };
            assert!(T::decode(cut).is_err(), "{message:?} cut to {length}");
        }
        for at in 0..frame.header.len() {
            for change in [0x01, 0x20, 0x80, 0xff] {
                let mut header = frame.header.to_vec();
                header[at] ^= change;
                let _ = T::decode(Frame { header: header.into(), ..frame.clone() });
            }
        }
        let mut behind = frame.header.to_vec();
        behind.push(0);
        let longer = Frame { header: behind.into(), ..frame.clone() };
        assert!(matches!(T::decode(longer), Err(MessageError::Malformed(_))));
        let mut more = frame.clone();
        more.attachments.push(Bytes::new());
        assert_eq!(T::decode(more).err(), Some(MessageError::Attachments));
        let mut fewer = frame;
        if fewer.attachments.pop().is_some() {
            assert_eq!(T::decode(fewer).err(), Some(MessageError::Attachments));
        }
    }
}

#[test]
fn every_message_comes_back() {
    check_round_trip(&samples::shard_requests());
    check_round_trip(&samples::shard_responses());
    check_round_trip(&samples::metadata_requests());
    check_round_trip(&samples::metadata_responses());
    check_round_trip(&samples::membership_requests());
    check_round_trip(&samples::membership_responses());
}

#[test]
fn damaged_frames_are_errors() {
    check_damage(&samples::shard_requests());
    check_damage(&samples::shard_responses());
    check_damage(&samples::metadata_requests());
    check_damage(&samples::metadata_responses());
    check_damage(&samples::membership_requests());
    check_damage(&samples::membership_responses());
}

#[test]
fn bulk_bytes_are_not_copied() {
    let payload = Bytes::from(vec![7; 100]);
    let mut shard = samples::append(0, b"");
    shard.payload = payload.clone();
    let request =
        ShardRequest::Append { disk: crate::ids::DiskId(1), shards: vec![shard], sync: false };
    let frame = request.encode();
    assert_eq!(frame.attachments[0].as_ptr(), payload.as_ptr());
    let header = frame.header.as_ptr_range();
    let Ok(ShardRequest::Append { shards, .. }) = ShardRequest::decode(frame.clone()) else {
        panic!("it was just encoded");
    };
    assert_eq!(shards[0].payload.as_ptr(), payload.as_ptr());
    assert!(header.contains(&shards[0].owner.as_ptr()));
}

fn check_bytes<T: Message>(message: &T, header: &[u8], attachments: &[&[u8]]) {
    let frame = message.encode();
    assert_eq!(frame.header.as_ref(), header, "{:02x?}", frame.header);
    assert_eq!(frame.attachments, attachments);
}

#[test]
fn the_forms_are_pinned() {
    let shards = vec![samples::append(1, b"ab")];
    let sum = shards[0].checksums[0];
    let append = ShardRequest::Append { disk: crate::ids::DiskId(2), shards, sync: true };
    let mut expected = vec![0x82, 0, 0x83, 2, 0x81, 0x86]; // Append: disk, shards, sync
    expected.extend([0x83, 0x83, 7, 0x19, 0x01, 0x2c, 9, 0, 1]); // the shard's id
    expected.extend([0x82, 4, 2, 0x18, 40, 2]); // coding, stripe, the attachment's length
    expected.push(0x48);
    expected.extend(sum.to_le_bytes());
    expected.extend(*b"\x46sealed\xf5");
    check_bytes(&append, &expected, &[b"ab"]);
    check_bytes(&ShardRequest::Status, &[0x82, 8, 0x80], &[]);
    let failed = ShardResponse::Failed(crate::shard::ShardError::Full(crate::ids::DiskId(1)));
    check_bytes(&failed, &[0x82, 9, 0x81, 0x82, 5, 0x81, 1], &[]);
    let query = MetadataRequest::Query(crate::query::Query::ClusterMap { known_epoch: 4 });
    check_bytes(&query, &[0x82, 1, 0x81, 0x82, 12, 0x81, 4], &[]);
    let taken = MetadataResponse::HeartbeatTaken { epoch: 24 };
    check_bytes(&taken, &[0x82, 2, 0x81, 0x18, 24], &[]);
    let renew = MembershipRequest::Renew { certificate_request: vec![1, 2].into() };
    check_bytes(&renew, &[0x82, 1, 0x81, 0x42, 1, 2], &[]);
    let failed = MembershipResponse::Failed(crate::membership::MembershipError::Removed);
    check_bytes(&failed, &[0x82, 3, 0x81, 0x82, 3, 0x80], &[]);
}

fn header(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Frame {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    Frame { header: encoder.into_writer().into(), attachments: Vec::new() }
}

#[test]
fn a_newer_peer_is_understood_as_far_as_that_goes() {
    // Sync with a field more than this release knows.
    let frame = Frame {
        header: Bytes::from_static(&[0x82, 1, 0x84, 2, 3, 4, 0x82, 0xf6, 0x61, b'x']),
        attachments: Vec::new(),
    };
    let request = ShardRequest::decode(frame).expect("what is known is there");
    assert!(matches!(request, ShardRequest::Sync { position: 4, .. }), "{request:?}");
    // Variants that this release doesn't know.
    for number in [50u32, 70_000] {
        let unknown = header(|encoder| {
            encoder.array(2).and_then(|e| e.u32(number)).and_then(|e| e.array(0)).expect("memory");
        });
        let malformed = |error| matches!(error, MessageError::Malformed(_));
        assert!(ShardRequest::decode(unknown.clone()).is_err_and(malformed));
        assert!(ShardResponse::decode(unknown.clone()).is_err_and(malformed));
        assert!(MetadataRequest::decode(unknown.clone()).is_err_and(malformed));
        assert!(MetadataResponse::decode(unknown.clone()).is_err_and(malformed));
        assert!(MembershipRequest::decode(unknown.clone()).is_err_and(malformed));
        assert!(MembershipResponse::decode(unknown).is_err_and(malformed));
    }
}

#[test]
fn names_and_codings_are_checked_where_they_arrive() {
    let bucket = |name: &str| {
        header(|encoder| {
            encoder.array(2).and_then(|e| e.u8(1)).and_then(|e| e.array(1)).expect("memory");
            encoder.array(2).and_then(|e| e.u8(0)).and_then(|e| e.array(1)).expect("memory");
            encoder.str(name).expect("memory");
        })
    };
    assert!(MetadataRequest::decode(bucket("photos")).is_ok());
    assert!(MetadataRequest::decode(bucket("Photos")).is_err());
    assert!(minicbor::decode::<crate::names::ObjectKey>(&[0x60]).is_err());
    assert!(minicbor::decode::<crate::coding::Coding>(&[0x82, 4, 2]).is_ok());
    assert!(minicbor::decode::<crate::coding::Coding>(&[0x82, 0, 2]).is_err());
    assert!(minicbor::decode::<crate::coding::Coding>(&[0x82, 0x18, 255, 0x18, 255]).is_err());
}

#[test]
fn lengths_that_are_lies_take_no_memory() {
    // Arrays and byte strings that claim to have 2^60 items.
    let lie = [0x1b, 0x10, 0, 0, 0, 0, 0, 0, 0];
    let long =
        |kind: u8| lie.iter().enumerate().map(move |(at, b)| if at == 0 { kind | b } else { *b });
    for kind in [0x80, 0x40, 0x60] {
        for prefix in [&[0x82u8, 0, 0x81][..], &[0x82, 2, 0x83, 1], &[0x82, 1, 0x81], &[]] {
            let bytes: Vec<u8> = prefix.iter().copied().chain(long(kind)).collect();
            let frame = Frame { header: bytes.into(), attachments: Vec::new() };
            assert!(ShardRequest::decode(frame.clone()).is_err());
            assert!(ShardResponse::decode(frame.clone()).is_err());
            assert!(MetadataRequest::decode(frame.clone()).is_err());
            assert!(MetadataResponse::decode(frame.clone()).is_err());
            assert!(MembershipRequest::decode(frame).is_err());
        }
    }
}

#[test]
fn a_proposal_has_a_bounded_number_of_commands() {
    let (command, _) = samples::commands().remove(3);
    let proposal =
        |count| MetadataRequest::Propose(vec![samples::envelope(command.clone()); count]);
    assert!(MetadataRequest::decode(proposal(super::few::MAX).encode()).is_ok());
    assert!(MetadataRequest::decode(proposal(super::few::MAX + 1).encode()).is_err());
}

proptest! {
    #[test]
    fn random_bytes_are_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), number in 0u8..16,
        attachments in proptest::collection::vec(0usize..3, 0..3),
    ) {
        let mut header = vec![0x82, number];
        header.extend(bytes);
        let attachments = attachments.into_iter().map(|length| Bytes::from(vec![0; length]));
        let frame = Frame { header: header.into(), attachments: attachments.collect() };
        let _ = ShardRequest::decode(frame.clone());
        let _ = ShardResponse::decode(frame.clone());
        let _ = MetadataRequest::decode(frame.clone());
        let _ = MetadataResponse::decode(frame.clone());
        let _ = MembershipRequest::decode(frame.clone());
        let _ = MembershipResponse::decode(frame);
    }
}
