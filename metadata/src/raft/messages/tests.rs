//! Every message comes back as it was sent; nothing else is taken for one.

use std::collections::{BTreeMap, BTreeSet};

use model::command::{Command, CommandEnvelope, CommandId};
use model::ids::SessionId;
use model::time::Timestamp;
use openraft::EmptyNode;
use openraft::entry::RaftEntry;
use proptest::prelude::*;

use super::*;
use crate::raft::types::{Batch, LeaderId, Membership, StoredMembership, Vote};

fn vote() -> Vote {
    Vote { leader_id: LeaderId { term: 5, node_id: 2 }, committed: true }
}

fn id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 4, node_id: 1 }, index)
}

fn membership() -> Membership {
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    #[expect(clippy::zero_sized_map_values, reason = "it is Raft's type")]
    let members: BTreeMap<u64, EmptyNode> = (1..=5).map(|id| (id, EmptyNode::new())).collect();
    Membership::new(voters, members).expect("all voters are members")
}

fn batch() -> Batch {
    let command = Command::OpenSession { gateway: "gateway".to_owned() };
    let command = CommandEnvelope {
        id: CommandId { session: SessionId(0), sequence: 0 },
        acknowledged_below: 0,
        proposed: Timestamp(7),
        command,
    };
    let commands = vec![command; 3];
    let encoded = Batch::encode(&commands);
    Batch::new(commands, &[encoded])
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::new_blank(id(1)),
        Entry::new_normal(id(2), batch()),
        Entry::new_membership(id(3), membership()),
    ]
}

fn requests() -> Vec<RaftRequest> {
    let mut transferring = VoteRequest::new(vote(), Some(id(9)));
    transferring.leadership_transfer = true;
    let last_membership = StoredMembership::new(Some(id(3)), membership());
    vec![
        RaftRequest::Append(AppendEntriesRequest {
            vote: vote(),
            prev_log_id: Some(id(0)),
            entries: entries(),
            leader_commit: Some(id(2)),
        }),
        RaftRequest::Append(AppendEntriesRequest {
            vote: vote(),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        }),
        RaftRequest::Vote(transferring),
        RaftRequest::PreVote(VoteRequest::new(vote(), None)),
        RaftRequest::TransferLeader(TransferLeaderRequest::new(vote(), 3, Some(id(7)))),
        RaftRequest::SnapshotPiece { offset: 1 << 20, piece: Bytes::from_static(b"piece") },
        RaftRequest::SnapshotEnd {
            vote: vote(),
            meta: SnapshotMeta { last_log_id: Some(id(8)), last_membership },
        },
        RaftRequest::SnapshotEnd {
            vote: vote(),
            meta: SnapshotMeta { last_log_id: None, last_membership: StoredMembership::default() },
        },
    ]
}

fn responses() -> Vec<RaftResponse> {
    let vote_changed = TransferLeaderError::VoteChanged { expected: vote(), actual: vote() };
    let not_flushed = TransferLeaderError::LogNotFlushed { expected: Some(id(1)), actual: None };
    vec![
        RaftResponse::Append(AppendEntriesResponse::Success),
        RaftResponse::Append(AppendEntriesResponse::PartialSuccess(Some(id(1)))),
        RaftResponse::Append(AppendEntriesResponse::PartialSuccess(None)),
        RaftResponse::Append(AppendEntriesResponse::Conflict),
        RaftResponse::Append(AppendEntriesResponse::HigherVote(vote())),
        RaftResponse::Vote(VoteResponse::new(vote(), Some(id(1)), true)),
        RaftResponse::TransferLeader(Ok(())),
        RaftResponse::TransferLeader(Err(vote_changed)),
        RaftResponse::TransferLeader(Err(not_flushed)),
        RaftResponse::PieceTaken,
        RaftResponse::Snapshot(SnapshotResponse::new(vote())),
        RaftResponse::Failed("fenced".to_owned()),
    ]
}

fn told(request: &RaftRequest) -> String {
    match request {
        RaftRequest::Append(request) => format!("{request:?}"),
        RaftRequest::Vote(request) => format!("vote {request:?}"),
        RaftRequest::PreVote(request) => format!("pre-vote {request:?}"),
        RaftRequest::TransferLeader(request) => format!("{request:?}"),
        RaftRequest::SnapshotPiece { offset, piece } => format!("{offset} {piece:?}"),
        RaftRequest::SnapshotEnd { vote, meta } => format!("{vote:?} {meta:?}"),
    }
}

fn answered(response: &RaftResponse) -> String {
    match response {
        RaftResponse::Append(response) => format!("{response:?}"),
        RaftResponse::Vote(response) => format!("{response:?}"),
        RaftResponse::TransferLeader(response) => format!("{response:?}"),
        RaftResponse::PieceTaken => "taken".to_owned(),
        RaftResponse::Snapshot(response) => format!("{response:?}"),
        RaftResponse::Failed(reason) => reason.clone(),
    }
}

