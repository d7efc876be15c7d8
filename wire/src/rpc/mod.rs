//! Requests and answers between processes: our own frames over TLS 1.3 over TCP.
//!
//! In go typed requests ([`model::rpc::Request`]) with a deadline, out come typed answers; bulk
//! bytes are attachments that are neither encoded nor copied on the way. [`RpcServer`] answers with
//! [`Services`], [`RpcClient`] asks, [`RpcNetwork`] is the client as a [`crate::network::Network`].
//! FORMAT.md has the bytes.
//!
//! What always holds:
//!
//! - Nobody is answered who didn't prove who it is; a peer without a certificate may ask only what
//!   [`model::rpc::Request::is_allowed`] allows to [`model::node::Roles::NONE`].
//! - Nobody is answered who is known to have been removed from the cluster ([`Admitted`]), whatever
//!   its certificate says; only the membership service tells it so. A connection that it has is cut.
//! - *Unreachable* means that surely no handler saw the request: the last of its bytes was never
//!   given to the connection, or the server said that it didn't begin. Everything else is *timed
//!   out*, and the request may have taken effect, now or later.
//! - Nothing is allocated for a length that was only promised and is over its limit
//!   ([`limits`](self::ServerLimits)), and a peer that sends too much isn't read from.
//! - Raft, metadata and shards have connections of their own: none waits for another. On one
//!   connection large frames travel in pieces, between which small ones pass.
//!
//! A handler is dropped half-way when the request's deadline passes, its caller gives up, or the
//! connection ends; what it began may still take effect.
//!
//! Differences from the first sketch of this interface, all small: [`RpcServer::start`] and
//! [`RpcClient::new`] give a `Result` (setting up TLS can fail); a request that was only partly
//! given to a connection that then broke is *unreachable*, since no handler can have seen it.

mod anonymous;
mod client;
mod error;
mod frame;
mod hello;
mod intake;
mod limits;
mod log_limit;
mod network;
mod outbox;
mod server;
mod services;
mod stream;
mod telemetry;

use std::sync::Arc;

pub use anonymous::call_anonymous;
pub use client::RpcClient;
pub use error::{Refusal, RpcError};
pub use frame::FrameError;
pub use intake::{Incoming, Intake, IntakeLimits};
pub use limits::{ClientOptions, ServerLimits};
pub use network::{Route, Routes, RpcNetwork};
pub use server::RpcServer;
pub use services::{Admitted, Caller, CallerService, Services, WithoutCaller};

use crate::tls::{Credentials, Identity};

/// How a process proves who it is, and has others prove it.
#[derive(Clone, Debug)]
pub enum Security {
    /// By certificates.
    Tls(Arc<Credentials>),
    /// Not at all: everybody is believed, and everything can be read and changed on the way. For
    /// tests only; a warning is logged that says so.
    Plain(Identity),
}

impl Security {
    /// Who this process is.
    pub fn identity(&self) -> Identity {
        match self {
            Self::Tls(credentials) => credentials.identity(),
            Self::Plain(identity) => identity.clone(),
        }
    }

    /// Says so where it isn't secure.
    fn warn(&self, side: &str) {
        if let Self::Plain(identity) = self {
            tracing::warn!(
                %identity,
                side,
                "internal traffic is neither encrypted nor authenticated: this mode is for tests only"
            );
        }
    }
}

#[cfg(test)]
mod tests;
