"""Clients that write and read until they are stopped, and the proof that what they saw was right.

Half of the keys are shared by all clients and hold small values: there conditional writes compete.
The others belong to one writer each and hold values of all sizes, also in parts. Clients are boto3's,
with its default retries; everything that they do goes into a `History`.
"""

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from harness.content import MIB
from harness.sdk import list_keys

from .history import ABSENT, History, name_of
from .process import wait_until
from .register import check

SIZES = [40, 100, 4096, 16_385, 70_000, 300_000, MIB, 4 * MIB + 3]
WEIGHTS = [10, 20, 30, 15, 12, 8, 4, 1]
PART_BYTES = 5 * MIB
SHARED_KEYS = 12
OWN_KEYS = 12
# Between two requests of a client: the machine is to be busy, not stifled, since what is tested is
# what happens at a fault.
THINK_SECONDS = 0.03
# A body that breaks off is asked for again, so often in all: what boto3's own downloads do.
BODY_ATTEMPTS = 5
BROKEN_BODY = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


# One line for each load of this run, shown at its end.
FIGURES = []


def get(s3, bucket, key):
    """One object: the answer, and its body to the end."""
    for attempt in range(1, BODY_ATTEMPTS + 1):
        answer = s3.get_object(Bucket=bucket, Key=key)
        try:
            return answer, answer["Body"].read()
        except BROKEN_BODY:
            if attempt == BODY_ATTEMPTS:
                raise
    raise AssertionError("not reached")


