"""Full disks: a store is filled until it takes nothing any more and emptied by deletes, again and again.

The directories are small file systems in memory. What was acknowledged is there at the brim, after a
kill -9 at the brim, and after others were deleted; the space of what was deleted comes back by deletes
alone, all of it, every time. `DRYSTONE_CLUSTER_LONG=1` asks for 50 cycles in place of 5.
"""

import hashlib
import os
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from harness.content import MIB
from harness.sdk import connect, list_keys
from harness.server import Server
from test_repair import assert_all_sound, wait_for_repair

pytestmark = pytest.mark.slow

CYCLES = 50 if os.environ.get("DRYSTONE_CLUSTER_LONG") == "1" else 2
DISKS = 6
DISK_BYTES = 176 * MIB
# The smallest comes last: the store is full when it refuses even that.
SIZES = [4 * MIB + 77, MIB, 300_001, 70_000, 4096, 1]
WEIGHTS = [6, 6, 6, 3, 2, 1]
WRITERS = READERS = 4
# A disk says that it is full some seconds after it began to be; meanwhile writes try others.
REFUSALS_IN_A_ROW = 4
RECOVERY_SECONDS_MAX = 90
# The segment that isn't finished waits with what garbage it has: three quarters of the reserve at most.
GARBAGE_BYTES_MAX = 48 * MIB
# By how much the space that is free after a cycle may differ from that after the first: the metadata's
# logs and snapshots come and go.
LEFT_BYTES_MAX = 16 * MIB
BUCKET = "brim"


@pytest.fixture
def small_server(binary, tmp_path):
    """A server on small file systems, which are unmounted after the test."""
    server = Server(
        binary, tmp_path / "small", DISKS,
        ("--garbage-delay-seconds", "0", "--recoverable-seconds", "0", "--backup-interval-seconds", "0"),
    )
    mounted = []
    try:
        for directory in server.directories:
            directory.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "drystone-test", directory],
                capture_output=True, text=True,
            )
            if done.returncode:
                pytest.skip(f"no file systems of a test's own are permitted here ({done.stderr.strip()})")
            mounted.append(directory)
        yield server.start()
    finally:
        server.kill()
        for directory in mounted:
            subprocess.run(["umount", "-l", directory], check=False)


class Store:
    """What the store acknowledged, and a client that doesn't retry."""

    def __init__(self, server, seed):
        self.server, self.seed = server, seed
        self.lock = threading.Lock()
        # Key -> sum of its body; and what is there or not, as nobody said which.
        self.there, self.unsure = {}, set()
        self.numbers = 0
        self.reconnect()

    def reconnect(self):
        """Clients know the server's port, which is another after each start."""
        options = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 60}
        self.s3 = connect(self.server.endpoint, **options)

    def put(self, size, chance):
        """Writes one object; whether the store took it. Another answer than yes or no is an error."""
        with self.lock:
            self.numbers += 1
            key = f"{self.numbers:06}/{size}"
        body = chance.randbytes(size)
        try:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response["Error"]["Code"]
            assert status in (503, 507), f"{key}: {status} {code} {error}"
            with self.lock:
                self.unsure.add(key)
            return False
        with self.lock:
            self.there[key] = hashlib.sha256(body).digest()
        return True

    def is_full(self):
        """Whether every disk is told to be full."""
        return all(disk["state"] == "full" for disk in self.server.status()["disks"])

    def fill(self, turn):
        """Writes objects of all sizes until even the smallest is refused again and again; the errors
        of the writers, which are none."""
        errors = []

        def write(number):
            chance = random.Random(f"{self.seed}/{turn}/{number}")
            refused, largest = 0, 0
            try:
                while largest < len(SIZES):
                    sizes = SIZES[largest:]
                    size = chance.choices(sizes, WEIGHTS[largest:])[0]
                    if self.put(size, chance):
                        refused = 0
                        continue
                    refused += 1
                    # Where every disk says so, nothing will have changed by then.
                    time.sleep(0.05 if self.is_full() else 0.2)
                    if refused >= REFUSALS_IN_A_ROW:
                        # What is smaller may still fit.
                        refused, largest = 0, largest + 1
            except Exception as error:  # Raised where the test can show it.
                errors.append(f"{type(error).__name__}: {error}")

        writers = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(600)
            assert not writer.is_alive(), f"a write hangs\n{self.server.tail()}"
        assert not errors, f"{errors[:3]}\n{self.server.tail()}"

    def delete(self, keys):
        """Deletes objects by the thousand; a full store does that, too."""
        for start in range(0, len(keys), 1000):
            entries = [{"Key": key} for key in keys[start : start + 1000]]
            answer = self.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": entries, "Quiet": True})
            assert not answer.get("Errors"), answer["Errors"][:3]
        for key in keys:
            self.there.pop(key, None)
            self.unsure.discard(key)

    def check(self):
        """Everything acknowledged is there as it was written, and nothing else but what is unsure."""
        listed = set(list_keys(self.s3, BUCKET))
        assert set(self.there) <= listed, f"lost: {sorted(set(self.there) - listed)[:5]}"
        assert listed <= set(self.there) | self.unsure

        def read(key):
            body = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            assert hashlib.sha256(body).digest() == self.there[key], key

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(read, sorted(self.there)))
        return listed


