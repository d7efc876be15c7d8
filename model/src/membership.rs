//! How a process becomes a node of a cluster, and stays one.
//!
//! Asked of any metadata node: it answers itself, by way of the metadata leader. `Join` is the only
//! request that a peer without a certificate may send.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::ids::{ClusterId, NodeId, TokenId};
use crate::node::{Node, NodeRegistration, ReplicaPlace};

/// A request to a metadata node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MembershipRequest {
    /// Let me in.
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

/// What a new node gets.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
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
    /// The cluster's secrets as its secrets file has them (TOML), for metadata nodes and gateways.
    #[n(4)]
    pub secrets: Option<String>,
    /// Who else is there.
    #[n(5)]
    pub members: Members,
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
