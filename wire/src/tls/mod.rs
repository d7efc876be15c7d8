//! Who is who between the processes of a cluster: certificates and their keys.
//!
//! A cluster has a certificate authority of its own ([`Authority`]). Every node makes a key
//! ([`NodeKey`]), and gets a certificate for it that names its cluster, its number and its roles
//! ([`Identity`]) as a URI; names of hosts and addresses prove nothing here. What a node proves
//! itself with, and whom it believes, are its [`Credentials`].
//!
//! What always holds: TLS 1.3 only, no resumption and no early data, so that every connection is
//! proven afresh and nothing can be replayed; a certificate is believed only if the cluster's own
//! authority issued it, for this cluster, and its time has come and isn't over (give or take
//! [`CLOCK_SKEW`]). There is no revocation list: certificates are short-lived, a node that was
//! removed gets no other, and servers are told who was ([`crate::rpc::Admitted`]).

use std::time::Duration;

mod authority;
mod config;
mod credentials;
mod identity;
mod key;
mod verify;

pub use authority::Authority;
pub(crate) use config::{anonymous_config, client_config, server_config, server_name};
pub use credentials::Credentials;
pub use identity::Identity;
pub(crate) use identity::{ends, identity_of};
pub use key::NodeKey;

/// How far the clocks of two nodes may be apart.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Why a certificate, key or request is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// It isn't X.509, PKCS #8 or PKCS #10 in DER of a kind that is known here.
    #[error("{what} can't be read: {why}")]
    Unreadable {
        /// What can't be read.
        what: &'static str,
        /// What the reader said.
        why: String,
    },
    /// The certificate says nothing, or nothing of sense, about a node.
    #[error("the certificate names no node of a cluster")]
    NoIdentity,
    /// Another authority issued the certificate.
    #[error("the certificate wasn't issued by this cluster's authority")]
    OtherAuthority,
    /// The certificate is of another cluster, node or key than what it is to go with.
    #[error("the certificate is for {0}")]
    OtherIdentity(String),
    /// The private key isn't that of the certificate.
    #[error("the private key isn't that of the certificate")]
    OtherKey,
    /// The request isn't signed by the key in it.
    #[error("the certificate request isn't signed by its own key")]
    BadSignature,
    /// A node can't be named by this.
    #[error("{0:?} is no host name or address")]
    Address(String),
    /// The certificate couldn't be made.
    #[error("the certificate can't be made: {0}")]
    Unmakeable(String),
}

impl TlsError {
    /// `what` isn't what it should be.
    fn unreadable(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Unreadable { what, why: why.to_string() }
    }
}
