//! The cluster map: disks with their state, and the placement groups, under one epoch.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::class::StorageClass;
use crate::coding::Coding;
use crate::extent::SlotSet;
use crate::ids::{ClusterId, DiskId, DiskUuid, ExtentId, NodeId, PgId, ReplicaId};
use crate::limits::DISK_NEARFULL_PERCENT;
use crate::moves::{SlotMove, SlotMoved};
use crate::node::{FEATURE_LEVEL, Node, ReplicaPlace};
use crate::time::Timestamp;

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
    /// What an operator, or its own behaviour, adds to that.
    #[n(8)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub standing: Standing,
}

impl Disk {
    /// Its share of the data, relative to other disks: 0 for a disk that is to be empty.
    pub fn share(&self) -> u32 {
        if self.standing.is_draining || self.state == DiskState::Out {
            return 0;
        }
        self.standing.weight.unwrap_or(self.weight)
    }
}

/// What is known of a disk beside what its node says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Standing {
    /// An operator wants it empty: its slots move to other disks, and no new extents come.
    #[n(0)]
    pub is_draining: bool,
    /// The share that an operator gave it in place of its weight.
    #[n(1)]
    pub weight: Option<u32>,
    /// Since when it is in its state; the beginning of time when that was before this was kept.
    #[n(2)]
    pub since: Timestamp,
    /// How often it went down of late: one more each time, one less for every hour that it stayed
    /// up. Who comes and goes waits longer before it takes writes again.
    #[n(3)]
    pub flaps: u32,
    /// An operator gave it up: it stays out, whatever its node says.
    #[n(4)]
    pub is_given_up: bool,
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
    /// Slots on their way to another disk. Meanwhile the group takes no new extents.
    #[n(3)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub moves: Vec<SlotMove>,
    /// Slots that were on another disk before.
    #[n(4)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub moved: Vec<SlotMoved>,
}

impl Pg {
    /// A group in which nothing ever moved.
    pub const fn new(id: PgId, coding: Coding, disks: Vec<DiskId>) -> Self {
        Self { id, coding, disks, moves: Vec::new(), moved: Vec::new() }
    }

    /// The move of a slot, while it is under way.
    pub fn move_of(&self, slot: u8) -> Option<&SlotMove> {
        self.moves.iter().find(|under_way| under_way.slot == slot)
    }

    /// The epoch since which a slot is on its disk; 0 for one that never moved.
    pub fn settled_at(&self, slot: u8) -> u64 {
        self.moved.iter().find(|moved| moved.slot == slot).map_or(0, |moved| moved.epoch)
    }

    /// How many more of its disks may go; below 0 so many too many have gone, and what it has can't all
    /// be read.
    pub fn slack(&self, is_readable: impl Fn(DiskId) -> bool) -> i64 {
        let lost = self.disks.iter().filter(|disk| !is_readable(**disk)).count();
        i64::from(self.coding.parity()) - i64::try_from(lost).unwrap_or(i64::MAX)
    }
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
    /// The coding that writes of class `STANDARD` should have, when enough disks are up.
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
    /// The feature level that all nodes have, or the one process had that is alone; there 0 is the
    /// first release's.
    #[n(7)]
    #[cbor(default)]
    pub level: u32,
    /// The last node id given out.
    #[n(8)]
    #[cbor(default)]
    pub last_node: NodeId,
    /// How the cluster keeps itself whole, as its operators want it.
    #[n(9)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub upkeep: UpkeepWish,
    /// Health codes that operators don't want to hear of for a while.
    #[n(10)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub mutes: Vec<Mute>,
    /// Nodes whose metadata replica an operator took away: they make none by themselves, until one is
    /// placed there.
    #[n(11)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub without_metadata: Vec<NodeId>,
    /// Storage classes besides `STANDARD`, ascending by name.
    #[n(12)]
    #[cbor(skip_if = "crate::encoding::is_default")]
    pub classes: Vec<StorageClass>,
}

/// How the cluster keeps itself whole, as its operators want it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UpkeepWish {
    /// Nothing moves but what is lost.
    #[n(0)]
    pub is_paused: bool,
    /// Bytes a second that moves and rebuilding may take of a gateway; its own setting where there
    /// is none.
    #[n(1)]
    pub bytes_per_second: Option<u64>,
    /// Seconds after which a silent disk is reported; 5 where nothing is said.
    #[n(2)]
    pub suspect_after_seconds: Option<u32>,
    /// Seconds after which a silent disk is down: it gets no new shards; 10 where nothing is said.
    #[n(3)]
    pub down_after_seconds: Option<u32>,
    /// Seconds after which a disk that is down is given up and rebuilt elsewhere; 600 where nothing
    /// is said.
    #[n(4)]
    pub out_after_seconds: Option<u32>,
    /// A disk of whose file system so many percent are taken is reported; 85 where nothing is said.
    #[n(5)]
    pub nearfull_percent: Option<u8>,
}

