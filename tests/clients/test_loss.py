"""Any two of six directories are lost while the server runs, and nobody notices.

Lost means deleted, or overwritten with noise where they are. With a third one gone, what cannot be
read is refused cleanly, and the health says why.
"""

import itertools
import json
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError

from harness.content import MIB
from harness.sdk import connect
from harness.traffic import Ledger, Traffic, body_of, fetch, verify

pytestmark = pytest.mark.slow
PAIRS = list(itertools.combinations(range(6), 2))


def delete(directory, seed):
    """rm -rf, against a server that may be making files at the same time."""
    for _ in range(10):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return


def overwrite(directory, seed):
    """Writes noise over every byte of every file, in place."""
    noise = random.Random(f"{seed}/{directory}").randbytes(MIB)
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                with open(os.path.join(folder, name), "r+b", buffering=0) as file:
                    left = os.fstat(file.fileno()).st_size
                    while left > 0:
                        left -= file.write(noise[: min(left, MIB)])
            except FileNotFoundError:
                pass  # The server removed it meanwhile.


HURT = {"deleted": delete, "overwritten": overwrite}


class Cluster:
    """A server with traffic on it."""

    def __init__(self, server, seed):
        self.server = server
        self.s3 = connect(server.endpoint)
        self.s3.create_bucket(Bucket="loss")
        self.ledger = Ledger()
        self.seed = seed
        for number, size in enumerate([0, 100, 4096, 70_000, MIB, 9 * MIB + 5]):
            state = size, f"{seed}/{number}"
            self.ledger.begin(f"before/{number}", state)
            self.s3.put_object(Bucket="loss", Key=f"before/{number}", Body=body_of(state))
            self.ledger.settle(f"before/{number}", state)

    def lose(self, directories, how):
        """Loses directories under traffic; no request may fail before, meanwhile or after."""
        traffic = Traffic(self.s3, "loss", self.ledger, self.seed, writers=3, readers=2)
        try:
            traffic.wait_for(60)
            for directory in directories:
                HURT[how](self.server.directories[directory], self.seed)
                traffic.wait_for(20)
            traffic.wait_for(60)
        finally:
            traffic.stop()
        assert not traffic.errors, f"{len(traffic.errors)} requests failed: {traffic.errors[:5]}"

    def verify(self):
        """Every acknowledged object is whole."""
        assert verify(self.s3, "loss", self.ledger) > 10


def leader_directory(server):
    """Which directory the metadata leader's replica lies in."""
    leader = server.status()["metadata"]["leader_disk"]
    for number, directory in enumerate(server.directories):
        if str(leader) in (str(directory), directory.name, str(number)):
            return number
    identity = [disk for disk in server.status()["disks"] if leader in disk.values()]
    assert identity, f"no disk is {leader!r}"
    paths = [str(value) for value in identity[0].values()]
    return next(n for n, directory in enumerate(server.directories) if str(directory) in paths)


@pytest.mark.parametrize("pair", PAIRS, ids=[f"{a}and{b}" for a, b in PAIRS])
def test_any_two_of_six(new_server, seed, pair):
    how = ["deleted", "overwritten"][PAIRS.index(pair) % 2]
    cluster = Cluster(new_server(), f"{seed}/{pair}")
    cluster.lose(pair, how)
    cluster.verify()
    assert cluster.server.alive()


@pytest.mark.parametrize("how", list(HURT))
def test_the_leaders_disk_and_another(new_server, seed, how):
    cluster = Cluster(new_server(), f"{seed}/leader")
    leader = leader_directory(cluster.server)
    cluster.lose([leader, (leader + 1) % 6], how)
    cluster.verify()
    # A replica whose disk holds noise may lead on as long as it gives out nothing that it did not
    # verify; one without a disk cannot.
    if how == "deleted":
        assert leader_directory(cluster.server) not in (leader, (leader + 1) % 6)


@pytest.mark.parametrize("how", list(HURT))
def test_a_restart_after_the_loss(new_server, seed, how):
    cluster = Cluster(new_server(), f"{seed}/restart")
    cluster.lose([1, 4], how)
    assert cluster.server.stop() == 0
    cluster.server.start()
    cluster.s3 = connect(cluster.server.endpoint)
    cluster.verify()


def test_one_after_the_other_with_a_restart_between(new_server, seed):
    cluster = Cluster(new_server(), f"{seed}/between")
    cluster.lose([0], "deleted")
    cluster.server.kill()
    cluster.server.start()
    cluster.s3 = connect(cluster.server.endpoint)
    cluster.verify()
    cluster.lose([3], "overwritten")
    cluster.verify()


def is_told(server, how):
    """Whether /health/ready says what was lost. Directories that hold noise still take what is
    written from now on, so that they are a reason to worry, but not to refuse."""
    status, body = server.ready()
    reasons = {reason["code"]: reason["message"] for reason in json.loads(body)["reasons"]}
    if how == "deleted":
        return status == 503 and "DATA_UNREADABLE" in reasons
    return reasons.get("DISK_DAMAGED", "").count("damaged regions") == 3


@pytest.mark.parametrize("how", list(HURT))
def test_a_third_loss_is_told(new_server, seed, how):
    cluster = Cluster(new_server(), f"{seed}/third")
    cluster.lose([0, 2], how)
    # The one without a metadata replica: what is left of those has a majority.
    HURT[how](cluster.server.directories[5], seed)
    patient = connect(cluster.server.endpoint, retries={"total_max_attempts": 1}, read_timeout=60)
    deadline = time.monotonic() + 60
    while not is_told(cluster.server, how):
        assert time.monotonic() < deadline, f"not told: {cluster.server.ready()}"
        # Reads are what makes a server look at its disks.
        read_or_refuse(patient, cluster.ledger, "before/5")
        time.sleep(0.1)

    keys = cluster.ledger.known()
    with ThreadPoolExecutor(4) as pool:
        refusals = list(pool.map(lambda key: read_or_refuse(patient, cluster.ledger, key), keys))
    assert any(refusals), "every object was read with three of six shards gone"
    assert cluster.server.alive()
    assert cluster.server.admin_get("/health/live")[0] == 200


def read_or_refuse(s3, ledger, key):
    """True when the read was refused as S3 does it; wrong bytes and other errors fail the test."""
    try:
        body = fetch(s3, "loss", key)
    except ClientError as error:
        answer = error.response
        assert answer["ResponseMetadata"]["HTTPStatusCode"] in (500, 503), answer
        assert answer["Error"]["Code"] in ("InternalError", "ServiceUnavailable", "SlowDown"), answer
        return True
    except (OSError, ResponseStreamingError):
        # The loss showed after the answer began, since repair had made good the first stripe:
        # the connection ended, as it must.
        return True
    assert body == body_of(ledger.acknowledged[key]), f"{key} came back with wrong bytes"
    return False
