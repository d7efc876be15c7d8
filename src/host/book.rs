//! Who is where: the members of the cluster as this process knows them, shared by all that call
//! others.

use std::sync::{Arc, PoisonError, RwLock};

use metadata::client::ReplicaBook;
use model::ids::{NodeId, ReplicaId};
use model::membership::Members;
use model::node::{Node, Roles};
use wire::network::Peer;
use wire::rpc::{Admitted, Route, Routes};

use super::told::ToldAddresses;

/// The members, and the list of metadata replicas that follows from them.
pub struct MemberBook {
    members: RwLock<Members>,
    told: RwLock<ToldAddresses>,
    replicas: Arc<ReplicaBook>,
}

impl MemberBook {
    /// A book that begins with these, and with what an operator told of their addresses.
    pub fn new(members: Members, told: ToldAddresses) -> Arc<Self> {
        let (members_kept, replicas) = (RwLock::default(), Arc::default());
        let book = Self { members: members_kept, told: RwLock::new(told), replicas };
        book.set(members);
        Arc::new(book)
    }

    /// The metadata replicas, for the metadata client.
    pub fn replicas(&self) -> &Arc<ReplicaBook> {
        &self.replicas
    }

    /// The members.
    pub fn members(&self) -> Members {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes news, unless newer ones are known.
    pub fn take(&self, news: &Members) -> bool {
        let known = self.members();
        // Members that an older release wrote down don't tell who was removed.
        let tells_more = news.last_node > known.last_node;
        let is_news = news.epoch > known.epoch || (news.epoch == known.epoch && tells_more);
        if is_news {
            self.set(news.clone());
        }
        is_news
    }

    /// Addresses of the metadata nodes.
    pub fn metadata_nodes(&self) -> Vec<(NodeId, String)> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let keeps = |node: &&Node| node.registration.roles.contains(Roles::METADATA);
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        let address = |node: &Node| (node.id, told.of(node).to_owned());
        members.nodes.iter().filter(keeps).map(address).collect()
    }

    /// What an operator told of addresses, and the cluster doesn't know yet.
    pub fn told_addresses(&self) -> ToldAddresses {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, members: Members) {
        self.replicas.set(members.replicas.iter().map(|place| place.replica).collect());
        let mut known = self.members.write().unwrap_or_else(PoisonError::into_inner);
        *known = members;
        self.told.write().unwrap_or_else(PoisonError::into_inner).settle(&known);
    }

    fn address(&self, id: NodeId) -> Option<String> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let node = members.nodes.iter().find(|node| node.id == id)?;
        Some(self.told.read().unwrap_or_else(PoisonError::into_inner).of(node).to_owned())
    }

    fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.replicas.iter().find(|place| place.replica == replica).map(|place| place.node)
    }
}

/// Where no map was ever heard of, nobody is known to have been removed.
impl Admitted for MemberBook {
    fn is_removed(&self, node: NodeId) -> bool {
        self.members.read().unwrap_or_else(PoisonError::into_inner).is_removed(node)
    }
}

/// Ways to nodes: a peer's number is its node's.
pub struct NodeRoutes(pub Arc<MemberBook>);

impl Routes for NodeRoutes {
    fn route(&self, peer: Peer) -> Option<Route> {
        let node = NodeId(u32::try_from(peer.0).ok()?);
        Some(Route { address: self.0.address(node)?, node: Some(node), target: peer.0 })
    }
}

/// Ways to metadata replicas: a peer's number is its replica's.
pub struct ReplicaRoutes(pub Arc<MemberBook>);

impl Routes for ReplicaRoutes {
    fn route(&self, peer: Peer) -> Option<Route> {
        let node = self.0.node_of(ReplicaId(peer.0))?;
        Some(Route { address: self.0.address(node)?, node: Some(node), target: peer.0 })
    }
}

#[cfg(test)]
mod tests {
    use model::ids::NodeUuid;
    use model::node::{NodeRegistration, ReplicaPlace};

    use super::*;

    fn members(epoch: u64, address: &str) -> Members {
        let registration = NodeRegistration {
            uuid: NodeUuid([1; 16]),
            name: String::new(),
            address: address.to_owned(),
            roles: Roles::METADATA,
            rack: String::new(),
            zone: String::new(),
            level: 1,
        };
        Members {
            epoch,
            nodes: vec![Node::new(NodeId(2), registration)],
            replicas: vec![ReplicaPlace { replica: ReplicaId(9), node: NodeId(2) }],
            last_node: NodeId(0),
        }
    }

    #[test]
    fn newer_members_replace_older_ones_only() {
        let book = MemberBook::new(members(5, "a:1"), ToldAddresses::default());
        assert!(!book.take(&members(5, "b:1")));
        let address =
            |peer| ReplicaRoutes(Arc::clone(&book)).route(peer).map(|route| route.address);
        assert_eq!(address(Peer(9)).as_deref(), Some("a:1"));
        assert!(book.take(&members(6, "b:1")));
        assert_eq!(address(Peer(9)).as_deref(), Some("b:1"));
        assert_eq!(address(Peer(2)), None);
        assert_eq!(book.replicas().replicas(), [ReplicaId(9)]);
        let route = NodeRoutes(Arc::clone(&book)).route(Peer(2)).expect("known");
        assert_eq!((route.node, route.target), (Some(NodeId(2)), 2));
    }

    #[test]
    fn a_node_is_called_where_the_operator_says_until_the_cluster_says_it() {
        let mut told = ToldAddresses::default();
        assert!(told.tell(&members(5, "a:1"), NodeId(2), "b:1"));
        let book = MemberBook::new(members(5, "a:1"), told);
        let address = || NodeRoutes(Arc::clone(&book)).route(Peer(2)).expect("known").address;
        assert_eq!(address(), "b:1");
        assert_eq!(book.metadata_nodes(), [(NodeId(2), "b:1".to_owned())]);
        // Another node has registered itself first.
        assert!(book.take(&members(6, "a:1")));
        assert_eq!((address().as_str(), book.told_addresses().0.len()), ("b:1", 1));
        assert!(book.take(&members(7, "b:1")));
        assert_eq!((address().as_str(), book.told_addresses().0.len()), ("b:1", 0));
    }

    #[test]
    fn who_was_removed_is_known_as_soon_as_the_map_tells() {
        let book = MemberBook::new(Members::default(), ToldAddresses::default());
        assert!((0..9).all(|node| !book.is_removed(NodeId(node))), "no map yet");
        assert!(book.take(&members(5, "a:1")), "of an older release");
        assert!((0..9).all(|node| !book.is_removed(NodeId(node))));
        // The same epoch, of a release that tells.
        let told = Members { last_node: NodeId(4), ..members(5, "a:1") };
        assert!(book.take(&told) && !book.take(&told));
        let removed: Vec<u32> = (1..9).filter(|node| book.is_removed(NodeId(*node))).collect();
        assert_eq!(removed, [1, 3, 4], "2 is there, and the others may be newer than the map");
        // Metadata that was put back may know nodes again.
        assert!(book.take(&Members { last_node: NodeId(2), ..members(9, "a:1") }));
        assert!(!book.is_removed(NodeId(4)));
    }
}
