//! A change that an operator may order: to a disk, or to a node with all of its disks. Pure.
//!
//! In: the cluster map. Out: the commands that bring it about, or the map as it would be then. What
//! always holds: [`Change::applied`] shares and places disks as the metadata does when it carries out the
//! [`Change::commands`].

use metadata::limits::NODE_TEXT_BYTES_MAX;
use model::cluster_map::{ClusterMap, Disk, DiskState};
use model::command::Command;
use model::ids::{DiskId, NodeId};
use model::level::MOVING;
use model::node::NodePlace;
use model::placement;

use crate::admin::orders::OrderError;

/// The greatest share of a disk: that of 16 PiB.
const WEIGHT_MAX: u32 = 16 << 20;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Disks are to be empty, or no longer.
    Drain {
        /// Whose.
        of: Drained,
        /// Whether they are to be empty.
        is_draining: bool,
    },
    /// A disk is given up, or taken back.
    Out {
        /// The disk.
        disk: DiskId,
        /// Whether it is given up.
        is_out: bool,
    },
    /// A disk gets another share of the data; `None` is that of its size.
    Weigh {
        /// The disk.
        disk: DiskId,
        /// The share.
        weight: Option<u32>,
    },
    /// A node is in another rack or zone.
    Place {
        /// The node.
        node: NodeId,
        /// The rack.
        rack: String,
        /// The zone; the one that it is in where none is said.
        zone: Option<String>,
    },
}

/// What is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// One disk.
    Disk(DiskId),
    /// All disks of a node.
    Node(NodeId),
}

impl Change {
    /// Whether it can be ordered at all.
    pub fn check(&self, map: &ClusterMap) -> Result<(), OrderError> {
        if map.level_in_use() < MOVING {
            let text = "Not every node is of a release that knows this yet; drystone admin metadata status tells which.";
            return Err(OrderError::Refused(text.to_owned()));
        }
        match self {
            Self::Drain { of: Drained::Disk(disk), is_draining } => {
                let known = self::disk(map, *disk)?;
                if *is_draining && known.state == DiskState::Out {
                    let text = format!("Disk {disk} is out: its slots are rebuilt elsewhere.");
                    return Err(OrderError::Refused(text));
                }
                Ok(())
            }
            Self::Drain { of: Drained::Node(node), .. } => {
                let has_disks = map.disks.iter().any(|disk| disk.node == *node);
                match (has_disks, map.node(*node)) {
                    (true, _) => Ok(()),
                    (false, Some(_)) => {
                        Err(OrderError::Refused(format!("Node {node} keeps no disks.")))
                    }
                    (false, None) => Err(no_node(*node)),
                }
            }
            Self::Out { disk, .. } => self::disk(map, *disk).map(|_| ()),
            Self::Weigh { disk, weight } => {
                self::disk(map, *disk)?;
                if weight.is_some_and(|weight| weight == 0 || weight > WEIGHT_MAX) {
                    let text = format!(
                        "A weight is from 1 to {WEIGHT_MAX}, like the size in GiB; a disk that is to be empty is drained."
                    );
                    return Err(OrderError::Invalid(text));
                }
                Ok(())
            }
            Self::Place { node, rack, zone } => {
                let texts = [Some(rack), zone.as_ref()];
                let is_text = |text: &String| {
                    text.len() <= NODE_TEXT_BYTES_MAX && !text.chars().any(char::is_control)
                };
                if !texts.into_iter().flatten().all(is_text) {
                    let text = format!(
                        "Racks and zones have at most {NODE_TEXT_BYTES_MAX} bytes, and no control characters."
                    );
                    return Err(OrderError::Invalid(text));
                }
                map.node(*node).map(|_| ()).ok_or_else(|| no_node(*node))
            }
        }
    }

    /// What is proposed. Each may be repeated without harm.
    pub fn commands(&self, map: &ClusterMap) -> Vec<Command> {
        match self {
            Self::Drain { is_draining, .. } => {
                let drain =
                    |disk: &Disk| Command::DrainDisk { disk: disk.id, is_draining: *is_draining };
                let changes = |disk: &&Disk| disk.standing.is_draining != *is_draining;
                self.drained(map).filter(changes).map(drain).collect()
            }
            Self::Out { disk, is_out } => {
                vec![Command::GiveUpDisk { disk: *disk, is_out: *is_out }]
            }
            Self::Weigh { disk, weight } => {
                vec![Command::WeighDisk { disk: *disk, weight: *weight }]
            }
            Self::Place { node, rack, zone } => {
                let place = place_of(map, *node, rack, zone.as_ref());
                vec![Command::PlaceNode { node: *node, place }]
            }
        }
    }

