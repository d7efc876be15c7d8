//! Disks that fall silent, come back, come and go; and many at once.

use model::cluster_map::Standing;
use model::coding::Coding;
use model::ids::{ClusterId, DiskUuid};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Two disks on each of so many nodes; it is 1,000 s since the leader leads.
struct World {
    map: ClusterMap,
    disks: BTreeMap<DiskId, DiskHeard>,
    nodes: BTreeMap<NodeId, Duration>,
    many_silent: Option<Duration>,
    now: Duration,
}

impl World {
    fn new(nodes: u32) -> Self {
        let coding = Coding::parse("2+1").expect("valid");
        let mut map = ClusterMap::new(ClusterId::default(), coding);
        let disk = |id: u32| Disk {
            id: DiskId(id),
            uuid: DiskUuid([id as u8; 16]),
            node: NodeId(id.div_ceil(2)),
            rack: String::new(),
            zone: String::new(),
            weight: 1,
            state: DiskState::Up,
            path: String::new(),
            standing: Standing { since: Timestamp(1), ..Standing::default() },
        };
        map.disks = (1..=2 * nodes).map(disk).collect();
        let now = 1000 * SECOND;
        let heard = DiskHeard { at: now, health: DiskHealth::Ok, well_since: Some(Duration::ZERO) };
        let disks = map.disks.iter().map(|disk| (disk.id, heard)).collect();
        let nodes = (1..=nodes).map(|node| (NodeId(node), now)).collect();
        Self { map, disks, nodes, many_silent: None, now }
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence {
            map: &self.map,
            disks: &self.disks,
            nodes: &self.nodes,
            leads_since: Duration::ZERO,
            many_silent: self.many_silent,
            now: self.now,
            time: Timestamp(self.now.as_nanos() as u64),
        }
    }

    fn verdict(&self) -> Verdict {
        self.evidence().verdict()
    }

    fn before(&self, seconds: u32) -> Duration {
        self.now.checked_sub(seconds * SECOND).expect("less than 1,000 s")
    }

    /// The node says nothing for so long.
    fn silence(&mut self, node: u32, seconds: u32) {
        let at = self.before(seconds);
        self.nodes.insert(NodeId(node), at);
        for disk in self.map.disks.iter().filter(|disk| disk.node == NodeId(node)) {
            self.disks.entry(disk.id).and_modify(|heard| heard.at = at);
        }
    }

    /// The disk is in this state for so long.
    fn put(&mut self, disk: u32, state: DiskState, seconds: u64) {
        let since = Timestamp(self.before(seconds as u32).as_nanos() as u64);
        let disk = self.map.disk_mut(DiskId(disk)).expect("there");
        disk.state = state;
        disk.standing.since = since;
    }

    fn report(&mut self, disk: u32, health: DiskHealth, well_seconds: Option<u32>) {
        let well_since = well_seconds.map(|seconds| self.before(seconds));
        self.disks.insert(DiskId(disk), DiskHeard { at: self.now, health, well_since });
    }

    fn on_report(&self, disk: u32) -> Option<DiskState> {
        self.evidence().on_report(self.map.disk(DiskId(disk)).expect("there"))
    }
}

fn ids(disks: &[u32]) -> Vec<DiskId> {
    disks.iter().copied().map(DiskId).collect()
}

#[test]
fn silence_is_suspect_then_down_then_out() {
    let mut world = World::new(4);
    assert_eq!(world.verdict(), Verdict::default());
    world.silence(2, 4);
    assert_eq!(world.verdict(), Verdict::default());
    world.silence(2, 5);
    assert_eq!(world.verdict(), Verdict { suspects: ids(&[3, 4]), ..Verdict::default() });
    world.silence(2, 10);
    let down = vec![(DiskId(3), DiskState::Down), (DiskId(4), DiskState::Down)];
    assert_eq!(world.verdict(), Verdict { changes: down, ..Verdict::default() });
    world.silence(2, 600);
    world.put(3, DiskState::Down, 599);
    world.put(4, DiskState::Down, 600);
    let out = vec![(DiskId(4), DiskState::Out)];
    assert_eq!(world.verdict(), Verdict { changes: out, ..Verdict::default() });
    world.map.upkeep.out_after_seconds = Some(700);
    assert_eq!(world.verdict(), Verdict::default());
}

