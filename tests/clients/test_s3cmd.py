"""s3cmd: put, get, sync, del."""

from harness.content import MIB, file_sum, tree_sums, write_file, write_tree
from harness.sdk import list_keys


def test_put_get_del(programs, s3, bucket, scratch):
    expected = write_file(scratch / "up", 40 * MIB + 1, "s3cmd")
    programs.s3cmd("put", scratch / "up", f"s3://{bucket}/large")  # 15 MB parts by default.
    assert "-" in s3.head_object(Bucket=bucket, Key="large")["ETag"]
    programs.s3cmd("get", f"s3://{bucket}/large", scratch / "down")
    assert file_sum(scratch / "down") == expected
    programs.s3cmd("put", scratch / "up", "--multipart-chunk-size-mb=100", f"s3://{bucket}/ü and space")
    programs.s3cmd("get", "--force", f"s3://{bucket}/ü and space", scratch / "down")
    assert file_sum(scratch / "down") == expected
    info = programs.s3cmd("info", f"s3://{bucket}/large").stdout
    assert str(40 * MIB + 1) in info
    programs.s3cmd("cp", f"s3://{bucket}/large", f"s3://{bucket}/copied")
    programs.s3cmd("del", f"s3://{bucket}/large", f"s3://{bucket}/ü and space")
    assert list_keys(s3, bucket) == ["copied"]


def test_sync_both_ways(programs, s3, bucket, scratch):
    sums = write_tree(scratch / "up")
    programs.s3cmd("sync", f"{scratch}/up/", f"s3://{bucket}/tree/")
    assert set(list_keys(s3, bucket)) == {f"tree/{name}" for name in sums}
    (scratch / "down").mkdir()
    programs.s3cmd("sync", f"s3://{bucket}/tree/", f"{scratch}/down/")
    assert tree_sums(scratch / "down") == sums
    (scratch / "up/one byte").unlink()
    programs.s3cmd("sync", "--delete-removed", f"{scratch}/up/", f"s3://{bucket}/tree/")
    assert set(list_keys(s3, bucket)) == {f"tree/{n}" for n in tree_sums(scratch / "up")}
    programs.s3cmd("del", "--recursive", "--force", f"s3://{bucket}/tree/")
    assert list_keys(s3, bucket) == []


def test_bucket_commands(programs, bucket):
    name = bucket + "-s3cmd"
    programs.s3cmd("mb", f"s3://{name}")
    assert f"s3://{name}" in programs.s3cmd("ls").stdout
    programs.s3cmd("rb", f"s3://{name}")
    assert f"s3://{name}\n" not in programs.s3cmd("ls").stdout
