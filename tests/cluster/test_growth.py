"""A `drystone server` becomes the first host of a cluster, and its metadata moves to other hosts."""

from lab.process import wait_until
from test_replicas import add, check, replica_of, wait_for_replica


def segments(cluster, name):
    """Which files hold the shards of a server: name, inode, and when their content changed."""
    files = [f for directory in cluster.data("server", name) for f in directory.rglob("seg-*")]
    assert files
    return {str(file): file.stat().st_ino for file in files}


def test_a_server_grows_into_a_cluster(new_cluster, drill):
    cluster = new_cluster(start=False, metadata=0, storage=0, gateways=0)
    server = cluster.start_alone("big")
    with drill(cluster, "-alone"):
        pass
    s3 = cluster.s3()
    s3.create_bucket(Bucket="before")
    bodies = {f"{size}": bytes([size % 251]) * size for size in (0, 10, 5000, 70_000, 6_000_000)}
    for key, body in bodies.items():
        s3.put_object(Bucket="before", Key=key, Body=body)
    assert server.stop() == 0
    before = segments(cluster, "big")
    cluster.grow("big")
    cluster.wait_healthy()
    after = segments(cluster, "big")
    assert before.items() <= after.items(), "segments were copied"

    def whole():
        for key, body in bodies.items():
            assert cluster.s3().get_object(Bucket="before", Key=key)["Body"].read() == body, key

    whole()
    with drill(cluster, "-grown") as load:
        names = ["m1", "m2", "m3"]
        token = cluster.token("--roles", "metadata", "--uses", "3", name="big")
        for name in names:
            cluster.add_host(name)
            cluster.join("metadata", name, token)
            cluster.process("metadata", name).start()
        for name in names:
            add(cluster, name)
            wait_for_replica(cluster, cluster.processes[name])
            load.wait_for(20)
        cluster.ask("metadata", "transfer", "--node", cluster.node_id("m1"))
        wait_until(lambda: cluster.leader().name == "m1", 20, "m1 leads")
        big = cluster.processes["big"]
        while (replica := replica_of(cluster, big)) is not None:
            cluster.ask("metadata", "remove", "--replica", replica)
            wait_until(lambda: replica_of(cluster, big) != replica, 30, "the replica is gone")
            load.wait_for(10)
        check(cluster)
    whole()
    # The metadata is elsewhere now: the server restarts without a replica of its own.
    assert cluster.processes["big"].stop() == 0
    cluster.processes["big"].start()
    cluster.wait_healthy()
    whole()
