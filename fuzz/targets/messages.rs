//! Frames as they come from a peer: what is read of them, and whether it may be asked.
//!
//! The input is a kind, the lengths of up to three attachments, and the header; the attachments are
//! its last bytes. Whatever is accepted reads back the same when it is written again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use metadata::raft::{RaftRequest, RaftResponse};
use model::membership::{MembershipRequest, MembershipResponse};
use model::node::Roles;
use model::query::{MetadataRequest, MetadataResponse};
use model::rpc::{Frame, Message, Request};
use model::shard::{ShardRequest, ShardResponse};

fn check<T: Message>(frame: Frame) -> Option<T> {
    let message = T::decode(frame).ok()?;
    let written = message.encode();
    let again = T::decode(written.clone()).expect("what was encoded can be decoded");
    assert_eq!(again.encode(), written);
    Some(message)
}

fn check_request<T: Request>(frame: Frame) {
    let Some(request) = check::<T>(frame) else { return };
    assert!(!request.name().is_empty());
    assert!(!request.is_allowed(Roles::NONE) || request.name() == "join");
    assert!(request.is_allowed(Roles::ALL));
}

fuzz_target!(|data: &[u8]| {
    let Some((&[which, count, first, second, third], bytes)) = data.split_first_chunk::<5>() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let mut end = bytes.len();
    let mut attachments = Vec::new();
    for length in [first, second, third].into_iter().take(usize::from(count % 4)) {
        let start = end.saturating_sub(usize::from(length));
        attachments.insert(0, bytes.slice(start..end));
        end = start;
    }
    let frame = Frame { header: bytes.slice(..end), attachments };
    match which % 8 {
        0 => check_request::<ShardRequest>(frame),
        1 => drop(check::<ShardResponse>(frame)),
        2 => check_request::<MetadataRequest>(frame),
        3 => drop(check::<MetadataResponse>(frame)),
        4 => check_request::<MembershipRequest>(frame),
        5 => drop(check::<MembershipResponse>(frame)),
        6 => check_request::<RaftRequest>(frame),
        _ => drop(check::<RaftResponse>(frame)),
    }
});
