"""The highest rate with 99 % in time: doubling, then bisection."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from jitney.loadgen.proof import calls_needed

if TYPE_CHECKING:
    from jitney.loadgen.point import Point

__all__ = ["Found", "Prober", "Search", "search", "search_all"]

PRECISION: Final = 0.02
"""How far apart the rates may be between which the search ends, as a share."""
LEAST_RATE: Final = 0.05
"""Calls per second below which there is nothing to be found."""
SECOND_TRIES: Final = 3
"""How often a search goes on where what had failed works when it is tried again."""
MISSES: Final = 3
"""A step has at least the calls that prove 99 % in spite of so many misses."""


class Prober(Protocol):
    """Who makes the runs."""

    def at_rate(self, rate: float, seed: int, seconds: float = 0.0) -> Point:
        """Send calls at a rate, for so long at least."""


@dataclass(slots=True)
class Search:
    """One search. ``rate`` is the highest with 99 % in time, 0 if there is none.

    ``limit`` says why it did not go higher, where that is not the server's doing.
    """

    seed: int
    rate: float = 0.0
    limit: str = ""
    points: list[Point] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Found:
    """Several searches, each with its own arrivals; the goodput is their median."""

    searches: list[Search]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return statistics.median(one.rate for one in self.searches)

    @property
    def limit(self) -> str:
        """Why a search did not go higher, where that is not the server's doing."""
        return next((one.limit for one in self.searches if one.limit), "")

    def to_json(self) -> dict[str, Any]:
        """Return the rates."""
        return {
            "rate": round(self.rate, 2),
            "rates": [round(one.rate, 2) for one in self.searches],
            "limit": self.limit,
        }


def search_all(bench: Prober, start: float, seeds: int) -> Found:
    """Search with several seeds; those after the first begin where that one ended."""
    searches: list[Search] = []
    for seed in range(1, seeds + 1):
        around = next((one.rate for one in searches if one.rate), 0.0)
        searches.append(search(bench, 0.9 * around or start, seed))
        if any(point.wrong for point in searches[-1].points):
            break
    return Found(searches)


def search(bench: Prober, start: float, seed: int) -> Search:
    """Return the highest rate that a run proves to have 99 % in time, to 2 %.

    A step lasts as long as it takes to prove that with a few misses, so a search at low rates
    takes minutes. Where it ends, the rate that failed is tried once more: on a machine that does
    other things as well, one bad second must not decide. It stops at the first wrong answer: a
    figure with one in it is void.

    :param start: a rate in requests per second to begin with; it need not be one that works.
    """
    done = Search(seed)
    climb = _Climb(bench, done)
    low, high = climb.bracket(start)
    low, high = climb.narrow(low, high)
    for _ in range(SECOND_TRIES):
        if not low or climb.void or not climb.met(high):
            break
        low, high = climb.narrow(*climb.rise(high))
    done.rate = 0.0 if climb.void else low
    # A generator that lagged at some higher rate is no limit where the server failed below it.
    lagged = [point for point in done.points if not point.valid and point.load > done.rate]
    failed = [p for p in done.points if p.valid and not p.met and p.load > done.rate]
    if lagged and min(p.load for p in lagged) < min((p.load for p in failed), default=math.inf):
        done.limit = "the generator could not keep up: give it a machine of its own, or --processes"
    return done


class _Climb:
    """The steps of a search, each noted in it."""

    def __init__(self, bench: Prober, done: Search) -> None:
        self._bench = bench
        self._done = done

    @property
    def void(self) -> bool:
        """Whether there was a wrong answer."""
        return any(point.wrong for point in self._done.points)

    def met(self, rate: float) -> bool:
        """Try a rate."""
        point = self._bench.at_rate(rate, self._done.seed, calls_needed(MISSES) / rate)
        self._done.points.append(point)
        return point.met

    def bracket(self, start: float) -> tuple[float, float]:
        """Return a rate that works, or 0, and one that does not, at most twice as high."""
        if self.met(start):
            return self.rise(start)
        low, high = start / 2, start
        while not self.void and low > LEAST_RATE:
            if self.met(low):
                return low, high
            low, high = low / 2, low
        return 0.0, high

    def rise(self, low: float) -> tuple[float, float]:
        """Double a rate that works until one does not."""
        while not self.void and self.met(2 * low):
            low *= 2
        return low, 2 * low

    def narrow(self, low: float, high: float) -> tuple[float, float]:
        """Bisect."""
        while low and not self.void and high - low > PRECISION * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self.met(middle) else (low, middle)
        return low, high
