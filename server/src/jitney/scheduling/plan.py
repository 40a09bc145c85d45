"""How many of the most urgent entries to give up so that the batch behind them is worth more."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.scheduling.batch import Entry
    from jitney.scheduling.latency import LatencyModel

__all__ = ["WEIGHTS", "Plan", "Terms", "fit", "plan", "trim"]

WEIGHTS: Final = (4.0, 1.0, 0.5)
"""What a row of each class of priority is worth."""

NO_VALUE: Final = float("-inf")


class Terms(NamedTuple):
    """What a plan is made under.

    ``start``: when the batch would start, the host's own delays included. ``price``: rows that a
    device second is worth. ``keep``: what a row that goes on waiting is still worth, from 0 (given
    up without regret, when there is far too much work) to 0.4; more than 1 protects. ``reach``:
    how many entries may be given up.
    """

    start: float
    price: float
    keep: float
    max_rows: int
    max_bytes: int
    reach: int


class Plan(NamedTuple):
    """Entries ``first`` … ``end`` - 1 make the batch, those from ``skip`` to it are given up.

    Those before ``skip`` would be late on this device, whatever it does, and are left alone: a
    faster one may take them, or they expire. ``rows`` is 0 when nothing fits. ``cut`` tells that
    something behind does not fit any more, and ``full`` that the batch has all that a batch may
    have: it is not a deadline that limits it.
    """

    skip: int
    first: int
    end: int
    rows: int
    value: float
    cut: bool
    full: bool


def plan(  # noqa: C901  # one loop; its parts share six variables and it runs for every batch
    entries: Sequence[Entry], latency: LatencyModel, terms: Terms, skip: int = 0
) -> Plan:
    """Choose the batch that is worth most.

    A batch that starts now must end before the earliest deadline in it. The most urgent entry so
    bounds the batch; the less time it has left, the smaller the batch and the dearer each row of
    it. Giving it up lets the next one set the bound. For each number of entries given up the
    batch is the longest that still ends in time, and its value what its rows are worth, less the
    price of the device's time, less what was given up. Where no deadline bounds the batch, nothing
    is given up.

    Two pointers: as deadlines ascend, the end of the batch never moves back; O(batch + reach).

    :param entries: ascending by ``position``, the latest end.
    :param skip: how many of them nothing can be done about.
    """
    start, price, keep, max_rows, max_bytes, reach = terms
    rows_within, planned = latency.rows_within, latency.planned
    count = len(entries)
    best = NO_VALUE
    best_first = best_end = best_rows = 0
    best_full = False
    end = first = skip
    rows = nbytes = 0
    weight = lost = 0.0
    while first < count:
        head = entries[first]
        room = rows_within(head.position - start)
        timeless = room >= max_rows
        if timeless:
            room = max_rows
        full = False
        while end < count:
            entry = entries[end]
            if rows + entry.rows > room:
                full = timeless
                break
            if nbytes + entry.nbytes > max_bytes:
                full = True
                break
            rows += entry.rows
            nbytes += entry.nbytes
            weight += entry.rows * WEIGHTS[entry.priority]
            end += 1
        if end == first and best_rows == 0:
            # It has more rows than this device can do in its time: another one may.
            skip = first = end = first + 1
            continue
        full = full or rows >= max_rows or nbytes >= max_bytes
        if rows:
            value = weight - price * planned(rows) - lost
            if value > best:
                best, best_first, best_end, best_rows, best_full = value, first, end, rows, full
        if end == count or full or reach == 0:
            break
        worth = head.rows * WEIGHTS[head.priority]
        lost += keep * worth
        if end > first:
            reach -= 1
            rows -= head.rows
            nbytes -= head.nbytes
            weight -= worth
        else:
            end = first + 1
        first += 1
    if not best_rows:
        return Plan(skip, skip, skip, 0, NO_VALUE, cut=True, full=False)
    return Plan(skip, best_first, best_end, best_rows, best, best_end < count, best_full)


def fit(
    entries: Sequence[Entry], max_rows: int, max_bytes: int, *, strict: bool = False
) -> tuple[list[Entry], int, bool]:
    """Return the longest prefix within the limits, its rows, and whether it is full.

    :param strict: return nothing if not even the first one fits; it is taken otherwise.
    """
    taken: list[Entry] = []
    rows = nbytes = 0
    for entry in entries:
        within = rows + entry.rows <= max_rows and nbytes + entry.nbytes <= max_bytes
        if not within and (taken or strict):
            return taken, rows, True
        taken.append(entry)
        rows += entry.rows
        nbytes += entry.nbytes
        if rows >= max_rows or nbytes >= max_bytes:
            return taken, rows, True
    return taken, rows, False


def trim(made: Plan, entries: Sequence[Entry], latency: LatencyModel, price: float) -> Plan:
    """Cut a batch back to the bucket below, where padding up costs more than waiting.

    The priced form of TensorFlow's rule of cost per request.
    """
    rows = made.rows
    if not latency.pads or latency.padded(rows) == rows:
        return made
    sizes = latency.sizes
    at = bisect_right(sizes, rows) - 1
    if at < 0:
        return made
    lower = sizes[at]
    worth = lower - price * latency.planned(lower)
    if worth <= rows - price * latency.planned(rows):
        return made
    end = made.end
    while rows > lower and end > made.first + 1:
        end -= 1
        rows -= entries[end].rows
    if rows > lower:
        return made
    return made._replace(end=end, rows=rows, full=False)
