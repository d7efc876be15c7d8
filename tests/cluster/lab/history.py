"""What every client did and saw: the history that is checked when the load is over.

A value is named by the SHA-256 of its bytes; every write has bytes of its own, so that a read tells
which write it saw. An operation that ended with an error may have happened, and may even happen yet.
"""

import hashlib
import threading
import time
from dataclasses import dataclass, field

ABSENT = None


def name_of(body):
    """The name of a value; None is the absence of one."""
    return ABSENT if body is None else hashlib.sha256(body).hexdigest()[:20]


@dataclass
class Operation:
    """One request of a client to one key."""

    client: str
    key: str
    # `read`; `write` (also of an absence: a deletion); `swap`: a write on a condition.
    kind: str
    value: str | None
    # What a swap expected to find.
    expected: str | None = None
    invoked: float = 0.0
    # None: nobody knows when, or whether, it took place.
    returned: float | None = None
    # `ok`; `refused`: a swap that did not find what it expected; `unknown`.
    outcome: str = "unknown"
    error: str | None = None
    retries: int = 0

    def __str__(self):
        wanted = f" expecting {self.expected}" if self.kind == "swap" else ""
        return (
            f"[{self.invoked:.3f}, {self.returned or 0:.3f}] {self.client} {self.kind} {self.value}"
            f"{wanted}: {self.outcome} retries {self.retries} {self.error or ''}"
        )

    @property
    def seconds(self):
        """How long the client waited."""
        return (self.returned or self.invoked) - self.invoked


@dataclass
class History:
    """The operations of all clients, in the order of their ends."""

    operations: list[Operation] = field(default_factory=list)
    # What was ever sent to a key: whatever else is read is wrong.
    sent: dict[str, set] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, client, key, kind, value=None, expected=None):
        """A request is about to be sent."""
        operation = Operation(client, key, kind, value, expected)
        with self.lock:
            self.sent.setdefault(key, {ABSENT})
            if kind != "read":
                self.sent[key].add(value)
        operation.invoked = time.monotonic()
        return operation

    def end(self, operation, outcome, found=ABSENT, error=None, retries=0):
        """The answer came, or an error in its stead."""
        now = time.monotonic()
        operation.outcome, operation.error, operation.retries = outcome, error, retries
        operation.returned = now
        if operation.kind == "read":
            operation.value = found
        with self.lock:
            self.operations.append(operation)
            if operation.kind == "read" and outcome == "ok" and found not in self.sent[operation.key]:
                self.wrong.append(f"{operation.client} read bytes of {operation.key} that nobody wrote")

    def errors(self):
        """The operations that ended with an error."""
        return [operation for operation in self.operations if operation.error]

    def acknowledged(self):
        """How many operations succeeded."""
        with self.lock:
            return sum(operation.outcome == "ok" for operation in self.operations)

    def by_key(self):
        """The operations on each key."""
        keys = {}
        for operation in self.operations:
            keys.setdefault(operation.key, []).append(operation)
        return keys

    def stalls(self):
        """The longest wait of one client for one answer, and the longest time without any answer."""
        done = sorted(o.returned for o in self.operations if o.outcome != "unknown")
        waits = [o.seconds for o in self.operations]
        gaps = [later - earlier for earlier, later in zip(done, done[1:])]
        return max(waits, default=0.0), max(gaps, default=0.0)
