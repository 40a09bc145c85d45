"""Send times and callers of a run, drawn before it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from jitney.loadgen.arrivals import CV, Process, replayed_times, unit_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jitney.loadgen.trace import Call

__all__ = ["Arrivals", "Schedule", "draw"]

SPARE = 1.2
"""How many more moments are drawn than the mean rate makes likely."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How requests come: a process, or the calls of a trace, which are scaled to the rate.

    ``sojourn`` is how many seconds a state of MMPP lasts on average.
    """

    process: Process = Process.POISSON
    cv: float = CV
    sojourn: float = 1.0
    trace: Sequence[Call] = ()

    @property
    def name(self) -> str:
        """What it is called in results."""
        if self.trace:
            return f"a trace of {len(self.trace) + 1} calls"
        if self.process is Process.GAMMA:
            return f"Gamma, CV {self.cv:g}"
        return "Poisson" if self.process is Process.POISSON else "MMPP, rates 1:4"

    def unit_times(self, count: int, seed: int, rate: float) -> list[float]:
        """Return moments of mean rate 1."""
        if self.trace:
            return replayed_times(self.trace, count, seed)
        sojourn = self.sojourn * rate
        return unit_times(self.process, count, seed, cv=self.cv, sojourn=sojourn)


class Schedule(NamedTuple):
    """Moments in seconds from the start, ascending, and the kind of the call at each."""

    at: list[float]
    kinds: list[int]


def draw(
    arrivals: Arrivals, rate: float, seconds: float, seed: int, weights: Sequence[float]
) -> Schedule:
    """Return the calls of ``seconds`` at a mean ``rate``; kinds are drawn by their weights.

    Two rates differ by a factor in time and nothing else (common random numbers), except for MMPP,
    whose states last as long at any rate.
    """
    count = math.ceil(SPARE * rate * seconds) + 10
    while (times := arrivals.unit_times(count, seed, rate))[-1] < rate * seconds:
        count *= 2
    at = [time / rate for time in itertools.takewhile(lambda t: t < rate * seconds, times)]
    kinds = Random(100 + seed).choices(range(len(weights)), weights, k=len(at))  # noqa: S311
    return Schedule(at, kinds)
