"""A network that is slow: every message between hosts takes 200 ms, and few bytes go at once."""

import pytest

DELAY_MS = 200
BYTES_PER_S = 2_000_000


@pytest.fixture
def slow_cluster(new_cluster):
    """A small cluster with a proxy before each internal listener."""
    return new_cluster(metadata=3, storage=3, gateways=1, slow=True)


def test_delay_and_little_bandwidth(slow_cluster, drill, long):
    cluster = slow_cluster
    with drill(cluster, errors_max=0) as load:
        leader, term = cluster.leader(), cluster.status()["metadata"]["term"]
        for proxy in cluster.proxies.values():
            proxy.shape(DELAY_MS, BYTES_PER_S)
        load.run_for(30 if long else 8)
        load.wait_for(20)
        # A slow network is no failure: nobody stands for election because of it.
        assert cluster.leader() is leader
        assert cluster.status()["metadata"]["term"] == term
        for proxy in cluster.proxies.values():
            proxy.shape()
