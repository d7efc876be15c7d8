"""What the tests of a cluster that heals itself ask of it, and what they work out from its answers.

Figures are sums over the processes that run; a process that ended takes its counters with it.
"""

import hashlib
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness.sdk import list_keys

from .cluster import CommandFailed
from .process import wait_until

GIB = 1 << 30
WRITERS = 8
# Looks in a row that have to agree: what moves next is decided every other second.
QUIET_LOOKS = 8
QUIET_PAUSE_SECONDS = 0.5
# Left-over copies are looked for every 15 s, and deleted after as long.
LEFT_ALONE_SECONDS = 30


class Crowd:
    """Many objects that are written once and have to be there ever after."""

    def __init__(self, cluster, bucket, count, sizes, seed):
        self.cluster, self.bucket, self.seed = cluster, bucket, seed
        chance = random.Random(f"{seed}/{bucket}")
        self.sizes = {f"{n:06}": chance.randrange(*sizes) for n in range(count)}

    def body(self, key):
        """The bytes of an object."""
        return random.Random(f"{self.seed}/{self.bucket}/{key}").randbytes(self.sizes[key])

    def bytes(self):
        """All of it, without parity."""
        return sum(self.sizes.values())

    def _in_parallel(self, work, keys):
        """Several clients, each with its share of the keys."""
        local = threading.local()

        def one(key):
            if not hasattr(local, "s3"):
                local.s3 = self.cluster.s3()
            work(local.s3, key)

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(one, keys))

    def write(self):
        """Puts every object."""
        self.cluster.s3().create_bucket(Bucket=self.bucket)
        put = lambda s3, key: s3.put_object(Bucket=self.bucket, Key=key, Body=self.body(key))
        self._in_parallel(put, self.sizes)
        return self

    def check(self, part=1.0):
        """Every object is listed, and this part of them, chosen at random, is read whole."""
        assert list_keys(self.cluster.s3(), self.bucket) == list(self.sizes)
        keys = list(self.sizes)
        keys = random.Random(time.monotonic_ns()).sample(keys, max(1, int(len(keys) * part)))

        def read(s3, key):
            body = s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            assert hashlib.sha256(body).digest() == hashlib.sha256(self.body(key)).digest(), key

        self._in_parallel(read, keys)


def status(cluster):
    """What a gateway that answers says of the cluster."""
    return wait_until(
        lambda: next((found for g in cluster.gateways if g.alive() and (found := g.status())), None),
        30, "a gateway answers",
    )


def total(cluster, name, *labels):
    """A counter or gauge, summed over processes and over all labels but those that are given."""
    return sum(
        value
        for process in cluster.processes.values() if process.alive()
        for sample, value in process.metrics().items()
        if sample.partition("{")[0] == name and all(label in sample for label in labels)
    )


def cpu_seconds(cluster):
    """Processor time of gateways and storage nodes."""
    return sum(process.cpu_seconds() for process in cluster.gateways + cluster.storage_nodes)


class Meter:
    """What moves cost, from its making on."""

    def __init__(self, cluster):
        self.cluster, self.before, self.began = cluster, self._now(cluster), time.monotonic()

    @staticmethod
    def _now(cluster):
        return {
            "bytes": total(cluster, "drystone_rebalance_bytes_total"),
            "lost": total(cluster, "drystone_rebalance_bytes_total", 'reason="lost"'),
            "slots": total(cluster, "drystone_moves_total", 'result="done"'),
            "cancelled": total(cluster, "drystone_moves_total", 'result="cancelled"'),
            "failures": total(cluster, "drystone_move_failures_total"),
            "commands": total(cluster, "drystone_metadata_proposals_total"),
            "cpu": cpu_seconds(cluster),
        }

    def read(self):
        """The differences, and the seconds that went by."""
        now = self._now(self.cluster)
        return {key: now[key] - self.before[key] for key in now} | {"seconds": time.monotonic() - self.began}


