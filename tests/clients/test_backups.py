"""Backups that a server takes of its metadata by itself, and what the disks alone bring back."""

import json
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from harness.content import MIB, pattern
from harness.sdk import connect, read
from harness.server import ACCESS_KEY, SECRET_KEY

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


def targets(server):
    """What the server says of the targets of its backups, by name."""
    return {target["target"]: target for target in server.status()["metadata"]["backups"]}


def log_of(server):
    """All that it has said."""
    return server.log.read_text(errors="replace")


def remote_arguments(endpoint, secret_file):
    """Backups every second, to a bucket of another server as well."""
    return [
        "--backup-interval-seconds", "1", "--backup-keep", "2",
        "--backup-endpoint", endpoint, "--backup-bucket", "offsite", "--backup-prefix", "of/",
        "--backup-access-key", ACCESS_KEY, "--backup-secret-key-file", str(secret_file),
    ]


def test_backups_go_to_another_store_as_well(new_server, tmp_path):
    other = new_server("other")
    offsite = connect(other.endpoint)
    offsite.create_bucket(Bucket="offsite")
    secret = tmp_path / "secret"
    secret.write_text(SECRET_KEY + "\n")
    server = new_server(arguments=remote_arguments(other.endpoint, secret))
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="mine")
    s3.put_object(Bucket="mine", Key="key", Body=b"body")

    def kept():
        return [found["Key"] for found in offsite.list_objects_v2(Bucket="offsite").get("Contents", [])]

    first = wait_until(kept, "a backup elsewhere")
    cluster = server.status()["cluster"]
    assert first[0].startswith(f"of/{cluster}/metadata-")
    wait_until(lambda: len(kept()) == 2 and first[0] not in kept(), "the first is replaced")

    def taken():
        """A backup that wasn't replaced before it was read."""
        try:
            return offsite.get_object(Bucket="offsite", Key=kept()[-1])["Body"].read()
        except ClientError:
            return None

    file = tmp_path / "fetched"
    file.write_bytes(wait_until(taken, "a backup is fetched"))
    verified = admin(server, "verify-backup", file)
    assert verified.returncode == 0, verified.stderr
    wait_until(lambda: backups(s3), "a backup in the store itself")
    found = targets(server)
    assert found["remote"]["newest"] and found["remote"]["taken_by"] == "this", found
    assert found["remote"]["place"] == f"{other.endpoint}/offsite/of/{cluster}/"
    shown = admin(server, "status")
    assert shown.returncode == 0 and found["remote"]["place"] in shown.stdout, shown.stdout
    metrics = server.admin_get("/metrics")[1].decode()
    for name in ["backup_taken_seconds", "backup_bytes_total"]:
        for target in ["cluster", "remote"]:
            assert f'drystone_metadata_{name}{{target="{target}"}}' in metrics

    # Such a backup is all that a restore needs. Until what is held is released none is removed.
    before = s3.get_object(Bucket="mine", Key="key")["Body"].read()
    assert server.stop() == 0
    from_before = kept()
    directories = [str(path) for path in server.directories]
    restored = admin(server, "restore", "--replace", str(file), *directories)
    assert restored.returncode == 0, restored.stdout + restored.stderr
    server._launch().wait(SECONDS_MAX)
    s3 = connect(server.endpoint)
    wait_until(lambda: server.status()["held"], "something is held")
    assert wait_until(lambda: body_of(s3, "mine", "key"), "the object is back") == before
    wait_until(lambda: len(kept()) >= 5 and len(backups(s3)) >= 4, "backups are taken and none removed")
    assert set(from_before) <= set(kept())
    released = admin(server, "release-held", "--yes")
    assert released.returncode == 0, released.stderr
    wait_until(lambda: len(kept()) == 2 and len(backups(s3)) == 2, "the older ones are removed")

    # The other store is gone: that is told, and is not in the way of the backups in the store itself.
    assert other.stop() == 0
    wait_until(lambda: targets(server)["remote"]["error"], "the failure is told")
    assert "no connection" in targets(server)["remote"]["error"]
    # That in the store itself may be late for a moment, too, on a slow machine.
    late = f"The newest backup of the metadata in {other.endpoint}/offsite"
    wait_until(lambda: late in server.ready()[1].decode(), "it is late")
    assert server.ready()[0] == 200 and b"BACKUP_LATE" in server.ready()[1]
    last = backups(s3)[-1]
    wait_until(lambda: backups(s3)[-1] > last, "the store itself gets its backups")
    assert SECRET_KEY not in log_of(server) and SECRET_KEY not in log_of(other)
    assert server.stop() == 0


