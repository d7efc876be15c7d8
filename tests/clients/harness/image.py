"""Directories as one small file, for fixtures: names, lengths, and what isn't zero.

The form is told in tests/fixtures/image.rs; here it is compressed as well, since a server's
directory has databases in it.
"""

import gzip
import struct
from pathlib import Path

PAGE_BYTES = 256


def pack(directory):
    """The image of all files below a directory."""
    out = bytearray()
    for path in sorted(path for path in Path(directory).rglob("*") if path.is_file()):
        name, content = path.relative_to(directory).as_posix().encode(), path.read_bytes()
        runs = []
        for at in range(0, len(content), PAGE_BYTES):
            page = content[at : at + PAGE_BYTES]
            if not any(page):
                continue
            if runs and runs[-1][0] + len(runs[-1][1]) == at:
                runs[-1][1].extend(page)
            else:
                runs.append((at, bytearray(page)))
        out += struct.pack("<H", len(name)) + name + struct.pack("<QI", len(content), len(runs))
        for at, run in runs:
            out += struct.pack("<QI", at, len(run)) + run
    return gzip.compress(bytes(out), mtime=0)


def unpack(image, directory):
    """Makes the files of an image below a directory."""
    rest = memoryview(gzip.decompress(image))

    def take(count):
        nonlocal rest
        taken, rest = rest[:count], rest[count:]
        return taken

    while rest:
        (name_bytes,) = struct.unpack("<H", take(2))
        path = Path(directory) / bytes(take(name_bytes)).decode()
        length, runs = struct.unpack("<QI", take(12))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(length)
            for _ in range(runs):
                at, count = struct.unpack("<QI", take(12))
                file.seek(at)
                file.write(take(count))
        path.chmod(0o600)
