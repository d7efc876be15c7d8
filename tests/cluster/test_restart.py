"""Restarts: of all hosts at once without a warning, and of one after the other in order."""


def test_all_hosts_are_restarted_at_once(cluster, drill):
    with drill(cluster, errors_max=None) as load:
        for process in cluster.processes.values():
            process.kill()
        load.run_for(0.5)
        for process in cluster.processes.values():
            process.launch()
        for process in cluster.processes.values():
            process.wait_ready()


def test_a_rolling_restart_is_felt_by_nobody(cluster, drill):
    with drill(cluster) as load:
        for process in list(cluster.processes.values()):
            status = process.stop()
            assert status == 0, f"SIGTERM gave {process} status {status}\n{process.tail()}"
            process.start()
            cluster.wait_healthy()
            load.wait_for(10)


def test_a_planned_stop_of_the_leader_hands_over(cluster, drill):
    with drill(cluster) as load:
        leader = cluster.leader()
        before = len(load.history.operations)
        assert leader.stop() == 0
        load.wait_for(40)
        longest = max(o.seconds for o in load.history.operations[before:])
        assert longest < 2, f"a client waited {longest:.2f} s: leadership was not handed over"
        leader.start()


def test_the_first_read_after_a_restart_sees_every_write(cluster):
    # Nobody writes in between: nothing but the read itself makes the metadata look at what it has.
    s3, bucket = cluster.s3(), "first-read"
    s3.create_bucket(Bucket=bucket)
    for turn in range(3):
        bodies = {f"{turn}/{number}": f"{turn} {number}".encode() for number in range(20)}
        for key, body in bodies.items():
            s3.put_object(Bucket=bucket, Key=key, Body=body)
        for process in cluster.metadata:
            process.kill()
        for process in cluster.metadata:
            process.launch()
        for gateway in cluster.gateways:
            client = cluster.s3(gateway.endpoint)
            listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{turn}/")
            assert {entry["Key"] for entry in listed.get("Contents", [])} == set(bodies)
            for key, body in bodies.items():
                assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == body