#[test]
fn many_silent_nodes_are_not_given_up() {
    let mut world = World::new(4);
    for node in [2, 3] {
        world.silence(node, 900);
    }
    (3..=6).for_each(|disk| world.put(disk, DiskState::Down, 800));
    let withheld = vec![NodeId(2), NodeId(3)];
    assert_eq!(world.verdict(), Verdict { withheld, is_many: true, ..Verdict::default() });
    // One of them comes back: the other one may be on its way.
    world.silence(2, 0);
    world.put(3, DiskState::Up, 1);
    world.put(4, DiskState::Up, 1);
    world.many_silent = Some(world.before(299));
    let withheld = vec![NodeId(3)];
    assert_eq!(world.verdict(), Verdict { withheld, ..Verdict::default() });
    // It is alone.
    world.many_silent = Some(world.before(300));
    let out = vec![(DiskId(5), DiskState::Out), (DiskId(6), DiskState::Out)];
    assert_eq!(world.verdict(), Verdict { changes: out.clone(), ..Verdict::default() });
    // Where a disk isn't down for long before it is out, nobody is waited for longer.
    world.map.upkeep.out_after_seconds = Some(20);
    world.many_silent = Some(world.before(19));
    assert_eq!(world.verdict().changes, []);
    world.many_silent = Some(world.before(20));
    assert_eq!(world.verdict().changes, out);
    // In a large cluster two are few.
    let mut world = World::new(20);
    for node in [2, 3] {
        world.silence(node, 900);
    }
    (3..=6).for_each(|disk| world.put(disk, DiskState::Down, 800));
    assert_eq!(world.verdict().changes.len(), 4);
}

#[test]
fn a_disk_that_its_node_calls_failed_is_out_in_time() {
    let mut world = World::new(4);
    for node in [2, 3] {
        world.silence(node, 900);
    }
    world.report(1, DiskHealth::Failed, None);
    assert_eq!(world.on_report(1), Some(DiskState::Down));
    world.put(1, DiskState::Down, 600);
    // That others are silent is no reason to doubt what its node says.
    assert!(world.verdict().changes.contains(&(DiskId(1), DiskState::Out)));
}

#[test]
fn who_comes_back_is_up_and_who_comes_and_goes_waits() {
    let mut world = World::new(2);
    world.put(1, DiskState::Down, 60);
    world.report(1, DiskHealth::Ok, Some(0));
    assert_eq!(world.on_report(1), Some(DiskState::Up));
    for (flaps, waits) in [(1, 0), (2, 10), (3, 20), (5, 80), (40, 600)] {
        world.map.disk_mut(DiskId(1)).expect("there").standing.flaps = flaps;
        world.report(1, DiskHealth::Ok, Some(waits));
        assert_eq!(world.on_report(1), Some(DiskState::Up), "{flaps}");
        if waits > 0 {
            world.report(1, DiskHealth::Ok, Some(waits - 1));
            assert_eq!(world.on_report(1), None, "{flaps}");
        }
    }
    // It is well, only not for long enough: that is no reason to give it up.
    world.put(1, DiskState::Down, 900);
    assert_eq!(world.verdict(), Verdict::default());
}

#[test]
fn what_was_given_up_comes_back_unless_an_operator_gave_it_up() {
    let mut world = World::new(2);
    world.put(1, DiskState::Out, 60);
    world.report(1, DiskHealth::Failed, None);
    assert_eq!(world.on_report(1), None);
    world.report(1, DiskHealth::Full, Some(0));
    assert_eq!(world.on_report(1), Some(DiskState::Full));
    world.map.disk_mut(DiskId(1)).expect("there").standing.is_given_up = true;
    assert_eq!(world.on_report(1), None);
}

#[test]
fn a_new_leader_hears_of_everybody_first() {
    let mut world = World::new(4);
    world.put(3, DiskState::Down, 900);
    world.disks.clear();
    world.nodes.clear();
    let at = |seconds: u32| Evidence { leads_since: world.before(seconds), ..world.evidence() };
    assert_eq!(at(4).verdict(), Verdict::default());
    assert_eq!(at(9).verdict().changes, []);
    assert!(at(10).verdict().changes.iter().all(|(_, state)| *state == DiskState::Down));
    assert!(at(29).verdict().changes.iter().all(|(_, state)| *state == DiskState::Down));
}

#[test]
fn before_all_nodes_know_moves_nothing_is_given_up() {
    let mut world = World::new(4);
    world.silence(2, 900);
    world.put(3, DiskState::Down, 900);
    world.put(4, DiskState::Down, 900);
    assert_eq!(world.verdict().changes.len(), 2);
    let registration = model::node::NodeRegistration {
        uuid: model::ids::NodeUuid([1; 16]),
        name: String::new(),
        address: "host:1".to_owned(),
        roles: model::node::Roles::ALL,
        rack: String::new(),
        zone: String::new(),
        level: 1,
    };
    world.map.nodes = vec![model::node::Node::new(NodeId(1), registration)];
    world.map.level = 1;
    assert_eq!(world.verdict(), Verdict::default());
}
