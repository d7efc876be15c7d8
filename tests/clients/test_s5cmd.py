"""s5cmd: wildcard copies with its 256 workers, multipart, rm."""

from harness.content import MIB, file_sum, tree_sums, write_file
from harness.sdk import list_keys


def test_wildcard_copies_and_rm(programs, s3, bucket, scratch):
    for number in range(1500):
        write_file(scratch / f"up/{number % 7}/{number:04}.bin", number * 3, number)
    sums = tree_sums(scratch / "up")
    programs.s5cmd("cp", f"{scratch}/up/*", f"s3://{bucket}/tree/")
    assert set(list_keys(s3, bucket)) == {f"tree/{name}" for name in sums}
    programs.s5cmd("cp", f"s3://{bucket}/tree/*", f"{scratch}/down/")
    assert tree_sums(scratch / "down") == sums
    programs.s5cmd("cp", f"s3://{bucket}/tree/3/*", f"s3://{bucket}/copied/")
    assert len(list_keys(s3, bucket, Prefix="copied/")) == len(list((scratch / "up/3").iterdir()))
    listed = programs.s5cmd("ls", f"s3://{bucket}/tree/*").stdout.splitlines()
    assert len(listed) == 1500
    programs.s5cmd("rm", f"s3://{bucket}/tree/*")
    assert list_keys(s3, bucket, Prefix="tree/") == []


def test_multipart(programs, s3, bucket, scratch):
    expected = write_file(scratch / "up", 160 * MIB + 7, "s5cmd")
    programs.s5cmd("cp", "--part-size", "16", scratch / "up", f"s3://{bucket}/large")
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-11"')
    programs.s5cmd("cp", "--part-size", "16", "--concurrency", "8", f"s3://{bucket}/large", scratch / "down")
    assert file_sum(scratch / "down") == expected


def test_sync_and_pipe(programs, s3, bucket, scratch):
    for number in range(50):
        write_file(scratch / f"up/{number}", 1000 + number, number)
    programs.s5cmd("sync", f"{scratch}/up/", f"s3://{bucket}/s/")
    (scratch / "up/7").unlink()
    programs.s5cmd("sync", "--delete", f"{scratch}/up/", f"s3://{bucket}/s/")
    assert set(list_keys(s3, bucket)) == {f"s/{path.name}" for path in (scratch / "up").iterdir()}
    said = programs.s5cmd("cat", f"s3://{bucket}/s/9").stdout
    assert said  # Bytes are compared by the other tests; this one asks that cat works at all.
