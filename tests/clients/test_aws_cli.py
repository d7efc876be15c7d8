"""The aws command line: copies, multipart, syncs both ways, removal, presigned URLs."""

import urllib.request

from harness.content import MIB, file_sum, tree_sums, write_file, write_tree
from harness.sdk import list_keys


def test_cp_small_there_and_back(programs, bucket, scratch):
    for size in [0, 1, 5000]:
        expected = write_file(scratch / "up", size, size)
        programs.aws("s3", "cp", scratch / "up", f"s3://{bucket}/small/{size}")
        programs.aws("s3", "cp", f"s3://{bucket}/small/{size}", scratch / "down")
        assert file_sum(scratch / "down") == expected
    listed = programs.aws("s3", "ls", f"s3://{bucket}/small/").stdout
    assert [line.split()[-1] for line in listed.splitlines()] == ["0", "1", "5000"]


def test_cp_300_mb_in_parts(programs, s3, bucket, scratch):
    expected = write_file(scratch / "up", 300 * MIB + 123, "large")
    programs.aws("s3", "cp", scratch / "up", f"s3://{bucket}/large", "--no-progress")
    head = s3.head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == 300 * MIB + 123
    assert "-" in head["ETag"], "a multipart upload was expected"
    (scratch / "up").unlink()
    programs.aws("s3", "cp", f"s3://{bucket}/large", scratch / "down", "--no-progress")
    assert file_sum(scratch / "down") == expected


def test_cp_between_keys_keeps_bytes(programs, bucket, scratch):
    expected = write_file(scratch / "up", 20 * MIB, "copied")
    programs.aws("s3", "cp", scratch / "up", f"s3://{bucket}/a", "--metadata", "colour=grey")
    programs.aws("s3", "cp", f"s3://{bucket}/a", f"s3://{bucket}/b")
    programs.aws("s3", "mv", f"s3://{bucket}/b", f"s3://{bucket}/c")
    programs.aws("s3", "cp", f"s3://{bucket}/c", scratch / "down")
    assert file_sum(scratch / "down") == expected


def test_cp_from_and_to_a_pipe(programs, bucket, scratch):
    expected = write_file(scratch / "up", 9 * MIB, "piped")
    shell = f"aws --endpoint-url {programs.endpoint} s3 cp"
    programs.run("sh", "-c", f"cat {scratch}/up | {shell} - s3://{bucket}/piped")
    programs.run("sh", "-c", f"{shell} s3://{bucket}/piped - > {scratch}/down")
    assert file_sum(scratch / "down") == expected


def test_sync_both_ways_and_rm(programs, s3, bucket, scratch):
    sums = write_tree(scratch / "up")
    programs.aws("s3", "sync", scratch / "up", f"s3://{bucket}/tree", "--no-progress")
    assert set(list_keys(s3, bucket)) == {f"tree/{name}" for name in sums}
    programs.aws("s3", "sync", f"s3://{bucket}/tree", scratch / "down", "--no-progress")
    assert tree_sums(scratch / "down") == sums

    (scratch / "up" / "one byte").unlink()
    write_file(scratch / "up" / "many/007.dat", 1234, "changed")
    again = programs.aws("s3", "sync", scratch / "up", f"s3://{bucket}/tree", "--delete", "--no-progress")
    assert len(again.stdout.splitlines()) == 2, again.stdout
    programs.aws("s3", "sync", f"s3://{bucket}/tree", scratch / "down", "--delete", "--no-progress")
    assert tree_sums(scratch / "down") == tree_sums(scratch / "up")

    programs.aws("s3", "rm", f"s3://{bucket}/tree", "--recursive", "--only-show-errors")
    assert list_keys(s3, bucket) == []


def test_presign_and_plain_http(programs, bucket, scratch):
    # Left alone, this version signs URLs by Signature Version 2, which S3 has retired.
    programs.run("aws", "configure", "set", "default.s3.signature_version", "s3v4")
    write_file(scratch / "up", 70_000, "presigned")
    programs.aws("s3", "cp", scratch / "up", f"s3://{bucket}/a b/ü")
    url = programs.aws("s3", "presign", f"s3://{bucket}/a b/ü", "--expires-in", "60").stdout.strip()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == (scratch / "up").read_bytes()


def test_mb_rb_and_errors(programs, bucket):
    name = bucket + "-cli"
    programs.aws("s3", "mb", f"s3://{name}")
    programs.aws("s3", "rb", f"s3://{name}")
    missing = programs.aws("s3", "ls", f"s3://{name}", check=False)
    assert missing.returncode != 0 and "NoSuchBucket" in missing.stderr
