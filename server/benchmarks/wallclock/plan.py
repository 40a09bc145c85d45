"""When calls are sent, drawn before the first one is."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.simulation.arrivals import unit_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.arrivals import Arrivals

__all__ = ["Phase", "Plan", "phases", "steady"]


class Phase(NamedTuple):
    """A time of Poisson arrivals: seconds, and calls per second of each group.

    A group is a sequence of kinds, each as likely as the others.
    """

    seconds: float
    rates: Sequence[float]


@dataclass(slots=True)
class Plan:
    """Moments in seconds from the start, ascending, and the kind of the call at each."""

    at: list[float] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)


def steady(process: Arrivals, count: int, rate: float, kinds: int, seed: int) -> Plan:
    """Return ``count`` calls of a process at a mean rate, of any of so many kinds.

    The moments of two rates differ by a factor only (common random numbers).
    """
    times = unit_times(process, count, seed)
    random = Random(100 + seed)  # noqa: S311  # a benchmark
    return Plan([time / rate for time in times], [random.randrange(kinds) for _ in times])


def phases(parts: Sequence[Phase], groups: Sequence[Sequence[int]], seed: int) -> Plan:
    """Return Poisson arrivals phase by phase; ``groups`` lists the kinds of each group.

    A group's calls are the same whatever the others do.
    """
    calls: list[tuple[float, int]] = []
    begin = 0.0
    for part in parts:
        for number, (rate, group) in enumerate(zip(part.rates, groups, strict=True)):
            random = Random(f"{seed} {number} {begin}")  # noqa: S311  # a benchmark
            at = begin + random.expovariate(rate) if rate else begin + part.seconds
            while at < begin + part.seconds:
                calls.append((at, random.choice(group)))
                at += random.expovariate(rate)
        begin += part.seconds
    calls.sort()
    return Plan([at for at, _ in calls], [kind for _, kind in calls])