def wait_for_space(server, live_bytes_max):
    """Until every disk takes writes, has no more live bytes than that, and no garbage but in its
    unfinished segment; the seconds that it took, and how much is free or will be used again, at least."""
    began = time.monotonic()
    while True:
        status = server.status()
        keys = "state", "live_bytes", "garbage_bytes", "free_bytes"
        disks = [tuple(disk[key] for key in keys) for disk in status["disks"]]
        if status["garbage_extents"] == 0 and all(
            state == "up" and live <= live_bytes_max and garbage <= GARBAGE_BYTES_MAX
            for state, live, garbage, _ in disks
        ):
            return time.monotonic() - began, min(sum(disk[1:]) for disk in disks)
        told = f"{disks}, {status['garbage_extents']} extents of garbage, {status['reasons']}"
        waited = time.monotonic() - began
        assert waited < RECOVERY_SECONDS_MAX, f"no space after deletes: {told}\n{server.tail()}"
        time.sleep(0.2)


def test_the_brim_again_and_again(small_server, seed):
    server, store = small_server, Store(small_server, seed)
    # Full disks have groups made as can be, which moves would put right. What those leave behind of objects
    # that are deleted meanwhile stays for a day, and here all space and every shard is counted.
    command = [server.binary, "admin", "--endpoint", server.admin, "moves", "pause"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    store.s3.create_bucket(Bucket=BUCKET)
    chance = random.Random(seed)
    usable_at_first = None
    for turn in range(CYCLES):
        began = time.monotonic()
        store.fill(turn)
        filled = time.monotonic() - began
        free = [disk["free_bytes"] for disk in server.status()["disks"]]
        if turn % 3 == 1:
            # Power fails at the brim, too.
            server.kill()
            server.start()
            store.reconnect()
        listed = store.check()
        assert listed, "nothing was written"
        # Some turns leave a part of it, which has to outlive what comes.
        keep = set(chance.sample(sorted(listed), len(listed) // 3)) if turn % 2 else set()
        held = sum(int(key.rpartition("/")[2]) for key in keep)
        store.delete(sorted(listed - keep))
        # Data and parity of what stays, unevenly spread, of wide and of narrow stripes.
        seconds, usable = wait_for_space(server, held * 3 // DISKS + MIB)
        usable_at_first = usable_at_first or usable
        assert usable >= usable_at_first - LEFT_BYTES_MAX, f"{usable} of {usable_at_first} bytes are left"
        store.check()
        print(
            f"cycle {turn}: {len(listed)} objects in {filled:.1f} s, {min(free) / MIB:.0f} to "
            f"{max(free) / MIB:.0f} MiB free at the brim, {len(keep)} kept, space back after {seconds:.1f} s"
        )
    wait_for_repair(server)
    assert_all_sound(server)
    assert server.stop() == 0
