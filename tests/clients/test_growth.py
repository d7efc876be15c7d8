"""Disks come and go by an operator's word: a seventh directory gets its share, a drained one is emptied, one
is given up and taken back, and every object can be read throughout.
"""

import json
import subprocess
import threading
import time

import pytest

from harness.content import pattern
from harness.sdk import connect, read

pytestmark = pytest.mark.slow

SECONDS_MAX = 120
OBJECTS = 200


def admin(server, *words, status=0):
    """Runs `drystone admin …`; what it prints."""
    command = [str(server.binary), "admin", "--endpoint", server.admin, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, f"{command}: {done}\n{server.tail()}"
    return done.stdout + done.stderr


def document(server, *words, status=0):
    """The same, as JSON."""
    return json.loads(admin(server, *words, "--json", status=status))


def disks(server):
    """The disks by the names of their directories."""
    return {disk["path"].rsplit("/", 1)[1]: disk for disk in document(server, "disk", "list")}


def settled(server):
    """Waits until nothing moves, is to move or waits for repair."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        moves = document(server, "moves", "status")
        queue = server.status()["repair_queue"]
        if not moves["under_way"] and moves["wanted"]["all"]["slots"] == 0 and queue == 0:
            return moves
        assert time.monotonic() < deadline, f"{moves} {queue}\n{server.tail()}"
        time.sleep(0.2)


class Reader:
    """Reads all objects again and again while something goes on."""

    def __init__(self, endpoint, objects):
        self.s3 = connect(endpoint)
        self.objects = objects
        self.rounds = 0
        self.wrong = []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self._read)

    def _read(self):
        while not self.ends.is_set():
            for key, body in self.objects.items():
                try:
                    if read(self.s3, "growth", key) != body:
                        self.wrong.append(f"{key} is another")
                except Exception as error:  # Whatever it is, the object could not be read.
                    self.wrong.append(f"{key}: {error}")
            self.rounds += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()
        assert self.rounds > 0 and not self.wrong, self.wrong[:5]


def filled(server, seed):
    """Puts objects of some sizes; what they should be."""
    # The groups are made when the first six disks are there; the seventh gets its share by moves, and what
    # those leave behind would be in the way of others for ten minutes.
    settled(server)
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="growth")
    objects = {}
    for number in range(OBJECTS):
        body = pattern([100, 5000, 70_000, 300_001][number % 4], f"{seed}/{number}")
        objects[str(number)] = body
        s3.put_object(Bucket="growth", Key=str(number), Body=body)
    # What a plan says of bytes is what disks have reported, which they do each second or so.
    size = sum(len(body) for body in objects.values())
    deadline = time.monotonic() + SECONDS_MAX
    while sum(disk["live_bytes"] or 0 for disk in document(server, "status")["disks"]) < size:
        assert time.monotonic() < deadline, server.tail()
        time.sleep(0.1)
    return objects


def all_read(server, objects):
    """Every object is what was put."""
    s3 = connect(server.endpoint)
    for key, body in objects.items():
        assert read(s3, "growth", key) == body, key


def test_a_seventh_directory_gets_its_share(new_server, seed):
    server = new_server()
    objects = filled(server, seed)
    # Six disks of six: no slot has anywhere to go.
    plan = admin(server, "disk", "drain", "1", "--plan")
    assert "can't leave it for now" in plan and "nothing was changed" in plan, plan
    assert not any(disk["standing"]["draining"] for disk in disks(server).values())

    assert server.stop() == 0
    server.directories.append(server.home / "disk6")
    server.start()
    with Reader(server.endpoint, objects):
        moved = settled(server)
    assert moved["done"]["slots"] > 0 and moved["done"]["bytes"] > 0, moved
    slots = {name: disk["standing"]["slots"] for name, disk in disks(server).items()}
    mean = sum(slots.values()) / 7
    assert all(abs(count - mean) <= max(2, 0.1 * mean) for count in slots.values()), slots
    all_read(server, objects)

    # Wishes are kept over a restart.
    admin(server, "moves", "pause")
    admin(server, "upkeep", "set", "--out-after", "15m", "--rate", "8M")
    assert server.stop() == 0
    server.start()
    shown = document(server, "upkeep", "show")
    assert (shown["is_paused"], shown["out_after"]["seconds"]) == (True, 900), shown
    assert shown["bytes_per_second"] == 8 << 20
    assert "Paused" in admin(server, "moves", "status")
    assert "paused by an operator" in admin(server, "status")
    admin(server, "moves", "resume")
    admin(server, "moves", "rate", "default")
    shown = document(server, "upkeep", "show")
    assert (shown["is_paused"], shown["bytes_per_second"]) == (False, None), shown


def test_a_drained_disk_is_emptied_under_the_eyes_of_its_readers(new_server, seed):
    server = new_server(directories=7)
    objects = filled(server, seed)
    victim = disks(server)["disk2"]
    number, slots = str(victim["id"]), victim["standing"]["slots"]

    # A plan tells what would come of a change, and changes nothing.
    before = document(server, "status")["map_epoch"]
    planned = document(server, "disk", "drain", number, "--plan")
    assert planned["plan"]["moves"]["drain"]["slots"] == slots > 0, planned
    assert planned["plan"]["moves"]["drain"]["bytes"] > 0, planned
    stuck = [warning for warning in planned["plan"]["warnings"] if "can't leave" in warning]
    assert stuck == [] and planned["changed"] is False, planned
    for words in (["disk", "out", number], ["disk", "weigh", number, "1"], ["node", "drain", "1"]):
        text = admin(server, *words, "--plan")
        assert "nothing was changed" in text and "survives any 2 disks" in text, text
    assert document(server, "status")["map_epoch"] == before

    with Reader(server.endpoint, objects):
        assert f"Disk {number} is drained." in admin(server, "disk", "drain", number)
        moved = settled(server)
    assert moved["done"]["slots"] >= slots, moved
    shown = disks(server)["disk2"]
    assert (shown["standing"]["draining"], shown["standing"]["slots"]) == (True, 0), shown
    assert "up, drained" in admin(server, "status")
    metrics = server.admin_get("/metrics")[1].decode()
    assert f'drystone_disk_draining{{disk="{number}"}} 1' in metrics, metrics
    assert 'drystone_tolerance{unit="disk"} 2' in metrics, metrics

    # An empty disk is given up without more words; all is there without it.
    assert f"Disk {number} is out." in admin(server, "disk", "out", number)
    assert "out, drained, given up" in admin(server, "disk", "list")
    assert document(server, "status")["tolerance"]["reading"][0]["survives"] == 2
    all_read(server, objects)
    admin(server, "disk", "in", number)
    admin(server, "disk", "undrain", number)
    up_again(server, "disk2")


def up_again(server, name):
    """Waits until a disk that was taken back is up."""
    deadline = time.monotonic() + SECONDS_MAX
    while disks(server)[name]["state"] != "up":
        assert time.monotonic() < deadline, f"{disks(server)[name]}\n{server.tail()}"
        time.sleep(0.2)


def test_a_disk_that_is_given_up_is_rebuilt_elsewhere(new_server, seed):
    server = new_server(directories=7)
    objects = filled(server, seed)
    number = str(disks(server)["disk3"]["id"])
    refused = admin(server, "disk", "out", number, status=1)
    assert "give --yes" in refused and "Less may be lost than now until all has moved" in refused
    assert disks(server)["disk3"]["state"] == "up"
    with Reader(server.endpoint, objects):
        assert f"Disk {number} is out." in admin(server, "disk", "out", number, "--yes")
        settled(server)
    assert disks(server)["disk3"]["standing"]["slots"] == 0
    assert document(server, "status")["tolerance"]["reading"][0]["survives"] == 2

    # The whole store is one node.
    verdict = admin(server, "node", "ok-to-stop", "1", status=2)
    assert "must NOT be stopped" in verdict and "couldn't be read without it" in verdict, verdict
    assert server.admin_get("/nodes/1/ok-to-stop")[0] == 409
    assert "There is no node 9" in admin(server, "node", "ok-to-stop", "9", status=1)
    assert "There is no disk 99" in admin(server, "disk", "drain", "99", status=1)

    # It stays out over a restart, until it is taken back.
    assert server.stop() == 0
    server.start()
    assert disks(server)["disk3"]["state"] == "out"
    assert "taken back" in admin(server, "disk", "in", number)
    up_again(server, "disk3")
    all_read(server, objects)
