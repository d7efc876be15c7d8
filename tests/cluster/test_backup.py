"""Every metadata replica is lost: a backup brings the cluster back, or the disks alone do."""

import shutil

from harness.content import MIB, pattern
from lab.process import wait_until
from lab.secrets import secrets_of
from test_replicas import check

SIZES = [0, 1, 100, 4096, 20_000, 70_000, 300_001, MIB, 5 * MIB + 77]


def describe(s3, bucket, key):
    """Everything that a client can see of an object."""
    found = s3.get_object(Bucket=bucket, Key=key)
    names = ("ETag", "ContentType", "ContentLength", "Metadata", "CacheControl")
    return {name: found.get(name) for name in names} | {"Body": found["Body"].read()}


def write(s3, bucket, prefix, seed):
    """Puts objects of all sizes, with metadata, some in parts, and returns their descriptions."""
    for number, size in enumerate(SIZES):
        s3.put_object(
            Bucket=bucket, Key=f"{prefix}/{size}", Body=pattern(size, f"{seed}/{prefix}"),
            ContentType="text/stone", CacheControl=f"max-age={number}", Metadata={"number": str(number)},
        )
    where = {"Bucket": bucket, "Key": f"{prefix}/parts"}
    where["UploadId"] = s3.create_multipart_upload(**where, Metadata={"kind": "parts"})["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**where, PartNumber=n, Body=pattern(size, seed))["ETag"]}
        for n, size in enumerate([5 * MIB, 5 * MIB, 70_000], 1)
    ]
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    keys = [f"{prefix}/{size}" for size in SIZES] + [f"{prefix}/parts"]
    return {key: describe(s3, bucket, key) for key in keys}


def compare(s3, bucket, objects):
    """Every object is as it was, and listed."""
    listed = {entry["Key"]: entry for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}
    for key, expected in objects.items():
        assert key in listed, f"{key} is not listed any more"
        assert listed[key]["ETag"] == expected["ETag"]
        assert describe(s3, bucket, key) == expected, key


def lose_all_metadata(cluster):
    """Every process is killed, and the disks of the metadata are wiped."""
    for process in cluster.processes.values():
        process.kill()
    for process in cluster.metadata:
        for directory in cluster.data("metadata", process.name):
            shutil.rmtree(directory)


def restore(cluster, *words):
    """Makes metadata on the first metadata host, where nothing runs, from a backup or from nothing."""
    words = [*words, "--host-directory", cluster.host_directory("m1"), *cluster.data("metadata", "m1")]
    return cluster.run("m1", "admin", "metadata", *words)


def launch(cluster):
    """Starts everything that doesn't run, the new metadata first, and waits until all disks are up."""
    cluster.processes["m1"].start()
    for process in cluster.processes.values():
        if not process.alive():
            process.launch()

    def disks():
        return [disk for disk in cluster.status()["disks"] if disk["state"] == "up"]

    wait_until(lambda: len(disks()) == len(cluster.storage_nodes), 60, "all disks are up")


def recover(cluster):
    """Has what the disks hold, and the metadata doesn't know, adopted."""
    said = []

    def recovered():
        # A node that has just started is asked again, as an operator would.
        done = cluster.run(
            "g1", "admin", "--endpoint", cluster.admin("g1"), "metadata", "recover", "--from-shards",
            "--disks", str(len(cluster.storage_nodes)),
        )
        said.append(f"{done.returncode}: {done.stdout}{done.stderr}")
        return done.returncode == 0

    wait_until(recovered, 30, lambda: said[-1])
    return said[-1]


def fill_and_back_up(cluster, drill, seed, file):
    """Objects that a backup covers, taken under load, and objects that are newer than it."""
    s3 = cluster.s3()
    s3.create_bucket(Bucket="kept")
    old = write(s3, "kept", "old", seed)
    with drill(cluster, "-backup") as load:
        cluster.ask("metadata", "backup", file)
        load.wait_for(20)
    return old, write(s3, "kept", "new", seed)


def spoilt(content):
    """A backup with every kind of damage."""
    middle = len(content) // 2
    yield content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
    yield from (content[:middle], content[:-1], content + b"x", b"")


def test_a_backup_taken_under_load_and_the_disks_bring_everything_back(new_cluster, drill, seed, tmp_path):
    cluster, file, bad = new_cluster(metadata=3), tmp_path / "backup", tmp_path / "bad"
    old, new = fill_and_back_up(cluster, drill, seed, file)
    shown = [what for what, secret in secrets_of(cluster).items() if secret.encode() in file.read_bytes()]
    assert not shown, f"the backup holds {shown} in clear"
    for process in cluster.metadata:
        process.kill()
    done = restore(cluster, "restore", file)
    assert done.returncode != 0 and "--replace" in done.stderr, done.stderr
    lose_all_metadata(cluster)
    for content in spoilt(file.read_bytes()):
        bad.write_bytes(content)
        assert cluster.run("m1", "admin", "metadata", "verify-backup", bad).returncode != 0
        done = restore(cluster, "restore", bad)
        assert done.returncode != 0 and "backup" in done.stderr, done.stderr
    done = restore(cluster, "restore", file)
    assert done.returncode == 0, done.stderr
    launch(cluster)
    cluster.wait_healthy()
    compare(cluster.s3(), "kept", old)
    # What is newer than the backup was held, and is found again by what its shards say of themselves.
    recover(cluster)
    compare(cluster.s3(), "kept", old | new)
    with drill(cluster, "-after"):
        pass
    compare(cluster.s3(), "kept", old | new)
    check(cluster)


def test_the_disks_alone_bring_everything_back(new_cluster, drill, seed):
    cluster = new_cluster(metadata=3)
    s3 = cluster.s3()
    s3.create_bucket(Bucket="kept")
    objects = write(s3, "kept", "a", seed)
    s3.put_object(Bucket="kept", Key="gone", Body=b"gone" * 30_000)
    s3.delete_object(Bucket="kept", Key="gone")
    lose_all_metadata(cluster)
    done = restore(cluster, "begin-recovery", "--coding", "2+1")
    assert done.returncode == 0, done.stderr
    launch(cluster)
    print(recover(cluster))
    cluster.wait_healthy()
    compare(cluster.s3(), "kept", objects)
    with drill(cluster, "-after"):
        pass
    check(cluster)
