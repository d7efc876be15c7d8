//! The shard protocol as frames.

use super::{from_frame, rights, to_frame};
use crate::node::Roles;
use crate::rpc::{Frame, Message, MessageError, Request, Service};
use crate::shard::{ShardRequest, ShardResponse};

impl Message for ShardRequest {
    fn encode(&self) -> Frame {
        to_frame(self)
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        from_frame(frame)
    }
}

impl Request for ShardRequest {
    const SERVICE: Service = Service::Shards;

    fn is_allowed(&self, sender: Roles) -> bool {
        sender.intersects(rights::shard_askers(self))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::Sync { .. } => "sync",
            Self::Read { .. } => "read",
            Self::Delete { .. } => "delete",
            Self::Inventory { .. } => "inventory",
            Self::Verify { .. } => "verify",
            Self::Damaged { .. } => "damaged",
            Self::Scrub { .. } => "scrub",
            Self::Status => "status",
            Self::Groups { .. } => "groups",
        }
    }
}

impl Message for ShardResponse {
    fn encode(&self) -> Frame {
        to_frame(self)
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        from_frame(frame)
    }
}
