#!/usr/bin/env python3
"""What the rebuilding of a lost disk costs, by a real server: how fast it is against raw disk speed, and
the processor's time for each GiB.

A server over some directories of one file system takes objects; one disk is given up, at no limit of
bandwidth; its slots are rebuilt on the others. In the same run the file system is read and written
past the page cache as fast as it goes: what is rebuilt needs `k` reads and one write of each byte, all of
them on that one device, so `k` reads and a write at its raw speed are the least time that there can be.

    target/venv/bin/python benches/rebuild.py --binary target/release/drystone --home /somewhere/empty
"""

import argparse
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/clients"))

from harness.content import MIB  # noqa: E402
from harness.sdk import connect  # noqa: E402
from harness.server import Server  # noqa: E402

GIB = 1 << 30
BLOCK = MIB
WRITERS = 2


def order(server, *words):
    """An order of the operator; what it says, decoded."""
    command = [str(server.binary), "admin", "--endpoint", server.admin, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def counted(server, wanted):
    """A counter of the server."""
    with urllib.request.urlopen(f"{server.admin}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            sample, _, value = line.rpartition(" ")
            if sample == wanted:
                return float(value)
    raise SystemExit(f"there is no {wanted}")


def raw_speeds(directory, size):
    """Bytes a second that one file is written with and read with, past the page cache."""
    path, block = directory / "raw", mmap.mmap(-1, BLOCK)
    block.write(os.urandom(BLOCK))
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    try:
        began = time.monotonic()
        for at in range(0, size, BLOCK):
            os.pwrite(file, block, at)
        os.fsync(file)
        written = time.monotonic() - began
        began = time.monotonic()
        for at in range(0, size, BLOCK):
            os.preadv(file, [block], at)
        return size / written, size / (time.monotonic() - began)
    finally:
        os.close(file)
        path.unlink()


def settled(server):
    """Whether nothing moves, is to move, or waits for repair."""
    moves = json.loads(order(server, "moves", "status", "--json"))
    if moves["under_way"] or moves["wanted"]["all"]["slots"]:
        return False
    return server.status()["repair_queue"] == 0


def main():
    """Measures once and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--home", required=True, type=Path, help="an empty directory, emptied at the end")
    parser.add_argument("--directories", type=int, default=8)
    parser.add_argument("--objects", type=int, default=48)
    parser.add_argument("--object-mib", type=int, default=64)
    arguments = parser.parse_args()
    quiet = ("--backup-interval-seconds", "0", "--garbage-delay-seconds", "0")
    server = Server(arguments.binary, arguments.home / "server", arguments.directories, quiet)
    try:
        server.start()
        s3 = connect(server.endpoint)
        s3.create_bucket(Bucket="rebuild")
        bodies = [os.urandom(arguments.object_mib * MIB) for _ in range(WRITERS)]
        put = lambda at: s3.put_object(Bucket="rebuild", Key=f"{at}", Body=bodies[at % WRITERS])
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(put, range(arguments.objects)))
        order(server, "upkeep", "set", "--rate", "100G")
        while not settled(server):
            time.sleep(0.2)
        disk = server.status()["disks"][1]
        before = server.cpu_seconds()
        began = time.monotonic()
        order(server, "disk", "out", str(disk["id"]), "--yes")
        while not settled(server):
            time.sleep(0.2)
        seconds, cpu = time.monotonic() - began, server.cpu_seconds() - before
        rebuilt = counted(server, 'drystone_rebalance_bytes_total{reason="lost"}')
        write, read = raw_speeds(arguments.home, 512 * MIB)
        k = int(server.status()["coding"].partition("+")[0])
        least = k * rebuilt / read + rebuilt / write
        print(json.dumps({
            "coding": server.status()["coding"],
            "disk_live_mib": round(disk["live_bytes"] / MIB),
            "rebuilt_mib": round(rebuilt / MIB),
            "seconds": round(seconds, 2),
            "mib_per_second": round(rebuilt / MIB / seconds, 1),
            "mib_per_cpu_second": round(rebuilt / MIB / cpu, 1),
            "cpu_seconds_per_gib": round(cpu / rebuilt * GIB, 2),
            "raw_read_mib_per_second": round(read / MIB),
            "raw_write_mib_per_second": round(write / MIB),
            "least_seconds_at_raw_speed": round(least, 2),
            "of_raw_speed": round(least / seconds, 3),
        }))
    finally:
        server.kill()
        shutil.rmtree(arguments.home, ignore_errors=True)


if __name__ == "__main__":
    main()
