//! Answers requests: takes connections in, and ends them.
//!
//! In go a listener and services; what comes out is answers. Every task is owned: connections by
//! the accepting task, requests by their connection. [`RpcServer::stop`] ends all of them in order,
//! dropping the server ends them at once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::ids::NodeId;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::limits::{ACCEPT_PAUSE, ServerLimits};
use super::log_limit::LogLimit;
use super::services::{Caller, Services};
use super::stream::{self, MeetError, Met};
use super::{Security, telemetry};
use crate::clock::{Clock, timeout};
use crate::tls::{Identity, TlsError, server_config};

mod budget;
mod connection;
mod requests;

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It answers.
    Open,
    /// It answers what it was asked, and takes nothing more.
    Stopping,
    /// It drops everything.
    Ended,
}

/// What all connections of a server share.
struct Shared {
    security: Security,
    tls: Option<Arc<ServerConfig>>,
    services: Arc<Services>,
    limits: ServerLimits,
    clock: Arc<dyn Clock>,
    log: LogLimit,
    counts: Mutex<HashMap<CountedBy, usize>>,
}

/// What connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CountedBy {
    /// From this address, and nobody knows whose.
    Handshake(IpAddr),
    /// From this address, without a certificate, or with that of a node that was removed.
    Stranger(IpAddr),
    /// Of this node.
    Peer(NodeId),
}

/// Answers requests over the network.
pub struct RpcServer {
    phase: watch::Sender<Phase>,
    accepting: JoinHandle<()>,
    address: Option<SocketAddr>,
    clock: Arc<dyn Clock>,
}

impl RpcServer {
    /// Answers whoever connects to `listener` with `services`. Must be called within a runtime.
    pub fn start(
        listener: TcpListener,
        security: Security,
        services: Arc<Services>,
        limits: ServerLimits,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        security.warn("server");
        let tls = match &security {
            Security::Tls(credentials) => Some(server_config(credentials, Arc::clone(&clock))?),
            Security::Plain(_) => None,
        };
        let (log, counts) = (LogLimit::default(), Mutex::default());
        let time = Arc::clone(&clock);
        let shared = Arc::new(Shared { security, tls, services, limits, clock, log, counts });
        let (phase, watched) = watch::channel(Phase::Open);
        let address = listener.local_addr().ok();
        let accepting = tokio::spawn(accept(listener, shared, watched));
        Ok(Self { phase, accepting, address, clock: time })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Takes no new connection and no new request, tells the clients so, and ends when everything
    /// that was asked is answered; after `grace` it ends in any case, and drops what isn't.
    pub async fn stop(mut self, grace: Duration) {
        // Without receivers there is nothing left to be stopped.
        let _ = self.phase.send(Phase::Stopping);
        let clock = Arc::clone(&self.clock);
        let ended = timeout(&*clock, grace, &mut self.accepting).await;
        if ended.is_err() {
            let _ = self.phase.send(Phase::Ended);
            let _ = (&mut self.accepting).await;
        }
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        let _ = self.phase.send(Phase::Ended);
    }
}

/// Takes connections in until the server is stopped, then waits for those that are there.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Open) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if connections.len() >= shared.limits.connections_max => {
                telemetry::refused("connections");
                if shared.log.allows("", shared.clock.monotonic()) {
                    tracing::warn!(open = connections.len(), "there are too many connections");
                }
            }
            Ok((stream, address)) => {
                let (shared, phase) = (Arc::clone(&shared), phase.clone());
                connections.spawn(async move { shared.take_in(stream, address, phase).await });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                shared.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Shared {
    /// Finds out who connects, and answers them.
    async fn take_in(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        mut phase: watch::Receiver<Phase>,
    ) {
        let ip = address.ip();
        let limit = self.limits.handshakes_per_address_max;
        let Some(handshake) = self.count(CountedBy::Handshake(ip), limit) else {
            return telemetry::refused("handshakes");
        };
        let met = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Open) => return,
            met = self.meet(stream, ip) => met,
        };
        drop(handshake);
        let (met, _counted) = match met {
            Ok(met) => met,
            Err(error) => {
                telemetry::refused(error.as_str());
                if self.log.allows(&ip.to_string(), self.clock.monotonic()) {
                    tracing::warn!(address = %ip, %error, "a connection was refused");
                }
                return;
            }
        };
        let caller = Caller { identity: met.peer.clone(), address };
        connection::serve(&self, met, caller, phase).await;
    }

    async fn meet(
        self: &Arc<Self>,
        stream: TcpStream,
        ip: IpAddr,
    ) -> Result<(Met, Counted), MeetError> {
        let (own, limits) = (self.security.identity(), &self.limits);
        let admit = |peer: Option<&Identity>| {
            let is_removed = self.services.is_removed(peer);
            if is_removed && !self.services.has_membership() {
                return Err(MeetError::Removed);
            }
            let (by, limit) = match peer.filter(|_| !is_removed) {
                Some(peer) => (CountedBy::Peer(peer.node), limits.connections_per_peer_max),
                None => (CountedBy::Stranger(ip), limits.anonymous_connections_per_address_max),
            };
            self.count(by, limit).ok_or(MeetError::TooMany)
        };
        let meeting = stream::accept(stream, self.tls.clone(), own, admit);
        timeout(&*self.clock, limits.handshake_timeout, meeting)
            .await
            .unwrap_or(Err(MeetError::TooLong))
    }

    /// Counts one more, until what is given is dropped; none if there are enough.
    fn count(self: &Arc<Self>, by: CountedBy, limit: usize) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(by).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Counted { shared: Arc::clone(self), by })
    }
}

/// Counts as one.
struct Counted {
    shared: Arc<Shared>,
    by: CountedBy,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.by) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.by);
            }
        }
    }
}
