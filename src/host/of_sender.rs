//! The metadata as other nodes reach it: each of them speaks for itself.

use std::sync::Arc;

use model::query::{MetadataError, MetadataRequest, MetadataResponse};
use wire::BoxFuture;
use wire::network::Service;
use wire::rpc::{Caller, CallerService};

/// The metadata to other nodes: none of them is heard about another.
pub struct OfSender(pub Arc<dyn Service<MetadataRequest, MetadataResponse>>);

impl CallerService<MetadataRequest, MetadataResponse> for OfSender {
    fn serve(&self, caller: Caller, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
        let is_own = caller
            .identity
            .as_ref()
            .is_some_and(|sender| request.is_of_sender(sender.node, sender.roles));
        if is_own {
            return self.0.serve(request);
        }
        let sender = caller.identity.map(|sender| sender.node.0);
        tracing::debug!(address = %caller.address, sender, "a node spoke of another's disks");
        Box::pin(std::future::ready(MetadataResponse::Failed(MetadataError::Unavailable)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use model::command::{Command, CommandEnvelope, CommandId};
    use model::ids::{ClusterId, DiskUuid, NodeId};
    use model::node::Roles;
    use model::query::Heartbeat;
    use model::time::Timestamp;
    use wire::tls::Identity;

    use super::*;

    /// Counts what comes through.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Service<MetadataRequest, MetadataResponse> for Counting {
        fn serve(&self, _request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(MetadataResponse::HeartbeatTaken { epoch: 1 }))
        }
    }

    fn register(node: u32) -> CommandEnvelope {
        CommandEnvelope {
            id: CommandId::default(),
            acknowledged_below: 0,
            proposed: Timestamp(0),
            command: Command::RegisterDisk {
                uuid: DiskUuid([1; 16]),
                node: NodeId(node),
                rack: String::new(),
                zone: String::new(),
                weight: 1,
                path: String::new(),
            },
        }
    }

    fn heartbeat(node: u32) -> MetadataRequest {
        MetadataRequest::Heartbeat(Heartbeat { node: NodeId(node), disks: Vec::new() })
    }

    #[tokio::test]
    async fn a_storage_node_speaks_for_its_own_disks_only() {
        let behind = Arc::new(Counting::default());
        let service = OfSender(Arc::clone(&behind) as _);
        let asked = async |roles: Option<Roles>, request| {
            let cluster = ClusterId([1; 16]);
            let identity = roles.map(|roles| Identity { cluster, node: NodeId(3), roles });
            let caller = Caller { identity, address: SocketAddr::from(([127, 0, 0, 1], 1)) };
            let before = behind.0.load(Ordering::Relaxed);
            let response = service.serve(caller, request).await;
            let came = behind.0.load(Ordering::Relaxed) > before;
            let refused = matches!(response, MetadataResponse::Failed(MetadataError::Unavailable));
            assert_ne!(came, refused);
            came
        };
        let storage = Some(Roles::STORAGE_NODE);
        let both = Some(Roles::STORAGE_NODE.and(Roles::GATEWAY));
        for roles in [storage, both] {
            assert!(asked(roles, heartbeat(3)).await);
            assert!(!asked(roles, heartbeat(4)).await);
            assert!(asked(roles, MetadataRequest::Propose(vec![register(3)])).await);
            assert!(!asked(roles, MetadataRequest::Propose(vec![register(4)])).await);
            // One of another among its own.
            let mixed = vec![register(3), register(4), register(3)];
            assert!(!asked(roles, MetadataRequest::Propose(mixed)).await);
        }
        // Replicas hand on what others said; who is nobody says nothing.
        assert!(asked(Some(Roles::METADATA), heartbeat(4)).await);
        assert!(!asked(None, heartbeat(3)).await);
    }
}
