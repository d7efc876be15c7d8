"""Whether the history of a key is that of a register: the search of Wing and Gong, with Lowe's memory.

In: the operations on one key. Out: None, or why there is no order of them in which each took place
between its begin and its end, and each saw what it says it saw. An operation of unknown outcome took
place at any time after its begin, or never. Operations that change nothing are placed as soon as they
fit, which loses no order, and states that were tried are not tried again.
"""

import math
from dataclasses import dataclass

from .history import ABSENT

# A search that takes more steps than this is given up; a history of this suite takes thousands.
STEPS_MAX = 5_000_000


class Undecided(Exception):
    """The search took too long."""


@dataclass(frozen=True)
class Step:
    """An operation, as the search sees it."""

    begin: float
    end: float
    kind: str
    value: str | None
    expected: str | None
    certain: bool
    told: object

    def after(self, state):
        """The state that it leaves behind; raises where it can't take place in this one."""
        if self.kind == "read":
            return state if self.value == state else IMPOSSIBLE
        if self.kind == "refused":
            return state if self.expected != state else IMPOSSIBLE
        if self.kind == "swap":
            return self.value if self.expected == state else IMPOSSIBLE
        return self.value


IMPOSSIBLE = object()


def steps_of(operations):
    """What the operations say for certain, and what they leave open."""
    certain, open_ = [], []
    for o in operations:
        if o.kind == "read":
            if o.outcome == "ok":
                certain.append(Step(o.invoked, o.returned, "read", o.value, None, True, o))
            continue
        if o.outcome == "ok":
            certain.append(Step(o.invoked, o.returned, o.kind, o.value, o.expected, True, o))
        elif o.outcome == "refused" and not o.retries:
            certain.append(Step(o.invoked, o.returned, "refused", None, o.expected, True, o))
        # An attempt that got no answer may take place as well: before its own retry, or long after.
        if o.outcome == "unknown" or o.retries:
            open_.append(Step(o.invoked, math.inf, o.kind, o.value, o.expected, False, o))
    return certain, open_


def check(operations, initial=ABSENT):
    """None if there is such an order; else a text that shows where the search got stuck."""
    certain, open_ = steps_of(operations)
    seen = {step.value for step in certain if step.kind == "read"}
    seen |= {step.expected for step in certain if step.kind == "swap"}
    needed = [step for step in open_ if step.value in seen]
    # The attempts before a retry, and what nobody saw, most likely never took place: without them
    # the search is short. An order without them is an order all the same.
    likely = [step for step in needed if step.told.outcome != "ok"]
    stuck = None
    for extra in [likely, needed, open_]:
        stuck = search(sorted(certain + extra, key=lambda step: step.begin), initial)
        if stuck is None:
            return None
    return stuck


def search(steps, initial):
    """Looks for an order of the steps, which are sorted by their begin."""
    everything = sum(1 << n for n, step in enumerate(steps) if step.certain)
    placed, state = settle(steps, 0, initial)
    todo, tried, best = [(placed, state)], {(placed, state)}, (0, placed, state)
    while todo:
        placed, state = todo.pop()
        if placed & everything == everything:
            return None
        best = max(best, ((placed & everything).bit_count(), placed, state), key=lambda entry: entry[0])
        for number in candidates(steps, placed):
            following = steps[number].after(state)
            if following is IMPOSSIBLE:
                continue
            entry = settle(steps, placed | 1 << number, following)
            if entry not in tried:
                tried.add(entry)
                todo.append(entry)
                if len(tried) > STEPS_MAX:
                    raise Undecided(f"{len(steps)} operations")
    return explain(steps, *best)


def candidates(steps, placed):
    """The steps that may come next: no other that is to be placed ended before they began."""
    found, earliest_end = [], math.inf
    first = (~placed & (placed + 1)).bit_length() - 1
    for number in range(first, len(steps)):
        step = steps[number]
        if step.begin > earliest_end:
            break
        if not placed >> number & 1:
            found.append(number)
            earliest_end = min(earliest_end, step.end)
    return found


def settle(steps, placed, state):
    """Places every next step that changes nothing and fits."""
    going = True
    while going:
        going = False
        for number in candidates(steps, placed):
            if steps[number].kind in ("read", "refused") and steps[number].after(state) is state:
                placed |= 1 << number
                going = True
    return placed, state


def explain(steps, count, placed, state):
    """Says how far the best order got, what did not fit after it, and everything before and after."""
    lines = [f"no order of {len(steps)} operations; after the best {count} of them it is {state}, but:"]
    stuck = candidates(steps, placed)
    lines += [f"  {steps[number].told}" for number in stuck[:12]]
    lines.append("among:")
    around = steps[max(0, stuck[0] - 12) : stuck[-1] + 8] if stuck else steps
    lines += [f"  {step.told}" for step in around]
    return "\n".join(lines)
