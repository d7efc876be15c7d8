"""Metadata replicas come, go and are made anew while clients go on."""

import json
import shutil

import pytest

from lab.cluster import REPLICA_IS_WELL, CommandFailed
from lab.process import wait_until


def check(cluster):
    """`admin metadata check`: all replicas are proven identical at one index, and their tables whole."""
    report = json.loads(cluster.ask("metadata", "check", "--json"))
    assert report["ok"], report
    assert all(replica["identical"] and not replica["problems"] for replica in report["replicas"]), report
    return report["replicas"]


def replica_of(cluster, process):
    """The id of the replica that a process keeps; None where it keeps none."""
    node = cluster.node_id(process.name)
    replicas = cluster.status()["metadata"]["replicas"]
    return next((r["replica"] for r in replicas if r["node"] == node), None)


def wait_for_replica(cluster, process, other_than=None, votes=False):
    """Waits until a process keeps a replica that is well."""
    def there():
        node = cluster.node_id(process.name)
        for replica in cluster.status()["metadata"]["replicas"]:
            if replica["node"] == node and replica["state"] in REPLICA_IS_WELL:
                if replica["replica"] != other_than and (replica["votes"] or not votes):
                    return replica["replica"]
        return None

    return wait_until(there, 60, lambda: f"{process} keeps a replica: {cluster.status()['metadata']}")


def test_a_wiped_disk_comes_back_under_a_new_id(new_cluster, drill):
    cluster = new_cluster(metadata=3)
    with drill(cluster) as load:
        victim = cluster.followers()[0]
        old = replica_of(cluster, victim)
        victim.kill()
        for directory in cluster.data("metadata", victim.name):
            shutil.rmtree(directory)
        load.wait_for(40)
        victim.start()
        new = wait_for_replica(cluster, victim, other_than=old, votes=True)
        assert new != old
        assert old not in [r["replica"] for r in cluster.status()["metadata"]["replicas"]]
    check(cluster)


def test_replicas_are_added_moved_to_and_removed_under_load(new_cluster, drill):
    cluster = new_cluster(metadata=3)
    with drill(cluster) as load:
        cluster.let_in([("metadata", "m4")])
        add(cluster, "m4")
        wait_for_replica(cluster, cluster.processes["m4"])
        load.wait_for(30)
        check(cluster)
        # Of four nodes three vote; the new one does once another is gone.
        gone = next(p for p in cluster.followers() if p.name != "m4")
        cluster.ask("metadata", "remove", "--replica", replica_of(cluster, gone))
        wait_until(lambda: replica_of(cluster, gone) is None, 30, "the replica is gone")
        wait_for_replica(cluster, cluster.processes["m4"], votes=True)
        cluster.ask("metadata", "transfer", "--node", cluster.node_id("m4"))
        wait_until(lambda: cluster.leader().name == "m4", 20, "m4 leads")
        load.wait_for(30)
        # A process without a replica isn't needed any more.
        gone.stop()
        del cluster.processes[gone.name]
        load.wait_for(30)
    check(cluster)


def add(cluster, name):
    """Has a node keep a replica, unless it got one by itself already."""
    if replica_of(cluster, cluster.processes[name]) is None:
        try:
            cluster.ask("metadata", "add", "--node", cluster.node_id(name))
        except CommandFailed:
            if replica_of(cluster, cluster.processes[name]) is None:
                raise


@pytest.mark.long
def test_check_finds_all_replicas_identical_under_load(new_cluster, drill):
    cluster = new_cluster(metadata=3)
    with drill(cluster) as load:
        for _ in range(5):
            assert len(check(cluster)) == 3
            load.wait_for(20)
        status = json.loads(cluster.ask("metadata", "status", "--json"))
        assert len(status["replicas"]) == 3
