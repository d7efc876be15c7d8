//! Peers in the same process: a request is handed over as it is.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{Network, NetworkError, Peer, Service};
use crate::BoxFuture;
use crate::clock::{Clock, timeout};

/// A network of services in this process.
pub struct InProcess<Q, R> {
    clock: Arc<dyn Clock>,
    services: RwLock<HashMap<Peer, Arc<dyn Service<Q, R>>>>,
}

impl<Q, R> InProcess<Q, R> {
    /// A network without peers.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, services: RwLock::new(HashMap::new()) }
    }

    /// Makes `service` answer for `peer`, in place of an earlier one.
    pub fn register(&self, peer: Peer, service: Arc<dyn Service<Q, R>>) {
        self.services.write().unwrap_or_else(PoisonError::into_inner).insert(peer, service);
    }

    /// Makes `peer` unreachable. Calls under way go on.
    pub fn remove(&self, peer: Peer) {
        self.services.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    /// Whether a service answers for `peer`.
    pub fn has(&self, peer: Peer) -> bool {
        self.service(peer).is_some()
    }

    fn service(&self, peer: Peer) -> Option<Arc<dyn Service<Q, R>>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }
}

impl<Q: Send + 'static, R: Send + 'static> Network<Q, R> for InProcess<Q, R> {
    fn call(
        &self,
        peer: Peer,
        request: Q,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<R, NetworkError>> {
        Box::pin(async move {
            let service = self.service(peer).ok_or(NetworkError::Unreachable(peer))?;
            timeout(&*self.clock, deadline, service.serve(request))
                .await
                .map_err(|_| NetworkError::TimedOut(peer))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    struct Echo;

    impl Service<u32, u32> for Echo {
        fn serve(&self, request: u32) -> BoxFuture<'_, u32> {
            Box::pin(async move {
                if request == 0 {
                    std::future::pending::<()>().await;
                }
                request
            })
        }
    }

    #[tokio::test]
    async fn answers_times_out_and_loses_peers() {
        let network = InProcess::new(Arc::new(SystemClock::new()));
        let peer = Peer(3);
        let call = |request| network.call(peer, request, Duration::from_millis(20));
        assert_eq!(call(1).await, Err(NetworkError::Unreachable(peer)));
        network.register(peer, Arc::new(Echo));
        assert_eq!(call(1).await, Ok(1));
        assert_eq!(call(0).await, Err(NetworkError::TimedOut(peer)));
        network.remove(peer);
        assert_eq!(call(1).await, Err(NetworkError::Unreachable(peer)));
    }
}
