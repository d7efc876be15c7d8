"""Test content: bytes that repeat from a seed, and the sums that prove them."""

import hashlib
import os
import random
from pathlib import Path

MIB = 1 << 20


def pattern(size, seed=0):
    """`size` bytes that no server can compress, the same for the same seed."""
    return random.Random(f"{seed}:{size}").randbytes(size)


def write_file(path, size, seed=0):
    """Writes a file of `size` bytes block by block and returns its SHA-256."""
    digest = hashlib.sha256()
    source = random.Random(f"{seed}:{size}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        left = size
        while left:
            block = source.randbytes(min(left, 8 * MIB))
            digest.update(block)
            file.write(block)
            left -= len(block)
    return digest.hexdigest()


def file_sum(path):
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sums(root):
    """Relative path -> SHA-256 of every regular file below `root`."""
    sums = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if path.is_file() and not path.is_symlink():
                sums[str(path.relative_to(root))] = file_sum(path)
    return sums


def write_tree(root, seed=0):
    """A small tree with the names and sizes that clients stumble over."""
    files = {
        "empty": 0,
        "one byte": 1,
        "with space/and more/file.txt": 100,
        "ünïcode/日本語.txt": 1000,
        "plus+and&and=.bin": 4096,
        "a/b/c/d/e/deep.bin": 70_000,
        "sizes/just-below-stripe": 4 * MIB - 1,
        "sizes/just-above-stripe": 4 * MIB + 1,
        "sizes/multipart": 17 * MIB,
    }
    files.update({f"many/{n:03}.dat": n * 13 for n in range(60)})
    for name, size in files.items():
        write_file(root / name, size, f"{seed}/{name}")
    return tree_sums(root)
