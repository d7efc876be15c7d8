"""Hosts of this release and of the one before work together, in every mixture, while they are upgraded
and rolled back one at a time under load; what only this release knows is switched on when the last
host has it.

`scripts/previous-release` builds the release before.
"""

from lab.process import ANSWER_SECONDS_MAX, wait_until

ROLES = ("metadata", "storage-node", "gateway")
# Every mixture of the three roles in two releases, each one step from the one before it: the hosts of
# a role are upgraded, or rolled back. The last step, after which nothing is of the old release, comes
# apart.
WALK = [
    ("gateway", "new"), ("storage-node", "new"), ("gateway", "old"), ("metadata", "new"),
    ("storage-node", "old"), ("gateway", "new"),
]
# Between two steps.
OPERATIONS = 15


class Upgrade:
    """A cluster on its way between two releases, under load."""

    def __init__(self, cluster, load, old, new):
        self.cluster, self.load = cluster, load
        self.binaries = {"old": old, "new": new}

    def put(self, process, release):
        """Has one host run a release, and waits until all is well again."""
        if self.cluster.program(process.name) == self.binaries[release]:
            return
        assert process.stop() == 0, process.tail()
        self.cluster.install(process.name, self.binaries[release])
        process.start()
        self.cluster.wait_healthy()

    def step(self, role, release):
        """Has all hosts of a role run a release, one after the other."""
        for process in self.cluster.of_role(role):
            self.put(process, release)
        self.load.wait_for(OPERATIONS)

    def mixture(self):
        """Which roles run the new release."""
        new = self.binaries["new"]
        hosts = {role: [self.cluster.program(p.name) == new for p in self.cluster.of_role(role)] for role in ROLES}
        assert all(len(set(of_role)) == 1 for of_role in hosts.values()), hosts
        return tuple(hosts[role][0] for role in ROLES)

    def lead(self, process):
        """Gives the lead of the metadata to a host."""
        self.cluster.ask("metadata", "transfer", "--node", self.cluster.node_id(process.name))
        wait_until(lambda: self.cluster.leader() is process, 20, f"{process} leads")
        self.load.wait_for(OPERATIONS)


def levels_in_use(cluster):
    """The levels that the cluster map has, by every process that knows to say it: one, but while it rises."""
    def of(process):
        told = wait_until(process.status, ANSWER_SECONDS_MAX, f"{process} tells its status")
        return told["metadata"].get("level")

    return {of(process) for process in cluster.processes.values()} - {None}


def registered_levels(cluster):
    """What each node says that its release can do."""
    return {node["name"]: node["level"] for node in cluster.status()["nodes"]}


def test_every_mixture_of_two_releases(new_cluster, drill, binary, previous_binary):
    cluster = new_cluster(start=False, metadata=3, gateways=2)
    for name in sum(cluster.names.values(), []):
        cluster.install(name, previous_binary)
    # The new release joins the old cluster, and the other way round.
    cluster.install("g2", binary)
    cluster.start()
    before = registered_levels(cluster)
    old_level, new_level = before.pop("g1"), before.pop("g2")
    assert set(before.values()) == {old_level} and new_level >= old_level
    with drill(cluster, before=20, after=30) as load:
        upgrade = Upgrade(cluster, load, previous_binary, binary)
        upgrade.step("gateway", "old")
        mixtures = {upgrade.mixture()}
        first, second = cluster.metadata[:2]
        for role, release in WALK:
            if role == "metadata":
                # A leader of either release with followers of the other, and back before it counts.
                upgrade.put(first, "new")
                upgrade.lead(first)
                told = cluster.ask("metadata", "status", name=first.name)
                assert f"Feature level: {old_level}" in told, told
                assert new_level == old_level or f"; {new_level} once nodes " in told, told
                upgrade.lead(second)
                upgrade.put(first, "old")
                upgrade.put(first, "new")
            upgrade.step(role, release)
            mixtures.add(upgrade.mixture())
            assert cluster.metadata[0] is first
            if upgrade.mixture() != (False, False, False):
                assert levels_in_use(cluster) == {old_level}, "switched on too early"
        # All but the storage nodes are new; with the last of these, the level rises by itself.
        *others, last = cluster.storage_nodes
        for process in others:
            upgrade.put(process, "new")
            assert levels_in_use(cluster) == {old_level}, "switched on too early"
        upgrade.put(last, "new")
        mixtures.add(upgrade.mixture())
        assert len(mixtures) == 2 ** len(ROLES)
        wait_until(
            lambda: levels_in_use(cluster) == {new_level}, 20,
            lambda: f"the level has risen to {new_level}: {levels_in_use(cluster)}",
        )
        load.wait_for(OPERATIONS)
    assert set(registered_levels(cluster).values()) == {new_level}
    assert f"Feature level: {new_level}\n" in cluster.ask("metadata", "status")
    # Replicas that took turns at two releases have the same tables (I-11).
    cluster.ask("metadata", "check")


def test_the_release_before_does_not_come_back_to_what_it_does_not_know(
    new_cluster, binary, previous_binary
):
    cluster = new_cluster(gateways=2)
    (new_level,) = levels_in_use(cluster)
    gateway = cluster.gateways[1]
    assert gateway.stop() == 0, gateway.tail()
    cluster.install(gateway.name, previous_binary)
    gateway.launch()
    refused = "the cluster doesn't take this node"
    wait_until(lambda: refused in gateway.tail(), 30, "the old release is refused")
    assert f"the cluster uses level {new_level} by now" in gateway.tail()
    assert levels_in_use(cluster) == {new_level}
    # With its own release it is welcome again.
    gateway.stop()
    cluster.install(gateway.name, binary)
    gateway.start()
    cluster.wait_healthy()
