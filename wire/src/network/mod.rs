//! The door to other processes: typed requests and answers between peers.
//!
//! The messages are the types of `model`; how they travel is the implementation's concern. In one
//! process nothing is serialised.

use std::time::Duration;

use crate::BoxFuture;

mod in_process;
mod simulated;

pub use in_process::InProcess;
pub use simulated::{NetworkFaults, SimulatedNetwork};

/// The address of a peer within one network: a node's or replica's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Answers requests.
pub trait Service<Q, R>: Send + Sync + 'static {
    /// Carries out one request. The future may be dropped half-way: then the request may or may
    /// not have taken effect.
    fn serve(&self, request: Q) -> BoxFuture<'_, R>;
}

/// Sends requests to peers.
pub trait Network<Q, R>: Send + Sync + 'static {
    /// Sends one request and waits for the answer, for at most `deadline`. After
    /// [`NetworkError::TimedOut`] it is unknown whether the request took effect.
    fn call(
        &self,
        peer: Peer,
        request: Q,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<R, NetworkError>>;
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The request did not arrive.
    #[error("peer {0} is unreachable")]
    Unreachable(Peer),
    /// No answer came in time; the request may have taken effect.
    #[error("peer {0} did not answer in time")]
    TimedOut(Peer),
}
