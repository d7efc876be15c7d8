//! A network that loses, delays and cuts, as its seed says.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Network, NetworkError, Peer};
use crate::BoxFuture;
use crate::clock::{Clock, timeout};
use crate::entropy::{Entropy, SeededEntropy};

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkFaults {
    /// Requests lost on the way, of 1000.
    pub requests_lost_per_mille: u64,
    /// Answers lost on the way back, of 1000: the request has taken effect.
    pub answers_lost_per_mille: u64,
    /// The longest delay of a request.
    pub delay_max: Duration,
}

/// Wraps another network and spoils it.
pub struct SimulatedNetwork<N> {
    inner: N,
    clock: Arc<dyn Clock>,
    entropy: SeededEntropy,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: NetworkFaults,
    cut: HashSet<Peer>,
}

impl<N> SimulatedNetwork<N> {
    /// Spoils `inner`; without faults until [`SimulatedNetwork::set_faults`].
    pub fn new(inner: N, clock: Arc<dyn Clock>, seed: u64) -> Self {
        let entropy = SeededEntropy::new(seed);
        Self { inner, clock, entropy, state: Mutex::default() }
    }

    /// The network below.
    pub fn inner(&self) -> &N {
        &self.inner
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: NetworkFaults) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).faults = faults;
    }

    /// Cuts a peer off: requests to it vanish until [`SimulatedNetwork::heal`].
    pub fn cut(&self, peer: Peer) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).cut.insert(peer);
    }

    /// Ends a cut.
    pub fn heal(&self, peer: Peer) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).cut.remove(&peer);
    }

    fn is_cut(&self, peer: Peer) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).cut.contains(&peer)
    }

    fn faults(&self) -> NetworkFaults {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).faults
    }
}

impl<Q, R, N> Network<Q, R> for SimulatedNetwork<N>
where
    Q: Send + 'static,
    R: Send + 'static,
    N: Network<Q, R>,
{
    fn call(
        &self,
        peer: Peer,
        request: Q,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<R, NetworkError>> {
        Box::pin(async move {
            let faults = self.faults();
            let travel = async {
                let delay = self.entropy.below(faults.delay_max.as_nanos() as u64 + 1);
                if delay > 0 {
                    self.clock.sleep(Duration::from_nanos(delay)).await;
                }
                if self.is_cut(peer) || self.entropy.below(1000) < faults.requests_lost_per_mille {
                    std::future::pending::<()>().await;
                }
                let answer = self.inner.call(peer, request, deadline).await;
                if self.is_cut(peer) || self.entropy.below(1000) < faults.answers_lost_per_mille {
                    std::future::pending::<()>().await;
                }
                answer
            };
            timeout(&*self.clock, deadline, travel)
                .await
                .unwrap_or(Err(NetworkError::TimedOut(peer)))
        })
    }
}
