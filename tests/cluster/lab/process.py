"""A process of the cluster: started on its host, asked whether it is ready, hurt, and ended.

Everything that it prints, over all of its runs, is in one log file. It may be started again after it
ended; what it keeps on disk stays. Only its own process group is ever signalled.
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

from harness.server import ServerFailed

READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
# On a busy machine an answer may be late; none at all is a failure.
ANSWER_SECONDS_MAX = 30
POLL_SECONDS = 0.05


def wait_until(condition, seconds, told):
    """Polls until the condition gives something true, and returns it; `told` says what it was for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {told() if callable(told) else told}")
        time.sleep(POLL_SECONDS)
    return found


def http_get(url, seconds=5):
    """Status and body of one request; status 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


class Process:
    """One process with an admin listener."""

    def __init__(self, name, command, home, log, admin, environment):
        self.name = name
        self.command = [str(word) for word in command]
        self.home = home
        self.admin = admin
        self.environment = environment
        self.log = log
        self.process = None
        self.paused = False
        self.began = None

    def __repr__(self):
        return self.name

    def launch(self):
        """Starts it; returns at once."""
        assert not self.alive(), f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home,
                env=self.environment, start_new_session=True,
            )
        self.began = time.monotonic()
        self.paused = False
        return self

    def start(self, seconds=READY_SECONDS_MAX):
        """Starts it and waits until it is ready."""
        self.launch()
        return self.wait_ready(seconds)

    def wait_ready(self, seconds=READY_SECONDS_MAX):
        """Waits until it says that it is ready."""
        def ready():
            if not self.alive():
                status = self.process.returncode
                raise ServerFailed(f"{self.name} ended with status {status}\n{self.tail()}")
            return self.ready()[0] == 200

        wait_until(ready, seconds, lambda: f"{self.name} is ready: {self.ready()}\n{self.tail()}")
        return self

    def ready(self):
        """Status and body of /health/ready."""
        return http_get(f"{self.admin}/health/ready")

    def reasons(self):
        """The codes of what /health/ready has to say."""
        body = self.ready()[1]
        return {reason["code"] for reason in json.loads(body)["reasons"]} if body else set()

    def status(self):
        """What /status says; None where there is no answer."""
        code, body = http_get(f"{self.admin}/status")
        return json.loads(body) if code == 200 else None

    def alive(self):
        """Whether it runs (or is paused)."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        """Sends a signal to its process group."""
        if self.alive():
            os.killpg(self.process.pid, number)

    def kill(self):
        """Ends it at once, as a power failure would."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """Asks it to stop and returns its exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"SIGTERM did not stop {self.name}\n{self.tail()}") from None

    def pause(self):
        """Nothing of it runs until `resume`, but its connections stay."""
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        """Ends a pause."""
        self.signal(signal.SIGCONT)
        self.paused = False

    def metrics(self):
        """Every sample of /metrics: the name with its labels, and the value. Waits until it answers:
        whoever compares sums would take silence for a zero."""
        def scraped():
            if not self.alive():
                raise ServerFailed(f"{self.name} doesn't run any more\n{self.tail()}")
            code, body = http_get(f"{self.admin}/metrics")
            return body.decode() if code == 200 else None

        body = wait_until(scraped, ANSWER_SECONDS_MAX, lambda: f"{self.name} tells its metrics\n{self.tail()}")
        lines = [line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def cpu_seconds(self):
        """Processor time that this run of it has used; 0 where it doesn't run."""
        if not self.alive():
            return 0.0
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tail(self, lines=40):
        """The end of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
