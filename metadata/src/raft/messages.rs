//! Raft's messages as frames.
//!
//! In: a message of openraft's types. Out: a CBOR header in the stored forms of log ids, votes and
//! memberships, with the entries' payloads and a snapshot's pieces as attachments. An entry's
//! payload travels with its checksum, made where the entry was proposed: a replica appends nothing
//! that changed on the way. Only metadata nodes may send these.

use std::io;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use model::encoding::{Attached, from_frame, to_frame};
use model::node::Roles;
use model::rpc::{Frame, Message, MessageError, Request, Service};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use twox_hash::XxHash3_64;

use super::network::{RaftRequest, RaftResponse};
use super::types::{
    Entry, EntryKind, LogId, SnapshotMeta, StoredConfig, StoredLogId, TypeConfig, decode_entry,
    encode_entry,
};
use crate::raft_log::record::StoredVote;

#[derive(Encode, Decode)]
#[cbor(context_bound = "Attached")]
enum RequestHeader {
    #[n(0)]
    Append {
        #[n(0)]
        vote: StoredVote,
        #[n(1)]
        previous: Option<StoredLogId>,
        #[n(2)]
        entries: Vec<SentEntry>,
        #[n(3)]
        committed: Option<StoredLogId>,
    },
    #[n(1)]
    Vote(#[n(0)] SentVoteRequest),
    #[n(2)]
    PreVote(#[n(0)] SentVoteRequest),
    #[n(3)]
    TransferLeader {
        #[n(0)]
        from: StoredVote,
        #[n(1)]
        to: u64,
        #[n(2)]
        last_log_id: Option<StoredLogId>,
    },
    #[n(4)]
    SnapshotPiece {
        #[n(0)]
        offset: u64,
        #[n(1)]
        #[cbor(with = "model::encoding::attachment")]
        piece: Bytes,
    },
    #[n(5)]
    SnapshotEnd {
        #[n(0)]
        vote: StoredVote,
        #[n(1)]
        last_log_id: Option<StoredLogId>,
        #[n(2)]
        membership: StoredConfig,
    },
}

#[derive(Encode, Decode)]
#[cbor(context_bound = "Attached")]
struct SentEntry {
    #[n(0)]
    id: StoredLogId,
    #[n(1)]
    kind: SentKind,
    #[n(2)]
    #[cbor(with = "model::encoding::attachment")]
    payload: Bytes,
    #[n(3)]
    checksum: u64,
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(index_only)]
enum SentKind {
    #[n(0)]
    Blank,
    #[n(1)]
    Commands,
    #[n(2)]
    Membership,
}

#[derive(Encode, Decode)]
struct SentVoteRequest {
    #[n(0)]
    vote: StoredVote,
    #[n(1)]
    last_log_id: Option<StoredLogId>,
    #[n(2)]
    leadership_transfer: bool,
}

#[derive(Encode, Decode)]
enum ResponseHeader {
    #[n(0)]
    Append(#[n(0)] SentAppendResponse),
    #[n(1)]
    Vote {
        #[n(0)]
        vote: StoredVote,
        #[n(1)]
        granted: bool,
        #[n(2)]
        last_log_id: Option<StoredLogId>,
    },
    #[n(2)]
    TransferLeader(#[n(0)] SentTransfer),
    #[n(3)]
    PieceTaken,
    #[n(4)]
    Snapshot {
        #[n(0)]
        vote: StoredVote,
    },
    #[n(5)]
    Failed(#[n(0)] String),
}

#[derive(Encode, Decode)]
enum SentAppendResponse {
    #[n(0)]
    Success,
    #[n(1)]
    PartialSuccess(#[n(0)] Option<StoredLogId>),
    #[n(2)]
    Conflict,
    #[n(3)]
    HigherVote(#[n(0)] StoredVote),
}

#[derive(Encode, Decode)]
enum SentTransfer {
    #[n(0)]
    Transferred,
    #[n(1)]
    VoteChanged {
        #[n(0)]
        expected: StoredVote,
        #[n(1)]
        actual: StoredVote,
    },
    #[n(2)]
    LogNotFlushed {
        #[n(0)]
        expected: Option<StoredLogId>,
        #[n(1)]
        actual: Option<StoredLogId>,
    },
}

fn stored(id: Option<&LogId>) -> Option<StoredLogId> {
    id.map(|id| StoredLogId::from(*id))
}

fn log_id(id: Option<StoredLogId>) -> Option<LogId> {
    id.map(LogId::from)
}

fn malformed(error: &io::Error) -> MessageError {
    MessageError::Malformed(error.to_string())
}

impl From<&Entry> for SentEntry {
    fn from(entry: &Entry) -> Self {
        let (kind, payload, checksum) = encode_entry(entry);
        let kind = match kind {
            EntryKind::Blank => SentKind::Blank,
            EntryKind::Commands => SentKind::Commands,
            EntryKind::Membership => SentKind::Membership,
        };
        Self { id: entry.log_id.into(), kind, payload, checksum }
    }
}

impl SentEntry {
    fn check(self) -> Result<Entry, MessageError> {
        if XxHash3_64::oneshot(&self.payload) != self.checksum {
            return Err(MessageError::Malformed("an entry's checksum fails".to_owned()));
        }
        let kind = match self.kind {
            SentKind::Blank => EntryKind::Blank,
            SentKind::Commands => EntryKind::Commands,
            SentKind::Membership => EntryKind::Membership,
        };
        decode_entry(self.id.into(), kind, self.payload).map_err(|error| malformed(&error))
    }
}

impl From<&VoteRequest<TypeConfig>> for SentVoteRequest {
    fn from(request: &VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: request.vote.into(),
            last_log_id: stored(request.last_log_id.as_ref()),
            leadership_transfer: request.leadership_transfer,
        }
    }
}

impl From<SentVoteRequest> for VoteRequest<TypeConfig> {
    fn from(sent: SentVoteRequest) -> Self {
        let mut request = Self::new(sent.vote.into(), log_id(sent.last_log_id));
        request.leadership_transfer = sent.leadership_transfer;
        request
    }
}

impl From<&AppendEntriesResponse<TypeConfig>> for SentAppendResponse {
    fn from(response: &AppendEntriesResponse<TypeConfig>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::PartialSuccess(stored(id.as_ref())),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote((*vote).into()),
        }
    }
}

impl From<SentAppendResponse> for AppendEntriesResponse<TypeConfig> {
    fn from(sent: SentAppendResponse) -> Self {
        match sent {
            SentAppendResponse::Success => Self::Success,
            SentAppendResponse::PartialSuccess(id) => Self::PartialSuccess(log_id(id)),
            SentAppendResponse::Conflict => Self::Conflict,
            SentAppendResponse::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

fn sent_transfer(response: &TransferLeaderResponse<TypeConfig>) -> SentTransfer {
    match response {
        Ok(()) => SentTransfer::Transferred,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            SentTransfer::VoteChanged { expected: (*expected).into(), actual: (*actual).into() }
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            SentTransfer::LogNotFlushed {
                expected: stored(expected.as_ref()),
                actual: stored(actual.as_ref()),
            }
        }
    }
}

fn transfer(sent: &SentTransfer) -> TransferLeaderResponse<TypeConfig> {
    Err(match *sent {
        SentTransfer::Transferred => return Ok(()),
        SentTransfer::VoteChanged { expected, actual } => {
            TransferLeaderError::VoteChanged { expected: expected.into(), actual: actual.into() }
        }
        SentTransfer::LogNotFlushed { expected, actual } => TransferLeaderError::LogNotFlushed {
            expected: log_id(expected),
            actual: log_id(actual),
        },
    })
}

impl Message for RaftRequest {
    fn encode(&self) -> Frame {
        to_frame(&match self {
            Self::Append(request) => RequestHeader::Append {
                vote: request.vote.into(),
                previous: stored(request.prev_log_id.as_ref()),
                entries: request.entries.iter().map(SentEntry::from).collect(),
                committed: stored(request.leader_commit.as_ref()),
            },
            Self::Vote(request) => RequestHeader::Vote(request.into()),
            Self::PreVote(request) => RequestHeader::PreVote(request.into()),
            Self::TransferLeader(request) => RequestHeader::TransferLeader {
                from: (*request.from_leader()).into(),
                to: *request.to_node_id(),
                last_log_id: stored(request.last_log_id()),
            },
            Self::SnapshotPiece { offset, piece } => {
                RequestHeader::SnapshotPiece { offset: *offset, piece: piece.clone() }
            }
            Self::SnapshotEnd { vote, meta } => {
                let membership = &meta.last_membership;
                RequestHeader::SnapshotEnd {
                    vote: (*vote).into(),
                    last_log_id: stored(meta.last_log_id.as_ref()),
                    membership: StoredConfig::new(*membership.log_id(), membership.membership()),
                }
            }
        })
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        Ok(match from_frame(frame)? {
            RequestHeader::Append { vote, previous, entries, committed } => {
                let entries = entries.into_iter().map(SentEntry::check);
                Self::Append(AppendEntriesRequest {
                    vote: vote.into(),
                    prev_log_id: log_id(previous),
                    entries: entries.collect::<Result<_, _>>()?,
                    leader_commit: log_id(committed),
                })
            }
            RequestHeader::Vote(sent) => Self::Vote(sent.into()),
            RequestHeader::PreVote(sent) => Self::PreVote(sent.into()),
            RequestHeader::TransferLeader { from, to, last_log_id } => Self::TransferLeader(
                TransferLeaderRequest::new(from.into(), to, log_id(last_log_id)),
            ),
            RequestHeader::SnapshotPiece { offset, piece } => Self::SnapshotPiece { offset, piece },
            RequestHeader::SnapshotEnd { vote, last_log_id, membership } => {
                let last_membership = membership.to_stored().map_err(|error| malformed(&error))?;
                let meta = SnapshotMeta { last_log_id: log_id(last_log_id), last_membership };
                Self::SnapshotEnd { vote: vote.into(), meta }
            }
        })
    }
}

impl Request for RaftRequest {
    const SERVICE: Service = Service::Raft;

    fn is_allowed(&self, sender: Roles) -> bool {
        sender.contains(Roles::METADATA)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Append(_) => "append",
            Self::Vote(_) => "vote",
            Self::PreVote(_) => "pre-vote",
            Self::TransferLeader(_) => "transfer-leader",
            Self::SnapshotPiece { .. } => "snapshot-piece",
            Self::SnapshotEnd { .. } => "snapshot-end",
        }
    }
}

impl Message for RaftResponse {
    fn encode(&self) -> Frame {
        to_frame(&match self {
            Self::Append(response) => ResponseHeader::Append(response.into()),
            Self::Vote(response) => ResponseHeader::Vote {
                vote: response.vote.into(),
                granted: response.vote_granted,
                last_log_id: stored(response.last_log_id.as_ref()),
            },
            Self::TransferLeader(response) => {
                ResponseHeader::TransferLeader(sent_transfer(response))
            }
            Self::PieceTaken => ResponseHeader::PieceTaken,
            Self::Snapshot(response) => ResponseHeader::Snapshot { vote: response.vote.into() },
            Self::Failed(reason) => ResponseHeader::Failed(reason.clone()),
        })
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        Ok(match from_frame(frame)? {
            ResponseHeader::Append(sent) => Self::Append(sent.into()),
            ResponseHeader::Vote { vote, granted, last_log_id } => {
                let vote = super::types::Vote::from(vote);
                Self::Vote(VoteResponse::new(vote, log_id(last_log_id), granted))
            }
            ResponseHeader::TransferLeader(sent) => Self::TransferLeader(transfer(&sent)),
            ResponseHeader::PieceTaken => Self::PieceTaken,
            ResponseHeader::Snapshot { vote } => Self::Snapshot(SnapshotResponse::new(vote.into())),
            ResponseHeader::Failed(reason) => Self::Failed(reason),
        })
    }
}

#[cfg(test)]
mod tests;
