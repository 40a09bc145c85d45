"""The exact offline optimum for one device and one model: the best of all schedules there are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.line import Line

__all__ = ["feasible", "fewest_misses"]


def feasible(times: Sequence[float], line: Line, slo: float, misses: int) -> bool:
    """Return whether some schedule answers all but ``misses`` requests in time.

    :param times: arrivals in seconds, ascending; requests of one row.
    """
    return fewest_misses(times, line, slo, misses) <= misses


def fewest_misses(times: Sequence[float], line: Line, slo: float, most: int) -> int:
    """Return the fewest requests that any schedule must miss, ``most`` + 1 if it is more.

    Dynamic programming over the requests: ``free[i, q]`` is the earliest moment at which the device
    is free when the first ``i`` are decided and ``q`` of them missed. Batches of neighbours are
    enough, in order of arrival, with the misses between them: an exchange of members never makes a
    batch start later or its first deadline earlier. O(n · most · largest batch), vectorised over
    the misses and the sizes.
    """
    count = len(times)
    largest = line.rows_within(slo)
    arrivals = np.asarray(times, dtype=float)
    seconds = line.alpha * np.arange(1, largest + 1) + line.beta
    free = np.full((count + 1, most + 1), math.inf)
    free[0, 0] = -math.inf
    for i in range(count):
        here = free[i]
        np.minimum(free[i + 1, 1:], here[:-1], out=free[i + 1, 1:])
        latest = times[i] + slo
        members = arrivals[i : i + largest]
        fitting = int(np.searchsorted(members + seconds[: len(members)], latest, side="right"))
        reached = np.isfinite(here) | (here == -math.inf)
        if not fitting or not reached.any():
            continue
        starts = np.maximum(here[None, reached], members[:fitting, None])
        ends = starts + seconds[:fitting, None]
        ends[ends > latest] = math.inf
        window = free[i + 1 : i + 1 + fitting, reached]
        free[i + 1 : i + 1 + fitting, reached] = np.minimum(window, ends)
    reachable = np.flatnonzero(free[count] < math.inf)
    return int(reachable[0]) if len(reachable) else most + 1
