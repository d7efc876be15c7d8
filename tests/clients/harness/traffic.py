"""Concurrent load whose every acknowledgement is written down, and the check that it held.

Each writer owns its keys, so that what a key may hold is known exactly: the last acknowledged state,
or the state of a request that was under way when the server went. States are `(size, seed)` of a
pattern, or None for "not there".
"""

import hashlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError

from .content import MIB, pattern
from .sdk import list_keys

SIZES = [0, 1, 100, 4096, 16_385, 65_536, 100_000, 300_000, MIB, 4 * MIB + 3]
WEIGHTS = [2, 2, 15, 30, 10, 10, 10, 8, 4, 2]


class Ledger:
    """What every key may hold."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = {}
        self.unsettled = {}

    def begin(self, key, state):
        """A request that would bring the key into this state is about to be sent."""
        with self.lock:
            self.acknowledged.setdefault(key, None)
            self.unsettled.setdefault(key, []).append(state)

    def settle(self, key, state):
        """The server acknowledged the state: nothing else is possible now."""
        with self.lock:
            self.acknowledged[key] = state
            self.unsettled.pop(key, None)

    def possible(self, key):
        """Every state that the key may be in."""
        return [self.acknowledged[key], *self.unsettled.get(key, [])]

    def known(self):
        """Keys that are there for certain."""
        with self.lock:
            return [k for k, state in self.acknowledged.items() if state and k not in self.unsettled]


# SHA-256 of what each state's bytes are: making them again for every comparison takes longer than
# the server takes to send them.
SUMS = {}


def body_of(state):
    """The bytes of a state."""
    body = pattern(*state)
    SUMS[state] = hashlib.sha256(body).digest()
    return body


def fetch(s3, bucket, key):
    """The body, or None where there is no such key."""
    try:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise


def same(state, body):
    """Whether these bytes (or None) are the state."""
    if state is None or body is None:
        return state is None and body is None
    if state not in SUMS:
        body_of(state)
    return len(body) == state[0] and hashlib.sha256(body).digest() == SUMS[state]


class Traffic:
    """Writers and readers that run until they are stopped."""

    def __init__(self, s3, bucket, ledger, seed, writers=4, readers=0, keys=30, once=False):
        self.s3, self.bucket, self.ledger = s3, bucket, ledger
        self.stopping = threading.Event()
        self.once = once
        self.errors = []
        self.done = 0
        jobs = [(self._write, n, keys) for n in range(writers)]
        jobs += [(self._read, writers + n, keys) for n in range(readers)]
        self.threads = [
            threading.Thread(target=job, args=(random.Random(f"{seed}/{n}"), n, keys), daemon=True)
            for job, n, keys in jobs
        ]
        for thread in self.threads:
            thread.start()

    def wait_for(self, operations, seconds=120):
        """Waits until so many more operations succeeded, or some failed where none may."""
        target = self.done + operations
        deadline = time.monotonic() + seconds
        while self.done < target and not self.errors:
            assert time.monotonic() < deadline, f"only {self.done} of {target} operations in time"
            time.sleep(0.005)

    def stop(self):
        """Lets every thread finish its request."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(180)
            assert not thread.is_alive(), "a request hangs"

    def _attempt(self, what, action):
        """Runs one operation; False ends the thread."""
        try:
            action()
            self.done += 1
            return True
        except (ClientError, BotoCoreError, AssertionError, OSError) as error:
            self.errors.append(f"{what}: {type(error).__name__}: {error}")
            # After a kill the first error ends the thread; under loss it goes on, and is counted.
            return not self.once

    def _write(self, rng, number, keys):
        turn = 0
        while not self.stopping.is_set():
            turn += 1
            key = f"w{number}/{rng.randrange(keys):03}"
            dice = rng.random()
            if dice < 0.15:
                going = self._attempt(f"delete {key}", lambda: self._delete(key))
            elif dice < 0.20:
                sizes = [5 * MIB, rng.randrange(1, 200_000)]
                going = self._attempt(f"multipart {key}", lambda: self._multipart(key, sizes, rng))
            else:
                state = rng.choices(SIZES, WEIGHTS)[0], rng.getrandbits(64)
                going = self._attempt(f"put {key}", lambda: self._put(key, state))
            if not going:
                return

    def _put(self, key, state):
        self.ledger.begin(key, state)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body_of(state))
        self.ledger.settle(key, state)

    def _delete(self, key):
        self.ledger.begin(key, None)
        self.s3.delete_object(Bucket=self.bucket, Key=key)
        self.ledger.settle(key, None)

    def _multipart(self, key, sizes, rng):
        state = sum(sizes), rng.getrandbits(64)
        body = body_of(state)
        where = {"Bucket": self.bucket, "Key": key}
        where["UploadId"] = self.s3.create_multipart_upload(**where)["UploadId"]
        parts, start = [], 0
        for part, size in enumerate(sizes, 1):
            data = body[start : start + size]
            etag = self.s3.upload_part(**where, PartNumber=part, Body=data)["ETag"]
            parts.append({"PartNumber": part, "ETag": etag})
            start += size
        self.ledger.begin(key, state)
        self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        self.ledger.settle(key, state)

    def _read(self, rng, number, keys):
        while not self.stopping.is_set():
            known = self.ledger.known()
            if not known:
                time.sleep(0.01)
                continue
            key = rng.choice(known)
            if not self._attempt(f"read {key}", lambda: self._read_one(key)):
                return

    def _read_one(self, key):
        before = self.ledger.possible(key)
        body = fetch(self.s3, self.bucket, key)
        # A writer may have replaced it meanwhile: whatever was possible before, during or after.
        if any(same(state, body) for state in before + self.ledger.possible(key)):
            return
        # Or replaced it more than once; then it must have changed since.
        assert self.ledger.possible(key)[:1] != before[:1], f"{key} has bytes that nobody wrote"


def verify(s3, bucket, ledger, threads=4):
    """Reads every key back, and lists; settles what was unsettled. Returns how many are there."""
    keys = sorted(ledger.acknowledged)
    listed = set(list_keys(s3, bucket))

    def check(key):
        body = fetch(s3, bucket, key)
        found = [state for state in ledger.possible(key) if same(state, body)]
        size = None if body is None else len(body)
        assert found, f"{key}: {size} bytes found, possible were {ledger.possible(key)}"
        assert (key in listed) == (body is not None), f"{key} is listed: {key in listed}"
        return key, found[0]

    with ThreadPoolExecutor(threads) as pool:
        for key, state in pool.map(check, keys):
            ledger.settle(key, state)
    strangers = listed - set(keys)
    assert not strangers, f"listed, but never written: {sorted(strangers)[:5]}"
    return sum(state is not None for state in ledger.acknowledged.values())
