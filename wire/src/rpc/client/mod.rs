//! Asks others: keeps connections to all peers, for all services of a process.
//!
//! In go an address, who should be there, and a request with a deadline; out comes the answer, or
//! whether the request may have taken effect. Connections are made when they are first wanted and
//! kept while they are used. Dropping the client ends them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::rpc::{Frame, Message, Request, Service};
use rustls::ClientConfig;
use tokio::sync::watch;

use self::connection::{Answer, Ended, Lost};
use self::names::Names;
use self::pool::{Destination, Pool};
use super::error::{Refusal, RpcError};
use super::frame::{FrameHead, is_sendable};
use super::limits::{ADDRESSES_MAX, ClientOptions};
use super::log_limit::LogLimit;
use super::network::Route;
use super::{Security, telemetry};
use crate::clock::Clock;
use crate::entropy::SystemEntropy;
use crate::tls::{TlsError, client_config};

pub(super) mod connection;
mod names;
pub(super) mod pool;

/// How often a request is given to a connection: again only where it surely wasn't sent.
const ATTEMPTS: u32 = 2;

/// Asks other processes.
pub struct RpcClient {
    shared: Arc<Shared>,
    /// Dropped with the client, which is how its connections learn of that.
    _ends: watch::Sender<()>,
    pools: Mutex<HashMap<String, Vec<Arc<Pool>>>>,
}

/// What a client's connections share.
struct Shared {
    security: Security,
    tls: Option<Arc<ClientConfig>>,
    options: ClientOptions,
    clock: Arc<dyn Clock>,
    entropy: SystemEntropy,
    log: LogLimit,
    names: Arc<Names>,
    ended: Ended,
}

impl Shared {
    fn ended(&self) -> Ended {
        self.ended.clone()
    }
}

impl std::fmt::Debug for RpcClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcClient").field("security", &self.shared.security).finish_non_exhaustive()
    }
}

impl RpcClient {
    /// A client without connections.
    pub fn new(
        security: Security,
        options: ClientOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, TlsError> {
        security.warn("client");
        let tls = match &security {
            Security::Tls(credentials) => Some(client_config(credentials, Arc::clone(&clock))?),
            Security::Plain(_) => None,
        };
        let (ends, ended) = watch::channel(());
        let (entropy, log) = (SystemEntropy::new(), LogLimit::default());
        let names = Names::of_the_system();
        let shared = Shared { security, tls, options, clock, entropy, log, names, ended };
        Ok(Arc::new(Self { shared: Arc::new(shared), _ends: ends, pools: Mutex::default() }))
    }

    /// Asks what is at `route`, and waits for the answer for at most `deadline`.
    /// [`RpcError::is_before_handler`] says of an error whether the request may have taken effect.
    pub async fn call<Q: Request, R: Message>(
        &self,
        route: &Route,
        request: Q,
        deadline: Duration,
    ) -> Result<R, RpcError> {
        let clock = &self.shared.clock;
        let (service, name, began) = (Q::SERVICE, request.name(), clock.monotonic());
        let answered = match request.encode() {
            frame if is_sendable(&frame) => self.exchange(route, service, frame, deadline).await,
            _ => Err(RpcError::TooLarge),
        };
        let answered = answered.and_then(|frame| {
            let address = || route.address.clone();
            R::decode(frame).map_err(|why| RpcError::Answer { address: address(), why })
        });
        let outcome = answered.as_ref().map_or_else(RpcError::as_str, |_| "ok");
        let took = clock.monotonic().saturating_sub(began);
        telemetry::called(service.as_str(), name, outcome, took);
        answered
    }

    /// Sends a frame, and waits for the one that answers it.
    async fn exchange(
        &self,
        route: &Route,
        service: Service,
        frame: Frame,
        deadline: Duration,
    ) -> Result<Frame, RpcError> {
        let clock = &self.shared.clock;
        let ends = clock.monotonic() + deadline;
        let mut time_is_up = clock.sleep(deadline);
        let pool = self.pool(route, service);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let connection = tokio::select! {
                biased;
                connection = pool.connection(&self.shared) => connection,
                () = &mut time_is_up => Err("there was no connection in time".to_owned()),
            };
            let address = || route.address.clone();
            let connection =
                connection.map_err(|why| RpcError::Unreachable { address: address(), why })?;
            let left = ends.saturating_sub(clock.monotonic());
            let deadline_ms = u32::try_from(left.as_millis() + 1).unwrap_or(u32::MAX);
            let head =
                FrameHead::Request { service: service as u8, target: route.target, deadline_ms };
            let answered = tokio::select! {
                biased;
                answered = connection.call(head, frame.clone()) => answered,
                () = &mut time_is_up => {
                    return Err(RpcError::TimedOut { address: address(), why: "the deadline passed" });
                }
            };
            let error = match answered {
                Ok(Answer { outcome: 0, frame }) => return Ok(frame),
                Ok(Answer { outcome, .. }) => {
                    RpcError::Refused { address: address(), why: Refusal::from_number(outcome) }
                }
                Err(Lost::Unsent) => {
                    let why = "the connection ended before the request was sent".to_owned();
                    RpcError::Unreachable { address: address(), why }
                }
                Err(Lost::Unanswered) => {
                    RpcError::TimedOut { address: address(), why: "the connection ended" }
                }
            };
            let is_of_connection = matches!(
                error,
                RpcError::Unreachable { .. } | RpcError::Refused { why: Refusal::GoingAway, .. }
            );
            if !is_of_connection || attempts >= ATTEMPTS {
                return Err(error);
            }
        }
    }

    fn pool(&self, route: &Route, service: Service) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |pool: &&Arc<Pool>| {
            pool.destination.node == route.node && pool.destination.service == service
        };
        if let Some(pool) = pools.get(&route.address).and_then(|pools| pools.iter().find(is_it)) {
            return Arc::clone(pool);
        }
        if pools.len() >= ADDRESSES_MAX {
            pools.retain(|_, pools| pools.iter().any(|pool| !pool.is_empty()));
        }
        let (address, node) = (route.address.clone(), route.node);
        let pool = Pool::new(Destination { address, node, service });
        pools.entry(route.address.clone()).or_default().push(Arc::clone(&pool));
        pool
    }

    /// Complains about a peer, but not all the time.
    pub(super) fn complain(&self, route: &Route, error: &RpcError) {
        if self.shared.log.allows(&route.address, self.shared.clock.monotonic()) {
            tracing::warn!(address = route.address, %error, "a request got no answer");
        }
    }
}
