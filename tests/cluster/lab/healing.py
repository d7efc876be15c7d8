"""What the tests of a cluster that heals itself ask of it, and what they work out from its answers.

Figures are sums over the processes that run; a process that ended takes its counters with it. What
moves is judged by slots: bytes depend on chance, and on what is garbage at the time.
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
BEGIN_SECONDS_MAX = 60


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


# What a meter reads: a metric with the labels that its samples have to have.
METERED = {
    "bytes": ("drystone_rebalance_bytes_total",),
    "slots": ("drystone_moves_total", 'result="done"'),
    "lost": ("drystone_moves_total", 'result="done"', 'reason="lost"'),
    "drained": ("drystone_moves_total", 'result="done"', 'reason="drain"'),
    "cancelled": ("drystone_moves_total", 'result="cancelled"'),
    "failures": ("drystone_move_failures_total",),
    "commands": ("drystone_metadata_proposals_total",),
}


class Meter:
    """What moves cost, from its making on."""

    def __init__(self, cluster):
        self.cluster, self.before, self.began = cluster, self._now(cluster), time.monotonic()

    @staticmethod
    def _now(cluster):
        """What each run of a process tells of itself."""
        alive = [process for process in cluster.processes.values() if process.alive()]
        return {(process.name, process.began): told_by(process) for process in alive}

    def read(self):
        """The differences, and the seconds that went by. Who began meanwhile began at nothing."""
        now = self._now(self.cluster)
        sums = {
            key: sum(told[key] - self.before.get(run, {}).get(key, 0) for run, told in now.items())
            for key in [*METERED, "cpu"]
        }
        return sums | {"seconds": time.monotonic() - self.began}


def told_by(process):
    """What a process tells of itself: each counter is summed over all labels but those that are given."""
    samples = process.metrics()
    told = {
        key: sum(
            value for sample, value in samples.items()
            if sample.partition("{")[0] == name and all(label in sample for label in labels)
        )
        for key, (name, *labels) in METERED.items()
    }
    # Only those of gateways and storage nodes: the metadata's work is counted as commands.
    return told | {"cpu": 0 if process.role == "metadata" else process.cpu_seconds()}


def slots_of(disks):
    """How many slots of placement groups disks have."""
    return sum(disk["standing"]["slots"] for disk in disks)


def tell(figures, minimum):
    """The figures of some moves, in words; the minimum is in slots."""
    moved = figures["bytes"]
    per_gib = GIB / moved if moved else 0
    return (
        f"{moved / (1 << 20):.1f} MiB moved as {figures['slots']:.0f} slots "
        f"({figures['slots'] / minimum if minimum else 0:.3f} x the minimum) in {figures['seconds']:.1f} s, "
        f"{moved / (1 << 20) / figures['seconds']:.1f} MiB/s; "
        f"{figures['cpu'] * per_gib:.1f} s of processor and {figures['commands'] * per_gib:.0f} commands a GiB; "
        f"{figures['cancelled']:.0f} moves given up, {figures['failures']:.0f} failures"
    )


def is_whole(cluster, spare):
    """Whether everything has all of its shards on disks that are up: so many more may fail."""
    found = cluster.status()
    return found["repair_queue"] == 0 and found["fault_tolerance"]["more_disks"] == spare


def wait_whole(cluster, spare, seconds):
    """Waits for full redundancy, without a break: what is found lacking is queued within seconds."""
    return wait_until(lambda: _stays(lambda: is_whole(cluster, spare)), seconds, lambda: trouble(cluster))


def wait_settled(cluster, seconds):
    """Waits until nothing moves any more, nor wants to."""
    wait_until(lambda: _stays(lambda: not is_moving(cluster)), seconds, lambda: trouble(cluster))


def wait_begun(cluster, meter, what):
    """Waits until something moves, or has moved since the meter began: few slots are quick."""
    wait_until(
        lambda: is_moving(cluster) or meter.read()["slots"] > 0, BEGIN_SECONDS_MAX,
        lambda: f"{what}: {trouble(cluster)}",
    )


def wait_collected(cluster, seconds):
    """Waits until nothing deleted is on the disks any more, that moves could take for data."""
    wait_until(lambda: cluster.status()["garbage_extents"] == 0, seconds, lambda: trouble(cluster))


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
    found = cluster.status()
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
    return [disk for disk in cluster.status()["disks"] if disk["node"] in nodes]


def imbalance(cluster):
    """By how much the fullest and the emptiest disk are off the mean of all that take data, which
    must be of one size: by slots, which are dealt out, and by bytes, which come as they come."""
    disks = [disk for disk in cluster.status()["disks"] if disk["state"] == "up"]
    disks = [disk for disk in disks if not disk["standing"]["draining"]]

    def off(held):
        mean = sum(held) / len(held)
        return max(abs(part - mean) / mean for part in held)

    return off([slots_of([disk]) for disk in disks]), off([disk["live_bytes"] for disk in disks])
