//! Addresses that an operator told a host, as the cluster couldn't: after nodes were given new ones, none
//! finds the others by what it knew.
//!
//! In: what `drystone cluster readdress` was given. Out: where a node is to be called. What always holds:
//! as soon as the cluster itself has another address of a node than it had then, that one counts, and what
//! was told is forgotten.

use model::ids::NodeId;
use model::membership::Members;
use model::node::Node;

/// The new address of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldAddress {
    /// The node.
    pub node: NodeId,
    /// The address that the cluster had of it.
    pub from: String,
    /// The address that it has.
    pub to: String,
}

/// The new addresses of some nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldAddresses(pub Vec<ToldAddress>);

impl ToldAddresses {
    /// Where to call a node.
    pub fn of<'a>(&'a self, node: &'a Node) -> &'a str {
        let known = &node.registration.address;
        let told = self.0.iter().find(|told| told.node == node.id && told.from == *known);
        told.map_or(known, |told| &told.to)
    }

    /// Takes a node's new address; `false` when it has that one by `members`, or there is no such node.
    pub fn tell(&mut self, members: &Members, node: NodeId, to: &str) -> bool {
        self.0.retain(|told| told.node != node);
        let known = members.nodes.iter().find(|known| known.id == node);
        let from = known.map(|known| known.registration.address.clone());
        let Some(from) = from.filter(|from| from != to) else { return false };
        self.0.push(ToldAddress { node, from, to: to.to_owned() });
        true
    }

    /// Forgets what the cluster knows better; whether there was anything.
    pub fn settle(&mut self, members: &Members) -> bool {
        let before = self.0.len();
        self.0.retain(|told| {
            let mut nodes = members.nodes.iter();
            nodes.any(|node| node.id == told.node && node.registration.address == told.from)
        });
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use model::ids::NodeUuid;
    use model::node::{FEATURE_LEVEL, NodeRegistration, Roles};

    use super::*;

    fn members(address: &str) -> Members {
        let registration = NodeRegistration {
            uuid: NodeUuid([2; 16]),
            name: "east".to_owned(),
            address: address.to_owned(),
            roles: Roles::METADATA,
            rack: String::new(),
            zone: String::new(),
            level: FEATURE_LEVEL,
        };
        Members { nodes: vec![Node::new(NodeId(2), registration)], ..Members::default() }
    }

    #[test]
    fn what_the_cluster_says_later_counts() {
        let (old, new) = (members("old:1"), members("new:1"));
        let mut told = ToldAddresses::default();
        assert_eq!(told.of(&old.nodes[0]), "old:1");
        assert!(told.tell(&old, NodeId(2), "new:1"));
        assert_eq!(told.of(&old.nodes[0]), "new:1");
        assert!(!told.settle(&old), "nobody has said anything else");
        // It has registered itself, perhaps with yet another one.
        assert_eq!(told.of(&members("third:1").nodes[0]), "third:1");
        assert!(told.settle(&new));
        // And may go back to the one that it had.
        assert_eq!(told.of(&old.nodes[0]), "old:1");
    }

    #[test]
    fn nothing_is_told_of_nodes_that_are_there_or_unknown() {
        let mut told = ToldAddresses::default();
        assert!(!told.tell(&members("a:1"), NodeId(2), "a:1"));
        assert!(!told.tell(&members("a:1"), NodeId(3), "b:1"));
        // The last word counts.
        assert!(told.tell(&members("a:1"), NodeId(2), "b:1"));
        assert!(told.tell(&members("a:1"), NodeId(2), "c:1"));
        assert_eq!(told.0.len(), 1);
        assert!(!told.tell(&members("a:1"), NodeId(2), "a:1"));
        assert_eq!(told, ToldAddresses::default());
    }
}
