"""Networks that are cut: both ways, one way, and here and there a packet."""

import pytest

pytestmark = pytest.mark.usefixtures("faulty_network")


@pytest.fixture
def seconds(long):
    """How long a fault lasts."""
    return 20 if long else 4


def names(processes):
    """The hosts of processes."""
    return [process.name for process in processes]


def test_the_leader_is_cut_off_from_its_followers(cluster, drill, seconds):
    with drill(cluster) as load:
        leader, followers = cluster.leader(), cluster.followers()
        cluster.network.part([leader.name], names(followers))
        load.run_for(seconds)
        load.wait_for(40)
        cluster.network.heal()


@pytest.mark.long
def test_the_leaders_host_is_unplugged(cluster, drill, seconds):
    with drill(cluster) as load:
        cluster.network.unplug(cluster.leader().name)
        load.run_for(seconds)
        load.wait_for(40)
        cluster.network.heal()


def test_a_gateway_is_cut_off_from_the_leader(cluster, drill, seconds):
    with drill(cluster) as load:
        cluster.network.part([cluster.gateways[0].name], [cluster.leader().name])
        load.run_for(seconds)
        load.wait_for(40)
        cluster.network.heal()


@pytest.mark.long
def test_a_gateway_is_cut_off_from_a_storage_node(cluster, drill, seconds):
    # Everybody else reaches it, so that for the cluster its disk is up.
    with drill(cluster) as load:
        cluster.network.part([cluster.gateways[0].name], [cluster.storage_nodes[0].name])
        load.run_for(seconds)
        load.wait_for(40)
        cluster.network.heal()


@pytest.mark.parametrize("deaf", ["leader", pytest.param("followers", marks=pytest.mark.long)])
def test_one_way_loss_between_the_leader_and_its_followers(cluster, drill, seconds, deaf):
    with drill(cluster) as load:
        leader, followers = cluster.leader(), cluster.followers()
        for follower in followers:
            pair = (follower.name, leader.name) if deaf == "leader" else (leader.name, follower.name)
            cluster.network.drop(*pair)
        load.run_for(seconds)
        load.wait_for(40)
        cluster.network.heal()


def test_a_fifth_of_all_packets_is_lost(cluster, drill, seconds):
    # Everywhere at once: more than a single failure, so that requests may fail, but none wrongly.
    with drill(cluster, errors_max=None) as load:
        for process in cluster.processes.values():
            cluster.network.lose(process.name, 20)
        load.run_for(seconds)
        cluster.network.heal()
