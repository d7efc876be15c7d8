//! The network of one service, over connections to other processes.

use std::sync::Arc;
use std::time::Duration;

use model::ids::NodeId;
use model::rpc::{Message, Request};

use super::client::RpcClient;
use super::error::RpcError;
use crate::BoxFuture;
use crate::network::{InProcess, Network, NetworkError, Peer};

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host and port.
    pub address: String,
    /// The node that must be there, where it is known.
    pub node: Option<NodeId>,
    /// Which of the service's there.
    pub target: u64,
}

/// Knows where peers are.
pub trait Routes: Send + Sync + 'static {
    /// Where a peer is now; none when it isn't known.
    fn route(&self, peer: Peer) -> Option<Route>;
}

/// Sends requests to peers wherever they are: in this process without being serialised, elsewhere
/// over connections.
pub struct RpcNetwork<Q, R> {
    client: Arc<RpcClient>,
    routes: Arc<dyn Routes>,
    local: Option<Arc<InProcess<Q, R>>>,
}

impl<Q, R> RpcNetwork<Q, R> {
    /// A network whose peers are those registered in `local`, and those that `routes` knows.
    pub fn new(
        client: Arc<RpcClient>,
        routes: Arc<dyn Routes>,
        local: Option<Arc<InProcess<Q, R>>>,
    ) -> Self {
        Self { client, routes, local }
    }
}

impl<Q: Request, R: Message> Network<Q, R> for RpcNetwork<Q, R> {
    fn call(
        &self,
        peer: Peer,
        request: Q,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<R, NetworkError>> {
        if let Some(local) = self.local.as_ref().filter(|local| local.has(peer)) {
            return local.call(peer, request, deadline);
        }
        Box::pin(async move {
            let route = self.routes.route(peer).ok_or(NetworkError::Unreachable(peer))?;
            self.client.call(&route, request, deadline).await.map_err(|error| {
                // What has to do with the line was told where it happened, or is the callers' to tell.
                if !matches!(error, RpcError::Unreachable { .. } | RpcError::TimedOut { .. }) {
                    self.client.complain(&route, &error);
                }
                if error.is_before_handler() {
                    NetworkError::Unreachable(peer)
                } else {
                    NetworkError::TimedOut(peer)
                }
            })
        })
    }
}
