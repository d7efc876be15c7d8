"""Real input: this source tree, the Rust toolchain's files, and one file of more than a gigabyte."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import ROOT
from harness.content import MIB, file_sum, tree_sums, write_file
from harness.sdk import list_keys

pytestmark = pytest.mark.slow


def there_and_back(programs, s3, bucket, folder, scratch):
    """Copies a folder up with rclone and down with s5cmd, and compares all sums."""
    sums = tree_sums(folder)
    programs.rclone("copy", "--transfers", "16", folder, f"dry:{bucket}/real")
    assert len(list_keys(s3, bucket)) == len(sums)
    programs.s5cmd("cp", f"s3://{bucket}/real/*", f"{scratch}/down/")
    assert tree_sums(scratch / "down") == sums
    return len(sums)


def test_the_source_tree(programs, s3, bucket, scratch):
    ignored = shutil.ignore_patterns("target", "drystone-data", "__pycache__", ".git")
    shutil.copytree(ROOT, scratch / "source", ignore=ignored, symlinks=True)
    assert there_and_back(programs, s3, bucket, scratch / "source", scratch) > 50


def test_the_rust_toolchain(programs, s3, bucket, scratch):
    done = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
    books = os.path.join(done.stdout.strip(), "share/doc/rust/html")
    counts = {book.path: sum(len(names) for _, _, names in os.walk(book))
              for book in (os.scandir(books) if os.path.isdir(books) else []) if book.is_dir()}
    # The largest book of the documentation that is not a matter of minutes. A minimal toolchain
    # has none; its libraries are fewer and larger.
    fitting = [(count, path) for path, count in counts.items() if 1000 < count < 6000]
    folder = max(fitting)[1] if fitting else os.path.join(done.stdout.strip(), "lib")
    assert there_and_back(programs, s3, bucket, folder, scratch) > 10


def test_many_small_files_of_the_system(programs, s3, bucket, scratch):
    candidates = [os.path.expanduser("~/.cargo/registry/src"), "/usr/lib/python3", "/usr/share", "/usr/include"]
    folder = next(path for path in candidates if os.path.isdir(path))
    copied = 0
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            if copied < 2000 and os.path.isfile(path) and not os.path.islink(path):
                target = scratch / "files" / os.path.relpath(path, folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                copied += 1
    assert there_and_back(programs, s3, bucket, scratch / "files", scratch) == copied


def test_one_file_of_more_than_a_gigabyte(programs, s3, bucket, scratch):
    size = 1100 * MIB + 4321
    expected = write_file(scratch / "up", size, "gigabyte")
    programs.aws("s3", "cp", "--no-progress", scratch / "up", f"s3://{bucket}/by-parts")
    with open(scratch / "up", "rb") as body:
        s3.put_object(Bucket=bucket, Key="at-once", Body=body)
    (scratch / "up").unlink()

    def down(key):
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == size
        programs.aws("s3", "cp", "--no-progress", f"s3://{bucket}/{key}", scratch / key)
        assert file_sum(scratch / key) == expected

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(down, ["by-parts", "at-once"]))
