"""A TCP proxy that delays, narrows and balances; a program of its own.

    python proxy.py LISTEN TARGET [TARGET…] [--check URL…]

It prints the port that it listens on, then takes orders: each line of its input is a JSON object with
`delay_ms` and `bytes_per_s` (0: no limit), which hold from then on, in each direction, and are answered
by a line. With several targets a new connection goes to the next of them that answers; with `--check`,
only to those whose URL (one for each target) answers 200, and the connections of one that no longer
does are closed, as balancers do. It ends with its input.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.request

CHUNK_BYTES = 64 << 10
QUEUED_BYTES_MAX = 1 << 20
CONNECT_SECONDS_MAX = 2
CHECK_SECONDS = 0.5
# A check that isn't answered for so long has failed; so many failures in a row mark a target down.
# Quicker than HAProxy's 2 s between checks, but no quicker than a failover of the metadata.
CHECK_SECONDS_MAX = 2
FAILURES_MAX = 3


class Shape:
    """What is done to bytes on their way."""

    def __init__(self):
        self.delay_seconds = 0.0
        self.bytes_per_s = 0

    def obey(self, order):
        """Takes a new order."""
        self.delay_seconds = order.get("delay_ms", 0) / 1000
        self.bytes_per_s = order.get("bytes_per_s", 0)


class Way:
    """One direction of one connection: bytes wait in a queue until they may go on."""

    def __init__(self, shape, reader, writer):
        self.shape, self.reader, self.writer = shape, reader, writer
        self.queue = asyncio.Queue()
        self.queued_bytes = 0
        self.room = asyncio.Event()
        self.free_at = 0.0

    async def run(self):
        """Carries bytes until one side ends."""
        taking = asyncio.create_task(self._take())
        try:
            await self._give()
        finally:
            taking.cancel()

    async def _take(self):
        try:
            while data := await self.reader.read(CHUNK_BYTES):
                self.queue.put_nowait((time.monotonic() + self.shape.delay_seconds, data))
                self.queued_bytes += len(data)
                while self.queued_bytes >= QUEUED_BYTES_MAX:
                    self.room.clear()
                    await self.room.wait()
        except OSError:
            pass
        self.queue.put_nowait((time.monotonic() + self.shape.delay_seconds, b""))

    async def _give(self):
        while True:
            due, data = await self.queue.get()
            if self.shape.bytes_per_s:
                due = max(due, self.free_at)
                self.free_at = due + len(data) / self.shape.bytes_per_s
                due = self.free_at
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if not data:
                self.writer.write_eof()
                return
            self.writer.write(data)
            await self.writer.drain()
            self.queued_bytes -= len(data)
            self.room.set()


class Target:
    """Where connections go."""

    def __init__(self, address, check):
        self.host, _, port = address.rpartition(":")
        self.port = int(port)
        self.check = check
        self.up = check is None
        self.failures = FAILURES_MAX
        self.connections = set()

    async def watch(self):
        """Asks for its health until the end."""
        while True:
            well = await asyncio.to_thread(answers, self.check)
            self.failures = 0 if well else self.failures + 1
            self.up = self.failures < FAILURES_MAX
            if not self.up:
                for writer in self.connections:
                    writer.transport.abort()
            await asyncio.sleep(CHECK_SECONDS)


def answers(url):
    """Whether a URL answers 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=CHECK_SECONDS_MAX) as answer:
            return answer.status == 200
    except OSError:
        return False


class Proxy:
    """Takes connections and carries them to the targets in turn."""

    def __init__(self, targets):
        self.targets = targets
        self.turn = 0
        self.shape = Shape()

    async def carry(self, reader, writer):
        """One connection from its begin to its end."""
        found = await self._connect()
        if found is None:
            writer.transport.abort()
            return
        target, (far_reader, far_writer) = found
        both = {writer, far_writer}
        target.connections |= both
        try:
            ways = Way(self.shape, reader, far_writer).run(), Way(self.shape, far_reader, writer).run()
            await asyncio.gather(*ways)
        except OSError:
            for one in both:
                one.transport.abort()
        finally:
            target.connections -= both
            for one in both:
                one.close()

    async def _connect(self):
        self.turn += 1
        order = self.targets[self.turn % len(self.targets) :] + self.targets
        for target in [one for one in order[: len(self.targets)] if one.up]:
            try:
                dialling = asyncio.open_connection(target.host, target.port)
                return target, await asyncio.wait_for(dialling, CONNECT_SECONDS_MAX)
            except (OSError, TimeoutError):
                continue
        return None


async def obey(proxy):
    """Takes orders until there are no more."""
    orders = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(orders)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await orders.readline():
        proxy.shape.obey(json.loads(line))
        print("done", flush=True)


async def main():
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("listen")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--check", nargs="*", default=[])
    arguments = parser.parse_args()
    checks = arguments.check or [None] * len(arguments.targets)
    targets = [Target(*pair) for pair in zip(arguments.targets, checks, strict=True)]
    proxy = Proxy(targets)
    host, _, port = arguments.listen.rpartition(":")
    server = await asyncio.start_server(proxy.carry, host, int(port))
    watching = [asyncio.create_task(one.watch()) for one in targets if one.check]
    print(server.sockets[0].getsockname()[1], flush=True)
    await obey(proxy)
    for task in watching:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