    /// The map with the change, before anything has moved. A disk that is taken back is taken for
    /// well.
    pub fn applied(&self, map: &ClusterMap) -> ClusterMap {
        let mut after = map.clone();
        match self {
            Self::Drain { is_draining, .. } => {
                let drained: Vec<DiskId> = self.drained(map).map(|disk| disk.id).collect();
                for disk in after.disks.iter_mut().filter(|disk| drained.contains(&disk.id)) {
                    disk.standing.is_draining = *is_draining;
                }
            }
            Self::Out { disk, is_out } => {
                if let Some(disk) = after.disk_mut(*disk) {
                    disk.standing.is_given_up = *is_out;
                    disk.state = match (disk.state, *is_out) {
                        (_, true) => DiskState::Out,
                        (DiskState::Out, false) => DiskState::Up,
                        (state, false) => state,
                    };
                }
            }
            Self::Weigh { disk, weight } => {
                if let Some(disk) = after.disk_mut(*disk) {
                    disk.standing.weight = *weight;
                }
            }
            Self::Place { node, rack, zone } => {
                let place = place_of(map, *node, rack, zone.as_ref());
                for disk in after.disks.iter_mut().filter(|disk| disk.node == *node) {
                    disk.rack.clone_from(&place.rack);
                    disk.zone.clone_from(&place.zone);
                }
                if let Some(known) = after.nodes.iter_mut().find(|known| known.id == *node) {
                    known.place = Some(place);
                }
            }
        }
        let more = placement::pgs_to_add(&after);
        after.pgs.extend(more);
        after
    }

    /// Whether the map is as ordered.
    pub fn is_made(&self, map: &ClusterMap) -> bool {
        let is_so = |id: &DiskId, so: &dyn Fn(&Disk) -> bool| map.disk(*id).is_some_and(so);
        match self {
            Self::Drain { is_draining, .. } => {
                self.drained(map).all(|disk| disk.standing.is_draining == *is_draining)
            }
            Self::Out { disk, is_out: true } => {
                is_so(disk, &|disk| disk.state == DiskState::Out && disk.standing.is_given_up)
            }
            Self::Out { disk, is_out: false } => {
                is_so(disk, &|disk| disk.state != DiskState::Out && !disk.standing.is_given_up)
            }
            Self::Weigh { disk, weight } => is_so(disk, &|disk| disk.standing.weight == *weight),
            Self::Place { node, rack, zone } => {
                let place = place_of(map, *node, rack, zone.as_ref());
                map.node(*node).is_some_and(|node| {
                    (node.rack(), node.zone()) == (place.rack.as_str(), place.zone.as_str())
                })
            }
        }
    }

    /// The change as something that is done, or would be.
    pub fn sentence(&self, is_done: bool) -> String {
        let verb = if is_done { "is" } else { "would be" };
        match self {
            Self::Drain { of: Drained::Disk(disk), is_draining: true } => {
                format!("Disk {disk} {verb} drained")
            }
            Self::Drain { of: Drained::Disk(disk), is_draining: false } => {
                format!("Disk {disk} {verb} no longer drained")
            }
            Self::Drain { of: Drained::Node(node), is_draining: true } => {
                format!("All disks of node {node} {} drained", if is_done { "are" } else { verb })
            }
            Self::Drain { of: Drained::Node(node), is_draining: false } => {
                let verb = if is_done { "are" } else { verb };
                format!("The disks of node {node} {verb} no longer drained")
            }
            Self::Out { disk, is_out: true } => format!("Disk {disk} {verb} out"),
            Self::Out { disk, is_out: false } => {
                format!("Disk {disk} {verb} taken back as soon as its node says that it is well")
            }
            Self::Weigh { disk, weight: Some(weight) } => {
                format!("Disk {disk} {verb} given a weight of {weight}")
            }
            Self::Weigh { disk, weight: None } => {
                format!("Disk {disk} {verb} given the weight of its size")
            }
            Self::Place { node, rack, zone } => {
                let zone = zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
                format!("Node {node} {verb} in rack {rack}{zone}")
            }
        }
    }

    fn drained<'a>(&self, map: &'a ClusterMap) -> impl Iterator<Item = &'a Disk> + use<'a> {
        let of = match self {
            Self::Drain { of, .. } => Some(*of),
            Self::Out { .. } | Self::Weigh { .. } | Self::Place { .. } => None,
        };
        map.disks.iter().filter(move |disk| match of {
            Some(Drained::Disk(id)) => disk.id == id,
            // What is out is to be empty anyway.
            Some(Drained::Node(node)) => disk.node == node && disk.state != DiskState::Out,
            None => false,
        })
    }
}

fn disk(map: &ClusterMap, id: DiskId) -> Result<&Disk, OrderError> {
    map.disk(id).ok_or_else(|| OrderError::NotFound(format!("There is no disk {id}.")))
}

/// What is said where there is no such node.
pub(super) fn no_node(node: NodeId) -> OrderError {
    OrderError::NotFound(format!("There is no node {node}."))
}

fn place_of(map: &ClusterMap, node: NodeId, rack: &str, zone: Option<&String>) -> NodePlace {
    let known = || map.node(node).map(|node| node.zone().to_owned()).unwrap_or_default();
    NodePlace { rack: rack.to_owned(), zone: zone.cloned().unwrap_or_else(known) }
}