impl UpkeepWish {
    /// When a disk is reported for being nearly full.
    pub fn nearfull_percent(&self) -> u64 {
        self.nearfull_percent.map_or(DISK_NEARFULL_PERCENT, u64::from)
    }

    /// When a silent disk is reported.
    pub fn suspect_after(&self) -> Duration {
        Duration::from_secs(self.suspect_after_seconds.unwrap_or(5).into())
    }

    /// When a silent disk is down.
    pub fn down_after(&self) -> Duration {
        Duration::from_secs(self.down_after_seconds.unwrap_or(10).into())
    }

    /// When a disk that is down is out.
    pub fn out_after(&self) -> Duration {
        Duration::from_secs(self.out_after_seconds.unwrap_or(600).into())
    }
}

/// A health code that operators don't want to hear of for a while.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Mute {
    /// The code.
    #[n(0)]
    pub code: String,
    /// Until then.
    #[n(1)]
    pub until: Timestamp,
}

impl ClusterMap {
    /// A cluster without disks, of this release.
    pub fn new(cluster: ClusterId, coding: Coding) -> Self {
        Self {
            epoch: 1,
            cluster,
            coding,
            disks: Vec::new(),
            pgs: Vec::new(),
            nodes: Vec::new(),
            replicas: Vec::new(),
            level: FEATURE_LEVEL,
            last_node: NodeId(0),
            upkeep: UpkeepWish::default(),
            mutes: Vec::new(),
            without_metadata: Vec::new(),
            classes: Vec::new(),
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

    /// Whether a disk's shards can't be read, as far as the map tells.
    pub fn is_away(&self, id: DiskId) -> bool {
        self.disk(id).is_none_or(|disk| matches!(disk.state, DiskState::Down | DiskState::Out))
    }

    /// The disk with this number, to be changed.
    pub fn disk_mut(&mut self, id: DiskId) -> Option<&mut Disk> {
        self.disks.binary_search_by_key(&id, |disk| disk.id).ok().map(|at| &mut self.disks[at])
    }

    /// The placement group with this number.
    pub fn pg(&self, id: PgId) -> Option<&Pg> {
        // At its place, unless some were left out.
        let at_place = self.pgs.get(usize::try_from(id.0).ok()?).filter(|pg| pg.id == id);
        at_place
            .or_else(|| self.pgs.binary_search_by_key(&id, |pg| pg.id).ok().map(|at| &self.pgs[at]))
    }

    /// The same without some PGs, given ascending.
    pub fn without_pgs(&self, pgs: &[PgId]) -> Self {
        let mut map = self.clone();
        map.pgs.retain(|pg| pgs.binary_search(&pg.id).is_err());
        map
    }

    /// Whether every disk of the PG is up and none of its slots moves, so that new extents may go
    /// there.
    pub fn is_open(&self, pg: &Pg) -> bool {
        let is_up = |id: &DiskId| self.disk(*id).is_some_and(|disk| disk.state == DiskState::Up);
        pg.moves.is_empty() && pg.disks.iter().all(is_up)
    }

    /// The slots of an extent's group that aren't where a writer who went by the map of `epoch` put
    /// them: under way to another disk, or there by now.
    pub fn slots_moved_since(&self, pg: &Pg, epoch: u64) -> SlotSet {
        let mut moved = SlotSet::default();
        pg.moves.iter().for_each(|under_way| moved.insert(under_way.slot));
        let later = pg.moved.iter().filter(|settled| settled.epoch > epoch);
        later.for_each(|settled| moved.insert(settled.slot));
        moved
    }

    /// The PGs that new extents of class `STANDARD` may go to: see [`ClusterMap::open_pgs_of`].
    pub fn open_pgs(&self, avoided: &[DiskId]) -> Vec<&Pg> {
        self.open_pgs_of(self.coding, avoided)
    }

    /// The PGs that new extents with `wanted` coding may go to: open, without any of `avoided`, and
    /// of that coding, or else of the best one among those.
    pub fn open_pgs_of(&self, wanted: Coding, avoided: &[DiskId]) -> Vec<&Pg> {
        let open =
            |pg: &&Pg| self.is_open(pg) && !pg.disks.iter().any(|disk| avoided.contains(disk));
        let mut best = None;
        let mut found = Vec::new();
        for pg in self.pgs.iter().filter(open) {
            let rank = Some((pg.coding.rank_for(wanted), !self.has_drained_disk(pg)));
            if rank > best {
                best = rank;
                found.clear();
            }
            if rank == best {
                found.push(pg);
            }
        }
        found
    }

    /// Whether a disk of the PG is to be empty: what is put there has to be moved again.
    pub fn has_drained_disk(&self, pg: &Pg) -> bool {
        let is_drained = |id: &DiskId| self.disk(*id).is_some_and(|disk| disk.standing.is_draining);
        pg.disks.iter().any(is_drained)
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
