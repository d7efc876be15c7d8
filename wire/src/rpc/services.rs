//! What a server answers with: services, by number and target, whatever their types; and to whom.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use model::ids::NodeId;
use model::node::Roles;
use model::rpc::{Frame, Message, Request, Service};

use super::error::Refusal;
use crate::BoxFuture;
use crate::network;
use crate::tls::Identity;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node, as its certificate names it; none for a peer without one.
    pub identity: Option<Identity>,
    /// Where it is.
    pub address: SocketAddr,
}

impl Caller {
    /// What it may do.
    pub fn roles(&self) -> Roles {
        self.identity.as_ref().map_or(Roles::NONE, |identity| identity.roles)
    }
}

/// Answers requests, and looks at who asks.
pub trait CallerService<Q, R>: Send + Sync + 'static {
    /// Carries out one request, which [`Request::is_allowed`] allows to the caller. The future may
    /// be dropped half-way: then the request may or may not have taken effect.
    fn serve(&self, caller: Caller, request: Q) -> BoxFuture<'_, R>;
}

/// A service to which it is all the same who asks, as long as they are allowed to.
pub struct WithoutCaller<Q, R>(pub Arc<dyn network::Service<Q, R>>);

impl<Q: 'static, R: 'static> CallerService<Q, R> for WithoutCaller<Q, R> {
    fn serve(&self, _caller: Caller, request: Q) -> BoxFuture<'_, R> {
        self.0.serve(request)
    }
}

/// Knows who is in the cluster still. Certificates can't be called back: what a node that was removed
/// has is good until it ends.
pub trait Admitted: Send + Sync + 'static {
    /// Whether a node was surely removed. One of which nothing is known wasn't: it may be newer than
    /// what is known here. Asked for every request, so it must not wait.
    fn is_removed(&self, node: NodeId) -> bool;
}

/// The services of a process.
#[derive(Default)]
pub struct Services {
    answering: RwLock<HashMap<(u8, u64), Arc<dyn Answering>>>,
    /// None where nobody is ever removed.
    admitted: Option<Arc<dyn Admitted>>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answering = self.answering.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(answering.keys()).finish()
    }
}

impl Services {
    /// None yet, for all nodes with a certificate.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// None yet, for those that weren't removed. One that was may ask the membership service alone,
    /// as a stranger may: that decides for itself, and tells the node what became of it.
    pub fn among(admitted: Arc<dyn Admitted>) -> Arc<Self> {
        Arc::new(Self { answering: RwLock::default(), admitted: Some(admitted) })
    }

    /// Whether this node was removed from the cluster.
    pub(super) fn is_removed(&self, node: Option<&Identity>) -> bool {
        let (Some(admitted), Some(node)) = (&self.admitted, node) else { return false };
        admitted.is_removed(node.node)
    }

    /// Whether a node that was removed is answered at all.
    pub(super) fn has_membership(&self) -> bool {
        let answering = self.answering.read().unwrap_or_else(PoisonError::into_inner);
        answering.keys().any(|(service, _)| *service == Service::Membership as u8)
    }

    /// Makes `service` answer requests to `target` from now on, in place of an earlier one.
    pub fn add<Q: Request, R: Message>(&self, target: u64, service: Arc<dyn CallerService<Q, R>>) {
        let typed = Arc::new(Typed { service, types: PhantomData });
        let key = (Q::SERVICE as u8, target);
        self.answering.write().unwrap_or_else(PoisonError::into_inner).insert(key, typed);
    }

    /// Makes nobody answer requests to `target`. Requests under way go on.
    pub fn remove(&self, service: Service, target: u64) {
        let key = (service as u8, target);
        self.answering.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    pub(super) fn find(&self, service: u8, target: u64) -> Option<Arc<dyn Answering>> {
        let key = (service, target);
        self.answering.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

/// A service without its types.
pub(super) trait Answering: Send + Sync {
    /// Reads a request, and looks whether its sender may ask it.
    fn read(self: Arc<Self>, caller: Caller, frame: Frame) -> Result<Accepted, Refusal>;
}

/// A request that may be carried out.
pub(super) struct Accepted {
    /// What is asked.
    pub name: &'static str,
    /// Carries it out.
    pub work: BoxFuture<'static, Frame>,
}

struct Typed<Q, R> {
    service: Arc<dyn CallerService<Q, R>>,
    types: PhantomData<fn(Q) -> R>,
}

impl<Q: Request, R: Message> Answering for Typed<Q, R> {
    fn read(self: Arc<Self>, caller: Caller, frame: Frame) -> Result<Accepted, Refusal> {
        let request = Q::decode(frame).map_err(|error| {
            tracing::debug!(address = %caller.address, %error, "a request can't be read");
            Refusal::Unreadable
        })?;
        if !request.is_allowed(caller.roles()) {
            return Err(Refusal::NotAllowed);
        }
        let name = request.name();
        let work = Box::pin(async move { self.service.serve(caller, request).await.encode() });
        Ok(Accepted { name, work })
    }
}
