"""Hosts get new addresses: all of them at once, or the one on which lost metadata is restored."""

import pytest
from harness.content import pattern
from lab.cluster import CommandFailed
from lab.process import http_get, wait_until
from test_backup import compare, launch, lose_all_metadata, restore, write
from test_replicas import check


def readdress(cluster, name, *words):
    """Tells a host addresses; what it said."""
    return cluster.command(name, "cluster", "readdress", "--host-directory", cluster.host_directory(name), *words)


def addresses(cluster, names):
    """The words that tell of other nodes."""
    return [word for name in names for word in ("--node", f"{cluster.node_id(name)}={cluster.address(name)}")]


def renumber(cluster, names):
    """Stopped hosts get new addresses; the balancer finds the gateways."""
    cluster.renumber(names)
    cluster.balancer.stop()
    cluster.balance()


def test_all_hosts_get_new_addresses_at_once(new_cluster, drill, seed):
    cluster = new_cluster(metadata=3)
    s3 = cluster.s3()
    s3.create_bucket(Bucket="kept")
    objects = write(s3, "kept", "a", seed)
    with pytest.raises(CommandFailed, match="stopped"):
        readdress(cluster, "m1", "--address", cluster.address("m1"))
    for process in cluster.processes.values():
        assert process.stop() == 0
    old = {cluster.address(name) for name in cluster.processes}
    renumber(cluster, list(cluster.processes))
    keepers = [process.name for process in cluster.metadata]
    for name in cluster.processes:
        others = addresses(cluster, [other for other in keepers if other != name])
        readdress(cluster, name, "--address", cluster.address(name), *others)
    for bad, why in (("99=host:1", "no node 99"), ("1", "number and its address"), ("2=host", "host and port")):
        with pytest.raises(CommandFailed, match=why):
            readdress(cluster, "m1", "--node", bad)
    for process in cluster.processes.values():
        process.launch()
    for process in cluster.processes.values():
        process.wait_ready()
    cluster.wait_healthy()
    compare(cluster.s3(), "kept", objects)
    # Before long the cluster says itself where they are.
    new = {cluster.address(name) for name in cluster.processes}
    assert not new & old

    def nodes():
        return {node["address"] for node in cluster.status()["nodes"]}

    def told():
        return [name for name in cluster.processes if (cluster.host_directory(name) / "addresses.toml").exists()]

    wait_until(lambda: nodes() == new and not told(), 30, lambda: f"all is known: {nodes()}, {told()}")
    with drill(cluster, "-after"):
        pass
    check(cluster)


def test_hosts_get_new_addresses_one_after_the_other(new_cluster, drill):
    cluster = new_cluster(metadata=3)
    with drill(cluster) as load:
        for name in [cluster.leader().name, *(process.name for process in cluster.followers()), "s1"]:
            assert cluster.processes[name].stop() == 0
            cluster.renumber([name])
            # Nobody else is told.
            readdress(cluster, name, "--address", cluster.address(name))
            cluster.processes[name].start()
            cluster.wait_healthy()
            load.wait_for(10)
    check(cluster)


def test_metadata_is_restored_on_a_host_with_another_address(new_cluster, seed, tmp_path):
    cluster, file = new_cluster(metadata=3), tmp_path / "backup"
    s3 = cluster.s3()
    s3.create_bucket(Bucket="kept")
    objects = write(s3, "kept", "a", seed)
    cluster.ask("metadata", "backup", file)
    lose_all_metadata(cluster)
    # The host directory is what was kept of the first metadata node; the other two are gone for good.
    for name in ("m2", "m3"):
        del cluster.processes[name]
    renumber(cluster, ["m1"])
    readdress(cluster, "m1", "--address", cluster.address("m1"))
    for name in set(cluster.processes) - {"m1"}:
        said = readdress(cluster, name, *addresses(cluster, ["m1"]))
        assert f"Node 1 is called at {cluster.address('m1')}." in said, said
    done = restore(cluster, "restore", file)
    assert done.returncode == 0, done.stderr
    launch(cluster)
    wait_until(lambda: http_get(cluster.endpoint)[0] != 0, 30, "the balancer reaches a gateway")
    compare(cluster.s3(), "kept", objects)
    body = pattern(100_000, seed)
    cluster.s3().put_object(Bucket="kept", Key="later", Body=body)
    assert cluster.s3().get_object(Bucket="kept", Key="later")["Body"].read() == body
