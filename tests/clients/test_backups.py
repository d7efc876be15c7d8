"""Backups that a server takes of its metadata by itself, and what the disks alone bring back."""

import json
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from harness.content import MIB, pattern
from harness.sdk import connect, read

BACKUPS = "drystone-metadata-backups"
SECONDS_MAX = 60

# Inline copies, stripes, an object without a byte.
SIZES = [0, 1, 4096, 70_000, MIB, 9 * MIB + 5]


def wait_until(true, what):
    """Waits until something is true and returns it."""
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not in time: {what}")


def admin(server, *words):
    """Runs `drystone admin metadata …`."""
    endpoint = ["--endpoint", server.admin] if server.admin else []
    command = [str(server.binary), "admin", *endpoint, "metadata", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, cwd=server.home)


def backups(s3):
    """The names of the backups that there are."""
    try:
        return [found["Key"] for found in s3.list_objects_v2(Bucket=BACKUPS).get("Contents", [])]
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchBucket"
        return []


def test_backups_are_taken_every_so_often_and_are_in_nobodys_way(new_server, tmp_path):
    server = new_server(arguments=["--backup-interval-seconds", "1", "--backup-keep", "2"])
    s3 = connect(server.endpoint)
    wait_until(lambda: "backup" in server.status()["process"]["jobs"], "it is the one to take backups")
    # Two rounds at least: nothing is taken of a store that nobody has used yet.
    time.sleep(3)
    assert server.status()["usage"]["buckets"] == 0
    s3.create_bucket(Bucket="mine")
    s3.put_object(Bucket="mine", Key="key", Body=b"body")
    first = wait_until(lambda: backups(s3), "a backup")
    wait_until(lambda: len(backups(s3)) == 2 and first[0] not in backups(s3), "the first is replaced")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["mine"]

    def taken():
        """A backup that wasn't replaced before it was read."""
        try:
            return s3.get_object(Bucket=BACKUPS, Key=backups(s3)[-1])["Body"].read()
        except ClientError:
            return None

    file = tmp_path / "backup"
    file.write_bytes(wait_until(taken, "a backup is read"))
    verified = admin(server, "verify-backup", file)
    assert verified.returncode == 0, verified.stderr
    for forbidden in [
        lambda: s3.put_object(Bucket=BACKUPS, Key="mine", Body=b"x"),
        lambda: s3.delete_object(Bucket=BACKUPS, Key=backups(s3)[-1]),
        lambda: s3.delete_bucket(Bucket=BACKUPS),
    ]:
        with pytest.raises(ClientError) as refused:
            forbidden()
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    assert server.stop() == 0


def test_without_an_interval_none_are_taken(new_server):
    server = new_server(arguments=["--backup-interval-seconds", "0"])
    connect(server.endpoint).create_bucket(Bucket="mine")
    wait_until(lambda: server.status()["process"]["jobs"], "it does its jobs")
    assert "backup" not in server.status()["process"]["jobs"]


def fill(s3, seed):
    """Objects of all kinds, by name: body, type, user metadata, entity tag."""
    s3.create_bucket(Bucket="kept")
    bodies = {str(size): pattern(size, f"{seed}/{size}") for size in SIZES}
    for key, body in bodies.items():
        s3.put_object(Bucket="kept", Key=key, Body=body, ContentType="text/x", Metadata={"of": key})
    parts = [pattern(5 * MIB, f"{seed}/p1"), pattern(77, f"{seed}/p2")]
    upload = s3.create_multipart_upload(
        Bucket="kept", Key="parts", ContentType="text/x", Metadata={"of": "parts"}
    )["UploadId"]
    where = {"Bucket": "kept", "Key": "parts", "UploadId": upload}
    tags = [
        {"PartNumber": number, "ETag": s3.upload_part(**where, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": tags})
    s3.copy_object(Bucket="kept", Key="copy", CopySource="kept/70000")
    return seen(s3)


def seen(s3):
    """What a client sees of all objects."""
    found = {}
    for entry in s3.list_objects_v2(Bucket="kept")["Contents"]:
        head = s3.head_object(Bucket="kept", Key=entry["Key"])
        body = read(s3, "kept", entry["Key"])
        found[entry["Key"]] = (body, head["ContentType"], head["Metadata"], head["ETag"])
    return found


def test_the_disks_alone_bring_everything_back(new_server, seed):
    server = new_server()
    before = fill(connect(server.endpoint), seed)
    assert len(before) == len(SIZES) + 2
    nothing = admin(server, "recover", "--from-shards")
    assert nothing.returncode == 1 and "nothing is held" in nothing.stderr, nothing.stderr
    nothing = admin(server, "release-held", "--yes")
    assert nothing.returncode == 0 and "Nothing is held" in nothing.stdout, nothing.stderr
    assert server.stop() == 0

    directories = [str(path) for path in server.directories]
    refused = admin(server, "begin-recovery", *directories)
    assert refused.returncode == 1 and "--replace" in refused.stderr, refused.stderr
    begun = admin(server, "begin-recovery", "--replace", *directories)
    assert begun.returncode == 0, begun.stderr
    # It isn't ready before its placement groups are found again.
    server._launch().wait(SECONDS_MAX)
    s3 = connect(server.endpoint)
    held = wait_until(lambda: server.status()["held"], "something is held")
    assert held["from_shards"] and not held["groups_adopted"]
    assert s3.list_buckets()["Buckets"] == []

    explained = admin(server, "recover")
    assert explained.returncode == 1 and "Give --from-shards to begin" in explained.stdout
    missing = admin(server, "recover", "--status")
    assert missing.returncode == 1 and "No recovery was begun" in missing.stderr
    untold = admin(server, "recover", "--from-shards")
    assert untold.returncode == 1 and "--disks" in untold.stdout + untold.stderr
    count = str(len(directories))
    done = admin(server, "recover", "--from-shards", "--disks", count, "--rate", "1G")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all that was found is recovered" in done.stdout
    assert seen(s3) == before
    report = admin(server, "recover", "--status", "--json")
    report = json.loads(report.stdout)
    assert (report["state"], report["adopted"], report["problems"]) == ("done", len(before), [])
    again = admin(server, "recover", "--from-shards", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["adopted"] == 0

    assert server.ready()[0] == 200 and b"metadata_held" in server.ready()[1]
    kept = admin(server, "release-held")
    assert kept.returncode == 1 and "Give --yes" in kept.stdout, kept.stderr
    assert server.status()["held"]["groups_adopted"]
    released = admin(server, "release-held", "--yes")
    assert released.returncode == 0, released.stderr
    assert server.status()["held"] is None and b"metadata_held" not in server.ready()[1]
    assert seen(s3) == before
    assert server.stop() == 0
