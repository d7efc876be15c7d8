//! How a process becomes a node of a cluster, and stays one.
//!
//! Asked of any metadata node: it answers itself, by way of the metadata leader. `Join` is the only
//! request that a peer without a certificate may send.

use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::cluster_map::ClusterMap;
use crate::ids::{ClusterId, NodeId, TokenId};
use crate::node::{Node, NodeRegistration, ReplicaPlace};

/// A request to a metadata node.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum MembershipRequest {
    /// Let me in; or, from a node whose certificate ended while it was away: let me in again.
    #[n(0)]
    Join {
        /// The token's public half.
        #[n(0)]
        token: TokenId,
        /// The token's secret half.
        #[n(1)]
        secret: ByteVec,
        /// Who asks.
        #[n(2)]
        node: NodeRegistration,
        /// A PKCS #10 request in DER, which proves that the sender has the private key.
        #[n(3)]
        certificate_request: ByteVec,
        /// The certificate that the sender had, for the same key, even if its time is over: proves
        /// that it is the node which it says to be. None from a new node.
        #[n(4)]
        certificate: Option<ByteVec>,
    },
    /// Give me a new certificate for what I am already.
    #[n(1)]
    Renew {
        /// As in `Join`.
        #[n(0)]
        certificate_request: ByteVec,
    },
    /// I am here, at this address, with this release; the uuid is the sender's own.
    #[n(2)]
    Register {
        /// What is true now.
        #[n(0)]
        node: NodeRegistration,
    },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MembershipResponse {
    /// To `Join`.
    #[n(0)]
    Joined(#[n(0)] Box<Joined>),
    /// To `Renew`: an X.509 certificate in DER.
    #[n(1)]
    Renewed(#[n(0)] ByteVec),
    /// To `Register`: who else is there.
    #[n(2)]
    Registered(#[n(0)] Box<Members>),
    /// It can't be done.
    #[n(3)]
    Failed(#[n(0)] MembershipError),
}

impl fmt::Debug for MembershipRequest {
    /// Without the token's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { token, node, certificate, .. } => f
                .debug_struct("Join")
                .field("token", token)
                .field("node", node)
                .field("comes_back", &certificate.is_some())
                .finish_non_exhaustive(),
            Self::Renew { .. } => f.debug_struct("Renew").finish_non_exhaustive(),
            Self::Register { node } => f.debug_struct("Register").field("node", node).finish(),
        }
    }
}

/// What a new node gets.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Joined {
    /// The cluster.
    #[n(0)]
    pub cluster: ClusterId,
    /// Its number.
    #[n(1)]
    pub node: NodeId,
    /// Its certificate, X.509 in DER.
    #[n(2)]
    pub certificate: ByteVec,
    /// The authority's certificate, X.509 in DER.
    #[n(3)]
    pub authority: ByteVec,
    /// The cluster's secrets as its secrets file has them (TOML), for metadata nodes and gateways;
    /// the key that opens the authority's key is among them for metadata nodes only.
    #[n(4)]
    pub secrets: Option<String>,
    /// Who else is there.
    #[n(5)]
    pub members: Members,
}

impl fmt::Debug for Joined {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("has_secrets", &self.secrets.is_some())
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// The nodes, and where the metadata is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Members {
    /// The cluster map's epoch that this is of.
    #[n(0)]
    pub epoch: u64,
    /// All nodes.
    #[n(1)]
    pub nodes: Vec<Node>,
    /// All metadata replicas.
    #[n(2)]
    pub replicas: Vec<ReplicaPlace>,
    /// The highest node number that was ever given out by then; 0 where it isn't known.
    #[n(3)]
    #[cbor(default)]
    pub last_node: NodeId,
}

impl Members {
    /// Whether a node was surely removed: its number was given out, and it isn't there. Numbers are
    /// never given twice. One that is newer than these members, or that they can't tell, wasn't.
    pub fn is_removed(&self, node: NodeId) -> bool {
        (1..=self.last_node.0).contains(&node.0) && self.nodes.iter().all(|known| known.id != node)
    }
}

impl From<&ClusterMap> for Members {
    fn from(map: &ClusterMap) -> Self {
        Self {
            epoch: map.epoch,
            nodes: map.nodes.clone(),
            replicas: map.replicas.clone(),
            last_node: map.last_node,
        }
    }
}

/// Why a request of membership failed; each variant says what can be done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum MembershipError {
    /// Make a new token: this one isn't known, has ended, is used up, or doesn't bring in these roles.
    #[error(
        "the join token is not valid: it is unknown, has expired, is used up, or is for other roles"
    )]
    #[n(0)]
    TokenInvalid,
    /// The request isn't one that a proper node makes.
    #[error("the request is not valid: {0}")]
    #[n(1)]
    Invalid(#[n(0)] String),
    /// The metadata has no quorum, or is busy: try again.
    #[error("the metadata service is not available; try again")]
    #[n(2)]
    Unavailable,
    /// The sender was removed from the cluster: join again, with a new token.
    #[error("this node was removed from the cluster")]
    #[n(3)]
    Removed,
    /// There is no certificate authority: the cluster was never opened to other hosts.
    #[error("this cluster has no certificate authority")]
    #[n(4)]
    NoAuthority,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeUuid;
    use crate::node::Roles;

    fn registration() -> NodeRegistration {
        NodeRegistration {
            uuid: NodeUuid([1; 16]),
            name: "n".to_owned(),
            address: "n:1".to_owned(),
            roles: Roles::GATEWAY,
            rack: String::new(),
            zone: String::new(),
            level: 1,
        }
    }

    #[test]
    fn only_numbers_that_were_given_out_and_are_gone_are_removed() {
        let there = |id| Node::new(NodeId(id), registration());
        let members =
            Members { nodes: vec![there(1), there(3)], last_node: NodeId(4), ..Members::default() };
        let removed: Vec<u32> = (1..8).filter(|id| members.is_removed(NodeId(*id))).collect();
        assert_eq!(removed, [2, 4]);
        let unknown = Members { last_node: NodeId(0), ..members };
        assert!((0..8).all(|id| !unknown.is_removed(NodeId(id))), "nothing is known of any");
    }

    /// A canary among the secrets is in no text that these types make of themselves.
    #[test]
    fn secrets_are_not_shown() {
        const CANARY: &str = "canary-7f3a";
        let bytes = || ByteVec::from(CANARY.as_bytes().to_vec());
        let request = MembershipRequest::Join {
            token: TokenId([1; 16]),
            secret: bytes(),
            node: registration(),
            certificate_request: ByteVec::from(vec![0x30]),
            certificate: None,
        };
        let joined = Joined {
            cluster: ClusterId([1; 16]),
            node: NodeId(2),
            certificate: ByteVec::from(vec![1]),
            authority: ByteVec::from(vec![2]),
            secrets: Some(CANARY.to_owned()),
            members: Members::default(),
        };
        let response = MembershipResponse::Joined(Box::new(joined));
        let authority =
            crate::node::Authority { certificate: ByteVec::from(vec![1]), sealed_key: bytes() };
        let as_list = format!("{:?}", CANARY.as_bytes());
        let as_list = as_list.trim_matches(['[', ']']);
        let shown = [
            format!("{request:?}"),
            format!("{response:?}"),
            format!("{authority:?}"),
            format!("{:?}", crate::command::Command::SetAuthority(authority.clone())),
        ];
        for text in shown {
            let lines = text.replace('\n', " ");
            assert!(!lines.contains(CANARY) && !lines.contains(as_list), "{text}");
            assert!(!lines.contains(&hex_of(CANARY)), "{text}");
        }
    }

    fn hex_of(text: &str) -> String {
        let digits = text.bytes().map(|byte| format!("{byte:02x}"));
        digits.collect::<Vec<_>>().concat()
    }
}
