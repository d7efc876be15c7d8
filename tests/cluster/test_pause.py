"""SIGSTOP: a process that answers nothing, but whose connections stay, and that wakes up in the past."""

import pytest


@pytest.fixture
def seconds(long):
    """How long a process stands still."""
    return 20 if long else 5


def test_the_metadata_leader_stands_still(cluster, drill, seconds):
    with drill(cluster) as load:
        leader = cluster.leader()
        leader.pause()
        load.run_for(seconds)
        leader.resume()


def test_a_storage_node_stands_still(cluster, drill, seconds):
    with drill(cluster) as load:
        cluster.storage_nodes[1].pause()
        load.run_for(seconds)
        cluster.storage_nodes[1].resume()


def test_a_gateway_stands_still(cluster, drill, seconds):
    with drill(cluster) as load:
        cluster.gateways[1].pause()
        load.run_for(seconds)
        cluster.gateways[1].resume()
