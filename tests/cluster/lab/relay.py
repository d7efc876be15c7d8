"""A running proxy (proxy.py): its orders and its end."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("proxy.py")


class Relay:
    """Started at once; connections to `address` are carried to the targets."""

    def __init__(self, listen, targets, checks=(), inside=(), log=None):
        command = [*inside, sys.executable, str(PROGRAM), listen, *targets]
        if checks:
            command += ["--check", *checks]
        self.log = open(log, "ab") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            start_new_session=True,
        )
        port = self.process.stdout.readline().strip()
        assert port, f"no proxy could be started on {listen}"
        self.address = f"{listen.rpartition(':')[0]}:{port}"

    def shape(self, delay_ms=0, bytes_per_s=0):
        """From now on bytes take longer, in each direction; without arguments, no longer."""
        order = {"delay_ms": delay_ms, "bytes_per_s": bytes_per_s}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def stop(self):
        """Ends it, and the connections with it."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        if self.log is not subprocess.DEVNULL:
            self.log.close()