class Load:
    """Running clients. As a context it stops them at its end, whatever happens."""

    def __init__(self, s3, bucket, seed, clients=6):
        self.s3, self.bucket = s3, bucket
        self.history = History()
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=Client(self, f"c{n}", f"{seed}/{n}").run, daemon=True)
            for n in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_for(self, operations, seconds=120):
        """Waits until so many more operations succeeded."""
        target = self.history.acknowledged() + operations
        def told():
            done = operations - target + self.history.acknowledged()
            errors = [operation.error for operation in self.history.errors()[-3:]]
            return f"only {done} of {operations} operations succeeded {errors}"
        wait_until(lambda: self.history.acknowledged() >= target, seconds, told)

    def run_for(self, seconds):
        """Goes on for a while."""
        time.sleep(seconds)

    def stop(self):
        """Lets every client finish its request."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(400)
            assert not thread.is_alive(), "a request hangs"


class Client:
    """One client: a thread with choices of its own."""

    def __init__(self, load, name, seed):
        self.load, self.name = load, name
        self.s3, self.bucket, self.history = load.s3, load.bucket, load.history
        self.rng = random.Random(seed)
        # What this client last saw in a shared key: the ETag and the value's name.
        self.seen = {}

    def run(self):
        """Works until the load is stopped."""
        while not self.load.stopping.wait(self.rng.expovariate(1 / THINK_SECONDS)):
            if self.rng.random() < 0.5:
                self._shared(f"shared/{self.rng.randrange(SHARED_KEYS):02}")
            else:
                self._own(f"own/{self.name}/{self.rng.randrange(OWN_KEYS):02}")

    def _shared(self, key):
        dice = self.rng.random()
        if dice < 0.40:
            self.read(key)
        elif dice < 0.50:
            self.put(key, self._body(self.rng.randrange(40, 2000)))
        elif dice < 0.85 and key in self.seen:
            self.swap(key, self._body(self.rng.randrange(40, 2000)), self.seen[key])
        elif dice < 0.93:
            self.swap(key, self._body(self.rng.randrange(40, 2000)), None)
        else:
            self.delete(key)

    def _own(self, key):
        dice = self.rng.random()
        if dice < 0.30:
            self.read(key)
        elif dice < 0.88:
            self.put(key, self._body(self.rng.choices(SIZES, WEIGHTS)[0]))
        elif dice < 0.98:
            self.delete(key)
        else:
            self.multipart(key, [self._body(PART_BYTES), self._body(self.rng.randrange(100, 100_000))])

    def _body(self, size):
        """Bytes that no other write has."""
        return self.rng.randbytes(size)

    def _attempt(self, operation, action):
        """Sends a request and writes down what came of it; its answer, if it succeeded."""
        try:
            answer = action()
        except ClientError as error:
            meta = error.response["ResponseMetadata"]
            status, retries = meta.get("HTTPStatusCode"), meta.get("RetryAttempts", 0)
            code = error.response["Error"]["Code"]
            if operation.kind == "read" and code == "NoSuchKey":
                self.history.end(operation, "ok", ABSENT, retries=retries)
            elif operation.kind == "swap" and code in ("NoSuchKey", "PreconditionFailed"):
                self.history.end(operation, "refused", retries=retries)
            elif operation.kind == "swap" and code == "ConditionalRequestConflict":
                # It met another conditional write and did nothing.
                self.history.end(operation, "void", retries=retries)
            else:
                self.history.end(operation, "unknown", error=f"{status} {error}", retries=retries)
            return None
        except (BotoCoreError, OSError) as error:
            self.history.end(operation, "unknown", error=f"{type(error).__name__}: {error}")
            return None
        found = answer.get("Name", ABSENT)
        self.history.end(operation, "ok", found, retries=answer["ResponseMetadata"]["RetryAttempts"])
        return answer

    def read(self, key):
        """Reads a key to its end."""
        def action():
            answer, body = get(self.s3, self.bucket, key)
            return answer | {"Name": name_of(body)}

        answer = self._attempt(self.history.begin(self.name, key, "read"), action)
        if answer:
            self.seen[key] = answer["ETag"], answer["Name"]

    def put(self, key, body):
        """Writes whatever is there."""
        operation = self.history.begin(self.name, key, "write", name_of(body))
        request = {"Bucket": self.bucket, "Key": key, "Body": body}
        answer = self._attempt(operation, lambda: self.s3.put_object(**request))
        if answer:
            self.seen[key] = answer["ETag"], operation.value

    def delete(self, key):
        """Deletes whatever is there."""
        operation = self.history.begin(self.name, key, "write", ABSENT)
        self._attempt(operation, lambda: self.s3.delete_object(Bucket=self.bucket, Key=key))

    def swap(self, key, body, seen):
        """Writes only where the key holds what was seen there; None: nothing."""
        etag, expected = seen or (None, ABSENT)
        operation = self.history.begin(self.name, key, "swap", name_of(body), expected)
        condition = {"IfMatch": etag} if seen else {"IfNoneMatch": "*"}
        request = {"Bucket": self.bucket, "Key": key, "Body": body, **condition}
        answer = self._attempt(operation, lambda: self.s3.put_object(**request))
        if answer:
            self.seen[key] = answer["ETag"], operation.value

    def multipart(self, key, parts):
        """Writes in parts; only the completion is an operation, the parts may fail without a trace."""
        where = {"Bucket": self.bucket, "Key": key}
        try:
            upload = where | {"UploadId": self.s3.create_multipart_upload(**where)["UploadId"]}
            done = [
                {"PartNumber": n, "ETag": self.s3.upload_part(**upload, PartNumber=n, Body=part)["ETag"]}
                for n, part in enumerate(parts, 1)
            ]
        except (ClientError, BotoCoreError, OSError) as error:
            operation = self.history.begin(self.name, key, "read")
            self.history.end(operation, "unknown", error=f"part: {type(error).__name__}: {error}")
            return
        operation = self.history.begin(self.name, key, "write", name_of(b"".join(parts)))
        request = upload | {"MultipartUpload": {"Parts": done}}
        self._attempt(operation, lambda: self.s3.complete_multipart_upload(**request))


def read_all(load, s3, name):
    """Reads every key by one gateway, as one more client; returns the keys that are listed there."""
    reader = Client(load, name, name)
    reader.s3 = s3
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reader.read, sorted(load.history.sent)))
    return set(list_keys(reader.s3, load.bucket))


def verify(load, gateways):
    """The load is over: everything acknowledged is there, by every gateway (a client for each), and
    all that was seen can have been seen."""
    history = load.history
    before = len(history.operations)
    listed = [read_all(load, s3, f"last{n}") for n, s3 in enumerate(gateways)]
    last = history.operations[before:]
    failed = [f"{o.key}: {o.error}" for o in last if o.error]
    assert not failed, f"{len(failed)} of {len(last)} last reads failed: {failed[:5]}"
    assert not history.wrong, history.wrong[:5]
    broken = {}
    for key, operations in history.by_key().items():
        if said := check(operations):
            broken[key] = said
    assert not broken, f"{len(broken)} keys have no right history:\n" + "\n".join(
        f"{key}: {said}" for key, said in list(broken.items())[:3]
    )
    unsure = {o.key for o in history.operations if o.kind != "read" and (o.error or o.retries)}
    there = {o.key for o in last if o.value is not ABSENT} - unsure
    for number, keys in enumerate(listed):
        wrong = keys - unsure ^ there
        assert not wrong, f"gateway {number} lists other keys than there are: {wrong}"


@contextlib.contextmanager
def drill(cluster, seed, name, errors_max=0, before=60, after=60, clients=6):
    """A load on a bucket of its own around a fault; at the end everything that it saw is checked,
    and its figures are printed. `errors_max=None` allows any number of errors at the clients."""
    # The timeouts that boto3 has of itself.
    s3 = cluster.s3(connect_timeout=60, read_timeout=60)
    s3.create_bucket(Bucket=name)
    with Load(s3, name, f"{seed}/{name}", clients) as load:
        load.wait_for(before)
        yield load
        load.wait_for(after)
    cluster.restore()
    FIGURES.append(figures(name, load.history))
    verify(load, [cluster.s3(gateway.endpoint) for gateway in cluster.gateways])
    errors = load.history.errors()
    if errors_max is not None:
        assert len(errors) <= errors_max, f"{len(errors)} errors at clients: {errors[:5]}"


def figures(name, history):
    """One line about a load."""
    retries = sum(o.retries for o in history.operations)
    wait, gap = history.stalls()
    return (
        f"{name}: {len(history.operations)} operations, {len(history.errors())} errors, "
        f"{retries} retries by SDKs; longest wait of a client {wait:.2f} s, "
        f"longest time without an answer to anybody {gap:.2f} s"
    )
