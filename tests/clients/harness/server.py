"""The server under test as a process: started on its own directories and free ports, and watched.

A `Server` may be started again after it was stopped or killed; its directories stay, its ports
change. Everything it prints is kept in one log file beside its directories.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCESS_KEY = "AKIATESTSROOT0000001"
SECRET_KEY = "tests/secret+key/0123456789abcdefghijklm"
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60


class ServerFailed(Exception):
    """The process did not do what it was told; the message ends with its last output."""


class Server:
    """One `drystone server` process and the directories that it keeps its data in."""

    def __init__(self, binary, home, directories=6, arguments=()):
        self.binary = Path(binary)
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.directories = [self.home / f"disk{n}" for n in range(directories)]
        self.arguments = list(arguments)
        self.log = self.home / "server.log"
        self.process = None
        self.follower = None
        self.endpoint = None
        self.admin = None
        self.start_seconds = None

    def start(self):
        """Starts the process and returns when it says that it is ready."""
        began = time.monotonic()
        announced = self._launch()
        announced.wait(START_SECONDS_MAX)
        if not (self.endpoint and self.admin):
            status = self.process.poll()
            self.kill()
            raise ServerFailed(f"never announced its addresses (exit status {status})\n{self.tail()}")
        while self.ready()[0] != 200:
            if self.process.poll() is not None:
                raise ServerFailed(f"ended with status {self.process.returncode}\n{self.tail()}")
            if time.monotonic() - began > START_SECONDS_MAX:
                reason = self.ready()
                self.kill()
                raise ServerFailed(f"not ready in time: {reason}\n{self.tail()}")
            time.sleep(0.02)
        self.start_seconds = time.monotonic() - began
        return self

    def start_and_kill(self, seconds):
        """Starts the process and kills it so soon that it may not even be ready."""
        self._launch()
        time.sleep(seconds)
        self.kill()

    def _launch(self):
        """Starts the process; the event is set when it has announced its addresses, or ended."""
        command = [
            str(self.binary), "server", *map(str, self.directories),
            "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *self.arguments,
        ]
        environment = dict(
            os.environ,
            DRYSTONE_ROOT_ACCESS_KEY=ACCESS_KEY,
            DRYSTONE_ROOT_SECRET_KEY=SECRET_KEY,
        )
        self.endpoint = self.admin = None
        log = open(self.log, "ab")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=self.home
        )
        announced = threading.Event()
        self.follower = threading.Thread(target=self._follow, args=(log, announced), daemon=True)
        self.follower.start()
        return announced

    def _follow(self, log, announced):
        """Copies standard output to the log and takes the addresses from it."""
        for line in self.process.stdout:
            log.write(line)
            log.flush()
            found = re.match(rb"(S3|Admin) listening on (http://\S+)", line)
            if found:
                setattr(self, {b"S3": "endpoint", b"Admin": "admin"}[found[1]], found[2].decode())
                if self.endpoint and self.admin:
                    announced.set()
        log.close()
        announced.set()

    def stop(self):
        """Asks the process to stop and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS_MAX)
            self.follower.join()
            return status
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"SIGTERM did not stop it\n{self.tail()}") from None

    def kill(self):
        """Ends the process at once, as a power failure would."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.follower.join()

    def alive(self):
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def admin_get(self, path):
        """Status and body of one request to the admin listener; status 0 where there is none."""
        try:
            with urllib.request.urlopen(self.admin + path, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def ready(self):
        """Status and body of /health/ready."""
        return self.admin_get("/health/ready")

    def status(self):
        """What /status says."""
        code, body = self.admin_get("/status")
        if code != 200:
            raise ServerFailed(f"/status answers {code}: {body[:300]!r}\n{self.tail()}")
        return json.loads(body)

    def rss_bytes(self):
        """Resident memory of the process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024

    def cpu_seconds(self):
        """Processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tail(self, lines=60):
        """The end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def remove(self):
        """Kills the process and deletes everything that it stored; the log stays."""
        self.kill()
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)


class Remote:
    """A server that somebody else started: only its S3 side is known."""

    log = None
    process = None

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def tail(self, lines=60):
        """Nothing is known of its log."""
        return ""
