"""The health of a running server: a disk is lost, its code is told everywhere, muted, and gone when the disk is back."""

import json
import subprocess
import time

import pytest

from harness.content import pattern
from harness.sdk import connect, read

GREEN, YELLOW, RED, UNKNOWN = 0, 1, 2, 3

# This machine's own file system may be so full, which is no fault of the test.
OF_THE_MACHINE = {"DISK_NEARFULL"}

SECONDS_MAX = 60


class Operator:
    """Types commands."""

    def __init__(self, binary, server):
        self.binary, self.server = binary, server

    def run(self, *words):
        command = [self.binary, "admin", "--endpoint", self.server.admin, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def health(self):
        """The status of the command, the document, and the codes that the machine isn't to blame for."""
        done = self.run("health", "--json")
        document = json.loads(done.stdout)
        codes = {reason["code"] for reason in document["reasons"]} - OF_THE_MACHINE
        return done.returncode, document, codes

    def wait_for(self, wanted, what):
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            status, document, codes = self.health()
            if wanted(codes):
                return status, document, codes
            assert time.monotonic() < deadline, f"{what}: {status} {document}"
            time.sleep(0.2)

    def mute_all(self):
        """Mutes whatever is told until nothing is heard any more; returns the codes."""
        muted = set()
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            status, document, codes = self.health()
            if status == GREEN:
                return muted
            assert time.monotonic() < deadline, document
            for code in codes - muted:
                done = self.run("health", "mute", code, "--for", "2h")
                assert done.returncode == 0, done
            muted |= codes

    def metrics(self):
        """The value of each health metric by its code."""
        lines = self.server.admin_get("/metrics")[1].decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("drystone_health"))
        return {name: float(value) for name, value in pairs}


def lose(directory):
    """Takes a directory away from the server that uses it; it notices by itself."""
    away = directory.with_name(f"{directory.name}-away")
    directory.rename(away)
    return away


@pytest.fixture
def operator(binary, new_server):
    operator = Operator(binary, new_server())
    operator.run("health", "mute", "DISK_NEARFULL", "--for", "1h")
    return operator


def test_a_lost_disk_is_told_muted_and_forgotten(operator):
    server = operator.server
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="health")
    body = pattern(3_000_000, "health")
    s3.put_object(Bucket="health", Key="k", Body=body)
    status, document, _ = operator.wait_for(lambda codes: not codes, "all is well")
    assert (status, document["status"], document["ready"]) == (GREEN, "green", True)
    assert document["margin"]["more_disks"] == 2
    assert document["margin"]["more_metadata_replicas"] == 2

    away = lose(server.directories[3])
    assert read(s3, "health", "k") == body
    gone = {"DISK_DOWN", "STRIPE_DEGRADED"}
    status, document, _ = operator.wait_for(lambda codes: codes >= gone, "the disk is down")
    assert (status, document["status"], document["ready"]) == (YELLOW, "yellow", True)
    assert document["margin"]["more_disks"] == 1
    told = {reason["code"] for reason in json.loads(server.ready()[1])["reasons"]}
    assert gone <= told
    assert gone <= {reason["code"] for reason in server.status()["reasons"]}
    metrics = operator.metrics()
    assert metrics["drystone_health_status"] == 1
    assert metrics['drystone_health{code="DISK_DOWN"}'] == 1
    assert metrics['drystone_health{code="DATA_UNREADABLE"}'] == 0
    table = operator.run("status").stdout
    assert "\nHealth     yellow; 1 more disk may fail" in table and "(DISK_DOWN)" in table
    assert operator.run("explain", "DISK_DOWN").stdout.startswith("DISK_DOWN: yellow")

    # A metadata replica is made anew meanwhile, so other codes come and go.
    muted = operator.mute_all()
    assert gone <= muted
    document = operator.health()[1]
    assert all(reason["muted_until"] for reason in document["reasons"] if reason["code"] in muted)
    metrics = operator.metrics()
    assert metrics["drystone_health_status"] == 0
    assert metrics['drystone_health_muted{code="DISK_DOWN"}'] == 1
    for code in muted:
        assert operator.run("health", "unmute", code).returncode == 0
    assert operator.health()[0] == YELLOW

    server.kill()
    away.rename(server.directories[3])
    server.start()
    status, document, _ = operator.wait_for(lambda codes: not codes, "the disk is back")
    assert (status, document["margin"]["more_disks"]) == (GREEN, 2)
    assert operator.metrics()['drystone_health{code="DISK_DOWN"}'] == 0
    assert read(connect(server.endpoint), "health", "k") == body


def test_three_lost_disks_are_red_and_nothing_is_known_of_a_server_that_is_off(operator):
    server = operator.server
    metadata = server.status()["metadata"]
    keepers = [str(replica["disk"]) for replica in metadata["replicas"]]
    # One that keeps no metadata, and two of five replicas: a majority is left.
    spare = [directory for directory in server.directories if str(directory) not in keepers]
    followers = [one for one in server.directories if str(one) in keepers and str(one) != metadata["leader_disk"]]
    for directory in [*spare[:1], *followers[:2]]:
        lose(directory)
    wanted = {"DATA_UNREADABLE"}
    status, document, _ = operator.wait_for(lambda codes: codes >= wanted, "three disks are gone")
    assert (status, document["status"], document["ready"]) == (RED, "red", False)
    assert operator.run("health", "mute", "DATA_UNREADABLE", "--for", "2h").returncode == 0
    assert operator.health()[0] == RED
    assert server.ready()[0] == 503
    server.kill()
    done = operator.run("health")
    assert done.returncode == UNKNOWN and "no server answers" in done.stderr
