//! The connections to one peer for one kind of traffic: made when wanted, chosen by load, and not
//! tried again too soon.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::ids::NodeId;
use model::node::Roles;
use model::rpc::Service;
use tokio::sync::watch;

use super::Shared;
use super::connection::{Connection, Ended};
use crate::clock::timeout;
use crate::entropy::Entropy;
use crate::rpc::limits::{BACKOFF_MIN, SPREAD_BYTES};
use crate::rpc::stream::{self, MeetError, Met};

/// Whom a connection must lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub address: String,
    /// The node, where it is known.
    pub node: Option<NodeId>,
    /// What is asked there: services don't share connections, so that none waits for another.
    pub service: Service,
}

/// The connections to a destination.
pub(super) struct Pool {
    pub destination: Destination,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    connecting: Option<watch::Receiver<Attempt>>,
    failures: u32,
    retry_at: Duration,
    why: String,
}

/// How an attempt to connect goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    UnderWay,
    Over,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Meet(#[from] MeetError),
    #[error("it is node {found}, not node {wanted}")]
    OtherNode { found: NodeId, wanted: NodeId },
    #[error("it doesn't say which node it is")]
    NoIdentity,
    #[error("its roles, {0}, don't let it answer this")]
    OtherRoles(Roles),
}

impl Pool {
    pub fn new(destination: Destination) -> Arc<Self> {
        Arc::new(Self { destination, state: Mutex::default() })
    }

    /// Whether it is of no use.
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.connections.is_empty() && state.connecting.is_none()
    }

    /// The least busy connection, a new one if there is none; or why there can't be one.
    pub async fn connection(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Connection>, String> {
        let mut has_waited = false;
        loop {
            let mut attempt = {
                let mut state = self.state();
                state.connections.retain(|connection| connection.is_open());
                let best = state.connections.iter().min_by_key(|connection| connection.load());
                if let Some(best) = best.cloned() {
                    let most = match self.destination.service {
                        Service::Shards => shared.options.shard_connections_max,
                        Service::Metadata | Service::Raft | Service::Membership => 1,
                    };
                    if best.load() >= SPREAD_BYTES
                        && state.connections.len() < most
                        && state.connecting.is_none()
                        && shared.clock.monotonic() >= state.retry_at
                    {
                        self.begin(shared, &mut state);
                    }
                    return Ok(best);
                }
                match &state.connecting {
                    Some(attempt) => attempt.clone(),
                    None if has_waited || shared.clock.monotonic() < state.retry_at => {
                        return Err(state.why.clone());
                    }
                    None => self.begin(shared, &mut state),
                }
            };
            // The sender says that the attempt is over; or it is gone, with the runtime or by a
            // panic, and the next may begin another.
            if attempt.wait_for(|attempt| *attempt == Attempt::Over).await.is_err() {
                let mut state = self.state();
                if state.connecting.as_ref().is_some_and(|known| known.same_channel(&attempt)) {
                    state.connecting = None;
                }
            }
            has_waited = true;
        }
    }

    /// Begins to connect. It goes on when nobody waits for it any more: the next will.
    fn begin(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        state: &mut State,
    ) -> watch::Receiver<Attempt> {
        let (over, attempt) = watch::channel(Attempt::UnderWay);
        state.connecting = Some(attempt.clone());
        "the connection ended at once".clone_into(&mut state.why);
        let (pool, shared, ended) = (Arc::clone(self), Arc::clone(shared), shared.ended());
        tokio::spawn(pool.connect(shared, ended, over));
        attempt
    }

    /// Connects, and then carries the connection until it ends or the client does.
    async fn connect(
        self: Arc<Self>,
        shared: Arc<Shared>,
        mut ended: Ended,
        over: watch::Sender<Attempt>,
    ) {
        let met = tokio::select! {
            biased;
            _ = ended.changed() => return,
            met = self.meet(&shared) => met,
        };
        let met = match met {
            Ok(met) => met,
            Err(error) => {
                self.failed(&shared, &error);
                let _ = over.send(Attempt::Over);
                return;
            }
        };
        let connection = Arc::new(Connection::default());
        {
            let mut state = self.state();
            state.connecting = None;
            state.failures = 0;
            state.connections.push(Arc::clone(&connection));
        }
        let _ = over.send(Attempt::Over);
        let (clock, idle) = (Arc::clone(&shared.clock), shared.options.idle);
        // The client must be able to end while its connections are there.
        drop(shared);
        connection.run(met, &*clock, idle, ended).await;
        self.state().connections.retain(|other| !Arc::ptr_eq(other, &connection));
    }

    async fn meet(&self, shared: &Shared) -> Result<Met, ConnectError> {
        let own = Some(shared.security.identity());
        let (clock, limit) = (&*shared.clock, shared.options.connect_timeout);
        let meeting = async {
            let addresses = shared.names.find(&self.destination.address, clock, limit / 2).await?;
            stream::connect(&*addresses, shared.tls.clone(), own).await
        };
        let met = timeout(clock, limit, meeting).await.unwrap_or(Err(MeetError::TooLong))?;
        check(&met, self.destination.node, self.destination.service)?;
        Ok(met)
    }

    fn failed(&self, shared: &Shared, error: &ConnectError) {
        let address = &self.destination.address;
        let now = shared.clock.monotonic();
        let mut state = self.state();
        state.connecting = None;
        let pause = BACKOFF_MIN.saturating_mul(1 << state.failures.min(16));
        let pause = pause.min(shared.options.backoff_max);
        // Not all at once: up to a quarter earlier.
        let jitter = shared.entropy.below(pause.as_nanos() as u64 / 4);
        state.retry_at = now + pause.saturating_sub(Duration::from_nanos(jitter));
        state.failures += 1;
        state.why = error.to_string();
        drop(state);
        if shared.log.allows(address, now) {
            tracing::warn!(address, service = self.destination.service.as_str(), %error,
                "a peer can't be reached");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server is the one that is wanted, and may answer what it will be asked.
fn check(met: &Met, wanted: Option<NodeId>, service: Service) -> Result<(), ConnectError> {
    let Some(peer) = &met.peer else { return Err(ConnectError::NoIdentity) };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != peer.node) {
        return Err(ConnectError::OtherNode { found: peer.node, wanted });
    }
    if !peer.roles.contains(role_of(service)) {
        return Err(ConnectError::OtherRoles(peer.roles));
    }
    Ok(())
}

/// The role whose nodes have a service.
pub(in crate::rpc) fn role_of(service: Service) -> Roles {
    match service {
        Service::Shards => Roles::STORAGE_NODE,
        Service::Metadata | Service::Raft | Service::Membership => Roles::METADATA,
    }
}
