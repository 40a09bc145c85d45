"""The goodput of a policy: the largest rate with 99 % of all requests answered within their SLO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.simulation.bounds import bisect_rate
from benchmarks.simulation.tally import Misses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.simulation.load import Load
    from benchmarks.simulation.policies import Make

__all__ = ["WARM_UP", "best_goodput", "goodput", "meets"]

TARGET: Final = 0.99
WARM_UP: Final = 0.05
"""The first requests that are not counted."""
HEADROOM: Final = 1.02
"""How far beyond the bound is searched."""


def meets(make: Make, load: Load, rate: float, target: float = TARGET) -> bool:
    """Return whether the share ``target`` of the requests is in time; every refusal is a miss."""
    counted = load.count - int(WARM_UP * load.count)
    misses = Misses(load.moment(WARM_UP, rate), int((1 - target) * counted + 1e-9))
    load.simulate(make(load), rate, misses)
    return not misses.enough


def goodput(make: Make, load: Load, bound: float, steps: int, target: float = TARGET) -> float:
    """Return the goodput in requests per second.

    The search halves 0 … HEADROOM · ``bound`` so often.
    """
    return bisect_rate(
        lambda rate: rate > 0 and meets(make, load, rate, target), HEADROOM * bound, steps
    )


def best_goodput(makes: Sequence[Make], load: Load, bound: float, steps: int) -> float:
    """Return the goodput of the best of several policies, on the rates that ``goodput`` tries.

    Each is first tried one step above the best so far: where it fails there, as most do, and fails
    early, its own goodput is not looked for.
    """
    step = HEADROOM * bound / 2**steps
    best = 0.0
    for make in makes:
        if meets(make, load, best + step):
            best = max(best, goodput(make, load, bound, steps))
    return best
