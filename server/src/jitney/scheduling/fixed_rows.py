"""What a queue would send whose entries each have their own row of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jitney.scheduling.batch import NO_DEADLINE
from jitney.scheduling.placement import gap_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jitney.scheduling.batch import BatchKey, Entry
    from jitney.scheduling.latency import LatencyModel

__all__ = ["RowPlan", "fill_up", "plan_rows"]


class RowPlan(NamedTuple):
    """Entries for a batch of ``rows`` rows, which must end by ``due``.

    ``cut`` tells that others do not fit in time, ``full`` that nobody else would find a row, or
    room for its bytes.
    """

    entries: list[Entry]
    rows: int
    due: float
    cut: bool
    full: bool


def plan_rows(
    entries: Iterable[Entry], key: BatchKey, latency: LatencyModel, start: float
) -> RowPlan:
    """Return the batch that takes entries in order, each that leaves those before it in time.

    A batch costs what its highest row does, however many rows below are empty, so how many rows
    fit is no question of adding up: each entry is asked whether its own row does. There are no more
    of them than a batch has rows, as each sequence has one request under way; so all who can be in
    time fit into one batch, and nobody is ever given up for others. (The price of device time would
    have to be asked otherwise; a plan that counts every batch as one of ``max_rows`` would be sound
    too, and would refuse half of what is possible while few sequences run.)

    Those that would be late on this device whatever it does are left alone.

    :param start: when the batch would start, the host's own delays included.
    """
    return _take(RowPlan([], 0, NO_DEADLINE, cut=False, full=False), entries, key, latency, start)


def fill_up(
    made: RowPlan,
    entries: Iterable[Entry],
    key: BatchKey,
    latency: LatencyModel,
    start: float,
    most: int,
) -> list[Entry]:
    """Return entries without deadline whose rows are below ``most``, for a batch that is planned.

    None of them makes it too late for those that it has.
    """
    riders = (entry for entry in entries if entry.span <= most)
    both = _take(made, riders, key, latency, start)
    return both.entries[len(made.entries) :]


def _take(
    made: RowPlan,
    entries: Iterable[Entry],
    key: BatchKey,
    latency: LatencyModel,
    start: float,
) -> RowPlan:
    taken, rows, due, cut, full = made
    taken = list(taken)
    used = {entry.row for entry in taken}
    nbytes = sum(entry.nbytes for entry in taken)
    gap = sum(gap_sizes(key))
    for entry in entries:
        if entry.row in used:
            continue  # held back: a row has one state, and two requests would both move it
        span = max(rows, entry.span)
        # A position is a turn where there is no deadline.
        by = min(due, entry.position) if entry.is_timed else due
        if start + latency.planned(span) > by:
            cut = cut or start + latency.planned(entry.span) <= entry.position
            continue
        size = nbytes + entry.nbytes + (span - len(taken) - 1) * gap
        if taken and size > key.max_bytes:
            full = True
            continue
        taken.append(entry)
        used.add(entry.row)
        rows, due = span, by
        nbytes += entry.nbytes
    full = full or len(taken) >= key.max_rows
    return RowPlan(taken, rows, due, cut, full)
