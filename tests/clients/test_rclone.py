"""rclone: copy, sync, check --download, and a mounted bucket where there is FUSE."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from harness.content import MIB, file_sum, pattern, tree_sums, write_file, write_tree
from harness.sdk import list_keys, read


def test_copy_check_and_sync(programs, s3, bucket, scratch):
    sums = write_tree(scratch / "up")
    remote = f"dry:{bucket}/tree"
    programs.rclone("copy", scratch / "up", remote)
    programs.rclone("check", "--download", scratch / "up", remote)
    programs.rclone("check", scratch / "up", remote)
    programs.rclone("copy", remote, scratch / "down")
    assert tree_sums(scratch / "down") == sums

    (scratch / "up" / "one byte").unlink()
    shutil.move(scratch / "up" / "many/001.dat", scratch / "up" / "many/moved.dat")
    write_file(scratch / "up" / "many/002.dat", 5000, "changed")
    programs.rclone("sync", scratch / "up", remote)
    programs.rclone("check", "--download", scratch / "up", remote)
    assert set(list_keys(s3, bucket)) == {f"tree/{name}" for name in tree_sums(scratch / "up")}
    # Nothing is left to do: times and sizes came back as they were.
    dry = programs.rclone("sync", "--dry-run", "-v", scratch / "up", remote)
    assert "Skipped" not in dry.stderr, dry.stderr


def test_a_large_file_in_parts(programs, bucket, scratch):
    expected = write_file(scratch / "up/large", 210 * MIB + 5, "rclone")
    options = ["--s3-upload-cutoff", "50M", "--s3-chunk-size", "16M", "--multi-thread-cutoff", "50M"]
    programs.rclone("copy", *options, scratch / "up", f"dry:{bucket}")
    programs.rclone("check", "--download", scratch / "up", f"dry:{bucket}")
    programs.rclone("copy", *options, f"dry:{bucket}", scratch / "down")
    assert file_sum(scratch / "down/large") == expected


def test_server_side_move_purge_and_listing(programs, bucket, scratch):
    write_tree(scratch / "up")
    programs.rclone("copy", scratch / "up", f"dry:{bucket}/a")
    programs.rclone("move", f"dry:{bucket}/a", f"dry:{bucket}/b")
    programs.rclone("check", "--download", scratch / "up", f"dry:{bucket}/b")
    listed = programs.rclone("lsf", "-R", "--files-only", f"dry:{bucket}/b").stdout.splitlines()
    assert set(listed) == set(tree_sums(scratch / "up"))
    programs.rclone("purge", f"dry:{bucket}/b")
    assert programs.rclone("lsf", "-R", f"dry:{bucket}").stdout == ""


@contextmanager
def mounted(programs, remote, point, options=()):
    """The remote as a directory, until the end of the block."""
    point.mkdir()
    path = shutil.which("rclone", path=programs.environment["PATH"])
    log = open(programs.home / "mount.log", "wb")
    mount = subprocess.Popen(
        [path, "mount", remote, point, "--vfs-cache-mode", "full", "--vfs-write-back", "0s",
         "--dir-cache-time", "1s", "--cache-dir", programs.home / "cache", *options],
        env=programs.environment, stdout=log, stderr=log,
    )
    try:
        deadline = time.monotonic() + 30
        while not os.path.ismount(point):
            said = (programs.home / "mount.log").read_text()
            assert mount.poll() is None, f"the mount ended: {said}"
            assert time.monotonic() < deadline, f"the mount did not come: {said}"
            time.sleep(0.05)
        yield point
    finally:
        mount.send_signal(signal.SIGINT)
        try:
            mount.wait(60)
        except subprocess.TimeoutExpired:
            subprocess.run(["fusermount3", "-uz", point], check=False)
            mount.kill()
            mount.wait()
        log.close()


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse")
@pytest.mark.skipif(not shutil.which("fusermount3"), reason="no fusermount3 (package fuse3)")
def test_mount(programs, s3, bucket, scratch):
    sums = write_tree(scratch / "up")
    with mounted(programs, f"dry:{bucket}", scratch / "mount") as point:
        shutil.copytree(scratch / "up", point / "tree")
        assert tree_sums(point / "tree") == sums
        os.rename(point / "tree/many", point / "tree/renamed")
        os.rename(point / "tree/one byte", point / "tree/other name")
        os.unlink(point / "tree/empty")
        with open(point / "tree/sizes/multipart", "r+b") as file:
            file.seek(5 * MIB)
            file.write(b"changed in place")
        with open(point / "appended", "ab") as file:
            for number in range(100):
                file.write(pattern(1000, number))
        assert sorted(os.listdir(point)) == ["appended", "tree"]
        assert len(os.listdir(point / "tree/renamed")) == 60
        with open(point / "tree/sizes/just-above-stripe", "rb") as file:
            file.seek(4 * MIB)
            assert len(file.read()) == 1
    # The mount is gone, and with it every cache: what the bucket holds is what was written.
    expected = {name.replace("many/", "renamed/", 1): value for name, value in sums.items()}
    expected["other name"] = expected.pop("one byte")
    del expected["empty"], expected["sizes/multipart"]
    with mounted(programs, f"dry:{bucket}", scratch / "again", ["--read-only"]) as point:
        found = tree_sums(point / "tree")
        changed = (point / "tree/sizes/multipart").read_bytes()
    del found["sizes/multipart"]
    assert found == expected
    original = bytearray((scratch / "up/sizes/multipart").read_bytes())
    original[5 * MIB : 5 * MIB + 16] = b"changed in place"
    assert changed == bytes(original)
    assert read(s3, bucket, "appended") == b"".join(pattern(1000, n) for n in range(100))