#[test]
fn every_message_comes_back() {
    for request in requests() {
        let frame = request.encode();
        let decoded = RaftRequest::decode(frame.clone()).expect("it was just encoded");
        assert_eq!(told(&decoded), told(&request));
        assert_eq!(decoded.encode(), frame);
    }
    for response in responses() {
        let decoded = RaftResponse::decode(response.encode()).expect("it was just encoded");
        assert_eq!(answered(&decoded), answered(&response));
    }
}

#[test]
fn commands_are_not_copied() {
    let batch = batch();
    let entries = vec![Entry::new_normal(id(2), batch.clone())];
    let request = RaftRequest::Append(AppendEntriesRequest {
        vote: vote(),
        prev_log_id: None,
        entries,
        leader_commit: None,
    });
    let frame = request.encode();
    assert_eq!(frame.attachments[0].as_ptr(), batch.encoded().as_ptr());
}

#[test]
fn only_metadata_nodes_are_heard() {
    for request in requests() {
        assert!(request.is_allowed(Roles::METADATA) && request.is_allowed(Roles::ALL));
        for other in [Roles::NONE, Roles::STORAGE_NODE, Roles::GATEWAY] {
            assert!(!request.is_allowed(other), "{} by {other}", request.name());
        }
    }
}

#[test]
fn the_forms_are_pinned() {
    let request = RaftRequest::Append(AppendEntriesRequest {
        vote: vote(),
        prev_log_id: Some(id(1)),
        entries: vec![Entry::new_blank(id(2))],
        leader_commit: None,
    });
    let mut expected = vec![0x82, 0, 0x83, 0x83, 5, 2, 0xf5, 0x83, 4, 1, 1];
    expected.extend([0x81, 0x84, 0x83, 4, 1, 2, 0, 0, 0x1b]);
    expected.extend(XxHash3_64::oneshot(&[]).to_be_bytes());
    let frame = request.encode();
    assert_eq!(frame.header.as_ref(), expected);
    assert_eq!(frame.attachments, [Bytes::new()]);
    let response = RaftResponse::Append(AppendEntriesResponse::Conflict).encode();
    assert_eq!(response.header.as_ref(), [0x82, 0, 0x81, 0x82, 2, 0x80]);
}

#[test]
fn damaged_frames_are_errors() {
    for frame in requests().iter().map(Message::encode) {
        for length in 0..frame.header.len() {
            let cut = Frame { header: frame.header.slice(..length), ..frame.clone() };
            assert!(RaftRequest::decode(cut).is_err());
        }
        for at in 0..frame.header.len() {
            let mut header = frame.header.to_vec();
            header[at] ^= 0x21;
            let _ = RaftRequest::decode(Frame { header: header.into(), ..frame.clone() });
        }
        let mut more = frame.clone();
        more.attachments.push(Bytes::new());
        assert!(RaftRequest::decode(more).is_err());
    }
    for frame in responses().iter().map(Message::encode) {
        for length in 0..frame.header.len() {
            let cut = Frame { header: frame.header.slice(..length), ..frame.clone() };
            assert!(RaftResponse::decode(cut).is_err());
        }
    }
    let unknown = Frame { header: Bytes::from_static(&[0x82, 20, 0x80]), attachments: Vec::new() };
    assert!(RaftRequest::decode(unknown.clone()).is_err());
    assert!(RaftResponse::decode(unknown).is_err());
}

#[test]
fn an_entry_that_changed_on_the_way_is_refused() {
    let frame = requests().remove(0).encode();
    for (number, attachment) in frame.attachments.iter().enumerate() {
        for at in 0..attachment.len() {
            let mut changed = attachment.to_vec();
            changed[at] ^= 1;
            let mut attachments = frame.attachments.clone();
            attachments[number] = changed.into();
            let frame = Frame { header: frame.header.clone(), attachments };
            assert!(RaftRequest::decode(frame).is_err());
        }
    }
}

#[test]
fn a_membership_whose_voters_are_no_members_is_refused() {
    let header = RequestHeader::SnapshotEnd {
        vote: vote().into(),
        last_log_id: None,
        membership: StoredConfig { log_id: None, voters: vec![vec![9]], members: vec![1] },
    };
    assert!(RaftRequest::decode(to_frame(&header)).is_err());
}

proptest! {
    #[test]
    fn random_bytes_are_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..100), number in 0u8..8,
        attachment in proptest::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut header = vec![0x82, number];
        header.extend(bytes);
        let frame = Frame { header: header.into(), attachments: vec![attachment.into()] };
        let _ = RaftRequest::decode(frame.clone());
        let _ = RaftResponse::decode(frame);
    }
}