def tell(figures, minimum):
    """The figures of some moves, in words."""
    moved = figures["bytes"]
    per_gib = GIB / moved if moved else 0
    return (
        f"{moved / (1 << 20):.1f} MiB moved ({moved / minimum if minimum else 0:.3f} x the minimum) as "
        f"{figures['slots']:.0f} slots in {figures['seconds']:.1f} s, "
        f"{moved / (1 << 20) / figures['seconds']:.1f} MiB/s; "
        f"{figures['cpu'] * per_gib:.1f} s of processor and {figures['commands'] * per_gib:.0f} commands a GiB; "
        f"{figures['cancelled']:.0f} moves given up, {figures['failures']:.0f} failures"
    )


def is_whole(cluster, spare):
    """Whether everything has all of its shards on disks that are up: so many more may fail."""
    found = status(cluster)
    return found["repair_queue"] == 0 and found["fault_tolerance"]["more_disks"] == spare


def wait_whole(cluster, spare, seconds):
    """Waits for full redundancy, without a break: what is found lacking is queued within seconds."""
    return wait_until(lambda: _stays(lambda: is_whole(cluster, spare)), seconds, lambda: trouble(cluster))


def wait_settled(cluster, seconds):
    """Waits until nothing moves any more, nor wants to."""
    wait_until(lambda: _stays(lambda: not is_moving(cluster)), seconds, lambda: trouble(cluster))


def wait_clean(cluster, seconds):
    """Waits until disks hold nothing but what counts: no garbage, and as little as can be that moves
    left behind."""
    wait_until(lambda: status(cluster)["garbage_extents"] == 0, seconds, lambda: trouble(cluster))
    wait_least(lambda: total(cluster, "drystone_stray_groups"))


def wait_least(count):
    """Waits until a count doesn't change any more; what it is then. A copy of a deleted object that a
    move left behind stays until its writer's session has ended, which takes a day."""
    least, since = count(), time.monotonic()
    while time.monotonic() < since + LEFT_ALONE_SECONDS:
        time.sleep(QUIET_PAUSE_SECONDS)
        now = count()
        if now != least:
            least, since = now, time.monotonic()
    return least


def _stays(condition):
    """Whether it holds for some seconds."""
    for look in range(QUIET_LOOKS):
        if look:
            time.sleep(QUIET_PAUSE_SECONDS)
        if not condition():
            return False
    return True


def is_moving(cluster):
    """Whether a slot is on its way, or waits to be."""
    moves = json.loads(order(cluster, "moves", "status", "--json"))
    return moves["under_way"] != [] or moves["wanted"]["all"]["slots"] > 0


def _gateway(cluster):
    return next(gateway.name for gateway in cluster.gateways if gateway.alive() and not gateway.paused)


def order(cluster, *words):
    """Has a gateway carry out an order of the operator."""
    return cluster.ask(*words, name=_gateway(cluster))


def trouble(cluster):
    """What there is to say when something doesn't come about."""
    found = status(cluster)
    disks = [(d["id"], d["state"], d["shards"], d["live_bytes"]) for d in found["disks"]]
    try:
        moves = order(cluster, "moves", "status", "--json")
    except CommandFailed as failed:
        moves = str(failed)
    told = {key: found[key] for key in ("placement_groups", "fault_tolerance", "repair_queue", "repair", "reasons")}
    return f"{told}; disks {disks}; moves {moves}"


def scrub_all(cluster):
    """Every shard that the metadata knows of is verified on its disk; how many there are."""
    name = _gateway(cluster)
    words = "admin", "--endpoint", cluster.admin(name), "scrub", "all", "--json"
    done = cluster.run(name, *words, seconds=900)
    assert done.returncode in (0, 2), f"{done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    bad = found["damaged"], found["missing"], found["unreached"]
    assert bad == (0, 0, 0), f"{found}; {trouble(cluster)}"
    return found["sound"]


def disks_of(cluster, *names):
    """The disks of hosts, as the status tells of them."""
    nodes = {cluster.node_id(name) for name in names}
    return [disk for disk in status(cluster)["disks"] if disk["node"] in nodes]


def imbalance(cluster):
    """By how much the fullest and the emptiest disk are off the mean of all that take data, which
    must be of one size; disks that are empty as they should be don't count."""
    held = [disk["live_bytes"] for disk in status(cluster)["disks"] if disk["state"] == "up"]
    held = [live for live in held if live]
    mean = sum(held) / len(held)
    return max(abs(live - mean) / mean for live in held)
