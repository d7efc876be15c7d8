//! The membership protocol as frames.

use super::{from_frame, rights, to_frame};
use crate::membership::{MembershipRequest, MembershipResponse};
use crate::node::Roles;
use crate::rpc::{Frame, Message, MessageError, Request, Service};

impl Message for MembershipRequest {
    fn encode(&self) -> Frame {
        to_frame(self)
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        from_frame(frame)
    }
}

impl Request for MembershipRequest {
    const SERVICE: Service = Service::Membership;

    fn is_allowed(&self, sender: Roles) -> bool {
        match rights::membership_askers(self) {
            rights::Askers::Anyone => true,
            rights::Askers::With(roles) => sender.intersects(roles),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Renew { .. } => "renew",
            Self::Register { .. } => "register",
        }
    }
}

impl Message for MembershipResponse {
    fn encode(&self) -> Frame {
        to_frame(self)
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        from_frame(frame)
    }
}
