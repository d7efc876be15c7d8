"""The checker itself: good histories pass, and every kind of bad one is caught."""

import random

import pytest

from lab.history import History, Operation, name_of
from lab.register import check


def op(kind, value, begin, end, expected=None, outcome="ok", retries=0):
    """An operation of a hand-made history."""
    return Operation(
        f"c{begin}", "k", kind, value, expected, float(begin), float(end), outcome, retries=retries
    )


GOOD = {
    "nothing": [],
    "a write and a read": [op("write", "a", 0, 1), op("read", "a", 2, 3)],
    "absent before the first write": [op("read", None, 0, 1), op("write", "a", 2, 3)],
    "a read beside a write sees either": [
        op("write", "a", 0, 1), op("write", "b", 2, 9), op("read", "b", 3, 4), op("read", "b", 5, 6),
    ],
    "the old value while the write is under way": [
        op("write", "a", 0, 1), op("write", "b", 2, 9), op("read", "a", 3, 4), op("read", "b", 5, 6),
    ],
    "writes side by side in either order": [
        op("write", "a", 0, 5), op("write", "b", 1, 4), op("read", "b", 6, 7), op("read", "b", 8, 9),
    ],
    "an unknown write that took place late": [
        op("write", "a", 0, 1), op("write", "b", 2, 3, outcome="unknown"),
        op("read", "a", 4, 5), op("read", "b", 6, 7),
    ],
    "an unknown write that never took place": [
        op("write", "a", 0, 1), op("write", "b", 2, 3, outcome="unknown"), op("read", "a", 4, 5),
    ],
    "an unknown write after an acknowledged one": [
        op("write", "a", 0, 1, outcome="unknown"), op("write", "b", 2, 3),
        op("read", "b", 4, 5), op("read", "a", 6, 7),
    ],
    "the first attempt of a retried write comes late": [
        op("write", "a", 0, 1, retries=1), op("write", "b", 2, 3),
        op("read", "b", 4, 5), op("read", "a", 6, 7),
    ],
    "a chain of swaps": [
        op("swap", "a", 0, 1, None), op("swap", "b", 2, 3, "a"), op("swap", "c", 4, 5, "b"),
    ],
    "one of two swaps side by side is refused": [
        op("write", "a", 0, 1), op("swap", "b", 2, 9, "a"),
        op("swap", "c", 3, 8, "a", outcome="refused"), op("read", "b", 10, 11),
    ],
    "a retried swap is refused by its own first attempt": [
        op("write", "a", 0, 1), op("swap", "b", 2, 3, "a", outcome="refused", retries=1),
        op("read", "b", 4, 5),
    ],
    "a swap is refused because of an unknown write that nobody saw": [
        op("write", "a", 0, 1), op("write", "b", 2, 3, outcome="unknown"),
        op("swap", "c", 4, 5, "a", outcome="refused"), op("write", "d", 6, 7),
    ],
    "a deletion": [op("write", "a", 0, 1), op("write", None, 2, 3), op("read", None, 4, 5)],
}

BAD = {
    "a lost write": [op("write", "a", 0, 1), op("read", None, 2, 3)],
    "an old value after a new one": [
        op("write", "a", 0, 1), op("write", "b", 2, 3), op("read", "a", 4, 5),
    ],
    "a new value and then the old": [
        op("write", "a", 0, 1), op("write", "b", 2, 9), op("read", "b", 3, 4), op("read", "a", 5, 6),
    ],
    "read before it was written": [op("read", "a", 0, 1), op("write", "a", 2, 3)],
    "a deletion that comes back": [
        op("write", "a", 0, 1), op("write", None, 2, 3), op("read", "a", 4, 5),
    ],
    "both of two swaps succeed": [
        op("write", "a", 0, 1), op("swap", "b", 2, 9, "a"), op("swap", "c", 3, 8, "a"),
    ],
    "both of two creations succeed": [op("swap", "a", 0, 9, None), op("swap", "b", 1, 8, None)],
    "a swap is refused though it fits": [
        op("write", "a", 0, 1), op("swap", "b", 2, 3, "a", outcome="refused"),
    ],
    "a refused swap took place": [
        op("write", "a", 0, 1), op("write", "c", 2, 3),
        op("swap", "b", 4, 5, "a", outcome="refused"), op("read", "b", 6, 7),
    ],
    "an unknown write takes place twice": [
        op("write", "a", 0, 1, outcome="unknown"), op("read", "a", 2, 3),
        op("write", "b", 4, 5), op("read", "b", 6, 7), op("read", "a", 8, 9),
    ],
    "a write without a retry comes back": [
        op("write", "a", 0, 1), op("write", "b", 2, 3), op("read", "b", 4, 5), op("read", "a", 6, 7),
    ],
    "readers disagree about the order": [
        op("write", "a", 0, 20), op("write", "b", 1, 20), op("read", "a", 2, 3),
        op("read", "b", 4, 5), op("read", "a", 6, 7),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name):
    assert check(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_caught(name):
    said = check(BAD[name])
    assert said and "no order" in said


def random_history(rng, length):
    """A history of a real register: every operation takes place at a moment of its own between its
    begin and its end; some get no answer, and of those some never take place."""
    state, operations, ends = None, [], [0.0] * 6
    moments = sorted(rng.uniform(0, length) for _ in range(length))
    for number, moment in enumerate(moments):
        client = number % len(ends)
        begin = rng.uniform(max(ends[client], moment - 4), moment) if ends[client] < moment else None
        if begin is None:
            continue
        end = moment + rng.uniform(0, 4)
        ends[client] = end
        kind = rng.choice(["read", "read", "write", "swap", "swap"])
        value, expected, outcome = f"v{number}", None, "ok"
        happens, answered = True, rng.random() > 0.03
        if not answered:
            happens, outcome = rng.random() < 0.5, "unknown"
        if kind == "read":
            value = state
        if kind == "swap":
            expected = state if rng.random() < 0.7 else f"v{rng.randrange(length)}"
            if expected != state:
                happens, outcome = False, outcome if outcome == "unknown" else "refused"
        if happens and kind != "read":
            state = value
        operations.append(Operation(f"c{client}", "k", kind, value, expected, begin, end, outcome))
    return operations


@pytest.mark.parametrize("seed", range(30))
def test_histories_of_a_real_register_pass_and_spoilt_ones_do_not(seed):
    rng = random.Random(seed)
    operations = random_history(rng, 300)
    assert check(operations) is None
    reads = [o for o in operations if o.kind == "read" and o.outcome == "ok" and o.invoked > 100]
    spoilt = rng.choice(reads)
    # What was true long before, and was followed by other writes since.
    old = [o for o in operations if o.kind == "read" and o.returned < spoilt.invoked - 50 and o.value]
    spoilt.value = rng.choice(old).value
    assert check(operations) is not None


def test_bytes_that_nobody_wrote_are_noticed():
    history = History()
    history.end(history.begin("one", "k", "write", name_of(b"a")), "ok")
    history.end(history.begin("two", "k", "read"), "ok", found=name_of(b"a"))
    assert not history.wrong
    history.end(history.begin("two", "k", "read"), "ok", found=name_of(b"b"))
    assert len(history.wrong) == 1 and "nobody wrote" in history.wrong[0]


def test_stalls_are_measured():
    history = History()
    for number, (begin, end) in enumerate([(0, 1), (1, 5), (6, 7)]):
        operation = history.begin("one", f"k{number}", "write", "v")
        history.end(operation, "ok")
        operation.invoked, operation.returned = begin, end
    assert history.stalls() == (4, 4)
