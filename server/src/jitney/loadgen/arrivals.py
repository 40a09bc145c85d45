"""When requests come: moments of mean rate 1, to be scaled to any rate by dividing.

One draw of a seed serves all rates (common random numbers), so that two rates, or two policies,
differ by nothing but themselves.
"""

from __future__ import annotations

import enum
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.loadgen.trace import Call

__all__ = ["Process", "replayed_times", "unit_times"]

CV: Final = 4.0
"""Coefficient of variation of the gaps of GAMMA; Poisson arrivals have 1."""
MMPP_RATES: Final = (0.4, 1.6)
"""Of the two states, low first; as long in each on average, their mean is 1."""
MMPP_SOJOURN: Final = 1000.0
"""Mean gaps that a state lasts on average, unless told otherwise."""


class Process(enum.StrEnum):
    """The arrival processes that are drawn."""

    POISSON = "poisson"
    GAMMA = "gamma"
    """Independent gaps of a Gamma distribution: bursts, at a CV above 1."""
    MMPP = "mmpp"
    """Poisson arrivals whose rate switches between 0.4 and 1.6 of the mean."""


def unit_times(
    process: Process,
    count: int,
    seed: int,
    *,
    cv: float = CV,
    sojourn: float = MMPP_SOJOURN,
) -> list[float]:
    """Return ``count`` moments of mean rate 1, ascending.

    :param cv: of GAMMA: the coefficient of variation of its gaps, above 0.
    :param sojourn: of MMPP: how many mean gaps a state lasts on average.
    """
    random = Random(seed)  # noqa: S311  # load, no secret
    if process is Process.MMPP:
        return _mmpp(random, count, sojourn)
    squared = cv**2 if process is Process.GAMMA else 1.0
    return list(accumulate(random.gammavariate(1 / squared, squared) for _ in range(count)))


def replayed_times(calls: Sequence[Call], count: int, seed: int) -> list[float]:
    """Return ``count`` moments of mean rate 1 of a trace that is repeated as often as it takes.

    The seed decides where it begins. A call of several rows counts as so many at once.
    """
    mean = sum(call.gap for call in calls) / sum(call.rows for call in calls)
    times: list[float] = []
    now, index = 0.0, Random(seed).randrange(len(calls))  # noqa: S311  # load, no secret
    while len(times) < count:
        call = calls[index % len(calls)]
        now, index = now + call.gap / mean, index + 1
        times += [now] * min(call.rows, count - len(times))
    return times


def _mmpp(random: Random, count: int, sojourn: float) -> list[float]:
    """Return moments of a Markov-modulated Poisson process of two states."""
    times: list[float] = []
    now, state = 0.0, 0
    switch = random.expovariate(1 / sojourn)
    while len(times) < count:
        arrival = now + random.expovariate(MMPP_RATES[state])
        if arrival > switch:
            # No memory: what was drawn across the switch is drawn again at the new rate.
            now, state = switch, 1 - state
            switch = now + random.expovariate(1 / sojourn)
            continue
        now = arrival
        times.append(now)
    return times
