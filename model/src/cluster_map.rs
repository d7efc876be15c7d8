//! The cluster map: disks with their state, and the placement groups, under one epoch.

use minicbor::{Decode, Encode};

use crate::coding::Coding;
use crate::ids::{ClusterId, DiskId, DiskUuid, ExtentId, NodeId, PgId, ReplicaId};
use crate::node::{Node, ReplicaPlace};

/// Where a disk stands in the cluster's eyes. The storage node's own view is
/// [`crate::shard::DiskHealth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum DiskState {
    /// Reads and writes.
    #[n(0)]
    Up,
    /// Reads; its PGs are closed to new writes, for want of space.
    #[n(1)]
    Full,
    /// Not to be written, perhaps readable; its PGs are closed.
    #[n(2)]
    Down,
    /// Given up: its slots are to be rebuilt elsewhere.
    #[n(3)]
    Out,
}

impl DiskState {
    /// The word used in metrics, logs and `admin status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Full => "full",
            Self::Down => "down",
            Self::Out => "out",
        }
    }
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Disk {
    /// Its number.
    #[n(0)]
    pub id: DiskId,
    /// Its identity.
    #[n(1)]
    pub uuid: DiskUuid,
    /// The node that keeps it.
    #[n(2)]
    pub node: NodeId,
    /// The rack of the node; empty when there is but one.
    #[n(3)]
    pub rack: String,
    /// The zone of the rack; empty when there is but one.
    #[n(4)]
    pub zone: String,
    /// Relative share of the data, usually the size in GiB; at least 1.
    #[n(5)]
    pub weight: u32,
    /// Its state.
    #[n(6)]
    pub state: DiskState,
    /// Where it is on its node, for people.
    #[n(7)]
    pub path: String,
}

/// One placement group: an ordered list of disks, one per shard slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Pg {
    /// Its number.
    #[n(0)]
    pub id: PgId,
    /// The coding of its extents; `disks` has `coding.width()` entries.
    #[n(1)]
    pub coding: Coding,
    /// The disk of each slot.
    #[n(2)]
    pub disks: Vec<DiskId>,
}

/// The cluster map.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterMap {
    /// Raised by every change.
    #[n(0)]
    pub epoch: u64,
    /// Whose map it is.
    #[n(1)]
    pub cluster: ClusterId,
    /// The coding that writes should have, when enough disks are up.
    #[n(2)]
    pub coding: Coding,
    /// All disks that ever were, ascending by id.
    #[n(3)]
    pub disks: Vec<Disk>,
    /// All placement groups, ascending by id from 0 without gaps.
    #[n(4)]
    pub pgs: Vec<Pg>,
    /// All nodes, ascending by id; none while the cluster is one process that was never opened to
    /// others.
    #[n(5)]
    #[cbor(default)]
    pub nodes: Vec<Node>,
    /// Where the metadata replicas are, where that isn't the one process.
    #[n(6)]
    #[cbor(default)]
    pub replicas: Vec<ReplicaPlace>,
    /// The feature level that all nodes have.
    #[n(7)]
    #[cbor(default)]
    pub level: u32,
    /// The last node id given out.
    #[n(8)]
    #[cbor(default)]
    pub last_node: NodeId,
}

impl ClusterMap {
    /// A cluster without disks.
    pub fn new(cluster: ClusterId, coding: Coding) -> Self {
        Self {
            epoch: 1,
            cluster,
            coding,
            disks: Vec::new(),
            pgs: Vec::new(),
            nodes: Vec::new(),
            replicas: Vec::new(),
            level: 0,
            last_node: NodeId(0),
        }
    }

    /// The node with this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.binary_search_by_key(&id, |node| node.id).ok().map(|at| &self.nodes[at])
    }

    /// The node that keeps a metadata replica.
    pub fn node_of(&self, replica: ReplicaId) -> Option<&Node> {
        let place = self.replicas.iter().find(|place| place.replica == replica)?;
        self.node(place.node)
    }

    /// The disk with this number.
    pub fn disk(&self, id: DiskId) -> Option<&Disk> {
        self.disks.binary_search_by_key(&id, |disk| disk.id).ok().map(|at| &self.disks[at])
    }

    /// The disk with this number, to be changed.
    pub fn disk_mut(&mut self, id: DiskId) -> Option<&mut Disk> {
        self.disks.binary_search_by_key(&id, |disk| disk.id).ok().map(|at| &mut self.disks[at])
    }

    /// The placement group with this number.
    pub fn pg(&self, id: PgId) -> Option<&Pg> {
        self.pgs.get(usize::try_from(id.0).ok()?)
    }

    /// Whether every disk of the PG is up, so that new extents may go there.
    pub fn is_open(&self, pg: &Pg) -> bool {
        pg.disks.iter().all(|id| self.disk(*id).is_some_and(|disk| disk.state == DiskState::Up))
    }

    /// The PGs that new extents may go to: open, without any of `avoided`, and of the widest
    /// coding among those.
    pub fn open_pgs(&self, avoided: &[DiskId]) -> Vec<&Pg> {
        let open =
            |pg: &&Pg| self.is_open(pg) && !pg.disks.iter().any(|disk| avoided.contains(disk));
        let best = |pg: &&Pg| (pg.coding.data(), pg.coding.parity());
        // Parity first: a narrower stripe costs space, a stripe with less parity costs safety.
        let rank = |pg: &&Pg| (pg.coding.parity().min(self.coding.parity()), best(pg));
        let widest = self.pgs.iter().filter(open).map(|pg| rank(&pg)).max();
        self.pgs.iter().filter(open).filter(|pg| Some(rank(pg)) == widest).collect()
    }

    /// The disk that holds `slot` of the extent; `None` when the map doesn't know the PG.
    pub fn disk_of(&self, extent: ExtentId, slot: u8) -> Option<&Disk> {
        let id = self.pg(extent.pg)?.disks.get(usize::from(slot))?;
        self.disk(*id)
    }

    /// How many disks are up.
    pub fn disks_up(&self) -> usize {
        self.disks.iter().filter(|disk| disk.state == DiskState::Up).count()
    }
}
