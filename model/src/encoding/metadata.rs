//! The metadata protocol as frames.

use super::{from_frame, rights, to_frame};
use crate::command::CommandEnvelope;
use crate::node::Roles;
use crate::query::{MetadataRequest, MetadataResponse, Query};
use crate::rpc::{Frame, Message, MessageError, Request, Service};

impl Message for MetadataRequest {
    fn encode(&self) -> Frame {
        to_frame(self)
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        from_frame(frame)
    }
}

impl Request for MetadataRequest {
    const SERVICE: Service = Service::Metadata;

    fn is_allowed(&self, sender: Roles) -> bool {
        match self {
            // Each of them: a batch gives nobody a right that its commands don't.
            Self::Propose(commands) => {
                let may = |envelope: &CommandEnvelope| {
                    sender.intersects(rights::proposers(&envelope.command))
                };
                sender.intersects(Roles::ALL) && commands.iter().all(may)
            }
            Self::Query(query) => sender.intersects(rights::query_askers(query)),
            Self::Heartbeat(_) => sender.intersects(rights::HEARTBEAT),
            Self::Status => sender.intersects(Roles::ALL),
            Self::BeginBackup | Self::ReadBackup { .. } | Self::EndBackup { .. } => {
                sender.intersects(rights::BACKUP)
            }
            Self::Transfer { .. } | Self::Digest { .. } => sender.intersects(rights::OPERATORS),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Propose(_) => "propose",
            Self::Query(query) => query.name(),
            Self::Heartbeat(_) => "heartbeat",
            Self::Status => "status",
            Self::BeginBackup => "begin-backup",
            Self::ReadBackup { .. } => "read-backup",
            Self::EndBackup { .. } => "end-backup",
            Self::Transfer { .. } => "transfer",
            Self::Digest { .. } => "digest",
        }
    }
}

impl Message for MetadataResponse {
    fn encode(&self) -> Frame {
        to_frame(self)
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        from_frame(frame)
    }
}

impl Query {
    /// What it asks, for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bucket { .. } => "bucket",
            Self::Buckets { .. } => "buckets",
            Self::Object { .. } => "object",
            Self::Objects(_) => "objects",
            Self::Upload { .. } => "upload",
            Self::Uploads(_) => "uploads",
            Self::Parts { .. } => "parts",
            Self::ObjectParts { .. } => "object-parts",
            Self::Garbage { .. } => "garbage",
            Self::Repairs { .. } => "repairs",
            Self::Extents { .. } => "extents",
            Self::ExtentStates { .. } => "extent-states",
            Self::ClusterMap { .. } => "cluster-map",
            Self::Trust => "trust",
            Self::Held => "held",
            Self::ToRecode { .. } => "to-recode",
            Self::UnusedGroups => "unused-groups",
        }
    }
}
