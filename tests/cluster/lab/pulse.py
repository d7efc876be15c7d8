"""Clients that do the same small thing over and over, so that how long it takes can be compared.

Each of them puts an object and reads it back, a few times a second, with boto3's default retries, and
writes down when each request began and how long it took. A window of time has a 99th percentile.
"""

import threading
import time
from dataclasses import dataclass

from .load import get

BODY_BYTES = 64 << 10
CLIENTS = 4
# Between two requests of a client: what is measured is the answer, not a queue of the pulse's own.
PAUSE_SECONDS = 0.04


@dataclass(frozen=True)
class Beat:
    """One request."""

    began: float
    seconds: float
    error: str | None


class Pulse:
    """Running clients. As a context it stops them at its end."""

    def __init__(self, cluster, bucket):
        self.s3, self.bucket = cluster.s3(), bucket
        self.s3.create_bucket(Bucket=bucket)
        self.beats, self.lock = [], threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._beat, args=(n,), daemon=True) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(400)
            assert not thread.is_alive(), "a request hangs"

    def _beat(self, number):
        body = bytes([number]) * BODY_BYTES
        turn = 0
        while not self.stopping.wait(PAUSE_SECONDS):
            key = {"Bucket": self.bucket, "Key": f"{number}/{turn % 50}"}
            turn += 1
            self._time(lambda: self.s3.put_object(**key, Body=body))
            self._time(lambda: self._read(key, body))

    def _read(self, key, body):
        assert get(self.s3, key["Bucket"], key["Key"])[1] == body, f"{key} holds something else"

    def _time(self, request):
        began, error = time.monotonic(), None
        try:
            request()
        except Exception as caught:  # Raised here it would end the client, and nobody would see it.
            error = f"{type(caught).__name__}: {caught}"
        with self.lock:
            self.beats.append(Beat(began, time.monotonic() - began, error))

    def errors(self):
        """What failed."""
        return [beat.error for beat in self.beats if beat.error]

    def window(self, since, until=None):
        """The requests that began in this time, as seconds, ascending."""
        with self.lock:
            return sorted(b.seconds for b in self.beats if since <= b.began <= (until or b.began))


def percentile(seconds, part):
    """The value below which this part of sorted values is."""
    assert seconds, "nothing was measured"
    return seconds[min(len(seconds) - 1, int(len(seconds) * part))]
