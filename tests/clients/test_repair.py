"""Bit rot and lost shards are found by scrub and made good by repair, in a running server.

Bytes of segment files are flipped, or shards deleted, on some disks; `drystone admin scrub` finds
every one of them; when the repair queue is empty, every shard verifies, and objects read back with
any two *other* disks gone.
"""

import json
import random
import shutil
import subprocess
import time

import pytest

from harness.content import MIB, pattern
from harness.sdk import connect, read

pytestmark = pytest.mark.slow

# Inline copies, short stripes, whole stripes, several stripes.
SIZES = [1, 100, 4096, 20_000, 70_000, 300_001, MIB, 4 * MIB + 77, 9 * MIB + 5]

# The head of a segment file names the disk and isn't a shard; a segment whose head is gone is
# refused as a whole.
SEGMENT_HEAD_BYTES = 4096

REPAIR_SECONDS_MAX = 180

# Shards are counted: none but the test's may come meanwhile.
QUIET = ("--backup-interval-seconds", "0")


def fill(s3, seed, rounds):
    """Puts objects of all sizes and returns what they should be."""
    objects = {}
    s3.create_bucket(Bucket="repair")
    for number in range(rounds):
        for size in SIZES:
            key = f"{number}/{size}"
            objects[key] = pattern(size, f"{seed}/{key}")
            s3.put_object(Bucket="repair", Key=key, Body=objects[key])
    return objects


def check(s3, objects):
    """Every object is what was put."""
    for key, body in objects.items():
        assert read(s3, "repair", key) == body, key


def flip(directory, seed, flips):
    """Flips single bits where something was written; returns how many."""
    chance = random.Random(f"{seed}/{directory}")
    places = []
    for path in sorted((directory / "shards").rglob("seg-*.dss")):
        written = len(path.read_bytes().rstrip(b"\0"))
        if written > SEGMENT_HEAD_BYTES:
            places.append((path, written))
    assert places, f"no segment in {directory}"
    for _ in range(flips):
        path, written = chance.choice(places)
        at = chance.randrange(SEGMENT_HEAD_BYTES, written)
        with open(path, "r+b", buffering=0) as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return flips


def scrub(server, *scope):
    """Runs `drystone admin scrub … --json`; its exit status and its last document."""
    command = [str(server.binary), "admin", "--endpoint", server.admin, "scrub", *scope, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 2), f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def wait_for_repair(server):
    """Until nothing waits for repair and no disk knows of damage."""
    deadline = time.monotonic() + REPAIR_SECONDS_MAX
    while True:
        status = server.status()
        damaged = [disk["damaged_shards"] for disk in status["disks"]]
        if status["repair_queue"] == 0 and not any(damaged):
            return status
        told = f"{status['repair_queue']} {status['repair']} {damaged} {status['reasons']}"
        assert time.monotonic() < deadline, f"{told}\n{server.tail()}"
        time.sleep(0.2)


def assert_all_sound(server):
    """Scrub finds every shard whole, by the metadata and disk by disk; how many there are."""
    status, found = scrub(server, "all")
    assert status == 0, f"{found}\n{server.tail()}"
    assert (found["damaged"], found["missing"], found["unreached"]) == (0, 0, 0), found
    by_disk = 0
    for disk in server.status()["disks"]:
        status, on_disk = scrub(server, "disk", str(disk["id"]))
        assert status == 0, on_disk
        by_disk += on_disk["sound"]
    assert by_disk == found["sound"], (by_disk, found)
    return found["sound"]


def without(server, lost, objects):
    """Stops the server, removes two directories, and reads everything from what is left."""
    assert server.stop() == 0
    for number in lost:
        shutil.rmtree(server.directories[number])
    server.start()
    check(connect(server.endpoint), objects)


@pytest.mark.parametrize("rotten,lost", [((0, 3), (1, 5)), ((2, 4), (0, 3))])
def test_rot_is_found_and_made_good(new_server, seed, rotten, lost):
    server = new_server(arguments=QUIET)
    s3 = connect(server.endpoint)
    objects = fill(s3, seed, 3)
    shards = assert_all_sound(server)
    for number in rotten:
        flip(server.directories[number], seed, 60)
    status, found = scrub(server, "all")
    # What a disk finds by itself may be repaired before it is asked.
    repaired = server.status()["repair"]["shards"]
    assert found["damaged"] + found["missing"] + repaired > 0, found
    assert found["sound"] + found["damaged"] + found["missing"] == shards, found
    assert status == (2 if found["damaged"] + found["missing"] else 0)
    after = wait_for_repair(server)
    assert after["repair"]["shards"] > 0 and after["repair"]["waiting"] == 0
    assert assert_all_sound(server) == shards
    check(s3, objects)
    without(server, lost, objects)


def test_rot_on_a_stopped_server_is_found(new_server, seed):
    server = new_server(arguments=QUIET)
    objects = fill(connect(server.endpoint), seed, 2)
    shards = assert_all_sound(server)
    assert server.stop() == 0
    flip(server.directories[1], seed, 40)
    server.start()
    scrub(server, "all")
    wait_for_repair(server)
    assert assert_all_sound(server) == shards
    without(server, (0, 4), objects)


def test_a_bucket_and_an_object_are_scrubbed_alone(new_server, seed):
    server = new_server(arguments=QUIET)
    s3 = connect(server.endpoint)
    fill(s3, seed, 1)
    s3.create_bucket(Bucket="other")
    s3.put_object(Bucket="other", Key="a/b c", Body=b"x" * 100)
    status, found = scrub(server, "object", "other/a/b c")
    assert (status, found["sound"], found["done"], found["total"]) == (0, 3, 1, 1)
    status, found = scrub(server, "bucket", "repair")
    assert (status, found["done"], found["unit"]) == (0, len(SIZES), "objects")
    command = [str(server.binary), "admin", "--endpoint", server.admin, "scrub"]
    for wrong in (["object", "other/none"], ["bucket", "none"], ["disk", "99"], ["pg", "99999"]):
        done = subprocess.run([*command, *wrong], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "failed" in done.stderr, done
    begun = subprocess.run(
        [*command, "all", "--rate", "1K", "--no-wait"], capture_output=True, text=True, timeout=60
    )
    assert begun.returncode == 0
    stopped = subprocess.run([*command, "stop", begun.stdout.strip()], timeout=60)
    assert stopped.returncode == 0
    shown = subprocess.run([*command[:-1], "status"], capture_output=True, text=True, timeout=60)
    assert shown.stdout.count("Scrub of disk ") == 6 and "DAMAGED" in shown.stdout


def test_a_disk_without_its_shards_is_filled_again(new_server, seed):
    server = new_server(arguments=QUIET)
    objects = fill(connect(server.endpoint), seed, 1)
    shards = assert_all_sound(server)
    held = next(disk["shards"] for disk in server.status()["disks"] if disk["path"].endswith("disk2"))
    assert server.stop() == 0
    shutil.rmtree(server.directories[2] / "shards")
    server.start()
    status, found = scrub(server, "all")
    assert (status, found["missing"], found["damaged"]) == (2, held, 0), found
    assert found["sound"] == shards - held
    wait_for_repair(server)
    assert assert_all_sound(server) == shards
    without(server, (0, 5), objects)