def body_of(s3, bucket, key):
    """The body of an object; `None` while it can't be read."""
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError:
        return None


def test_a_wrong_key_for_the_other_store_is_told_and_harms_nothing(new_server, tmp_path):
    other = new_server("other")
    connect(other.endpoint).create_bucket(Bucket="offsite")
    canary = "canary-6f1e-of-the-secret-key"
    secret = tmp_path / "secret"
    secret.write_text(canary)
    arguments = remote_arguments(other.endpoint, secret)
    server = new_server(arguments=arguments)
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="mine")
    wait_until(lambda: targets(server)["remote"]["error"], "the failure is told")
    remote = targets(server)["remote"]
    assert "SignatureDoesNotMatch" in remote["error"] and "backup_secret_key" in remote["error"]
    assert remote["newest"] is None and remote["failures"] >= 1
    first = wait_until(lambda: backups(s3), "a backup in the store itself")
    wait_until(lambda: first[-1] not in backups(s3), "more of them")
    assert targets(server)["cluster"]["error"] is None
    shown = admin(server, "status").stdout
    assert "The last backup to remote failed" in shown
    log = log_of(server)
    assert "SignatureDoesNotMatch" in log
    config = subprocess.run(
        [str(server.binary), "config", "show", "--origin", "server", *arguments],
        capture_output=True, text=True, timeout=SECONDS_MAX, cwd=server.home,
    )
    assert config.returncode == 0 and "backup_access_key" in config.stdout, config.stderr
    given = dict(line.split(" = ", 1) for line in config.stdout.splitlines() if line.startswith("backup_"))
    assert given["backup_access_key"].startswith('"***"')
    told = [log, log_of(other), shown, config.stdout, config.stderr]
    told += [server.admin_get(path)[1].decode() for path in ["/metrics", "/status", "/health/ready"]]
    assert not any("canary" in text for text in told)
    assert server.stop() == 0


def test_backups_are_taken_every_so_often_and_are_in_nobodys_way(new_server, tmp_path):
    server = new_server(arguments=["--backup-interval-seconds", "1", "--backup-keep", "2"])
    s3 = connect(server.endpoint)
    wait_until(lambda: "backup" in server.status()["process"]["jobs"], "it is the one to take backups")
    # Nothing is taken of a store that nobody has used yet.
    wait_until(lambda: targets(server)["cluster"]["taken_by"] == "nobody", "it has looked for buckets")
    assert backups(s3) == []
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
    # Jobs are taken one after the other; when the last are there, that of backups would be, too.
    others = {"collect", "repair", "reconcile", "move", "recode"}
    wait_until(lambda: others <= set(server.status()["process"]["jobs"]), "it does its jobs")
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

    assert server.ready()[0] == 200 and b"META_HELD" in server.ready()[1]
    kept = admin(server, "release-held")
    assert kept.returncode == 1 and "Give --yes" in kept.stdout, kept.stderr
    assert server.status()["held"]["groups_adopted"]
    released = admin(server, "release-held", "--yes")
    assert released.returncode == 0, released.stderr
    assert server.status()["held"] is None and b"META_HELD" not in server.ready()[1]
    assert seen(s3) == before
    assert server.stop() == 0
