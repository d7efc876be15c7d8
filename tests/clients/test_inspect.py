"""What lacks redundancy, why, and where the shards of an object are: as an operator asks for it.

A disk loses its shards while the server is down, or a byte of one flips; `drystone admin repair status`,
`repair why` and `object inspect` say so, and say that all is well when repair is done.
"""

import json
import shutil
import subprocess
import time

from harness.content import MIB, pattern
from harness.sdk import connect

SECONDS_MAX = 60
ODD_KEY = "a b/ä//日本 %20?x&y#z"
BODIES = {"large": 33 * MIB + 5, "small": 5, ODD_KEY: 300_001}
SEGMENT_HEAD_BYTES = 4096
# Some bytes of a segment are nobody's: of several that are so far apart most are a shard's.
FLIPS, FLIP_PITCH_BYTES = 5, 100_000


def admin(server, *words, status=0):
    """Runs `drystone admin …`; what it printed."""
    command = [str(server.binary), "admin", "--endpoint", server.admin, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}{server.tail()}"
    return done.stdout if status != 1 else done.stderr


def admin_json(server, *words, status=0):
    """The same as a document."""
    return json.loads(admin(server, *words, "--json", status=status))


def fill(server):
    """Puts the objects."""
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="photos")
    for key, size in BODIES.items():
        s3.put_object(Bucket="photos", Key=key, Body=pattern(size, key))
    return s3


def states(server, key, *words, status=0):
    """The state of every slot that is used, with its disk's directory."""
    found = admin_json(server, "object", "inspect", f"photos/{key}", *words, status=status)
    slots = [slot for extent in found["extents"] for slot in extent["slots"]]
    return {(slot["disk"]["path"], slot["state"]) for slot in slots if slot["state"] != "unused"}


def test_all_is_well(new_server):
    server = new_server()
    fill(server)
    assert "nothing" in admin(server, "repair", "status")
    found = admin_json(server, "repair", "status")
    assert (found["extents"], found["exact"], found["by_spare"]) == (0, True, [])
    directories = {str(directory) for directory in server.directories}
    for key, size in BODIES.items():
        assert "lacks nothing" in admin(server, "repair", "why", f"photos/{key}")
        for how in ([], ["--verify"]):
            found = admin_json(server, "object", "inspect", f"photos/{key}", *how)
            assert (found["key"], found["size"], found["whole"]) == (key, size, True)
    assert {path for path, _ in states(server, "large")} == directories
    text = admin(server, "object", "inspect", "photos/large")
    assert "Every shard is where it belongs." in text and all(path in text for path in directories)
    for command in (["repair", "why"], ["object", "inspect"]):
        assert "There is no object none in the bucket photos." in admin(
            server, *command, "photos/none", status=1
        )
        assert "There is no bucket other." in admin(server, *command, "other/none", status=1)


def test_a_disk_that_lost_its_shards_is_told_of_until_it_has_them_again(new_server):
    server = new_server()
    fill(server)
    # Slowly, so that it can be watched: no extent is in danger.
    admin(server, "moves", "rate", "64K")
    assert server.stop() == 0
    shutil.rmtree(server.directories[2] / "shards")
    server.start()
    lost = str(server.directories[2])
    for how in ([], ["--verify"]):
        found = states(server, "large", *how, status=2)
        assert {path for path, state in found if state == "missing"} == {lost}, found
    assert lost in admin(server, "repair", "why", "photos/large", status=2)
    admin(server, "scrub", "all", status=2)
    found = admin_json(server, "repair", "status", status=2)
    assert found["exact"] and found["repairable"]["extents"] == found["extents"] > 0, found
    assert [spare["spare"] for spare in found["by_spare"]] == [1], found
    assert found["bytes_left"] > 0
    text = admin(server, "repair", "status", status=2)
    assert "1 shard to spare" in text and "Repairable" in text, text
    why = admin_json(server, "repair", "why", "photos/large", status=2)
    told = "\n".join(why["sentences"])
    assert why["lacking"] > 0 and lost in told and "gets them back" in told, told
    deadline = time.monotonic() + SECONDS_MAX
    while 'drystone_repair_outstanding_extents{spare="1"}' not in server.admin_get("/metrics")[1].decode():
        assert time.monotonic() < deadline, "no gauge"
        time.sleep(0.2)
    admin(server, "moves", "rate", "default")
    watched = admin(server, "repair", "status", "--watch")
    assert watched.rstrip().splitlines()[-1].startswith(("Outstanding  nothing", "Done")), watched
    assert {state for _, state in states(server, "large", "--verify")} == {"present"}
    assert "lacks nothing" in admin(server, "repair", "why", f"photos/{ODD_KEY}")


def test_flipped_bytes_are_found_by_verification_and_made_good(new_server):
    server = new_server()
    fill(server)
    segments = sorted((server.directories[1] / "shards").rglob("seg-*.dss"))
    path = max(segments, key=lambda segment: len(segment.read_bytes().rstrip(b"\0")))
    written = len(path.read_bytes().rstrip(b"\0"))
    assert written > SEGMENT_HEAD_BYTES + MIB
    with open(path, "r+b", buffering=0) as file:
        # In the middle of what is mostly the large object's.
        for place in range(FLIPS):
            at = written // 2 + place * FLIP_PITCH_BYTES
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    first = inspect(server, "large", "--verify")
    damaged = {
        slot["disk"]["path"]
        for extent in first["extents"]
        for slot in extent["slots"]
        if slot["state"] == "damaged"
    }
    assert damaged <= {str(server.directories[1])}, damaged
    # Unless it was repaired before it was asked: then its disk had found it by itself.
    assert damaged or "a shard is damaged" in server.log.read_text(), first
    deadline = time.monotonic() + SECONDS_MAX
    while not all(inspect(server, key, "--verify")["whole"] for key in BODIES):
        assert time.monotonic() < deadline, admin(server, "repair", "why", "photos/large", status=2)
        time.sleep(0.5)
    admin(server, "repair", "status", "--watch")


def inspect(server, key, *words):
    """What is said of an object's shards, whole or not."""
    command = [str(server.binary), "admin", "--endpoint", server.admin]
    command += ["object", "inspect", f"photos/{key}", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["whole"] else 2), done
    return found
